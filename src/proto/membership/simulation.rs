//! Small clusters in virtual time, over a network that loses pings and cuts ways.

use std::collections::BTreeSet;

use super::tests::{DROP, VERIFY, drain, id, local, ms, settings};
use super::*;

/// Nodes and the network between them; whatever travels takes a millisecond.
struct Cluster {
    now: Time,
    nodes: BTreeMap<MemberId, Node>,
    inbox: VecDeque<(Time, MemberId, Delivery)>,
    rng: fastrand::Rng,
    ping_loss: f64,
    /// Ways on which nothing arrives, from and to.
    cut: BTreeSet<(MemberId, MemberId)>,
    /// Ways on which only datagrams arrive.
    blocked: BTreeSet<(MemberId, MemberId)>,
    log: Vec<(Time, MemberId, MembershipAction)>,
}

struct Node {
    membership: Membership,
    alive: bool,
    /// Accepts connections and does nothing.
    stopped: bool,
}

enum Connected {
    Open,
    Refused,
    Silent,
}

enum Delivery {
    Ping(Ping),
    Dial(MemberId),
    Echo(MemberId, u64),
    Reached(MemberId, u64),
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            inbox: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
            ping_loss: 0.0,
            cut: BTreeSet::new(),
            blocked: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    fn start(&mut self, n: u64) {
        let membership = Membership::new(settings(n), self.rng.u64(..), self.now);
        self.nodes.insert(id(n), Node { membership, alive: true, stopped: false });
    }

    fn kill(&mut self, n: u64) {
        self.nodes.get_mut(&id(n)).unwrap().alive = false;
        let now = self.now;
        for node in self.nodes.values_mut().filter(|node| node.alive && !node.stopped) {
            node.membership.handle_lost(now, id(n));
        }
    }

    fn stop(&mut self, n: u64, stopped: bool) {
        self.nodes.get_mut(&id(n)).unwrap().stopped = stopped;
    }

    fn run_until(&mut self, end: Time) {
        while self.now < end {
            self.now += ms(1);
            for index in 0..self.nodes.len() {
                self.turn(index);
            }
            while self.inbox.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, node, what) = self.inbox.pop_front().unwrap();
                self.deliver(node, what);
            }
        }
    }

    /// Lets one node work off its deadline and its actions.
    fn turn(&mut self, index: usize) {
        let now = self.now;
        let me = *self.nodes.keys().nth(index).unwrap();
        let node = self.nodes.get_mut(&me).unwrap();
        if !node.alive || node.stopped {
            return;
        }
        if node.membership.poll_timeout().is_some_and(|due| due <= now) {
            node.membership.handle_timeout(now);
        }
        for action in drain(&mut node.membership) {
            let soon = now + ms(1);
            match &action {
                MembershipAction::Ping(ping) => {
                    for other in self.nodes.keys().copied().collect::<Vec<_>>() {
                        if self.rng.f64() >= self.ping_loss {
                            self.inbox.push_back((soon, other, Delivery::Ping(ping.clone())));
                        }
                    }
                }
                MembershipAction::Dial { member, .. } => self.inbox.push_back((soon, me, Delivery::Dial(*member))),
                MembershipAction::Verify { member, token, .. } => {
                    self.inbox.push_back((soon, me, Delivery::Echo(*member, *token)));
                }
                MembershipAction::AskOthers { member, token, others } => {
                    let reach = |other: &&MemberId| {
                        let open = |a, b| matches!(self.connect(a, b), Connected::Open);
                        open(me, **other) && open(**other, *member)
                    };
                    if others.iter().any(|other| reach(&other)) {
                        self.inbox.push_back((soon, me, Delivery::Reached(*member, *token)));
                    }
                }
                _ => {}
            }
            self.log.push((now, me, action));
        }
    }

    /// How a connection from `a` to `b` ends.
    fn connect(&self, a: MemberId, b: MemberId) -> Connected {
        let cut = [(a, b), (b, a)].iter().any(|way| self.cut.contains(way) || self.blocked.contains(way));
        match self.nodes.get(&b) {
            Some(node) if cut || (node.alive && node.stopped) => Connected::Silent,
            Some(node) if node.alive => Connected::Open,
            Some(_) | None => Connected::Refused,
        }
    }

    fn deliver(&mut self, to: MemberId, what: Delivery) {
        let now = self.now;
        if !self.nodes[&to].alive || self.nodes[&to].stopped {
            return;
        }
        match what {
            Delivery::Ping(ping) => {
                if !self.cut.contains(&(ping.member, to)) {
                    self.node(to).handle_ping(now, &ping, local());
                }
            }
            Delivery::Dial(peer) => match self.connect(to, peer) {
                Connected::Open => {
                    let settings = self.nodes[&to].membership.settings.clone();
                    let state = self.nodes[&to].membership.state();
                    self.node(peer).handle_hello(now, to, &settings.name, settings.addr, state);
                    let peers_state = self.nodes[&peer].membership.state();
                    self.node(to).handle_admitted(now, peer, "peer", peers_state);
                }
                Connected::Silent | Connected::Refused => self.node(to).handle_dial_failed(now, peer),
            },
            Delivery::Echo(peer, token) => match self.connect(to, peer) {
                Connected::Open => self.node(to).handle_verified(now, peer, token, true),
                Connected::Refused => self.node(to).handle_verified(now, peer, token, false),
                Connected::Silent => {}
            },
            Delivery::Reached(peer, token) => self.node(to).handle_reached(now, peer, token),
        }
    }

    fn node(&mut self, member: MemberId) -> &mut Membership {
        &mut self.nodes.get_mut(&member).expect("a node of the cluster").membership
    }

    fn cut_off(&mut self, n: u64, cut: bool) {
        for other in self.nodes.keys().copied().filter(|other| *other != id(n)) {
            for way in [(id(n), other), (other, id(n))] {
                if cut {
                    self.cut.insert(way)
                } else {
                    self.cut.remove(&way)
                };
            }
        }
    }

    fn count(&self, wanted: impl Fn(&MembershipAction) -> bool) -> usize {
        self.log.iter().filter(|(.., action)| wanted(action)).count()
    }

    fn view_of(&self, n: u64) -> Vec<u64> {
        self.nodes[&id(n)].membership.view().members.iter().map(|m| m.id.0).collect()
    }
}

#[test]
fn two_nodes_find_each_other_within_milliseconds_of_the_second_start() {
    let mut c = Cluster::new(1);
    c.start(1);
    c.run_until(ms(330));
    c.start(2);
    c.run_until(ms(340));
    assert_eq!((c.view_of(1), c.view_of(2)), (vec![2], vec![1]));
    let hash = |n| c.nodes[&id(n)].membership.view().hash();
    assert_eq!(hash(1), hash(2));
}

#[test]
fn nodes_that_start_together_agree_and_do_not_flap() {
    let mut c = Cluster::new(2);
    (1..=5).for_each(|n| c.start(n));
    c.run_until(ms(20));
    for n in 1..=5 {
        assert_eq!(c.view_of(n).len(), 4, "within milliseconds");
    }
    c.run_until(Time::from_secs(30));
    for n in 1..=5 {
        assert_eq!(c.view_of(n), (1..=5).filter(|o| *o != n).collect::<Vec<_>>());
    }
    assert_eq!(c.count(|a| matches!(a, MembershipAction::Suspect { .. } | MembershipAction::Forget { .. })), 0);
}

#[test]
fn two_of_three_killed_at_once_are_down_within_milliseconds() {
    let mut c = Cluster::new(3);
    (1..=3).for_each(|n| c.start(n));
    c.run_until(ms(500));
    c.kill(2);
    c.kill(3);
    c.run_until(ms(510));
    assert_eq!(c.view_of(1), [0; 0]);
}

#[test]
fn a_stopped_process_is_removed_in_bounded_time_and_returns_when_it_runs_again() {
    let mut c = Cluster::new(4);
    (1..=3).for_each(|n| c.start(n));
    c.run_until(ms(500));
    c.stop(2, true);
    c.run_until(ms(500) + DROP + 2 * VERIFY + ms(10));
    assert_eq!((c.view_of(1), c.view_of(3)), (vec![3], vec![1]));

    c.run_until(ms(6000));
    c.stop(2, false);
    c.run_until(ms(6005));
    assert_eq!(c.view_of(2), [1, 3], "it judges nobody for its own pause");
    c.run_until(ms(9000));
    assert_eq!((c.view_of(1), c.view_of(3)), (vec![2, 3], vec![1, 2]));
    assert!(!c.log.iter().any(|(_, me, a)| *me == id(2) && matches!(a, MembershipAction::Down { .. })));
}

#[test]
fn heavy_ping_loss_removes_nobody() {
    let mut c = Cluster::new(5);
    c.ping_loss = 0.3;
    (1..=4).for_each(|n| c.start(n));
    c.run_until(Time::from_secs(120));
    for n in 1..=4 {
        assert_eq!(c.view_of(n).len(), 3);
    }
    assert_eq!(c.count(|a| matches!(a, MembershipAction::Down { .. } | MembershipAction::Left { .. })), 0);
}

#[test]
fn a_quick_restart_joins_beside_the_removal_of_its_old_self() {
    let mut c = Cluster::new(6);
    c.start(1);
    c.start(2);
    c.run_until(ms(500));
    c.kill(2);
    c.start(22);
    c.run_until(ms(520));
    assert_eq!((c.view_of(1), c.view_of(22)), (vec![22], vec![1]));
    assert_eq!(c.count(|a| *a == MembershipAction::Down { member: id(2) }), 1);
}

#[test]
fn a_member_that_is_cut_off_goes_down_on_both_sides_and_returns_after_the_healing() {
    let mut c = Cluster::new(7);
    (1..=3).for_each(|n| c.start(n));
    c.run_until(ms(500));
    c.cut_off(3, true);
    c.run_until(ms(2500));
    assert_eq!((c.view_of(1), c.view_of(2), c.view_of(3)), (vec![2], vec![1], vec![]));
    c.cut_off(3, false);
    c.run_until(ms(2500) + RETRY_FIRST + ms(450));
    assert_eq!((c.view_of(1), c.view_of(2), c.view_of(3)), (vec![2, 3], vec![1, 3], vec![1, 2]));
}

#[test]
fn of_four_a_bad_link_removes_nobody_and_a_dead_member_at_its_other_end_goes_in_time() {
    let mut c = Cluster::new(10);
    (1..=4).for_each(|n| c.start(n));
    c.run_until(ms(500));
    for way in [(id(1), id(2)), (id(2), id(1))] {
        c.cut.insert(way);
    }
    c.run_until(Time::from_secs(60));
    assert_eq!((c.view_of(1), c.view_of(2)), (vec![2, 3, 4], vec![1, 3, 4]));
    assert_eq!(c.count(|a| matches!(a, MembershipAction::Unreachable { .. })), 2, "each end says so once");
    let suspects = |c: &Cluster| c.nodes[&id(1)].membership.view().members.iter().filter(|m| m.suspect).count();
    assert_eq!(suspects(&c), 1);

    c.stop(2, true);
    c.run_until(Time::from_secs(60) + DROP + 3 * VERIFY + ms(10));
    assert_eq!((c.view_of(1), c.view_of(3)), (vec![3, 4], vec![1, 4]));
}

#[test]
fn a_bad_link_that_heals_is_good_again_within_the_drop_time() {
    let mut c = Cluster::new(11);
    (1..=4).for_each(|n| c.start(n));
    c.run_until(ms(500));
    let ways = [(id(1), id(2)), (id(2), id(1))];
    c.cut.extend(ways);
    c.run_until(Time::from_secs(10));
    c.cut.clear();
    c.run_until(Time::from_secs(10) + DROP + 2 * VERIFY + ms(10));
    for n in 1..=2 {
        assert!(c.nodes[&id(n)].membership.view().members.iter().all(|m| !m.suspect));
    }
    assert_eq!(c.count(|a| matches!(a, MembershipAction::Down { .. })), 0);
}

#[test]
fn one_way_loss_removes_once_and_does_not_add_and_remove_without_end() {
    let mut c = Cluster::new(8);
    (1..=2).for_each(|n| c.start(n));
    c.run_until(ms(500));
    c.cut.insert((id(1), id(2)));
    c.run_until(ms(2500));
    c.node(id(1)).handle_lost(ms(2500), id(2));
    c.run_until(Time::from_secs(120));
    assert_eq!((c.view_of(1), c.view_of(2)), (vec![], vec![]));
    assert_eq!(c.count(|a| matches!(a, MembershipAction::Up { .. } | MembershipAction::Down { .. })), 4);
    let dials = c.count(|a| matches!(a, MembershipAction::Dial { .. }));
    assert!((4..20).contains(&dials), "{dials} dials in two minutes");
}

#[test]
fn pings_alone_neither_admit_nor_keep() {
    let mut c = Cluster::new(9);
    (1..=2).for_each(|n| c.start(n));
    c.run_until(ms(500));
    c.blocked.insert((id(1), id(2)));
    for n in [1, 2] {
        c.node(id(n)).handle_lost(ms(500), id(3 - n));
    }
    c.run_until(Time::from_secs(20));
    assert_eq!((c.view_of(1), c.view_of(2)), (vec![], vec![]));
    assert_eq!(c.nodes[&id(1)].membership.candidates().count(), 1);
    c.blocked.clear();
    c.run_until(Time::from_secs(55));
    assert_eq!((c.view_of(1), c.view_of(2)), (vec![2], vec![1]));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut c = Cluster::new(seed);
        c.ping_loss = 0.4;
        (1..=4).for_each(|n| c.start(n));
        c.run_until(ms(3000));
        c.kill(3);
        c.run_until(ms(6000));
        c.log
    };
    assert_eq!(history(9), history(9));
}
