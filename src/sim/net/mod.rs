//! The simulated network and the kernels of its hosts: byte streams, datagrams, cuts.
//!
//! A stream is two pipes. What one end writes is cut at random places, each piece arrives after a latency of its own but
//! never before the one in front of it, and what was written and not yet read never exceeds a window: writes are short.
//! A clog holds everything back and then delivers it at once. A cut drops what crosses it; pieces of a stream wait, as retransmission makes them, and come after the cut has healed
//! or the writer's end has given up. A reset destroys what is under way, from any byte on. An end whose peer vanished unheard is half open
//! until it writes or its keep-alive ends it. A host that is paused still accepts connections and fills its buffers: that
//! is the kernel's work. Nothing here knows what the bytes mean.

mod stream;
mod ways;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::Sched;
use super::world::Event;
use crate::id::Time;
use crate::wire::PING_LEN;

/// Bytes that wait for a datagram socket are bounded in every kernel; pings above it are lost.
const DATAGRAMS_MAX: usize = 512;
/// Pieces that one write is cut into, the last taking the rest: a frame cut at each of its first bytes shows what one cut
/// everywhere does.
const PIECES_MAX: usize = 48;
/// A connection request that got no answer is repeated after this.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// Index of a connection.
pub(super) type ConnId = u32;
/// Index of a host.
pub(super) type HostId = usize;

/// How the network behaves while nothing is cut.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// One-way latency in microseconds.
    pub(super) latency: (u64, u64),
    /// How much longer the bytes of a stream take from one host to another, in microseconds.
    pub(super) detour: Vec<Vec<u64>>,
    /// Share of packets that take up to `tail_micros` longer.
    pub(super) tail: f64,
    pub(super) tail_micros: u64,
    /// Largest piece of a stream; 0: as written.
    pub(super) piece_max: usize,
    /// Share of writes that are cut short though there was room.
    pub(super) short_write: f64,
    /// Bytes that a pipe holds.
    pub(super) window: usize,
    /// Datagrams lost, and doubled.
    pub(super) loss: f64,
    pub(super) double: f64,
    /// Datagrams of which up to three bits are flipped on the way.
    pub(super) flip: f64,
    /// Share of connection requests that get lost.
    pub(super) lost_dial: f64,
    /// How late a process runs after something arrived for it, in microseconds.
    pub(super) lag: (u64, u64),
}

/// The bytes of a datagram, and where it was damaged those that were sent.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) bytes: Rc<[u8; PING_LEN]>,
    pub(super) sent: Option<Rc<[u8; PING_LEN]>>,
}

/// What the kernel hands to a process in its turn.
#[derive(Clone, Debug)]
pub(super) enum Ready {
    /// A connection was accepted.
    Accept(ConnId),
    /// An end became readable, writable, connected or broken.
    Io(ConnId),
    /// A datagram from a host.
    Datagram(HostId, Datagram),
    /// A deadline that the process set on a connection passed.
    Deadline(ConnId),
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes.
    Data(usize),
    /// Nothing now.
    Nothing,
    /// The other end closed.
    End,
    /// The connection broke, or was never made.
    Broken,
}

/// How a host's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The kernel closes its sockets.
    Killed,
    /// Nobody is told anything.
    PowerLoss,
}

#[derive(Debug)]
pub(super) struct Host {
    /// Incarnation of the process that runs here, if one does.
    pub(super) process: Option<u32>,
    /// Whether there is a kernel that answers.
    up: bool,
    pub(super) ready: VecDeque<Ready>,
    datagrams: usize,
    turn_planned: bool,
    pub(super) paused_from: Time,
    pub(super) paused_until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    /// Waiting for the handshake of the kernels.
    Connecting,
    Open,
    /// Broken; the process has not been told yet.
    Broken,
    /// Closed by its process, or the process is gone.
    Gone,
}

#[derive(Debug)]
struct End {
    host: HostId,
    process: u32,
    socket: Socket,
    announced: bool,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Data(usize),
    Fin,
}

#[derive(Debug, Default)]
struct Pipe {
    /// Arrived, then under way.
    bytes: VecDeque<u8>,
    arrived: usize,
    pieces: VecDeque<Piece>,
    last_at: Time,
    /// When the last of the pieces is to arrive.
    back_at: Time,
    /// Pieces whose arrival a cut prevented.
    stalled: u32,
    /// Bytes read whose news cannot cross a cut.
    unannounced: usize,
    writer_waits: bool,
    fin_sent: bool,
    fin_arrived: bool,
}

#[derive(Debug)]
struct Conn {
    /// The dialler's end, then the acceptor's.
    ends: [End; 2],
    /// What each end wrote.
    pipes: [Pipe; 2],
    /// Bytes under way were destroyed: nothing more may arrive, or the stream would have a hole.
    doomed: bool,
}

/// What the network plans for itself.
#[derive(Clone, Debug)]
pub(super) enum NetEvent {
    Syn(ConnId),
    Established(ConnId),
    Refused(ConnId),
    /// The next piece written by this end arrives.
    Arrive(ConnId, u8),
    /// The end may write again.
    Room(ConnId, u8),
    /// A reset reaches the end.
    Abort(ConnId, u8),
    /// The end has waited too long for what it wrote to be taken.
    UserTimeout(ConnId, u8),
    /// The end finds its peer gone.
    KeepAlive(ConnId, u8),
    Datagram(HostId, HostId, Datagram),
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) hosts: Vec<Host>,
    pub(super) weather: Weather,
    conns: Vec<Conn>,
    alive: BTreeSet<ConnId>,
    /// How many cuts lie on the way from one host to another.
    cuts: Vec<Vec<u32>>,
    /// Until when the way from one host to another holds back what goes on it.
    clogs: Vec<Vec<Time>>,
}

impl Net {
    pub(super) fn new(hosts: usize, weather: Weather) -> Self {
        let host = || Host {
            process: None,
            up: true,
            ready: VecDeque::new(),
            datagrams: 0,
            turn_planned: false,
            paused_from: Time::ZERO,
            paused_until: Time::ZERO,
        };
        Self {
            hosts: (0..hosts).map(|_| host()).collect(),
            weather,
            conns: Vec::new(),
            alive: BTreeSet::new(),
            cuts: vec![vec![0; hosts]; hosts],
            clogs: vec![vec![Time::ZERO; hosts]; hosts],
        }
    }

    // What processes call.

    pub(super) fn dial(&mut self, sched: &mut Sched, from: HostId, to: HostId) -> ConnId {
        let id = ConnId::try_from(self.conns.len()).unwrap_or(ConnId::MAX);
        let end = |host: HostId, process: Option<u32>, socket| End {
            host,
            process: process.unwrap_or(0),
            socket,
            announced: false,
        };
        self.conns.push(Conn {
            ends: [end(from, self.hosts[from].process, Socket::Connecting), end(to, None, Socket::Gone)],
            pipes: [Pipe::default(), Pipe::default()],
            doomed: false,
        });
        self.alive.insert(id);
        let at = (sched.now() + self.latency(sched)).max(self.clogs[from][to]);
        sched.at(at, Event::Net(NetEvent::Syn(id)));
        id
    }

    /// Writes as much as the window takes; `None` when the connection is broken.
    pub(super) fn write<'a>(
        &mut self,
        sched: &mut Sched,
        id: ConnId,
        side: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Option<usize> {
        let socket = self.conns[id as usize].ends[side].socket;
        match socket {
            Socket::Open => {}
            Socket::Connecting => return Some(0),
            Socket::Broken | Socket::Gone => return None,
        }
        let mut room = {
            let pipe = &self.conns[id as usize].pipes[side];
            self.weather.window.saturating_sub(pipe.bytes.len() + pipe.unannounced)
        };
        let mut cut_short = false;
        if room > 1 && sched.chance(self.weather.short_write) {
            room = sched.rng.usize(1..=room);
            cut_short = true;
        }
        let mut wrote = 0;
        let mut whole = true;
        let pipe = &mut self.conns[id as usize].pipes[side];
        for part in parts {
            let n = part.len().min(room - wrote);
            pipe.bytes.extend(&part[..n]);
            wrote += n;
            if n < part.len() {
                whole = false;
                break;
            }
        }
        if !whole {
            pipe.writer_waits = true;
            if cut_short {
                let delay = self.latency(sched);
                sched.after(delay, Event::Net(NetEvent::Room(id, side_byte(side))));
            }
        }
        let mut left = wrote;
        let mut pieces = 0;
        while left > 0 {
            pieces += 1;
            let n = match self.weather.piece_max {
                max if max > 0 && pieces < PIECES_MAX => sched.rng.usize(1..=max).min(left),
                _ => left,
            };
            self.send_piece(sched, id, side, Piece::Data(n));
            left -= n;
        }
        Some(wrote)
    }

    pub(super) fn read(&mut self, sched: &mut Sched, id: ConnId, side: usize, into: &mut [u8]) -> Read {
        let conn = &mut self.conns[id as usize];
        match conn.ends[side].socket {
            Socket::Open => {}
            Socket::Connecting => return Read::Nothing,
            Socket::Broken | Socket::Gone => return Read::Broken,
        }
        let (writer, reader) = (conn.ends[1 - side].host, conn.ends[side].host);
        let pipe = &mut conn.pipes[1 - side];
        if pipe.arrived == 0 {
            return if pipe.fin_arrived { Read::End } else { Read::Nothing };
        }
        let n = pipe.arrived.min(into.len());
        let (front, back) = pipe.bytes.as_slices();
        let from_front = front.len().min(n);
        into[..from_front].copy_from_slice(&front[..from_front]);
        into[from_front..n].copy_from_slice(&back[..n - from_front]);
        pipe.bytes.drain(..n);
        pipe.arrived -= n;
        if self.cuts[reader][writer] > 0 {
            pipe.unannounced += n;
        } else if pipe.writer_waits {
            let delay = self.latency(sched);
            sched.after(delay, Event::Net(NetEvent::Room(id, side_byte(1 - side))));
        }
        Read::Data(n)
    }

    /// Whether the kernels' handshake is over and the connection not broken.
    pub(super) fn is_open(&self, id: ConnId, side: usize) -> bool {
        self.conns[id as usize].ends[side].socket == Socket::Open
    }

    /// The process closes its end.
    pub(super) fn close(&mut self, sched: &mut Sched, id: ConnId, side: usize) {
        let conn = &mut self.conns[id as usize];
        let was = std::mem::replace(&mut conn.ends[side].socket, Socket::Gone);
        if was == Socket::Open {
            let unread = conn.pipes[1 - side].arrived > 0;
            if unread {
                // As a kernel does: closing on unread bytes resets.
                self.cancel(id);
                self.send_abort(sched, id, 1 - side);
            } else if !conn.pipes[side].fin_sent {
                conn.pipes[side].fin_sent = true;
                self.send_piece(sched, id, side, Piece::Fin);
            }
        }
        self.forget_if_over(id);
    }

    pub(super) fn multicast(&self, sched: &mut Sched, from: HostId, bytes: [u8; PING_LEN]) {
        let bytes = Rc::new(bytes);
        for to in 0..self.hosts.len() {
            let copies = 1 + usize::from(sched.chance(self.weather.double));
            for _ in 0..copies {
                if to != from && (self.cuts[from][to] > 0 || sched.chance(self.weather.loss)) {
                    continue;
                }
                let at = (sched.now() + self.latency(sched)).max(self.clogs[from][to]);
                let datagram = if sched.chance(self.weather.flip) {
                    Datagram { bytes: damaged(sched, &bytes), sent: Some(Rc::clone(&bytes)) }
                } else {
                    Datagram { bytes: Rc::clone(&bytes), sent: None }
                };
                sched.at(at, Event::Net(NetEvent::Datagram(from, to, datagram)));
            }
        }
    }

    /// Takes what the process of a host has to look at, in order.
    pub(super) fn take_ready(&mut self, host: HostId) -> Option<Ready> {
        let ready = self.hosts[host].ready.pop_front()?;
        match &ready {
            Ready::Datagram(..) => self.hosts[host].datagrams -= 1,
            Ready::Io(id) | Ready::Accept(id) | Ready::Deadline(id) => {
                for end in &mut self.conns[*id as usize].ends {
                    if end.host == host {
                        end.announced = false;
                    }
                }
            }
        }
        Some(ready)
    }

    /// Hands something to the process of a host, at its next turn.
    pub(super) fn announce(&mut self, sched: &mut Sched, host: HostId, ready: Ready) {
        if self.hosts[host].process.is_none() {
            return;
        }
        self.hosts[host].ready.push_back(ready);
        self.plan_turn(sched, host);
    }

    /// Plans a turn of a host's process, if none is planned.
    pub(super) fn plan_turn(&mut self, sched: &mut Sched, host: HostId) {
        if !std::mem::replace(&mut self.hosts[host].turn_planned, true) {
            let lag = sched.micros(self.weather.lag.0, self.weather.lag.1);
            let at = (sched.now() + lag).max(self.hosts[host].paused_until);
            sched.at(at, Event::Turn(host));
        }
    }

    /// Whether a turn that was planned may happen now.
    pub(super) fn begin_turn(&mut self, sched: &mut Sched, host: HostId) -> bool {
        self.hosts[host].turn_planned = false;
        if sched.now() < self.hosts[host].paused_until {
            self.hosts[host].turn_planned = true;
            sched.at(self.hosts[host].paused_until, Event::Turn(host));
            return false;
        }
        self.hosts[host].process.is_some()
    }

    pub(super) fn handle(&mut self, sched: &mut Sched, event: NetEvent) {
        match event {
            NetEvent::Syn(id) => self.syn(sched, id),
            NetEvent::Established(id) => {
                let conn = &mut self.conns[id as usize];
                match conn.ends[0].socket {
                    Socket::Connecting => {
                        conn.ends[0].socket = Socket::Open;
                        self.wake_end(sched, id, 0);
                    }
                    // The dialler gave up meanwhile.
                    _ => self.send_abort(sched, id, 1),
                }
            }
            NetEvent::Refused(id) => self.break_end(sched, id, 0),
            NetEvent::Arrive(id, side) => self.arrive(sched, id, usize::from(side)),
            NetEvent::Room(id, side) => {
                let side = usize::from(side);
                if std::mem::take(&mut self.conns[id as usize].pipes[side].writer_waits) {
                    self.wake_end(sched, id, side);
                }
            }
            NetEvent::Abort(id, side) => {
                let side = usize::from(side);
                let (from, to) = self.way(id, 1 - side);
                if self.cuts[from][to] > 0 || !self.hosts[to].up {
                    Self::half_open(sched, id, side);
                } else {
                    self.break_end(sched, id, side);
                }
            }
            NetEvent::UserTimeout(id, side) => {
                let side = usize::from(side);
                if self.conns[id as usize].pipes[side].stalled > 0 {
                    self.cancel(id);
                    self.break_end(sched, id, side);
                    Self::half_open(sched, id, 1 - side);
                }
            }
            NetEvent::KeepAlive(id, side) => {
                let side = usize::from(side);
                let conn = &self.conns[id as usize];
                if conn.doomed || conn.ends[1 - side].socket != Socket::Open {
                    self.break_end(sched, id, side);
                }
            }
            NetEvent::Datagram(from, to, datagram) => {
                let host = &mut self.hosts[to];
                if host.process.is_some() && host.datagrams < DATAGRAMS_MAX {
                    host.datagrams += 1;
                    self.announce(sched, to, Ready::Datagram(from, datagram));
                }
            }
        }
    }
}

/// A copy with one to three bits flipped.
fn damaged(sched: &mut Sched, bytes: &[u8; PING_LEN]) -> Rc<[u8; PING_LEN]> {
    let mut copy = *bytes;
    for _ in 0..sched.rng.usize(1..=3) {
        copy[sched.rng.usize(..PING_LEN)] ^= 1 << sched.rng.u8(..8);
    }
    Rc::new(copy)
}

fn side_byte(side: usize) -> u8 {
    u8::from(side == 1)
}
