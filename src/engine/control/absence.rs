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
use crate::id::{MemberId, Time};
use crate::proto::membership::TRIES;
use crate::session::{Context, Separation};
use crate::wire::Listing;

/// A member that was lost, as seen from here.
#[derive(Clone, Debug, Default)]
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
    /// The same, shortly before it was back.
    met: Clocks,
    /// When it was found to hold everything again. What comes late may be of before.
    settled: Option<Time>,
}

/// Lamport counters by the name of their context.
pub(super) type Clocks = BTreeMap<Vec<u8>, u64>;

/// What another's silence about a session means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It lacks the session, and is told.
    Told,
    /// The session ended there, unless it was written to since.
    Ended(Separation),
    /// It may not know better: somebody who does is still away, or has not said so yet.
    Unsure(Separation),
}

/// How long members that may know better are waited for after one has gone or come, and what is late after a repair.
const DOUBT: Time = Time::from_secs(10);
/// Absences kept.
const ABSENCES_MAX: usize = 256;

/// Who is away, and who is back and not repaired yet.
#[derive(Debug, Default)]
pub(super) struct Absences {
    lost: BTreeMap<MemberId, Absence>,
    back: BTreeMap<MemberId, Absence>,
    /// When one went or came.
    changed: Time,
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

    /// A member went down; `others` are left besides this node, at these addresses. Who is away for longer than `span` is given up.
    pub(super) fn lose(
        &mut self,
        member: MemberId,
        addr: Option<SocketAddr>,
        others: &[SocketAddr],
        span: Time,
        now: Time,
    ) {
        let clocks = self.clocks[0].clone();
        // One that goes again before it was repaired is away since it went first.
        let before = self.back.remove(&member).filter(|absence| absence.settled.is_none());
        let absence = before.unwrap_or_else(|| Absence { since: now, clocks, ..Absence::default() });
        // The next incarnation may be there before this one is known to be gone.
        let replaced = absence.replaced || addr.is_some_and(|addr| others.contains(&addr));
        self.lost.insert(member, Absence { addr, replaced, ..absence });
        self.changed = now;
        while self.lost.len() > ABSENCES_MAX {
            let oldest = self.lost.iter().min_by_key(|(_, a)| a.since).map(|(id, _)| *id);
            oldest.and_then(|id| self.lost.remove(&id));
        }
        // Those that are not waited for any more are on no side.
        let recent = |a: &Absence| now.saturating_sub(a.since) < span;
        if self.lost.values().filter(|a| !a.replaced && recent(a)).count() > others.len() + 1 {
            self.lost.values_mut().filter(|a| recent(a)).for_each(|a| a.minority = true);
        }
    }

    /// A member is back, or there for the first time. True when it was away.
    pub(super) fn find(&mut self, member: MemberId, addr: SocketAddr, now: Time) -> bool {
        self.changed = now;
        for (_, absence) in self.lost.iter_mut().filter(|(id, a)| **id != member && a.addr == Some(addr)) {
            absence.replaced = true;
        }
        let Some(absence) = self.lost.remove(&member) else { return false };
        self.back.insert(member, Absence { met: self.clocks[0].clone(), ..absence });
        true
    }

    /// This node stood still since `since`, and so was away from all of `others`.
    pub(super) fn stood_still(&mut self, others: impl Iterator<Item = MemberId>, since: Time) {
        let clocks = self.clocks[0].clone();
        let others: Vec<_> = others.collect();
        let minority = others.len() > 1;
        for member in others {
            let absence = Absence { since, minority, clocks: clocks.clone(), ..Absence::default() };
            let kept = self.back.remove(&member).filter(|absence| absence.settled.is_none());
            self.back.insert(member, kept.unwrap_or(absence));
        }
    }

    /// A member that was away holds everything again.
    pub(super) fn settle(&mut self, member: MemberId, now: Time) {
        if let Some(absence) = self.back.get_mut(&member) {
            absence.settled = Some(now);
        }
    }

    /// Whether clocks are to be sampled.
    pub(super) fn wants_sample(&self, now: Time) -> bool {
        now >= self.next_sample
    }

    pub(super) fn sample(&mut self, clocks: Clocks, now: Time, next: Time) {
        self.back.retain(|_, absence| absence.settled.is_none_or(|at| now.saturating_sub(at) < DOUBT));
        let [older, newer] = &mut self.clocks;
        std::mem::swap(older, newer);
        *newer = clocks;
        self.next_sample = next;
    }

    /// The counter of a context shortly before `member`, which was away until shortly, was met again. `None` where that is not
    /// so, or this node was on a smaller side meanwhile.
    pub(super) fn met(&self, member: MemberId, context: &[u8]) -> Option<u64> {
        // It may ask before it is in view again.
        let back = self.back.get(&member).map(|absence| (absence, &absence.met));
        let (absence, met) = back.or_else(|| self.lost.get(&member).map(|absence| (absence, &self.clocks[0])))?;
        (!absence.minority).then(|| met.get(context).copied().unwrap_or(0))
    }

    /// What it means that `member` does not list a session.
    pub(super) fn word_of(&self, listing: &Listing, member: MemberId, now: Time) -> Word {
        let remembers = Time::from_millis(listing.remembers_ms);
        let too_long = |a: &&Absence| a.minority && now.saturating_sub(a.since) > remembers;
        let apart = |a: &Absence| Separation {
            counter: a.clocks.get(&listing.context).copied().unwrap_or(0),
            others: self.lost.iter().chain(&self.back).filter(|(_, a)| a.minority).map(|(id, _)| *id).collect(),
            until: listing.met,
        };
        match self.back.get(&member) {
            Some(absence) => Some(absence).filter(too_long).map_or(Word::Told, |a| Word::Ended(apart(a))),
            // It was not there before, so it cannot have seen these sessions end. Others have, and say so until they are repaired;
            // those that are still away may come shortly after the first.
            None => {
                let comes = now.saturating_sub(self.changed) < DOUBT;
                let unsettled = self.back.values().filter(|a| a.settled.is_none());
                let mut doubt = unsettled.chain(self.lost.values().filter(|a| comes && !a.replaced));
                doubt.find(too_long).map_or(Word::Told, |a| Word::Unsure(apart(a)))
            }
        }
    }
}

impl<P> Control<P> {
    /// What this node's silence about a session tells a member: for how long back every tombstone is held, in milliseconds, and the counter
    /// when the two met again. For ever, which tells nothing, where this node was on a smaller side itself.
    pub(super) fn known_of(&self, member: MemberId, context: &Context, now: Time) -> (u64, u64) {
        let Some(met) = self.absences.met(member, context.name()) else { return (u64::MAX, 0) };
        (context.remembers(now).as_millis().try_into().unwrap_or(u64::MAX), met)
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
            self.absences.sample(clocks, now, now + self.notice_time());
        }
    }

    /// After this at the latest a member that is gone is known to be gone, unless this node was late itself.
    pub(super) fn notice_time(&self) -> Time {
        let settings = &self.settings;
        settings.frequency + settings.drop_time + TRIES * settings.verify_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Time = Time::from_secs(86400);

    #[test]
    fn who_is_replaced_is_not_awaited_in_whatever_order_that_shows() {
        let (addr, other) = (SocketAddr::from(([10, 0, 0, 2], 4700)), SocketAddr::from(([10, 0, 0, 3], 4700)));
        let now = Time::from_secs(1);
        let mut absences = Absences::default();
        absences.lose(MemberId(1), Some(addr), &[other], DAY, now);
        assert_eq!((absences.missed(DAY, now), absences.awaited(DAY, now)), (1, 1));
        assert!(!absences.find(MemberId(2), addr, now), "another incarnation was not away");
        assert_eq!((absences.missed(DAY, now), absences.awaited(DAY, now)), (1, 0));
        absences.lose(MemberId(3), Some(other), &[addr, other], DAY, now);
        assert_eq!((absences.missed(DAY, now), absences.awaited(DAY, now)), (2, 0));
    }

    #[test]
    fn who_was_on_a_smaller_side_believes_the_larger_and_is_not_believed_itself() {
        let addrs = [1, 2, 3].map(|last| SocketAddr::from(([10, 0, 0, last], 4700)));
        let at = Time::from_secs;
        let clocks = |counter| Clocks::from([(b"app".to_vec(), counter)]);
        let listing = listing();
        let ended = |others| Word::Ended(Separation { counter: 7, others, until: 900 });

        let mut alone = Absences::default();
        alone.sample(clocks(7), at(0), at(0));
        alone.sample(clocks(8), at(1), at(1));
        alone.lose(MemberId(1), Some(addrs[0]), &addrs[1..2], DAY, at(2));
        alone.lose(MemberId(2), Some(addrs[1]), &[], DAY, at(2));
        alone.find(MemberId(1), addrs[0], at(50));
        assert_eq!(alone.met(MemberId(1), b"app"), None, "what it says of the dead proves nothing");
        assert_eq!(alone.word_of(&listing, MemberId(1), at(50)), Word::Told, "the dead of that time are remembered");
        assert_eq!(alone.word_of(&listing, MemberId(1), at(90)), ended(vec![MemberId(2), MemberId(1)]));
        alone.settle(MemberId(1), at(91));
        alone.sample(clocks(9), at(95), at(95));
        assert_eq!(alone.word_of(&listing, MemberId(1), at(95)), ended(vec![MemberId(2), MemberId(1)]), "what is late");

        let mut most = Absences::default();
        most.sample(clocks(7), at(0), at(0));
        most.lose(MemberId(3), Some(addrs[2]), &addrs[..1], DAY, at(2));
        assert_eq!(most.met(MemberId(3), b"app"), Some(0), "it may ask before it is in view again");
        most.sample(clocks(8), at(40), at(40));
        most.find(MemberId(3), addrs[2], at(90));
        assert_eq!(most.met(MemberId(3), b"app"), Some(7));
        assert_eq!(most.word_of(&listing, MemberId(3), at(90)), Word::Told);
    }

    #[test]
    fn those_that_crashed_long_ago_are_on_no_side() {
        let addrs = [1, 2, 3, 4].map(|last| SocketAddr::from(([10, 0, 0, last], 4700)));
        let at = Time::from_secs;
        let mut most = Absences::default();
        // Their next incarnations came on other addresses.
        most.lose(MemberId(1), Some(addrs[0]), &addrs[1..2], DAY, at(100));
        most.find(MemberId(11), addrs[2], at(110));
        most.lose(MemberId(2), Some(addrs[1]), &addrs[2..3], DAY, at(1_000_000));
        most.find(MemberId(12), addrs[3], at(1_000_010));
        most.lose(MemberId(12), Some(addrs[3]), &addrs[2..3], DAY, at(3_000_000));
        assert!(most.met(MemberId(12), b"app").is_some(), "two of three are the larger side");
    }

    #[test]
    fn while_somebody_who_was_away_is_repaired_others_prove_nothing() {
        let addrs = [1, 2, 3, 9].map(|last| SocketAddr::from(([10, 0, 0, last], 4700)));
        let at = Time::from_secs;
        let listing = listing();
        let mut absences = Absences::default();
        absences.sample(Clocks::new(), at(0), at(0));
        for n in 1..4 {
            absences.lose(MemberId(n as u64), Some(addrs[n - 1]), &addrs[n..], DAY, at(2));
        }
        absences.lost.values_mut().for_each(|a| a.minority = true);
        for n in 1..4 {
            absences.find(MemberId(n as u64), addrs[n - 1], at(4000));
        }
        for now in [4005, 4111] {
            assert!(matches!(absences.word_of(&listing, MemberId(9), at(now)), Word::Unsure(_)));
        }
        (1..4).for_each(|n| absences.settle(MemberId(n), at(4111)));
        assert_eq!(absences.word_of(&listing, MemberId(9), at(4112)), Word::Told);
    }

    fn listing() -> Listing {
        Listing {
            context: b"app".to_vec(),
            round: 1,
            answer: false,
            last: true,
            differ: 1,
            remembers_ms: 60_000,
            met: 900,
            buckets: [0; 64],
            entries: Vec::new(),
        }
    }
}
