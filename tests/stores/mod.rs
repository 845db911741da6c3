//! Stores that exchange real frames, for the tests of the session store.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use hotspare::buffer::Slice;
use hotspare::id::{MemberId, Time, Uid};
use hotspare::session::{
    Changes, Commit, CommitStatus, Context, Cursor, Handle, Limits, Merged, RecordDump, Settings, Store,
};
use hotspare::wire::{Decoder, FrameOut, RefusedCode};

pub const IDLE: Duration = Duration::from_secs(60);
pub const GRACE: Duration = Duration::from_secs(10);
pub const HORIZON: Duration = Duration::from_secs(600);

pub fn limits() -> Limits {
    Limits {
        value_bytes_max: 1 << 20,
        session_bytes_max: 4 << 20,
        store_bytes_max: 1 << 30,
        tombstones_max: 1 << 16,
        contexts_max: 4,
    }
}

pub fn settings() -> Settings {
    Settings { max_idle: IDLE, idle_grace: GRACE, touch_interval: Duration::from_secs(5), horizon: HORIZON }
}

/// A member: a store with one context.
pub struct Member {
    pub store: Store,
    pub context: Arc<Context>,
}

impl Member {
    pub fn new(id: u64) -> Self {
        Self::with(id, limits())
    }

    pub fn with(id: u64, limits: Limits) -> Self {
        let store = Store::new(MemberId(id), limits, settings(), 7);
        let context = store.context(b"app").expect("room for a context");
        Self { store, context }
    }

    pub fn commit(&self, handle: &Handle, changes: &Changes, now: Time) -> (Commit, Vec<FrameOut>) {
        let mut frames = Vec::new();
        let commit = self
            .context
            .commit(&mut handle.clone(), changes, now, &mut |e| frames.push(e.frame))
            .expect("within the limits");
        assert_eq!(commit.status == CommitStatus::Changed, !frames.is_empty());
        (commit, frames)
    }

    /// A request that makes the session if there is none and sets one attribute.
    pub fn set(&self, id: &str, name: &str, value: &str, now: Time) -> Vec<FrameOut> {
        let mut handle = self.context.begin(id.as_bytes(), now);
        self.context.create(&mut handle);
        self.commit(&handle, &write(name, Some(value)), now).1
    }

    pub fn create(&self, id: &str, now: Time) -> Handle {
        let mut handle = self.context.begin(id.as_bytes(), now);
        self.context.create(&mut handle);
        handle
    }

    pub fn begin(&self, id: &str, now: Time) -> Handle {
        self.context.begin(id.as_bytes(), now)
    }

    pub fn kill(&self, id: &str, now: Time) -> Vec<FrameOut> {
        let mut frames = Vec::new();
        self.context.invalidate(id.as_bytes(), now, &mut |e| frames.push(e.frame));
        frames
    }

    pub fn rename(&self, id: &str, to: &str, now: Time) -> Vec<FrameOut> {
        let handle = self.begin(id, now);
        self.commit(&handle, &Changes { new_id: Some(Slice::copy_from(to.as_bytes())), ..Changes::default() }, now).1
    }

    pub fn get(&self, id: &str, name: &str, now: Time) -> Option<String> {
        let (_, value) = self.context.read(id.as_bytes(), name.as_bytes(), now)?;
        Some(String::from_utf8(value.to_vec()).expect("text"))
    }

    /// Everything that a request sees, sorted by name.
    pub fn all(&self, id: &str, now: Time) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        self.begin(id, now).attributes().map(|(name, _, value)| (text(name), text(value))).collect()
    }

    pub fn uid(&self, id: &str, now: Time) -> Uid {
        let handle = self.begin(id, now);
        assert_eq!(handle.uids().len(), 1, "one session under {id}");
        handle.uids()[0]
    }

    pub fn merge(&self, frame: &FrameOut, now: Time) -> Merged {
        self.try_merge(frame, now).expect("a frame that is not refused")
    }

    pub fn try_merge(&self, frame: &FrameOut, now: Time) -> Result<Merged, RefusedCode> {
        let mut decoder = Decoder::new(8 << 20);
        decoder.authenticated();
        let mut merged = None;
        for part in frame.clone().split() {
            decoder.feed(&part.to_vec());
            while let Some(frame) = decoder.next().expect("own frames are sound") {
                merged = Some(self.context.merge(&frame.session().expect("own frames are sound"), now));
            }
        }
        merged.expect("the parts make a frame")
    }

    pub fn merge_all(&self, frames: &[FrameOut], now: Time) {
        for frame in frames {
            self.merge(frame, now);
        }
    }

    pub fn present(&self, uid: Uid, now: Time) -> FrameOut {
        self.context.present(uid, 0, now).expect("held")
    }

    pub fn sweep(&self, now: Time, whole_for: Option<Duration>) -> Vec<FrameOut> {
        let mut frames = Vec::new();
        self.context.sweep(now, whole_for, true, usize::MAX, &mut |e| frames.push(e.frame));
        frames
    }

    /// All that is held, as present states.
    pub fn snapshot(&self, now: Time) -> Vec<FrameOut> {
        let (mut frames, mut cursor) = (Vec::new(), Cursor::default());
        while !self.context.scan(&mut cursor, 4096, now, &mut |_, frame| frames.push(frame)) {}
        frames
    }

    pub fn dump(&self) -> Vec<(Uid, RecordDump)> {
        self.context.dump()
    }

    pub fn held(&self, uid: Uid) -> Option<RecordDump> {
        self.dump().into_iter().find(|(u, _)| *u == uid).map(|(_, dump)| dump)
    }
}

pub fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

pub fn slice(text: &str) -> Slice {
    Slice::copy_from(text.as_bytes())
}

pub fn write(name: &str, value: Option<&str>) -> Changes {
    let mut changes = Changes { touch: true, ..Changes::default() };
    changes.writes.push((name.as_bytes().into(), value.map(slice)));
    changes
}

/// A whole session, as a host without a dirty flag hands it in.
pub fn full(attrs: &[(&str, &str)]) -> Changes {
    let mut changes = Changes { full: true, touch: true, ..Changes::default() };
    changes.writes.extend(attrs.iter().map(|(name, value)| (name.as_bytes().into(), Some(slice(value)))));
    changes
}

pub fn touch() -> Changes {
    Changes { touch: true, ..Changes::default() }
}

pub fn touch_now() -> Changes {
    Changes { touch: true, touch_now: true, ..Changes::default() }
}

pub fn invalidate() -> Changes {
    Changes { invalidate: true, ..Changes::default() }
}

pub fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
