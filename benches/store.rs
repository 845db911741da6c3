//! The session store without sockets: a small commit, a small merge, a read.

#[path = "gates/store.rs"]
mod store;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hotspare::buffer::Slice;
use hotspare::session::Changes;
use hotspare::wire::{Decoder, Frame, FrameOut};

use self::store::store;

const SESSIONS: usize = 10_000;
const NOW: Duration = Duration::from_secs(1);

fn id(n: usize) -> String {
    format!("{:032x}.node-{}", n * 0x9e37_79b9, n % 4)
}

fn changes(value: &[u8]) -> Changes {
    let mut changes = Changes { touch: true, ..Changes::default() };
    changes.writes.push((b"cart"[..].into(), Some(Slice::copy_from(value))));
    changes
}

fn decode(frame: &FrameOut) -> Frame {
    let mut decoder = Decoder::new(1 << 20);
    decoder.authenticated();
    decoder.feed(&frame.to_vec());
    decoder.next().expect("sound").expect("whole")
}

fn bench(c: &mut Criterion) {
    let (writer, reader) = (store(1), store(2));
    let context = writer.context(b"/shop").expect("room");
    let copy = reader.context(b"/shop").expect("room");
    let value = vec![7; 256];
    for n in 0..SESSIONS {
        let mut handle = context.begin(id(n).as_bytes(), NOW);
        context.create(&mut handle);
        let merge = &mut |frame: &FrameOut| _ = copy.merge(&decode(frame).session().expect("sound"), NOW);
        context.commit(&mut handle, &changes(&value), NOW, &mut |e| merge(&e.frame)).expect("fits");
    }
    let ids: Vec<String> = (0..SESSIONS).map(id).collect();
    let mut next = (0..SESSIONS).map(|n| n * 7919 % SESSIONS).cycle();
    let mut at = || next.next().expect("endless");

    c.bench_function("store/read", |b| {
        b.iter(|| black_box(context.read(ids[at()].as_bytes(), b"cart", NOW)));
    });
    c.bench_function("store/begin", |b| {
        b.iter(|| black_box(context.begin(ids[at()].as_bytes(), NOW)));
    });
    c.bench_function("store/begin and commit 256 bytes", |b| {
        b.iter(|| {
            let mut handle = context.begin(ids[at()].as_bytes(), NOW);
            context.commit(&mut handle, &changes(&value), NOW, &mut |e| _ = black_box(&e.frame)).expect("fits")
        });
    });
    c.bench_function("store/decode and merge 256 bytes", |b| {
        b.iter_batched(
            || {
                let mut handle = context.begin(ids[at()].as_bytes(), NOW);
                let mut frame = None;
                context
                    .commit(&mut handle, &changes(&value), NOW, &mut |e| frame = Some(decode(&e.frame)))
                    .expect("fits");
                frame.expect("changed")
            },
            |frame| copy.merge(&frame.session().expect("sound"), NOW),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
