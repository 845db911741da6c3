//! Pieces of fixed layouts that several frames share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FrameError;
use crate::id::{MemberId, Uid};
use crate::mark::hit;

/// A socket address: 24 bytes. The flow label and scope of IPv6 mean nothing on another host and do not travel.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Addr {
    /// IPv4 in the first four.
    ip: [u8; 16],
    port: U16,
    /// 4 or 6.
    family: u8,
    reserved: [u8; 5],
}

impl Addr {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let mut ip = [0; 16];
        let family = match addr.ip() {
            IpAddr::V4(v4) => {
                ip[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                ip = v6.octets();
                6
            }
        };
        Self { ip, port: U16::new(addr.port()), family, reserved: [0; 5] }
    }

    pub(super) fn get(&self) -> Result<SocketAddr, FrameError> {
        let ip = match self.family {
            4 => {
                let [a, b, c, d, ..] = self.ip;
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            6 => IpAddr::V6(Ipv6Addr::from(self.ip)),
            _ => return Err(hit!(AddressFamily => FrameError::Body)),
        };
        Ok(SocketAddr::new(ip, self.port.get()))
    }
}

/// UTF-8 text of at most `N` bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Text<const N: usize> {
    len: u8,
    reserved: [u8; 7],
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// `text`, or as many of its first characters as fit.
    pub(super) fn new(text: &str) -> Self {
        let mut len = text.len().min(N);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { len: u8::try_from(len).expect("texts are shorter than 256 bytes"), reserved: [0; 7], bytes }
    }

    pub(super) fn get(&self) -> Result<&str, FrameError> {
        let bytes = self.bytes.get(..usize::from(self.len)).ok_or_else(|| hit!(TextLength => FrameError::Body))?;
        str::from_utf8(bytes).map_err(|_| hit!(TextEncoding => FrameError::Body))
    }
}

/// Room at the end of the handshake's frames for what proves the sender: all zero, and not looked at, in plaintext.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Proof {
    credential: [u8; 32],
    key_id: U32,
    /// Optional abilities of the sender; none yet.
    features: U32,
    reserved: [u8; 8],
    mac: [u8; 16],
}

const _: () = assert!(size_of::<Addr>() == 24 && size_of::<Text<64>>() == 72 && size_of::<Proof>() == 64);

/// A uid.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct UidLayout {
    counter: U64,
    member: U64,
}

impl UidLayout {
    pub(super) fn new(uid: Uid) -> Self {
        Self { counter: U64::new(uid.counter), member: U64::new(uid.member.0) }
    }

    pub(super) fn get(&self) -> Result<Uid, FrameError> {
        let counter = self.counter.get();
        if counter > COUNTER_MAX {
            return Err(hit!(UidCounter => FrameError::Body));
        }
        Ok(Uid { counter, member: MemberId(self.member.get()) })
    }
}

/// Largest value of a Lamport counter: records keep 48 bits of it.
pub(super) const COUNTER_MAX: u64 = (1 << 48) - 1;
