//! The command's allocator: the system's, with a counter that a benchmark can switch on.
//!
//! Only `main.rs` installs it; a library must not choose its host's allocator. While the counter is off an
//! allocation costs one load of a flag that nobody writes.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The system's allocator, counting calls while [`count`] is on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// Switches counting on or off.
pub fn count(on: bool) {
    COUNTING.store(on, Ordering::Relaxed);
}

/// Allocations and growths counted so far.
#[must_use]
pub fn counted() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn note() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every method passes its arguments unchanged to `System`, which keeps the contract; counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps `GlobalAlloc::realloc`'s contract; `ptr` came from `System` through `alloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract; `ptr` came from `System` through `alloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}
