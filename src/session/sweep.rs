//! Timers: idle sessions expire, expired ones lose their content and then go, tombstones are buried.
//!
//! Expiry never kills. An expired record keeps its attributes for the grace, so that who knows of a newer access can rescue
//! it; they are dropped only where every known member was in view and repaired for that long, since this copy may be the last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::attr::Key;
use super::context::{Context, Weight};
use super::emit::{Emission, Held};
use super::hash::SHARDS;
use super::record::Effects;
use super::shard::{Cell, Shard};
use super::time::{Millis, NEVER, millis, tick, tick_now, tick_start};
use crate::id::{Time, Uid};
use crate::mutant::planted;

/// What was swept.
#[derive(Debug, Default)]
pub struct Swept {
    /// Sessions that expired.
    pub expired: usize,
    /// Tombstones and expired records that are gone.
    pub buried: usize,
    /// Ids of the sessions that ended here, for events.
    pub ended: Vec<Key>,
    /// Whether the budget ran out.
    pub more: bool,
}

/// How many records one holding of a shard's lock looks at.
const CHUNK: usize = 64;
/// How soon an expired record that may not lose its content yet is looked at again, at the least.
const RETRY_MS: Millis = 1000;

impl Context {
    /// Expires what is due (emitting), drops attributes of long expired records (only when `whole_for`, how long every
    /// known member has been in view and repaired, is at least the grace), buries tombstones past the horizon unless somebody
    /// may still need them (`buries`). Looks at most at `budget` records.
    pub fn sweep(
        &self,
        now: Time,
        whole_for: Option<Duration>,
        buries: bool,
        budget: usize,
        emit: &mut dyn FnMut(Emission<'_>),
    ) -> Swept {
        let mut swept = Swept::default();
        let now = millis(now);
        let whole = whole_for.is_some_and(|span| millis(span) >= self.spans.grace) || planted!(ShedWhileCutOff);
        let mut left = budget;
        if buries || planted!(TombstoneDroppedEarly) {
            left = self.bury_due(now, budget, &mut swept);
        }
        let start = self.turn.load(Ordering::Relaxed);
        for at in (start..start + SHARDS).map(|at| at % SHARDS) {
            let cell = &self.cells[at];
            while cell.due.load(Ordering::Relaxed) <= tick_now(now) {
                if left == 0 {
                    self.turn.store(at, Ordering::Relaxed);
                    swept.more = true;
                    return swept;
                }
                left -= self.sweep_chunk(cell, now, whole, left.min(CHUNK), &mut swept, emit);
            }
        }
        swept
    }

    /// Earliest time at which [`sweep`](Self::sweep) has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let records = self.cells.iter().map(|c| c.due.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
        let first = self.deaths.lock().first().map_or(NEVER, |(since, _)| since.saturating_add(self.lifetime()));
        let due = if first == NEVER { records } else { records.min(tick(first)) };
        (due != u64::MAX).then(|| tick_start(due))
    }

    /// Looks at up to `budget` queued records of a shard; says at how many.
    fn sweep_chunk(
        &self,
        cell: &Cell,
        now: Millis,
        whole: bool,
        budget: usize,
        swept: &mut Swept,
        emit: &mut dyn FnMut(Emission<'_>),
    ) -> usize {
        let mut effects = Effects::default();
        let mut forgotten: SmallVec<[Uid; 8]> = SmallVec::new();
        let mut guard = cell.lock.write();
        let mut seen = 0;
        while seen < budget
            && let Some((tick, uid)) = cell.pop_due(&mut guard.queue, tick_now(now))
        {
            seen += 1;
            self.visit(cell, &mut guard, (tick, uid), now, whole, (&mut effects, &mut forgotten), swept, emit);
        }
        drop(guard);
        drop(effects);
        for uid in forgotten {
            swept.buried += usize::from(self.drop_record(uid, |r| r.is_expired() && !r.has_content()));
        }
        // A shard whose queue emptied meanwhile still costs one, so that the caller's loop ends.
        seen.max(1)
    }

    /// Does what a queued record is due for.
    fn visit(
        &self,
        cell: &Cell,
        shard: &mut Shard,
        (tick, uid): (u64, Uid),
        now: Millis,
        whole: bool,
        (effects, forgotten): (&mut Effects, &mut SmallVec<[Uid; 8]>),
        swept: &mut Swept,
        emit: &mut dyn FnMut(Emission<'_>),
    ) {
        let Some(record) = shard.records.get_mut(uid).filter(|r| r.queued == tick) else { return };
        let record = Arc::make_mut(record);
        record.queued = u64::MAX;
        let mut deadline = record.deadline(self.me, &self.spans);
        if deadline <= now {
            let before = Weight::of(record);
            if !record.is_expired() {
                record.expire(now);
                swept.expired += 1;
                if record.was_whole() {
                    swept.ended.extend(record.id().cloned());
                }
                let frame = self.delta_frame(uid, record, record.top, &[], &[], now);
                emit(Emission::new(self, uid, frame, Held::Record(record), now));
            } else if !record.has_content() {
                forgotten.push(uid);
                return;
            } else if whole {
                record.shed(effects);
            }
            self.settle(before, Weight::of(record), 0);
            deadline = record.deadline(self.me, &self.spans);
            if deadline <= now {
                deadline = now.saturating_add(self.spans.grace.max(RETRY_MS));
            }
        }
        cell.schedule(&mut shard.queue, uid, record, deadline);
    }

    /// How long tombstones live.
    fn lifetime(&self) -> Millis {
        if planted!(TombstoneDroppedEarly) { 500 } else { self.spans.horizon }
    }

    /// Buries tombstones past the horizon; says what is left of the budget.
    fn bury_due(&self, now: Millis, budget: usize, swept: &mut Swept) -> usize {
        for spent in 0..budget {
            let mut deaths = self.deaths.lock();
            let due = deaths.first().copied().filter(|(since, _)| since.saturating_add(self.lifetime()) <= now);
            let Some((since, uid)) = due else { return budget - spent };
            deaths.pop_first();
            drop(deaths);
            swept.buried += usize::from(self.bury(uid, since));
        }
        0
    }
}
