//! CONTRACT (to be implemented): pooled, 16-byte-aligned, reference-counted buffers.

use std::fmt;

/// An immutable, reference-counted view of bytes: 16 bytes wide; `clone` is one atomic increment, no copy.
#[derive(Clone)]
pub struct Slice(std::sync::Arc<[u8]>, u32, u32);

impl Slice {
    /// No bytes; allocates nothing.
    pub fn empty() -> Self { todo!() }
    /// Copies `bytes` into an allocation of its own, exactly sized.
    pub fn copy_from(_bytes: &[u8]) -> Self { todo!() }
    /// Takes over a vector without copying where possible.
    pub fn from_vec(_bytes: Vec<u8>) -> Self { todo!() }
    /// A part of this slice, sharing the allocation. Panics when out of range.
    pub fn slice(&self, _range: std::ops::Range<usize>) -> Self { todo!() }
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] { todo!() }
    /// Bytes that the whole allocation behind this slice occupies (for accounting), header included.
    pub fn allocated(&self) -> usize { todo!() }
}
impl std::ops::Deref for Slice { type Target = [u8]; fn deref(&self) -> &[u8] { todo!() } }
impl AsRef<[u8]> for Slice { fn as_ref(&self) -> &[u8] { self } }
impl fmt::Debug for Slice { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { todo!() } }
impl PartialEq for Slice { fn eq(&self, o: &Self) -> bool { self.as_bytes() == o.as_bytes() } }
impl Eq for Slice {}
impl std::hash::Hash for Slice { fn hash<H: std::hash::Hasher>(&self, h: &mut H) { self.as_bytes().hash(h) } }
impl PartialOrd for Slice { fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> { Some(self.cmp(o)) } }
impl Ord for Slice { fn cmp(&self, o: &Self) -> std::cmp::Ordering { self.as_bytes().cmp(o.as_bytes()) } }

/// A unique, growable, 16-byte-aligned buffer from the pool; `freeze` turns it into a [`Slice`] without copying.
#[derive(Debug)]
pub struct Buf(Vec<u8>);

impl Buf {
    /// A buffer of at least `capacity` bytes, from the process-wide bounded pool when one is free.
    pub fn with_capacity(_capacity: usize) -> Self { todo!() }
    /// Bytes filled.
    pub fn len(&self) -> usize { todo!() }
    /// Whether no byte is filled.
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    /// Bytes it can hold without growing.
    pub fn capacity(&self) -> usize { todo!() }
    /// Appends, growing when needed.
    pub fn extend_from_slice(&mut self, _bytes: &[u8]) { todo!() }
    /// Sets the length to `len`, zero-filling what is new.
    pub fn resize(&mut self, _len: usize) { todo!() }
    /// The filled bytes.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] { todo!() }
    /// The filled bytes.
    pub fn as_bytes(&self) -> &[u8] { todo!() }
    /// Ends writing: the filled bytes as a shared slice; the memory returns to the pool with the last reference.
    pub fn freeze(self) -> Slice { todo!() }
}
