//! The thin shell on mio: the only room of the core with clocks, sockets and threads.
//!
//! One control loop owns [`Control`], the multicast socket and the listener. `tcpThreadCount`
//! workers each own a `Poll` and the connections dealt to them for life. Callers write inline and may read their own
//! ack (see `port`). No rule of replication lives here: the shell moves bytes and time, and does what
//! [`Effects`] and [`Action`](crate::engine::Action) say.

pub mod affinity;
mod control;
#[cfg(all(test, loom))]
mod loom_tests;
mod mailbox;
mod port;
mod socket;
mod sys;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use crate::config::Config;
use crate::engine::{Control, ControlSettings, Core, CoreSettings, Effects, LaneRef};
use crate::id::{MemberId, Time};
use crate::proto::link::Identity;
use crate::proto::op::Op;
use crate::proto::outbound::Outbound;
use crate::session::{Limits, Settings};
use crate::stats::bump;
use crate::wire;

use self::control::ControlLoop;
use self::mailbox::Mailbox;
pub(crate) use self::port::Port;
pub use self::socket::multicast_socket;
pub(crate) use self::sys::spawn;
use self::worker::{Command, Worker};

/// What a mailbox is made of; the loom tests make it of other parts.
mod parts {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) use crossbeam::queue::SegQueue;
    pub(super) use mio::Waker;
}

/// Members at most, this node not counted.
const MEMBERS_MAX: usize = 256;
/// A complaint about the same kind of trouble from the same source is logged once in this time.
const COMPLAINT_INTERVAL: Time = Time::from_secs(60);
/// Sources and kinds that are complained of in that time, at most.
const COMPLAINTS_MAX: usize = 256;
/// Contexts at most.
const CONTEXTS_MAX: usize = 1024;

/// Why the shell did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShellError {
    /// The receiver's address, and what the system said.
    Bind(SocketAddr, io::Error),
    /// The interface and group, and what the system said.
    Multicast(String, io::Error),
    /// A thread or a poll could not be made.
    Thread(io::Error),
    /// The system gave no randomness.
    Random(String),
}

/// What all threads of a running node share.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) core: Arc<Core<Port>>,
    pub(crate) config: Config,
    /// On the monotonic clock.
    started: Duration,
    workers: Vec<WorkerHandle>,
    control: Mailbox<ControlCommand>,
    status: Mutex<Status>,
    changed: Condvar,
    /// What was complained of in the last minute, by source and kind.
    complaints: Mutex<BTreeMap<(Option<IpAddr>, &'static str), Time>>,
    forks: u32,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Status {
    ready: bool,
    left: bool,
    closed: bool,
    waiting_for: String,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) mailbox: Mailbox<Command>,
    pub(crate) registry: mio::Registry,
}

/// What the control loop can be told.
#[derive(Debug)]
pub(crate) enum ControlCommand {
    Leave,
    Stop,
}

/// Now, as the core counts time.
#[expect(clippy::disallowed_methods, reason = "the shell is where time comes from")]
fn instant_now() -> Instant {
    Instant::now()
}

fn random_u64() -> Result<u64, ShellError> {
    getrandom::u64().map_err(|e| ShellError::Random(e.to_string()))
}

impl Shell {
    /// Binds, makes the node's parts and starts the threads.
    pub(crate) fn start(config: Config) -> Result<Arc<Self>, ShellError> {
        let started = sys::monotonic();
        let seed = random_u64()?;
        let member = loop {
            let id = MemberId(random_u64()?);
            if id != MemberId::NONE {
                break id;
            }
        };
        let listener = socket::listen(&config)?;
        let addr = listener.local_addr().map_err(|e| ShellError::Bind(SocketAddr::new(config.bind, config.port), e))?;
        let multicast = socket::join(&config)?;
        let identity = Identity {
            member,
            cluster: wire::cluster_tag(&config.cluster),
            name: config.name.clone(),
            addr,
            versions: wire::PROTOCOL,
        };
        let core = Arc::new(Core::new(core_settings(&config, identity, seed)));
        let worker_count = config.workers.max(1);
        let make_port =
            Box::new(move |member: MemberId, lane: usize| Port::new(lane_worker(member, lane, worker_count)));
        let control = Control::new(Arc::clone(&core), control_settings(&config, seed), make_port, Time::ZERO);

        let mut polls = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..worker_count {
            let poll = mio::Poll::new().map_err(ShellError::Thread)?;
            let waker = mio::Waker::new(poll.registry(), worker::WAKE).map_err(ShellError::Thread)?;
            let registry = poll.registry().try_clone().map_err(ShellError::Thread)?;
            workers.push(WorkerHandle { mailbox: Mailbox::new(waker), registry });
            polls.push(poll);
        }
        let control_poll = mio::Poll::new().map_err(ShellError::Thread)?;
        let waker = mio::Waker::new(control_poll.registry(), control::WAKE).map_err(ShellError::Thread)?;
        let shell = Arc::new(Self {
            core,
            config,
            started,
            workers,
            control: Mailbox::new(waker),
            status: Mutex::new(Status::default()),
            changed: Condvar::new(),
            complaints: Mutex::default(),
            forks: sys::forks(),
            closing: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (index, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(Arc::clone(&shell), index, poll);
            threads.push(spawn(&format!("hotspare-io-{index}"), move || worker.run()).map_err(ShellError::Thread)?);
        }
        let control = ControlLoop::new(Arc::clone(&shell), control, control_poll, multicast, listener)
            .map_err(ShellError::Thread)?;
        threads.push(spawn("hotspare-ctl", move || control.run()).map_err(ShellError::Thread)?);
        shell.status.lock().threads = threads;
        Ok(shell)
    }

    /// Monotonic time since the start.
    pub(crate) fn now(&self) -> Time {
        sys::monotonic().saturating_sub(self.started)
    }

    /// The same as of the system's last tick: for what counts in milliseconds and is asked for twice in each request.
    pub(crate) fn recent(&self) -> Time {
        sys::ticks().saturating_sub(self.started)
    }

    /// Logs one kind of trouble with one source at most once a minute; what others make happen must not fill a disk.
    fn complain(&self, source: Option<IpAddr>, kind: &'static str, what: impl FnOnce() -> String) {
        let now = self.now();
        let mut complaints = self.complaints.lock();
        complaints.retain(|_, at| now < *at + COMPLAINT_INTERVAL);
        if complaints.len() >= COMPLAINTS_MAX || complaints.contains_key(&(source, kind)) {
            return;
        }
        complaints.insert((source, kind), now);
        drop(complaints);
        log::warn!("{} (further ones are counted for a minute)", what());
    }

    /// Whether this is a forked child, in which the threads do not exist.
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != sys::forks()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Does what a call into the engine left to do: other callers' wake-ups, and lanes by their workers.
    fn apply(&self, fx: &mut Effects<Port>) {
        for waker in fx.wakes.drain(..) {
            waker.wake();
        }
        for lane in fx.kick.drain(..) {
            self.flush_later(lane);
        }
        if !self.core.inputs().is_empty() && self.control.wake() {
            bump(&self.core.counters.sys_wake);
        }
    }

    /// Has a lane's worker write it, and read its acks.
    fn flush_later(&self, lane: LaneRef<Port>) {
        let port = &lane.get().port;
        if port.mark_queued() {
            let worker = &self.workers[port.worker];
            if worker.mailbox.post(Command::Flush(lane)) {
                bump(&self.core.counters.sys_wake);
            }
        }
    }

    /// After a commit of a caller that does not wait: the workers write, unless there is as much as one write takes. Then
    /// the caller does it, while the bytes are in its cache; a queue that grows faster than its worker writes would
    /// only make every frame a cold one (measured with 16 callers on one core: 8 % more updates/s).
    pub(crate) fn hand_over(&self, mut fx: Effects<Port>) {
        // The lane's lock is taken only where all lanes together have enough.
        let is_full = |lane: &LaneRef<Port>| {
            lane.peer.queued() >= port::WRITE_BYTES && lane.get().peek(Outbound::unwritten) >= port::WRITE_BYTES
        };
        if fx.kick.iter().any(is_full) {
            let (full, rest): (SmallVec<[_; 4]>, _) = std::mem::take(&mut fx.kick).into_iter().partition(is_full);
            fx.kick = rest;
            for lane in &full {
                port::drain_and_watch(self, lane, &mut fx);
            }
        }
        self.apply(&mut fx);
    }

    /// After a commit of a caller that waits: it writes inline, and reads its own acks where it can.
    pub(crate) fn write_and_wait(&self, mut fx: Effects<Port>, op: &Arc<Op>, deadline: Time) {
        let lanes = std::mem::take(&mut fx.kick);
        for lane in &lanes {
            port::drain_together(self, lane, &mut fx);
        }
        self.apply(&mut fx);
        port::wait(self, &lanes, op, deadline);
    }

    /// Waits on an op whose frames the workers write.
    pub(crate) fn wait(&self, op: &Arc<Op>, deadline: Time) {
        port::wait(self, &[], op, deadline);
    }

    /// Waits while a member's queue is above high water, at most until the deadline.
    pub(crate) fn wait_for_space(&self, deadline: Time) {
        let waker = port::thread_waker();
        while self.core.is_pressed() && !self.is_closed() {
            self.core.wake_on_space(Waker::clone(&waker));
            let now = self.now();
            if now >= deadline || !self.core.is_pressed() {
                return;
            }
            std::thread::park_timeout(deadline - now);
        }
    }

    /// Waits until the node is ready; the error says what is waited for.
    pub(crate) fn wait_ready(&self, timeout: Duration) -> Result<(), String> {
        let deadline = instant_now() + timeout;
        let mut status = self.status.lock();
        while !status.ready {
            if status.closed {
                return Err(String::from("nothing: the node is closed"));
            }
            if self.changed.wait_until(&mut status, deadline).timed_out() && !status.ready {
                return Err(status.waiting_for.clone());
            }
        }
        Ok(())
    }

    /// Waits until everything queued is acknowledged.
    pub(crate) fn drain(&self, timeout: Duration) -> bool {
        // Acks arrive at the workers without a signal of their own; a drain is rare and may look now and then.
        let deadline = self.now() + timeout;
        loop {
            if self.core.is_drained() {
                return true;
            }
            if self.now() >= deadline || self.is_closed() {
                return false;
            }
            for peer in &self.core.roster().peers {
                for lane in 0..peer.lanes().len() {
                    self.flush_later(LaneRef { peer: Arc::clone(peer), lane });
                }
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Tells the members that this node goes, then stops.
    pub(crate) fn leave(&self, timeout: Duration) {
        self.drain(timeout);
        if !self.is_closed() {
            self.control.post(ControlCommand::Leave);
            let deadline = instant_now() + timeout.max(Duration::from_millis(100));
            let mut status = self.status.lock();
            while !status.left && !status.closed {
                if self.changed.wait_until(&mut status, deadline).timed_out() {
                    break;
                }
            }
            drop(status);
            self.drain(timeout.min(Duration::from_millis(500)));
        }
        self.close();
    }

    /// Stops the threads and closes every socket.
    pub(crate) fn close(&self) {
        if self.closing.swap(true, Ordering::AcqRel) || self.is_forked() {
            return;
        }
        self.control.post(ControlCommand::Stop);
        for worker in &self.workers {
            worker.mailbox.post(Command::Stop);
        }
        let threads = std::mem::take(&mut self.status.lock().threads);
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                log::error!("a thread of the node panicked");
            }
        }
        self.note(|s| s.closed = true);
    }

    fn note(&self, f: impl FnOnce(&mut Status)) {
        f(&mut self.status.lock());
        self.changed.notify_all();
    }
}

/// Spreads lanes over workers: the lanes of one member over different ones, those of different members evenly.
fn lane_worker(member: MemberId, lane: usize, workers: usize) -> usize {
    let first = usize::try_from(member.0 % workers as u64).unwrap_or(0);
    (first + lane) % workers
}

fn core_settings(config: &Config, identity: Identity, seed: u64) -> CoreSettings {
    CoreSettings {
        identity,
        lanes: config.lane_count(),
        limits: Limits {
            value_bytes_max: config.value_bytes_max,
            session_bytes_max: config.session_bytes_max,
            store_bytes_max: config.store_bytes_max,
            tombstones_max: config.tombstones_max,
            contexts_max: CONTEXTS_MAX,
        },
        sessions: Settings {
            max_idle: config.max_idle,
            idle_grace: config.idle_grace,
            touch_interval: config.touch_interval,
            horizon: config.max_idle.saturating_add(config.partition_max),
        },
        high_water: config.high_water,
        low_water: config.low_water,
        queue_bytes_max: config.queue_bytes_max,
        event_queue: config.event_queue,
        session_events: config.session_events,
        seed,
    }
}

fn control_settings(config: &Config, seed: u64) -> ControlSettings {
    ControlSettings {
        frequency: config.frequency,
        drop_time: config.drop_time,
        verify_timeout: config.verify_timeout,
        state_transfer_timeout: config.state_transfer_timeout,
        partition_max: config.partition_max,
        queue_wait: config.queue_wait,
        members_max: MEMBERS_MAX,
        seed,
    }
}
