//! One shard of a context's tables: records, tombstones, and the queue of what a timer has to look at.
//!
//! The queue is lazy: a record is queued once, under the earliest tick at which it may be due. An access moves its
//! deadline and leaves the queue alone; when the tick comes the record is queued again. Only a deadline that moves
//! forward is queued anew, and the older entry is then skipped, because the record names the tick that counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::RwLock;

use super::hash::Keys;
use super::record::{Grave, Record};
use super::time::{Millis, NEVER, tick};
use crate::id::Uid;

/// A shard behind its lock.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) lock: RwLock<Shard>,
    /// The first tick of the queue; `u64::MAX` when it is empty. Written under the lock.
    pub(crate) due: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Shard {
    /// Shared with the handles of requests that read them: who writes goes through [`Arc::make_mut`].
    pub(crate) records: Table<Arc<Record>>,
    pub(crate) graves: Table<Grave>,
    pub(crate) queue: Queue,
}

impl Cell {
    pub(crate) fn new(keys: Keys) -> Self {
        let shard = Shard { records: Table::new(keys), graves: Table::new(keys), queue: Queue::default() };
        Self { lock: RwLock::new(shard), due: AtomicU64::new(u64::MAX) }
    }

    /// Queues a record whose deadline lies before the tick that it waits for.
    pub(crate) fn schedule(&self, queue: &mut Queue, uid: Uid, record: &mut Record, deadline: Millis) {
        if deadline == NEVER || tick(deadline) >= record.queued {
            return;
        }
        record.queued = tick(deadline);
        queue.0.entry(record.queued).or_default().push(uid);
        self.due.fetch_min(record.queued, Ordering::Relaxed);
    }

    /// Takes an entry of the first tick that is not after `now`.
    pub(crate) fn pop_due(&self, queue: &mut Queue, now: u64) -> Option<(u64, Uid)> {
        let mut popped = None;
        if let Some(mut bucket) = queue.0.first_entry().filter(|b| *b.key() <= now) {
            popped = bucket.get_mut().pop().map(|uid| (*bucket.key(), uid));
            if bucket.get().is_empty() {
                bucket.remove();
            }
        }
        let first = queue.0.first_key_value().map_or(u64::MAX, |(tick, _)| *tick);
        self.due.store(first, Ordering::Relaxed);
        popped
    }
}

/// Uids by the tick at which a timer has to look at them.
#[derive(Debug, Default)]
pub(crate) struct Queue(BTreeMap<u64, Vec<Uid>>);

/// What a table finds by uid.
pub(crate) trait Keyed {
    /// The uid that it belongs to.
    fn uid(&self) -> Uid;
}

impl Keyed for Arc<Record> {
    fn uid(&self) -> Uid {
        self.uid
    }
}

impl Keyed for Grave {
    fn uid(&self) -> Uid {
        self.uid
    }
}

/// A hash table by uid under the context's keys. The uids lie in what it holds, so that its slots are few cache lines.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: HashTable<T>,
    keys: Keys,
}

impl<T: Keyed> Table<T> {
    fn new(keys: Keys) -> Self {
        Self { slots: HashTable::new(), keys }
    }

    pub(crate) fn get(&self, uid: Uid) -> Option<&T> {
        self.slots.find(self.keys.uid(uid), |held| held.uid() == uid)
    }

    pub(crate) fn get_mut(&mut self, uid: Uid) -> Option<&mut T> {
        self.slots.find_mut(self.keys.uid(uid), |held| held.uid() == uid)
    }

    /// Adds what belongs to a uid that is not held yet.
    pub(crate) fn insert(&mut self, value: T) -> &mut T {
        debug_assert!(self.get(value.uid()).is_none(), "a uid has one entry");
        let keys = self.keys;
        self.slots.insert_unique(keys.uid(value.uid()), value, |held| keys.uid(held.uid())).into_mut()
    }

    pub(crate) fn remove(&mut self, uid: Uid) -> Option<T> {
        let found = self.slots.find_entry(self.keys.uid(uid), |held| held.uid() == uid).ok()?;
        Some(found.remove().0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uid, &T)> {
        self.slots.iter().map(|held| (held.uid(), held))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
impl Queue {
    /// Entries, those that no longer count too.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}
