//! The handshake that opens a lane: Hello, and Welcome or Refuse in answer.
//!
//! Fixed layouts with room for a MAC, a key id and a credential from the first version on. This module does not
//! judge a handshake; it says what one contains.

use std::fmt;
use std::net::SocketAddr;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::{Addr, Proof, Text};
use super::{Frame, FrameError, FrameOut, Kind, NAME_BYTES_MAX};
use crate::id::{MemberId, NodeState};
use crate::mark::hit;

/// First frame of a lane, from the dialler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Protocol versions that the dialler speaks: lowest, highest.
    pub versions: (u8, u8),
    /// Tag of the cluster's name.
    pub cluster: u64,
    /// Who dials.
    pub member: MemberId,
    /// Whom it means to reach; [`MemberId::NONE`] when it knows only the address.
    pub expect: MemberId,
    /// Which of its lanes this is, from 0.
    pub lane: u16,
    /// How many lanes it dials.
    pub lanes: u16,
    /// The dialler's state.
    pub state: NodeState,
    /// Only an echo follows: a check of life, no lane.
    pub probe: bool,
    /// Where the dialler itself accepts.
    pub addr: SocketAddr,
    /// The dialler's name, at most [`NAME_BYTES_MAX`] bytes of it.
    pub name: String,
}

/// The answer to a Hello that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version that both will use.
    pub version: u8,
    /// Who answers.
    pub member: MemberId,
    /// The answerer's state.
    pub state: NodeState,
    /// The answerer's name, at most [`NAME_BYTES_MAX`] bytes of it.
    pub name: String,
}

/// Why a Hello was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseReason {
    /// No protocol version in common.
    Version = 1,
    /// Of another cluster.
    Cluster = 2,
    /// Not the member that was meant: it restarted, or the address is another's now.
    NotMe = 3,
    /// No room for another connection now.
    Busy = 4,
    /// Going away.
    Leaving = 5,
}

impl RefuseReason {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Version,
            2 => Self::Cluster,
            3 => Self::NotMe,
            4 => Self::Busy,
            5 => Self::Leaving,
            _ => return None,
        })
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "no protocol version in common",
            Self::Cluster => "another cluster",
            Self::NotMe => "not the member that was meant",
            Self::Busy => "too many connections",
            Self::Leaving => "leaving",
        })
    }
}

/// Encodes a Hello.
#[must_use]
pub fn encode_hello(hello: &Hello) -> FrameOut {
    let layout = HelloLayout {
        versions: [hello.versions.0, hello.versions.1],
        state: hello.state as u8,
        probe: u8::from(hello.probe),
        lane: U16::new(hello.lane),
        lanes: U16::new(hello.lanes),
        cluster: U64::new(hello.cluster),
        member: U64::new(hello.member.0),
        expect: U64::new(hello.expect.0),
        addr: Addr::new(hello.addr),
        name: Text::new(&hello.name),
        proof: Proof::new_zeroed(),
    };
    FrameOut::fixed(Kind::Hello, &layout, &[])
}

/// Encodes a Welcome.
#[must_use]
pub fn encode_welcome(welcome: &Welcome) -> FrameOut {
    let layout = WelcomeLayout {
        version: welcome.version,
        state: welcome.state as u8,
        reserved: [0; 14],
        member: U64::new(welcome.member.0),
        name: Text::new(&welcome.name),
        proof: Proof::new_zeroed(),
    };
    FrameOut::fixed(Kind::Welcome, &layout, &[])
}

/// Encodes a refusal.
#[must_use]
pub fn encode_refuse(reason: RefuseReason) -> FrameOut {
    let layout = RefuseLayout { reason: reason as u8, reserved: [0; 15] };
    FrameOut::fixed(Kind::Refuse, &layout, &[])
}

impl Frame {
    /// The frame as a Hello.
    ///
    /// # Errors
    ///
    /// When it is another kind, or a field has no meaning.
    pub fn hello(&self) -> Result<Hello, FrameError> {
        let layout: &HelloLayout = self.fixed(Kind::Hello)?;
        let [low, high] = layout.versions;
        let probe = match layout.probe {
            0 => false,
            1 => true,
            _ => return Err(hit!(HelloProbe => FrameError::Body)),
        };
        if low > high {
            return Err(hit!(HelloVersions => FrameError::Body));
        }
        Ok(Hello {
            versions: (low, high),
            cluster: layout.cluster.get(),
            member: MemberId(layout.member.get()),
            expect: MemberId(layout.expect.get()),
            lane: layout.lane.get(),
            lanes: layout.lanes.get(),
            state: NodeState::from_wire(layout.state).ok_or_else(|| hit!(HelloState => FrameError::Body))?,
            probe,
            addr: layout.addr.get()?,
            name: layout.name.get()?.to_owned(),
        })
    }

    /// The frame as a Welcome.
    ///
    /// # Errors
    ///
    /// When it is another kind, or a field has no meaning.
    pub fn welcome(&self) -> Result<Welcome, FrameError> {
        let layout: &WelcomeLayout = self.fixed(Kind::Welcome)?;
        Ok(Welcome {
            version: layout.version,
            member: MemberId(layout.member.get()),
            state: NodeState::from_wire(layout.state).ok_or_else(|| hit!(WelcomeState => FrameError::Body))?,
            name: layout.name.get()?.to_owned(),
        })
    }

    /// The frame as a refusal.
    ///
    /// # Errors
    ///
    /// When it is another kind, or the reason is unknown.
    pub fn refuse(&self) -> Result<RefuseReason, FrameError> {
        let layout: &RefuseLayout = self.fixed(Kind::Refuse)?;
        RefuseReason::from_wire(layout.reason).ok_or_else(|| hit!(RefuseReasonUnknown => FrameError::Body))
    }
}

/// The tag of a cluster name in pings and hellos (stable, 64 bits).
///
/// FNV-1a (Fowler, Noll, Vo): it tells clusters apart that share a network by accident and protects from nobody.
#[must_use]
pub fn cluster_tag(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HelloLayout {
    versions: [u8; 2],
    state: u8,
    probe: u8,
    lane: U16,
    lanes: U16,
    cluster: U64,
    member: U64,
    expect: U64,
    addr: Addr,
    name: Text<NAME_BYTES_MAX>,
    proof: Proof,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WelcomeLayout {
    version: u8,
    state: u8,
    reserved: [u8; 14],
    member: U64,
    name: Text<NAME_BYTES_MAX>,
    proof: Proof,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RefuseLayout {
    reason: u8,
    reserved: [u8; 15],
}

const _: () = assert!(size_of::<HelloLayout>() == 192);
const _: () = assert!(size_of::<WelcomeLayout>() == 160);
const _: () = assert!(size_of::<RefuseLayout>() == 16);
