//! Who has been away, for how long, and what that means for what only one side holds.
//!
//! A session that ended leaves a tombstone, and who was away learns of the end by it. Tombstones do not live for ever. A member that
//! was away for longer than the others remember them may hold sessions that ended meanwhile, and cannot tell them from sessions
//! that the others never had. The smaller side of the separation then believes the larger: what the larger no longer lists, and
//! nothing was written to on the smaller since, is dropped there. What was written meanwhile is in use, and stays. Where
//! neither side was larger both keep what they have: to end what somebody uses would be worse than to keep what somebody ended.
//!
//! A node that stood still (stopped, suspended) for longer than the drop time was away from all others, and no larger side.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Control;
use crate::id::{MemberId, Time, Version};
use crate::session::Context;

/// A member that was lost, as seen from here.
#[derive(Clone, Debug)]
pub(super) struct Absence {
    /// When it was noticed.
    pub(super) since: Time,
    /// This node was on the smaller side: it lost more members than it kept.
    pub(super) minority: bool,
    /// Where it was dialled.
    addr: Option<SocketAddr>,
    /// Another incarnation answers there: this one is gone for good, and on no side.
    replaced: bool,
    /// The clock of each context before that: what was written later, was written on this side.
    clocks: Clocks,
}

/// Lamport counters by the name of their context.
pub(super) type Clocks = BTreeMap<Vec<u8>, u64>;

/// What another's silence about a session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It lacks the session, and is told.
    Told,
    /// The session ended there, unless it was written to after this.
    Ended(Version),
    /// It may not know better: somebody who does is still away, or has not said so yet.
    Unsure(Version),
}

/// Absences kept.
const ABSENCES_MAX: usize = 256;

/// Who is away, and who is back and not repaired yet.
#[derive(Debug, Default)]
pub(super) struct Absences {
    lost: BTreeMap<MemberId, Absence>,
    back: BTreeMap<MemberId, Absence>,
    /// Clocks as they were a while ago, and then again: the older ones are from before a loss that is noticed now.
    clocks: [Clocks; 2],
    next_sample: Time,
}

impl Absences {
    /// Members that are away since less than `span`: those that the view misses.
    pub(super) fn missed(&self, span: Time, now: Time) -> usize {
        self.lost.values().filter(|a| now.saturating_sub(a.since) < span).count()
    }

    /// Those of them that may come back.
    pub(super) fn awaited(&self, span: Time, now: Time) -> usize {
        self.lost.values().filter(|a| !a.replaced && now.saturating_sub(a.since) < span).count()
    }

    /// A member went down; `others` are left besides this node, at these addresses.
    pub(super) fn lose(&mut self, member: MemberId, addr: Option<SocketAddr>, others: &[SocketAddr], now: Time) {
        let clocks = self.clocks[0].clone();
        // One that goes again before it was repaired is away since it went first.
        let before = self.back.remove(&member);
        let absence = before.unwrap_or(Absence { since: now, minority: false, addr: None, replaced: false, clocks });
        // The next incarnation may be there before this one is known to be gone.
        let replaced = absence.replaced || addr.is_some_and(|addr| others.contains(&addr));
        self.lost.insert(member, Absence { addr, replaced, ..absence });
        while self.lost.len() > ABSENCES_MAX {
            let oldest = self.lost.iter().min_by_key(|(_, a)| a.since).map(|(id, _)| *id);
            oldest.and_then(|id| self.lost.remove(&id));
        }
        if self.lost.values().filter(|a| !a.replaced).count() > others.len() + 1 {
            self.lost.values_mut().for_each(|a| a.minority = true);
        }
    }

    /// A member is back, or there for the first time. True when it was away.
    pub(super) fn find(&mut self, member: MemberId, addr: SocketAddr) -> bool {
        for (_, absence) in self.lost.iter_mut().filter(|(id, a)| **id != member && a.addr == Some(addr)) {
            absence.replaced = true;
        }
        let Some(absence) = self.lost.remove(&member) else { return false };
        self.back.insert(member, absence);
        true
    }

    /// This node stood still since `since`, and so was away from all of `others`.
    pub(super) fn stood_still(&mut self, others: impl Iterator<Item = MemberId>, since: Time) {
        let clocks = self.clocks[1].clone();
        let others: Vec<_> = others.collect();
        let minority = others.len() > 1;
        for member in others {
            let absence = Absence { since, minority, addr: None, replaced: false, clocks: clocks.clone() };
            self.back.entry(member).or_insert(absence);
        }
    }

    /// A member that was away holds everything again.
    pub(super) fn settle(&mut self, member: MemberId) {
        self.back.remove(&member);
    }

    /// Whether clocks are to be sampled.
    pub(super) fn wants_sample(&self, now: Time) -> bool {
        now >= self.next_sample
    }

    pub(super) fn sample(&mut self, clocks: Clocks, next: Time) {
        let [older, newer] = &mut self.clocks;
        std::mem::swap(older, newer);
        *newer = clocks;
        self.next_sample = next;
    }

    /// What it means that `member`, which remembers its dead for so long, does not list a session of this context.
    pub(super) fn word_of(&self, member: MemberId, context: &[u8], remembers: Time, now: Time) -> Word {
        let too_long = |a: &&Absence| a.minority && now.saturating_sub(a.since) > remembers;
        let last = Version { counter: 0, member: MemberId(u64::MAX) };
        let before = |a: &Absence| Version { counter: a.clocks.get(context).copied().unwrap_or(0), ..last };
        match self.back.get(&member) {
            Some(absence) => Some(absence).filter(too_long).map_or(Word::Told, |a| Word::Ended(before(a))),
            // It was not there before, so it cannot have seen these sessions end. Others have.
            None => self
                .back
                .values()
                .chain(self.lost.values())
                .find(too_long)
                .map_or(Word::Told, |a| Word::Unsure(before(a))),
        }
    }
}

impl<P> Control<P> {
    /// What it means that a member does not list a session of this context.
    pub(super) fn word_of(&self, member: MemberId, context: &Context, remembers: Time, now: Time) -> Word {
        self.absences.word_of(member, context.name(), remembers, now)
    }

    /// This node stood still: it may have been given up by the others, and what they did meanwhile is unknown here.
    pub(super) fn stand_up(&mut self, since: Time, now: Time) {
        let peers = self.core.roster().peers.clone();
        if self.join.is_some() || peers.is_empty() {
            return;
        }
        self.absences.stood_still(peers.iter().map(|peer| peer.id()), since);
        for peer in peers {
            self.repair(&peer, now);
        }
    }

    /// Notes the clocks of all contexts now and then.
    pub(super) fn sample_clocks(&mut self, now: Time) {
        if self.absences.wants_sample(now) {
            let contexts = self.core.store().contexts();
            let clocks = contexts.iter().map(|c| (c.name().to_vec(), c.clock())).collect();
            self.absences.sample(clocks, now + self.notice_time());
        }
    }

    /// After this at the latest a member that is gone is known to be gone.
    pub(super) fn notice_time(&self) -> Time {
        self.settings.drop_time + self.settings.verify_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_replaced_is_not_awaited_in_whatever_order_that_shows() {
        let (addr, other) = (SocketAddr::from(([10, 0, 0, 2], 4700)), SocketAddr::from(([10, 0, 0, 3], 4700)));
        let (day, now) = (Time::from_secs(86400), Time::from_secs(1));
        let mut absences = Absences::default();
        absences.lose(MemberId(1), Some(addr), &[other], now);
        assert_eq!((absences.missed(day, now), absences.awaited(day, now)), (1, 1));
        assert!(!absences.find(MemberId(2), addr), "another incarnation was not away");
        assert_eq!((absences.missed(day, now), absences.awaited(day, now)), (1, 0));
        absences.lose(MemberId(3), Some(other), &[addr, other], now);
        assert_eq!((absences.missed(day, now), absences.awaited(day, now)), (2, 0));
    }
}
