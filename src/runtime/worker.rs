//! One I/O thread: its own `Poll`, and the connections dealt to it for life.
//!
//! Accepted connections are read, merged and acknowledged here with no hand-off. Dialled lanes are connected here,
//! written where callers left something, and read where no caller reads.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::port::{self, LaneSocket, Port};
use super::{Shell, socket, sys};
use crate::engine::{Effects, Inlet, LaneRef, Outlet, Probe};
use crate::id::{MemberId, Time};
use crate::stats::{add, bump};

/// The token of the mailbox's waker.
pub(super) const WAKE: Token = Token(0);
/// Bytes that one connection may bring in one turn, so that a busy one cannot starve the rest.
const TURN_BYTES: usize = 1 << 20;
/// Bytes of acks that may wait for a peer that does not read them; above it nothing more is read from that peer.
const ACKS_MAX: usize = 64 << 10;
/// How long a connection may take from connect or accept to a complete handshake.
const HANDSHAKE: Time = Time::from_secs(3);
/// Connections that have not completed a handshake, at most.
const STRANGERS_MAX: usize = 256;
/// How soon a member is read again that was left alone because the control loop has much to do.
const BEHIND: Time = Time::from_millis(1);
const EVENTS: usize = 256;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write a lane, and watch for its acks.
    Flush(LaneRef<Port>),
    /// Connect a lane.
    Dial(LaneRef<Port>),
    /// Verify a member until the time given.
    Probe(Box<Probe>, Vec<u8>, Time),
    /// Serve an accepted connection.
    Accepted(TcpStream),
    /// Close what was accepted from this member.
    Close(MemberId),
    /// End.
    Stop,
}

#[derive(Debug)]
enum Conn {
    Lane(LaneRef<Port>, Arc<LaneSocket>),
    Dialling(LaneRef<Port>, TcpStream),
    Inlet(Box<Accepted>),
    Probe(TcpStream, Box<Probe>, Vec<u8>),
}

#[derive(Debug)]
struct Accepted {
    stream: TcpStream,
    inlet: Inlet<Port>,
    /// Acks and handshake answers not yet taken by the socket.
    out: Vec<u8>,
    /// Not read to the end: there may be more that no event will tell.
    more: bool,
}

/// One I/O thread.
#[derive(Debug)]
pub(super) struct Worker {
    shell: Arc<Shell>,
    index: usize,
    poll: Poll,
    conns: HashMap<usize, Conn>,
    next_token: usize,
    /// Connections that must have shown something by a time.
    deadlines: BTreeSet<(Time, usize)>,
    strangers: usize,
    /// Accepted connections with more to read.
    ready: Vec<usize>,
    stop: bool,
}

impl Worker {
    pub(super) fn new(shell: Arc<Shell>, index: usize, poll: Poll) -> Self {
        Self {
            shell,
            index,
            poll,
            conns: HashMap::new(),
            next_token: WAKE.0 + 1,
            deadlines: BTreeSet::new(),
            strangers: 0,
            ready: Vec::new(),
            stop: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut fx = Effects::default();
        while !self.stop {
            let timeout = if self.ready.is_empty() {
                self.deadlines.first().map(|(t, _)| t.saturating_sub(self.shell.now()))
            } else if self.shell.core.inputs().are_behind() {
                Some(BEHIND)
            } else {
                Some(Time::ZERO)
            };
            bump(&self.shell.core.counters.sys_poll);
            if let Err(e) = self.poll.poll(&mut events, timeout) {
                if e.kind() != io::ErrorKind::Interrupted {
                    log::error!("poll failed: {e}");
                    break;
                }
                continue;
            }
            for event in &events {
                if event.token() != WAKE {
                    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.handle_event(event.token().0, readable, event.is_writable() || event.is_error(), &mut fx);
                }
            }
            for token in std::mem::take(&mut self.ready) {
                self.handle_event(token, true, false, &mut fx);
            }
            self.shell.apply(&mut fx);
            self.read_mailbox(&mut fx);
            self.expire();
            self.shell.apply(&mut fx);
        }
        for (_, conn) in self.conns.drain() {
            close(&self.shell, &conn);
        }
    }

    fn read_mailbox(&mut self, fx: &mut Effects<Port>) {
        let shell = Arc::clone(&self.shell);
        let mailbox = &shell.workers[self.index].mailbox;
        mailbox.begin();
        let mut yielded = false;
        while let Some(command) = mailbox.take() {
            match command {
                Command::Flush(lane) => {
                    // A caller that shares this core was interrupted by its own wake-up: let it leave what it has, so that
                    // one write carries many. Where the core is free this costs nothing and waits for nobody.
                    if !std::mem::replace(&mut yielded, true) {
                        std::thread::yield_now();
                    }
                    port::flush(&shell, &lane, fx);
                }
                Command::Dial(lane) => self.dial(lane),
                Command::Probe(probe, hello, until) => self.probe(probe, hello, until),
                Command::Accepted(stream) => self.accept(stream),
                Command::Close(member) => self.close_member(member),
                Command::Stop => self.stop = true,
            }
            shell.apply(fx);
        }
    }

    fn register(&mut self, stream: &TcpStream, interest: Interest) -> io::Result<usize> {
        let token = self.next_token;
        self.next_token += 1;
        self.poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(token), interest)?;
        Ok(token)
    }

    fn dial(&mut self, lane: LaneRef<Port>) {
        let shell = Arc::clone(&self.shell);
        let config = &shell.config;
        let dialled = socket::dial(lane.peer.addr(), config.bind, config.congestion.as_deref())
            .and_then(|stream| self.register(&stream, Interest::READABLE | Interest::WRITABLE).map(|t| (stream, t)));
        match dialled {
            Ok((stream, token)) => {
                self.deadlines.insert((shell.now() + HANDSHAKE, token));
                self.conns.insert(token, Conn::Dialling(lane, stream));
            }
            Err(e) => {
                log::debug!("cannot dial {}: {e}", lane.peer.addr());
                shell.core.lane_lost(&lane, None);
            }
        }
    }

    fn probe(&mut self, mut probe: Box<Probe>, hello: Vec<u8>, until: Time) {
        let shell = Arc::clone(&self.shell);
        let dialled = socket::dial(probe.addr, shell.config.bind, None)
            .and_then(|stream| self.register(&stream, Interest::READABLE | Interest::WRITABLE).map(|t| (stream, t)));
        match dialled {
            Ok((stream, token)) => {
                self.deadlines.insert((until, token));
                self.conns.insert(token, Conn::Probe(stream, probe, hello));
            }
            Err(_) => probe.failed(&shell.core),
        }
    }

    fn accept(&mut self, stream: TcpStream) {
        if self.strangers >= STRANGERS_MAX {
            self.shell.complain(source(&stream), "strangers", || {
                String::from("too many connections without a handshake: the oldest of them is closed for each more")
            });
            self.evict();
        }
        let tuned = socket::tune_accepted(&stream, self.shell.config.congestion.as_deref())
            .and_then(|()| self.register(&stream, Interest::READABLE | Interest::WRITABLE));
        let Ok(token) = tuned else { return };
        self.strangers += 1;
        self.deadlines.insert((self.shell.now() + HANDSHAKE, token));
        let inlet = Inlet::new(&self.shell.core);
        self.conns.insert(token, Conn::Inlet(Box::new(Accepted { stream, inlet, out: Vec::new(), more: false })));
    }

    /// Closes the stranger that has been silent for the longest: a member says who it is as soon as it is connected, so where
    /// there are too many the newest is the likeliest to be one.
    fn evict(&mut self) {
        let is_inlet = |token: &usize| matches!(self.conns.get(token), Some(Conn::Inlet(_)));
        if let Some(token) = self.deadlines.iter().map(|(_, token)| *token).find(is_inlet) {
            self.strangers -= 1;
            self.remove(token);
        }
    }

    fn close_member(&self, member: MemberId) {
        for conn in self.conns.values() {
            if let Conn::Inlet(accepted) = conn
                && accepted.inlet.member() == member
            {
                // The end shows as an event, which removes it.
                let _already = accepted.stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn handle_event(&mut self, token: usize, readable: bool, writable: bool, fx: &mut Effects<Port>) {
        let shell = Arc::clone(&self.shell);
        let Some(conn) = self.conns.get_mut(&token) else { return };
        match conn {
            Conn::Lane(lane, socket) => {
                if writable {
                    port::writable(&shell, lane, fx);
                }
                // Also when only writable: a closing connection shows so while its acks are read by callers.
                socket.read_ready(&shell, fx);
                let _ = readable;
                if socket.is_lost() {
                    self.remove(token);
                }
            }
            Conn::Dialling(..) => {
                if writable || readable {
                    self.connected(token, fx);
                }
            }
            Conn::Inlet(accepted) => {
                let was_open = accepted.inlet.is_open();
                let alive =
                    (!writable || accepted.flush(&shell)) && (!(readable || writable) || accepted.read(&shell, fx));
                if accepted.more && !self.ready.contains(&token) {
                    self.ready.push(token);
                }
                let opened = !was_open && accepted.inlet.is_open();
                if opened {
                    self.strangers -= 1;
                    self.deadlines.retain(|(_, t)| *t != token);
                }
                if !alive {
                    accepted.inlet.lost(&shell.core);
                    if !was_open && !opened {
                        self.strangers -= 1;
                    }
                    self.remove(token);
                }
            }
            Conn::Probe(stream, probe, hello) => {
                if !run_probe(&shell, stream, probe, hello) {
                    self.remove(token);
                }
            }
        }
    }

    /// A connect ended: the handshake begins.
    fn connected(&mut self, token: usize, fx: &mut Effects<Port>) {
        let shell = Arc::clone(&self.shell);
        let Some(Conn::Dialling(lane, stream)) = self.conns.remove(&token) else { return };
        let (outlet, hello) = Outlet::new(&shell.core, lane.clone());
        let mut bytes = Vec::with_capacity(hello.len);
        crate::proto::link::append(&mut bytes, &hello);
        let sent = socket::connected(&stream).and_then(|()| {
            bump(&shell.core.counters.sys_send);
            SockRef::from(&stream).send_with_flags(&bytes, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
        });
        // A fresh socket takes a hello whole, or is of no use.
        match sent {
            Ok(n) if n == bytes.len() => {
                let socket = Arc::new(LaneSocket::new(stream, Token(token), outlet));
                let port = &lane.get().port;
                port.set_socket(Some(Arc::clone(&socket)));
                // Its member was removed while the connect was under way: whoever closed the lanes has passed by.
                if lane.peer.is_closed() {
                    socket.shut();
                    port.set_socket(None);
                }
                self.conns.insert(token, Conn::Lane(lane, Arc::clone(&socket)));
                socket.read_ready(&shell, fx);
            }
            Ok(_) | Err(_) => {
                self.deadlines.retain(|(_, t)| *t != token);
                shell.core.lane_lost(&lane, None);
            }
        }
    }

    fn remove(&mut self, token: usize) {
        self.deadlines.retain(|(_, t)| *t != token);
        if let Some(conn) = self.conns.remove(&token) {
            let fd = match &conn {
                Conn::Lane(_, socket) => socket.stream.as_raw_fd(),
                Conn::Dialling(_, stream) | Conn::Probe(stream, ..) => stream.as_raw_fd(),
                Conn::Inlet(accepted) => accepted.stream.as_raw_fd(),
            };
            // Closing the last descriptor would do it too, but a caller may still hold a lane's.
            let _gone = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// Ends what did not show what it had to in time.
    fn expire(&mut self) {
        let now = self.shell.now();
        while let Some((due, token)) = self.deadlines.first().copied() {
            if due > now {
                return;
            }
            self.deadlines.remove(&(due, token));
            let shell = Arc::clone(&self.shell);
            match self.conns.get_mut(&token) {
                Some(Conn::Lane(_, socket)) if !socket.is_open() => {
                    // The end shows as an event, also to a caller that looks at the lane just now.
                    socket.shut();
                }
                Some(Conn::Lane(..)) | None => {}
                Some(Conn::Dialling(lane, _)) => {
                    shell.core.lane_lost(lane, None);
                    self.remove(token);
                }
                Some(Conn::Inlet(_)) => {
                    self.strangers -= 1;
                    self.remove(token);
                }
                Some(Conn::Probe(_, probe, _)) => {
                    probe.failed(&shell.core);
                    self.remove(token);
                }
            }
        }
    }
}

impl Accepted {
    /// Reads up to the turn's budget, merging as it goes: one ack for each receive. False when it must close.
    fn read(&mut self, shell: &Shell, fx: &mut Effects<Port>) -> bool {
        let mut budget = TURN_BYTES;
        self.more = false;
        while self.out.len() < ACKS_MAX {
            if budget == 0 || self.inlet.is_held_back(&shell.core) {
                self.more = true;
                return true;
            }
            let space = self.inlet.space();
            let room = space.len();
            bump(&shell.core.counters.sys_recv);
            let n = match sys::recv(self.stream.as_fd(), space, false) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            add(&shell.core.counters.bytes_received, n as u64);
            budget = budget.saturating_sub(n);
            self.inlet.filled(n);
            let result = self.inlet.process(&shell.core, shell.now(), &mut self.out, fx);
            let flushed = self.flush(shell);
            if let Err(error) = result {
                shell.complain(source(&self.stream), "connection", || match self.stream.peer_addr() {
                    Ok(addr) => format!("connection from {addr} (member {}) closed: {error}", self.inlet.member()),
                    Err(_) => format!("connection from member {} closed: {error}", self.inlet.member()),
                });
                return false;
            }
            if !flushed {
                return false;
            }
            // A short read is all there was; what comes later, an end included, makes a new event.
            if n < room {
                return true;
            }
        }
        true
    }

    /// Writes acks. False when the connection is gone.
    fn flush(&mut self, shell: &Shell) -> bool {
        while !self.out.is_empty() {
            bump(&shell.core.counters.sys_send);
            match SockRef::from(&self.stream).send_with_flags(&self.out, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) {
                Ok(n) => {
                    add(&shell.core.counters.bytes_sent, n as u64);
                    self.out.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Goes on with a verification. False when it ended.
fn run_probe(shell: &Shell, stream: &TcpStream, probe: &mut Probe, hello: &mut Vec<u8>) -> bool {
    if !hello.is_empty() {
        let sent = stream.take_error().and_then(|e| match e {
            Some(e) => Err(e),
            None => SockRef::from(stream).send_with_flags(hello, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT),
        });
        match sent {
            Ok(_) => hello.clear(),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return true,
            Err(_) => {
                probe.failed(&shell.core);
                return false;
            }
        }
    }
    match sys::recv(stream.as_fd(), probe.space(), false) {
        Ok(0) => {
            probe.failed(&shell.core);
            false
        }
        Ok(n) => {
            probe.filled(n);
            !probe.process(&shell.core)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => true,
        Err(_) => {
            probe.failed(&shell.core);
            false
        }
    }
}

fn source(stream: &TcpStream) -> Option<IpAddr> {
    stream.peer_addr().ok().map(|addr| addr.ip())
}

fn close(shell: &Shell, conn: &Conn) {
    match conn {
        Conn::Lane(lane, socket) => {
            socket.shut();
            lane.get().port.set_socket(None);
            shell.core.lane_lost(lane, None);
        }
        Conn::Dialling(_, stream) | Conn::Probe(stream, ..) => {
            let _already = stream.shutdown(Shutdown::Both);
        }
        Conn::Inlet(accepted) => {
            let _already = accepted.stream.shutdown(Shutdown::Both);
        }
    }
}
