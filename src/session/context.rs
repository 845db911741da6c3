//! A context: the tables of one web application, their locks, and the reads.
//!
//! Lock order: a shard, then the index of names, then the order of deaths. A union of several uids locks one shard
//! at a time, lowest uid first. `emit` runs under the lock of a shard and takes no lock of this store.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use super::attr::Key;
use super::digest::Sums;
use super::handle::Pending;
use super::hash::{Keys, SHARDS, place};
use super::names::Names;
use super::record::{Effects, Record, signed};
use super::shard::Cell;
use super::store::Totals;
use super::time::{LONG_AGO, Millis, Spans, age, millis};
use super::{Handle, Limits, RecordDump, Settings, key};
use crate::buffer::Slice;
use crate::id::{MemberId, Time, Uid, Version};
use crate::mutant::planted;

/// One web application's sessions.
#[derive(Debug)]
pub struct Context {
    this: Weak<Self>,
    name: Box<[u8]>,
    pub(crate) me: MemberId,
    pub(crate) limits: Limits,
    settings: Settings,
    pub(crate) spans: Spans,
    /// The Lamport counter: every version here or merged is at or below it.
    clock: AtomicU64,
    pub(crate) cells: Box<[CachePadded<Cell>]>,
    pub(crate) names: Names,
    pub(crate) sums: Sums,
    /// Tombstones by time of death: the oldest go first.
    pub(crate) deaths: Mutex<BTreeSet<(Millis, Uid)>>,
    /// The latest time of death whose tombstone is gone.
    pub(crate) forgotten: AtomicI64,
    /// Something was refused here that others hold.
    pub(crate) lacks: AtomicBool,
    pub(crate) totals: Arc<Totals>,
    sessions: AtomicUsize,
    /// The shard at which the next sweep starts, so that a small budget still reaches all.
    pub(crate) turn: AtomicUsize,
}

/// What a record counts for, before and after a change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weight {
    uid: Uid,
    bytes: isize,
    live: bool,
    fingerprint: u64,
}

impl Weight {
    pub(crate) fn of(record: &Record) -> Self {
        let (bytes, live) = (signed(record.bytes()), !record.is_expired());
        Self { uid: record.uid, bytes, live, fingerprint: record.fingerprint() }
    }
}

impl Context {
    pub(crate) fn new(
        this: Weak<Self>,
        name: &[u8],
        me: MemberId,
        limits: Limits,
        settings: Settings,
        seed: u64,
        totals: Arc<Totals>,
    ) -> Self {
        let keys = Keys::new(seed);
        Self {
            this,
            name: name.into(),
            me,
            limits,
            settings,
            spans: Spans::new(&settings),
            clock: AtomicU64::new(0),
            cells: (0..SHARDS).map(|_| CachePadded::new(Cell::new(keys))).collect(),
            names: Names::new(keys, totals.clone()),
            sums: Sums::new(),
            deaths: Mutex::default(),
            forgotten: AtomicI64::new(LONG_AGO),
            lacks: AtomicBool::new(false),
            totals,
            sessions: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    /// The context's name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The replication settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The present Lamport counter: no version that this node holds or wrote is above it.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Live sessions: neither dead nor expired; partial ones count.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// The names of live records in one part of the index; `None` past the last part.
    #[must_use]
    pub fn ids(&self, part: usize) -> Option<Vec<Slice>> {
        Some(self.names.part(part)?.iter().map(|name| Slice::copy_from(name.name())).collect())
    }

    /// One attribute of the visible session under `id` (of several: the highest version), without copying the value.
    #[must_use]
    pub fn read(&self, id: &[u8], name: &[u8], now: Time) -> Option<(Version, Slice)> {
        let now = millis(now);
        let mut newest: Option<(Version, Option<Slice>)> = None;
        for uid in self.names.uids(id) {
            let shard = self.cell(uid).lock.read();
            let Some(record) = shard.records.get(uid) else { continue };
            if !record.is_visible(now, self.me, &self.spans) {
                continue;
            }
            if let Some(attr) = record.get(key::ATTR, name)
                && newest.as_ref().is_none_or(|(version, _)| attr.version > *version)
            {
                newest = Some((attr.version, attr.value.clone()));
            }
        }
        newest.and_then(|(version, value)| Some((version, value?)))
    }

    /// What a request sees: the handle holds every visible uid under `id` and the (name → version) base that was read.
    /// It is empty when there is none. Beginning does not move the idle timer; the commit does.
    #[must_use]
    pub fn begin(self: &Arc<Self>, id: &[u8], now: Time) -> Handle {
        let Some((name, uids)) = self.names.live(id) else { return Handle::new(Key::new(key::NAME, id)) };
        let now = millis(now);
        let mut handle = Handle::new(name);
        for uid in uids {
            let shard = self.cell(uid).lock.read();
            if let Some(record) = shard.records.get(uid)
                && record.is_visible(now, self.me, &self.spans)
                && record.has(key::NAME, id)
            {
                handle.read(uid, record, &self.spans);
            }
        }
        handle.seal();
        handle
    }

    /// What a request would read now under the id of one that began before.
    pub(crate) fn begin_again(&self, handle: &Handle, now: Millis) -> Option<Handle> {
        let now = Time::from_millis(now.unsigned_abs());
        self.this.upgrade().map(|context| context.begin(handle.id(), now))
    }

    /// Gives an empty handle a fresh uid; the session exists from the commit on. A kill by name on this node before the
    /// commit ends it. A handle that leads to a session stays as it is.
    pub fn create(&self, handle: &mut Handle) {
        let Some(context) = self.this.upgrade() else { return };
        if !handle.exists() {
            let version = self.next_version();
            let uid = Uid { counter: version.counter, member: version.member };
            handle.pend(Pending::new(context, handle.key().clone(), uid), self.spans.idle);
        }
    }

    /// Whether this node waits for the present state of the session: it missed something, and the session is not expired.
    #[must_use]
    pub fn is_partial(&self, uid: Uid) -> bool {
        let shard = self.cell(uid).lock.read();
        shard.records.get(uid).is_some_and(|r| r.is_partial() && !r.is_expired())
    }

    /// Up to which version this node has everything of a session; `None`: no record is held.
    #[must_use]
    pub fn whole_up_to(&self, uid: Uid) -> Option<Version> {
        self.cell(uid).lock.read().records.get(uid).map(|r| r.whole_up_to())
    }

    /// Whether a record is held for the uid and is not dead; partial and expired ones count.
    #[must_use]
    pub fn holds(&self, uid: Uid) -> bool {
        self.cell(uid).lock.read().records.get(uid).is_some()
    }

    /// The records that have this name now, found without the index: for tests and the simulator.
    #[must_use]
    pub fn dump_named(&self, id: &[u8]) -> Vec<(Uid, RecordDump)> {
        let mut found = Vec::new();
        for cell in &self.cells {
            let shard = cell.lock.read();
            let named = shard.records.iter().filter(|(_, record)| record.has(key::NAME, id));
            found.extend(named.map(|(uid, record)| (uid, RecordDump::of(record))));
        }
        found.sort_unstable_by_key(|(uid, _)| *uid);
        found
    }

    /// Everything held, as comparable values, by uid: for tests and the simulator.
    #[must_use]
    pub fn dump(&self) -> Vec<(Uid, RecordDump)> {
        let mut all = Vec::new();
        for cell in &self.cells {
            let shard = cell.lock.read();
            all.extend(shard.records.iter().map(|(uid, record)| (uid, RecordDump::of(record))));
            all.extend(shard.graves.iter().map(|(uid, _)| (uid, RecordDump::dead())));
        }
        all.sort_unstable_by_key(|(uid, _)| *uid);
        all
    }

    /// What is held of one session, as [`dump`](Self::dump) shows it.
    #[must_use]
    pub fn dump_of(&self, uid: Uid) -> Option<RecordDump> {
        let shard = self.cell(uid).lock.read();
        match (shard.records.get(uid), shard.graves.get(uid)) {
            (Some(record), _) => Some(RecordDump::of(record)),
            (None, grave) => grave.map(|_| RecordDump::dead()),
        }
    }

    /// For how long back every tombstone is still held: what others hold, and this node neither holds nor has a tombstone of, ended before.
    /// For ever where something was refused here, as for lack of room: that it is not held says nothing then.
    #[must_use]
    pub fn remembers(&self, now: Time) -> Duration {
        if self.lacks.load(Ordering::Relaxed) {
            return Duration::MAX;
        }
        let now = millis(now);
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        Duration::from_millis(age(now, forgotten.max(now.saturating_sub(self.spans.horizon))))
    }

    /// The dead, the oldest first.
    #[must_use]
    pub fn dead(&self) -> Vec<Uid> {
        self.deaths.lock().iter().map(|(_, uid)| *uid).collect()
    }

    pub(crate) fn cell(&self, uid: Uid) -> &Cell {
        &self.cells[place(uid) % SHARDS]
    }

    /// A version above everything merged or written so far.
    pub(crate) fn next_version(&self) -> Version {
        Version { counter: self.clock.fetch_add(1, Ordering::Relaxed) + 1, member: self.me }
    }

    /// Takes over what another member's clock had reached.
    pub(crate) fn observe(&self, counter: u64) {
        let counter = if planted!(ClockNotMerged) { 0 } else { counter };
        self.clock.fetch_max(counter.min(CLOCK_MAX), Ordering::Relaxed);
    }

    /// Brings the sums up to date after a change of which `reserved` bytes were set aside before.
    pub(crate) fn settle(&self, before: Weight, after: Weight, reserved: isize) {
        self.totals.adjust(after.bytes - before.bytes - reserved.max(0));
        // One of the two may be of nothing.
        let uid = if after.fingerprint == 0 { before.uid } else { after.uid };
        self.sums.replace(uid, before.fingerprint, after.fingerprint);
        match (before.live, after.live) {
            (false, true) => {
                self.sessions.fetch_add(1, Ordering::Relaxed);
                self.totals.sessions.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.sessions.fetch_sub(1, Ordering::Relaxed);
                self.totals.sessions.fetch_sub(1, Ordering::Relaxed);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Brings the index of names up to date.
    pub(crate) fn index(&self, uid: Uid, effects: &Effects) {
        for (name, live) in &effects.names {
            if *live {
                self.names.add(name, uid);
            } else {
                self.names.remove(name.name(), uid);
            }
        }
    }
}

/// Counters stay below 2^48: at a million writes a second that lasts nearly nine years, and no sum overflows.
const CLOCK_MAX: u64 = (1 << 48) - 1;
