//! Any metadata behind a valid header: a typed error, or values within bounds.
//!
//! Input: one byte of kind, one of payload length, the metadata.
#![no_main]

mod frame;

use hotspare::wire::{Decoder, HEADER_LEN};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [kind, payload_len, meta @ ..] = input else {
        return;
    };
    let payload_at = HEADER_LEN + meta.len().next_multiple_of(16);
    let frame_len = (payload_at + usize::from(*payload_len)).next_multiple_of(16);
    let mut bytes = vec![0; frame_len];
    // Session frames are the ones with pointers: they get most of the time.
    bytes[5] = if (1..=13).contains(kind) { *kind } else { 5 };
    for (at, len) in [(8, frame_len), (12, meta.len()), (16, usize::from(*payload_len))] {
        bytes[at..at + 4].copy_from_slice(&(len as u32).to_le_bytes());
    }
    bytes[HEADER_LEN..HEADER_LEN + meta.len()].copy_from_slice(meta);
    frame::seal(&mut bytes);
    let mut decoder = Decoder::new(1 << 20);
    decoder.authenticated();
    decoder.feed(&bytes);
    if let Ok(Some(frame)) = decoder.next() {
        let _ = frame::read(&frame);
    }
});
