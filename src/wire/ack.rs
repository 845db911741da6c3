//! Ack: how far a lane has come.

use std::fmt;

use smallvec::SmallVec;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::Header;
use super::{Frame, FrameError, Kind};
use crate::mark::hit;

/// Cumulative acknowledgement of a lane: counts of wire frames after Hello.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ack {
    /// Frames received whole.
    pub received: u64,
    /// Frames that were applied or refused; never more than received.
    pub applied: u64,
    /// Position (1-based count) of a refused frame, and why. At most [`Ack::REFUSED_MAX`].
    pub refused: SmallVec<[(u64, RefusedCode); 4]>,
}

impl Ack {
    /// Refusals in one ack; whoever has more sends acks in between.
    pub const REFUSED_MAX: usize = 64;
}

/// Why a frame was no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusedCode {
    /// The record missed something before and asks for its present state.
    Partial = 1,
    /// A value or the session is larger than the receiver allows.
    TooLarge = 2,
    /// The receiver's store is full.
    Full = 3,
    /// The receiver has no such context and makes no new one.
    Context = 4,
}

impl RefusedCode {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Partial,
            2 => Self::TooLarge,
            3 => Self::Full,
            4 => Self::Context,
            _ => return None,
        })
    }
}

impl fmt::Display for RefusedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partial => "partial",
            Self::TooLarge => "too large",
            Self::Full => "store full",
            Self::Context => "too many contexts",
        })
    }
}

/// Appends the ack's bytes.
///
/// # Panics
///
/// With more than [`Ack::REFUSED_MAX`] refusals.
pub fn encode_ack(ack: &Ack, out: &mut Vec<u8>) {
    assert!(ack.refused.len() <= Ack::REFUSED_MAX, "too many refusals for one ack");
    let counts = Counts { received: U64::new(ack.received), applied: U64::new(ack.applied) };
    let meta_len = size_of::<Counts>() + ack.refused.len() * size_of::<Refused>();
    let header = Header::new(Kind::Ack, meta_len, 0);
    out.reserve(header.frame_len);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(counts.as_bytes());
    for (position, code) in &ack.refused {
        let refused = Refused { position: U64::new(*position), code: *code as u8, reserved: [0; 7] };
        out.extend_from_slice(refused.as_bytes());
    }
}

impl Frame {
    /// The frame as an ack.
    ///
    /// # Errors
    ///
    /// When it is another kind, has too many refusals, or its counts contradict each other.
    pub fn ack(&self) -> Result<Ack, FrameError> {
        let (body, _, payload) = self.body(Kind::Ack)?;
        let (counts, refused) = Counts::ref_from_prefix(body).map_err(|_| hit!(AckCut => FrameError::Body))?;
        let refused = <[Refused]>::ref_from_bytes(refused).map_err(|_| hit!(AckRefusalCut => FrameError::Body))?;
        let (received, applied) = (counts.received.get(), counts.applied.get());
        if applied > received || refused.len() > Ack::REFUSED_MAX || !payload.is_empty() {
            return Err(hit!(AckCounts => FrameError::Body));
        }
        let refused = refused.iter().map(Refused::get).collect::<Result<_, _>>()?;
        Ok(Ack { received, applied, refused })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Counts {
    received: U64,
    applied: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Refused {
    position: U64,
    code: u8,
    reserved: [u8; 7],
}

// Multiples of 16: an ack needs no padding.
const _: () = assert!(size_of::<Counts>() == 16 && size_of::<Refused>() == 16);

impl Refused {
    fn get(&self) -> Result<(u64, RefusedCode), FrameError> {
        let code = RefusedCode::from_wire(self.code).ok_or_else(|| hit!(AckRefusalCode => FrameError::Body))?;
        Ok((self.position.get(), code))
    }
}
