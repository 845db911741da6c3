//! Whether two members hold the same: sums of fingerprints of sessions, by bucket, kept as the store changes.
//!
//! A sum does not depend on order, so two stores of different tables agree when they hold the same. A fingerprint is over
//! uid, latest access, name and version of what is set or removed, whom it killed, and whether it is partial; of an expired
//! session only that it is, and its latest access. Tombstones and ages ride along in repairs. Each record carries the sum over its attributes, which a write moves
//! by one term; each bucket the sum over its sessions.
//!
//! Buckets in which two digests differ are compared entry by entry ([`Context::list`], [`Context::differing`]), so that only
//! what differs travels. A bucket lies in one shard: comparing it locks and walks that shard alone.
//!
//! Every term mixes in who wrote, an id that is drawn at random and that no client sees: names and values chosen by a client
//! cannot be made to cancel out.

use std::sync::atomic::{AtomicU64, Ordering};

use super::attr::Attr;
use super::context::Context;
use super::hash::{SHARDS, mix, place};
use super::record::Record;
use crate::id::{Uid, Version};
use crate::wire::{DIGEST_SUMS, Entry};

/// Sessions are dealt to this many buckets by the hash of their uid.
pub const BUCKETS: usize = DIGEST_SUMS;

const _: () = assert!(BUCKETS.is_multiple_of(SHARDS) && BUCKETS.is_power_of_two());

/// What is held of a context, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(Box<[u64; BUCKETS]>);

/// A set of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets([u64; BUCKETS / 64]);

/// The sums of a context, as they stand.
#[derive(Debug)]
pub(crate) struct Sums(Box<[AtomicU64]>);

impl Digest {
    /// A digest of these sums.
    #[must_use]
    pub fn new(sums: Box<[u64; BUCKETS]>) -> Self {
        Self(sums)
    }

    /// The sums, bucket by bucket.
    #[must_use]
    pub fn into_sums(self) -> Box<[u64; BUCKETS]> {
        self.0
    }

    /// Buckets in which two digests differ.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Buckets {
        let mut buckets = Buckets::default();
        for (at, _) in self.0.iter().zip(other.0.iter()).enumerate().filter(|(_, (a, b))| a != b) {
            buckets.insert(at);
        }
        buckets
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self([0; BUCKETS / 64])
    }
}

impl Buckets {
    /// A set from its bits.
    #[must_use]
    pub fn new(bits: [u64; BUCKETS / 64]) -> Self {
        Self(bits)
    }

    /// The set as bits, the lowest bucket in the lowest bit.
    #[must_use]
    pub fn bits(&self) -> [u64; BUCKETS / 64] {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// These and those.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
        self
    }

    /// These but not those.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        for (word, less) in self.0.iter_mut().zip(other.0) {
            *word &= !less;
        }
        self
    }

    /// Adds a bucket.
    pub fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Whether a session belongs to one of them.
    #[must_use]
    pub fn contains(&self, uid: Uid) -> bool {
        self.has(bucket(uid))
    }

    /// Those of one shard.
    pub(crate) fn in_shard(&self, shard: usize) -> impl Iterator<Item = usize> {
        (shard..BUCKETS).step_by(SHARDS).filter(|at| self.has(*at))
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

impl Sums {
    pub(crate) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    /// A session had one fingerprint and has another; zero: it is not held. Called under the lock of its shard.
    pub(crate) fn replace(&self, uid: Uid, before: u64, after: u64) {
        if before != after {
            self.0[bucket(uid)].fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

impl Context {
    /// What this node holds, summed up.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut sums = Box::new([0_u64; BUCKETS]);
        for (sum, now) in sums.iter_mut().zip(&self.sums.0) {
            *sum = now.load(Ordering::Relaxed);
        }
        Digest(sums)
    }

    /// Lists what is held of one shard's part of these buckets: the list, and the buckets that it is of. It ends with the
    /// bucket that brings it to `max` entries; ask again for the rest. `None`: the shard has none of them.
    #[must_use]
    pub fn list(&self, shard: usize, buckets: &Buckets, max: usize) -> Option<(Buckets, Vec<Entry>)> {
        let mut of_bucket: Vec<Vec<Entry>> = vec![Vec::new(); BUCKETS / SHARDS];
        buckets.in_shard(shard).next()?;
        {
            let held = self.cells[shard].lock.read();
            for (uid, record) in held.records.iter().filter(|(uid, _)| buckets.contains(*uid)) {
                let entry = Entry { uid, top: record.top.counter, fingerprint: record.fingerprint() };
                of_bucket[bucket(uid) / SHARDS].push(entry);
            }
        }
        let (mut covered, mut list) = (Buckets::default(), Vec::new());
        for at in buckets.in_shard(shard) {
            covered.insert(at);
            list.append(&mut of_bucket[at / SHARDS]);
            if list.len() >= max {
                break;
            }
        }
        Some((covered, list))
    }

    /// In what this node differs from another, given what that listed: all that it holds of these buckets (`all`), or only where
    /// the two differ.
    pub fn differing(&self, buckets: &Buckets, mut theirs: Vec<Entry>, all: bool, mut tell: impl FnMut(Differs)) {
        theirs.sort_unstable_by_key(|entry| (place(entry.uid) % SHARDS, entry.uid));
        let mut listed = theirs.chunk_by(|a, b| place(a.uid) % SHARDS == place(b.uid) % SHARDS).peekable();
        for (at, cell) in self.cells.iter().enumerate() {
            let theirs = listed.next_if(|list| place(list[0].uid) % SHARDS == at).unwrap_or_default();
            let walks = all && buckets.in_shard(at).next().is_some();
            if theirs.is_empty() && !walks {
                continue;
            }
            let held = cell.lock.read();
            for &entry in theirs {
                match held.records.get(entry.uid) {
                    Some(record) if record.fingerprint() == entry.fingerprint => {}
                    Some(record) => tell(Differs::of(record, entry)),
                    None if held.graves.get(entry.uid).is_some() => tell(Differs::Dead(entry.uid)),
                    None if entry.is_held() => tell(Differs::There(entry)),
                    None => {}
                }
            }
            if walks {
                for (uid, record) in held.records.iter().filter(|(uid, _)| buckets.contains(*uid)) {
                    if theirs.binary_search_by_key(&uid, |entry| entry.uid).is_err() {
                        tell(Differs::of(record, Entry { uid, top: 0, fingerprint: 0 }));
                    }
                }
            }
        }
    }

    /// Whether a member that listed this lacks something of what is held here; `None` while it may be that this node lacks what
    /// the other holds, and is told so soon.
    #[must_use]
    pub fn lacks(&self, theirs: &Entry) -> Option<bool> {
        let held = self.cell(theirs.uid).lock.read();
        match held.records.get(theirs.uid) {
            Some(record) if record.fingerprint() == theirs.fingerprint => Some(false),
            Some(record) => (record.top.counter >= theirs.top).then_some(true),
            None => Some(held.graves.get(theirs.uid).is_some()),
        }
    }

    /// The same as [`digest`](Self::digest), summed up again.
    #[cfg(test)]
    pub(crate) fn digest_again(&self) -> Digest {
        let mut sums = Box::new([0_u64; BUCKETS]);
        for cell in &self.cells {
            for (uid, record) in cell.lock.read().records.iter() {
                let attrs = record.attrs().iter().fold(0_u64, |sum, attr| sum.wrapping_add(term(attr)));
                let sum = attrs.wrapping_add(over_sum(record.over()));
                assert_eq!(sum, record.sum(), "the sum of {uid}");
                let at = &mut sums[bucket(uid)];
                *at = at.wrapping_add(record.fingerprint());
            }
        }
        Digest(sums)
    }
}

/// What one attribute, set or removed, adds to the sum of its record.
pub(crate) fn term(attr: &Attr) -> u64 {
    let (name, version) = (attr.name(), attr.version);
    let kind = u64::from(attr.key[0]) << 1 | u64::from(attr.value.is_some());
    let mut hash = kind ^ (name.len() as u64) << 16;
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mix(hash ^ Uid { counter: version.counter, member: version.member }.hash64())
}

/// What the sessions that a record killed add to its sum.
pub(crate) fn over_sum(over: &[Uid]) -> u64 {
    over.iter().fold(0, |sum, uid| sum.wrapping_add(mix(uid.hash64())))
}

/// Of what kind a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Whole = 0,
    Partial = 1,
    Expired = 2,
}

/// Who a session is, when it was used last, and the sum over its attributes. Never zero.
pub(crate) fn fingerprint(uid: Uid, standing: Standing, top: Version, sum: u64) -> u64 {
    // The content of expired sessions is dropped, by each member when it sees fit.
    let sum = if standing == Standing::Expired { 0 } else { sum };
    let top = Uid { counter: top.counter, member: top.member }.hash64();
    mix(sum.wrapping_add(uid.hash64()).rotate_left(32) ^ top ^ standing as u64).max(1)
}

fn bucket(uid: Uid) -> usize {
    place(uid) % BUCKETS
}

/// In what two members differ about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// It is dead here.
    Dead(Uid),
    /// Only this node holds it: what is held here.
    Here(Entry),
    /// Both hold it, and this node saw a version that is not lower: what is held here.
    First(Entry),
    /// Both hold it, and the other saw a higher version: what is held here, and what there.
    Later(Entry, Entry),
    /// Only the other holds it: what is held there.
    There(Entry),
}

impl Differs {
    fn of(record: &Record, theirs: Entry) -> Self {
        let mine = Entry { uid: record.uid, top: record.top.counter, fingerprint: record.fingerprint() };
        if !theirs.is_held() {
            Self::Here(mine)
        } else if mine.top >= theirs.top {
            Self::First(mine)
        } else {
            Self::Later(mine, theirs)
        }
    }
}
