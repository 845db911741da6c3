//! A quick hasher for the oracle's tables: their keys are made by the run itself, and nobody attacks them.

use std::hash::{BuildHasherDefault, Hasher};

/// What the tables are made with.
pub(super) type Quick = BuildHasherDefault<QuickHasher>;

/// Multiplies and rotates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QuickHasher(u64);

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(ODD).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        // A table takes its place from the low bits and a tag from the high ones.
        (self.0 ^ self.0 >> 32).wrapping_mul(ODD)
    }
}
