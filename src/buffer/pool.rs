//! The process-wide pool of idle blocks.
//!
//! One lock-free queue per size class; what does not fit goes back to the allocator. Invariant: no more
//! than [`RETAINED_PER_CLASS`] bytes lie idle in each class, 20 MiB in all.

use std::sync::LazyLock;

use crossbeam::queue::ArrayQueue;

use super::block::{HEAD, Idle};

/// Whole blocks, head included, so that each is exactly a size class of common allocators.
const SIZE_MIN: usize = 512;
const CLASSES: usize = 10;

/// Largest idle memory of one class: thirty-two receive chunks of 64 KiB.
const RETAINED_PER_CLASS: usize = 2 << 20;

/// Blocks of one class kept at most: the small ones are cheap to allocate anew.
const BLOCKS_MAX: usize = 1024;

const _: () = assert!(SIZE_MIN << (CLASSES - 1) == 256 << 10);
const _: () = assert!(CLASSES * RETAINED_PER_CLASS == 20 << 20);

static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

/// The smallest class whose blocks hold `capacity` bytes; `None` when none does.
pub(super) fn class_of(capacity: usize) -> Option<u8> {
    let size = capacity.checked_add(HEAD)?.next_power_of_two().max(SIZE_MIN);
    let class = size.trailing_zeros() - SIZE_MIN.trailing_zeros();
    u8::try_from(class).ok().filter(|class| usize::from(*class) < CLASSES)
}

/// Bytes that a block of the class holds.
pub(super) fn capacity(class: u8) -> usize {
    (SIZE_MIN << class) - HEAD
}

/// An idle block of the class.
pub(super) fn take(class: u8) -> Option<Idle> {
    POOL.classes[usize::from(class)].pop()
}

/// Keeps the block for the next taker, or releases it when enough lie idle.
pub(super) fn give(class: u8, idle: Idle) {
    POOL.give(class, idle);
}

/// One queue of idle blocks per size class.
struct Pool {
    classes: [ArrayQueue<Idle>; CLASSES],
}

impl Pool {
    fn new() -> Self {
        let room = |class: usize| (RETAINED_PER_CLASS / (SIZE_MIN << class)).min(BLOCKS_MAX);
        Self { classes: std::array::from_fn(|class| ArrayQueue::new(room(class))) }
    }

    fn give(&self, class: u8, idle: Idle) {
        // The queue hands a block back that does not fit, and dropping it releases its memory.
        drop(self.classes[usize::from(class)].push(idle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_memory_is_bounded() {
        let pool = Pool::new();
        let mut idle = 0;
        for class in [0u8, 7, 9] {
            let blocks = RETAINED_PER_CLASS / (SIZE_MIN << class) + 2;
            (0..blocks).for_each(|_| pool.give(class, Idle::allocate(class)));
            let kept = pool.classes[usize::from(class)].len();
            assert!(0 < kept && kept < blocks);
            idle += kept * (SIZE_MIN << class);
        }
        assert!(idle <= 3 * RETAINED_PER_CLASS);
    }

    #[test]
    fn given_block_is_taken_again() {
        let pool = Pool::new();
        pool.give(3, Idle::allocate(3));
        assert!(pool.classes[3].pop().is_some());
        assert!(pool.classes[3].pop().is_none());
    }

    #[test]
    fn size_classes_hold_what_they_promise() {
        for wanted in [0, 1, 496, 497, 1008, 1009, 4096, 65520, (256 << 10) - 16] {
            let class = class_of(wanted).unwrap();
            assert!(capacity(class) >= wanted);
            assert!(class == 0 || capacity(class - 1) < wanted);
        }
        assert_eq!(class_of((256 << 10) - 15), None);
        assert_eq!(class_of(usize::MAX), None);
    }
}
