//! [`Buf`]: bytes being written.

use std::cell::RefCell;
use std::fmt;

use super::Slice;
use super::block::{HEAD, Owner};
use super::pool;

/// Bytes of a chunk that many small slices are cut from, one allocation with its head.
const CHUNK: usize = (16 << 10) - HEAD;

thread_local! {
    static CHUNK_OF_THREAD: RefCell<Buf> = RefCell::default();
}

/// A unique, growable, 16-byte-aligned buffer from the pool; `freeze` turns it into a [`Slice`] without copying.
///
/// It covers the block from `start` to the end, and nobody else covers a byte of that: the `len` bytes
/// that are filled, then the spare ones. Bytes before `start` belong to slices that were split off.
pub struct Buf {
    owner: Owner,
    start: usize,
    len: usize,
}

impl Buf {
    /// No bytes and no memory.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Owner::empty())
    }

    /// A buffer of at least `capacity` bytes, from the process-wide bounded pool when one is free.
    ///
    /// # Panics
    ///
    /// At 4 GiB and above.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        match pool::class_of(capacity) {
            Some(class) => Self::over(Owner::pooled(class)),
            None => Self::exact(capacity),
        }
    }

    /// A buffer of exactly `capacity` bytes in an allocation of its own: for bytes that somebody will keep.
    ///
    /// # Panics
    ///
    /// At 4 GiB and above.
    #[must_use]
    pub fn exact(capacity: usize) -> Self {
        Self::over(Owner::zeroed(capacity))
    }

    /// A slice of a short life that `write` fills, as many bytes as it returns of the at least `capacity` that it gets, which are
    /// initialised to anything. Small ones lie one behind the other in a chunk of the calling thread.
    ///
    /// # Panics
    ///
    /// When `write` returns more than it got; at 4 GiB and above.
    pub fn compose(capacity: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Slice {
        let fill = |buf: &mut Self| {
            let filled = write(buf.spare());
            buf.advance(filled);
            let slice = buf.split_to(filled);
            // The next one is aligned as this one was, to the size of a head.
            let gap = filled.next_multiple_of(HEAD) - filled;
            let gap = gap.min(buf.capacity());
            buf.advance(gap);
            buf.consume(gap);
            slice
        };
        if capacity > CHUNK / 8 {
            return fill(&mut Self::with_capacity(capacity));
        }
        CHUNK_OF_THREAD.with_borrow_mut(|chunk| {
            if chunk.capacity() < capacity {
                *chunk = Self::with_capacity(CHUNK);
            }
            fill(chunk)
        })
    }

    /// Appends, growing when needed.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Sets the length to `len`, zero-filling what is new.
    pub fn resize(&mut self, len: usize) {
        if let Some(more) = len.checked_sub(self.len) {
            self.reserve(more);
            self.spare()[..more].fill(0);
        }
        self.len = len;
    }

    /// Makes room for `more` bytes after the filled ones.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed > self.capacity() {
            self.move_to(Self::with_capacity(needed.max(self.capacity() * 2)));
        }
    }

    /// The spare bytes after the filled ones, initialised to anything; [`Buf::advance`] counts them as filled.
    pub fn spare(&mut self) -> &mut [u8] {
        let spare = self.capacity() - self.len;
        // SAFETY: the range ends at the end of the block; blocks for buffers are initialised when allocated, and
        // this buffer alone covers everything from `start` on.
        unsafe { std::slice::from_raw_parts_mut(self.owner.data().as_ptr().wrapping_add(self.start + self.len), spare) }
    }

    /// Counts the first `n` spare bytes as filled.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.capacity() - self.len, "advanced past the end of a buffer");
        self.len += n;
    }

    /// Splits off the first `n` filled bytes as a shared slice; the buffer goes on behind them in the same block.
    ///
    /// # Panics
    ///
    /// When fewer are filled.
    #[must_use]
    pub fn split_to(&mut self, n: usize) -> Slice {
        assert!(n <= self.len, "split past the filled bytes of a buffer");
        if n == 0 {
            return Slice::empty();
        }
        let front = Slice::within(self.owner.clone(), self.start, n);
        self.start += n;
        self.len -= n;
        front
    }

    /// Drops the first `n` filled bytes.
    ///
    /// # Panics
    ///
    /// When fewer are filled.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len, "consumed past the filled bytes of a buffer");
        self.start += n;
        self.len -= n;
    }

    /// Moves the filled bytes to the front of the block if nobody else uses it any more; whether it did.
    pub fn reclaim(&mut self) -> bool {
        if !self.owner.is_unique() {
            return false;
        }
        let filled = self.start..self.start + self.len;
        self.start = 0;
        let data = self.owner.data().as_ptr();
        // SAFETY: as the only owner this buffer covers the whole block, which is initialised.
        let block = unsafe { std::slice::from_raw_parts_mut(data, self.owner.capacity()) };
        block.copy_within(filled, 0);
        true
    }

    /// Goes on in `other`, which is empty and large enough, with the same filled bytes.
    pub fn move_to(&mut self, mut other: Self) {
        debug_assert!(other.is_empty() && other.capacity() >= self.len);
        other.spare()[..self.len].copy_from_slice(self.as_bytes());
        other.len = self.len;
        *self = other;
    }

    /// The filled bytes.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as for `spare`; this buffer alone covers the range.
        unsafe { std::slice::from_raw_parts_mut(self.owner.data().as_ptr().wrapping_add(self.start), self.len) }
    }

    /// Bytes filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it can hold without growing, the filled ones included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.owner.capacity() - self.start
    }

    /// The filled bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: as for `spare`; while `self` is borrowed nobody writes the range.
        unsafe { std::slice::from_raw_parts(self.owner.data().as_ptr().wrapping_add(self.start), self.len) }
    }

    /// Ends writing: the filled bytes as a shared slice; the memory returns to the pool with the last reference.
    #[must_use]
    pub fn freeze(self) -> Slice {
        if self.len == 0 {
            return Slice::empty();
        }
        Slice::within(self.owner, self.start, self.len)
    }

    fn over(owner: Owner) -> Self {
        Self { owner, start: 0, len: 0 }
    }
}

impl Default for Buf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}
