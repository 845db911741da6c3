//! Pooled, 16-byte-aligned, reference-counted buffers.
//!
//! A [`Buf`] is written by one owner; a [`Slice`] is read by many. Both point into a *block*: a 16-byte
//! head (reference count, capacity, origin) and the data behind it. [`Buf::split_to`] hands out the
//! front of a buffer as a slice while the rest is still being written, which is how many received
//! frames share one receive chunk.
//!
//! Invariant: every byte of a block is initialised before a reference to it exists, no two buffers
//! cover the same byte, and no slice covers a byte that a buffer may still write.
//!
//! This module knows nothing of frames. It is one of the few places with `unsafe`, all of it about
//! those three facts.
#![expect(unsafe_code, reason = "reference counting and disjoint views of one allocation")]

use std::sync::atomic;

mod block;
mod buf;
mod count;
#[cfg(all(test, loom))]
mod loom_tests;
mod pool;
mod slice;
#[cfg(test)]
mod tests;

pub use buf::Buf;
pub use slice::Slice;
