//! Keyed hashing of uids and names.
//!
//! Names come from clients, so they are hashed with SipHash-1-3 (as in std's maps) under the store's seed and cannot be
//! chosen to collide.
//! Uids are drawn by members and only need mixing. The same seed gives the same tables, so that a simulated run replays.

use siphasher::sip::SipHasher13;

use crate::id::Uid;

/// The keys of one context's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys(u64, u64);

impl Keys {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed), mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))
    }

    pub(crate) fn uid(self, uid: Uid) -> u64 {
        mix(uid.hash64() ^ self.0)
    }

    pub(crate) fn name(self, name: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0, self.1).hash(name)
    }
}

/// Tables of a context are cut into this many shards, by hash.
pub(crate) const SHARDS: usize = 64;

/// The shard of a hash: bits that the tables use neither for position (low) nor for their tag (high).
pub(crate) fn shard(hash: u64) -> usize {
    const { assert!(SHARDS.is_power_of_two() && SHARDS <= 256) };
    usize::from(hash.to_le_bytes()[5]) & (SHARDS - 1)
}

/// Where a session is put: its shard and its bucket of the digest are the rest of this by how many there are of them. The same at
/// every member, so that a bucket lies in one shard everywhere.
pub(crate) fn place(uid: Uid) -> usize {
    let [_, _, _, a, b, ..] = uid.hash64().to_le_bytes();
    usize::from(u16::from_le_bytes([a, b]))
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
