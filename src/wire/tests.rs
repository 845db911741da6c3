use super::*;
use crate::buffer::Slice;
use crate::id::{MemberId, Uid, Version};

fn v(counter: u64) -> Version {
    Version {
        counter,
        member: MemberId(counter * 3),
    }
}

#[test]
fn session_round_trip() {
    let small = Slice::copy_from(b"small value");
    let large = Slice::copy_from(&vec![7; 5001]);
    let empty = Slice::empty();
    let attrs = [
        AttrOut {
            key: b"nid",
            version: v(1),
            value: Some(&empty),
        },
        AttrOut {
            key: b"alarge",
            version: v(2),
            value: Some(&large),
        },
        AttrOut {
            key: b"agone",
            version: v(3),
            value: None,
        },
        AttrOut {
            key: b"asmall",
            version: v(4),
            value: Some(&small),
        },
    ];
    let uids = [Uid {
        counter: 8,
        member: MemberId(9),
    }];
    let out = SessionOut {
        context: b"shop",
        uid: Uid {
            counter: 5,
            member: MemberId(6),
        },
        flags: 3,
        clock: 77,
        top: v(10),
        exp: v(11),
        base: v(12),
        age_ms: 13,
        attrs: &attrs,
        over: &uids,
    };
    let frame = encode_session(&out);
    assert_eq!(frame.parts.len(), 2);
    let mut d = Decoder::new(1 << 20);
    d.authenticated();
    d.feed(&frame.to_vec());
    let f = d.next().unwrap().unwrap();
    let s = f.session().unwrap();
    assert_eq!(s.context(), b"shop");
    assert_eq!(
        (
            s.uid(),
            s.flags(),
            s.clock(),
            s.top(),
            s.exp(),
            s.base(),
            s.age_ms()
        ),
        (out.uid, 3, 77, v(10), v(11), v(12), 13)
    );
    let got: Vec<_> = s
        .attrs()
        .map(|a| (a.key.to_vec(), a.version, a.value.map(|r| s.value(r))))
        .collect();
    assert_eq!(
        got,
        attrs
            .iter()
            .map(|a| (a.key.to_vec(), a.version, a.value.cloned()))
            .collect::<Vec<_>>()
    );
    assert_eq!(s.over().collect::<Vec<_>>(), uids);
    assert!(d.next().unwrap().is_none());
}
