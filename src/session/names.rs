//! The index from names to uids: live ones, creates that are pending, and the dead that a later create must list.
//!
//! Local and derived: the names themselves are attributes of the records. Its locks are taken under a record's lock and
//! never the other way round; nothing is called with one held.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::attr::Key;
use super::hash::{Keys, SHARDS, shard};
use super::record::{OVER_MAX, signed};
use super::store::Totals;
use crate::id::Uid;

/// A few uids, nearly always one.
pub(crate) type Uids = SmallVec<[Uid; 1]>;

#[derive(Debug)]
pub(crate) struct Names {
    shards: Box<[RwLock<HashTable<Entry>>]>,
    keys: Keys,
    totals: Arc<Totals>,
}

#[derive(Debug)]
struct Entry {
    /// As an internal key.
    name: Key,
    /// Uids whose record has this name set, lowest first; expired and partial ones too.
    live: Uids,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    /// Created by a request of this node that has not ended.
    pending: Uids,
    /// Tombstones under this name: the newest [`OVER_MAX`], lowest first.
    dead: SmallVec<[Uid; 4]>,
}

impl Names {
    pub(crate) fn new(keys: Keys, totals: Arc<Totals>) -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), keys, totals }
    }

    /// The live uids under a name, lowest first, and its key.
    pub(crate) fn live(&self, name: &[u8]) -> Option<(Key, Uids)> {
        self.look(name, |e| (e.name.clone(), Uids::from_slice(&e.live)))
    }

    /// The dead uids under a name.
    pub(crate) fn dead(&self, name: &[u8]) -> SmallVec<[Uid; 4]> {
        self.look(name, |e| e.rest.as_ref().map(|r| r.dead.clone())).flatten().unwrap_or_default()
    }

    /// The only live uid, or several: the fast path of a read.
    pub(crate) fn uids(&self, name: &[u8]) -> Uids {
        self.look(name, |e| Uids::from_slice(&e.live)).unwrap_or_default()
    }

    /// The names with live uids in one shard; `None` past the last.
    pub(crate) fn part(&self, shard: usize) -> Option<Vec<Key>> {
        let shard = self.shards.get(shard)?.read();
        Some(shard.iter().filter(|e| !e.live.is_empty()).map(|e| e.name.clone()).collect())
    }

    pub(crate) fn add(&self, name: &Key, uid: Uid) {
        self.edit(name.name(), Some(name), |e| insert_sorted(&mut e.live, uid));
    }

    pub(crate) fn remove(&self, name: &[u8], uid: Uid) {
        self.edit(name, None, |e| e.live.retain(|u| *u != uid));
    }

    /// A tombstone lies under the name.
    pub(crate) fn add_dead(&self, name: &Key, uid: Uid) {
        self.edit(name.name(), Some(name), |e| {
            let dead = &mut e.rest.get_or_insert_default().dead;
            insert_sorted(dead, uid);
            if dead.len() > OVER_MAX {
                dead.remove(0);
            }
        });
    }

    pub(crate) fn remove_dead(&self, name: &[u8], uid: Uid) {
        self.edit(name, None, |e| {
            if let Some(rest) = &mut e.rest {
                rest.dead.retain(|u| *u != uid);
            }
        });
    }

    pub(crate) fn add_pending(&self, name: &Key, uid: Uid) {
        self.edit(name.name(), Some(name), |e| insert_sorted(&mut e.rest.get_or_insert_default().pending, uid));
    }

    pub(crate) fn is_pending(&self, name: &[u8], uid: Uid) -> bool {
        self.look(name, |e| e.rest.as_ref().is_some_and(|r| r.pending.contains(&uid))).unwrap_or(false)
    }

    /// Ends a pending create, by its commit or by a kill; false when something ended it before.
    pub(crate) fn remove_pending(&self, name: &[u8], uid: Uid) -> bool {
        self.edit(name, None, |e| {
            let Some(rest) = &mut e.rest else { return false };
            let before = rest.pending.len();
            rest.pending.retain(|u| *u != uid);
            rest.pending.len() < before
        })
        .unwrap_or(false)
    }

    /// Ends every pending create under the name. Returns how many.
    pub(crate) fn kill_pending(&self, name: &[u8]) -> usize {
        self.edit(name, None, |e| e.rest.as_mut().map_or(0, |r| std::mem::take(&mut r.pending).len())).unwrap_or(0)
    }

    /// Bytes of the whole index, counted again.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.shards.iter().map(|s| s.read().iter().map(Entry::bytes).sum::<usize>()).sum()
    }

    fn look<R>(&self, name: &[u8], read: impl FnOnce(&Entry) -> R) -> Option<R> {
        let hash = self.keys.name(name);
        self.shards[shard(hash)].read().find(hash, |e| e.name.name() == name).map(read)
    }

    /// Changes an entry, making it with `make` as its copy of the name, and takes it away once nothing is under it.
    fn edit<R>(&self, name: &[u8], make: Option<&Key>, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let hash = self.keys.name(name);
        let keys = self.keys;
        let mut table = self.shards[shard(hash)].write();
        let slot = table.entry(hash, |e| e.name.name() == name, |e| keys.name(e.name.name()));
        let (mut entry, before) = match slot {
            Slot::Occupied(entry) => {
                let before = entry.get().bytes();
                (entry, before)
            }
            Slot::Vacant(vacant) => (vacant.insert(Entry::new(make?.clone())), 0),
        };
        let result = change(entry.get_mut());
        entry.get_mut().trim();
        let after = if entry.get().is_empty() {
            entry.remove();
            0
        } else {
            entry.get().bytes()
        };
        drop(table);
        self.totals.adjust(signed(after) - signed(before));
        Some(result)
    }
}

impl Entry {
    fn new(name: Key) -> Self {
        Self { name, live: Uids::new(), rest: None }
    }

    fn trim(&mut self) {
        if self.rest.as_ref().is_some_and(|r| r.pending.is_empty() && r.dead.is_empty()) {
            self.rest = None;
        }
    }

    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.rest.is_none()
    }

    fn bytes(&self) -> usize {
        let live = if self.live.spilled() { self.live.capacity() * size_of::<Uid>() } else { 0 };
        let rest =
            self.rest.as_ref().map_or(0, |r| size_of::<Rest>() + (r.pending.len() + r.dead.len()) * size_of::<Uid>());
        2 * (size_of::<Self>() + 1) + self.name.allocated() + live + rest
    }
}

fn insert_sorted<const N: usize>(uids: &mut SmallVec<[Uid; N]>, uid: Uid) {
    if let Err(at) = uids.binary_search(&uid) {
        uids.insert(at, uid);
    }
}
