//! The donor's side of a state transfer, the repair of a member that missed something, and what a dead member may have
//! told this node alone: the same thing.
//!
//! A donation walks every context, emits present states (tombstones too) on the lanes of their sessions, and ends with
//! `StateDone` on every lane. It pauses above low water, so that it needs no memory of its own and the foreground goes
//! on.

use std::sync::Arc;

use super::core::{Core, Effects};
use super::peer::Peer;
use crate::id::{AckLevel, MemberId, Time};
use crate::proto::op::Op;
use crate::session::{Context, Cursor};
use crate::wire::{Control as Message, FrameOut};

/// Bytes emitted in one turn, at most, so that a donation never holds the control loop for long.
const TURN_BYTES: usize = 1 << 20;

/// Why a member is sent what is held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It joins, and asked in this round.
    Join(u64),
    /// It missed something.
    Repair,
    /// This member is gone, and may have reached some and not others with what it wrote.
    LastWords(MemberId),
}

/// What this node holds, on its way to one member.
#[derive(Debug)]
pub(super) struct Donation<P> {
    pub(super) peer: Arc<Peer<P>>,
    pub(super) purpose: Purpose,
    /// What is still to be walked; `None` before the first turn, since contexts may be made until then.
    contexts: Option<Vec<Arc<Context>>>,
    cursor: Cursor,
    records: u64,
    /// Losses of the member's queue when this began.
    losses: u64,
    /// Confirmed when the member has taken in the end of every lane.
    end: Option<Arc<Op>>,
}

/// How far a turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is room for more at once.
    More,
    /// The queue is above low water, or the end is not yet acknowledged.
    Wait,
    /// The member has everything.
    Done,
    /// The end was given up on the way: start again.
    Again,
}

impl<P> Donation<P> {
    pub(super) fn new(peer: Arc<Peer<P>>, purpose: Purpose) -> Self {
        let losses = peer.losses();
        Self { peer, purpose, contexts: None, cursor: Cursor::default(), records: 0, losses, end: None }
    }

    /// Begins again: what was sent may be lost.
    pub(super) fn restart(&mut self) {
        *self = Self::new(Arc::clone(&self.peer), self.purpose);
    }

    /// Sends some more.
    pub(super) fn step(&mut self, core: &Core<P>, now: Time, fx: &mut Effects<P>) -> Step {
        if let Some(end) = &self.end {
            if !end.is_done() {
                return Step::Wait;
            }
            let lost = !end.outcome().missing.is_empty();
            return if lost { Step::Again } else { Step::Done };
        }
        let contexts = self.contexts.get_or_insert_with(|| core.store().contexts());
        let low = core.settings().low_water;
        let mut budget = TURN_BYTES;
        while let Some(context) = contexts.last().cloned() {
            let room = low.saturating_sub(self.peer.queued()).min(budget);
            if room == 0 {
                return if budget == 0 { Step::More } else { Step::Wait };
            }
            let mut sent = 0;
            let mut emit = |uid, frame: FrameOut| {
                sent += frame.len;
                self.records += 1;
                core.send_session(&self.peer, &context, uid, frame, fx);
            };
            let done = match self.purpose {
                Purpose::Join(_) | Purpose::Repair => context.scan(&mut self.cursor, room, now, &mut emit),
                Purpose::LastWords(member) => context.scan_written_by(member, &mut self.cursor, room, now, &mut emit),
            };
            budget = budget.saturating_sub(sent.max(1));
            if done {
                contexts.pop();
                self.cursor = Cursor::default();
            }
        }
        let round = match self.purpose {
            Purpose::Join(round) => round,
            Purpose::Repair => 0,
            // Nobody waits for the end of these.
            Purpose::LastWords(_) => return Step::Done,
        };
        let op = Arc::new(Op::default());
        let lanes = self.peer.lanes().len();
        for lane in 0..lanes {
            op.expect(self.peer.id());
            let message = Message::StateDone(round, self.records, u16::try_from(lanes).unwrap_or(u16::MAX));
            core.send_end(&self.peer, lane, &message, &op, self.losses, fx);
        }
        op.seal();
        debug_assert_eq!(op.level(), AckLevel::Applied);
        self.end = Some(op);
        Step::Wait
    }
}
