//! CONTRACT (to be implemented): bytes and typed frames.

use smallvec::SmallVec;

use crate::buffer::Slice;
use crate::id::{MemberId, NodeState, Uid, Version};

/// Bytes of the header of every frame.
pub const HEADER_LEN: usize = 32;
/// Largest frame before a handshake is complete.
pub const FRAME_BYTES_UNAUTHENTICATED: usize = 4096;
/// Largest single frame afterwards; a larger one travels as `Part` frames.
pub const FRAME_BYTES_MAX: usize = (256 << 10) + 8192;
/// Payload of one `Part`.
pub const PART_BYTES: usize = 256 << 10;
/// Protocol versions that this build speaks: lowest, highest.
pub const PROTOCOL: (u8, u8) = (1, 1);
/// Values at or above this travel by reference; smaller ones are copied into the frame.
pub const BY_REFERENCE: usize = 4096;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind { Hello = 1, Welcome = 2, Refuse = 3, Ack = 4, Session = 5, Part = 6, StateRequest = 7, StateDone = 8, Pull = 9, Status = 10, Echo = 11, EchoReply = 12, Message = 13 }

/// Why bytes are no acceptable frame or datagram; the link closes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError { Magic, Version, Checksum, Kind, Length, TooLarge, Meta, Body, Order, Cluster, Truncated, Part }

/// One encoded frame ready to be gathered: shared, so that fan-out costs reference counts.
/// Its parts in order are the bytes on the wire (header, archive, payload, padding to 16).
#[derive(Clone, Debug)]
pub struct FrameOut { /// The pieces.
    pub parts: SmallVec<[Slice; 2]>, /// Their total.
    pub len: usize }

impl FrameOut {
    /// The same frame cut into `Part` frames when it is larger than [`FRAME_BYTES_MAX`]; else itself.
    /// Each Part carries in its fixed body: total length of the inner frame (u64), offset (u64).
    pub fn split(self) -> SmallVec<[FrameOut; 1]> { todo!() }
    /// All bytes in one vector (tests, simulator).
    pub fn to_vec(&self) -> Vec<u8> { todo!() }
}

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

/// One attribute to encode. `key` is the internal key (kind byte, then name); `None` is a removal.
#[derive(Clone, Copy, Debug)]
pub struct AttrOut<'a> { pub key: &'a [u8], pub version: Version, pub value: Option<&'a Slice> }

/// A session frame to encode.
#[derive(Clone, Copy, Debug)]
pub struct SessionOut<'a> {
    pub context: &'a [u8],
    pub uid: Uid,
    pub flags: u32,
    /// Lamport counter of the sender.
    pub clock: u64,
    pub top: Version,
    pub exp: Version,
    pub base: Version,
    /// Milliseconds since the last access (live) or since the death (tombstone).
    pub age_ms: u64,
    pub attrs: &'a [AttrOut<'a>],
    pub over: &'a [Uid],
}

/// Encodes a session frame once for all peers. Small payload is copied in; values >= BY_REFERENCE are parts by reference.
pub fn encode_session(_out: &SessionOut<'_>) -> FrameOut { todo!() }

/// A received attribute, in place.
#[derive(Clone, Copy, Debug)]
pub struct AttrView<'a> { pub key: &'a [u8], pub version: Version, /// Range in the payload; `None`: removal.
    pub value: Option<(usize, usize)> }

/// A received session frame, validated once when made, read in place.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> { _p: &'a [u8] }
impl<'a> SessionView<'a> {
    pub fn context(&self) -> &'a [u8] { todo!() }
    pub fn uid(&self) -> Uid { todo!() }
    pub fn flags(&self) -> u32 { todo!() }
    pub fn clock(&self) -> u64 { todo!() }
    pub fn top(&self) -> Version { todo!() }
    pub fn exp(&self) -> Version { todo!() }
    pub fn base(&self) -> Version { todo!() }
    pub fn age_ms(&self) -> u64 { todo!() }
    pub fn attrs(&self) -> impl ExactSizeIterator<Item = AttrView<'a>> + use<'a> { let v: Vec<AttrView<'a>> = todo!(); #[allow(unreachable_code)] v.into_iter() }
    pub fn over(&self) -> impl ExactSizeIterator<Item = Uid> + use<'a> { let v: Vec<Uid> = todo!(); #[allow(unreachable_code)] v.into_iter() }
    /// The bytes of a value as a slice to keep: copied when small (below [`BY_REFERENCE`]), else shared with the receive buffer.
    pub fn value(&self, _range: (usize, usize)) -> Slice { todo!() }
    /// The bytes of a value, borrowed.
    pub fn value_bytes(&self, _range: (usize, usize)) -> &'a [u8] { todo!() }
}

/// A received frame: header checked, body within bounds; typed accessors validate the rest once.
#[derive(Clone, Debug)]
pub struct Frame { pub kind: Kind, pub bytes: Slice }
impl Frame {
    pub fn session(&self) -> Result<SessionView<'_>, FrameError> { todo!() }
    pub fn hello(&self) -> Result<Hello, FrameError> { todo!() }
    pub fn welcome(&self) -> Result<Welcome, FrameError> { todo!() }
    pub fn refuse(&self) -> Result<RefuseReason, FrameError> { todo!() }
    pub fn ack(&self) -> Result<Ack, FrameError> { todo!() }
    pub fn control(&self) -> Result<Control, FrameError> { todo!() }
}

/// Splits a byte stream into frames; takes chunks of any size, validates each byte once, joins `Part`s.
/// Use: `let space = d.space(); let n = read(space); d.filled(n); while let Some(f) = d.next()? {..}`.
/// `space` is the free rest of a pooled receive chunk (64 KiB), or the rest of an exactly sized buffer for a large frame.
#[derive(Debug)]
pub struct Decoder { _p: () }
impl Decoder {
    /// Starts with the cap for unauthenticated peers. `whole_max`: largest frame after joining parts.
    pub fn new(_whole_max: usize) -> Self { todo!() }
    /// Raises the cap after the handshake.
    pub fn authenticated(&mut self) { todo!() }
    pub fn space(&mut self) -> &mut [u8] { todo!() }
    pub fn filled(&mut self, _n: usize) { todo!() }
    /// Copies `bytes` in and goes on (simulator, tests); returns the frames through `next`.
    pub fn feed(&mut self, _bytes: &[u8]) { todo!() }
    /// `Kind::Part` is never returned: the joined inner frame is, once whole. Each frame returned counts as
    /// `take_units()` frames of the lane (a joined one: the number of its parts).
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> { todo!() }
    /// Wire frames (parts included) completed since the last call.
    pub fn take_units(&mut self) -> u64 { todo!() }
}

/// First frame of a lane, from the dialler. Fixed layout with room for MAC, key id, credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello { pub versions: (u8, u8), pub cluster: u64, pub member: MemberId, pub expect: MemberId, pub lane: u16, pub lanes: u16, pub state: NodeState, pub probe: bool, pub addr: std::net::SocketAddr, pub name: String }
/// The answer to a Hello that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome { pub version: u8, pub member: MemberId, pub state: NodeState, pub name: String }
/// Why a Hello was not accepted (its body also carries nothing else).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseReason { Version = 1, Cluster = 2, NotMe = 3, Busy = 4, Leaving = 5 }

/// Cumulative acknowledgement of a lane: counts of wire frames after Hello.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ack { pub received: u64, pub applied: u64, /// Position (1-based count) of a refused frame, and why. At most [`Ack::REFUSED_MAX`].
    pub refused: SmallVec<[(u64, RefusedCode); 4]> }
impl Ack { pub const REFUSED_MAX: usize = 64; }
/// Why a frame was no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusedCode { Partial = 1, TooLarge = 2, Full = 3, Context = 4 }

/// Small messages with fixed layouts, counted on the lane like session frames (but Echo/EchoReply on a probe are not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for everything. `round` is the asker's.
    StateRequest(u64),
    /// Everything of `round` was sent on this lane: round (0: a repair), records on this lane, lanes used.
    StateDone(u64, u64, u16),
    /// Asks for the present state of one session.
    Pull(Vec<u8>, Uid),
    /// The sender's state changed.
    Status(NodeState),
    Echo(u64),
    EchoReply(u64),
    /// Application message: topic, payload.
    Message(u32, Slice),
}

pub fn encode_hello(_h: &Hello) -> FrameOut { todo!() }
pub fn encode_welcome(_w: &Welcome) -> FrameOut { todo!() }
pub fn encode_refuse(_r: RefuseReason) -> FrameOut { todo!() }
/// Appends the ack's bytes.
pub fn encode_ack(_a: &Ack, _out: &mut Vec<u8>) { todo!() }
pub fn encode_control(_c: &Control) -> FrameOut { todo!() }

/// A ping: one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping { pub versions: (u8, u8), pub cluster: u64, pub member: MemberId, pub seq: u64, pub state: NodeState, pub addr: std::net::SocketAddr, pub name: String, pub route: String, pub view_hash: u64, /// Milliseconds since the sender's start.
    pub uptime_ms: u64 }
pub const PING_LEN: usize = 256;
pub fn encode_ping(_p: &Ping) -> [u8; PING_LEN] { todo!() }
pub fn decode_ping(_bytes: &[u8]) -> Result<Ping, FrameError> { todo!() }
/// The tag of a cluster name in pings and hellos (stable, 64 bits).
pub fn cluster_tag(_name: &str) -> u64 { todo!() }
