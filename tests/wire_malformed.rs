//! The wire against malformed input. Policy: whatever arrives ends in a typed error or in values within bounds; a panic,
//! a hang, or memory out of proportion to what arrived is a defect here and never the peer's fault.
#![expect(unsafe_code, reason = "an allocator that remembers the largest request")]

#[path = "golden/samples.rs"]
mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hotspare::buffer::Slice;
use hotspare::wire::{self, Decoder, Frame, FrameError, HEADER_LEN, Kind, PING_LEN};

const WHOLE_MAX: usize = 64 << 20;

#[test]
fn truncated_frame_is_never_returned() {
    for (name, bytes) in samples::frames() {
        for len in 0..bytes.len() {
            let mut decoder = authenticated();
            decoder.feed(&bytes[..len]);
            assert!(decoder.next().unwrap().is_none(), "{name} cut to {len}");
        }
    }
}

#[test]
fn truncated_frame_is_an_error_of_its_accessor() {
    for (name, bytes) in samples::frames() {
        let kind = decode(&bytes).unwrap().unwrap().kind;
        for len in 0..bytes.len() {
            let frame = Frame { kind, bytes: Slice::copy_from(&bytes[..len]) };
            assert!(read(&frame).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_an_error() {
    for (name, bytes) in samples::frames() {
        for bit in 0..HEADER_LEN * 8 {
            let result = decode(&flipped(&bytes, bit));
            let error = result.expect_err(&format!("{name} with bit {bit} flipped"));
            let expected = match bit / 8 {
                0..4 => FrameError::Magic,
                4 => FrameError::Version,
                _ => FrameError::Checksum,
            };
            assert_eq!(error, expected, "{name} with bit {bit} flipped");
        }
    }
}

#[test]
fn flipped_bits_of_a_body_stay_within_bounds() {
    for (_, bytes) in samples::frames() {
        // Large values are not looked at; the first of their bytes stand for all.
        for bit in HEADER_LEN * 8..bytes.len().min(600) * 8 {
            let frame = decode(&flipped(&bytes, bit)).unwrap().unwrap();
            let _ = read(&frame);
        }
    }
}

#[test]
fn words_of_a_session_table_may_lie() {
    let lies = [0u32, 1, 2, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];
    let (mut accepted, mut refused) = (0, 0);
    for (_, bytes) in samples::frames() {
        if bytes[5] != Kind::Session as u8 {
            continue;
        }
        let meta_len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        for at in (HEADER_LEN..HEADER_LEN + meta_len).step_by(4) {
            for lie in lies {
                let mut bytes = bytes.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                match read(&decode(&bytes).unwrap().unwrap()) {
                    Ok(()) => accepted += 1,
                    Err(error) => {
                        assert_eq!(error, FrameError::Meta);
                        refused += 1;
                    }
                }
            }
        }
    }
    // Names, numbers and members may be anything; pointers, lengths and counters may not.
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

#[test]
fn contradicting_lengths_are_an_error() {
    for (frame_len, meta_len, payload_len) in [
        (0, 0, 0),
        (16, 0, 0),
        (48, 0, 0),
        (40, 8, 0),
        (32, 1, 0),
        (48, 16, 1),
        (64, 0, 16),
        (64, 0, 33),
        (48, u32::MAX, 0),
        (48, 0, u32::MAX),
        (48, u32::MAX, u32::MAX),
        (u32::MAX, 16, 0),
    ] {
        let bytes = header(5, frame_len, meta_len, payload_len);
        assert_eq!(decode(&bytes).unwrap_err(), FrameError::Length, "{frame_len} {meta_len} {payload_len}");
    }
}

#[test]
fn announced_length_allocates_nothing_beyond_the_cap() {
    for frame_len in [1 << 20, 1 << 30, 0xffff_fff0] {
        let bytes = header(5, frame_len, frame_len - 32, 0);
        let largest = largest_allocation(|| {
            let mut decoder = authenticated();
            decoder.feed(&bytes);
            assert_eq!(decoder.next().unwrap_err(), FrameError::TooLarge);
            assert!(!decoder.space().is_empty());
        });
        assert!(largest <= 64 << 10, "allocated {largest}");
    }
    let within = narrow(wire::FRAME_BYTES_MAX);
    let bytes = header(5, within, within - 32, 0);
    let largest = largest_allocation(|| {
        let mut decoder = authenticated();
        decoder.feed(&bytes);
        assert!(decoder.next().unwrap().is_none());
        assert_eq!(decoder.space().len(), wire::FRAME_BYTES_MAX - HEADER_LEN);
    });
    assert!(largest <= wire::FRAME_BYTES_MAX + 64, "allocated {largest}");
}

#[test]
fn announced_whole_grows_with_what_arrives() {
    let piece = vec![0; 4096];
    let largest = largest_allocation(|| {
        let mut decoder = authenticated();
        for n in 0..4 {
            decoder.feed(&part(WHOLE_MAX as u64, n * 4096, &piece));
            assert!(decoder.next().unwrap().is_none());
        }
        assert_eq!(decoder.take_units(), 4);
    });
    assert!(largest <= 64 << 10, "allocated {largest} for 16 KiB");
}

#[test]
fn parts_that_lie_are_an_error() {
    let piece = [0; 64];
    for (total, offset, piece, error) in [
        (u64::MAX, 0, &piece[..], FrameError::TooLarge),
        (WHOLE_MAX as u64 + 16, 0, &piece, FrameError::TooLarge),
        (1024, u64::MAX, &piece, FrameError::Part),
        (1024, 64, &piece, FrameError::Part),
        (48, 0, &piece, FrameError::Part),
        (1024, 0, &[], FrameError::Part),
        (1024, 0, &piece[..15], FrameError::Part),
        // Whole, and not the frame that was announced: no header, a part within a part, another length.
        (64, 0, &piece, FrameError::Magic),
    ] {
        assert_eq!(decode(&part(total, offset, piece)).unwrap_err(), error, "{total} {offset} {}", piece.len());
    }
    let inner = part(1024, 0, &piece);
    assert_eq!(decode(&part(inner.len() as u64, 0, &inner)).unwrap_err(), FrameError::Part);
    let mut longer = samples::frames()[0].1.clone();
    longer.extend([0; 16]);
    assert_eq!(decode(&part(longer.len() as u64, 0, &longer)).unwrap_err(), FrameError::Part);
}

#[test]
fn whole_without_its_last_byte_is_never_returned() {
    let mut stream = samples::parts().concat();
    stream.pop();
    assert!(decode(&stream).unwrap().is_none());
}

#[test]
fn unknown_kinds_versions_and_reserved_bytes_are_errors() {
    for (at, value, error) in [
        (5, 0, FrameError::Kind),
        (5, 18, FrameError::Kind),
        (6, 1, FrameError::Version),
        (7, 2, FrameError::Version),
        (24, 1, FrameError::Version),
        (31, 0x80, FrameError::Version),
    ] {
        let mut bytes = samples::frames()[0].1.clone();
        bytes[at] = value;
        seal(&mut bytes);
        assert_eq!(decode(&bytes).unwrap_err(), error, "byte {at} = {value}");
    }
}

#[test]
fn bytes_of_another_protocol_are_no_frame() {
    let request = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    assert_eq!(decode(request).unwrap_err(), FrameError::Magic);
    assert_eq!(wire::decode_ping(request), Err(FrameError::Magic));
}

#[test]
fn random_bytes_behind_a_good_header_stay_within_bounds() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let kind = random.u8(1..=16);
        let meta: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
        let payload = vec![0; random.usize(0..40)];
        if let Ok(Some(frame)) = decode(&frame(kind, &meta, &payload)) {
            let _ = read(&frame);
        }
    }
}

#[test]
fn damaged_ping_is_an_error() {
    let good = wire::encode_ping(&samples::ping());
    // The last 16 bytes are room for a MAC: whoever has a key checks it.
    for bit in 0..240 * 8 {
        let result = wire::decode_ping(&flipped(&good, bit));
        let expected = if bit < 32 { FrameError::Magic } else { FrameError::Checksum };
        assert_eq!(result, Err(expected), "bit {bit}");
    }
    for len in 0..PING_LEN {
        assert_eq!(wire::decode_ping(&good[..len]), Err(FrameError::Truncated), "cut to {len}");
    }
    assert_eq!(wire::decode_ping(&[good.as_slice(), &[0]].concat()), Err(FrameError::Length));
}

#[test]
fn ping_with_fields_out_of_range_is_an_error() {
    // Version range, state, address family, lengths and text of name and route.
    for (at, value) in [(4, 9), (6, 3), (66, 5), (72, 65), (72, 255), (80, 0xff), (144, 33), (152, 0xc0)] {
        let mut bytes = wire::encode_ping(&samples::ping());
        bytes[at] = value;
        let checksum = crc32fast::hash(&bytes[..236]);
        bytes[236..240].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(wire::decode_ping(&bytes), Err(FrameError::Body), "byte {at} = {value}");
    }
}

/// Everything a frame says, through its accessor.
fn read(frame: &Frame) -> Result<(), FrameError> {
    match frame.kind {
        Kind::Hello => drop(frame.hello()?),
        Kind::Welcome => drop(frame.welcome()?),
        Kind::Refuse => _ = frame.refuse()?,
        Kind::Ack => drop(frame.ack()?),
        Kind::Session => {
            let view = frame.session()?;
            let _ = (view.uid(), view.flags(), view.clock(), view.top(), view.exp(), view.base(), view.age_ms());
            assert!(view.context().len() + view.over().count() <= frame.bytes.len());
            for attr in view.attrs() {
                assert!(!attr.key.is_empty());
                if let Some(range) = attr.value {
                    assert_eq!(view.value(range).as_bytes(), view.value_bytes(range));
                }
            }
        }
        Kind::Part => panic!("a part was returned"),
        #[cfg(feature = "sim")]
        Kind::Later => drop(frame.control()?),
        Kind::StateRequest
        | Kind::StateDone
        | Kind::Pull
        | Kind::Digest
        | Kind::Listing
        | Kind::Status
        | Kind::Echo
        | Kind::EchoReply
        | Kind::Reach
        | Kind::Reached
        | Kind::Message => {
            drop(frame.control()?);
        }
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut decoder = authenticated();
    decoder.feed(bytes);
    decoder.next()
}

fn authenticated() -> Decoder {
    let mut decoder = Decoder::new(WHOLE_MAX);
    decoder.authenticated();
    decoder
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn part(total: u64, offset: u64, piece: &[u8]) -> Vec<u8> {
    let meta = [total.to_le_bytes(), offset.to_le_bytes()].concat();
    frame(Kind::Part as u8, &meta, piece)
}

/// A frame with a valid header around anything.
fn frame(kind: u8, meta: &[u8], payload: &[u8]) -> Vec<u8> {
    let payload_at = HEADER_LEN + meta.len().next_multiple_of(16);
    let frame_len = (payload_at + payload.len()).next_multiple_of(16);
    let mut bytes = header(kind, narrow(frame_len), narrow(meta.len()), narrow(payload.len()));
    bytes.extend(meta);
    bytes.resize(payload_at, 0);
    bytes.extend(payload);
    bytes.resize(frame_len, 0);
    bytes
}

fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("test frames are small")
}

fn header(kind: u8, frame_len: u32, meta_len: u32, payload_len: u32) -> Vec<u8> {
    let mut bytes = b"HSPR\x01\x00\x00\x01".to_vec();
    bytes[5] = kind;
    for number in [frame_len, meta_len, payload_len, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}

/// Makes the header's checksum right.
fn seal(bytes: &mut [u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..20]);
    crc.update(&bytes[24..32]);
    bytes[20..24].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// The largest single request to the allocator by this thread while `run` runs.
fn largest_allocation(run: impl FnOnce()) -> usize {
    LARGEST.set(0);
    run();
    LARGEST.get()
}

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

fn note(size: usize) {
    // Not there while a thread ends.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}
