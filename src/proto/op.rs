//! One change on its way to its copies: who is still waited for, who has it, who has not and why.
//!
//! An [`Op`] is shared by the caller, who waits, and by the lanes' windows, which confirm or miss. It names no
//! thread: whoever waits leaves a [`Waker`]. A confirmation after the caller gave up finds the op alive and
//! changes only what the op says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::id::{AckLevel, MemberId};
use crate::mark::hit;
use crate::mutant::planted;

/// Why a member in view has no copy of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingReason {
    /// No acknowledgement in time; the change stays queued.
    Timeout,
    /// It went down or left.
    Down,
    /// Its queue was over the cap; it is being repaired.
    Repair,
    /// It is still joining.
    Joining,
    /// It is being verified and has not answered for what it was sent before; the change stays queued.
    Suspect,
    /// It holds the session only in part and has asked for the rest.
    Partial,
    /// It refused the frame: too large, or its store is full.
    Refused,
}

/// A change under way.
#[derive(Debug, Default)]
pub struct Op {
    done: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    level: AckLevel,
    sealed: bool,
    /// One entry per frame that is waited for; a member occurs once per frame.
    waiting: SmallVec<[MemberId; 4]>,
    /// Every member that the change concerns, with the first reason why it has no copy.
    members: SmallVec<[(MemberId, Option<MissingReason>); 4]>,
    waker: Option<Waker>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            level: AckLevel::Applied,
            sealed: false,
            waiting: SmallVec::new(),
            members: SmallVec::new(),
            waker: None,
        }
    }
}

/// What became of a change so far.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OpOutcome {
    /// Members that have it as the level asks (this node not counted).
    pub copies: u32,
    /// Members that have no copy, and why; those still waited for count as timed out.
    pub missing: SmallVec<[(MemberId, MissingReason); 2]>,
}

impl Op {
    /// The level that a confirmation must have.
    pub fn level(&self) -> AckLevel {
        self.state.lock().level
    }

    /// One more frame to a member that is waited for.
    pub(crate) fn expect(&self, member: MemberId) {
        let mut state = self.state.lock();
        state.waiting.push(member);
        if !state.members.iter().any(|(m, _)| *m == member) {
            state.members.push((member, None));
        }
    }

    /// A member that is not waited for, because it can be no copy now.
    pub(crate) fn exclude(&self, member: MemberId, reason: MissingReason) {
        self.state.lock().note(member, reason);
    }

    /// No more members will be added; true when nobody is waited for.
    pub(crate) fn seal(&self) -> bool {
        let mut state = self.state.lock();
        state.sealed = true;
        let done = state.waiting.is_empty();
        self.done.store(done, Ordering::Release);
        done
    }

    /// A member has one frame as the level asks. Returns whom to wake when that was the last.
    pub(crate) fn confirm(&self, member: MemberId) -> Option<Waker> {
        self.settle(member, None)
    }

    /// A member will not have it. Returns whom to wake when it was the last one waited for.
    pub(crate) fn miss(&self, member: MemberId, reason: MissingReason) -> Option<Waker> {
        self.settle(member, Some(reason))
    }

    fn settle(&self, member: MemberId, reason: Option<MissingReason>) -> Option<Waker> {
        let mut state = self.state.lock();
        let at = state.waiting.iter().position(|m| *m == member)?;
        state.waiting.swap_remove(at);
        if let Some(reason) = reason {
            state.note(member, reason);
        }
        if state.waiting.is_empty() && state.sealed {
            self.done.store(true, Ordering::Release);
            return state.waker.take().filter(|_| reason.is_none() || !planted!(MissWakesNobody));
        }
        None
    }

    /// Whether nobody is waited for any more.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Leaves whom to wake when done; false, and nothing left, when it is done already.
    pub fn set_waker(&self, waker: Waker) -> bool {
        let mut state = self.state.lock();
        if self.is_done() {
            return false;
        }
        state.waker = Some(waker);
        true
    }

    /// Whether the member is still waited for.
    pub fn waits_for(&self, member: MemberId) -> bool {
        self.state.lock().waiting.contains(&member)
    }

    /// What is known now; members still waited for are named as timed out.
    pub fn outcome(&self) -> OpOutcome {
        let state = self.state.lock();
        let mut outcome = OpOutcome::default();
        for (member, missing) in &state.members {
            match missing {
                Some(reason) => outcome.missing.push((*member, *reason)),
                None if state.waiting.contains(member) => {
                    outcome.missing.push((*member, hit!(MissedInTime => MissingReason::Timeout)));
                }
                None => outcome.copies += 1,
            }
        }
        outcome
    }

    fn reset(&mut self, level: AckLevel) {
        *self.done.get_mut() = false;
        let state = self.state.get_mut();
        state.level = level;
        state.sealed = false;
        state.waiting.clear();
        state.members.clear();
        state.waker = None;
    }
}

impl State {
    fn note(&mut self, member: MemberId, reason: MissingReason) {
        match self.members.iter_mut().find(|(m, _)| *m == member) {
            Some((_, missing)) => {
                missing.get_or_insert(reason);
            }
            None => self.members.push((member, Some(reason))),
        }
    }
}

/// Ops that are used again, so that a warmed sender allocates none.
#[derive(Debug)]
pub struct OpPool(ArrayQueue<Arc<Op>>);

impl OpPool {
    /// Keeps at most `capacity` idle ops.
    pub fn new(capacity: usize) -> Self {
        Self(ArrayQueue::new(capacity.max(1)))
    }

    /// A fresh op.
    pub fn take(&self, level: AckLevel) -> Arc<Op> {
        // An op that a window still refers to is left to that window: one try, then a new one.
        if let Some(mut op) = self.0.pop()
            && let Some(idle) = Arc::get_mut(&mut op)
        {
            idle.reset(level);
            return op;
        }
        let mut op = Op::default();
        op.reset(level);
        Arc::new(op)
    }

    /// Gives an op back when its caller has read the outcome.
    pub fn give(&self, op: Arc<Op>) {
        // A full pool frees it: that is the bound.
        drop(self.0.push(op));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    #[test]
    fn an_op_is_done_when_the_last_member_confirms() {
        let op = OpPool::new(1).take(AckLevel::Applied);
        op.expect(A);
        op.expect(B);
        assert!(!op.seal());
        op.confirm(A);
        assert!(!op.is_done());
        op.confirm(B);
        assert!(op.is_done());
        assert_eq!(op.outcome().copies, 2);
    }

    #[test]
    fn a_member_with_one_of_two_frames_is_still_waited_for_and_named() {
        let op = OpPool::new(1).take(AckLevel::Applied);
        op.expect(A);
        op.expect(A);
        op.seal();
        op.confirm(A);
        assert!(!op.is_done());
        let outcome = crate::mark::covers!(MissedInTime, op.outcome());
        assert_eq!(outcome.missing.as_slice(), &[(A, MissingReason::Timeout)]);
    }

    #[test]
    fn a_missing_member_is_named_with_the_first_reason_and_is_no_copy() {
        let op = OpPool::new(1).take(AckLevel::Applied);
        op.expect(A);
        op.expect(A);
        op.seal();
        op.miss(A, MissingReason::Partial);
        op.miss(A, MissingReason::Down);
        assert!(op.is_done());
        let outcome = op.outcome();
        assert_eq!(outcome.copies, 0);
        assert_eq!(outcome.missing.as_slice(), &[(A, MissingReason::Partial)]);
    }

    #[test]
    fn a_confirmation_that_comes_twice_changes_nothing() {
        let op = OpPool::new(1).take(AckLevel::Applied);
        op.expect(A);
        op.expect(B);
        op.seal();
        op.confirm(A);
        op.confirm(A);
        assert!(!op.is_done());
    }

    #[test]
    fn the_pool_never_hands_out_an_op_that_is_still_referred_to() {
        let pool = OpPool::new(2);
        let op = pool.take(AckLevel::Applied);
        let held = Arc::clone(&op);
        pool.give(op);
        let next = pool.take(AckLevel::Applied);
        assert!(!Arc::ptr_eq(&held, &next));
    }
}
