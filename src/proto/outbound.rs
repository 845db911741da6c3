//! The send half of a lane: what is queued, what is in flight, and what an ack settles.
//!
//! One `Outbound` belongs to one lane for the life of its peer; connections come and go beneath it. It owns the
//! order of the lane: frames are numbered by counting, from 1, those written after the handshake of the present
//! connection. Whoever holds the *drain* (one at a time) gathers and writes; everybody else only pushes.
//!
//! Invariants: `entries[..sent]` are written whole and unacknowledged, `entries[sent]` may be written in part,
//! and the bytes of frames not yet written whole are `unwritten`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::buffer::Slice;
use crate::id::{AckLevel, MemberId};
use crate::mark::hit;
use crate::mutant::planted;
use crate::proto::op::{MissingReason, Op};
use crate::wire::{Ack, FrameOut, RefusedCode};

/// Frames written and not yet acknowledged, at most; above it nothing more is written until acks come.
pub const WINDOW_MAX: usize = 1 << 16;

/// Who waits for a frame: nobody, one change, or after a reconnect several changes of one session.
pub type Ops = SmallVec<[Arc<Op>; 1]>;

/// What a frame stands for, so that it can be sent again after a reconnect. `T` names a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<T> {
    /// The state of a session: sent again as whatever the state is then.
    Session(T),
    /// A control message: sent again as it is.
    Control,
}

/// Connections of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// No connection, or one whose handshake is not complete: frames queue.
    Closed,
    /// Writing.
    Open,
}

/// One frame of the lane.
#[derive(Debug)]
pub struct Entry<T> {
    /// The bytes; given up once written, except for control messages.
    frame: Option<FrameOut>,
    content: Content<T>,
    /// Who still waits for it.
    ops: Ops,
    len: usize,
    /// A piece of a larger frame that is not its last.
    piece: bool,
}

impl<T> Entry<T> {
    /// The member has it at this level: the changes that ask for no more are confirmed.
    fn confirm(&mut self, level: AckLevel, member: MemberId, wakes: &mut Wakes) {
        self.ops.retain(|op| {
            let waits = op.level() != level;
            if !waits {
                wakes.extend(op.confirm(member));
            }
            waits
        });
    }
}

/// What the drain writes next: references to the bytes, and the place they belong to.
#[derive(Debug, Default)]
pub struct Gather {
    /// Bytes in order.
    pub parts: Vec<Slice>,
    /// Their total.
    pub len: usize,
    generation: u32,
}

impl Gather {
    /// Number of the connection that the bytes belong to.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Drops the references, keeps the memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.len = 0;
    }
}

/// What the drain does after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Gather again.
    More,
    /// Nothing left, or the socket is full, or the connection is gone: the drain is released.
    Released,
}

/// A frame that must be sent again on the next connection.
#[derive(Debug)]
pub struct Unacked<T> {
    /// What to send.
    pub content: Content<T>,
    /// The bytes of a control message.
    pub frame: Option<FrameOut>,
    /// Whom it concerns.
    pub ops: Ops,
}

/// A frame to be sent again: its pieces, what it stands for, and whom it concerns.
pub type Again<T> = (SmallVec<[FrameOut; 1]>, Content<T>, Option<Arc<Op>>);

/// What a receiver refused, and why.
pub type Refusals<T> = SmallVec<[(Content<T>, RefusedCode); 2]>;

/// Whom to wake after the lane's lock is released.
pub type Wakes = SmallVec<[Waker; 4]>;

/// What a queue gave up. To free it takes its time where it was much: not under the lane's lock.
#[derive(Debug)]
#[must_use]
pub struct GivenUp<T> {
    /// Bytes that are not written any more.
    pub bytes: usize,
    #[expect(dead_code, reason = "kept to be dropped")]
    entries: VecDeque<Entry<T>>,
}

/// An ack that no honest receiver sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAck;

/// The send half of one lane.
#[derive(Debug)]
pub struct Outbound<T> {
    member: MemberId,
    state: LaneState,
    /// Rises with each connection, so that a write to an old one settles nothing.
    generation: u32,
    entries: VecDeque<Entry<T>>,
    sent: usize,
    /// Bytes of `entries[sent]` written already.
    written: usize,
    /// Frames of this connection settled by acks: `entries[0]` has number `acked + 1`.
    acked: u64,
    unwritten: usize,
    draining: bool,
    blocked: bool,
    /// The socket became writable while somebody held the drain.
    writable_seen: bool,
    /// `entries[sent..gathered]` may be written by the holder of the drain without its having said so yet.
    gathered: usize,
    /// An ack that overtook the writer's word: settled when that comes.
    early: Option<Ack>,
}

impl<T: Clone + PartialEq> Outbound<T> {
    const IS_COUNTED: () = assert!(2 * size_of::<Entry<T>>() + 64 <= FrameOut::BESIDE);

    /// An idle lane to a member.
    pub fn new(member: MemberId) -> Self {
        Self {
            member,
            state: LaneState::Closed,
            generation: 0,
            entries: VecDeque::new(),
            sent: 0,
            written: 0,
            acked: 0,
            unwritten: 0,
            draining: false,
            blocked: false,
            writable_seen: false,

            gathered: 0,
            early: None,
        }
    }

    /// Whether a connection is up.
    pub fn state(&self) -> LaneState {
        self.state
    }

    /// Number of the present connection.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Bytes not yet handed to the operating system.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Memory that those take.
    pub fn held(&self) -> usize {
        let () = Self::IS_COUNTED;
        self.unwritten + (self.entries.len() - self.sent) * FrameOut::BESIDE
    }

    /// Bytes queued or in flight.
    #[cfg(feature = "sim")]
    pub fn outstanding(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// Frames queued or in flight.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is queued or in flight.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Frames written and unacknowledged.
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// Queues one frame (already cut to size: several pieces for a large one). The op, if any, expects this member.
    pub fn push(
        &mut self,
        pieces: impl IntoIterator<Item = FrameOut>,
        content: Content<T>,
        op: Option<&Arc<Op>>,
    ) -> usize {
        self.push_for(pieces, content, op.cloned().into_iter().collect())
    }

    fn push_for(&mut self, pieces: impl IntoIterator<Item = FrameOut>, content: Content<T>, ops: Ops) -> usize {
        let before = self.unwritten;
        let mut pieces = pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            self.unwritten += piece.len;
            if pieces.peek().is_none() {
                self.entries.push_back(Entry { len: piece.len, frame: Some(piece), content, ops, piece: false });
                break;
            }
            let content = content.clone();
            self.entries.push_back(Entry { len: piece.len, frame: Some(piece), content, ops: Ops::new(), piece: true });
        }
        self.unwritten - before
    }

    /// Takes the drain when there is something to write and nobody holds it.
    pub fn begin_drain(&mut self) -> bool {
        let wants = self.wants_drain();
        self.draining |= wants;
        wants
    }

    /// Whether somebody should take the drain: there is something to write, the socket takes it, and nobody writes.
    pub fn wants_drain(&self) -> bool {
        self.state == LaneState::Open && !self.draining && !self.blocked && self.has_unsent()
    }

    fn has_unsent(&self) -> bool {
        self.sent < self.entries.len() && self.sent < WINDOW_MAX
    }

    /// Adds what is to be written next, up to about `max_bytes` and at most `max_parts` pieces of memory.
    pub fn gather(&mut self, out: &mut Gather, max_bytes: usize, max_parts: usize) {
        out.clear();
        out.generation = self.generation;
        self.gathered = self.sent;
        let mut skip = self.written;
        for entry in self.entries.iter().skip(self.sent).take(WINDOW_MAX - self.sent.min(WINDOW_MAX)) {
            let Some(frame) = &entry.frame else { break };
            if out.len >= max_bytes || out.parts.len() + frame.parts.len() > max_parts {
                break;
            }
            self.gathered += 1;
            for part in &frame.parts {
                if skip >= part.len() {
                    skip -= part.len();
                } else {
                    let rest = if skip == 0 { part.clone() } else { part.slice(skip..part.len()) };
                    skip = 0;
                    out.len += rest.len();
                    out.parts.push(rest);
                }
            }
        }
    }

    /// `n` bytes of the gathered went to the operating system; `full` when it took no more. Returns whether the
    /// drain goes on, and pushes whom to wake (ops of level `None`, and callers waiting for space).
    pub fn wrote(&mut self, gathered: &Gather, n: usize, full: bool, wakes: &mut Wakes) -> Drain {
        if gathered.generation != self.generation {
            return Drain::Released;
        }
        let mut left = n;
        while left > 0 {
            let Some(entry) = self.entries.get_mut(self.sent) else { break };
            let rest = entry.len - self.written;
            if left < rest {
                self.written += left;
                break;
            }
            left -= rest;
            self.written = 0;
            self.unwritten -= entry.len;
            if entry.content != Content::Control && !planted!(ResendOldDelta) {
                entry.frame = None;
            }
            entry.confirm(AckLevel::None, self.member, wakes);
            if planted!(WrittenIsApplied) {
                entry.confirm(AckLevel::Applied, self.member, wakes);
            }
            self.sent += 1;
        }
        self.gathered = self.sent;
        if let Some(early) = self.early.take() {
            // Checked against what was gathered when it came; a peer that acknowledged more than was written after all
            // is found out by its next ack.
            let _settled = self.ack(&early, wakes);
        }
        if full && !self.writable_seen {
            self.blocked = true;
            self.draining = false;
            return Drain::Released;
        }
        self.writable_seen = false;
        if self.has_unsent() {
            return Drain::More;
        }
        self.draining = false;
        Drain::Released
    }

    /// Whether an ack waits for the word of the thread that wrote what it acknowledges.
    pub fn has_early_ack(&self) -> bool {
        self.early.is_some()
    }

    /// Gives the drain up before everything is written; somebody else goes on.
    pub fn yield_drain(&mut self, gathered: &Gather) {
        if gathered.generation == self.generation {
            self.draining = false;
            self.gathered = self.sent;
            // Nothing was written that it could speak of: the connection is broken, or the peer is not honest.
            self.early = None;
        }
    }

    /// The socket can take more. True when the caller now holds the drain.
    pub fn writable(&mut self) -> bool {
        if self.draining {
            self.writable_seen = true;
            return false;
        }
        self.blocked = false;
        self.begin_drain()
    }

    /// Settles what a receiver says it has. Returns the refusals with the content they concern.
    ///
    /// # Errors
    /// An ack for frames never written is no ack; the connection must close.
    pub fn ack(&mut self, ack: &Ack, wakes: &mut Wakes) -> Result<Refusals<T>, BadAck> {
        let written = self.acked + self.sent as u64;
        let gathered = written + (self.gathered.saturating_sub(self.sent)) as u64;
        if ack.applied > ack.received || ack.received > gathered || ack.applied < self.acked {
            return Err(hit!(AckOfUnwritten => BadAck));
        }
        if ack.received > written || self.early.is_some() {
            // The peer was faster than the thread that wrote: acks are cumulative, the later one says it all.
            let early = self.early.get_or_insert_default();
            early.received = ack.received;
            early.applied = ack.applied;
            early.refused.extend_from_slice(&ack.refused);
            return Ok(SmallVec::new());
        }
        let mut refusals = SmallVec::new();
        for (position, code) in &ack.refused {
            let Some(entry) = position
                .checked_sub(self.acked + 1)
                .and_then(|i| usize::try_from(i).ok())
                .filter(|i| *i < self.sent)
                .and_then(|i| self.entries.get_mut(i))
            else {
                return Err(hit!(RefusalOfUnwritten => BadAck));
            };
            refusals.push((entry.content.clone(), *code));
            for op in std::mem::take(&mut entry.ops) {
                let reason = match code {
                    RefusedCode::Partial => hit!(MissedAsPartial => MissingReason::Partial),
                    _ => hit!(MissedAsRefused => MissingReason::Refused),
                };
                wakes.extend(op.miss(self.member, reason));
            }
        }
        for _ in self.acked..ack.applied {
            // No more than were written, which are `sent`.
            let Some(entry) = self.entries.pop_front() else { break };
            self.sent -= 1;
            self.gathered = self.gathered.saturating_sub(1);
            for op in &entry.ops {
                wakes.extend(op.confirm(self.member));
            }
        }
        self.acked = ack.applied;
        let received = usize::try_from(ack.received - ack.applied).unwrap_or(0);
        for entry in self.entries.iter_mut().take(received) {
            entry.confirm(AckLevel::Received, self.member, wakes);
        }
        Ok(refusals)
    }

    /// The connection is gone; everything unacknowledged stays for the next one.
    pub fn close(&mut self) {
        self.state = LaneState::Closed;
        self.generation = self.generation.wrapping_add(1);
        self.draining = false;
        self.blocked = false;
        self.writable_seen = false;
        self.gathered = 0;
        self.early = None;
    }

    /// A new connection is up: takes what the old one may have lost, in order. Frames pushed meanwhile wait
    /// behind [`Outbound::open`].
    pub fn take_unacked(&mut self) -> Vec<Unacked<T>> {
        let mut upto = self.sent + usize::from(self.written > 0);
        // A large frame whose first pieces went out must start over: its other pieces mean nothing alone.
        if upto > 0 {
            while self.entries.get(upto - 1).is_some_and(|e| e.piece) {
                upto += 1;
            }
        }
        let mut unacked: Vec<Unacked<T>> = Vec::new();
        let mut cut = false;
        for (i, entry) in self.entries.drain(..upto.min(self.entries.len())).enumerate() {
            if i >= self.sent {
                self.unwritten -= entry.len;
            }
            let last_of_many = std::mem::replace(&mut cut, entry.piece);
            // Of a control message that was cut some pieces may be gone. Only what is asked for again is ever that long.
            if entry.piece || last_of_many && entry.content == Content::Control {
                continue;
            }
            unacked.push(Unacked {
                frame: if entry.content == Content::Control || planted!(ResendOldDelta) { entry.frame } else { None },
                content: entry.content,
                ops: entry.ops,
            });
        }
        self.sent = 0;
        self.written = 0;
        self.acked = 0;
        unacked
    }

    /// Opens the present connection: `again` goes before everything queued. Returns the bytes added.
    pub fn open(&mut self, again: Vec<(SmallVec<[FrameOut; 1]>, Content<T>, Ops)>) -> usize {
        let behind = std::mem::take(&mut self.entries);
        let mut added = 0;
        for (pieces, content, ops) in again {
            added += self.push_for(pieces, content, ops);
        }
        self.entries.extend(behind);
        self.state = LaneState::Open;
        added
    }

    /// Gives up what is not yet written (a frame under way excepted, and what a holder of the drain gathered): its ops miss.
    /// Control messages stay, but for those that somebody waits for: they speak of the frames before them.
    pub fn give_up(&mut self, reason: MissingReason, wakes: &mut Wakes) -> GivenUp<T> {
        let mut keep = (self.sent + usize::from(self.written > 0)).max(self.gathered);
        if keep > 0 {
            while self.entries.get(keep - 1).is_some_and(|e| e.piece) {
                keep += 1;
            }
        }
        let mut entries = std::mem::take(&mut self.entries);
        let keep = keep.min(entries.len());
        self.entries = entries.drain(..keep).collect();
        let mut bytes = 0;
        for entry in &mut entries {
            if entry.content == Content::Control && entry.ops.is_empty() {
                let hollow = Entry { frame: None, content: Content::Control, ops: Ops::new(), len: 0, piece: false };
                self.entries.push_back(std::mem::replace(entry, hollow));
                continue;
            }
            bytes += entry.len;
            for op in &entry.ops {
                wakes.extend(op.miss(self.member, reason));
            }
        }
        self.unwritten -= bytes;
        GivenUp { bytes, entries }
    }

    /// The member is gone: everything misses.
    pub fn end(&mut self, reason: MissingReason, wakes: &mut Wakes) -> GivenUp<T> {
        self.close();
        let entries = std::mem::take(&mut self.entries);
        for op in entries.iter().flat_map(|entry| &entry.ops) {
            wakes.extend(op.miss(self.member, reason));
        }
        self.sent = 0;
        self.written = 0;
        self.acked = 0;
        GivenUp { bytes: std::mem::take(&mut self.unwritten), entries }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod tests;
