//! [`Slice`]: shared, immutable bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};

use super::block::Owner;

/// An immutable, reference-counted view of bytes: 16 bytes wide; `clone` is one atomic increment, no copy.
///
/// Slices of one allocation keep the whole allocation alive ([`Slice::allocated`]).
#[derive(Clone)]
pub struct Slice {
    owner: Owner,
    start: u32,
    len: u32,
}

const _: () = assert!(size_of::<Slice>() == 8 + size_of::<usize>());
const _: () = assert!(size_of::<Option<Slice>>() == size_of::<Slice>());

impl Slice {
    /// No bytes; allocates nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { owner: Owner::empty(), start: 0, len: 0 }
    }

    /// Copies `bytes` into an allocation of its own, with at most 127 bytes beside them.
    ///
    /// # Panics
    ///
    /// At 4 GiB and above.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self::within(Owner::copy_of(bytes), 0, bytes.len())
    }

    /// Takes over a vector without copying it; spare capacity of the vector stays allocated.
    ///
    /// # Panics
    ///
    /// At 4 GiB and above.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self::whole(Owner::of_vec(bytes))
    }

    /// A part of this slice, sharing the allocation; an empty part keeps nothing alive.
    ///
    /// # Panics
    ///
    /// When the range is not within the slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len as usize,
            "range {range:?} of a slice of {} bytes",
            self.len
        );
        if range.is_empty() {
            return Self::empty();
        }
        Self::within(self.owner.clone(), self.start as usize + range.start, range.len())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: by construction the range lies within the block; its bytes were initialised before the slice was
        // made, and no buffer covers them any more.
        unsafe {
            std::slice::from_raw_parts(self.owner.data().as_ptr().wrapping_add(self.start as usize), self.len as usize)
        }
    }

    /// Bytes that the whole allocation behind this slice occupies (for accounting), header included.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.owner.footprint()
    }

    /// `len` bytes at `start` of the block. The caller has written them and will not write them again.
    pub(super) fn within(owner: Owner, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= owner.capacity());
        let narrow = |n: usize| u32::try_from(n).expect("a block is smaller than 4 GiB");
        Self { owner, start: narrow(start), len: narrow(len) }
    }

    fn whole(owner: Owner) -> Self {
        let len = owner.capacity();
        Self::within(owner, 0, len)
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_vec(bytes)
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Slice {}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Text where the bytes are printable ASCII, shortened: values may be large, and secret beyond their first bytes.
impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let bytes = self.as_bytes();
        let shown = &bytes[..bytes.len().min(SHOWN)];
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        if bytes.len() > SHOWN {
            write!(f, "..{} bytes", bytes.len())?;
        }
        Ok(())
    }
}
