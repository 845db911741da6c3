//! Round trips, the decoder's promises about memory, and joining.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::buffer::Slice;
use crate::id::{MemberId, NodeState, Uid, Version};

const WHOLE_MAX: usize = 4 << 20;

#[test]
fn session_frame_reads_as_it_was_written() {
    let [empty, small, large] = [0, 11, BY_REFERENCE + 905].map(value);
    let attrs = [
        attr(b"n0F3A", 1, Some(&empty)),
        attr(b"alarge", 2, Some(&large)),
        attr(b"agone", 3, None),
        attr(b"asmall", 4, Some(&small)),
    ];
    let over = [uid(8), uid(9)];
    let out = SessionOut {
        context: b"/shop",
        uid: uid(5),
        flags: flags::PRESENT | flags::ANSWER,
        clock: 77,
        top: version(10),
        exp: version(11),
        base: version(12),
        age_ms: 13,
        attrs: &attrs,
        over: &over,
    };
    let frame = decode_one(&encode_session(&out));
    let view = frame.session().unwrap();
    assert_eq!(view.context(), b"/shop");
    assert_eq!((view.uid(), view.flags(), view.clock()), (out.uid, out.flags, 77));
    assert_eq!((view.top(), view.exp(), view.base()), (out.top, out.exp, out.base));
    assert_eq!(view.age_ms(), 13);
    assert_eq!(view.attrs().len(), 4);
    for (got, sent) in view.attrs().zip(&attrs) {
        assert_eq!((got.key, got.version), (sent.key, sent.version));
        assert_eq!(got.value.map(|range| view.value(range)).as_ref(), sent.value);
        assert_eq!(got.value.map(|range| view.value_bytes(range)), sent.value.map(Slice::as_bytes));
    }
    assert_eq!(view.over().collect::<Vec<_>>(), over);
}

#[test]
fn large_values_travel_by_reference_and_small_ones_do_not() {
    let [small, edge, large] = [BY_REFERENCE - 1, BY_REFERENCE, 9999].map(value);
    let attrs = [&large, &small, &edge].map(|value| attr(b"a", 1, Some(value)));
    let frame = encode_session(&session(&attrs));
    assert_eq!(frame.parts.len(), 3);
    assert_eq!(frame.parts[1].as_ptr(), large.as_ptr());
    assert_eq!(frame.parts[2].as_ptr(), edge.as_ptr());
    assert_eq!(frame.parts.iter().map(|part| part.len()).sum::<usize>(), frame.len);
    assert!(frame.len.is_multiple_of(16));
}

#[test]
fn kept_value_never_pins_more_than_twice_its_size() {
    for len in [1, BY_REFERENCE - 1, BY_REFERENCE, 20_000, 31_000, 33_000, 100_000, 250_000] {
        let value = value(len);
        let frame = decode_one(&encode_session(&session(&[attr(b"a", 1, Some(&value))])));
        let view = frame.session().unwrap();
        let kept = view.value(view.attrs().next().unwrap().value.unwrap());
        assert_eq!(kept, value);
        assert!(kept.allocated() <= 2 * len + 64, "{len} bytes pin {}", kept.allocated());
    }
}

#[test]
fn large_value_is_read_where_it_stays() {
    let value = value(200_000);
    let bytes = encode_session(&session(&[attr(b"a", 1, Some(&value))])).to_vec();
    let mut decoder = authenticated();
    let mut read = Reader { bytes: &bytes, at: 0 };
    // The header comes alone; from then on the rest goes into a buffer of the frame's size.
    read.some(&mut decoder, 40);
    assert!(decoder.next().unwrap().is_none());
    let place = decoder.space().as_ptr();
    assert_eq!(decoder.space().len(), bytes.len() - 40);
    read.some(&mut decoder, usize::MAX);
    let frame = decoder.next().unwrap().unwrap();
    assert_eq!(frame.bytes[40..].as_ptr(), place);
    let view = frame.session().unwrap();
    let kept = view.value(view.attrs().next().unwrap().value.unwrap());
    drop(frame);
    assert_eq!(kept, value);
    assert!(place <= kept.as_ptr() && kept.as_ptr() < place.wrapping_add(400));
}

#[test]
fn frames_share_their_receive_chunk() {
    let bytes = encode_control(&Control::Echo(1)).to_vec();
    let mut decoder = authenticated();
    decoder.feed(&bytes.repeat(3));
    let frames: Vec<Frame> = std::iter::from_fn(|| decoder.next().unwrap()).collect();
    assert_eq!(frames.len(), 3);
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame.bytes.as_ptr(), frames[0].bytes.as_ptr().wrapping_add(i * bytes.len()));
        assert_eq!(frame.bytes.as_ptr() as usize % 16, 0);
    }
}

#[test]
fn chunk_is_used_again_when_no_frame_is_held() {
    let bytes = encode_control(&Control::Echo(1)).to_vec();
    let mut decoder = authenticated();
    let first = decoder.space().as_ptr();
    for _ in 0..less(10_000, 200) {
        assert_eq!(decoder.space().as_ptr(), first);
        decoder.space()[..bytes.len()].copy_from_slice(&bytes);
        decoder.filled(bytes.len());
        assert!(decoder.next().unwrap().is_some());
    }
}

#[test]
fn held_frames_survive_the_chunks_that_follow() {
    let mut decoder = authenticated();
    let mut held = Vec::new();
    for number in 0..less(5_000, 200) {
        decoder.feed(&encode_control(&Control::Echo(number)).to_vec());
        held.push(decoder.next().unwrap().unwrap());
    }
    for (number, frame) in held.iter().enumerate() {
        assert_eq!(frame.control(), Ok(Control::Echo(number as u64)));
    }
}

#[test]
fn space_is_never_empty_even_when_frames_wait() {
    let bytes = encode_control(&Control::Echo(1)).to_vec();
    let mut decoder = authenticated();
    let count = less(3_000, 200);
    for _ in 0..count {
        for byte in &bytes {
            decoder.space()[0] = *byte;
            decoder.filled(1);
        }
    }
    let mut frames = 0;
    while decoder.next().unwrap().is_some() {
        frames += 1;
    }
    assert_eq!((frames, decoder.take_units()), (count, count));
}

#[test]
fn every_chunking_gives_the_same_frames() {
    let mut stream = Vec::new();
    for len in [0, 100, 70_000, 600_000, 5_000] {
        let value = value(len);
        let frame = encode_session(&session(&[attr(b"a", 1, Some(&value))]));
        stream.extend(frame.split().iter().flat_map(FrameOut::to_vec));
        stream.extend(encode_control(&Control::Echo(len as u64)).to_vec());
        encode_ack(&Ack::default(), &mut stream);
    }
    let whole = frames_of(&stream, |_| usize::MAX);
    assert_eq!(whole.0.len(), 15);
    assert_eq!(whole.1, 17);
    for size in if cfg!(miri) { 999..=1000 } else { 1..=80 } {
        assert!(frames_of(&stream, |_| size) == whole, "chunks of {size}");
    }
    for seed in 0..less(40, 3) {
        let mut rng = fastrand::Rng::with_seed(seed);
        assert!(frames_of(&stream, |_| rng.usize(1..=100_000)) == whole, "seed {seed}");
    }
}

#[test]
fn frame_that_fits_is_not_split() {
    let value = value(FRAME_BYTES_MAX - 512);
    let frame = encode_session(&session(&[attr(b"a", 1, Some(&value))]));
    assert!(frame.len <= FRAME_BYTES_MAX);
    assert_eq!(frame.split().len(), 1);
}

#[test]
fn split_frame_joins_and_counts_its_parts() {
    let values = [300_000, 17, 500_000].map(value);
    let attrs = values.each_ref().map(|value| attr(b"a", 1, Some(value)));
    let frame = encode_session(&session(&attrs));
    let whole = frame.to_vec();
    let parts = frame.split();
    assert_eq!(parts.len(), whole.len().div_ceil(PART_BYTES));
    assert!(parts.iter().all(|part| part.len <= FRAME_BYTES_MAX));
    let mut decoder = authenticated();
    for (i, part) in parts.iter().enumerate() {
        assert!(decoder.next().unwrap().is_none());
        assert_eq!(decoder.take_units(), u64::from(i > 0));
        decoder.feed(&part.to_vec());
    }
    let joined = decoder.next().unwrap().unwrap();
    assert_eq!((joined.kind, joined.bytes.as_bytes()), (Kind::Session, whole.as_slice()));
    assert_eq!(joined.bytes.allocated(), whole.len() + 16);
    assert_eq!(decoder.take_units(), 1);
    assert_eq!(joined.session().unwrap().attrs().len(), 3);
}

#[test]
fn small_frames_may_come_between_parts() {
    let message = Control::Message(3, value(600_000));
    let mut decoder = authenticated();
    let mut got = Vec::new();
    for part in encode_control(&message).split() {
        decoder.feed(&part.to_vec());
        decoder.feed(&encode_control(&Control::Echo(4)).to_vec());
        while let Some(frame) = decoder.next().unwrap() {
            got.push(frame.control().unwrap());
        }
    }
    let echo = Control::Echo(4);
    assert_eq!(got, [echo.clone(), echo.clone(), message, echo]);
}

#[test]
fn parts_out_of_order_do_not_join() {
    let parts = encode_control(&Control::Message(3, value(600_000))).split();
    let others = encode_control(&Control::Message(3, value(700_000))).split();
    for wrong in [[&parts[1]].as_slice(), &[&parts[0], &parts[0]], &[&parts[0], &parts[2]], &[&parts[0], &others[1]]] {
        let mut decoder = authenticated();
        for part in wrong {
            decoder.feed(&part.to_vec());
        }
        assert_eq!(decoder.next().unwrap_err(), FrameError::Part);
    }
}

#[test]
fn joined_frame_is_capped() {
    let parts = encode_control(&Control::Message(3, value(600_000))).split();
    let mut decoder = Decoder::new(599_999);
    decoder.authenticated();
    decoder.feed(&parts[0].to_vec());
    assert_eq!(decoder.next().unwrap_err(), FrameError::TooLarge);
}

#[test]
fn stranger_may_send_neither_large_frames_nor_parts() {
    let large = encode_control(&Control::Message(3, value(FRAME_BYTES_UNAUTHENTICATED)));
    let part = &encode_control(&Control::Message(3, value(600_000))).split()[2];
    for (bytes, error) in [(large.to_vec(), FrameError::TooLarge), (part.to_vec(), FrameError::TooLarge)] {
        let mut decoder = Decoder::new(WHOLE_MAX);
        decoder.feed(&bytes);
        assert_eq!(decoder.next().unwrap_err(), error);
    }
    let frame = encode_control(&Control::Echo(1));
    let tiny = part::split(&frame);
    let mut decoder = Decoder::new(WHOLE_MAX);
    decoder.feed(&tiny[0].to_vec());
    assert_eq!(decoder.next().unwrap_err(), FrameError::Order);
}

#[test]
fn cap_rises_between_two_frames_of_one_read() {
    let large = Control::Message(3, value(10_000));
    let mut stream = encode_control(&Control::Echo(1)).to_vec();
    stream.extend(encode_control(&large).to_vec());
    let mut decoder = Decoder::new(WHOLE_MAX);
    decoder.space()[..5_000].copy_from_slice(&stream[..5_000]);
    decoder.filled(5_000);
    assert!(decoder.next().unwrap().is_some());
    decoder.authenticated();
    decoder.feed(&stream[5_000..]);
    assert_eq!(decoder.next().unwrap().unwrap().control().unwrap(), large);
}

#[test]
fn error_is_final() {
    let good = encode_control(&Control::Echo(1)).to_vec();
    let mut bad = good.clone();
    bad[20] ^= 1;
    let mut decoder = authenticated();
    decoder.feed(&[good.clone(), bad, good].concat());
    assert!(decoder.next().unwrap().is_some());
    for _ in 0..3 {
        assert_eq!(decoder.next().unwrap_err(), FrameError::Checksum);
        decoder.space()[0] = 0;
        decoder.filled(1);
    }
}

#[test]
fn accessor_of_another_kind_is_an_error() {
    let frame = decode_one(&encode_refuse(RefuseReason::Busy));
    assert_eq!(frame.refuse(), Ok(RefuseReason::Busy));
    assert_eq!(frame.session().unwrap_err(), FrameError::Kind);
    assert_eq!(frame.hello(), Err(FrameError::Kind));
    assert_eq!(frame.welcome(), Err(FrameError::Kind));
    assert_eq!(frame.ack(), Err(FrameError::Kind));
    assert_eq!(frame.control(), Err(FrameError::Kind));
}

#[test]
fn long_names_are_cut_at_a_character() {
    let name = format!("{}äöü", "n".repeat(NAME_BYTES_MAX - 1));
    let welcome = Welcome { version: 1, member: MemberId(1), state: NodeState::Ready, name };
    let got = decode_one(&encode_welcome(&welcome)).welcome().unwrap();
    assert_eq!(got.name, "n".repeat(NAME_BYTES_MAX - 1));
}

#[test]
#[should_panic(expected = "too many refusals")]
fn ack_with_too_many_refusals_is_a_bug() {
    let ack = Ack { refused: (0..65).map(|i| (i, RefusedCode::Full)).collect(), ..Ack::default() };
    encode_ack(&ack, &mut Vec::new());
}

#[test]
fn cluster_tag_is_the_published_hash() {
    // Test vectors of FNV-1a, 64 bits.
    assert_eq!(cluster_tag(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(cluster_tag("a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(cluster_tag("foobar"), 0x8594_4171_f739_67e8);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }) })]

    #[test]
    fn any_session_round_trips(
        (context, attrs) in (vec(any::<u8>(), 0..40), vec((vec(any::<u8>(), 1..30), 0..1u64 << 48, any::<u64>(), any::<Option<u16>>()), 0..20)),
        (numbers, flags, over) in (any::<[u32; 6]>(), any::<u32>(), vec(0..1u64 << 48, 0..5)),
    ) {
        let values: Vec<Option<Slice>> = attrs.iter().map(|attr| attr.3.map(|len| value(usize::from(len)))).collect();
        let attrs: Vec<AttrOut<'_>> = attrs
            .iter()
            .zip(&values)
            .map(|((key, counter, member, _), value)| AttrOut {
                key,
                version: Version { counter: *counter, member: MemberId(*member) },
                value: value.as_ref(),
            })
            .collect();
        let over: Vec<Uid> = over.into_iter().map(uid).collect();
        let [a, b, c, d, e, f] = numbers.map(u64::from);
        let out = SessionOut {
            context: &context, uid: uid(a), flags, clock: b, top: version(c), exp: version(d), base: version(e),
            age_ms: f, attrs: &attrs, over: &over,
        };
        let encoded = encode_session(&out);
        let length = encoded.len;
        let mut decoder = authenticated();
        for part in encoded.split() {
            decoder.feed(&part.to_vec());
        }
        let frame = decoder.next().unwrap().unwrap();
        prop_assert_eq!(frame.bytes.len(), length);
        let view = frame.session().unwrap();
        prop_assert_eq!(view.context(), &context);
        prop_assert_eq!((view.uid(), view.flags(), view.clock(), view.age_ms()), (out.uid, flags, b, f));
        prop_assert_eq!((view.top(), view.exp(), view.base()), (out.top, out.exp, out.base));
        prop_assert_eq!(view.over().collect::<Vec<_>>(), over);
        prop_assert_eq!(view.attrs().len(), attrs.len());
        for (got, sent) in view.attrs().zip(&attrs) {
            prop_assert_eq!((got.key, got.version), (sent.key, sent.version));
            let value = got.value.map(|range| view.value(range));
            prop_assert_eq!(value.as_ref(), sent.value);
        }
    }

    #[test]
    fn any_handshake_and_ping_round_trip(
        (cluster, member, expect, seq) in any::<(u64, u64, u64, u64)>(),
        (lane, lanes, probe, low, more) in any::<(u16, u16, bool, u8, u8)>(),
        (ip, port, state) in (any::<std::net::IpAddr>(), any::<u16>(), 0u8..3),
        name in ".{0,16}", route in "[a-z0-9.-]{0,32}",
    ) {
        let state = NodeState::from_wire(state).unwrap();
        let versions = (low, low.saturating_add(more));
        let addr = SocketAddr::new(ip, port);
        let (member, expect) = (MemberId(member), MemberId(expect));
        let hello = Hello { versions, cluster, member, expect, lane, lanes, state, probe, addr, name: name.clone() };
        prop_assert_eq!(decode_one(&encode_hello(&hello)).hello(), Ok(hello));
        let welcome = Welcome { version: low, member, state, name: name.clone() };
        prop_assert_eq!(decode_one(&encode_welcome(&welcome)).welcome(), Ok(welcome));
        let ping = Ping { versions, cluster, member, seq, state, addr, name, route, view_hash: !seq, uptime_ms: seq };
        prop_assert_eq!(decode_ping(&encode_ping(&ping)), Ok(ping));
    }

    #[test]
    fn any_ack_round_trips(
        (applied, more) in any::<(u32, u32)>(),
        refused in vec((any::<u64>(), 0usize..4), 0..Ack::REFUSED_MAX),
    ) {
        const CODES: [RefusedCode; 4] = [RefusedCode::Partial, RefusedCode::TooLarge, RefusedCode::Full, RefusedCode::Context];
        let ack = Ack {
            received: u64::from(applied) + u64::from(more),
            applied: applied.into(),
            refused: refused.into_iter().map(|(position, code)| (position, CODES[code])).collect(),
        };
        let mut bytes = Vec::new();
        encode_ack(&ack, &mut bytes);
        let mut decoder = Decoder::new(WHOLE_MAX);
        decoder.feed(&bytes);
        prop_assert_eq!(decoder.next().unwrap().unwrap().ack(), Ok(ack));
    }

    #[test]
    fn any_control_round_trips(
        (a, b, lanes, topic) in any::<(u64, u64, u16, u32)>(),
        counter in 0..1u64 << 48, context in vec(any::<u8>(), 0..300), len in 0usize..20_000,
    ) {
        let all = [
            Control::StateRequest(a),
            Control::StateDone(a, b, lanes),
            Control::Pull(context, uid(counter)),
            Control::Status(NodeState::Leaving),
            Control::Echo(b),
            Control::EchoReply(b),
            Control::Message(topic, value(len)),
        ];
        for control in all {
            prop_assert_eq!(decode_one(&encode_control(&control)).control(), Ok(control));
        }
    }
}

fn authenticated() -> Decoder {
    let mut decoder = Decoder::new(WHOLE_MAX);
    decoder.authenticated();
    decoder
}

fn decode_one(frame: &FrameOut) -> Frame {
    let bytes = frame.to_vec();
    assert_eq!(bytes.len(), frame.len);
    let mut decoder = authenticated();
    decoder.feed(&bytes);
    let frame = decoder.next().unwrap().unwrap();
    assert!(decoder.next().unwrap().is_none());
    assert_eq!(decoder.take_units(), 1);
    frame
}

/// What is decoded when each read gives as much as `size` says: kinds with bytes, and units.
fn frames_of(stream: &[u8], mut size: impl FnMut(usize) -> usize) -> (Vec<(Kind, Slice)>, u64) {
    let mut decoder = authenticated();
    let mut read = Reader { bytes: stream, at: 0 };
    let mut frames = Vec::new();
    let mut units = 0;
    while read.at < stream.len() {
        read.some(&mut decoder, size(read.at));
        while let Some(frame) = decoder.next().unwrap() {
            frames.push((frame.kind, frame.bytes));
        }
        units += decoder.take_units();
    }
    (frames, units)
}

/// Reads a byte string as the runtime reads a socket.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn some(&mut self, decoder: &mut Decoder, most: usize) {
        let space = decoder.space();
        let n = most.min(space.len()).min(self.bytes.len() - self.at);
        assert!(n > 0);
        space[..n].copy_from_slice(&self.bytes[self.at..][..n]);
        decoder.filled(n);
        self.at += n;
    }
}

/// How often, and how often where an interpreter looks at every access to memory.
fn less<T>(often: T, miri: T) -> T {
    if cfg!(miri) { miri } else { often }
}

fn value(len: usize) -> Slice {
    // No two pages of a value are alike.
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 512);
    while bytes.len() < len {
        bytes.extend((bytes.len() / 512).to_le_bytes().repeat(64));
    }
    bytes.truncate(len);
    Slice::from_vec(bytes)
}

fn version(counter: u64) -> Version {
    Version { counter, member: MemberId(!counter) }
}

fn uid(counter: u64) -> Uid {
    Uid { counter, member: MemberId(counter << 3) }
}

fn attr<'a>(key: &'a [u8], counter: u64, value: Option<&'a Slice>) -> AttrOut<'a> {
    AttrOut { key, version: version(counter), value }
}

fn session<'a>(attrs: &'a [AttrOut<'a>]) -> SessionOut<'a> {
    SessionOut {
        context: b"/shop",
        uid: uid(1),
        flags: flags::DELTA,
        clock: 2,
        top: version(1),
        exp: Version::ZERO,
        base: Version::ZERO,
        age_ms: 0,
        attrs,
        over: &[],
    }
}
