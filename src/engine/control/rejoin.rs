//! A node that was away from the others for longer than tombstones live joins again.
//!
//! What ended meanwhile may be forgotten by those that ended it, so the sessions that this node still holds from before prove
//! nothing. It [doubts](crate::session::Context::doubt) them and asks every ready member for everything, as it did when it
//! started: what they show whole is served again, with what was written here meanwhile; what none of them has is dropped.
//!
//! - **Who.** A node was away when it had nobody in view, or did not run. Others lost one member and kept
//!   each other, so what they remember together counts.
//! - **Never all.** Where each was alone, each joins again. One that asks holds no promise for another that asks, and who doubts
//!   answers nobody; so the rule of a start decides: where nobody is ready, the lowest id opens, here with all that it has.
//! - **What is lost.** Sessions from before that only this node still had: ended elsewhere, or in use here alone while the
//!   others saw them idle. What only this node ended comes back if the others still use it.
//! - **What is not seen.** Two sides of several members each: none was alone, and what one of them ended comes back from
//!   the other. Nor is a side known whose members have all restarted meanwhile: they are strangers, and both sides merge.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Control;
use crate::engine::join::Join;
use crate::event::{Event, ReadyReason};
use crate::id::{MemberId, NodeState, Time};
use crate::session::Context;

/// A time without the others.
#[derive(Debug)]
pub(super) struct Away {
    since: Time,
    /// Who they were.
    from: BTreeSet<MemberId>,
    /// Where the clocks of the contexts stood: whatever is above was made meanwhile.
    clocks: Vec<(Arc<Context>, u64)>,
}

impl<P> Control<P> {
    fn away(&self, since: Time, from: BTreeSet<MemberId>) -> Away {
        let clocks = self.core.store().contexts().into_iter().map(|c| (Arc::clone(&c), c.clock())).collect();
        Away { since, from, clocks }
    }

    /// The last member went out of view: this node is alone.
    pub(super) fn note_alone(&mut self, last: MemberId, now: Time) {
        if !self.membership.view().members.is_empty() {
            return;
        }
        // Nothing was heard from it for as long as it took to decide that.
        let noticed = self.settings.drop_time + 2 * self.settings.verify_timeout;
        let from = self.lost.keys().copied().chain([last]).collect();
        self.alone = Some(self.away(now.saturating_sub(noticed), from));
    }

    /// A member came into view.
    pub(super) fn note_company(&mut self, member: MemberId, now: Time) {
        if let Some(away) = self.alone.take_if(|away| away.from.contains(&member)) {
            self.consider_rejoin(away, now);
        }
    }

    /// This node did not run since then; the others went on without it.
    pub(super) fn note_pause(&mut self, since: Time, now: Time) {
        let from = self.membership.members().map(|m| m.id).collect();
        self.consider_rejoin(self.away(since, from), now);
    }

    fn consider_rejoin(&mut self, away: Away, now: Time) {
        let horizon = self.core.settings().sessions.horizon;
        if now.saturating_sub(away.since) < horizon || away.from.is_empty() || !self.core.state().serves() {
            return;
        }
        log::warn!("away for longer than ended sessions are remembered: joining again");
        for (context, clock) in &away.clocks {
            context.doubt(*clock);
        }
        let me = self.core.identity().member;
        self.join = Some(Join::new(me, self.settings.frequency, self.settings.state_transfer_timeout, now));
        self.doubts = Some(away);
    }

    /// The join is over: a first one, or one after an absence.
    pub(super) fn settle_doubts(&mut self, reason: ReadyReason, now: Time) {
        let Some(away) = self.doubts.take() else { return };
        // Strangers cannot say what ended meanwhile, whatever they have or have not.
        let knows = |join: &Join| away.from.iter().any(|member| join.answered(*member));
        let was_told = reason == ReadyReason::Transferred && self.join.as_ref().is_some_and(knows);
        for (context, _) in &away.clocks {
            if !was_told {
                context.trust();
                continue;
            }
            let name = String::from_utf8_lossy(context.name()).into_owned();
            for id in context.drop_doubted() {
                if self.core.settings().session_events {
                    self.core.tell(Event::SessionEnded(name.clone(), id.name().to_vec()));
                }
            }
        }
        if self.membership.view().members.is_empty() {
            // They went before they told anything: it is still away.
            self.alone = Some(away);
        }
        let waiting: Vec<MemberId> = self.asked.keys().copied().collect();
        for member in waiting {
            self.answer_joiner(member, now);
        }
    }

    /// A member asks for everything. One that had opened has been away, and promises nothing to who has been so too.
    pub(super) fn note_joiner(&mut self, member: MemberId) {
        if self.doubts.is_some()
            && let Some(join) = &mut self.join
        {
            join.forget(member);
        }
    }

    /// Whether a member in this state has a part in the join under way: where a node joins again, none that never opened.
    pub(super) fn concerns_join(&self, state: NodeState) -> bool {
        match state {
            NodeState::Joining => self.doubts.is_none(),
            NodeState::Ready => true,
            NodeState::Leaving => false,
        }
    }

    /// Whether a member may say what there is.
    pub(super) fn may_tell(&self, member: MemberId, state: NodeState) -> bool {
        state == NodeState::Ready && !self.asked.contains_key(&member)
    }
}
