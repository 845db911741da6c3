//! Members that some reach and others do not: what one node does for another that verifies, and what follows from a bad link.

use super::{Action, Control};
use crate::engine::core::Effects;
use crate::engine::peer::Reach;
use crate::event::Event;
use crate::id::{MemberId, Time};
use crate::stats::bump;
use crate::wire::Control as Message;

impl<P> Control<P> {
    pub(super) fn note_reach(&self, member: MemberId, reach: Reach) {
        if let Some(peer) = self.core.peer(member) {
            peer.set_reach(reach);
        }
    }

    /// A member answers others and not this node. It stays a member, that nobody waits for; what it cannot be sent reaches it through
    /// the others, which compare with it, and from the queue when the link is good again.
    pub(super) fn note_unreachable(&mut self, member: MemberId, now: Time) {
        self.note_reach(member, Reach::None);
        bump(&self.core.counters.links_bad);
        let name = self.core.name(member);
        log::info!("{name} answers others and not this node: the link to it is bad");
        self.core.tell(Event::MemberUnreachable(member, name));
        self.judge_whole(now);
    }

    /// Verifies a member for another that cannot reach it. As many at once as there may be members, whoever asks.
    pub(super) fn do_favour(&mut self, from: MemberId, member: MemberId, token: u64) {
        let addr = self.membership.members().find(|m| m.id == member).map(|m| m.addr);
        if let Some(addr) = addr.filter(|_| self.favours.len() < self.settings.members_max) {
            let own = self.rng.u64(..);
            self.favours.insert(own, (from, member, token));
            self.actions.push_back(Action::Probe { member, addr, token: own, within: self.settings.verify_timeout });
        }
    }

    /// A verification ended; whether it was one for another member.
    pub(super) fn end_favour(&mut self, token: u64, ok: bool, now: Time, fx: &mut Effects<P>) -> bool {
        let Some((from, member, asked)) = self.favours.remove(&token) else { return false };
        if let Some(peer) = self.core.peer(from).filter(|_| ok) {
            self.core.send_message(&peer, 0, &Message::Reached(member, asked), None, fx);
            // What the two cannot tell each other they learn from those that see both.
            self.comparing.soon(now);
        }
        true
    }
}
