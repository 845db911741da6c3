//! Members heard of and not admitted: whom to dial, and when.
//!
//! A candidate costs a table entry and dials, and anyone who can send a datagram can propose one. So the table
//! is bounded, dials are rationed per ping period, and a candidate that is not heard for `drop_time` goes.
//! Those that completed a handshake with us ("met") go first in both.

use std::collections::BTreeMap;

use super::types::Member;
use crate::id::{MemberId, NodeState, Time};
use crate::proto::backoff::Backoff;

/// Dials in one ping period. A cluster of this size forms within one period; a flood of forged pings costs us
/// no more than this.
pub(super) const DIALS_PER_PERIOD: u32 = 32;

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) member: Member,
    /// Highest sequence heard.
    pub(super) seq: u64,
    /// It is dropped then unless heard again.
    pub(super) expires: Time,
    pub(super) dial: Dial,
    /// Penalty for having been removed from the view: not dialled before.
    pub(super) not_before: Time,
    /// Whether it dialled us and shook hands, rather than only being named in a datagram.
    pub(super) met: bool,
    pub(super) backoff: Backoff,
}

/// Where the dial of a candidate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dial {
    /// Due at this time.
    At(Time),
    /// Asked for; the answer is owed by the driver.
    UnderWay,
}

#[derive(Debug)]
pub(super) struct Candidates {
    table: BTreeMap<MemberId, Candidate>,
    max: usize,
    period: Time,
    credit: u32,
    refill_at: Time,
}

impl Candidates {
    pub(super) fn new(max: usize, period: Time, now: Time) -> Self {
        Self { table: BTreeMap::new(), max, period, credit: DIALS_PER_PERIOD, refill_at: now + period }
    }

    /// Whether another candidate may come in: there is room, or, for one that we met, a stranger to displace.
    pub(super) fn has_room(&self, met: bool) -> bool {
        self.table.len() < self.max || (met && self.table.values().any(|c| !c.met))
    }

    /// Takes a candidate in for which there is room, and returns the stranger that it displaced.
    pub(super) fn insert(&mut self, candidate: Candidate) -> Option<Candidate> {
        debug_assert!(self.has_room(candidate.met));
        let mut displaced = None;
        if self.table.len() >= self.max {
            let stranger = self.table.values().filter(|c| !c.met).min_by_key(|c| c.expires).map(|c| c.member.id);
            displaced = stranger.and_then(|id| self.table.remove(&id));
        }
        self.table.insert(candidate.member.id, candidate);
        displaced
    }

    pub(super) fn get_mut(&mut self, member: MemberId) -> Option<&mut Candidate> {
        self.table.get_mut(&member)
    }

    pub(super) fn remove(&mut self, member: MemberId) -> Option<Candidate> {
        self.table.remove(&member)
    }

    /// Takes the next candidate to dial: those that we met first, then those that wait the longest.
    pub(super) fn next_dial(&mut self, now: Time) -> Option<&Member> {
        if now >= self.refill_at {
            self.credit = DIALS_PER_PERIOD;
            self.refill_at = now + self.period;
        }
        if self.credit == 0 {
            return None;
        }
        let chosen = self
            .table
            .values_mut()
            .filter_map(|c| Some((c.dial_at().filter(|at| *at <= now)?, c)))
            .min_by_key(|(at, c)| (!c.met, *at))?
            .1;
        self.credit -= 1;
        chosen.dial = Dial::UnderWay;
        Some(&chosen.member)
    }

    /// When to call [`Candidates::next_dial`] again.
    pub(super) fn next_dial_at(&self) -> Option<Time> {
        let due = self.table.values().filter_map(Candidate::dial_at).min()?;
        Some(if self.credit == 0 { due.max(self.refill_at) } else { due })
    }

    /// The ids that were not heard in time.
    pub(super) fn expired(&self, now: Time) -> Vec<MemberId> {
        self.table.values().filter(|c| c.expires <= now).map(|c| c.member.id).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.table.values().map(|c| c.expires).min()
    }

    /// This node was late: silence during that time proves nothing.
    pub(super) fn extend(&mut self, late: Time) {
        for candidate in self.table.values_mut() {
            candidate.expires += late;
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.table.values().map(|c| &c.member)
    }
}

impl Candidate {
    /// When it is to be dialled; one that leaves is not.
    fn dial_at(&self) -> Option<Time> {
        match (self.dial, self.member.state) {
            (Dial::At(at), NodeState::Joining | NodeState::Ready) => Some(at),
            (Dial::UnderWay, _) | (_, NodeState::Leaving) => None,
        }
    }
}
