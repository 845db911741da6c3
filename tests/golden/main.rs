//! The bytes on the wire, pinned: a change that moves one of them is a new wire version.
//!
//! `HOTSPARE_BLESS=1` rewrites the files; review the difference like code.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]

mod samples;

use std::fs;
use std::path::PathBuf;

use hotspare::wire;

#[test]
fn frames_have_their_golden_bytes() {
    for (name, bytes) in samples::frames() {
        check(name, &bytes);
    }
}

#[test]
fn ping_has_its_golden_bytes() {
    check("ping", &wire::encode_ping(&samples::ping()));
}

#[test]
fn parts_have_their_golden_heads() {
    let heads: Vec<u8> = samples::parts().iter().flat_map(|part| part[..48].to_vec()).collect();
    check("part-heads", &heads);
}

#[test]
fn every_kind_has_golden_bytes() {
    let mut kinds: Vec<u8> = samples::frames().iter().map(|(_, bytes)| bytes[5]).collect();
    kinds.push(samples::parts()[0][5]);
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (1..=17).collect::<Vec<u8>>());
}

fn check(name: &str, bytes: &[u8]) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.hex")].iter().collect();
    let text = hex(bytes);
    if std::env::var_os("HOTSPARE_BLESS").is_some() {
        fs::write(&path, &text).expect("golden files are writable when blessed");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}: the bytes on the wire changed");
}

/// Longer frames are shown in part, and by the sum of the rest.
const SHOWN: usize = 8 << 10;

/// Sixteen bytes a line, so that a difference shows its place.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let (shown, rest) = bytes.split_at(bytes.len().min(SHOWN));
    let mut text: String = shown.chunks(16).map(line).collect();
    if !rest.is_empty() {
        // FNV-1a.
        let sum = rest
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        text += &format!("and {} bytes more: {sum:016x}\n", rest.len());
    }
    text
}
