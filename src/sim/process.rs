//! One process of the cluster: the engine's objects and the thinnest shell that can drive them.
//!
//! What is here is what any shell must do and nothing else: move bytes between connections and the engine, carry out
//! [`Effects`] after every call, let the control loop read its inputs, carry out its actions, keep its deadline. A rule of
//! replication that had to be written here would be a defect of the engine.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Sched;
use super::net::{ConnId, Datagram, HostId, Net, Read, Ready};
use super::swarm::Profile;
use super::world::Event;
use crate::engine::{Action, Control, Core, Effects, Inlet, Input, LaneRef, Outlet, Peer, Probe};
use crate::id::{MemberId, Time};
use crate::proto::link::LinkError;
use crate::proto::outbound::{Drain, Gather};
use crate::wire;

/// How long a connection may take until its handshake is complete.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Bytes gathered for one write, and pieces of memory.
const GATHER: (usize, usize) = (256 << 10, 256);
/// An acceptor whose answers are not taken stops reading.
const ANSWERS_MAX: usize = 64 << 10;
/// Turns of the control loop that may follow each other without time passing.
const TURNS_MAX: usize = 16;

/// What the shell keeps for a lane: its connection.
pub(super) type Port = Cell<Option<ConnId>>;

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) host: HostId,
    pub(super) number: u32,
    pub(super) member: MemberId,
    born: Time,
    ppm: i64,
    pub(super) core: Arc<Core<Port>>,
    pub(super) control: Control<Port>,
    pub(super) fx: Effects<Port>,
    conns: BTreeMap<ConnId, Connection>,
    gather: Gather,
    timer: Option<Time>,
    /// Members with whom a handshake was complete.
    met: BTreeSet<MemberId>,
    /// How far its clock has jumped ahead.
    jumped: Duration,
    /// What the shell saw that may not be.
    pub(super) wrong: Option<String>,
}

#[derive(Debug)]
struct Connection {
    /// 0 where this process dialled, 1 where it accepted.
    side: usize,
    socket: Socket,
    /// Bytes to write, and how many of them went out.
    out: Vec<u8>,
    written: usize,
}

#[derive(Debug)]
enum Socket {
    Inlet(Inlet<Port>),
    Lane(Outlet<Port>),
    Probe(Probe),
}

/// How a step on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Again,
    Rest,
    Lost,
}

/// The address of a host.
pub(super) fn addr_of(host: HostId) -> SocketAddr {
    SocketAddr::new(ip_of(host), 4700)
}

fn ip_of(host: HostId) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(host + 1).unwrap_or(u8::MAX)))
}

fn host_of(addr: SocketAddr, hosts: usize) -> Option<HostId> {
    (0..hosts).find(|h| addr_of(*h) == addr)
}

impl Process {
    pub(super) fn start(profile: &Profile, net: &mut Net, sched: &mut Sched, host: HostId, number: u32) -> Self {
        let member = MemberId(sched.rng.u64(1..));
        let seed = sched.rng.u64(..);
        let ppm = sched.rng.i64(-profile.drift_ppm..=profile.drift_ppm);
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "the engine shares its core by Arc; here one thread drives it"
        )]
        let core = Arc::new(Core::new(profile.core(member, host, number, seed)));
        let control =
            Control::new(Arc::clone(&core), profile.control(seed), Box::new(|_, _| Cell::new(None)), Time::ZERO);
        net.boot(sched, host, number);
        net.plan_turn(sched, host);
        Self {
            host,
            number,
            member,
            born: sched.now(),
            ppm,
            core,
            control,
            fx: Effects::default(),
            conns: BTreeMap::new(),
            gather: Gather::default(),
            timer: None,
            met: BTreeSet::new(),
            jumped: Duration::ZERO,
            wrong: None,
        }
    }

    /// Whether a handshake with a member was ever complete.
    pub(super) fn has_met(&self, member: MemberId) -> bool {
        self.met.contains(&member)
    }

    /// This process's own clock.
    pub(super) fn clock(&self, now: Time) -> Time {
        let elapsed = i64::try_from(now.saturating_sub(self.born).as_nanos()).unwrap_or(i64::MAX);
        let local = elapsed + elapsed / 1_000_000 * self.ppm;
        Time::from_nanos(u64::try_from(local).unwrap_or(0)) + self.jumped
    }

    /// Its clock jumps ahead, as after a suspension that it did not notice, unless it did so before for longer than `most`.
    pub(super) fn jump(&mut self, ahead: Duration, most: Duration) -> bool {
        let may = self.jumped + ahead <= most;
        if may {
            self.jumped += ahead;
        }
        may
    }

    /// When this process's clock will show a time.
    fn when(&self, local: Time) -> Time {
        let local = i64::try_from(local.saturating_sub(self.jumped).as_nanos()).unwrap_or(i64::MAX / 2);
        let elapsed = local - local / 1_000_000 * self.ppm * 1_000_000 / (1_000_000 + self.ppm);
        self.born + Time::from_nanos(u64::try_from(elapsed).unwrap_or(0)) + Duration::from_micros(1)
    }

    /// Looks at everything that arrived, then at the clock.
    pub(super) fn turn(&mut self, net: &mut Net, sched: &mut Sched) {
        while let Some(ready) = net.take_ready(self.host) {
            match ready {
                Ready::Accept(id) => self.accept(id, net, sched),
                Ready::Io(id) => self.io(id, net, sched),
                Ready::Datagram(from, datagram) => self.take_in(from, &datagram),
                Ready::Deadline(id) => self.deadline(id, net, sched),
            }
            self.settle(net, sched);
        }
        for _ in 0..TURNS_MAX {
            let now = self.clock(sched.now());
            if self.control.poll_timeout().is_none_or(|due| due > now) {
                break;
            }
            self.control.handle_timeout(now, &mut self.fx);
            self.settle(net, sched);
        }
        self.plan_timer(sched);
    }

    fn take_in(&mut self, from: HostId, datagram: &Datagram) {
        match wire::decode_ping(&datagram.bytes[..]) {
            Ok(ping) => {
                let sent = datagram.sent.as_ref().map(|sent| wire::decode_ping(&sent[..]));
                if sent.is_some_and(|sent| sent.as_ref() != Ok(&ping)) {
                    self.wrong = Some(format!("n{} believed a ping that was damaged: {ping:?}", self.host));
                }
                self.core.inputs().post(Input::Ping(ping, ip_of(from)));
            }
            Err(_) => crate::stats::bump(&self.core.counters.bad_pings),
        }
    }

    /// Carries out what the last call left: with no lock held, until nothing is left.
    pub(super) fn settle(&mut self, net: &mut Net, sched: &mut Sched) {
        loop {
            for waker in std::mem::take(&mut self.fx.wakes) {
                waker.wake();
            }
            if let Some(lane) = self.fx.kick.pop() {
                if lane.peer.with_lane(lane.lane, |out| out.begin_drain()) {
                    self.drain(&lane, net, sched);
                }
            } else if !self.core.inputs().is_empty() {
                let now = self.clock(sched.now());
                self.control.handle_inputs(now, &mut self.fx);
            } else if let Some(action) = self.control.poll_action() {
                self.carry_out(action, net, sched);
            } else if self.fx.wakes.is_empty() {
                break;
            }
        }
    }

    /// Plans a turn for when the control loop has something to do.
    pub(super) fn plan_timer(&mut self, sched: &mut Sched) {
        let Some(due) = self.control.poll_timeout() else { return };
        let at = self.when(due).max(sched.now() + Duration::from_micros(50));
        if self.timer.is_none_or(|planned| planned <= sched.now() || planned > at) {
            self.timer = Some(at);
            sched.at(at, Event::Timer(self.host, self.number));
        }
    }

    fn carry_out(&mut self, action: Action<Port>, net: &mut Net, sched: &mut Sched) {
        match action {
            Action::Ping(bytes) => net.multicast(sched, self.host, bytes),
            Action::Dial(lane) => {
                let (outlet, hello) = Outlet::new(&self.core, lane.clone());
                let Some(host) = host_of(lane.peer.addr(), net.hosts.len()) else {
                    outlet.lost(&self.core);
                    return;
                };
                let id = net.dial(sched, self.host, host);
                lane.get().port.set(Some(id));
                self.keep(id, 0, Socket::Lane(outlet), hello.to_vec(), HANDSHAKE, sched);
            }
            Action::Probe { member, addr, token, within } => {
                let (mut probe, out) = Probe::new(&self.core, member, addr, token);
                let Some(host) = host_of(addr, net.hosts.len()) else {
                    probe.failed(&self.core);
                    return;
                };
                let id = net.dial(sched, self.host, host);
                self.keep(id, 0, Socket::Probe(probe), out, within, sched);
            }
            Action::Cut(lane) => {
                if let Some(id) = lane.get().port.get() {
                    self.lose(id, net, sched);
                }
            }
            Action::Close(peer) => self.close_all(&peer, net, sched),
        }
    }

    fn keep(&mut self, id: ConnId, side: usize, socket: Socket, out: Vec<u8>, within: Duration, sched: &mut Sched) {
        self.conns.insert(id, Connection { side, socket, out, written: 0 });
        sched.after(within, Event::Deadline(self.host, self.number, id));
    }

    fn accept(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) {
        let inlet = Inlet::new(&self.core);
        self.keep(id, 1, Socket::Inlet(inlet), Vec::new(), HANDSHAKE, sched);
        self.io(id, net, sched);
    }

    fn deadline(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) {
        let late = self.conns.get(&id).is_some_and(|conn| match &conn.socket {
            Socket::Inlet(inlet) => !inlet.is_open() || inlet.member() == MemberId::NONE,
            Socket::Lane(outlet) => !outlet.is_open(),
            Socket::Probe(_) => true,
        });
        if late {
            self.lose(id, net, sched);
        }
    }

    fn io(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) {
        self.resume_drain(id, net, sched);
        loop {
            match self.step(id, net, sched) {
                Step::Again => self.settle(net, sched),
                Step::Rest => return,
                Step::Lost => {
                    self.lose(id, net, sched);
                    return;
                }
            }
        }
    }

    /// The socket of an open lane may take more.
    fn resume_drain(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) {
        let Some(Connection { socket: Socket::Lane(outlet), .. }) = self.conns.get(&id) else { return };
        if outlet.is_open() && net.is_open(id, 0) {
            let lane = outlet.lane().clone();
            if lane.peer.with_lane(lane.lane, |out| out.writable()) {
                self.drain(&lane, net, sched);
                self.settle(net, sched);
            }
        }
    }

    /// Writes what waits, reads once, lets the engine see it.
    fn step(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) -> Step {
        let Some(conn) = self.conns.get_mut(&id) else { return Step::Rest };
        if conn.written < conn.out.len() {
            let rest = &conn.out[conn.written..];
            match net.write(sched, id, conn.side, std::iter::once(rest)) {
                Some(n) => conn.written += n,
                None => return Step::Lost,
            }
            if conn.out.len() - conn.written > ANSWERS_MAX {
                return Step::Rest;
            }
            if conn.written == conn.out.len() {
                conn.out.clear();
                conn.written = 0;
            }
        }
        let space = match &mut conn.socket {
            Socket::Inlet(inlet) => inlet.space(),
            Socket::Lane(outlet) => outlet.space(),
            Socket::Probe(probe) => probe.space(),
        };
        assert!(!space.is_empty(), "a decoder always has room for a byte");
        let read = net.read(sched, id, conn.side, space);
        let n = match read {
            Read::Data(n) => n,
            Read::Nothing => return Step::Rest,
            Read::End | Read::Broken => return Step::Lost,
        };
        let now = self.clock(sched.now());
        let Some(conn) = self.conns.get_mut(&id) else { return Step::Rest };
        match &mut conn.socket {
            Socket::Inlet(inlet) => {
                inlet.filled(n);
                let result = inlet.process(&self.core, now, &mut conn.out, &mut self.fx);
                if let Err(error) = &result {
                    if !matches!(error, LinkError::Refuse(_)) {
                        self.wrong = Some(format!("n{} refused what an honest member sent: {error}", self.host));
                    }
                    let rest = &conn.out[conn.written..];
                    let _ = net.write(sched, id, conn.side, std::iter::once(rest));
                    return Step::Lost;
                }
            }
            Socket::Lane(outlet) => {
                outlet.filled(n);
                let result = outlet.process(&self.core, now, &mut self.fx);
                if outlet.is_open() {
                    self.met.insert(outlet.lane().peer.id());
                }
                if result.is_err() {
                    return Step::Lost;
                }
            }
            Socket::Probe(probe) => {
                probe.filled(n);
                if probe.process(&self.core) {
                    return Step::Lost;
                }
            }
        }
        Step::Again
    }

    /// Gathers and writes until nothing is left or the socket takes no more; the caller took the drain.
    fn drain(&mut self, lane: &LaneRef<Port>, net: &mut Net, sched: &mut Sched) {
        loop {
            let gather = &mut self.gather;
            lane.peer.with_lane(lane.lane, |out| out.gather(gather, GATHER.0, GATHER.1));
            let parts = self.gather.parts.iter().map(|p| p.as_bytes());
            let written = lane.get().port.get().and_then(|id| net.write(sched, id, 0, parts));
            // A broken connection takes nothing more; that it is broken is read from it.
            let (n, full) = written.map_or((0, true), |n| (n, n < self.gather.len));
            assert!(full || n > 0, "a drain gathers something");
            let drain = self.core.wrote(lane, &self.gather, n, full, &mut self.fx);
            if drain == Drain::Released {
                self.gather.clear();
                return;
            }
        }
    }

    /// A connection is over; the engine learns of it.
    fn lose(&mut self, id: ConnId, net: &mut Net, sched: &mut Sched) {
        let Some(conn) = self.conns.remove(&id) else { return };
        net.close(sched, id, conn.side);
        match conn.socket {
            Socket::Inlet(inlet) => inlet.lost(&self.core),
            Socket::Lane(outlet) => {
                let port = &outlet.lane().get().port;
                if port.get() == Some(id) {
                    port.set(None);
                }
                outlet.lost(&self.core);
            }
            Socket::Probe(mut probe) => probe.failed(&self.core),
        }
    }

    fn close_all(&mut self, peer: &Arc<Peer<Port>>, net: &mut Net, sched: &mut Sched) {
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| match &conn.socket {
                Socket::Inlet(inlet) => inlet.member() == peer.id(),
                Socket::Lane(outlet) => Arc::ptr_eq(&outlet.lane().peer, peer),
                Socket::Probe(_) => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(conn) = self.conns.remove(&id) {
                net.close(sched, id, conn.side);
                if let Socket::Lane(outlet) = conn.socket {
                    outlet.lane().get().port.set(None);
                }
            }
        }
    }
}
