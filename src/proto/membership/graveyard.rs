//! Members that are gone, so that what they once said is not taken for life.
//!
//! The table is bounded: above its size the oldest grave goes, those of candidates first. Losing one costs a
//! dial that fails, for a ping never admits.

use std::collections::BTreeMap;

use crate::id::{MemberId, Time};
use crate::proto::backoff::Backoff;

/// Graves kept. A grave is about a hundred bytes; 256 restarts within one partition is far above any cluster
/// that pings every member can serve.
pub(super) const GRAVES_MAX: usize = 256;

/// How a member went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    /// It was a candidate that went quiet.
    Forgotten,
    /// It was in view and did not answer. It may have been cut off, so it may come back.
    Down,
    /// It said over its own link that it leaves. An incarnation leaves once: it stays out.
    Left,
}

/// What is remembered of a member that is gone.
#[derive(Clone, Debug)]
pub(super) struct Grave {
    pub(super) end: End,
    /// When it went.
    pub(super) at: Time,
    /// Highest sequence heard: anything up to it is a replay.
    pub(super) seq: u64,
    /// Before this a ping does not bring it back; for `Down` a handshake does not either.
    pub(super) retry_at: Time,
    /// Its failures so far, carried into its next life.
    pub(super) backoff: Backoff,
}

#[derive(Debug, Default)]
pub(super) struct Graveyard {
    graves: BTreeMap<MemberId, Grave>,
}

impl Graveyard {
    pub(super) fn bury(&mut self, member: MemberId, grave: Grave) {
        self.graves.insert(member, grave);
        if self.graves.len() > GRAVES_MAX {
            let oldest = self.graves.iter().min_by_key(|(_, g)| (g.end != End::Forgotten, g.at)).map(|(id, _)| *id);
            oldest.and_then(|id| self.graves.remove(&id));
        }
    }

    pub(super) fn get_mut(&mut self, member: MemberId) -> Option<&mut Grave> {
        self.graves.get_mut(&member)
    }

    pub(super) fn take(&mut self, member: MemberId) -> Option<Grave> {
        self.graves.remove(&member)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.graves.len()
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.graves.keys().copied()
    }
}
