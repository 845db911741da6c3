//! The header of every frame: 32 bytes, little-endian, checked before anything else is believed.
//!
//! Its checksum covers the header alone, so that lengths can be trusted before the rest arrives; the body is
//! covered by TCP (and TLS), and by the validation of whoever reads it. In version 1 flags and the reserved
//! bytes are zero and checked to be: whoever uses them negotiates a later version first, so anything else
//! is damage or a stranger.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FrameError, HEADER_LEN};
use crate::mark::hit;

/// Layout version of header and bodies.
const WIRE_VERSION: u8 = 1;

/// Schema of the metadata; all kinds are at their first.
const SCHEMA: u8 = 1;

const MAGIC: [u8; 4] = *b"HSPR";

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// First frame of a lane, from the dialler.
    Hello = 1,
    /// The answer that accepts a Hello.
    Welcome = 2,
    /// The answer that does not.
    Refuse = 3,
    /// Cumulative acknowledgement.
    Ack = 4,
    /// A change or the present state of one session.
    Session = 5,
    /// A piece of a frame that is too large for one.
    Part = 6,
    /// Asks for everything.
    StateRequest = 7,
    /// Everything was sent.
    StateDone = 8,
    /// Asks for the present state of one session.
    Pull = 9,
    /// The sender's state changed.
    Status = 10,
    /// Asks for a sign of life.
    Echo = 11,
    /// The sign of life.
    EchoReply = 12,
    /// An application's message.
    Message = 13,
    /// What the sender shows, summed up.
    Digest = 14,
    /// Asks whether the receiver reaches a member.
    Reach = 15,
    /// It does.
    Reached = 16,
    /// What the sender holds where digests differ.
    Listing = 17,
    /// What only the dialect of a later version has, for runs in which both are mixed.
    #[cfg(feature = "sim")]
    Later = 250,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Refuse,
            4 => Self::Ack,
            5 => Self::Session,
            6 => Self::Part,
            7 => Self::StateRequest,
            8 => Self::StateDone,
            9 => Self::Pull,
            10 => Self::Status,
            11 => Self::Echo,
            12 => Self::EchoReply,
            13 => Self::Message,
            14 => Self::Digest,
            15 => Self::Reach,
            16 => Self::Reached,
            17 => Self::Listing,
            #[cfg(feature = "sim")]
            250 => Self::Later,
            _ => return None,
        })
    }
}

/// The bytes of a header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    flags: u8,
    schema: u8,
    /// Bytes of the whole frame, a multiple of 16.
    frame_len: U32,
    /// Bytes of the metadata, without the padding behind it.
    meta_len: U32,
    payload_len: U32,
    /// CRC-32 of the 20 bytes before and the 8 after.
    checksum: U32,
    reserved: U64,
}

const _: () = assert!(size_of::<Layout>() == HEADER_LEN);

impl Layout {
    fn checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        // In one piece: two updates cost twice one, as each begins anew.
        let mut covered = [0; 28];
        covered[..20].copy_from_slice(&bytes[..20]);
        covered[20..].copy_from_slice(&bytes[24..]);
        crc32fast::hash(&covered)
    }
}

/// A checked header: its lengths agree with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) frame_len: usize,
    pub(super) meta_len: usize,
    pub(super) payload_len: usize,
}

impl Header {
    /// The header of a frame with these bodies.
    ///
    /// # Panics
    ///
    /// When the frame would reach 4 GiB; the cap on a session is far below.
    pub(super) fn new(kind: Kind, meta_len: usize, payload_len: usize) -> Self {
        let frame_len = pad16(payload_at(meta_len) + payload_len);
        assert!(u32::try_from(frame_len).is_ok(), "a frame is smaller than 4 GiB");
        Self { kind, frame_len, meta_len, payload_len }
    }

    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let narrow = |n: usize| U32::new(u32::try_from(n).expect("checked by `new`"));
        let mut layout = Layout {
            magic: MAGIC,
            version: WIRE_VERSION,
            kind: self.kind as u8,
            flags: 0,
            schema: SCHEMA,
            frame_len: narrow(self.frame_len),
            meta_len: narrow(self.meta_len),
            payload_len: narrow(self.payload_len),
            checksum: U32::ZERO,
            reserved: U64::ZERO,
        };
        layout.checksum = U32::new(layout.checksum());
        zerocopy::transmute!(layout)
    }

    /// Checks the header at the start of `bytes`, for a frame of at most `frame_max` bytes.
    pub(super) fn check(bytes: &[u8], frame_max: usize) -> Result<Self, FrameError> {
        let layout = Layout::at(bytes)?;
        if layout.magic != MAGIC {
            return Err(hit!(FrameMagic => FrameError::Magic));
        }
        if layout.version != WIRE_VERSION {
            return Err(hit!(FrameVersion => FrameError::Version));
        }
        if layout.checksum.get() != layout.checksum() {
            return Err(hit!(FrameChecksum => FrameError::Checksum));
        }
        if layout.schema != SCHEMA || layout.flags != 0 || layout.reserved.get() != 0 {
            return Err(hit!(FrameReserved => FrameError::Version));
        }
        let header = layout.header()?;
        if header.frame_len > frame_max {
            return Err(hit!(FrameTooLarge => FrameError::TooLarge));
        }
        Ok(header)
    }

    /// The header at the start of a frame that was checked when it was received: bounds only.
    pub(super) fn of_frame(bytes: &[u8]) -> Result<Self, FrameError> {
        let header = Layout::at(bytes)?.header()?;
        if header.frame_len != bytes.len() {
            return Err(hit!(FrameIsCut => FrameError::Length));
        }
        Ok(header)
    }

    /// Where the payload starts.
    pub(super) fn payload_at(self) -> usize {
        payload_at(self.meta_len)
    }
}

impl Layout {
    fn at(bytes: &[u8]) -> Result<&Self, FrameError> {
        match Self::ref_from_prefix(bytes) {
            Ok((layout, _)) => Ok(layout),
            Err(_) => Err(hit!(FrameWithoutHeader => FrameError::Truncated)),
        }
    }

    fn header(&self) -> Result<Header, FrameError> {
        let kind = Kind::from_wire(self.kind).ok_or_else(|| hit!(FrameKind => FrameError::Kind))?;
        let [frame_len, meta_len, payload_len] = [self.frame_len, self.meta_len, self.payload_len].map(U32::get);
        let whole = HEADER_LEN as u64 + u64::from(meta_len).next_multiple_of(16) + u64::from(payload_len);
        if u64::from(frame_len) != whole.next_multiple_of(16) {
            return Err(hit!(FrameLengths => FrameError::Length));
        }
        let [frame_len, meta_len, payload_len] = [frame_len, meta_len, payload_len].map(|n| n as usize);
        Ok(Header { kind, frame_len, meta_len, payload_len })
    }
}

/// Where the payload starts behind metadata of this length: aligned to 16, so that an only value is aligned too.
pub(super) fn payload_at(meta_len: usize) -> usize {
    HEADER_LEN + pad16(meta_len)
}

pub(super) fn pad16(len: usize) -> usize {
    len.next_multiple_of(16)
}
