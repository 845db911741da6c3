//! Records that missed something: whom they were asked of, and who has answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{MemberId, Time, Uid};
use crate::mutant::planted;
use crate::session::Context;

/// How long an answer is waited for before the next member is asked.
pub(super) const PULL_INTERVAL: Time = Time::from_millis(250);
/// Records looked at in one turn.
const TURN: usize = 1024;

/// The records being asked for, one entry each; bounded by the records that are held partial.
#[derive(Debug, Default)]
pub(super) struct Pulls(BTreeMap<(Vec<u8>, Uid), Pull>);

#[derive(Debug)]
struct Pull {
    context: Arc<Context>,
    next: Time,
    answered: SmallVec<[MemberId; 4]>,
    asked: MemberId,
}

/// What a turn of the timer wants done.
#[derive(Debug)]
pub(super) enum Turn {
    /// Ask this member.
    Ask(MemberId, Arc<Context>, Uid),
    /// Every member has answered and none had it whole.
    Lift(Arc<Context>, Uid),
}

impl Pulls {
    /// A frame of `from` left the record partial. True when it must be asked at once: not after an answer, or two partial
    /// holders would ask each other for ever. But others are asked later even then: the answer may have come when nobody
    /// was asked any more, and have made the record anew.
    pub(super) fn missed(
        &mut self,
        context: &Arc<Context>,
        uid: Uid,
        from: MemberId,
        is_answer: bool,
        now: Time,
    ) -> bool {
        let mut new = false;
        let pull = self.0.entry((context.name().to_vec(), uid)).or_insert_with(|| {
            new = true;
            Pull { context: Arc::clone(context), next: now + PULL_INTERVAL, answered: SmallVec::new(), asked: from }
        });
        // It has something newer than what it answered with before.
        pull.answered.retain(|m| *m != from);
        if is_answer {
            pull.answered.push(from);
        }
        new && !is_answer
    }

    /// A member answered, whatever it had.
    pub(super) fn answered(&mut self, context: &[u8], uid: Uid, from: MemberId) {
        if let Some(pull) = self.0.get_mut(&(context.to_vec(), uid))
            && !pull.answered.contains(&from)
        {
            pull.answered.push(from);
        }
    }

    /// Whether anything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what became whole, and says what to do for the rest that is due. `members` are those in view.
    pub(super) fn turn(&mut self, now: Time, members: &[MemberId]) -> Vec<Turn> {
        let mut turns = Vec::new();
        self.0.retain(|(_, uid), pull| {
            if turns.len() >= TURN || pull.next > now || planted!(PullOnce) {
                return true;
            }
            if !pull.context.is_partial(*uid) {
                return false;
            }
            let missing: SmallVec<[MemberId; 8]> =
                members.iter().copied().filter(|m| !pull.answered.contains(m)).collect();
            // The one after the last asked, in a circle.
            let Some(next) = missing.iter().copied().find(|m| *m > pull.asked).or_else(|| missing.first().copied())
            else {
                if members.is_empty() {
                    pull.next = now + PULL_INTERVAL;
                    return true;
                }
                turns.push(Turn::Lift(Arc::clone(&pull.context), *uid));
                return false;
            };
            pull.asked = next;
            pull.next = now + PULL_INTERVAL;
            turns.push(Turn::Ask(next, Arc::clone(&pull.context), *uid));
            true
        });
        turns
    }
}
