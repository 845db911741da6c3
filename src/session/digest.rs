//! Whether two members show the same: sums of hashes over what a reader can see, by bucket.
//!
//! A sum does not depend on order, so two stores of different tables agree when they show the same. Only what is visible
//! counts: uid, and name and version of what is set. Touches, removals, tombstones and ages ride along in repairs. The
//! sums are counted when asked for, not kept: that happens when a member is gone or joins, not at each change.

use super::context::Context;
use super::record::Record;
use crate::id::Uid;
use crate::wire::DIGEST_SUMS;

/// Sessions are dealt to this many buckets by the hash of their uid: a difference is repaired by the bucket.
pub const BUCKETS: usize = DIGEST_SUMS;

/// What a context shows, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(Box<[u64; BUCKETS]>);

/// A set of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets([u64; BUCKETS / 64]);

impl Digest {
    /// A digest of these sums.
    #[must_use]
    pub fn new(sums: [u64; BUCKETS]) -> Self {
        Self(Box::new(sums))
    }

    /// The sums, bucket by bucket.
    #[must_use]
    pub fn sums(&self) -> &[u64; BUCKETS] {
        &self.0
    }

    /// Buckets in which two digests differ.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Buckets {
        let mut buckets = Buckets::default();
        for (at, _) in self.0.iter().zip(other.0.iter()).enumerate().filter(|(_, (a, b))| a != b) {
            buckets.0[at / 64] |= 1 << (at % 64);
        }
        buckets
    }
}

impl Buckets {
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

    /// Whether a session belongs to one of them.
    #[must_use]
    pub fn contains(&self, uid: Uid) -> bool {
        let at = bucket(uid);
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    /// These and those.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
        self
    }
}

impl Context {
    /// Sums up what this node shows. Takes a time proportional to what is held, one shard locked for reading after another.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut sums = [0_u64; BUCKETS];
        for cell in &self.cells {
            for (uid, record) in cell.lock.read().records.iter() {
                if !record.is_partial() && !record.is_expired() {
                    let sum = &mut sums[bucket(uid)];
                    *sum = sum.wrapping_add(sum_of(uid, record));
                }
            }
        }
        Digest::new(sums)
    }
}

fn bucket(uid: Uid) -> usize {
    // The highest byte: shards and lanes go by others.
    usize::from(uid.hash64().to_be_bytes()[0])
}

fn sum_of(uid: Uid, record: &Record) -> u64 {
    let uid = uid.hash64();
    record.attrs().iter().filter(|a| a.value.is_some()).fold(uid, |sum, attr| {
        let key =
            attr.key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        let version = Uid { counter: attr.version.counter, member: attr.version.member }.hash64();
        sum.wrapping_add((uid ^ key).wrapping_mul(version | 1))
    })
}
