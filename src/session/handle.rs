//! A request's handle: the uids it works on and what it read of them.
//!
//! A write through a handle goes to its uid, whatever the name leads to by then. The base that it read is what a full
//! write is compared with, so that what others changed meanwhile is not reverted.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::attr::{Attr, Key};
use super::context::Context;
use super::key;
use super::names::Uids;
use super::record::Record;
use super::time::{LONG_AGO, Millis, NEVER, Spans, millis};
use crate::buffer::Slice;
use crate::id::{Time, Uid, Version};

/// What a request read: identity and base.
#[derive(Clone, Debug)]
pub struct Handle {
    id: Key,
    uids: Uids,
    /// The records as they were, in the order of `uids`; one that is created has none.
    seen: SmallVec<[Arc<Record>; 1]>,
    /// Of several records: per application attribute the higher version, sorted by key, removals too.
    union: Vec<Attr>,
    /// The longest idle time of the uids, and when the last of them runs out; `None`: not yet accessed.
    idle: Millis,
    idle_until: Option<Millis>,
    pending: Option<Arc<Pending>>,
}

impl Handle {
    pub(crate) fn new(id: Key) -> Self {
        Self {
            id,
            uids: Uids::new(),
            seen: SmallVec::new(),
            union: Vec::new(),
            idle: 0,
            idle_until: None,
            pending: None,
        }
    }

    /// The id that the request came with.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.id.name()
    }

    /// The sessions behind the id, lowest first; nearly always one.
    #[must_use]
    pub fn uids(&self) -> &[Uid] {
        &self.uids
    }

    /// Whether a session existed, or was created since.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.uids.is_empty()
    }

    /// Whether this handle created its session.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.pending.is_some()
    }

    /// Value of an application attribute as read.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Slice> {
        self.find(name)?.value.as_ref()
    }

    /// Version of an application attribute as read.
    #[must_use]
    pub fn version(&self, name: &[u8]) -> Option<Version> {
        self.find(name).filter(|attr| attr.value.is_some()).map(|attr| attr.version)
    }

    /// Application attributes as read: name, version, value; sorted by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&[u8], Version, &Slice)> {
        self.base().iter().filter_map(|a| Some((a.name(), a.version, a.value.as_ref()?)))
    }

    /// Remaining idle time as of `now`: max idle minus the time since the last access; `None`: no session.
    #[must_use]
    pub fn remaining_idle(&self, now: Time) -> Option<Duration> {
        if !self.exists() {
            return None;
        }
        let left = match self.idle_until {
            Some(NEVER) | None => self.idle,
            Some(until) => until.saturating_sub(millis(now)),
        };
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// The idle time after which the session expires; `None`: no session.
    #[must_use]
    pub fn max_idle(&self) -> Option<Duration> {
        self.exists().then(|| Duration::from_millis(self.idle.unsigned_abs()))
    }

    pub(crate) fn key(&self) -> &Key {
        &self.id
    }

    /// Adds what a record shows.
    pub(crate) fn read(&mut self, uid: Uid, record: &Arc<Record>, spans: &Spans) {
        self.uids.push(uid);
        self.seen.push(Arc::clone(record));
        self.idle = self.idle.max(record.idle(spans));
        let until = record.access.saturating_add(record.idle(spans));
        self.idle_until = Some(self.idle_until.unwrap_or(LONG_AGO).max(until));
    }

    /// Ends reading.
    pub(crate) fn seal(&mut self) {
        if self.seen.len() > 1 {
            let mut all: Vec<&Attr> = self.seen.iter().flat_map(|record| record.of_kind(key::ATTR)).collect();
            all.sort_by(|a, b| a.key.cmp(&b.key).then(b.version.cmp(&a.version)));
            all.dedup_by(|lower, higher| lower.key == higher.key);
            self.union = all.into_iter().cloned().collect();
        }
    }

    /// Application attributes as read, sorted by key, removals too.
    pub(crate) fn base(&self) -> &[Attr] {
        match self.seen.as_slice() {
            [one] => one.of_kind(key::ATTR),
            _ => &self.union,
        }
    }

    /// Gives up what was read: who writes a record that nobody reads need not copy it.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
        self.union.clear();
    }

    pub(crate) fn pend(&mut self, pending: Pending, idle: Millis) {
        self.uids.push(pending.uid);
        self.pending = Some(Arc::new(pending));
        self.idle = idle;
    }

    fn find(&self, name: &[u8]) -> Option<&Attr> {
        let base = self.base();
        base.binary_search_by(|a| a.name().cmp(name)).ok().map(|at| &base[at])
    }
}

/// A create that has not been committed: the index knows it by name, so that a kill by name ends it. It leaves the index
/// with the last clone of its handle.
pub(crate) struct Pending {
    context: Arc<Context>,
    name: Key,
    uid: Uid,
}

impl Pending {
    pub(crate) fn new(context: Arc<Context>, name: Key, uid: Uid) -> Self {
        context.names.add_pending(&name, uid);
        Self { context, name, uid }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.context.names.remove_pending(self.name.name(), self.uid);
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({:?})", self.uid)
    }
}
