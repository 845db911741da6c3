//! The agent's loop: one poll, the listener, the connections, and who is due.
//!
//! Connections take turns; one that waits for copies is not looked at until its ticket, its deadline or its socket
//! calls. Everything is bounded: connections, what each may buffer, and what all buffer together.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};

use super::connection::{Connection, READ_BYTES, Turn};
use super::host::Host;
use crate::id::Time;

/// Events of one poll.
const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Buffers of one connection up to this size are never too much.
const FREE_BYTES: usize = 64 << 10;
/// How long a listener rests that could not accept, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// As in Redis: a client that vanished without a word is found out.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// What other threads may touch.
#[derive(Debug)]
pub(crate) struct Remote {
    waker: mio::Waker,
    stop: AtomicBool,
    /// Connections that a ticket called for; each stands here once at most.
    woken: Mutex<Vec<usize>>,
}

impl Remote {
    pub(crate) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            waker: mio::Waker::new(poll.registry(), WAKER)?,
            stop: AtomicBool::new(false),
            woken: Mutex::default(),
        })
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("agent: cannot wake the loop: {error}");
        }
    }
}

/// Gives a connection its turn, from any thread.
#[derive(Debug)]
struct Call {
    remote: Arc<Remote>,
    slot: usize,
    called: AtomicBool,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut woken = self.remote.woken.lock();
        woken.push(self.slot);
        // Whoever came first has woken the loop already.
        let first = woken.len() == 1;
        drop(woken);
        if first {
            self.remote.wake();
        }
    }
}

/// A connection and what the loop knows of it.
#[derive(Debug)]
struct Slot {
    connection: Connection,
    call: Arc<Call>,
    /// It stands in `due`.
    queued: bool,
    /// Its entry in `timers`; not later than its deadline.
    timer: Option<Time>,
    /// Its share of `buffered`.
    bytes: usize,
}

/// The state of the loop.
#[derive(Debug)]
pub(crate) struct Server {
    host: Host,
    poll: Poll,
    listener: TcpListener,
    remote: Arc<Remote>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Connections that want a turn.
    due: VecDeque<usize>,
    timers: BTreeSet<(Time, usize)>,
    /// When the listener is tried again.
    accept_at: Option<Time>,
    /// Bytes that all connections hold.
    buffered: usize,
    clients_seen: u64,
    scratch: Box<[u8]>,
}

impl Server {
    pub(crate) fn new(host: Host, poll: Poll, mut listener: TcpListener, remote: Arc<Remote>) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            host,
            poll,
            listener,
            remote,
            slots: Vec::new(),
            free: Vec::new(),
            due: VecDeque::new(),
            timers: BTreeSet::new(),
            accept_at: None,
            buffered: 0,
            clients_seen: 0,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// Serves until it is stopped.
    pub(crate) fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.remote.stop.load(Ordering::Acquire) {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                log::error!("agent: cannot poll, stopping: {error}");
                return;
            }
            let now = self.host.node.now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_at = Some(now),
                    WAKER => {}
                    Token(slot) => {
                        if let Some(slot) = self.slots.get_mut(slot).and_then(Option::as_mut) {
                            slot.connection.notice(event);
                        }
                        self.enqueue(slot);
                    }
                }
            }
            self.collect_calls();
            self.collect_timers(now);
            self.accept(now);
            // Only those that are due now: whoever wants another turn waits until the sockets were looked at.
            for _ in 0..self.due.len() {
                if let Some(slot) = self.due.pop_front() {
                    self.turn(slot, now);
                }
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = timer.into_iter().chain(self.accept_at).min()?;
        Some(next.saturating_sub(self.host.node.now()))
    }

    fn collect_calls(&mut self) {
        let woken = std::mem::take(&mut *self.remote.woken.lock());
        for slot in woken {
            if let Some(slot) = self.slots.get(slot).and_then(Option::as_ref) {
                // Acquires what the caller did before it called, even where this call is the last one merged into it.
                slot.call.called.swap(false, Ordering::AcqRel);
            }
            self.enqueue(slot);
        }
    }

    fn collect_timers(&mut self, now: Time) {
        while let Some(&(at, index)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) {
                slot.timer = None;
            }
            self.enqueue(index);
        }
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut)
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.due.push_back(index);
        }
    }

    fn accept(&mut self, now: Time) {
        if self.accept_at.is_none_or(|at| at > now) {
            return;
        }
        self.accept_at = None;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream) {
                        log::debug!("agent: a client was lost at once: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    log::warn!("agent: cannot accept, trying again in {ACCEPT_PAUSE:?}: {error}");
                    self.accept_at = Some(now.saturating_add(ACCEPT_PAUSE));
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        if self.host.clients >= self.host.settings.clients_max {
            // It fits into an empty socket buffer, or is not needed.
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
            return Ok(());
        }
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        let index = self.free.pop().unwrap_or(self.slots.len());
        if let Err(error) =
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
        {
            if index < self.slots.len() {
                self.free.push(index);
            }
            return Err(error);
        }
        self.clients_seen += 1;
        self.host.clients += 1;
        let call = Arc::new(Call { remote: Arc::clone(&self.remote), slot: index, called: AtomicBool::new(false) });
        let connection = Connection::new(stream, self.clients_seen, Waker::from(Arc::clone(&call)), &self.host);
        let slot = Some(Slot { connection, call, queued: false, timer: None, bytes: 0 });
        match self.slots.get_mut(index) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        Ok(())
    }

    fn turn(&mut self, index: usize, now: Time) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        slot.queued = false;
        let mut next = slot.connection.turn(&mut self.host, &mut self.scratch, now);

        let bytes = slot.connection.bytes();
        let grown = bytes > slot.bytes.max(FREE_BYTES);
        self.buffered = self.buffered - slot.bytes + bytes;
        slot.bytes = bytes;
        if grown && self.buffered > self.host.settings.buffer_bytes_max {
            log::warn!(
                "agent: clients' buffers are over {} bytes; closing the one that grew",
                self.host.settings.buffer_bytes_max
            );
            next = Turn::Close;
        }

        match next {
            Turn::Close => return self.close(index),
            Turn::Again => {
                slot.queued = true;
                self.due.push_back(index);
            }
            Turn::Idle => {}
        }
        // An entry that is early costs one turn; moving it with every reply would cost more.
        if let Some(at) = slot.connection.deadline(now)
            && slot.timer.is_none_or(|timer| at < timer)
        {
            if let Some(timer) = slot.timer.replace(at) {
                self.timers.remove(&(timer, index));
            }
            self.timers.insert((at, index));
        }
    }

    fn close(&mut self, index: usize) {
        let Some(mut slot) = self.slots.get_mut(index).and_then(Option::take) else { return };
        if let Some(timer) = slot.timer {
            self.timers.remove(&(timer, index));
        }
        // Fails only for a socket that was never registered; closing it has the same effect.
        let _ = self.poll.registry().deregister(slot.connection.stream());
        self.buffered -= slot.bytes;
        self.host.clients -= 1;
        self.free.push(index);
    }
}
