//! Who was away for longer than tombstones live, and what that excuses.
//!
//! A member is *away* while it stands still or reaches at most half of the hosts, itself among them. Beyond the horizon the
//! others may have forgotten what ended meanwhile, so what only it still holds proves nothing: it may be dropped, unless
//! the session was written to while it was away, or nobody stayed. What it alone ended may come back, for it forgets that as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{MemberId, Time};

/// A node judges by its own clock, and from when it noticed: an absence of this share of the horizon may count as one.
const BORDER: f64 = 0.7;
/// As long may a node take to notice that it is alone, or is not any more.
pub(super) const NOTICE: Duration = Duration::from_secs(4);

/// One time during which a member was away.
#[derive(Debug)]
struct Absence {
    from: Time,
    /// Its end, or the last moment at which it was seen to go on.
    until: Time,
    /// Others were in company meanwhile, and may have ended sessions.
    others_stayed: bool,
}

/// Every absence of each member.
#[derive(Debug)]
pub(super) struct Absences {
    border: Duration,
    /// When a member that lives was last in company.
    company: BTreeMap<MemberId, Time>,
    all: BTreeMap<MemberId, Vec<Absence>>,
}

impl Absences {
    pub(super) fn new(horizon: Duration) -> Self {
        Self { border: horizon.mul_f64(BORDER), company: BTreeMap::new(), all: BTreeMap::new() }
    }

    /// Of each member that lives: whether it is in company now.
    pub(super) fn note(&mut self, members: &[(MemberId, bool)], now: Time) {
        let others_stayed = members.iter().any(|(_, in_company)| *in_company);
        for (member, in_company) in members {
            let since = self.company.entry(*member).or_insert(now);
            if *in_company {
                *since = now;
                continue;
            }
            let all = self.all.entry(*member).or_default();
            match all.last_mut().filter(|a| a.from == *since) {
                Some(absence) => {
                    absence.until = now;
                    absence.others_stayed |= others_stayed;
                }
                None => all.push(Absence { from: *since, until: now, others_stayed }),
            }
        }
    }

    fn long(&self, member: MemberId) -> impl Iterator<Item = &Absence> {
        let border = self.border;
        self.all.get(&member).into_iter().flatten().filter(move |a| a.until.saturating_sub(a.from) >= border)
    }

    /// Whether a member was ever away for so long after the time.
    pub(super) fn was_away_after(&self, member: MemberId, at: Time) -> bool {
        self.long(member).any(|a| at <= a.until + NOTICE)
    }

    /// Whether a member was away for so long at the time.
    pub(super) fn is_away_at(&self, member: MemberId, at: Time) -> bool {
        self.long(member).any(|a| a.from <= at + NOTICE && at <= a.until + NOTICE)
    }

    /// Whether a member may have dropped a session that it alone still held and that was written to last at that time.
    pub(super) fn may_drop(&self, member: MemberId, written: Time) -> bool {
        self.long(member).any(|a| a.others_stayed && written < a.from)
    }
}
