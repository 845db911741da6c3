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

static POOL: LazyLock<[ArrayQueue<Idle>; CLASSES]> = LazyLock::new(|| {
    std::array::from_fn(|class| {
        ArrayQueue::new((RETAINED_PER_CLASS / (SIZE_MIN << class)).min(BLOCKS_MAX))
    })
});

/// The smallest class whose blocks hold `capacity` bytes; `None` when none does.
pub(super) fn class_of(capacity: usize) -> Option<u8> {
    let size = capacity
        .checked_add(HEAD)?
        .next_power_of_two()
        .max(SIZE_MIN);
    let class = size.trailing_zeros() - SIZE_MIN.trailing_zeros();
    u8::try_from(class)
        .ok()
        .filter(|class| usize::from(*class) < CLASSES)
}

/// Bytes that a block of the class holds.
pub(super) fn capacity(class: u8) -> usize {
    (SIZE_MIN << class) - HEAD
}

/// An idle block of the class.
pub(super) fn take(class: u8) -> Option<Idle> {
    POOL[usize::from(class)].pop()
}

/// Keeps the block for the next taker, or releases it when enough lie idle.
pub(super) fn give(class: u8, idle: Idle) {
    drop(POOL[usize::from(class)].push(idle));
}

/// Idle blocks of the class, and the most it keeps.
#[cfg(test)]
pub(super) fn level(class: u8) -> (usize, usize) {
    let queue = &POOL[usize::from(class)];
    (queue.len(), queue.capacity())
}
