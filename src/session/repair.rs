//! What one member does for another's record, and for its own when it missed something.

use std::sync::Arc;

use super::context::{Context, Weight};
use super::emit::{Emission, Held};
use super::record::{Effects, Record};
use super::time::{LONG_AGO, millis};
use crate::id::{MemberId, Time, Uid, Version};
use crate::wire::FrameOut;

/// Since when this node was apart from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Separation {
    /// The Lamport counter then.
    pub counter: u64,
    /// Who was on the other side: what they wrote meanwhile was not written here, however late it arrived.
    pub others: Vec<MemberId>,
    /// The Lamport counter of the other side when the two met again.
    pub until: u64,
}

impl Separation {
    /// Whether something was written, rather than touched: on this side since, or by anybody after it.
    fn is_before(&self, record: &Record) -> bool {
        let written =
            |v: Version| v.counter > self.until || v.counter > self.counter && !self.others.contains(&v.member);
        record.attrs().iter().any(|attr| written(attr.version))
    }
}

impl Context {
    /// Present state of a uid (a tombstone too), extra flags or'ed in; `None` when not held.
    #[must_use]
    pub fn present(&self, uid: Uid, extra_flags: u32, now: Time) -> Option<FrameOut> {
        let shard = self.cell(uid).lock.read();
        let held = match (shard.records.get(uid), shard.graves.get(uid)) {
            (Some(record), _) => Held::Record(record),
            (None, Some(grave)) => Held::Grave(grave),
            (None, None) => return None,
        };
        Some(self.present_frame(uid, held, extra_flags, millis(now)))
    }

    /// Rescue: a new touch version on a session in use that another member expired; emits its present state.
    pub fn rescue(&self, uid: Uid, now: Time, emit: &mut dyn FnMut(Emission<'_>)) {
        let now = millis(now);
        let cell = self.cell(uid);
        let mut guard = cell.lock.write();
        let shard = &mut *guard;
        let Some(record) = shard.records.get_mut(uid).map(Arc::make_mut) else { return };
        let in_use = record.here != LONG_AGO && now.saturating_sub(record.here) <= record.idle(&self.spans);
        if !in_use || !record.is_expired() || record.is_partial() {
            return;
        }
        let before = Weight::of(record);
        record.write(self.next_version());
        record.announced = record.access;
        self.settle(before, Weight::of(record), 0);
        cell.schedule(&mut shard.queue, uid, record, record.deadline(self.me, &self.spans));
        let frame = self.present_frame(uid, Held::Record(record), 0, now);
        emit(Emission::new(self, uid, frame, Held::Record(record), now));
    }

    /// Every member answered and none had it whole: serve again if it was whole once, else drop it. True when it serves.
    ///
    /// Served again, it is whole by decision, which is a change like a write: it takes a version, so that who lacks what is
    /// here notices, and so that others pass it on should this node die while it tells them.
    pub fn lift(&self, uid: Uid, _now: Time) -> bool {
        let cell = self.cell(uid);
        let mut guard = cell.lock.write();
        let shard = &mut *guard;
        let Some(record) = shard.records.get_mut(uid).map(Arc::make_mut) else { return false };
        if !record.is_partial() {
            return true;
        }
        if record.is_expired() {
            return false;
        }
        let before = Weight::of(record);
        if record.lift() {
            record.write(self.next_version());
            self.settle(before, Weight::of(record), 0);
            cell.schedule(&mut shard.queue, uid, record, record.deadline(self.me, &self.spans));
            return true;
        }
        drop(guard);
        self.drop_record(uid, |r| r.is_partial() && !r.was_whole());
        false
    }

    /// Drops a session that nothing was written to on this side since a separation: it ended on the other, and its tombstones are
    /// forgotten. True when it was there.
    pub fn forget(&self, uid: Uid, separation: &Separation) -> bool {
        self.drop_record(uid, |record| !separation.is_before(record))
    }

    /// Whether something was written to a session on this side since a separation.
    #[must_use]
    pub fn is_written_since(&self, uid: Uid, separation: &Separation) -> bool {
        self.cell(uid).lock.read().records.get(uid).is_some_and(|record| separation.is_before(record))
    }

    /// Takes a record away without a trace, if `when` still holds under its lock.
    pub(crate) fn drop_record(&self, uid: Uid, when: impl FnOnce(&Record) -> bool) -> bool {
        let mut shard = self.cell(uid).lock.write();
        if !shard.records.get(uid).is_some_and(|r| when(r)) {
            return false;
        }
        let Some(record) = shard.records.remove(uid) else { return false };
        let mut effects = Effects::default();
        for attr in record.of_kind(super::key::NAME) {
            effects.names.push((attr.key.clone(), false));
        }
        self.index(uid, &effects);
        self.settle(Weight::of(&record), Weight::default(), 0);
        drop(shard);
        drop(record);
        true
    }
}
