//! The donor's side of a state transfer, the repair of a member that missed something, and of the buckets in which two
//! members' digests differ: the same thing.
//!
//! A donation walks every context and emits present states (tombstones too) on the lanes of their sessions, pausing above
//! low water. Changes made meanwhile are left to it, so that writers neither starve it nor overflow the queue; it brings
//! those sessions next, once each, while callers wait for it as they do for a full queue. Then it ends with `StateDone` on every lane.

use std::sync::Arc;

use super::core::{Core, Effects};
use super::peer::{Debt, Peer};
use crate::id::{AckLevel, Time};
use crate::proto::op::Op;
use crate::session::{Buckets, Context, Cursor};
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
    /// It shows something else in these buckets of a context. Nobody waits for the end of it.
    Differs(Buckets),
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
        if !matches!(purpose, Purpose::Differs(_)) {
            peer.open_debt();
        }
        Self { peer, purpose, contexts: None, cursor: Cursor::default(), records: 0, losses, end: None }
    }

    /// What of one context a member shows differently.
    pub(super) fn of_difference(peer: Arc<Peer<P>>, context: Arc<Context>, buckets: Buckets) -> Self {
        Self { contexts: Some(vec![context]), ..Self::new(peer, Purpose::Differs(buckets)) }
    }

    /// Adds buckets to a donation for the same member and context, which begins again; false when it is of another.
    pub(super) fn widen(&mut self, peer: &Arc<Peer<P>>, context: &Arc<Context>, more: Buckets) -> bool {
        let (Purpose::Differs(buckets), Some([own])) = (self.purpose, self.contexts.as_deref()) else { return false };
        if !Arc::ptr_eq(&self.peer, peer) || !Arc::ptr_eq(own, context) {
            return false;
        }
        *self = Self::of_difference(Arc::clone(peer), Arc::clone(context), buckets.union(more));
        true
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
                Purpose::Differs(buckets) => context.scan_in(&buckets, &mut self.cursor, room, now, &mut emit),
            };
            // What was passed over took its time too.
            budget = budget.saturating_sub(if done { sent.max(1) } else { sent.max(room) });
            if done {
                contexts.pop();
                self.cursor = Cursor::default();
            }
        }
        let round = match self.purpose {
            Purpose::Join(round) => round,
            Purpose::Repair => 0,
            Purpose::Differs(_) => return Step::Done,
        };
        self.peer.catch_up();
        loop {
            if budget == 0 || self.peer.queued() >= low {
                return if budget == 0 { Step::More } else { Step::Wait };
            }
            match self.peer.take_owed() {
                Debt::Settled => break,
                Debt::Everything => return Step::Again,
                Debt::Session(owed) => {
                    // What is not held any more is owed to nobody.
                    let Some(frame) = owed.context.present(owed.uid, 0, now) else { continue };
                    budget = budget.saturating_sub(frame.len);
                    self.records += 1;
                    core.send_session(&self.peer, &owed.context, owed.uid, frame, fx);
                }
            }
        }
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
