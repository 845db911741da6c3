//! Frames whole: [`FrameOut`] on the way out, [`Frame`] on the way in.

use smallvec::{SmallVec, smallvec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::Header;
use super::{FRAME_BYTES_MAX, FrameError, KEPT_IN_PLACE, Kind, part};
use crate::buffer::{Buf, Slice};
use crate::mark::hit;

/// One encoded frame ready to be gathered: shared, so that fan-out costs reference counts.
///
/// Its parts in order are the bytes on the wire.
#[derive(Clone, Debug, Default)]
pub struct FrameOut {
    /// The pieces: one, and one more for each value that travels by reference.
    pub parts: SmallVec<[Slice; 2]>,
    /// Their total, a multiple of 16.
    pub len: usize,
}

impl FrameOut {
    /// The same frame cut into `Part` frames when it is larger than [`FRAME_BYTES_MAX`]; else itself.
    ///
    /// The parts of one frame must stay in order on one lane, with no part of another frame between them.
    #[must_use]
    pub fn split(self) -> SmallVec<[Self; 1]> {
        if self.len <= FRAME_BYTES_MAX {
            return smallvec![self];
        }
        part::split(&self)
    }

    /// Memory that a frame takes in a queue beside its bytes: its place there twice, since queues grow by doubling, and what its parts
    /// take more than they hold. Measured as the growth of a process that queued 128 MiB of frames with 1 KiB each.
    pub(crate) const BESIDE: usize = 448;

    /// Memory that it takes in a queue.
    pub(crate) fn weight(&self) -> usize {
        self.len + Self::BESIDE
    }

    /// All bytes in one vector (tests, simulator).
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.concat()
    }

    /// A frame in one piece.
    pub(super) fn whole(bytes: Buf) -> Self {
        let len = bytes.len();
        Self { parts: smallvec![bytes.freeze()], len }
    }

    /// A frame with a fixed body and a payload, copied when it is small.
    pub(super) fn fixed<T: IntoBytes + Immutable>(kind: Kind, body: &T, payload: &[u8]) -> Self {
        let body = body.as_bytes();
        let header = Header::new(kind, body.len(), payload.len());
        let mut out = Buf::with_capacity(header.frame_len);
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(body);
        out.resize(header.payload_at());
        out.extend_from_slice(payload);
        out.resize(header.frame_len);
        Self::whole(out)
    }
}

/// A received frame: header checked, body within bounds; typed accessors validate the rest once.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The whole frame, header and padding included, aligned to 16.
    pub bytes: Slice,
}

impl Frame {
    /// The metadata, and the payload with the place where it starts.
    pub(super) fn body(&self, kind: Kind) -> Result<(&[u8], usize, &[u8]), FrameError> {
        let bytes = self.bytes.as_bytes();
        let header = Header::of_frame(bytes)?;
        if header.kind != kind {
            return Err(hit!(BodyOfAnotherKind => FrameError::Kind));
        }
        let (meta, payload_at) = (header.meta_len, header.payload_at());
        Ok((&bytes[super::HEADER_LEN..][..meta], payload_at, &bytes[payload_at..][..header.payload_len]))
    }

    /// The fixed body of a frame of this kind, which has no payload.
    pub(super) fn fixed<T>(&self, kind: Kind) -> Result<&T, FrameError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let (body, _, payload) = self.body(kind)?;
        if !payload.is_empty() {
            return Err(hit!(BodyWithPayload => FrameError::Body));
        }
        T::ref_from_bytes(body).map_err(|_| hit!(BodyLength => FrameError::Body))
    }

    /// The fixed body of a frame of this kind, and its payload.
    pub(super) fn fixed_with_payload<T>(&self, kind: Kind) -> Result<(&T, usize, &[u8]), FrameError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let (body, at, payload) = self.body(kind)?;
        let body = T::ref_from_bytes(body).map_err(|_| hit!(BodyLengthBesidePayload => FrameError::Body))?;
        Ok((body, at, payload))
    }
}

/// A part of a received frame to keep: shared when that pins at most as much memory again, else copied.
///
/// Small values are always copied: a header and an exact allocation beside them cost less than a chunk kept alive.
pub(super) fn keep(frame: &Slice, start: usize, len: usize) -> Slice {
    if len >= KEPT_IN_PLACE && len >= frame.allocated() / 2 {
        frame.slice(start..start + len)
    } else {
        Slice::copy_from(&frame[start..start + len])
    }
}
