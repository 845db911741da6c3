//! Decoder: a byte stream in, frames out, for chunks of any size.
//!
//! Bytes are read into a pooled chunk that frames share; only the beginning of a frame that does not fit the rest of
//! its chunk is ever moved. A large frame gets a buffer of exactly its size once its header is checked, and the
//! piece of a `Part` goes straight into the frame being joined, so that a large value is read where it will stay.
//!
//! Invariant: `buf` starts at a frame's first byte and at an address that is a multiple of 16 (blocks start so and
//! frames are multiples of 16 long), except while the piece of a part is outstanding: then `buf` is empty.

use super::header::Header;
use super::part::{self, Joint};
use super::{FRAME_BYTES_MAX, FRAME_BYTES_UNAUTHENTICATED, Frame, FrameError, HEADER_LEN, Kind};
use crate::buffer::Buf;
use crate::mark::hit;

/// A receive chunk: large enough that one read takes what a busy lane has, small enough that every lane may have one.
const CHUNK: usize = (64 << 10) - 16;

/// Incomplete frames from here on get a buffer of their own: what remains of them is worth a read of its own, and
/// a large value does not pin the frames around it.
const LARGE: usize = 32 << 10;

/// A chunk with less free space than this is not worth a read.
const READ_MIN: usize = 2 << 10;

/// Splits a byte stream into frames; takes chunks of any size, validates each byte once, joins `Part`s.
///
/// Use: `let space = d.space(); let n = read(space); d.filled(n); while let Some(f) = d.next()? {..}`.
/// `space` is the free rest of a pooled receive chunk (64 KiB), or the rest of an exactly sized buffer for a large
/// frame; it is never empty. Drain `next` before asking for space again.
#[derive(Debug)]
pub struct Decoder {
    /// Received and not returned yet.
    buf: Buf,
    /// Checked header of the frame that `buf` starts with.
    header: Option<Header>,
    /// Bytes outstanding of a part's piece; they go to the joint.
    piece: Option<usize>,
    joint: Option<Joint>,
    frame_max: usize,
    whole_max: usize,
    units: u64,
    /// Given to `feed`; the bytes before `taken` were taken over already.
    fed: Vec<u8>,
    taken: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Starts with the cap for unauthenticated peers. `whole_max`: largest frame after joining parts.
    #[must_use]
    pub fn new(whole_max: usize) -> Self {
        Self {
            buf: Buf::new(),
            header: None,
            piece: None,
            joint: None,
            frame_max: FRAME_BYTES_UNAUTHENTICATED,
            whole_max,
            units: 0,
            fed: Vec::new(),
            taken: 0,
            failed: None,
        }
    }

    /// Raises the cap after the handshake.
    pub fn authenticated(&mut self) {
        self.frame_max = FRAME_BYTES_MAX;
        self.buf.move_to(Buf::with_capacity(CHUNK));
    }

    /// Where to read to.
    pub fn space(&mut self) -> &mut [u8] {
        let outstanding = self.piece.unwrap_or(0);
        if outstanding == 0 {
            self.make_room();
        }
        match &mut self.joint {
            Some(joint) if outstanding > 0 => &mut joint.spare()[..outstanding],
            _ => self.buf.spare(),
        }
    }

    /// Counts the first `n` bytes of the space as received.
    ///
    /// # Panics
    ///
    /// When the space was smaller.
    pub fn filled(&mut self, n: usize) {
        if self.failed.is_some() {
            return;
        }
        match (&mut self.joint, &mut self.piece) {
            (Some(joint), Some(outstanding @ 1..)) => {
                assert!(n <= *outstanding, "filled more than the space");
                *outstanding -= n;
                joint.advance(n);
            }
            _ => self.buf.advance(n),
        }
    }

    /// Copies `bytes` in and goes on (simulator, tests); returns the frames through `next`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// `Kind::Part` is never returned: the joined inner frame is, once whole. Each frame returned counts as
    /// `take_units()` frames of the lane (a joined one: the number of its parts).
    ///
    /// # Errors
    ///
    /// What is wrong with the next frame; the stream cannot go on, and the same error is returned from then on.
    #[expect(clippy::should_implement_trait, reason = "an error ends the stream; an iterator would promise more")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            match self.step() {
                Ok(Step::Frame(frame)) => return Ok(Some(frame)),
                Ok(Step::Piece) => {}
                Ok(Step::Starved) if self.fed.is_empty() => return Ok(None),
                Ok(Step::Starved) => self.pull_fed(),
                Err(error) => {
                    self.failed = Some(error);
                    return Err(error);
                }
            }
        }
    }

    /// Wire frames (parts included) completed since the last call.
    pub fn take_units(&mut self) -> u64 {
        std::mem::take(&mut self.units)
    }

    fn step(&mut self) -> Result<Step, FrameError> {
        match self.piece {
            Some(0) => return self.end_of_piece(),
            Some(_) => return Ok(Step::Starved),
            None => {}
        }
        let header = match self.header {
            Some(header) => header,
            None if self.buf.len() < HEADER_LEN => return Ok(Step::Starved),
            None => *self.header.insert(Header::check(self.buf.as_bytes(), self.frame_max)?),
        };
        if header.kind == Kind::Part {
            return self.start_of_piece(header);
        }
        if self.buf.len() < header.frame_len {
            return Ok(Step::Starved);
        }
        self.header = None;
        self.units += 1;
        let bytes = self.buf.split_to(header.frame_len);
        if self.buf.capacity() == 0 {
            // The frame had a buffer of its own; who keeps the frame decides alone how long that lives.
            self.buf = Buf::new();
        }
        Ok(Step::Frame(Frame { kind: header.kind, bytes }))
    }

    /// Moves what came of a part's piece to the joint, and sends the rest there.
    fn start_of_piece(&mut self, header: Header) -> Result<Step, FrameError> {
        if self.frame_max == FRAME_BYTES_UNAUTHENTICATED {
            return Err(hit!(PartOfAStranger => FrameError::Order));
        }
        if self.buf.len() < part::HEAD_LEN {
            return Ok(Step::Starved);
        }
        let (head, rest) = self.buf.as_bytes().split_at(part::HEAD_LEN);
        let joint = Joint::prepare(&mut self.joint, header, head, self.whole_max)?;
        let here = rest.len().min(header.payload_len);
        joint.append(&rest[..here]);
        self.buf.consume(part::HEAD_LEN + here);
        self.header = None;
        self.piece = Some(header.payload_len - here);
        Ok(Step::Piece)
    }

    fn end_of_piece(&mut self) -> Result<Step, FrameError> {
        self.piece = None;
        self.units += 1;
        match self.joint.take_if(|joint| joint.is_whole()) {
            Some(joint) => joint.finish().map(Step::Frame),
            None => Ok(Step::Piece),
        }
    }

    /// Sees to it that the frame at hand fits, or that a read is worth its while when there is none.
    fn make_room(&mut self) {
        let held = self.buf.len();
        let frame = match self.header {
            Some(header) if header.kind != Kind::Part => header.frame_len,
            _ => part::HEAD_LEN,
        };
        if frame >= LARGE && frame > held {
            if self.buf.capacity() != frame {
                self.buf.move_to(Buf::exact(frame));
            }
            return;
        }
        let mut wanted = frame.max(held + 1);
        if held == 0 {
            // Start over at the front, where the memory is warm, if no frame is held any more.
            self.buf.reclaim();
            wanted = READ_MIN;
        }
        if self.buf.capacity() < wanted && !(self.buf.reclaim() && self.buf.capacity() >= wanted) {
            let chunk = CHUNK.min(self.frame_max).max(wanted + READ_MIN);
            self.buf.move_to(Buf::with_capacity(chunk));
        }
    }

    fn pull_fed(&mut self) {
        let fed = std::mem::take(&mut self.fed);
        let rest = &fed[self.taken..];
        let space = self.space();
        let n = space.len().min(rest.len());
        space[..n].copy_from_slice(&rest[..n]);
        self.filled(n);
        self.taken += n;
        self.fed = fed;
        if self.taken == self.fed.len() {
            self.fed.clear();
            self.taken = 0;
        }
    }
}

/// What one look at the bytes gave.
enum Step {
    Frame(Frame),
    /// A piece of a larger frame began or ended.
    Piece,
    Starved,
}
