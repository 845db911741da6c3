//! Session frames: the table of one session, in an rkyv archive, and its values behind it.
//!
//! The archive holds integers, byte vectors and vectors of plain structs, nothing else: those are the
//! types whose validation is simple enough to trust. It is validated whole, once, when a [`SessionView`] is
//! made, together with everything that the types do not say (counters, key lengths, value ranges), and then read in
//! place; nothing is ever deserialised into owned values.
//!
//! Small values come first in the payload, then zeros up to a multiple of 16, then the large ones; so a frame with
//! large values ends with the application's own bytes and needs no padding after them.

use std::fmt;
use std::num::NonZeroUsize;

use rkyv::api::{access_with_context, serialize_using};
use rkyv::rancor::{Failure, Fallible, Infallible};
use rkyv::ser::{Positional, Writer, WriterExt};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Serialize, SerializeUnsized};
use smallvec::SmallVec;

use super::header::{Header, pad16, payload_at};
use super::layout::COUNTER_MAX;
use super::{BY_REFERENCE, Frame, FrameError, FrameOut, HEADER_LEN, Kind, frame};
use crate::buffer::{Buf, Slice};
use crate::id::{MemberId, Uid, Version};
use crate::mark::hit;

/// Flags of a session frame.
pub mod flags {
    /// A delta: one version (`top`) for all attributes, `base` is meaningful.
    pub const DELTA: u32 = 1;
    /// Present state: every attribute with its own version.
    pub const PRESENT: u32 = 2;
    /// The present state is complete: its holder is not partial.
    pub const COMPLETE: u32 = 4;
    /// A tombstone.
    pub const DEAD: u32 = 8;
    /// The answer to a pull.
    pub const ANSWER: u32 = 16;
    /// The answerer does not hold the uid.
    pub const UNKNOWN: u32 = 32;
}

/// One attribute to encode.
#[derive(Clone, Copy, Debug)]
pub struct AttrOut<'a> {
    /// The internal key (kind byte, then name); never empty.
    pub key: &'a [u8],
    /// Version of the write.
    pub version: Version,
    /// The value; `None` is a removal.
    pub value: Option<&'a Slice>,
}

/// A session frame to encode.
#[derive(Clone, Copy, Debug)]
pub struct SessionOut<'a> {
    /// Name of the context.
    pub context: &'a [u8],
    /// Which session.
    pub uid: Uid,
    /// What the frame is: [`flags`].
    pub flags: u32,
    /// Lamport counter of the sender.
    pub clock: u64,
    /// Highest version seen, of writes and touches.
    pub top: Version,
    /// The `top` that an expirer saw.
    pub exp: Version,
    /// The writer's `top` before a delta or touch.
    pub base: Version,
    /// Milliseconds since the last access (live) or since the death (tombstone).
    pub age_ms: u64,
    /// Attributes written or removed.
    pub attrs: &'a [AttrOut<'a>],
    /// Uids that the creator knows dead or expired under the same name.
    pub over: &'a [Uid],
}

/// Encodes a session frame once for all peers.
///
/// Small values are copied in; values of [`BY_REFERENCE`] bytes and more are parts of their own, by reference.
///
/// # Panics
///
/// When the frame would reach 4 GiB; the cap on a session is far below.
#[must_use]
pub fn encode_session(out: &SessionOut<'_>) -> FrameOut {
    debug_assert!(out.attrs.iter().all(|attr| !attr.key.is_empty()));
    let values =
        |large: bool| out.attrs.iter().filter_map(|attr| attr.value).filter(move |value| is_large(value) == large);
    let small: usize = values(false).map(|value| value.len()).sum();
    let large: usize = values(true).map(|value| value.len()).sum();
    let large_at = if large == 0 { small } else { pad16(small + large) - large };

    let head = Buf::compose(payload_at(meta_len_max(out)) + large_at + 16, |bytes| {
        let mut cursor = Cursor { bytes, at: HEADER_LEN };
        let Ok(_) = serialize_using::<_, Infallible>(&Meta::of(out, large_at), &mut cursor);
        let header = Header::new(Kind::Session, cursor.at - HEADER_LEN, large_at + large);
        cursor.pad_to(header.payload_at());
        for value in values(false) {
            cursor.put(value);
        }
        cursor.pad_to(header.frame_len - large);
        cursor.bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        cursor.at
    });
    let len = head.len() + large;
    let mut parts = SmallVec::new();
    parts.push(head);
    parts.extend(values(true).cloned());
    FrameOut { parts, len }
}

impl Frame {
    /// The frame as a session's table: validates all of it.
    ///
    /// # Errors
    ///
    /// When it is another kind, or anything in it is out of bounds.
    pub fn session(&self) -> Result<SessionView<'_>, FrameError> {
        let (archive, payload_at, payload) = self.body(Kind::Session)?;
        let validator = ArchiveValidator::with_max_depth(archive, NonZeroUsize::new(ARCHIVE_DEPTH_MAX));
        let meta =
            access_with_context::<ArchivedMeta<'static>, _, Failure>(archive, &mut Validator::new(validator, ()))
                .map_err(|_| hit!(SessionArchive => FrameError::Meta))?;
        if !meta.is_sound(payload.len()) {
            return Err(hit!(SessionTable => FrameError::Meta));
        }
        Ok(SessionView { meta, frame: &self.bytes, payload_at })
    }
}

/// A received session frame, validated once when made, read in place.
#[derive(Clone, Copy)]
pub struct SessionView<'a> {
    meta: &'a ArchivedMeta<'static>,
    frame: &'a Slice,
    payload_at: usize,
}

impl<'a> SessionView<'a> {
    /// Name of the context.
    #[must_use]
    pub fn context(&self) -> &'a [u8] {
        self.meta.context.as_slice()
    }

    /// Which session.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.meta.uid.uid()
    }

    /// What the frame is: [`flags`].
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.meta.flags.to_native()
    }

    /// Lamport counter of the sender.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.meta.clock.to_native()
    }

    /// Highest version seen, of writes and touches.
    #[must_use]
    pub fn top(&self) -> Version {
        self.meta.top.version()
    }

    /// The `top` that an expirer saw.
    #[must_use]
    pub fn exp(&self) -> Version {
        self.meta.exp.version()
    }

    /// The writer's `top` before a delta or touch.
    #[must_use]
    pub fn base(&self) -> Version {
        self.meta.base.version()
    }

    /// Milliseconds since the last access (live) or since the death (tombstone).
    #[must_use]
    pub fn age_ms(&self) -> u64 {
        self.meta.age_ms.to_native()
    }

    /// Attributes written or removed, in the sender's order.
    pub fn attrs(&self) -> impl ExactSizeIterator<Item = AttrView<'a>> + use<'a> {
        let mut keys = self.meta.keys.as_slice();
        self.meta.attrs.as_slice().iter().map(move |attr| {
            let (key, rest) = keys.split_at(attr.key_len.to_native() as usize);
            keys = rest;
            AttrView { key, version: attr.version.version(), value: attr.value_range() }
        })
    }

    /// Uids that the creator knows dead or expired under the same name.
    pub fn over(&self) -> impl ExactSizeIterator<Item = Uid> + use<'a> {
        self.meta.over.as_slice().iter().map(ArchivedStamp::uid)
    }

    /// The bytes of a value as a slice to keep.
    ///
    /// Copied when small (below [`KEPT_IN_PLACE`](super::KEPT_IN_PLACE)) or less than half of the receive buffer, else shared with it:
    /// what is kept never holds more than twice its size.
    ///
    /// # Panics
    ///
    /// When the range is not one of this frame's.
    #[must_use]
    pub fn value(&self, range: (usize, usize)) -> Slice {
        let len = self.value_bytes(range).len();
        frame::keep(self.frame, self.payload_at + range.0, len)
    }

    /// The bytes of a value, borrowed.
    ///
    /// # Panics
    ///
    /// When the range is not one of this frame's.
    #[must_use]
    pub fn value_bytes(&self, range: (usize, usize)) -> &'a [u8] {
        &self.frame.as_bytes()[self.payload_at..][range.0..range.1]
    }
}

impl fmt::Debug for SessionView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionView")
            .field("uid", &self.uid())
            .field("flags", &self.flags())
            .field("top", &self.top())
            .field("exp", &self.exp())
            .field("base", &self.base())
            .field("attrs", &self.meta.attrs.len())
            .finish_non_exhaustive()
    }
}

/// A received attribute, in place.
#[derive(Clone, Copy, Debug)]
pub struct AttrView<'a> {
    /// The internal key (kind byte, then name); never empty.
    pub key: &'a [u8],
    /// Version of the write.
    pub version: Version,
    /// Range in the payload, as start and end; `None`: removal.
    pub value: Option<(usize, usize)>,
}

/// Deepest nesting of a valid archive is 2: the table, and a vector in it.
const ARCHIVE_DEPTH_MAX: usize = 4;

/// The archive. Its archived form is the wire format: a change of any field is a new schema.
#[derive(Archive, Serialize)]
struct Meta<'a> {
    context: Bytes<'a>,
    /// The keys of all attributes, one after the other.
    keys: Keys<'a>,
    attrs: Table<'a>,
    over: Uids<'a>,
    uid: Stamp,
    top: Stamp,
    exp: Stamp,
    base: Stamp,
    clock: u64,
    age_ms: u64,
    flags: u32,
    reserved: u32,
}

impl<'a> Meta<'a> {
    fn of(out: &SessionOut<'a>, large_at: usize) -> Self {
        Self {
            context: Bytes(out.context),
            keys: Keys(out.attrs),
            attrs: Table { attrs: out.attrs, large_at },
            over: Uids(out.over),
            uid: Stamp::of_uid(out.uid),
            top: Stamp::of_version(out.top),
            exp: Stamp::of_version(out.exp),
            base: Stamp::of_version(out.base),
            clock: out.clock,
            age_ms: out.age_ms,
            flags: out.flags,
            reserved: 0,
        }
    }
}

impl ArchivedMeta<'_> {
    /// What the types of the archive do not say.
    fn is_sound(&self, payload_len: usize) -> bool {
        let stamps = [&self.uid, &self.top, &self.exp, &self.base];
        let mut keys_len = 0u64;
        self.clock <= COUNTER_MAX
            && stamps.into_iter().chain(self.over.iter()).all(ArchivedStamp::is_sound)
            && self.attrs.iter().all(|attr| {
                keys_len += u64::from(attr.key_len.to_native());
                attr.is_sound(payload_len)
            })
            && keys_len == self.keys.len() as u64
    }
}

/// A counter and a member: a uid or a version.
#[derive(Archive, Serialize)]
struct Stamp {
    counter: u64,
    member: u64,
}

impl Stamp {
    fn of_uid(uid: Uid) -> Self {
        Self { counter: uid.counter, member: uid.member.0 }
    }

    fn of_version(version: Version) -> Self {
        Self { counter: version.counter, member: version.member.0 }
    }
}

impl ArchivedStamp {
    fn is_sound(&self) -> bool {
        self.counter <= COUNTER_MAX
    }

    fn uid(&self) -> Uid {
        Uid { counter: self.counter.to_native(), member: MemberId(self.member.to_native()) }
    }

    fn version(&self) -> Version {
        Version { counter: self.counter.to_native(), member: MemberId(self.member.to_native()) }
    }
}

/// One row of the table.
#[derive(Archive, Serialize)]
struct Attr {
    version: Stamp,
    key_len: u32,
    value_at: u32,
    value_len: u32,
    /// 1: the attribute has a value; 0: it was removed, and the two fields before are zero.
    present: u32,
}

impl ArchivedAttr {
    fn is_sound(&self, payload_len: usize) -> bool {
        let end = u64::from(self.value_at.to_native()) + u64::from(self.value_len.to_native());
        let value = match self.present.to_native() {
            0 => end == 0,
            1 => end <= payload_len as u64,
            _ => false,
        };
        value && self.key_len != 0 && self.version.is_sound()
    }

    fn value_range(&self) -> Option<(usize, usize)> {
        let start = self.value_at.to_native() as usize;
        (self.present == 1).then(|| (start, start + self.value_len.to_native() as usize))
    }
}

// The wire format: these sizes are part of it.
const _: () = assert!(size_of::<ArchivedMeta<'_>>() == 120 && align_of::<ArchivedMeta<'_>>() == 8);
const _: () = assert!(size_of::<ArchivedStamp>() == 16 && size_of::<ArchivedAttr>() == 32);

/// Largest archive of this session: the table, its vectors, and the alignment of each.
fn meta_len_max(out: &SessionOut<'_>) -> usize {
    let keys: usize = out.attrs.iter().map(|attr| attr.key.len()).sum();
    size_of::<ArchivedMeta<'_>>()
        + out.context.len()
        + keys
        + out.attrs.len() * size_of::<ArchivedAttr>()
        + out.over.len() * size_of::<ArchivedStamp>()
        + 4 * align_of::<ArchivedMeta<'_>>()
}

fn is_large(value: &Slice) -> bool {
    value.len() >= BY_REFERENCE
}

/// Where the next bytes of a frame go; there is room for all of them. Positions count from the frame's start, which is
/// aligned for every type.
struct Cursor<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn pad_to(&mut self, at: usize) {
        self.bytes[self.at..at].fill(0);
        self.at = at;
    }
}

impl Positional for Cursor<'_> {
    fn pos(&self) -> usize {
        self.at
    }
}

impl<E> Writer<E> for Cursor<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.put(bytes);
        Ok(())
    }
}

/// Bytes, archived as a vector.
struct Bytes<'a>(&'a [u8]);

/// The keys of attributes, archived as one vector of bytes.
struct Keys<'a>(&'a [AttrOut<'a>]);

/// Attributes, archived as a vector of rows.
struct Table<'a> {
    attrs: &'a [AttrOut<'a>],
    /// Where the large values start in the payload.
    large_at: usize,
}

/// Uids, archived as a vector.
struct Uids<'a>(&'a [Uid]);

impl Archive for Bytes<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.0.len(), resolver, out);
    }
}

impl<S: Fallible + Writer + ?Sized> Serialize<S> for Bytes<'_> {
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        let start = serializer.pos();
        serializer.write(self.0)?;
        Ok(VecResolver::from_pos(start))
    }
}

impl Archive for Keys<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        let len = self.0.iter().map(|attr| attr.key.len()).sum();
        ArchivedVec::resolve_from_len(len, resolver, out);
    }
}

impl<S: Fallible + Writer + ?Sized> Serialize<S> for Keys<'_> {
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        let start = serializer.pos();
        for attr in self.0 {
            serializer.write(attr.key)?;
        }
        Ok(VecResolver::from_pos(start))
    }
}

impl Archive for Table<'_> {
    type Archived = ArchivedVec<ArchivedAttr>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.attrs.len(), resolver, out);
    }
}

impl<S: Fallible + Writer + ?Sized> Serialize<S> for Table<'_> {
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        let (mut small_at, mut large_at) = (0, self.large_at);
        let narrow = |n: usize| u32::try_from(n).expect("a frame is smaller than 4 GiB");
        let rows = self.attrs.iter().map(|attr| {
            let (value_at, value_len) = attr.value.map_or((0, 0), |value| {
                let at = if is_large(value) { &mut large_at } else { &mut small_at };
                *at += value.len();
                (*at - value.len(), value.len())
            });
            Attr {
                version: Stamp::of_version(attr.version),
                key_len: narrow(attr.key.len()),
                value_at: narrow(value_at),
                value_len: narrow(value_len),
                present: u32::from(attr.value.is_some()),
            }
        });
        serialize_rows(rows, serializer)
    }
}

impl Archive for Uids<'_> {
    type Archived = ArchivedVec<ArchivedStamp>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.0.len(), resolver, out);
    }
}

impl<S: Fallible + Writer + ?Sized> Serialize<S> for Uids<'_> {
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        serialize_rows(self.0.iter().map(|uid| Stamp::of_uid(*uid)), serializer)
    }
}

/// Writes plain rows one after the other, with no scratch memory: a row has nothing outside itself.
fn serialize_rows<T, S>(rows: impl Iterator<Item = T>, serializer: &mut S) -> Result<VecResolver, S::Error>
where
    T: Serialize<S>,
    S: Fallible + Writer + ?Sized,
{
    let start = serializer.align_for::<<T as Archive>::Archived>()?;
    for row in rows {
        row.serialize_unsized(serializer)?;
    }
    Ok(VecResolver::from_pos(start))
}
