//! From held state to frames: deltas, tombstones, present states.

use smallvec::SmallVec;

use super::attr::Attr;
use super::context::Context;
use super::record::{Grave, Record};
use super::time::{Millis, age};
use crate::id::{Uid, Version};
use crate::mutant::planted;
use crate::wire::{AttrOut, FrameOut, SessionOut, encode_session, flags};

/// A change to send, seen under the session's lock.
#[derive(Debug)]
pub struct Emission<'a> {
    /// Where the session lives.
    pub context: &'a Context,
    /// Which session changed.
    pub uid: Uid,
    /// The delta (or tombstone, expiry, touch, present state).
    pub frame: FrameOut,
    held: Held<'a>,
    now: Millis,
}

/// What is held for a uid.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held<'a> {
    Record(&'a Record),
    Grave(&'a Grave),
}

impl<'a> Emission<'a> {
    pub(crate) fn new(context: &'a Context, uid: Uid, frame: FrameOut, held: Held<'a>, now: Millis) -> Self {
        Self { context, uid, frame, held, now }
    }

    /// The frame, given up.
    #[must_use]
    pub fn take_frame(&mut self) -> FrameOut {
        std::mem::take(&mut self.frame)
    }

    /// The whole present state, for members that cannot use a delta. Encoded at each call: encode once, share.
    #[must_use]
    pub fn present(&self) -> FrameOut {
        self.context.present_frame(self.uid, self.held, 0, self.now)
    }
}

impl Context {
    /// A delta: what `attrs` names, all at the record's `top`, for whoever has everything up to `base`.
    pub(crate) fn delta_frame(
        &self,
        uid: Uid,
        record: &Record,
        base: Version,
        attrs: &[AttrOut<'_>],
        over: &[Uid],
        now: Millis,
    ) -> FrameOut {
        encode_session(&SessionOut {
            context: self.name(),
            uid,
            flags: flags::DELTA,
            clock: self.clock(),
            top: record.top,
            exp: record.exp,
            base,
            age_ms: age(now, record.access),
            attrs,
            over,
        })
    }

    /// Everything held for a uid. A partial record's `base` is what its receiver must have besides.
    pub(crate) fn present_frame(&self, uid: Uid, held: Held<'_>, extra_flags: u32, now: Millis) -> FrameOut {
        match held {
            Held::Record(record) => {
                let attrs: SmallVec<[AttrOut<'_>; 8]> = record.attrs().iter().map(attr_out).collect();
                let partial = record.is_partial() && !planted!(AlwaysComplete) || planted!(NeverComplete);
                let complete = if partial { 0 } else { flags::COMPLETE };
                encode_session(&SessionOut {
                    context: self.name(),
                    uid,
                    flags: flags::PRESENT | complete | extra_flags,
                    clock: self.clock(),
                    top: record.top,
                    exp: record.exp,
                    base: record.base(),
                    age_ms: age(now, record.access),
                    attrs: &attrs,
                    over: record.over(),
                })
            }
            Held::Grave(grave) => {
                let names = grave.names().iter().map(|name| AttrOut { key: name, version: Version::ZERO, value: None });
                let attrs: SmallVec<[AttrOut<'_>; 2]> = names.collect();
                encode_session(&SessionOut {
                    context: self.name(),
                    uid,
                    flags: flags::DEAD | extra_flags,
                    clock: self.clock(),
                    top: Version::ZERO,
                    exp: Version::ZERO,
                    base: Version::ZERO,
                    age_ms: age(now, grave.since),
                    attrs: &attrs,
                    over: grave.over(),
                })
            }
        }
    }

    /// The answer "I do not hold it".
    #[must_use]
    pub fn unknown(&self, uid: Uid) -> FrameOut {
        encode_session(&SessionOut {
            context: self.name(),
            uid,
            flags: flags::ANSWER | flags::UNKNOWN,
            clock: self.clock(),
            top: Version::ZERO,
            exp: Version::ZERO,
            base: Version::ZERO,
            age_ms: 0,
            attrs: &[],
            over: &[],
        })
    }
}

pub(crate) fn attr_out(attr: &Attr) -> AttrOut<'_> {
    AttrOut { key: &attr.key, version: attr.version, value: attr.value.as_ref() }
}
