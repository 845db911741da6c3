//! The joiner's side of a state transfer: whom to ask, who has answered, when to open.
//!
//! A joiner is live for new changes first (members that admitted it send them), then asks every ready member for
//! everything and merges. It opens when every ready member now in view has answered this incarnation's request; a
//! donor that goes is forgotten, one that appears is asked too. Where nobody is ready, the lowest id of those
//! starting opens.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::ReadyReason;
use crate::id::{MemberId, Time};
use crate::mutant::planted;

/// Ping periods without a ready member after which nobody is taken to be ready.
const PERIODS_ALONE: u32 = 2;

/// A joiner that is brought something all the time opens after so many timeouts.
const TIMEOUTS_MAX: u32 = 60;

/// A member as the join rule sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: MemberId,
    pub(super) ready: bool,
    pub(super) in_view: bool,
}

/// What the rule wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait until the time, or for news.
    Wait(Time),
    /// Open.
    Open(ReadyReason),
}

/// A join under way.
#[derive(Debug)]
pub(super) struct Join {
    me: MemberId,
    alone_at: Time,
    timeout: Time,
    /// When it opens anyway: so long after it was brought something last.
    deadline: Time,
    /// Whatever it is brought until then.
    latest: Time,
    round: u64,
    asked: BTreeMap<MemberId, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    round: u64,
    lanes: BTreeSet<u16>,
    done: bool,
    /// Whole sessions that it sent, ever.
    brought: u64,
}

impl Join {
    pub(super) fn new(me: MemberId, frequency: Time, timeout: Time, now: Time) -> Self {
        Self {
            me,
            alone_at: now + frequency * PERIODS_ALONE,
            timeout,
            deadline: now.saturating_add(timeout),
            latest: now.saturating_add(timeout.saturating_mul(TIMEOUTS_MAX)),
            round: 0,
            asked: BTreeMap::new(),
        }
    }

    /// Notes how many whole sessions a member sent so far. While those that have not sent everything yet send more it waits, however
    /// long a large state takes.
    pub(super) fn brought(&mut self, member: MemberId, sessions: u64, now: Time) {
        if let Some(asked) = self.asked.get_mut(&member)
            && !asked.done
            && sessions > asked.brought
        {
            asked.brought = sessions;
            self.deadline = now.saturating_add(self.timeout).min(self.latest);
        }
    }

    /// Members to ask now, each with the round of its request.
    pub(super) fn ask(&mut self, known: &[Known]) -> Vec<(MemberId, u64)> {
        let mut requests = Vec::new();
        for member in known.iter().filter(|m| m.ready && m.in_view) {
            if self.asked.contains_key(&member.id) {
                continue;
            }
            self.round += 1;
            self.asked.insert(member.id, Asked { round: self.round, ..Asked::default() });
            requests.push((member.id, self.round));
        }
        requests
    }

    /// A donor went: what it sent stays merged, its answer counts no more.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.asked.remove(&member);
    }

    /// A donor sent everything on one of its lanes; it says so again when it is not sure that this was heard.
    pub(super) fn done(&mut self, member: MemberId, round: u64, lane: u16, lanes: u16) {
        if let Some(asked) = self.asked.get_mut(&member)
            && asked.round == round
        {
            if lane < lanes {
                asked.lanes.insert(lane);
            }
            asked.done = asked.lanes.len() >= usize::from(lanes) || planted!(DoneBeforeAllLanes);
        }
    }

    /// What is waited for, in words.
    pub(super) fn waiting_for(&self, known: &[Known]) -> String {
        let donors = known.iter().filter(|m| m.ready && !self.answered(m.id)).count();
        if donors > 0 {
            return format!("state from {donors} ready member(s)");
        }
        match known.iter().filter(|m| m.id < self.me).count() {
            0 => String::from("two ping periods to hear of a ready member"),
            1 => String::from("a starting member with a lower id, which opens first"),
            n => format!("{n} starting members with lower ids, the lowest of which opens first"),
        }
    }

    fn answered(&self, member: MemberId) -> bool {
        self.asked.get(&member).is_some_and(|a| a.done)
    }

    pub(super) fn verdict(&self, known: &[Known], now: Time) -> Verdict {
        let ready = known.iter().filter(|m| m.ready);
        let missing = ready.clone().filter(|m| !self.answered(m.id)).count();
        if now >= self.deadline {
            let n = u32::try_from(missing).unwrap_or(u32::MAX);
            return Verdict::Open(ReadyReason::TimedOut(n));
        }
        if ready.clone().count() > 0 {
            let first = planted!(OpensAfterFirstDonor) && missing < ready.count();
            return if missing == 0 || first {
                Verdict::Open(ReadyReason::Transferred)
            } else {
                Verdict::Wait(self.deadline)
            };
        }
        if now < self.alone_at {
            return Verdict::Wait(self.alone_at);
        }
        if known.iter().any(|m| m.id < self.me) {
            return Verdict::Wait(self.deadline);
        }
        Verdict::Open(ReadyReason::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Time = Time::from_millis(1);

    fn known(id: u64, ready: bool) -> Known {
        Known { id: MemberId(id), ready, in_view: true }
    }

    fn join(me: u64) -> Join {
        Join::new(MemberId(me), 100 * MS, 60_000 * MS, Time::ZERO)
    }

    #[test]
    fn a_node_alone_opens_after_two_ping_periods_and_not_before() {
        let j = join(5);
        assert_eq!(j.verdict(&[], 199 * MS), Verdict::Wait(200 * MS));
        assert_eq!(j.verdict(&[], 200 * MS), Verdict::Open(ReadyReason::First));
    }

    #[test]
    fn of_two_starting_nodes_only_the_lower_id_opens() {
        let peers_of_low = [known(9, false)];
        let peers_of_high = [known(5, false)];
        assert_eq!(join(5).verdict(&peers_of_low, 250 * MS), Verdict::Open(ReadyReason::First));
        assert!(matches!(join(9).verdict(&peers_of_high, 250 * MS), Verdict::Wait(_)));
    }

    #[test]
    fn a_ready_member_that_has_not_answered_keeps_a_joiner_closed() {
        let mut j = join(5);
        let peers = [known(7, true)];
        let asked = j.ask(&peers);
        assert_eq!(asked.len(), 1);
        assert!(matches!(j.verdict(&peers, 1000 * MS), Verdict::Wait(_)));
        j.done(MemberId(7), asked[0].1, 0, 2);
        j.done(MemberId(7), asked[0].1, 0, 2);
        assert!(matches!(j.verdict(&peers, 1000 * MS), Verdict::Wait(_)), "one of two lanes, told twice, is not all");
        j.done(MemberId(7), asked[0].1, 1, 2);
        assert_eq!(j.verdict(&peers, 1000 * MS), Verdict::Open(ReadyReason::Transferred));
    }

    #[test]
    fn a_joiner_that_is_brought_something_waits_on_but_not_for_ever() {
        let mut j = join(5);
        let peers = [known(7, true)];
        j.ask(&peers);
        let timed_out = Verdict::Open(ReadyReason::TimedOut(1));
        for sessions in 1..60 {
            let now = 59_999 * MS * sessions;
            j.brought(MemberId(7), u64::from(sessions), now);
            assert!(matches!(j.verdict(&peers, now), Verdict::Wait(_)));
        }
        j.brought(MemberId(7), 1000, 3_599_999 * MS);
        assert_eq!(j.verdict(&peers, 3_600_000 * MS), timed_out);

        let mut silent = join(5);
        silent.ask(&peers);
        silent.brought(MemberId(7), 1, 30_000 * MS);
        silent.brought(MemberId(7), 1, 60_000 * MS);
        assert!(matches!(silent.verdict(&peers, 89_999 * MS), Verdict::Wait(_)));
        assert_eq!(silent.verdict(&peers, 90_000 * MS), timed_out);
    }

    #[test]
    fn changes_of_a_member_that_sent_everything_do_not_keep_a_joiner_waiting_for_a_silent_one() {
        let mut j = join(5);
        let peers = [known(7, true), known(8, true)];
        let asked = j.ask(&peers);
        j.done(MemberId(7), asked[0].1, 0, 1);
        j.brought(MemberId(7), 100, 30_000 * MS);
        assert_eq!(j.verdict(&peers, 60_000 * MS), Verdict::Open(ReadyReason::TimedOut(1)));
    }

    #[test]
    fn a_ready_member_that_appears_late_is_waited_for_too() {
        let mut j = join(5);
        let asked = j.ask(&[known(7, true)]);
        j.done(MemberId(7), asked[0].1, 0, 1);
        let peers = [known(7, true), known(8, true)];
        assert_eq!(j.ask(&peers).len(), 1);
        assert!(matches!(j.verdict(&peers, 1000 * MS), Verdict::Wait(_)));
    }

    #[test]
    fn an_answer_of_an_older_request_does_not_count() {
        let mut j = join(5);
        let peers = [known(7, true)];
        let first = j.ask(&peers)[0].1;
        j.forget(MemberId(7));
        let second = j.ask(&peers)[0].1;
        assert_ne!(first, second);
        j.done(MemberId(7), first, 0, 1);
        assert!(matches!(j.verdict(&peers, 1000 * MS), Verdict::Wait(_)));
        j.done(MemberId(7), second, 0, 1);
        assert_eq!(j.verdict(&peers, 1000 * MS), Verdict::Open(ReadyReason::Transferred));
    }

    #[test]
    fn the_deadline_opens_and_says_how_many_are_missing() {
        let mut j = join(5);
        let peers = [known(7, true), known(8, true)];
        j.ask(&peers);
        assert_eq!(j.verdict(&peers, 60_000 * MS), Verdict::Open(ReadyReason::TimedOut(2)));
    }
}
