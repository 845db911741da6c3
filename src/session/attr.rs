//! One attribute of a record, and its key.

use std::cmp::Ordering;
use std::ops::Deref;

use smallvec::SmallVec;

use super::key;
use crate::buffer::Slice;
use crate::id::Version;

/// One attribute: key, version, value or removal.
#[derive(Clone, Debug)]
pub(crate) struct Attr {
    pub(crate) key: Key,
    pub(crate) version: Version,
    pub(crate) value: Option<Slice>,
}

impl Attr {
    pub(crate) fn name(&self) -> &[u8] {
        self.key.name()
    }

    pub(crate) fn is(&self, kind: u8) -> bool {
        self.key[0] == kind
    }

    /// Bytes that it occupies elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        self.key.allocated() + self.value.as_ref().map_or(0, Slice::allocated)
    }

    /// What the session's limit counts: names and values of the application, nothing reserved.
    pub(crate) fn payload(&self) -> usize {
        if self.is(key::ATTR) { self.name().len() + self.value.as_ref().map_or(0, |v| v.len()) } else { 0 }
    }
}

/// An internal key: kind byte, then name.
///
/// Short ones, which nearly all names of attributes and of sessions are, lie where they are used: no allocation and no count
/// for each, and no cache miss to compare one. Longer ones share their memory.
#[derive(Clone, Debug)]
pub struct Key(Bytes);

#[derive(Clone, Debug)]
enum Bytes {
    /// Length, then as many bytes.
    Short(u8, [u8; SHORT_MAX]),
    Long(Slice),
}

/// A session id of 32 characters fits with its kind; so does one with a short route behind it.
const SHORT_MAX: usize = 38;

const _: () = assert!(size_of::<Key>() == 40 && size_of::<Attr>() == 72);

impl Key {
    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        match u8::try_from(name.len() + 1) {
            Ok(len) if usize::from(len) <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[0] = kind;
                bytes[1..usize::from(len)].copy_from_slice(name);
                Self(Bytes::Short(len, bytes))
            }
            _ => {
                let mut bytes: SmallVec<[u8; 64]> = SmallVec::with_capacity(name.len() + 1);
                bytes.push(kind);
                bytes.extend_from_slice(name);
                Self(Bytes::Long(Slice::copy_from(&bytes)))
            }
        }
    }

    /// Takes a whole key, kind byte and all; empty ones are none.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let (kind, name) = key.split_first()?;
        Some(Self::new(*kind, name))
    }

    /// The name without the kind byte.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self[1..]
    }

    /// Bytes that it occupies elsewhere.
    pub(crate) fn allocated(&self) -> usize {
        match &self.0 {
            Bytes::Short(..) => 0,
            Bytes::Long(key) => key.allocated(),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(len, bytes) => &bytes[..usize::from(*len)],
            Bytes::Long(key) => key,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_their_kind_and_name() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, 254, 255, 4096] {
            let name = vec![7; len];
            for kind in [key::ATTR, key::NAME] {
                let key = Key::new(kind, &name);
                assert_eq!((key[0], key.name()), (kind, name.as_slice()));
                assert_eq!(Key::of(&key).unwrap(), key);
                assert_eq!(key.allocated() == 0, len < SHORT_MAX);
            }
        }
    }
}
