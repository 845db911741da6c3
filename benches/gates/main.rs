//! One operation so many times and nothing else: what an instruction counter is put on. `benches/gates/run` does that.
//!
//! `gates OPERATION COUNT`. Everything is made before, in the same way for any count, so that the difference between two counts
//! is what the operations cost.

mod store;

use std::hint::black_box;
use std::time::Duration;

use hotspare::buffer::Slice;
use hotspare::session::{Changes, Context};
use hotspare::wire::{Decoder, Frame, FrameOut};

use self::store::store;

const SESSIONS: usize = 1_000;
const NOW: Duration = Duration::from_secs(1);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(operation), Some(count)) = (arguments.next(), arguments.next().and_then(|n| n.parse().ok())) else {
        // `cargo bench` runs it with words of its own.
        return;
    };
    let (here, there) = (store(1), store(2));
    let pair = Pair {
        here: here.context(b"/shop").expect("room"),
        there: there.context(b"/shop").expect("room"),
        ids: (0..SESSIONS).map(|n| format!("{n:032x}.node-{}", n % 4)).collect(),
    };
    let value = |size: usize| Slice::copy_from(&vec![7; size]);
    for at in 0..SESSIONS {
        pair.create(at, &value(1 << 10));
    }
    match operation.as_str() {
        // Change a session of 1 KiB and encode what the others are sent.
        "commit" => (0..count).for_each(|n| drop(black_box(pair.commit(n % SESSIONS, &value(1 << 10))))),
        // The same, and take in the frame from the bytes that were received.
        "commit-and-decode" => {
            (0..count).for_each(|n| drop(black_box(decode(&pair.commit(n % SESSIONS, &value(1 << 10))))))
        }
        // The same, and merge it.
        "commit-and-apply" => (0..count).for_each(|n| {
            let frame = decode(&pair.commit(n % SESSIONS, &value(1 << 10)));
            _ = black_box(pair.there.merge(&frame.session().expect("sound"), NOW));
        }),
        // Read one attribute.
        "read" => (0..count).for_each(|n| {
            _ = black_box(pair.here.read(pair.ids[n % SESSIONS].as_bytes(), b"cart", NOW));
        }),
        // What a request begins with.
        "begin" => (0..count).for_each(|n| drop(black_box(pair.here.begin(pair.ids[n % SESSIONS].as_bytes(), NOW)))),
        other => panic!("{other} is no operation"),
    }
}

/// Two stores that hold the same.
struct Pair {
    here: std::sync::Arc<Context>,
    there: std::sync::Arc<Context>,
    ids: Vec<String>,
}

impl Pair {
    fn create(&self, at: usize, value: &Slice) {
        let mut handle = self.here.begin(self.ids[at].as_bytes(), NOW);
        self.here.create(&mut handle);
        let merge = &mut |frame: &FrameOut| _ = self.there.merge(&decode(frame).session().expect("sound"), NOW);
        self.here.commit(&mut handle, &changes(value), NOW, &mut |e| merge(&e.frame)).expect("fits");
    }

    fn commit(&self, at: usize, value: &Slice) -> FrameOut {
        let mut handle = self.here.begin(self.ids[at].as_bytes(), NOW);
        let mut frame = None;
        self.here.commit(&mut handle, &changes(value), NOW, &mut |e| frame = Some(e.frame)).expect("fits");
        frame.expect("it changed")
    }
}

fn changes(value: &Slice) -> Changes {
    let mut changes = Changes { touch: true, ..Changes::default() };
    changes.writes.push((b"cart"[..].into(), Some(value.clone())));
    changes
}

fn decode(frame: &FrameOut) -> Frame {
    let mut decoder = Decoder::new(1 << 20);
    decoder.authenticated();
    decoder.feed(&frame.to_vec());
    decoder.next().expect("sound").expect("whole")
}
