//! The allocation behind buffers and slices, and its reference count.
//!
//! Owns layout, allocation and release. Invariant: a block lives until its last [`Owner`] is dropped,
//! and its capacity and origin never change while it lives.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

use super::atomic::AtomicUsize;
use super::count::Count;
use super::pool;

/// Bytes before the data of a block.
pub(super) const HEAD: usize = size_of::<Block>();

/// Where a block came from and so where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A size class of the pool.
    Pool(u8),
    /// An allocation of its own.
    Exact,
    /// A head that owns an application's vector.
    Vec,
    /// The block of all empty slices: not counted, never released.
    Empty,
}

/// The head of a block. Its alignment is the alignment of the data behind it.
#[repr(C, align(16))]
pub(super) struct Block {
    refs: Count,
    capacity: u32,
    origin: Origin,
}

/// A block whose bytes are those of a vector.
#[repr(C)]
struct VecBlock {
    block: Block,
    vec: Vec<u8>,
}

static EMPTY: Block = Block { refs: Count(AtomicUsize::new(1)), capacity: 0, origin: Origin::Empty };

const _: () = assert!(HEAD == 16);

/// One counted reference to a block.
pub(super) struct Owner(NonNull<Block>);

// SAFETY: the count is atomic, capacity and origin do not change, and the data is written only through
// a `Buf`, which covers bytes that no other handle covers.
unsafe impl Send for Owner {}
// SAFETY: as above; through a shared `Owner` nothing but the count changes.
unsafe impl Sync for Owner {}

impl Owner {
    /// The block of no bytes.
    pub(super) fn empty() -> Self {
        Self(NonNull::from(&EMPTY))
    }

    /// A block of its own whose data is zero.
    pub(super) fn zeroed(capacity: usize) -> Self {
        Self(allocate(capacity, Origin::Exact, true))
    }

    /// A block for a copy of `bytes`, with little or nothing beside them.
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        if let Some(class) = pool::kept_class_of(bytes.len()) {
            let owner = Self::pooled(class);
            // SAFETY: the class holds `bytes.len()` bytes, and nobody else refers to a block just taken from the pool.
            unsafe { owner.data().copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
            return owner;
        }
        let block = allocate(bytes.len(), Origin::Exact, false);
        // SAFETY: the block was just allocated with `bytes.len()` bytes behind its head.
        let data = unsafe { block.byte_add(HEAD) }.cast::<u8>();
        // SAFETY: source and target are valid for `bytes.len()` bytes and cannot overlap: the target is new.
        unsafe { data.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self(block)
    }

    /// A block that owns `vec`.
    pub(super) fn of_vec(vec: Vec<u8>) -> Self {
        let boxed = Box::new(VecBlock {
            block: Block { refs: Count(AtomicUsize::new(1)), capacity: capacity_u32(vec.len()), origin: Origin::Vec },
            vec,
        });
        // SAFETY: `Box::into_raw` never returns null.
        Self(unsafe { NonNull::new_unchecked(Box::into_raw(boxed)) }.cast())
    }

    /// A block of a size class, from the pool when one is there. Its data is initialised, to anything.
    pub(super) fn pooled(class: u8) -> Self {
        let idle = pool::take(class).unwrap_or_else(|| Idle::allocate(class));
        let block = idle.into_block();
        // SAFETY: an idle block is valid and nobody else refers to it.
        unsafe { block.as_ref() }.refs.reset();
        Self(block)
    }

    /// Start of the data; valid for `capacity` bytes while this owner lives.
    pub(super) fn data(&self) -> NonNull<u8> {
        if self.block().origin == Origin::Vec {
            return NonNull::from(self.vec_block().vec.as_slice()).cast();
        }
        // SAFETY: `HEAD` bytes of head are followed by the data (none for the empty block: one past its end).
        unsafe { self.0.byte_add(HEAD) }.cast()
    }

    /// Bytes of data.
    pub(super) fn capacity(&self) -> usize {
        self.block().capacity as usize
    }

    /// Bytes that the block occupies in memory, head included.
    pub(super) fn footprint(&self) -> usize {
        match self.block().origin {
            Origin::Pool(_) | Origin::Exact => HEAD + self.capacity(),
            Origin::Vec => size_of::<VecBlock>() + self.vec_block().vec.capacity(),
            Origin::Empty => 0,
        }
    }

    /// Whether no other owner exists. What others did with the block happened before a `true`.
    pub(super) fn is_unique(&self) -> bool {
        !self.is_empty() && self.block().refs.is_one()
    }

    /// Whether this is the block of no bytes; an address is compared, no shared memory is touched.
    pub(super) fn is_empty(&self) -> bool {
        std::ptr::eq(self.0.as_ptr(), &raw const EMPTY)
    }

    fn vec_block(&self) -> &VecBlock {
        assert_eq!(self.block().origin, Origin::Vec);
        // SAFETY: the origin says that the head is the start of a `VecBlock`, which lives as long as any owner.
        unsafe { self.0.cast().as_ref() }
    }

    fn block(&self) -> &Block {
        // SAFETY: the block lives as long as any owner, and its head is only ever shared.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for Owner {
    fn clone(&self) -> Self {
        if !self.is_empty() {
            self.block().refs.add();
        }
        Self(self.0)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.is_empty() || !self.block().refs.remove() {
            return;
        }
        match self.block().origin {
            // SAFETY: the count reached zero, so that this is the only reference left.
            Origin::Pool(class) => pool::give(class, unsafe { Idle::new(self.0) }),
            // SAFETY: as above, and the block was made by `allocate`.
            Origin::Exact => unsafe { release(self.0) },
            // SAFETY: as above, and the block was made by `of_vec` from a box.
            Origin::Vec => drop(unsafe { Box::from_raw(self.0.cast::<VecBlock>().as_ptr()) }),
            Origin::Empty => {}
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("capacity", &self.capacity()).field("origin", &self.block().origin).finish()
    }
}

/// A pooled block that nobody refers to.
pub(super) struct Idle(NonNull<Block>);

// SAFETY: an idle block has no other reference; it may be used or released on any thread.
unsafe impl Send for Idle {}

impl Idle {
    /// A new block of the class.
    pub(super) fn allocate(class: u8) -> Self {
        Self(allocate(pool::capacity(class), Origin::Pool(class), true))
    }

    /// # Safety
    ///
    /// `block` was made by [`allocate`] and nothing else refers to it.
    unsafe fn new(block: NonNull<Block>) -> Self {
        Self(block)
    }

    fn into_block(self) -> NonNull<Block> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new` the block came from `allocate` and is not referred to.
        unsafe { release(self.0) }
    }
}

/// A new block with one reference; its data is uninitialised unless `zero`.
fn allocate(capacity: usize, origin: Origin, zero: bool) -> NonNull<Block> {
    let capacity = capacity_u32(capacity);
    let layout = layout(capacity);
    let allocate = if zero { alloc_zeroed } else { alloc };
    // SAFETY: the layout is never of size zero: it holds the head.
    let raw = unsafe { allocate(layout) };
    let Some(block) = NonNull::new(raw.cast::<Block>()) else { handle_alloc_error(layout) };
    let head = Block { refs: Count(AtomicUsize::new(1)), capacity, origin };
    // SAFETY: the allocation is aligned for a head and at least as large.
    unsafe { block.write(head) };
    block
}

/// Returns a block to the allocator.
///
/// # Safety
///
/// `block` was made by [`allocate`] and nothing refers to it any more.
unsafe fn release(block: NonNull<Block>) {
    // SAFETY: the caller holds the only reference to a valid block.
    let layout = layout(unsafe { block.as_ref() }.capacity);
    // SAFETY: allocated with this very layout, by the caller's promise.
    unsafe { dealloc(block.as_ptr().cast(), layout) }
}

fn layout(capacity: u32) -> Layout {
    Layout::from_size_align(HEAD + capacity as usize, align_of::<Block>())
        .expect("a capacity of 32 bits fits an address space")
}

fn capacity_u32(capacity: usize) -> u32 {
    u32::try_from(capacity).expect("a buffer is smaller than 4 GiB")
}
