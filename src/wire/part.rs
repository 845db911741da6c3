//! Parts: how a frame travels that is larger than one may be.
//!
//! The sender cuts the whole encoded frame, header included, into pieces of [`PART_BYTES`]; each piece is the payload
//! of a `Part` frame whose fixed body says how long the whole is and where the piece belongs. The receiver appends:
//! pieces come in order, one frame at a time, and memory grows with what arrived, not with what was announced.

use smallvec::SmallVec;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::Header;
use super::{FRAME_BYTES_MAX, Frame, FrameError, FrameOut, HEADER_LEN, Kind, PART_BYTES};
use crate::buffer::{Buf, Slice};
use crate::mark::hit;

/// Bytes of a `Part` frame before its piece.
pub(super) const HEAD_LEN: usize = HEADER_LEN + size_of::<Layout>();

const _: () =
    assert!(HEAD_LEN + PART_BYTES <= FRAME_BYTES_MAX && HEAD_LEN.is_multiple_of(16) && PART_BYTES.is_multiple_of(16));

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    total: U64,
    offset: U64,
}

/// The `Part` frames of a frame; the pieces share its memory.
pub(super) fn split(frame: &FrameOut) -> SmallVec<[FrameOut; 1]> {
    let mut heads = Buf::with_capacity(frame.len.div_ceil(PART_BYTES) * HEAD_LEN);
    let mut rest = Rest { parts: &frame.parts, used: 0 };
    (0..frame.len)
        .step_by(PART_BYTES)
        .map(|offset| {
            let piece = PART_BYTES.min(frame.len - offset);
            let layout = Layout { total: U64::new(frame.len as u64), offset: U64::new(offset as u64) };
            let header = Header::new(Kind::Part, size_of::<Layout>(), piece);
            heads.extend_from_slice(&header.encode());
            heads.extend_from_slice(layout.as_bytes());
            let mut parts = SmallVec::new();
            parts.push(heads.split_to(HEAD_LEN));
            rest.take(piece, &mut parts);
            FrameOut { parts, len: header.frame_len }
        })
        .collect()
}

/// What is left of a frame's parts.
struct Rest<'a> {
    parts: &'a [Slice],
    used: usize,
}

impl Rest<'_> {
    fn take(&mut self, mut len: usize, to: &mut SmallVec<[Slice; 2]>) {
        while let ([first, others @ ..], true) = (self.parts, len > 0) {
            let n = len.min(first.len() - self.used);
            to.push(first.slice(self.used..self.used + n));
            self.used += n;
            len -= n;
            if self.used == first.len() {
                self.parts = others;
                self.used = 0;
            }
        }
    }
}

/// A frame of which some parts have come.
#[derive(Debug)]
pub(super) struct Joint {
    bytes: Buf,
    total: usize,
}

impl Joint {
    /// Prepares for the piece of a `Part` frame that starts with `head`: checks that it is the next one, and makes
    /// room for it. `joint` is what came before.
    pub(super) fn prepare<'a>(
        joint: &'a mut Option<Self>,
        header: Header,
        head: &[u8],
        whole_max: usize,
    ) -> Result<&'a mut Self, FrameError> {
        let body =
            head.get(HEADER_LEN..HEADER_LEN + header.meta_len).ok_or_else(|| hit!(PartHeadLong => FrameError::Part))?;
        let layout = Layout::ref_from_bytes(body).map_err(|_| hit!(PartHeadShort => FrameError::Part))?;
        let total = usize::try_from(layout.total.get()).ok().filter(|total| *total <= whole_max);
        let total = total.ok_or_else(|| hit!(PartTooLarge => FrameError::TooLarge))?;
        let (expected, announced) = joint.as_ref().map_or((0, total), |j| (j.bytes.len(), j.total));
        let piece = header.payload_len;
        let is_next = layout.offset.get() == expected as u64 && total == announced;
        if !is_next || piece == 0 || !piece.is_multiple_of(16) || piece > total - expected {
            return Err(hit!(PartOutOfPlace => FrameError::Part));
        }
        let joint = joint.get_or_insert_with(|| Self { bytes: Buf::new(), total });
        joint.make_room(piece);
        Ok(joint)
    }

    /// Doubles at most, so that memory stays in proportion to what arrived, and ends at exactly the total.
    fn make_room(&mut self, piece: usize) {
        let needed = self.bytes.len() + piece;
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.capacity() * 2).min(self.total);
            self.bytes.move_to(Buf::exact(capacity));
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where the next bytes go.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        self.bytes.spare()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.bytes.advance(n);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }

    /// The joined frame.
    pub(super) fn finish(self) -> Result<Frame, FrameError> {
        let header = Header::check(self.bytes.as_bytes(), self.total)?;
        if header.frame_len != self.total || header.kind == Kind::Part {
            return Err(hit!(PartsJoinToNoFrame => FrameError::Part));
        }
        Ok(Frame { kind: header.kind, bytes: self.bytes.freeze() })
    }
}
