//! Any byte stream: read in any chunks it gives the same frames and ends in the same error as read whole.
//!
//! Input: one byte of mode (bit 0: make the headers' checksums right; bit 1: before the handshake), two bytes that seed
//! the chunk sizes, the stream.
#![no_main]

mod frame;

use hotspare::wire::{Decoder, FrameError, HEADER_LEN, Kind};
use libfuzzer_sys::fuzz_target;

const WHOLE_MAX: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [mode, a, b, stream @ ..] = input else {
        return;
    };
    let mut stream = stream.to_vec();
    if mode & 1 == 1 {
        seal_all(&mut stream);
    }
    let stranger = mode & 2 == 2;
    let mut random = fastrand::Rng::with_seed(u64::from_le_bytes([*a, *b, 0, 0, 0, 0, 0, 0]));
    let most = [1, 3, 16, 47, 80, 1000, 70_000][random.usize(..7)];
    let whole = decode(&stream, stranger, || usize::MAX);
    let chunked = decode(&stream, stranger, || random.usize(1..=most));
    assert!(whole == chunked, "chunks of up to {most}");
});

type Outcome = (Vec<(Kind, Vec<u8>, Option<FrameError>)>, u64, Option<FrameError>);

fn decode(stream: &[u8], stranger: bool, mut size: impl FnMut() -> usize) -> Outcome {
    let mut decoder = Decoder::new(WHOLE_MAX);
    if !stranger {
        decoder.authenticated();
    }
    let mut frames = Vec::new();
    let mut units = 0;
    let mut rest = stream;
    while !rest.is_empty() {
        let space = decoder.space();
        let n = size().min(space.len()).min(rest.len());
        space[..n].copy_from_slice(&rest[..n]);
        decoder.filled(n);
        rest = &rest[n..];
        loop {
            let next = decoder.next();
            units += decoder.take_units();
            match next {
                Ok(Some(frame)) => frames.push((frame.kind, frame.bytes.to_vec(), frame::read(&frame).err())),
                Ok(None) => break,
                Err(error) => return (frames, units, Some(error)),
            }
        }
    }
    (frames, units, None)
}

/// Follows the frames by their lengths.
fn seal_all(mut stream: &mut [u8]) {
    while stream.len() >= HEADER_LEN {
        frame::seal(stream);
        let len = u32::from_le_bytes([stream[8], stream[9], stream[10], stream[11]]) as usize;
        stream = stream.get_mut(len.max(HEADER_LEN)..).unwrap_or_default();
    }
}
