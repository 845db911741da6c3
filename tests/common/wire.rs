//! Bytes as a stranger makes them.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

/// A frame's header with a right checksum.
pub fn header(kind: u8, frame_len: u32, meta_len: u32) -> Vec<u8> {
    let mut bytes = b"HSPR".to_vec();
    bytes.extend([1, kind, 0, 1]);
    bytes.extend([frame_len, meta_len, 0].map(u32::to_le_bytes).concat());
    let reserved = [0; 8];
    let checksum = crc32fast::hash(&[&bytes[..], &reserved].concat());
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(reserved);
    bytes
}

/// A socket that hears a group on loopback and sends to it, and nowhere else.
pub fn loopback_group(group: &str) -> (UdpSocket, SocketAddrV4) {
    let group: SocketAddrV4 = super::ok(group.parse());
    let socket = super::ok(hotspare::runtime::multicast_socket(group, Ipv4Addr::LOCALHOST, 0));
    (socket, group)
}
