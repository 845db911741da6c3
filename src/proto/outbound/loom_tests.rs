//! The drain of a lane, in every order of threads: what is pushed is written, or somebody is left who will.
//!
//! The lane is the real [`Outbound`] under the checker's lock; [`Lane`] follows the rules of the shell (`runtime/port.rs`)
//! step by step, with a socket that counts. When all threads have ended, the flushes that wait in the worker's mailbox
//! are taken, the socket becomes writable where it said that it was full, and then everything must be written.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom` runs this and the other loom tests.

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::*;

const FRAME: usize = 16;
/// The number of a connection before its handshake is complete, as in the shell.
const NOT_OPEN: u32 = u32::MAX;
/// Fewer than in the shell, so that a holder gives the drain up with something left.
const WRITES_PER_TURN: usize = 1;

/// Every order with up to three switches where a thread could have gone on; `LOOM_MAX_PREEMPTIONS` says otherwise.
fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(run);
}

struct Lane {
    out: Mutex<Outbound<u32>>,
    /// The connection that the socket belongs to.
    socket: AtomicU32,
    buffer: Mutex<Buffer>,
    /// Whether a flush waits in the worker's mailbox.
    queued: AtomicBool,
    /// Connections that somebody gathered for and has not yet said what was written. Not the checker's: it only looks.
    holders: std::sync::Mutex<Vec<u32>>,
}

/// What the socket takes: one thing at a time, as the system does.
struct Buffer {
    /// Bytes before it is full.
    room: usize,
    /// It was full: an event comes once there is room.
    was_full: bool,
}

impl Lane {
    /// An open lane; its socket takes so many frames.
    fn open(frames: usize) -> Arc<Self> {
        let lane = Self::closed(frames);
        lane.connect();
        lane.socket.store(lane.with(|out| out.generation()), Ordering::Release);
        lane
    }

    fn closed(frames: usize) -> Arc<Self> {
        Arc::new(Self {
            out: Mutex::new(Outbound::new(MemberId(7))),
            socket: AtomicU32::new(NOT_OPEN),
            buffer: Mutex::new(Buffer { room: frames * FRAME, was_full: false }),
            queued: AtomicBool::new(false),
            holders: std::sync::Mutex::default(),
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Outbound<u32>) -> R) -> R {
        f(&mut self.out.lock().unwrap())
    }

    fn push(&self) {
        self.with(|out| out.push(&[frame()], &Content::Session(1), None));
    }

    /// `runtime::port::drain`.
    fn drain(&self) {
        self.drain_by(Outbound::begin_drain);
    }

    fn drain_by(&self, take: impl FnOnce(&mut Outbound<u32>) -> bool) {
        let mut gather = Gather::default();
        let begun = self.with(|out| {
            let begun = begin(out, &mut gather, take);
            if begun {
                let mut holders = self.holders.lock().unwrap();
                assert!(!holders.contains(&gather.generation()), "two write to one connection");
                holders.push(gather.generation());
            }
            begun
        });
        if begun {
            self.write(&mut gather);
        }
    }

    /// `runtime::port::drain_together`.
    fn drain_together(&self) {
        let held = self.with(|out| {
            let others = out.in_flight() > 0;
            (others && out.begin_drain()).then(|| out.generation())
        });
        let Some(generation) = held else { return self.drain() };
        thread::yield_now();
        self.drain_by(|out| out.generation() == generation);
    }

    /// `runtime::port::write`.
    fn write(&self, gather: &mut Gather) {
        for _ in 0..WRITES_PER_TURN {
            if self.socket.load(Ordering::Acquire) != gather.generation() {
                return self.give_up_drain(gather);
            }
            let n = self.send(gather.len);
            let drain = self.with(|out| {
                let drain = out.wrote(gather, n, n < gather.len, &mut Wakes::new());
                if drain == Drain::Released {
                    self.released(gather);
                }
                drain
            });
            if drain == Drain::Released {
                return;
            }
            self.with(|out| out.gather(gather, FRAME, 1));
            if gather.len == 0 {
                break;
            }
        }
        self.with(|out| {
            out.yield_drain(gather);
            self.released(gather);
        });
        self.flush_later();
    }

    fn released(&self, gather: &Gather) {
        self.holders.lock().unwrap().retain(|held| *held != gather.generation());
    }

    /// The connection changed under the gathered bytes.
    fn give_up_drain(&self, gather: &Gather) {
        let wanted = self.with(|out| {
            out.yield_drain(gather);
            self.released(gather);
            out.wants_drain()
        });
        if wanted {
            self.flush_later();
        }
    }

    fn send(&self, len: usize) -> usize {
        let mut buffer = self.buffer.lock().unwrap();
        let n = buffer.room.min(len);
        buffer.room -= n;
        buffer.was_full |= n < len;
        n
    }

    /// `Shell::flush_later`.
    fn flush_later(&self) {
        let _posted = !self.queued.load(Ordering::Relaxed) && !self.queued.swap(true, Ordering::AcqRel);
    }

    /// What the worker does with a flush that waits.
    fn flush(&self) {
        if self.queued.load(Ordering::Acquire) {
            self.queued.store(false, Ordering::Release);
            self.drain();
        }
    }

    /// What the worker does with an event of a socket that was full.
    fn make_room(&self, frames: usize) {
        let was_full = {
            let mut buffer = self.buffer.lock().unwrap();
            buffer.room += frames * FRAME;
            std::mem::take(&mut buffer.was_full)
        };
        if was_full {
            self.drain_by(Outbound::writable);
        }
    }

    /// A connection ends.
    fn lose(&self) {
        self.socket.store(NOT_OPEN, Ordering::Release);
        self.with(Outbound::close);
    }

    /// A handshake is complete. The socket gets its number afterwards, and a flush after that.
    fn connect(&self) {
        let unacked = self.with(Outbound::take_unacked);
        let again = unacked.into_iter().map(|u| (SmallVec::from_iter([frame()]), u.content, u.ops)).collect();
        self.with(|out| out.open(again));
    }

    fn connected(&self) {
        self.socket.store(self.with(|out| out.generation()), Ordering::Release);
        self.flush_later();
        self.flush();
    }

    /// When all threads have ended: the worker goes on, and then so many frames are written.
    fn ends_with(&self, frames: usize) {
        while self.queued.load(Ordering::Acquire) || self.buffer.lock().unwrap().was_full {
            self.flush();
            self.make_room(frames);
        }
        assert_eq!(self.with(|out| (out.in_flight(), out.len(), out.unwritten())), (frames, frames, 0));
        self.push();
        assert!(self.with(Outbound::begin_drain), "nobody holds the drain");
    }
}

/// `runtime::port::begin`.
fn begin(out: &mut Outbound<u32>, gather: &mut Gather, take: impl FnOnce(&mut Outbound<u32>) -> bool) -> bool {
    let begun = take(out);
    if begun {
        out.gather(gather, FRAME, 1);
    }
    begun
}

fn frame() -> FrameOut {
    FrameOut { parts: SmallVec::from_iter([Slice::copy_from(&[1; FRAME])]), len: FRAME }
}

/// Runs one beside the others.
fn beside(lane: &Arc<Lane>, act: impl FnOnce(&Lane) + 'static) -> thread::JoinHandle<()> {
    let lane = Arc::clone(lane);
    thread::spawn(move || act(&lane))
}

#[test]
fn what_is_pushed_beside_a_write_is_written() {
    model(|| {
        let lane = Lane::open(9);
        let caller = |lane: &Lane| {
            lane.push();
            lane.drain();
        };
        let threads = [beside(&lane, caller), beside(&lane, caller)];
        lane.flush();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        lane.ends_with(2);
    });
}

#[test]
fn what_is_pushed_while_the_drain_is_held_over_a_yield_is_written() {
    model(|| {
        let lane = Lane::open(9);
        lane.push();
        lane.drain();
        let together = |lane: &Lane| {
            lane.push();
            lane.drain_together();
        };
        let threads = [beside(&lane, together), beside(&lane, together)];
        lane.flush();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        lane.ends_with(3);
    });
}

#[test]
fn a_socket_that_was_full_is_written_when_it_has_room() {
    model(|| {
        let lane = Lane::open(1);
        lane.push();
        lane.drain();
        let thread = beside(&lane, |lane| {
            lane.push();
            lane.drain_together();
        });
        lane.push();
        lane.drain();
        lane.make_room(1);
        thread.join().unwrap();
        lane.ends_with(3);
    });
}

#[test]
fn what_is_pushed_while_the_lane_opens_is_written() {
    model(|| {
        let lane = Lane::closed(9);
        let thread = beside(&lane, |lane| {
            lane.push();
            lane.drain();
        });
        lane.connect();
        lane.connected();
        thread.join().unwrap();
        lane.ends_with(1);
    });
}

#[test]
fn a_drain_held_over_a_yield_goes_with_its_connection() {
    model(|| {
        let lane = Lane::open(9);
        lane.push();
        lane.drain();
        let thread = beside(&lane, |lane| {
            lane.push();
            lane.drain_together();
        });
        lane.lose();
        lane.connect();
        lane.connected();
        thread.join().unwrap();
        lane.ends_with(2);
    });
}
