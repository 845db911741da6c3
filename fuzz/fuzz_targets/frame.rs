//! What the targets of frames share.

use hotspare::wire::{Frame, FrameError, HEADER_LEN, Kind};

/// Everything a frame says, through its accessor.
pub fn read(frame: &Frame) -> Result<(), FrameError> {
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
        _ => drop(frame.control()?),
    }
    Ok(())
}

/// Makes magic, version, schema and checksum of the header at the start of `bytes` right.
pub fn seal(bytes: &mut [u8]) {
    bytes[..5].copy_from_slice(b"HSPR\x01");
    bytes[6..8].copy_from_slice(&[0, 1]);
    bytes[24..HEADER_LEN].fill(0);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..20]);
    crc.update(&bytes[24..HEADER_LEN]);
    bytes[20..24].copy_from_slice(&crc.finalize().to_le_bytes());
}
