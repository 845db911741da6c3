//! Why bytes were not acceptable.

use std::error::Error;
use std::fmt;

/// Why bytes are no acceptable frame or datagram; the link closes with it.
///
/// After an error the stream has no frame boundary any more: a [`Decoder`](super::Decoder) repeats it for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes do not start like ours: a stranger, or a stream out of step.
    Magic,
    /// A wire version, schema, flag or reserved field that this build does not speak.
    Version,
    /// The checksum does not match.
    Checksum,
    /// An unknown kind, or another kind than the one asked for.
    Kind,
    /// The lengths of the header contradict each other.
    Length,
    /// Larger than the cap in force.
    TooLarge,
    /// The metadata of a session frame is not valid.
    Meta,
    /// The fixed body of another frame, or a field of a ping, is not valid.
    Body,
    /// A frame that must not come now.
    Order,
    /// Of another cluster.
    Cluster,
    /// Bytes are missing.
    Truncated,
    /// Parts that do not join.
    Part,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "not a frame of this protocol",
            Self::Version => "unsupported wire version",
            Self::Checksum => "checksum does not match",
            Self::Kind => "unexpected kind of frame",
            Self::Length => "contradicting lengths in the header",
            Self::TooLarge => "frame larger than allowed",
            Self::Meta => "invalid session metadata",
            Self::Body => "invalid body",
            Self::Order => "frame out of order",
            Self::Cluster => "frame of another cluster",
            Self::Truncated => "truncated",
            Self::Part => "parts do not join",
        })
    }
}

impl Error for FrameError {}

#[cfg(test)]
mod tests;
