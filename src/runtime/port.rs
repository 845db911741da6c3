//! A lane as the shell holds it: its socket, who writes and who reads.
//!
//! The send half is the drain of [`Outbound`](crate::proto::outbound::Outbound): whoever holds it writes. The receive
//! half is the lock around [`Outlet`]: whoever holds it reads. A synchronous caller writes from its own thread, then
//! reads its own ack if nobody reads (the *leader*); others wait (*followers*), and a leader that has its ack hands
//! the half to one of them. The worker reads where nobody waits.
//!
//! While callers lead, the worker's poll does not watch for readability (`armed` is off), or it would be woken for every
//! ack that a caller reads. A closing connection still wakes it: that changes the socket's state, not its data.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use socket2::SockRef;

use super::{Shell, sys};
use crate::engine::{Effects, LaneRef, Outlet, SessionRef};
use crate::id::Time;
use crate::proto::op::Op;
use crate::proto::outbound::{Drain, Gather, Outbound};
use crate::stats::{add, bump};
use crate::wire::{BY_REFERENCE, FRAME_BYTES_MAX};

/// Bytes and pieces of one `sendmsg`. 256 KiB amortises the call; the kernel's limit of pieces is 1024 (`IOV_MAX`).
pub(super) const WRITE_BYTES: usize = 256 << 10;
const WRITE_PARTS: usize = 1000;
/// Else a frame of many parts would never be gathered.
const _: () = assert!(FRAME_BYTES_MAX / BY_REFERENCE + 2 <= WRITE_PARTS);
/// Writes that one holder of the drain makes before the lane's worker goes on: bounds what a caller does for others.
const WRITES_PER_TURN: usize = 8;

/// What the shell keeps for a lane.
#[derive(Debug)]
pub(crate) struct Port {
    pub(super) worker: usize,
    /// Whether a flush waits in the worker's mailbox.
    queued: AtomicBool,
    socket: RwLock<Option<Arc<LaneSocket>>>,
}

/// One connection of a lane.
#[derive(Debug)]
pub(super) struct LaneSocket {
    pub(super) stream: TcpStream,
    token: Token,
    /// The outbound queue's number of this connection; `u32::MAX` until the handshake is complete.
    generation: AtomicU32,
    outlet: Mutex<Outlet<Port>>,
    followers: Mutex<Vec<(Arc<Op>, Thread)>>,
    armed: Mutex<bool>,
    lost: AtomicBool,
}

impl Port {
    pub(super) fn new(worker: usize) -> Self {
        Self { worker, queued: AtomicBool::new(false), socket: RwLock::new(None) }
    }

    /// Notes that a flush is wanted; true when none waits yet.
    pub(super) fn mark_queued(&self) -> bool {
        !self.queued.load(Ordering::Relaxed) && !self.queued.swap(true, Ordering::AcqRel)
    }

    /// The flush is taken: a later wish counts again.
    pub(super) fn take_queued(&self) {
        self.queued.store(false, Ordering::Release);
    }

    pub(super) fn socket(&self) -> Option<Arc<LaneSocket>> {
        self.socket.read().clone()
    }

    pub(super) fn set_socket(&self, socket: Option<Arc<LaneSocket>>) {
        *self.socket.write() = socket;
    }
}

impl LaneSocket {
    pub(super) fn new(stream: TcpStream, token: Token, outlet: Outlet<Port>) -> Self {
        Self {
            stream,
            token,
            generation: AtomicU32::new(u32::MAX),
            outlet: Mutex::new(outlet),
            followers: Mutex::new(Vec::new()),
            armed: Mutex::new(true),
            lost: AtomicBool::new(false),
        }
    }

    /// Has the worker's poll watch for acks; `again` also when it did already, so that what arrived meanwhile shows.
    fn arm(&self, shell: &Shell, worker: usize, again: bool) {
        let mut armed = self.armed.lock();
        if !*armed || again {
            *armed = true;
            self.watch(shell, worker, Interest::READABLE | Interest::WRITABLE);
        }
    }

    fn disarm(&self, shell: &Shell, worker: usize) {
        let mut armed = self.armed.lock();
        if *armed {
            *armed = false;
            self.watch(shell, worker, Interest::WRITABLE);
        }
    }

    fn watch(&self, shell: &Shell, worker: usize, interest: Interest) {
        bump(&shell.core.counters.sys_ctl);
        let fd = self.stream.as_raw_fd();
        // Fails only when the socket was taken out of the poll, which happens when it is lost.
        let _gone = shell.workers[worker].registry.reregister(&mut SourceFd(&fd), self.token, interest);
    }

    /// Ends the connection; whoever reads it sees the end.
    pub(super) fn shut(&self) {
        let _already = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.generation.load(Ordering::Acquire) != u32::MAX
    }

    /// Whether the connection's end was noted.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Notes the end once.
    pub(super) fn lose(&self, shell: &Shell, outlet: &Outlet<Port>) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            self.shut();
            outlet.lost(&shell.core);
        }
    }

    /// Reads what is there, or waits for something when `wait`; takes it in. False when the connection is gone.
    fn read(&self, shell: &Shell, outlet: &mut Outlet<Port>, wait: bool, fx: &mut Effects<Port>) -> Read {
        if self.is_lost() {
            return Read::Lost;
        }
        let space = outlet.space();
        let room = space.len();
        bump(&shell.core.counters.sys_recv);
        let n = match sys::recv(self.stream.as_fd(), space, wait) {
            Ok(0) => {
                self.lose(shell, outlet);
                return Read::Lost;
            }
            Ok(n) => n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Read::Nothing;
            }
            Err(_) => {
                self.lose(shell, outlet);
                return Read::Lost;
            }
        };
        add(&shell.core.counters.bytes_received, n as u64);
        outlet.filled(n);
        if let Err(error) = outlet.process(&shell.core, shell.now(), fx) {
            let peer = &outlet.lane().peer;
            shell.complain(Some(peer.addr().ip()), "lane", || format!("lane to {} closed: {error}", peer.name()));
            self.lose(shell, outlet);
            return Read::Lost;
        }
        if let Some(generation) = outlet.generation() {
            self.generation.store(generation, Ordering::Release);
        }
        if n == room { Read::Full } else { Read::Some }
    }

    /// The worker's read: everything there is, unless somebody else reads.
    pub(super) fn read_ready(&self, shell: &Shell, fx: &mut Effects<Port>) {
        let Some(mut outlet) = self.outlet.try_lock() else { return };
        while self.read(shell, &mut outlet, false, fx) == Read::Full {}
        let lane = outlet.lane().clone();
        drop(outlet);
        self.hand_on(shell, &lane);
    }

    /// Whoever read is done: a follower goes on, or the worker where acks are still to come.
    fn hand_on(&self, shell: &Shell, lane: &LaneRef<Port>) {
        let mut followers = self.followers.lock();
        followers.retain(|(op, _)| !op.is_done());
        if let Some((_, thread)) = followers.first() {
            thread.unpark();
            return;
        }
        drop(followers);
        if !*self.armed.lock() && lane.get().peek(|o| o.in_flight()) > 0 {
            self.arm(shell, lane.get().port.worker, false);
        }
    }

    fn follow(&self, op: &Arc<Op>) {
        let mut followers = self.followers.lock();
        if !followers.iter().any(|(o, _)| Arc::ptr_eq(o, op)) {
            followers.push((Arc::clone(op), std::thread::current()));
        }
    }

    /// True when it followed.
    fn unfollow(&self, op: &Arc<Op>) -> bool {
        let mut followers = self.followers.lock();
        let before = followers.len();
        followers.retain(|(o, _)| !Arc::ptr_eq(o, op));
        followers.len() < before
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Bytes, and there was room for more.
    Some,
    /// Bytes up to the room: there may be more.
    Full,
    Nothing,
    Lost,
}

thread_local! {
    static GATHER: RefCell<Gather> = RefCell::default();
    static WAKER: Waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes this thread from a park.
pub(super) fn thread_waker() -> Waker {
    WAKER.with(Waker::clone)
}

/// Writes what a lane has, if nobody else does and the socket takes it.
pub(super) fn drain(shell: &Shell, lane: &LaneRef<Port>, fx: &mut Effects<Port>) {
    write_if(shell, lane, fx, Outbound::begin_drain);
}

/// The socket can take more.
pub(super) fn writable(shell: &Shell, lane: &LaneRef<Port>, fx: &mut Effects<Port>) {
    write_if(shell, lane, fx, Outbound::writable);
}

/// Writes where `take` takes the drain.
fn write_if(
    shell: &Shell,
    lane: &LaneRef<Port>,
    fx: &mut Effects<Port>,
    take: impl FnOnce(&mut Outbound<SessionRef>) -> bool,
) {
    GATHER.with_borrow_mut(|gather| {
        if lane.peer.with_lane(lane.lane, |out| begin(out, gather, take)) {
            write(shell, lane, gather, fx);
        }
        gather.clear();
    });
}

/// Takes the drain by `take`, and gathers.
fn begin<T: Clone + PartialEq>(
    out: &mut Outbound<T>,
    gather: &mut Gather,
    take: impl FnOnce(&mut Outbound<T>) -> bool,
) -> bool {
    let begun = take(out);
    if begun {
        out.gather(gather, WRITE_BYTES, WRITE_PARTS);
    }
    begun
}

/// Writes for a caller that waits. Where others wait already, those that share its core and are about to queue do so
/// first, so that one write carries many; where the core is free that costs nothing and waits for nobody.
pub(super) fn drain_together(shell: &Shell, lane: &LaneRef<Port>, fx: &mut Effects<Port>) {
    GATHER.with_borrow_mut(|gather| {
        let begun = lane.peer.with_lane(lane.lane, |out| {
            let alone = out.in_flight() == 0;
            let begun = if alone { begin(out, gather, Outbound::begin_drain) } else { out.begin_drain() };
            begun.then(|| (alone, out.generation()))
        });
        let Some((alone, generation)) = begun else { return };
        if !alone {
            std::thread::yield_now();
            // Where the connection changed meanwhile the drain went with it.
            let same = |out: &mut Outbound<_>| out.generation() == generation;
            if !lane.peer.with_lane(lane.lane, |out| begin(out, gather, same)) {
                return;
            }
        }
        write(shell, lane, gather, fx);
        gather.clear();
    });
}

fn write(shell: &Shell, lane: &LaneRef<Port>, gather: &mut Gather, fx: &mut Effects<Port>) {
    for _ in 0..WRITES_PER_TURN {
        let socket = lane.get().port.socket();
        let Some(socket) = socket.filter(|s| s.generation.load(Ordering::Acquire) == gather.generation()) else {
            // The connection changed under the gathered bytes: who opens the next one writes. Or it is just opening, and
            // whoever opened it found the drain held: then the worker, which opens, writes after that.
            let wanted = lane.peer.with_lane(lane.lane, |out| {
                out.yield_drain(gather);
                out.wants_drain()
            });
            if wanted {
                shell.flush_later(lane.clone());
            }
            return;
        };
        let (n, full) = match send(shell, &socket.stream, gather) {
            Ok(n) => (n, n < gather.len),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => (0, true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (0, false),
            Err(_) => {
                // The reader sees the end and says so.
                socket.shut();
                lane.peer.with_lane(lane.lane, |out| out.yield_drain(gather));
                return;
            }
        };
        if shell.core.wrote(lane, gather, n, full, fx) == Drain::Released {
            return;
        }
        lane.peer.with_lane(lane.lane, |out| out.gather(gather, WRITE_BYTES, WRITE_PARTS));
        if gather.len == 0 {
            break;
        }
    }
    // Others' work goes to the worker.
    lane.peer.with_lane(lane.lane, |out| out.yield_drain(gather));
    shell.flush_later(lane.clone());
}

fn send(shell: &Shell, stream: &TcpStream, gather: &Gather) -> io::Result<usize> {
    bump(&shell.core.counters.sys_send);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    if let [one] = gather.parts.as_slice() {
        return SockRef::from(stream).send_with_flags(one, flags);
    }
    let slices: SmallVec<[IoSlice<'_>; 64]> = gather.parts.iter().map(|part| IoSlice::new(part)).collect();
    // Not `write_vectored`: on a closed socket that raises SIGPIPE, which kills a host that did not ask to ignore it.
    SockRef::from(stream).send_vectored_with_flags(&slices, flags)
}

/// Waits for an op until the deadline, reading acks from the lanes it was written to where nobody else reads.
pub(super) fn wait(shell: &Shell, lanes: &[LaneRef<Port>], op: &Arc<Op>, deadline: Time) {
    if op.is_done() || !op.set_waker(thread_waker()) {
        // Nothing is waited for, and so no caller will read the acks that are still to come.
        for lane in lanes {
            if let Some(socket) = lane.get().port.socket() {
                socket.hand_on(shell, lane);
            }
        }
        return;
    }
    let mut fx = Effects::default();
    while !op.is_done() && !shell.is_closed() {
        let mut led = false;
        for at in 0..lanes.len() {
            led |= lead(shell, lanes, at, op, deadline, &mut fx);
        }
        let now = shell.now();
        if now >= deadline {
            bump(&shell.core.counters.ack_timeouts);
            break;
        }
        // Having led, it follows nobody: another round either leads or follows before it sleeps.
        if !led && !op.is_done() {
            std::thread::park_timeout(deadline - now);
        }
    }
    let done = op.is_done();
    for lane in lanes {
        if let Some(socket) = lane.get().port.socket() {
            let followed = socket.unfollow(op);
            if followed && !done {
                // It may have been the one that a reader handed on to.
                socket.hand_on(shell, lane);
            }
        }
    }
}

/// Reads a lane until the op has its answer from that member, if nobody else reads, and says so; else follows whoever
/// does.
fn lead(
    shell: &Shell,
    lanes: &[LaneRef<Port>],
    at: usize,
    op: &Arc<Op>,
    deadline: Time,
    fx: &mut Effects<Port>,
) -> bool {
    let lane = &lanes[at];
    if !op.waits_for(lane.peer.id()) {
        return false;
    }
    let port = &lane.get().port;
    let Some(socket) = port.socket() else { return false };
    let mut outlet = match socket.outlet.try_lock() {
        Some(outlet) => outlet,
        None => {
            // Join first, then try again: the reader may have looked for followers just before.
            socket.follow(op);
            match socket.outlet.try_lock() {
                Some(outlet) => outlet,
                None => return false,
            }
        }
    };
    if !outlet.is_open() || socket.is_lost() {
        return false;
    }
    // While this thread sleeps in a receive it can take nothing over on another lane.
    for other in lanes {
        if let Some(socket) = other.get().port.socket()
            && socket.unfollow(op)
            && !socket.outlet.is_locked()
        {
            // It may have been the one that a reader handed on to; one that still reads hands on when it is done.
            socket.hand_on(shell, other);
        }
    }
    socket.disarm(shell, port.worker);
    while op.waits_for(lane.peer.id()) && !shell.is_closed() {
        // What came while this thread waited on another lane is read past the deadline too: it may hold the answer.
        let wait = shell.now() < deadline;
        let read = socket.read(shell, &mut outlet, wait, fx);
        // Others' acks came too: they are woken before the next receive.
        shell.apply(fx);
        if read == Read::Lost || (!wait && read != Read::Full) {
            break;
        }
        // An ack that overtook the writer's word settles with that, not with another receive: the writer is between two
        // instructions, and on one core it needs this one.
        while lane.get().peek(Outbound::has_early_ack) && op.waits_for(lane.peer.id()) {
            std::thread::yield_now();
        }
    }
    drop(outlet);
    socket.hand_on(shell, lane);
    true
}

/// What a flush by the worker does.
pub(super) fn flush(shell: &Shell, lane: &LaneRef<Port>, fx: &mut Effects<Port>) {
    lane.get().port.take_queued();
    drain_and_watch(shell, lane, fx);
}

/// Writes for whom nobody waits: from now on the worker watches for the acks.
pub(super) fn drain_and_watch(shell: &Shell, lane: &LaneRef<Port>, fx: &mut Effects<Port>) {
    drain(shell, lane, fx);
    let port = &lane.get().port;
    if let Some(socket) = port.socket() {
        socket.arm(shell, port.worker, false);
    }
}
