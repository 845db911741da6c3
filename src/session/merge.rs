//! Merging what arrived: the only way in which another member changes anything here.
//!
//! Every limit is checked before anything changes, and every frame moves the clock, refused ones too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::attr::Key;
use super::context::{Context, Weight};
use super::kill::{Death, name_keys};
use super::record::{Claim, Effects, Growth, OVER_MAX, Record, signed};
use super::time::{LONG_AGO, Millis, before, millis};
use super::{NAME_BYTES_MAX, key};
use crate::id::{Time, Uid, Version};
use crate::mark::hit;
use crate::mutant::planted;
use crate::wire::{AttrView, RefusedCode, SessionView, flags};

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Anything in the record changed.
    pub changed: bool,
    /// The record is partial now: ask for the present state.
    pub partial: bool,
    /// Another member expired a session that is in use here.
    pub rescue: bool,
    /// What became of it in a reader's eyes.
    pub event: Option<MergedEvent>,
    /// One id of the session, for events.
    pub id: Option<Key>,
    /// The record was partial and became whole through this frame.
    pub completed: bool,
    /// The session is dead here and the sender does not know: tell it.
    pub dead: bool,
}

/// What became of the session in a reader's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergedEvent {
    /// It is there now, and was not before.
    Created,
    /// Its attributes changed.
    Changed,
    /// It was invalidated or expired.
    Ended,
}

/// Of a record, what decides about events.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    partial: bool,
    expired: bool,
    was_whole: bool,
}

impl Seen {
    fn of(record: &Record) -> Self {
        Self { partial: record.is_partial(), expired: record.is_expired(), was_whole: record.was_whole() }
    }
}

impl Context {
    /// Merges a received frame.
    ///
    /// # Errors
    /// The reason for the ack; nothing changed then (but for the clock).
    pub fn merge(&self, incoming: &SessionView<'_>, now: Time) -> Result<Merged, RefusedCode> {
        let merged = self.take_in(incoming, now);
        if merged.is_err() {
            self.lacks.store(true, Ordering::Relaxed);
        }
        merged
    }

    fn take_in(&self, incoming: &SessionView<'_>, now: Time) -> Result<Merged, RefusedCode> {
        let versions = [incoming.top(), incoming.exp(), incoming.base()];
        let highest = versions.iter().map(|v| v.counter).max().unwrap_or(0);
        self.observe(highest.max(incoming.clock()).max(incoming.uid().counter));
        if incoming.flags() & flags::UNKNOWN != 0 {
            return Ok(hit!(AskedForTheUnknown => Merged::default()));
        }
        let now = millis(now);
        let uid = incoming.uid();
        let over: SmallVec<[Uid; 4]> = incoming.over().filter(|u| *u != uid).take(OVER_MAX).collect();
        if incoming.flags() & flags::DEAD != 0 {
            return Ok(self.merge_death(uid, incoming, &over, now));
        }
        if !over.is_empty() && !planted!(OverNotApplied) {
            // Before the record is readable, so that an old login and the new one are never seen together.
            self.kill_over(uid, incoming, &over, now)?;
        }
        self.merge_record(uid, incoming, &over, now)
    }

    fn merge_death(&self, uid: Uid, incoming: &SessionView<'_>, over: &[Uid], now: Millis) -> Merged {
        let since = before(now, incoming.age_ms());
        let names = name_keys(incoming.attrs().map(|a| a.key));
        for &old in over {
            self.kill(old, &Death { since: now, names: &names, over: &[], unknown: true }, now, None);
        }
        let unknown = now.saturating_sub(since) < self.spans.horizon;
        let killed = self.kill(uid, &Death { since, names: &names, over, unknown }, now, None);
        let event = killed.ended.as_ref().map(|_| MergedEvent::Ended);
        Merged { changed: killed.new, event, id: killed.ended, ..Merged::default() }
    }

    /// Kills what the create of this record killed, unless its record or tombstone says that this was done before.
    fn kill_over(&self, uid: Uid, incoming: &SessionView<'_>, over: &[Uid], now: Millis) -> Result<(), RefusedCode> {
        let mut fresh: SmallVec<[Uid; 4]> = SmallVec::from_slice(over);
        {
            let shard = self.cell(uid).lock.read();
            let held = match (shard.records.get(uid), shard.graves.get(uid)) {
                (Some(record), _) => {
                    self.check(Some(record), incoming)?;
                    record.over()
                }
                (None, Some(grave)) => grave.over(),
                (None, None) => {
                    let growth = self.check(None, incoming)?;
                    if !self.totals.reserve(growth.bytes) {
                        return Err(hit!(CreateOverIntoFullStore => RefusedCode::Full));
                    }
                    self.totals.adjust(-growth.bytes.max(0));
                    &[]
                }
            };
            fresh.retain(|u| !held.contains(u));
        }
        let names = name_keys(incoming.attrs().filter(|a| a.value.is_some()).map(|a| a.key));
        for old in fresh {
            self.kill(old, &Death { since: now, names: &names, over: &[], unknown: true }, now, None);
        }
        Ok(())
    }

    fn merge_record(
        &self,
        uid: Uid,
        incoming: &SessionView<'_>,
        over: &[Uid],
        now: Millis,
    ) -> Result<Merged, RefusedCode> {
        let accessed = before(now, incoming.age_ms());
        let claim = claim(incoming);
        let cell = self.cell(uid);
        let mut guard = cell.lock.write();
        let shard = &mut *guard;
        if shard.graves.get(uid).is_some() {
            drop(guard);
            let names = name_keys(incoming.attrs().map(|a| a.key));
            self.kill(uid, &Death { since: Millis::MAX, names: &names, over, unknown: false }, now, None);
            return Ok(hit!(WriteToTheDead => Merged { dead: true, ..Merged::default() }));
        }
        let growth = self.check(shard.records.get(uid).map(|r| &**r), incoming)?;
        let held = shard.records.get(uid).is_some();
        if !held && claim.exp >= claim.top && self.is_forgotten(incoming, accessed, now) {
            return Ok(hit!(LongExpired => Merged::default()));
        }
        if !self.totals.reserve(growth.bytes) {
            return Err(hit!(MergeIntoFullStore => RefusedCode::Full));
        }

        let record = match held {
            true => shard.records.get_mut(uid),
            false => Some(shard.records.insert(Arc::new(Record::new(uid)))),
        };
        let Some(record) = record.map(Arc::make_mut) else { return Ok(Merged::default()) };
        let (seen, weight) = if held { (Seen::of(record), Weight::of(record)) } else { Default::default() };
        let mut effects = Effects::default();
        let load = |range| incoming.value(range);
        let joined = record.join(&claim, attrs(incoming), over.iter().copied(), load, &mut effects);
        record.access = record.access.max(accessed);
        record.announced = record.announced.max(accessed);
        if record.is_expired() && !seen.expired {
            record.expired_at = now;
        }
        self.index(uid, &effects);
        self.settle(weight, Weight::of(record), growth.bytes);
        cell.schedule(&mut shard.queue, uid, record, record.deadline(self.me, &self.spans));

        let is = Seen::of(record);
        let in_use = record.here != LONG_AGO && now.saturating_sub(record.here) <= record.idle(&self.spans);
        let event = event(held.then_some(seen), is, joined.attrs);
        let merged = Merged {
            changed: joined.any || !held,
            partial: is.partial && !is.expired,
            rescue: is.expired && !is.partial && in_use,
            event,
            id: if event.is_some() { record.id().cloned() } else { None },
            completed: held && seen.partial && !is.partial,
            dead: false,
        };
        drop(guard);
        drop(effects);
        Ok(merged)
    }

    /// Whether an expired record is so old that other members forget it: it is not made anew.
    fn is_forgotten(&self, incoming: &SessionView<'_>, accessed: Millis, now: Millis) -> bool {
        let mut probe = Record::new(incoming.uid());
        let idle = incoming.attrs().filter(|a| a.key == [key::IDLE]);
        let nothing = Claim { base: Version::ZERO, top: Version::ZERO, exp: Version::ZERO, fills: false };
        probe.join(&nothing, idle, std::iter::empty(), |range| incoming.value(range), &mut Effects::default());
        probe.access = accessed;
        probe.forget_at(&self.spans) <= now
    }

    /// Checks names, values and the session's size; says by how much the record would grow.
    fn check(&self, held: Option<&Record>, incoming: &SessionView<'_>) -> Result<Growth, RefusedCode> {
        let empty = Record::new(incoming.uid());
        let record = held.unwrap_or(&empty);
        let mut growth = Growth { bytes: if held.is_some() { 0 } else { signed(record.bytes()) }, payload: 0 };
        for AttrView { key, version, value } in attrs(incoming) {
            let Some((&kind, name)) = key.split_first() else { continue };
            let len = value.map(|(from, to)| to.saturating_sub(from));
            if name.len() > NAME_BYTES_MAX || len.is_some_and(|l| l > self.limits.value_bytes_max) {
                return Err(hit!(MergedAttributeTooLarge => RefusedCode::TooLarge));
            }
            let place = record.find(kind, name);
            if place.is_err() || place.is_ok_and(|at| record.attrs()[at].version < version) {
                let one = record.growth(place, kind, name, len.map(|l| (l, l)));
                growth.bytes += one.bytes;
                growth.payload += one.payload;
            }
        }
        let payload = signed(record.payload()) + growth.payload;
        if growth.payload > 0 && payload > signed(self.limits.session_bytes_max) {
            return Err(hit!(MergedSessionTooLarge => RefusedCode::TooLarge));
        }
        Ok(growth)
    }
}

/// The attributes of a frame. In a sound one none is above its `top`, which is what moves the clock.
fn attrs<'a>(incoming: &SessionView<'a>) -> impl Iterator<Item = AttrView<'a>> {
    let top = incoming.top();
    incoming.attrs().filter(move |a| a.version <= top)
}

/// What the frame claims: a create and a complete present state build on nothing, an incomplete one fills no gap.
fn claim(incoming: &SessionView<'_>) -> Claim {
    let (base, top, exp) = (incoming.base(), incoming.top(), incoming.exp());
    match (incoming.flags() & flags::PRESENT != 0, incoming.flags() & flags::COMPLETE != 0) {
        (true, true) => Claim { base: Version::ZERO, top, exp, fills: true },
        (true, false) => Claim { base: if base == Version::ZERO { top } else { base }, top, exp, fills: false },
        (false, _) => Claim { base: if planted!(BaseIgnored) { Version::ZERO } else { base }, top, exp, fills: true },
    }
}

/// What a reader notices. A partial record is only late: it neither ends nor changes until it is whole again.
fn event(before: Option<Seen>, is: Seen, attrs: bool) -> Option<MergedEvent> {
    let there = before.is_some_and(|b| b.was_whole && !b.expired);
    if there && is.expired {
        Some(MergedEvent::Ended)
    } else if is.partial || is.expired {
        None
    } else if !there {
        Some(MergedEvent::Created)
    } else {
        let completed = before.is_some_and(|b| b.partial);
        (attrs || completed).then_some(MergedEvent::Changed)
    }
}
