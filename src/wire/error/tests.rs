//! Every way in which bytes can be wrong ends in its own branch.

use std::fmt::Debug;
use std::net::SocketAddr;

use crate::buffer::Slice;
use crate::id::{MemberId, NodeState, Uid, Version};
use crate::mark::covers;
use crate::wire::{
    AttrOut, Control, Decoder, FRAME_BYTES_MAX, Frame, FrameError, HEADER_LEN, Hello, Kind, Ping, RefuseReason,
    SessionOut, Welcome, decode_ping, encode_control, encode_hello, encode_ping, encode_refuse, encode_session,
    encode_welcome, flags,
};

const WHOLE_MAX: usize = 1 << 20;

#[test]
fn a_ping_that_is_none_says_why() {
    let good = ping();
    assert_eq!(covers!(PingCutInMagic, decode_ping(&good[..3])), Err(FrameError::Truncated));
    assert_eq!(covers!(PingMagic, decode_ping(b"what is this?")), Err(FrameError::Magic));
    assert_eq!(covers!(PingCut, decode_ping(&good[..good.len() - 1])), Err(FrameError::Truncated));
    assert_eq!(covers!(PingTooLong, decode_ping(&[&good, &[0][..]].concat())), Err(FrameError::Length));
    assert_eq!(covers!(PingChecksum, decode_ping(&with(&good, 20, 0xee))), Err(FrameError::Checksum));
    assert_eq!(covers!(PingVersions, decode_ping(&sealed_ping(with(&good, 4, 9)))), Err(FrameError::Body));
    assert_eq!(covers!(PingState, decode_ping(&sealed_ping(with(&good, 6, 3)))), Err(FrameError::Body));
    assert_eq!(covers!(AddressFamily, decode_ping(&sealed_ping(with(&good, 66, 5)))), Err(FrameError::Body));
    assert_eq!(covers!(TextLength, decode_ping(&sealed_ping(with(&good, 72, 65)))), Err(FrameError::Body));
    assert_eq!(covers!(TextEncoding, decode_ping(&sealed_ping(with(&good, 80, 0xff)))), Err(FrameError::Body));
}

#[test]
fn a_header_that_is_none_says_why() {
    let good = encode_control(&Control::Echo(1)).to_vec();
    let header = |at: usize, byte: u8| sealed(with(&good, at, byte));
    assert_eq!(error(covers!(FrameMagic, decode(&with(&good, 0, b'h')))), FrameError::Magic);
    assert_eq!(error(covers!(FrameVersion, decode(&with(&good, 4, 2)))), FrameError::Version);
    assert_eq!(error(covers!(FrameChecksum, decode(&with(&good, 20, !good[20])))), FrameError::Checksum);
    for (at, byte) in [(6, 1), (7, 2), (24, 1), (31, 0x80)] {
        assert_eq!(error(covers!(FrameReserved, decode(&header(at, byte)))), FrameError::Version);
    }
    assert_eq!(error(covers!(FrameKind, decode(&header(5, 18)))), FrameError::Kind);
    assert_eq!(error(covers!(FrameLengths, decode(&header(8, 1)))), FrameError::Length);
    let large = made(Kind::Message, &[0; 8], &vec![0; FRAME_BYTES_MAX]);
    assert_eq!(error(covers!(FrameTooLarge, decode(&large))), FrameError::TooLarge);
}

#[test]
fn a_body_that_is_none_says_why() {
    let echo = encode_control(&Control::Echo(1)).to_vec();
    let cut = |len: usize| Frame { kind: Kind::Echo, bytes: Slice::copy_from(&echo[..len]) };
    assert_eq!(covers!(FrameWithoutHeader, cut(HEADER_LEN - 1).control()), Err(FrameError::Truncated));
    assert_eq!(covers!(FrameIsCut, cut(HEADER_LEN).control()), Err(FrameError::Length));
    assert_eq!(covers!(BodyOfAnotherKind, frame(&echo).hello()), Err(FrameError::Kind));
    let refuse = encode_refuse(RefuseReason::Busy).to_vec();
    assert_eq!(covers!(ControlKind, frame(&refuse).control()), Err(FrameError::Kind));
    let body = |kind, meta: &[u8], payload: &[u8]| frame(&made(kind, meta, payload)).control();
    assert_eq!(covers!(BodyWithPayload, body(Kind::Echo, &[0; 8], &[1])), Err(FrameError::Body));
    assert_eq!(covers!(BodyLength, body(Kind::Echo, &[0; 9], &[])), Err(FrameError::Body));
    assert_eq!(covers!(BodyLengthBesidePayload, body(Kind::Message, &[0; 7], &[1])), Err(FrameError::Body));
    assert_eq!(covers!(StatusState, body(Kind::Status, &[3, 0, 0, 0, 0, 0, 0, 0], &[])), Err(FrameError::Body));
    let head = vec![0; 32 + crate::wire::DIGEST_SUMS / 8];
    let entry = [[0; 8], [0; 8], [0xff; 8], [0; 8]].concat();
    assert_eq!(covers!(ListingFlags, body(Kind::Listing, &with(&head, 0, 4), &[])), Err(FrameError::Body));
    assert_eq!(covers!(ListingContext, body(Kind::Listing, &with(&head, 2, 4), b"app")), Err(FrameError::Body));
    assert_eq!(covers!(ListingCut, body(Kind::Listing, &head, b"app")), Err(FrameError::Body));
    assert_eq!(covers!(ListingTop, body(Kind::Listing, &head, &entry)), Err(FrameError::Body));
    assert_eq!(covers!(ReachOfNobody, body(Kind::Reach, &[0; 16], &[])), Err(FrameError::Body));
    assert_eq!(covers!(UidCounter, body(Kind::Pull, &[0xff; 16], b"app")), Err(FrameError::Body));
}

#[test]
fn a_handshake_that_is_none_says_why() {
    let hello = encode_hello(&Hello {
        versions: (1, 1),
        cluster: 2,
        member: MemberId(3),
        expect: MemberId(4),
        lane: 0,
        lanes: 1,
        state: NodeState::Ready,
        probe: false,
        addr: SocketAddr::from(([127, 0, 0, 1], 4700)),
        name: String::from("n"),
    })
    .to_vec();
    let hello = |at: usize, byte: u8| frame(&with(&hello, HEADER_LEN + at, byte)).hello();
    assert_eq!(covers!(HelloVersions, hello(0, 2)), Err(FrameError::Body));
    assert_eq!(covers!(HelloState, hello(2, 3)), Err(FrameError::Body));
    assert_eq!(covers!(HelloProbe, hello(3, 2)), Err(FrameError::Body));
    let welcome = Welcome { version: 1, member: MemberId(3), state: NodeState::Ready, name: String::from("n") };
    let welcome = with(&encode_welcome(&welcome).to_vec(), HEADER_LEN + 1, 3);
    assert_eq!(covers!(WelcomeState, frame(&welcome).welcome()), Err(FrameError::Body));
    let refuse = with(&encode_refuse(RefuseReason::Busy).to_vec(), HEADER_LEN, 6);
    assert_eq!(covers!(RefuseReasonUnknown, frame(&refuse).refuse()), Err(FrameError::Body));
}

#[test]
fn an_ack_that_is_none_says_why() {
    let counts = |received: u64, applied: u64| [received.to_le_bytes(), applied.to_le_bytes()].concat();
    let refusal = |code: u8| [1, 0, 0, 0, 0, 0, 0, 0, code, 0, 0, 0, 0, 0, 0, 0];
    let ack = |meta: &[u8], payload: &[u8]| frame(&made(Kind::Ack, meta, payload)).ack();
    assert_eq!(covers!(AckCut, ack(&[0; 15], &[])), Err(FrameError::Body));
    assert_eq!(covers!(AckRefusalCut, ack(&[0; 17], &[])), Err(FrameError::Body));
    assert_eq!(covers!(AckCounts, ack(&counts(1, 2), &[])), Err(FrameError::Body));
    assert_eq!(covers!(AckCounts, ack(&counts(2, 2), &[1])), Err(FrameError::Body));
    let many = [counts(2, 2), refusal(1).repeat(65)].concat();
    assert_eq!(covers!(AckCounts, ack(&many, &[])), Err(FrameError::Body));
    let strange = [counts(2, 2), refusal(5).to_vec()].concat();
    assert_eq!(covers!(AckRefusalCode, ack(&strange, &[])), Err(FrameError::Body));
}

#[test]
fn parts_that_do_not_join_say_why() {
    let head = |total: u64, offset: u64| [total.to_le_bytes(), offset.to_le_bytes()].concat();
    let part = |head: &[u8], piece: &[u8]| made(Kind::Part, head, piece);
    let good = part(&head(64, 0), &[0; 32]);
    let mut stranger = Decoder::new(WHOLE_MAX);
    stranger.feed(&good);
    assert_eq!(error(covers!(PartOfAStranger, stranger.next())), FrameError::Order);
    assert_eq!(error(covers!(PartHeadLong, decode(&part(&[0; 17], &[0; 16])))), FrameError::Part);
    assert_eq!(error(covers!(PartHeadShort, decode(&part(&[0; 15], &[0; 16])))), FrameError::Part);
    for total in [WHOLE_MAX as u64 + 1, u64::MAX] {
        assert_eq!(error(covers!(PartTooLarge, decode(&part(&head(total, 0), &[0; 16])))), FrameError::TooLarge);
    }
    for (total, offset, piece) in [(64, 32, 16), (64, u64::MAX, 16), (64, 0, 0), (64, 0, 15), (32, 0, 48)] {
        let bytes = part(&head(total, offset), &vec![0; piece]);
        assert_eq!(error(covers!(PartOutOfPlace, decode(&bytes))), FrameError::Part);
    }
    let another_total = [good.clone(), part(&head(80, 32), &[0; 16])].concat();
    assert_eq!(error(covers!(PartOutOfPlace, decode(&another_total))), FrameError::Part);
    let nested = part(&head(good.len() as u64, 0), &good);
    assert_eq!(error(covers!(PartsJoinToNoFrame, decode(&nested))), FrameError::Part);
}

#[test]
fn a_session_that_is_none_says_why() {
    let value = Slice::copy_from(b"1");
    let version = Version { counter: 1, member: MemberId(2) };
    let attrs = [AttrOut { key: b"ax", version, value: Some(&value) }];
    let bytes = encode_session(&SessionOut {
        context: b"app",
        uid: Uid { counter: 1, member: MemberId(2) },
        flags: flags::DELTA,
        clock: 1,
        top: version,
        exp: Version::ZERO,
        base: Version::ZERO,
        age_ms: 0,
        attrs: &attrs,
        over: &[],
    })
    .to_vec();
    let meta_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let refused = |bytes: &[u8]| frame(bytes).session().map(drop);
    assert_eq!(refused(&bytes), Ok(()));
    assert_eq!(covers!(SessionArchive, refused(&made(Kind::Session, &[0xff; 120], &[]))), Err(FrameError::Meta));
    // The whole payload is gone, and the table still points into it.
    let archive = &bytes[HEADER_LEN..HEADER_LEN + meta_len];
    assert_eq!(covers!(SessionTable, refused(&made(Kind::Session, archive, &[]))), Err(FrameError::Meta));
}

fn ping() -> Vec<u8> {
    let ping = Ping {
        versions: (1, 1),
        cluster: 2,
        member: MemberId(3),
        seq: 4,
        state: NodeState::Ready,
        addr: SocketAddr::from(([127, 0, 0, 1], 4700)),
        name: String::from("name"),
        route: String::from("route"),
        view_hash: 5,
        uptime_ms: 6,
    };
    encode_ping(&ping).to_vec()
}

fn sealed_ping(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes[..236]);
    bytes[236..240].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The bytes with one of them changed.
fn with(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = byte;
    bytes
}

/// A frame with a valid header around anything.
fn made(kind: Kind, meta: &[u8], payload: &[u8]) -> Vec<u8> {
    let payload_at = HEADER_LEN + meta.len().next_multiple_of(16);
    let frame_len = (payload_at + payload.len()).next_multiple_of(16);
    let mut bytes = b"HSPR\x01\x00\x00\x01".to_vec();
    bytes[5] = kind as u8;
    for number in [frame_len, meta.len(), payload.len()] {
        bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    bytes.extend([0; 12]);
    bytes.extend(meta);
    bytes.resize(payload_at, 0);
    bytes.extend(payload);
    bytes.resize(frame_len, 0);
    sealed(bytes)
}

/// Makes the header's checksum right.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&[&bytes[..20], &bytes[24..32]].concat());
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut decoder = Decoder::new(WHOLE_MAX);
    decoder.authenticated();
    decoder.feed(bytes);
    decoder.next()
}

fn frame(bytes: &[u8]) -> Frame {
    decode(bytes).unwrap().unwrap()
}

fn error<T: Debug>(result: Result<T, FrameError>) -> FrameError {
    result.unwrap_err()
}
