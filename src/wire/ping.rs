//! Ping: one multicast datagram that says "I am here".
//!
//! Always [`PING_LEN`] bytes, so that it never fragments. Fields that this build does not know (the reserved bytes,
//! the MAC) are not looked at: members of a later version must still be seen during a rolling upgrade, and a ping
//! only hints. Whether the version range suits is the membership's to judge.

use std::net::SocketAddr;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::{Addr, Text};
use super::{FrameError, NAME_BYTES_MAX, ROUTE_BYTES_MAX};
use crate::id::{MemberId, NodeState};
use crate::mark::hit;

/// Bytes of a ping.
pub const PING_LEN: usize = 256;

const MAGIC: [u8; 4] = *b"HSPP";

/// A ping: one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Protocol versions that the sender speaks: lowest, highest.
    pub versions: (u8, u8),
    /// Tag of the cluster's name.
    pub cluster: u64,
    /// Who pings.
    pub member: MemberId,
    /// Rises with each ping of the member.
    pub seq: u64,
    /// The sender's state.
    pub state: NodeState,
    /// Where the sender accepts lanes.
    pub addr: SocketAddr,
    /// The sender's name, at most [`NAME_BYTES_MAX`] bytes of it.
    pub name: String,
    /// The route that its cookies carry, at most [`ROUTE_BYTES_MAX`] bytes of it.
    pub route: String,
    /// Hash of the sender's view, to show who disagrees.
    pub view_hash: u64,
    /// Milliseconds since the sender's start.
    pub uptime_ms: u64,
}

/// Encodes a ping.
#[must_use]
pub fn encode_ping(ping: &Ping) -> [u8; PING_LEN] {
    let mut layout = Layout {
        magic: MAGIC,
        versions: [ping.versions.0, ping.versions.1],
        state: ping.state as u8,
        reserved: 0,
        cluster: U64::new(ping.cluster),
        member: U64::new(ping.member.0),
        seq: U64::new(ping.seq),
        uptime_ms: U64::new(ping.uptime_ms),
        view_hash: U64::new(ping.view_hash),
        addr: Addr::new(ping.addr),
        name: Text::new(&ping.name),
        route: Text::new(&ping.route),
        reserved_for_later: [0; 48],
        key_id: U32::ZERO,
        checksum: U32::ZERO,
        mac: [0; 16],
    };
    layout.checksum = U32::new(layout.checksum());
    zerocopy::transmute!(layout)
}

/// Reads a datagram as a ping.
///
/// # Errors
///
/// When it is no ping, is damaged, or a field has no meaning. Nobody answers a bad datagram; it is counted.
pub fn decode_ping(bytes: &[u8]) -> Result<Ping, FrameError> {
    if bytes.get(..4).ok_or_else(|| hit!(PingCutInMagic => FrameError::Truncated))? != MAGIC {
        return Err(hit!(PingMagic => FrameError::Magic));
    }
    if bytes.len() < PING_LEN {
        return Err(hit!(PingCut => FrameError::Truncated));
    }
    let layout = Layout::ref_from_bytes(bytes).map_err(|_| hit!(PingTooLong => FrameError::Length))?;
    if layout.checksum.get() != layout.checksum() {
        return Err(hit!(PingChecksum => FrameError::Checksum));
    }
    let [low, high] = layout.versions;
    if low > high {
        return Err(hit!(PingVersions => FrameError::Body));
    }
    Ok(Ping {
        versions: (low, high),
        cluster: layout.cluster.get(),
        member: MemberId(layout.member.get()),
        seq: layout.seq.get(),
        state: NodeState::from_wire(layout.state).ok_or_else(|| hit!(PingState => FrameError::Body))?,
        addr: layout.addr.get()?,
        name: layout.name.get()?.to_owned(),
        route: layout.route.get()?.to_owned(),
        view_hash: layout.view_hash.get(),
        uptime_ms: layout.uptime_ms.get(),
    })
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    versions: [u8; 2],
    state: u8,
    reserved: u8,
    cluster: U64,
    member: U64,
    seq: U64,
    uptime_ms: U64,
    view_hash: U64,
    addr: Addr,
    name: Text<NAME_BYTES_MAX>,
    route: Text<ROUTE_BYTES_MAX>,
    reserved_for_later: [u8; 48],
    /// Which key the MAC was made with; 0 in plaintext.
    key_id: U32,
    /// CRC-32 of all bytes before.
    checksum: U32,
    /// Over all bytes before; zero in plaintext.
    mac: [u8; 16],
}

const CHECKED: usize = std::mem::offset_of!(Layout, checksum);

const _: () = assert!(size_of::<Layout>() == PING_LEN && CHECKED == 236);

impl Layout {
    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..CHECKED])
    }
}
