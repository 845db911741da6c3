//! One socket to each receiver, shared by all threads: whoever finds nobody writing writes for all, whoever finds
//! nobody reading reads for all.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::super::load::Load;
use super::super::measure::Caller;
use super::{ACK, dial, frame, renew, stamp};

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    sockets: Vec<TcpStream>,
    /// Every session's frame. A lock each, never contended: the writer borrows frames whose owners wait.
    frames: Vec<RwLock<Box<[u8]>>>,
    state: Mutex<State>,
    /// Applied by each receiver; its lock goes with the right to read.
    acked: Mutex<Vec<u64>>,
    threads: usize,
    calls: &'a AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions to be written, in order.
    queue: SmallVec<[usize; BATCH]>,
    /// Updates queued so far: the place of an update in the stream.
    queued: u64,
    /// Updates that every receiver has applied.
    acked: u64,
    writing: bool,
    reading: bool,
    failed: bool,
    /// Who waits for which place, in order.
    waiting: VecDeque<(u64, Thread)>,
}

const BATCH: usize = 64;

impl<'a> Shared<'a> {
    pub(super) fn connect(load: &Load, addrs: &[SocketAddr], calls: &'a AtomicU64) -> io::Result<Self> {
        Ok(Self {
            sockets: addrs.iter().map(|addr| dial(*addr, load, true)).collect::<io::Result<_>>()?,
            frames: (0..load.session_count()).map(|session| RwLock::new(frame(session, load.size))).collect(),
            state: Mutex::default(),
            acked: Mutex::new(vec![0; addrs.len()]),
            threads: load.threads.get(),
            calls,
        })
    }

    pub(super) fn callers(&self, load: &Load) -> Vec<Multiplexed<'_>> {
        (0..self.threads)
            .map(|thread| Multiplexed { shared: self, sessions: load.sessions_of(thread).collect() })
            .collect()
    }

    /// The stamps that receivers must hold; closes the sockets.
    pub(super) fn newest(self, newest: &mut [u64]) {
        for (newest, frame) in newest.iter_mut().zip(&self.frames) {
            *newest = stamp(&frame.read());
        }
    }

    fn exchange(&self, session: usize) -> bool {
        renew(&mut self.frames[session].write());
        let mut state = self.state.lock();
        state.queued += 1;
        let place = state.queued;
        state.queue.push(session);
        state.waiting.push_back((place, thread::current()));
        if !state.writing {
            state.writing = true;
            // Threads that are about to queue do so first, and one write carries them all.
            let others = state.waiting.len() < self.threads;
            drop(state);
            if others {
                thread::yield_now();
            }
            let written = self.write_queued();
            state = self.state.lock();
            state.writing = false;
            Self::note(&mut state, written.map(|()| 0));
        }
        while state.acked < place && !state.failed && state.reading {
            drop(state);
            thread::park();
            state = self.state.lock();
        }
        while state.acked < place && !state.failed {
            state.reading = true;
            drop(state);
            let acked = self.read_acks();
            state = self.state.lock();
            state.reading = false;
            Self::note(&mut state, acked);
        }
        // Whoever reads passes the reading on; to one who waits for a reader that is gone, this is its turn.
        if !state.reading
            && let Some((_, next)) = state.waiting.front()
        {
            next.unpark();
        }
        !state.failed
    }

    /// Writes until nothing is queued; the caller holds the right to write.
    fn write_queued(&self) -> io::Result<()> {
        loop {
            let batch = std::mem::take(&mut self.state.lock().queue);
            if batch.is_empty() {
                return Ok(());
            }
            let frames: SmallVec<[_; BATCH]> = batch.iter().map(|session| self.frames[*session].read()).collect();
            for mut socket in &self.sockets {
                let mut slices: SmallVec<[IoSlice<'_>; BATCH]> =
                    frames.iter().map(|frame| IoSlice::new(frame)).collect();
                let mut rest = &mut slices[..];
                while !rest.is_empty() {
                    let n = socket.write_vectored(rest)?;
                    self.calls.fetch_add(1, Ordering::Relaxed);
                    IoSlice::advance_slices(&mut rest, n);
                }
            }
        }
    }

    /// Reads once from the receiver that lags most; returns what all have applied. The caller holds the right to read.
    fn read_acks(&self) -> io::Result<u64> {
        let mut acked = self.acked.lock();
        let lowest = acked.iter().enumerate().rev().min_by_key(|(_, acked)| **acked).map_or(0, |(i, _)| i);
        // Acks are cumulative, equally long and never split: the last of a read counts.
        let mut acks = [0; ACK * BATCH];
        let n = (&self.sockets[lowest]).read(&mut acks)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let last = n.checked_sub(ACK).and_then(|start| acks[start..].first_chunk());
        acked[lowest] = u64::from_le_bytes(*last.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(acked.iter().copied().min().unwrap_or(0))
    }

    /// Notes what all have applied, and wakes those who waited for it.
    fn note(state: &mut State, acked: io::Result<u64>) {
        match acked {
            Ok(acked) => state.acked = state.acked.max(acked),
            Err(_) => state.failed = true,
        }
        let me = thread::current().id();
        while state.waiting.front().is_some_and(|(place, _)| *place <= state.acked || state.failed) {
            if let Some((_, thread)) = state.waiting.pop_front().filter(|(_, thread)| thread.id() != me) {
                thread.unpark();
            }
        }
    }
}

/// One thread's view of the shared socket.
#[derive(Debug)]
pub(super) struct Multiplexed<'a> {
    shared: &'a Shared<'a>,
    sessions: Vec<usize>,
}

impl Caller for Multiplexed<'_> {
    fn slots(&self) -> usize {
        self.sessions.len()
    }

    fn update(&mut self, slot: usize) -> bool {
        self.shared.exchange(self.sessions[slot])
    }
}
