//! How many owners a block has.
//!
//! The atomics are the parent's, so that the loom tests compile this very file with those of the checker.

use super::atomic::{AtomicUsize, Ordering, fence};

/// The number of owners.
pub(super) struct Count(pub(super) AtomicUsize);

impl Count {
    /// One owner: of a block that nobody else refers to yet.
    pub(super) fn reset(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// One more.
    pub(super) fn add(&self) {
        // Relaxed: a new reference is made from one that exists, as in `Arc`.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "too many references to one buffer");
    }

    /// One less; true for the last one, before which everything happened that others did with the block.
    pub(super) fn remove(&self) -> bool {
        if self.0.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // The last owner must see what all others did with the block before it goes.
        fence(Ordering::Acquire);
        true
    }

    /// Whether there is one owner. What others did with the block happened before a `true`.
    pub(super) fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}
