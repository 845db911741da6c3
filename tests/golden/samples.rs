//! One example of every frame kind, and of the ping: shared by the tests of the wire and by its fuzzing seeds.

use hotspare::buffer::Slice;
use hotspare::id::{MemberId, NodeState, Uid, Version};
use hotspare::wire::{
    self, Ack, AttrOut, Control, Entry, Hello, Listing, Ping, RefuseReason, RefusedCode, SessionOut, Welcome, flags,
};

/// Name and bytes of every example, in an order that a lane could carry them in. The ping is apart.
pub(crate) fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("hello", wire::encode_hello(&hello()).to_vec()),
        ("hello-probe-v6", wire::encode_hello(&hello_v6()).to_vec()),
        ("welcome", wire::encode_welcome(&welcome()).to_vec()),
        ("refuse", wire::encode_refuse(RefuseReason::NotMe).to_vec()),
    ];
    for (name, ack) in acks() {
        let mut bytes = Vec::new();
        wire::encode_ack(&ack, &mut bytes);
        all.push((name, bytes));
    }
    for (name, control) in controls() {
        all.push((name, wire::encode_control(&control).to_vec()));
    }
    all.extend(sessions());
    all
}

pub(crate) fn hello() -> Hello {
    Hello {
        versions: (1, 2),
        cluster: wire::cluster_tag("shop"),
        member: MemberId(0x0102_0304_0506_0708),
        expect: MemberId(0x1112_1314_1516_1718),
        lane: 3,
        lanes: 4,
        state: NodeState::Ready,
        probe: false,
        addr: ([192, 0, 2, 7], 4001).into(),
        name: "node-a".to_owned(),
    }
}

pub(crate) fn hello_v6() -> Hello {
    Hello {
        expect: MemberId::NONE,
        state: NodeState::Joining,
        probe: true,
        addr: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 4001).into(),
        name: "knoten-ä".to_owned(),
        ..hello()
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: 1,
        member: MemberId(0x1112_1314_1516_1718),
        state: NodeState::Leaving,
        name: "node-b".to_owned(),
    }
}

pub(crate) fn acks() -> Vec<(&'static str, Ack)> {
    let refused = [
        (98, RefusedCode::Partial),
        (99, RefusedCode::TooLarge),
        (100, RefusedCode::Full),
        (101, RefusedCode::Context),
    ];
    let plain = Ack { received: 1000, applied: 998, ..Ack::default() };
    let refusing = Ack { received: 101, applied: 101, refused: refused.into() };
    vec![("ack", plain), ("ack-refused", refusing)]
}

pub(crate) fn controls() -> Vec<(&'static str, Control)> {
    let uid = Uid { counter: 77, member: MemberId(0x2122_2324_2526_2728) };
    vec![
        ("state-request", Control::StateRequest(7)),
        ("state-done", Control::StateDone(7, 123_456, 4)),
        ("pull", Control::Pull(b"/shop".to_vec(), uid)),
        ("status", Control::Status(NodeState::Leaving)),
        ("echo", Control::Echo(0xabcd)),
        ("echo-reply", Control::EchoReply(0xabcd)),
        ("digest", Control::Digest(b"/shop".to_vec(), 9, Box::new(std::array::from_fn(|i| i as u64 + 1)))),
        (
            "listing",
            Control::Listing(Box::new(Listing {
                context: b"/shop".to_vec(),
                round: 9,
                answer: true,
                last: true,
                differ: 2,
                remembers_ms: 3_600_000,
                met: 77,
                buckets: std::array::from_fn(|i| u64::from(i < 2)),
                entries: vec![Entry { uid, top: 78, fingerprint: 0xfeed }, Entry { uid, top: 79, fingerprint: 0 }],
            })),
        ),
        ("reach", Control::Reach(MemberId(0x1112_1314_1516_1718), 0xabcd)),
        ("reached", Control::Reached(MemberId(0x1112_1314_1516_1718), 0xabcd)),
        ("message", Control::Message(9, Slice::copy_from(b"cache: flush"))),
    ]
}

fn sessions() -> Vec<(&'static str, Vec<u8>)> {
    let version = |counter| Version { counter, member: MemberId(0x3132_3334_3536_3738) };
    let uid = Uid { counter: 41, member: MemberId(0x3132_3334_3536_3738) };
    let [empty, cart, large, user] =
        [Vec::new(), b"3 apples".to_vec(), vec![b'L'; 4101], b"ada".to_vec()].map(Slice::from_vec);
    let attr = |key, counter, value| AttrOut { key, version: version(counter), value };
    let delta = SessionOut {
        context: b"/shop",
        uid,
        flags: flags::DELTA,
        clock: 45,
        top: version(44),
        exp: Version::ZERO,
        base: version(43),
        age_ms: 5,
        attrs: &[attr(b"acart", 44, Some(&cart)), attr(b"acoupon", 44, None)],
        over: &[],
    };
    let created = SessionOut {
        attrs: &[attr(b"n0F3A", 44, Some(&empty)), attr(b"auser", 44, Some(&user))],
        base: Version::ZERO,
        over: &[Uid { counter: 12, member: MemberId(5) }],
        ..delta
    };
    let present = SessionOut {
        flags: flags::PRESENT | flags::COMPLETE | flags::ANSWER,
        attrs: &[
            attr(b"n0F3A", 41, Some(&empty)),
            attr(b"apicture", 42, Some(&large)),
            attr(b"acart", 44, Some(&cart)),
        ],
        exp: version(40),
        base: Version::ZERO,
        ..delta
    };
    let dead = SessionOut { flags: flags::DEAD, attrs: &[], ..delta };
    [
        ("session-delta", &delta),
        ("session-created", &created),
        ("session-present-large", &present),
        ("session-dead", &dead),
    ]
    .map(|(name, out)| (name, wire::encode_session(out).to_vec()))
    .into()
}

pub(crate) fn ping() -> Ping {
    Ping {
        versions: (1, 1),
        cluster: wire::cluster_tag("shop"),
        member: MemberId(0x0102_0304_0506_0708),
        seq: 12,
        state: NodeState::Ready,
        addr: ([192, 0, 2, 7], 4001).into(),
        name: "node-a".to_owned(),
        route: "a".to_owned(),
        view_hash: 0xfeed_f00d,
        uptime_ms: 61_000,
    }
}

/// A frame that is too large for one, in its parts.
pub(crate) fn parts() -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..600_000u32).map(|i| i.to_le_bytes()[0]).collect();
    let message = Control::Message(1, Slice::from_vec(payload));
    let parts = wire::encode_control(&message).split();
    parts.iter().map(wire::FrameOut::to_vec).collect()
}
