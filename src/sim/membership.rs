//! Membership alone, for a very long time: whether heavy loss of pings ever removes a member that lives.
//!
//! Every node is the real [`Membership`], with the presets' times. Pings get lost; connections do not, so an echo always answers,
//! though at times late. There is no load, whose frames would count as life too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::sched::Sched;
use crate::id::{MemberId, NodeState, Time};
use crate::proto::membership::{Membership, MembershipAction, Settings};
use crate::wire::{self, Ping};

const FREQUENCY: Time = Time::from_millis(200);
const DROP_TIME: Time = Time::from_millis(1000);
const VERIFY_TIMEOUT: Time = Time::from_millis(250);
/// Share of echoes that take as long as they may and still count.
const LATE: f64 = 0.01;

/// What so many hours showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endurance {
    /// Pings that reached another node, and that did not.
    pub pings: u64,
    /// See `pings`.
    pub lost: u64,
    /// How often a member was suspected.
    pub suspects: u64,
    /// Echoes asked for.
    pub echoes: u64,
    /// Members that were removed from a view although they lived. None may be.
    pub false_removals: u64,
    /// Whether each has all others in view at the end.
    pub complete: bool,
    /// Identity of the run.
    pub hash: u64,
}

enum Event {
    Timer(usize),
    Ping(usize, Rc<Ping>),
    /// The first node reaches the second and completes a handshake.
    Dial(usize, usize),
    Echo(usize, MemberId, u64),
    Reached(usize, MemberId, u64),
}

struct Run {
    nodes: Vec<Membership>,
    planned: Vec<Time>,
    sched: Sched<Event>,
    loss: f64,
    seen: Endurance,
}

/// Runs so many nodes for that long, each ping being lost on its way to each of the others with that probability.
#[must_use]
pub fn endure(seed: u64, nodes: usize, time: Duration, loss: f64) -> Endurance {
    let mut sched = Sched::new(seed, false);
    let nodes: Vec<Membership> =
        (0..nodes).map(|n| Membership::new(settings(n), sched.rng.u64(..), Time::ZERO)).collect();
    let planned = vec![Time::MAX; nodes.len()];
    let mut run = Run { nodes, planned, sched, loss, seen: Endurance::default() };
    for node in 0..run.nodes.len() {
        run.nodes[node].set_state(NodeState::Ready, Time::ZERO);
        run.settle(node);
    }
    while let Some(event) = run.sched.next()
        && run.sched.now() < time
    {
        run.handle(event);
    }
    run.seen.complete = run.nodes.iter().all(|n| n.view().members.len() + 1 == run.nodes.len());
    run.seen.hash = run.sched.hash();
    run.seen
}

fn settings(n: usize) -> Settings {
    Settings {
        me: member(n),
        cluster: wire::cluster_tag("sim"),
        name: format!("n{n}"),
        route: String::new(),
        addr: SocketAddr::from((ip(n), 4700)),
        versions: wire::PROTOCOL,
        frequency: FREQUENCY,
        drop_time: DROP_TIME,
        verify_timeout: VERIFY_TIMEOUT,
        members_max: 64,
    }
}

fn member(n: usize) -> MemberId {
    MemberId(n as u64 + 1)
}

fn ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(n + 1).unwrap_or(u8::MAX))
}

impl Run {
    fn node_of(&self, member: MemberId) -> Option<usize> {
        usize::try_from(member.0).ok()?.checked_sub(1).filter(|n| *n < self.nodes.len())
    }

    fn latency(&mut self) -> Duration {
        self.sched.micros(20, 2000)
    }

    fn handle(&mut self, event: Event) {
        let now = self.sched.now();
        let node = match event {
            Event::Timer(node) => {
                if self.planned[node] == now {
                    self.planned[node] = Time::MAX;
                }
                self.nodes[node].handle_timeout(now);
                node
            }
            Event::Ping(node, ping) => {
                let from = self.node_of(ping.member).map_or(Ipv4Addr::UNSPECIFIED, ip);
                self.nodes[node].handle_ping(now, &ping, IpAddr::V4(from));
                node
            }
            Event::Dial(node, other) => {
                let state = self.nodes[node].state();
                let addr = SocketAddr::from((ip(node), 4700));
                self.nodes[other].handle_hello(now, member(node), &format!("n{node}"), addr, state);
                self.settle(other);
                let state = self.nodes[other].state();
                self.nodes[node].handle_admitted(now, member(other), &format!("n{other}"), state);
                node
            }
            Event::Echo(node, member, token) => {
                self.nodes[node].handle_verified(now, member, token, true);
                node
            }
            Event::Reached(node, member, token) => {
                self.nodes[node].handle_reached(now, member, token);
                node
            }
        };
        self.settle(node);
    }

    /// Carries out what a node wants, and plans its next turn.
    fn settle(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].poll_action() {
            match action {
                MembershipAction::Ping(ping) => self.multicast(node, Rc::new(ping)),
                MembershipAction::Dial { member, .. } => {
                    if let Some(other) = self.node_of(member) {
                        let delay = self.latency();
                        self.sched.after(delay, Event::Dial(node, other));
                    }
                }
                MembershipAction::Verify { member, token, .. } => {
                    self.seen.echoes += 1;
                    let delay = if self.sched.chance(LATE) {
                        VERIFY_TIMEOUT.saturating_sub(Duration::from_millis(1))
                    } else {
                        self.latency()
                    };
                    self.sched.after(delay, Event::Echo(node, member, token));
                }
                MembershipAction::AskOthers { member, token, .. } => {
                    let delay = self.latency() + self.latency();
                    self.sched.after(delay, Event::Reached(node, member, token));
                }
                MembershipAction::Suspect { .. } => self.seen.suspects += 1,
                MembershipAction::Down { .. } | MembershipAction::Left { .. } => self.seen.false_removals += 1,
                MembershipAction::Unreachable { .. }
                | MembershipAction::Up { .. }
                | MembershipAction::Alive { .. }
                | MembershipAction::Forget { .. } => {}
            }
        }
        let Some(due) = self.nodes[node].poll_timeout() else { return };
        let due = due.max(self.sched.now());
        if due < self.planned[node] {
            self.planned[node] = due;
            self.sched.at(due, Event::Timer(node));
        }
    }

    fn multicast(&mut self, from: usize, ping: Rc<Ping>) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.sched.chance(self.loss) {
                self.seen.lost += 1;
                continue;
            }
            self.seen.pings += 1;
            let delay = self.latency();
            self.sched.after(delay, Event::Ping(to, Rc::clone(&ping)));
        }
    }
}
