//! What encoding and decoding cost: one-attribute deltas of several sizes, and a ping.

#![allow(missing_docs, reason = "the macros of the harness make undocumented items")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hotspare::buffer::Slice;
use hotspare::id::{MemberId, NodeState, Uid, Version};
use hotspare::wire::{self, AttrOut, Decoder, FrameOut, Ping, SessionOut, flags};

/// Small, usual and large, and both sides of the size from which values travel by reference.
const SIZES: [usize; 5] = [64, 1 << 10, wire::BY_REFERENCE - 1, wire::BY_REFERENCE, 16 << 10];

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for size in SIZES {
        let value = Slice::from_vec(vec![7; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("delta/{size}"), |b| b.iter(|| delta(black_box(&value))));
    }
    group.finish();
}

/// Frames arrive many to a read, as on a busy lane; the time is for one.
fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for size in SIZES {
        let bytes = delta(&Slice::from_vec(vec![7; size])).to_vec();
        group.throughput(Throughput::Bytes(size as u64));
        let mut decoder = Decoder::new(1 << 20);
        decoder.authenticated();
        group.bench_function(format!("frame/{size}"), |b| {
            b.iter(|| {
                receive(&mut decoder, &bytes);
                decoder.next().expect("valid").expect("whole")
            });
        });
        group.bench_function(format!("frame-and-value/{size}"), |b| {
            b.iter(|| {
                receive(&mut decoder, &bytes);
                let frame = decoder.next().expect("valid").expect("whole");
                let view = frame.session().expect("valid");
                let range = view.attrs().next().and_then(|attr| attr.value);
                (view.uid(), view.value(range.expect("a value")))
            });
        });
        receive(&mut decoder, &bytes);
        let frame = decoder.next().expect("valid").expect("whole");
        group.bench_function(format!("access/{size}"), |b| {
            b.iter(|| black_box(&frame).session().expect("valid").uid());
        });
    }
    group.finish();
}

fn ping(c: &mut Criterion) {
    let ping = Ping {
        versions: wire::PROTOCOL,
        cluster: wire::cluster_tag("bench"),
        member: MemberId(1),
        seq: 2,
        state: NodeState::Ready,
        addr: ([127, 0, 0, 1], 4000).into(),
        name: "node-a".to_owned(),
        route: "a".to_owned(),
        view_hash: 3,
        uptime_ms: 4,
    };
    let bytes = wire::encode_ping(&ping);
    c.bench_function("ping/encode", |b| b.iter(|| wire::encode_ping(black_box(&ping))));
    c.bench_function("ping/decode", |b| {
        b.iter_batched(|| bytes, |bytes| wire::decode_ping(&bytes), BatchSize::SmallInput);
    });
}

fn receive(decoder: &mut Decoder, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = decoder.space();
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        decoder.filled(n);
        bytes = &bytes[n..];
    }
}

fn delta(value: &Slice) -> FrameOut {
    let version = |counter| Version { counter, member: MemberId(0x1234) };
    wire::encode_session(&SessionOut {
        context: b"/shop",
        uid: Uid { counter: 5, member: MemberId(0x1234) },
        flags: flags::DELTA,
        clock: 10,
        top: version(9),
        exp: Version::ZERO,
        base: version(8),
        age_ms: 0,
        attrs: &[AttrOut { key: b"acart", version: version(9), value: Some(value) }],
        over: &[],
    })
}

criterion_group!(benches, encode, decode, ping);
criterion_main!(benches);
