//! Bytes and typed frames.
//!
//! ```text
//! header 32 │ metadata, padded to 16 │ payload, as it is │ zeros up to a multiple of 16
//! ```
//!
//! Encoders make a [`FrameOut`], once per change whatever the number of peers; a [`Decoder`] cuts a byte
//! stream of any chunking into [`Frame`]s that share the receive buffer, and joins what was sent in parts.
//! A frame's typed accessor validates its metadata once; everything after that is read in place.
//! The metadata of a session frame is an rkyv archive ([`SessionView`]); all other kinds have fixed layouts.
//!
//! Owns the formats and nothing else: no clock, lock, socket or thread, and no notion of what a frame
//! should cause. Invariant: whatever a peer sends ends in a typed [`FrameError`] or in values within the
//! bounds stated here; no length of a peer allocates before it is checked against a cap.

mod ack;
mod control;
mod decoder;
mod error;
mod frame;
mod header;
mod hello;
mod layout;
mod listing;
mod part;
mod ping;
mod session;
#[cfg(test)]
mod tests;

pub use ack::{Ack, RefusedCode, encode_ack};
pub use control::{Control, DIGEST_SUMS, encode_control};
pub use decoder::Decoder;
pub use error::FrameError;
pub use frame::{Frame, FrameOut};
pub use header::Kind;
pub use hello::{Hello, RefuseReason, Welcome, cluster_tag, encode_hello, encode_refuse, encode_welcome};
pub use listing::{Entry, Listing};
pub use ping::{PING_LEN, Ping, decode_ping, encode_ping};
pub use session::{AttrOut, AttrView, SessionOut, SessionView, encode_session, flags};

/// Bytes of the header of every frame.
pub const HEADER_LEN: usize = 32;

/// Largest frame before a handshake is complete.
pub const FRAME_BYTES_UNAUTHENTICATED: usize = 4096;

/// Largest single frame afterwards; a larger one travels as `Part` frames.
///
/// A full part, or a value of that size with 8 KiB of metadata beside it.
pub const FRAME_BYTES_MAX: usize = PART_BYTES + 8192;

/// Payload of one `Part`.
pub const PART_BYTES: usize = 256 << 10;

/// Protocol versions that this build speaks: lowest, highest.
pub const PROTOCOL: (u8, u8) = (1, 1);

/// Values at or above this travel by reference; smaller ones are copied into the frame.
///
/// Copying 1 KiB costs about 25 ns and the cache that it passes through; one more piece to gather costs less from half of
/// that on (16 callers, asynchronous, 1 KiB: 10 % more updates/s by reference than copied).
pub const BY_REFERENCE: usize = 512;

/// Values at or above this may be kept where they were received, when that pins little more than them; smaller ones are
/// always copied into compact memory of their own.
pub const KEPT_IN_PLACE: usize = 4096;

/// Longest node name that travels; longer ones are cut at a character's end.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest route that travels; longer ones are cut at a character's end.
pub const ROUTE_BYTES_MAX: usize = 32;
