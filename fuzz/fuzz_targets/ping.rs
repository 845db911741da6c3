//! Any datagram, as it is and with its checksum made right: a typed error, or a ping that encodes to the same fields.
#![no_main]

use hotspare::wire::{self, PING_LEN};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::decode_ping(bytes);
    let Some(mut sealed) = bytes.get(..PING_LEN).map(<[u8]>::to_vec) else {
        return;
    };
    sealed[..4].copy_from_slice(b"HSPP");
    let checksum = crc32fast::hash(&sealed[..236]);
    sealed[236..240].copy_from_slice(&checksum.to_le_bytes());
    if let Ok(ping) = wire::decode_ping(&sealed) {
        assert_eq!(wire::decode_ping(&wire::encode_ping(&ping)), Ok(ping));
    }
});
