//! The process-wide pool of idle blocks.
//!
//! One stack per size class: what was given last, and so is most likely still in the processor's cache, is taken first.
//! There are two families of classes: powers of two for buffers that are written and sent, and steps of [`STEP`] bytes
//! for values that a store keeps, where a power of two would waste too much. Nobody waits for a stack that another thread
//! holds: the allocator serves instead. Invariant: what lies idle in a class is bounded, 32 MiB in all.

use std::cell::Cell;
use std::sync::LazyLock;

use parking_lot::Mutex;

use super::block::{HEAD, Idle};

/// Whole blocks, head included, so that each is exactly a size class of common allocators.
const SIZE_MIN: usize = 512;
const CLASSES: usize = 10;

/// Largest idle memory of one class: thirty-two receive chunks of 64 KiB, or 4,096 small frames.
const RETAINED_PER_CLASS: usize = 2 << 20;

/// Values whose blocks are larger than this come from the pool: up to here common allocators keep what was freed for
/// the next taker (glibc's per-thread cache ends at 1,032 bytes; beyond it an allocation and its release cost five
/// times as much).
const KEPT_MIN: usize = 1024;
const KEPT_MAX: usize = 4096;
/// What a kept block is rounded up to.
const STEP: usize = 128;
const KEPT_CLASSES: usize = (KEPT_MAX - KEPT_MIN) / STEP;
/// Largest idle memory of one kept class: what two lanes have under way when their callers begin to write.
const KEPT_PER_CLASS: usize = 512 << 10;

const _: () = assert!(SIZE_MIN << (CLASSES - 1) == 256 << 10);
const _: () = assert!(CLASSES * RETAINED_PER_CLASS + KEPT_CLASSES * KEPT_PER_CLASS == 32 << 20);

static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

thread_local! {
    /// The block of a value that this thread gave last. Who replaces a value takes a block and then gives one: it is the same
    /// one each time, without a lock.
    static LAST: Cell<Option<(u8, Idle)>> = const { Cell::new(None) };
}

/// The smallest class whose blocks hold `capacity` bytes; `None` when none does.
pub(super) fn class_of(capacity: usize) -> Option<u8> {
    let size = capacity.checked_add(HEAD)?.next_power_of_two().max(SIZE_MIN);
    let class = size.trailing_zeros() - SIZE_MIN.trailing_zeros();
    u8::try_from(class).ok().filter(|class| usize::from(*class) < CLASSES)
}

/// The class of a block that keeps `len` bytes with little waste; `None` where the allocator does that as well.
pub(super) fn kept_class_of(len: usize) -> Option<u8> {
    let above = (len + HEAD).checked_sub(KEPT_MIN + 1)?;
    u8::try_from(CLASSES + above / STEP).ok().filter(|class| usize::from(*class) < CLASSES + KEPT_CLASSES)
}

/// Bytes that a block of the class holds.
pub(super) fn capacity(class: u8) -> usize {
    match usize::from(class).checked_sub(CLASSES) {
        None => (SIZE_MIN << class) - HEAD,
        Some(kept) => KEPT_MIN + (kept + 1) * STEP - HEAD,
    }
}

/// An idle block of the class, when one is at hand.
pub(super) fn take(class: u8) -> Option<Idle> {
    if usize::from(class) >= CLASSES
        && let Ok(Some((last, idle))) = LAST.try_with(Cell::take)
    {
        if last == class {
            return Some(idle);
        }
        POOL.give(last, idle);
    }
    POOL.take(class)
}

/// Keeps the block for the next taker, or releases it when enough lie idle.
pub(super) fn give(class: u8, idle: Idle) {
    if usize::from(class) < CLASSES {
        return POOL.give(class, idle);
    }
    // A thread that ends has no place any more.
    let mut idle = Some((class, idle));
    let _ended = LAST.try_with(|last| idle = last.replace(idle.take()));
    if let Some((class, idle)) = idle {
        POOL.give(class, idle);
    }
}

/// Most blocks that may lie idle in the class.
fn idle_max(class: u8) -> usize {
    let retained = if usize::from(class) < CLASSES { RETAINED_PER_CLASS } else { KEPT_PER_CLASS };
    retained / (capacity(class) + HEAD)
}

struct Pool {
    classes: [Mutex<Vec<Idle>>; CLASSES + KEPT_CLASSES],
}

impl Pool {
    fn new() -> Self {
        Self { classes: std::array::from_fn(|_| Mutex::default()) }
    }

    fn take(&self, class: u8) -> Option<Idle> {
        self.classes[usize::from(class)].try_lock()?.pop()
    }

    fn give(&self, class: u8, idle: Idle) {
        if let Some(mut stack) = self.classes[usize::from(class)].try_lock()
            && stack.len() < idle_max(class)
        {
            stack.push(idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_memory_is_bounded() {
        let pool = Pool::new();
        // Thousands of small blocks are many for an interpreter.
        for class in [0u8, 7, 9, 10, 33].into_iter().skip(if cfg!(miri) { 3 } else { 0 }) {
            let blocks = idle_max(class) + 2;
            (0..blocks).for_each(|_| pool.give(class, Idle::allocate(class)));
            let kept = pool.classes[usize::from(class)].lock().len();
            assert_eq!(kept, blocks - 2);
            assert!(kept * (capacity(class) + HEAD) <= RETAINED_PER_CLASS);
        }
    }

    #[test]
    fn given_block_is_taken_again() {
        let pool = Pool::new();
        pool.give(3, Idle::allocate(3));
        assert!(pool.take(3).is_some());
        assert!(pool.take(3).is_none());
    }

    #[test]
    fn class_that_another_thread_holds_is_not_waited_for() {
        let pool = Pool::new();
        pool.give(3, Idle::allocate(3));
        let held = pool.classes[3].lock();
        assert!(pool.take(3).is_none());
        pool.give(3, Idle::allocate(3));
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn kept_blocks_hold_their_bytes_and_waste_less_than_a_step() {
        assert_eq!(kept_class_of(KEPT_MIN - HEAD), None);
        assert_eq!(kept_class_of(KEPT_MAX - HEAD + 1), None);
        for len in KEPT_MIN - HEAD + 1..=KEPT_MAX - HEAD {
            let capacity = capacity(kept_class_of(len).unwrap());
            assert!(capacity >= len && capacity - len < STEP, "{len} bytes in {capacity}");
        }
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
