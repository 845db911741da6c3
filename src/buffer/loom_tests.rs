//! The count of a block's owners, in every order of threads and of memory.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom` runs this and the other loom tests.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic;
use loom::thread;

use self::count::Count;

#[path = "count.rs"]
mod count;

/// Every order with up to three switches where a thread could have gone on; `LOOM_MAX_PREEMPTIONS` says otherwise.
fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(run);
}

/// A block: its data, and whether it was released. Access to the data is checked: none while another thread writes.
struct Block {
    owners: Count,
    data: UnsafeCell<u32>,
    released: UnsafeCell<u32>,
}

/// As `block::Owner`; the memory itself stays until the model ends.
struct Owner(Arc<Block>);

impl Owner {
    fn new() -> Self {
        let owners = Count(atomic::AtomicUsize::new(0));
        owners.reset();
        Self(Arc::new(Block { owners, data: UnsafeCell::new(0), released: UnsafeCell::new(0) }))
    }

    fn read(&self) -> u32 {
        // SAFETY: the checker fails the test where somebody writes meanwhile.
        self.0.data.with(|data| unsafe { *data })
    }

    /// What `Buf::reclaim` does.
    fn write_if_unique(&self, value: u32) -> bool {
        let unique = self.0.owners.is_one();
        if unique {
            // SAFETY: the checker fails the test where somebody reads or writes meanwhile.
            self.0.data.with_mut(|data| unsafe { *data = value });
        }
        unique
    }
}

impl Clone for Owner {
    fn clone(&self) -> Self {
        self.0.owners.add();
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.0.owners.remove() {
            // A release is a write to everything: nobody may read meanwhile, or have an unseen read.
            // SAFETY: the checker fails the test where somebody reads or writes meanwhile.
            self.0.data.with_mut(|data| unsafe { *data = u32::MAX });
            // SAFETY: as above.
            self.0.released.with_mut(|times| unsafe { *times += 1 });
        }
    }
}

#[test]
fn the_last_owner_releases_once_and_sees_what_the_others_did() {
    model(|| {
        let owner = Owner::new();
        let block = Arc::clone(&owner.0);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let owner = owner.clone();
                thread::spawn(move || {
                    let again = owner.clone();
                    drop(owner);
                    assert_eq!(again.read(), 0);
                })
            })
            .collect();
        assert_eq!(owner.read(), 0);
        drop(owner);
        for thread in threads {
            thread.join().unwrap();
        }
        // SAFETY: all threads have ended.
        assert_eq!(block.released.with(|times| unsafe { *times }), 1);
    });
}

#[test]
fn the_only_owner_may_write() {
    model(|| {
        let owner = Owner::new();
        let reader = owner.clone();
        let thread = thread::spawn(move || {
            assert_eq!(reader.read(), 0);
            drop(reader);
        });
        let wrote = owner.write_if_unique(7);
        assert_eq!(owner.read(), if wrote { 7 } else { 0 });
        thread.join().unwrap();
        assert!(owner.write_if_unique(8), "the other has gone");
    });
}
