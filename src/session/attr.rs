//! One attribute of a record, and its key.

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
    /// The name without the kind byte.
    pub(crate) fn name(&self) -> &[u8] {
        &self.key[1..]
    }

    /// The name as a slice of its own; a session's name shares the key's memory.
    pub(crate) fn shared_name(&self) -> Slice {
        match &self.key {
            Key::Short(..) => Slice::copy_from(self.name()),
            Key::Long(key) => key.slice(1..key.len()),
        }
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
/// Short ones, which nearly all names of attributes are, lie in the record itself: no allocation for each, and no cache
/// miss to find one. Names of sessions are shared with the index instead.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Short(u8, [u8; SHORT_MAX]),
    Long(Slice),
}

/// What fits beside the length in the place of a slice and its tag.
const SHORT_MAX: usize = 22;

const _: () = assert!(size_of::<Key>() == 24 && size_of::<Attr>() <= 64);

impl Key {
    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        match u8::try_from(name.len() + 1) {
            Ok(len) if usize::from(len) <= SHORT_MAX && kind != key::NAME => {
                let mut bytes = [0; SHORT_MAX];
                bytes[0] = kind;
                bytes[1..usize::from(len)].copy_from_slice(name);
                Self::Short(len, bytes)
            }
            _ => {
                let mut bytes: SmallVec<[u8; 64]> = SmallVec::with_capacity(name.len() + 1);
                bytes.push(kind);
                bytes.extend_from_slice(name);
                Self::Long(Slice::copy_from(&bytes))
            }
        }
    }

    /// The same bytes as a slice.
    pub(crate) fn shared(&self) -> Slice {
        match self {
            Self::Short(..) => Slice::copy_from(self),
            Self::Long(key) => key.clone(),
        }
    }

    fn allocated(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(key) => key.allocated(),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(key) => key,
        }
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
                assert_eq!((key[0], &key[1..]), (kind, name.as_slice()));
                assert_eq!(key.shared().as_bytes(), &*key);
                assert_eq!(key.allocated() == 0, kind == key::ATTR && len < SHORT_MAX);
            }
        }
    }
}
