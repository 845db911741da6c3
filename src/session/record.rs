//! The record of one uid: a join-semilattice, and beside it what this node alone knows.
//!
//! Merged state is the attributes (per key the higher version), `top`, `exp` and `over` (maximum, maximum, union). It only
//! ever grows in that order, so any order, duplication or regrouping of what arrives gives the same result. Ages,
//! timers and the knowledge of being partial are local and never decide between two values.
//!
//! **Partial.** Everything that is merged makes a claim (`base`, `top`): who has all up to `base` and merges this has all up to
//! `top`. A delta claims from its writer's `top` before, a create and a complete present state from zero. `whole` is how far
//! this record is known to have everything, `need` the highest base that was not met; the record is partial while `need > whole`.
//!
//! A tombstone ([`Grave`]) absorbs a record: it keeps only what killing needs (names, `over`, the time of death).

use std::sync::Arc;

use smallvec::SmallVec;

use super::attr::{Attr, Key};
use super::digest::{self, Standing};
use super::key;
use super::time::{LONG_AGO, Millis, NEVER, Spans};
use crate::buffer::Slice;
use crate::id::{MemberId, Uid, Version};
use crate::mutant::planted;
use crate::wire::AttrView;

/// A live (or expired) session.
///
/// What a look-up asks for comes first, so that it costs few cache lines.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) uid: Uid,
    /// Highest version seen: writes and touches.
    pub(crate) top: Version,
    /// The `top` that an expirer saw; the record is expired while it is not below `top`.
    pub(crate) exp: Version,
    /// Everything up to this version is here.
    whole: Version,
    /// Highest base that was not met.
    need: Version,
    /// Whether it was whole once; lifting serves it again then.
    ever_whole: bool,
    /// Whether there are changes made here that nobody was told.
    pub(crate) untold: bool,
    /// Last access that this node knows of.
    pub(crate) access: Millis,
    /// The session's own idle time; negative: the context's.
    own_idle: Millis,
    /// Sorted by key.
    attrs: SmallVec<[Attr; 2]>,
    /// Last access by a request of this node.
    pub(crate) here: Millis,
    /// Last access that the other members were told.
    pub(crate) announced: Millis,
    /// The tick under which the expiry queue holds it.
    pub(crate) queued: u64,
    /// Cached: bytes that attributes and `over` occupy, and their plain lengths.
    bytes: usize,
    payload: usize,
    /// The sum over attributes and `over`, for digests.
    sum: u64,
    over: Over,
    /// When this node saw it expire.
    pub(crate) expired_at: Millis,
}

/// What a mutation leaves for its caller: index changes, and memory to free once the lock is gone.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Names (as internal keys) that now lead here, or no longer do.
    pub(crate) names: SmallVec<[(Key, bool); 2]>,
    /// Values that were replaced.
    pub(crate) trash: SmallVec<[Slice; 4]>,
}

/// What a merge changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    /// An application's attribute or a reserved one.
    pub(crate) attrs: bool,
    /// Anything, `top`, `exp`, `over` and partiality included.
    pub(crate) any: bool,
}

/// What arrives for a record, apart from its attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) base: Version,
    pub(crate) top: Version,
    pub(crate) exp: Version,
    /// Whether it may fill a gap; a partial holder's present state may not.
    pub(crate) fills: bool,
}

/// Where an attribute is, or belongs; good until one is inserted or dropped.
pub(crate) type Place = Result<usize, usize>;

/// How much a record would grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) bytes: isize,
    pub(crate) payload: isize,
}

impl Record {
    pub(crate) fn new(uid: Uid) -> Self {
        Self {
            uid,
            attrs: SmallVec::new(),
            top: Version::ZERO,
            exp: Version::ZERO,
            over: Over::default(),
            whole: Version::ZERO,
            need: Version::ZERO,
            ever_whole: false,
            untold: false,
            access: LONG_AGO,
            here: LONG_AGO,
            announced: LONG_AGO,
            expired_at: LONG_AGO,
            own_idle: -1,
            queued: u64::MAX,
            bytes: 0,
            payload: 0,
            sum: 0,
        }
    }

    /// Joins what arrived. `load` makes the kept slice of a value.
    pub(crate) fn join<'a>(
        &mut self,
        claim: &Claim,
        attrs: impl Iterator<Item = AttrView<'a>>,
        over: impl Iterator<Item = Uid>,
        load: impl Fn((usize, usize)) -> Slice,
        effects: &mut Effects,
    ) -> Joined {
        let mut joined = Joined::default();
        for attr in attrs {
            let Some((&kind, name)) = attr.key.split_first() else { continue };
            match self.find(kind, name) {
                Ok(at)
                    if self.attrs[at].version >= attr.version
                        && !(planted!(SnapshotOverwrites) && claim.base == Version::ZERO) => {}
                found => {
                    let value = attr.value.map(&load);
                    self.put_at(found, kind, name, attr.version, value, effects);
                    joined.attrs = true;
                }
            }
        }
        let before = (self.top, self.exp, self.is_partial());
        self.need = self.need.max(claim.base);
        if claim.fills && claim.base <= self.whole {
            self.whole = self.whole.max(claim.top);
        }
        self.top = self.top.max(claim.top);
        let overrules = planted!(ExpiryUnconditional) && claim.exp > self.exp;
        self.exp = self.exp.max(if overrules { self.top } else { claim.exp });
        self.settle_whole();
        let more = self.unite_over(over);
        joined.any = joined.attrs || more || before != (self.top, self.exp, self.is_partial());
        joined
    }

    /// Makes `version`, written here, the new `top`.
    pub(crate) fn write(&mut self, version: Version) {
        debug_assert!(version > self.top, "a version is drawn above everything merged");
        let partial = self.is_partial();
        self.top = version;
        if !partial {
            self.whole = version;
            self.settle_whole();
        }
    }

    /// Sets or removes an attribute, whatever version it has.
    pub(crate) fn put(&mut self, kind: u8, name: &[u8], version: Version, value: Option<Slice>, effects: &mut Effects) {
        let found = self.find(kind, name);
        self.put_at(found, kind, name, version, value, effects);
    }

    /// How much a value of this length and memory would add at its place: exact for the payload, an estimate for the bytes.
    pub(crate) fn growth(&self, place: Place, kind: u8, name: &[u8], value: Option<(usize, usize)>) -> Growth {
        let (len, allocated) = value.unwrap_or((0, 0));
        let counts = isize::from(kind == key::ATTR);
        match place {
            Ok(at) => {
                let old = self.attrs[at].value.as_ref();
                Growth {
                    bytes: signed(allocated) - signed(old.map_or(0, Slice::allocated)),
                    payload: counts * (signed(len) - signed(old.map_or(0, |v| v.len()))),
                }
            }
            Err(_) => Growth {
                bytes: signed(allocated + name.len() + KEY_BYTES + size_of::<Attr>()),
                payload: counts * signed(len + name.len()),
            },
        }
    }

    /// Expires it: what `top` says now counts no longer.
    pub(crate) fn expire(&mut self, now: Millis) {
        self.exp = self.top;
        self.expired_at = now;
    }

    /// Drops the application's attributes of an expired record. It stays, partial, and knows its names.
    pub(crate) fn shed(&mut self, effects: &mut Effects) {
        let at = self.attrs.partition_point(|a| a.key[0] <= key::ATTR);
        for attr in self.attrs.drain(..at) {
            self.bytes -= attr.bytes();
            self.payload -= attr.payload();
            self.sum = self.sum.wrapping_sub(digest::term(&attr));
            effects.trash.extend(attr.value);
        }
        let before = spilled(&self.attrs);
        self.attrs.shrink_to_fit();
        self.bytes = self.bytes - before + spilled(&self.attrs);
        self.whole = Version::ZERO;
        self.need = self.top;
        self.ever_whole = false;
    }

    /// Serves a partial record again that was whole once. False when it never was.
    pub(crate) fn lift(&mut self) -> bool {
        let serves = self.ever_whole || planted!(LiftNeverWhole);
        if serves {
            self.need = Version::ZERO;
            self.whole = self.top;
        }
        serves
    }

    /// Adds to `over`; true when something was new.
    pub(crate) fn unite_over(&mut self, uids: impl Iterator<Item = Uid>) -> bool {
        let (before, sum) = (self.over.bytes(), digest::over_sum(&self.over.0));
        let more = self.over.unite(uids);
        if more {
            self.bytes = self.bytes - before + self.over.bytes();
            self.sum = self.sum.wrapping_sub(sum).wrapping_add(digest::over_sum(&self.over.0));
        }
        more
    }

    /// Every attribute, removals included, sorted by key.
    pub(crate) fn attrs(&self) -> &[Attr] {
        &self.attrs
    }

    pub(crate) fn get(&self, kind: u8, name: &[u8]) -> Option<&Attr> {
        self.find(kind, name).ok().map(|at| &self.attrs[at])
    }

    /// Whether the key is set (held and not removed).
    pub(crate) fn has(&self, kind: u8, name: &[u8]) -> bool {
        self.get(kind, name).is_some_and(|a| a.value.is_some())
    }

    /// Attributes of one kind, removals included.
    pub(crate) fn of_kind(&self, kind: u8) -> &[Attr] {
        let from = if kind == key::ATTR { 0 } else { self.attrs.partition_point(|a| a.key[0] < kind) };
        let to = from + self.attrs[from..].partition_point(|a| a.key[0] == kind);
        &self.attrs[from..to]
    }

    /// The first name that leads here.
    pub(crate) fn id(&self) -> Option<&Key> {
        self.of_kind(key::NAME).iter().find(|a| a.value.is_some()).map(|a| &a.key)
    }

    pub(crate) fn over(&self) -> &[Uid] {
        &self.over.0
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.exp >= self.top
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.need > self.whole
    }

    pub(crate) fn whole_up_to(&self) -> Version {
        self.whole
    }

    pub(crate) fn was_whole(&self) -> bool {
        self.ever_whole
    }

    /// The sum over attributes and `over`.
    #[cfg(test)]
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// What is held, as a number that two members can compare.
    pub(crate) fn fingerprint(&self) -> u64 {
        let standing = match (self.is_expired(), self.is_partial()) {
            (true, _) => Standing::Expired,
            (false, true) => Standing::Partial,
            (false, false) => Standing::Whole,
        };
        digest::fingerprint(self.uid, standing, self.top, self.sum)
    }

    /// What a receiver must already have for this record's present state to be enough.
    pub(crate) fn base(&self) -> Version {
        if self.is_partial() { self.need } else { Version::ZERO }
    }

    /// Whether there is anything of the application's left to drop.
    pub(crate) fn has_content(&self) -> bool {
        self.attrs.first().is_some_and(|a| a.is(key::ATTR)) || self.ever_whole
    }

    pub(crate) fn idle(&self, spans: &Spans) -> Millis {
        if self.own_idle < 0 { spans.idle } else { self.own_idle }
    }

    /// Idle time after which `me` counts it as expired: the writer of `top` at once, others after the grace.
    pub(crate) fn idle_here(&self, me: MemberId, spans: &Spans) -> Millis {
        let grace = if self.top.member == me { 0 } else { spans.grace };
        self.idle(spans).saturating_add(grace)
    }

    /// Whether its idle time has passed here, announced or not.
    pub(crate) fn is_idle(&self, now: Millis, me: MemberId, spans: &Spans) -> bool {
        now.saturating_sub(self.access) > self.idle_here(me, spans)
    }

    /// What a reader sees: whole, not expired, in use.
    pub(crate) fn is_visible(&self, now: Millis, me: MemberId, spans: &Spans) -> bool {
        (!self.is_partial() || planted!(PartialServed)) && !self.is_expired() && !self.is_idle(now, me, spans)
    }

    /// When a timer next has to look at it.
    pub(crate) fn deadline(&self, me: MemberId, spans: &Spans) -> Millis {
        if !self.is_expired() {
            let idle = self.idle_here(me, spans);
            if idle == NEVER { NEVER } else { self.access.saturating_add(idle) }
        } else if self.has_content() {
            self.expired_at.saturating_add(spans.grace)
        } else {
            self.forget_at(spans)
        }
    }

    /// When an expired record goes. It counts from the last access, which travels, so that a hop does not restart it.
    pub(crate) fn forget_at(&self, spans: &Spans) -> Millis {
        self.access.saturating_add(self.idle(spans)).saturating_add(spans.horizon)
    }

    /// Bytes that it occupies.
    pub(crate) fn bytes(&self) -> usize {
        RECORD_BYTES + self.bytes
    }

    /// Plain lengths of names and values, what the session's limit counts.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    /// The same as [`bytes`](Self::bytes), counted again.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        RECORD_BYTES + self.attrs.iter().map(Attr::bytes).sum::<usize>() + spilled(&self.attrs) + self.over.bytes()
    }

    fn settle_whole(&mut self) {
        if self.need <= self.whole {
            self.whole = self.top;
            self.ever_whole = true;
        }
    }

    /// The place of a key.
    pub(crate) fn find(&self, kind: u8, name: &[u8]) -> Place {
        self.attrs.binary_search_by(|a| a.key[0].cmp(&kind).then_with(|| a.name().cmp(name)))
    }

    /// Sets or removes an attribute at the place of its key.
    pub(crate) fn put_at(
        &mut self,
        place: Place,
        kind: u8,
        name: &[u8],
        version: Version,
        value: Option<Slice>,
        effects: &mut Effects,
    ) {
        let (at, was) = match place {
            Ok(at) => {
                let attr = &mut self.attrs[at];
                self.bytes -= attr.bytes();
                self.payload -= attr.payload();
                self.sum = self.sum.wrapping_sub(digest::term(attr));
                let was = attr.value.is_some();
                effects.trash.extend(std::mem::replace(&mut attr.value, value));
                attr.version = version;
                (at, was)
            }
            Err(at) => {
                let before = spilled(&self.attrs);
                self.attrs.insert(at, Attr { key: Key::new(kind, name), version, value });
                self.bytes = self.bytes - before + spilled(&self.attrs);
                (at, false)
            }
        };
        let attr = &self.attrs[at];
        self.bytes += attr.bytes();
        self.payload += attr.payload();
        self.sum = self.sum.wrapping_add(digest::term(attr));
        match kind {
            key::NAME if was != attr.value.is_some() => {
                effects.names.push((attr.key.clone(), attr.value.is_some()));
            }
            key::IDLE => self.own_idle = attr.value.as_ref().map_or(-1, |v| idle_from(v)),
            _ => {}
        }
    }
}

/// A tombstone: it absorbs whatever arrives for its uid.
#[derive(Clone, Debug)]
pub(crate) struct Grave {
    pub(crate) uid: Uid,
    /// Internal keys of every name that the session was seen under, so that a later create under one of them lists the uid.
    names: SmallVec<[Key; 1]>,
    over: Over,
    /// Time of death; a hop carries its age and does not restart it.
    pub(crate) since: Millis,
}

impl Grave {
    pub(crate) fn new(uid: Uid, since: Millis) -> Self {
        Self { uid, names: SmallVec::new(), over: Over::default(), since }
    }

    /// What a record leaves behind: its present names first, then those that it had.
    pub(crate) fn of(record: &Record, since: Millis) -> Self {
        let names = record.of_kind(key::NAME);
        let (set, removed) = (names.iter().filter(|a| a.value.is_some()), names.iter().filter(|a| a.value.is_none()));
        let names = set.chain(removed).take(NAMES_MAX).map(|a| a.key.clone()).collect();
        Self { uid: record.uid, names, over: record.over.clone(), since }
    }

    /// Adds a name (internal key); true when it is new.
    pub(crate) fn add_name(&mut self, key: &[u8]) -> bool {
        let new = self.names.len() < NAMES_MAX && !self.names.iter().any(|n| **n == *key);
        if new {
            self.names.extend(Key::of(key));
        }
        new
    }

    pub(crate) fn unite_over(&mut self, uids: impl Iterator<Item = Uid>) -> bool {
        self.over.unite(uids)
    }

    pub(crate) fn names(&self) -> &[Key] {
        &self.names
    }

    pub(crate) fn over(&self) -> &[Uid] {
        &self.over.0
    }

    /// Bytes that it occupies.
    pub(crate) fn bytes(&self) -> usize {
        let heap = if self.names.spilled() { self.names.capacity() * size_of::<Key>() } else { 0 };
        GRAVE_BYTES + heap + self.names.iter().map(Key::allocated).sum::<usize>() + self.over.bytes()
    }
}

/// The uids that a create killed: sorted, the newest [`OVER_MAX`]. Keeping the newest of a union is itself a join.
#[derive(Clone, Debug, Default)]
struct Over(Box<[Uid]>);

impl Over {
    fn unite(&mut self, uids: impl Iterator<Item = Uid>) -> bool {
        let mut all: SmallVec<[Uid; OVER_MAX]> = SmallVec::new();
        for uid in uids {
            if !self.0.contains(&uid) && !all.contains(&uid) {
                all.push(uid);
            }
        }
        if all.is_empty() {
            return false;
        }
        all.extend_from_slice(&self.0);
        all.sort_unstable();
        let newest = &all[all.len().saturating_sub(OVER_MAX)..];
        let changed = *newest != *self.0;
        if changed {
            self.0 = newest.into();
        }
        changed
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Most uids that a create lists; beyond it the newest count, as the kills of the others have had as many creates' time to arrive.
pub(crate) const OVER_MAX: usize = 16;
/// Most names that a tombstone keeps.
const NAMES_MAX: usize = 16;

/// A record beside its attributes: itself and its counts, its slot in a table filled to 7/8 at most, its place in the expiry queue.
const RECORD_BYTES: usize = size_of::<[usize; 2]>() + size_of::<Record>() + 2 * (size_of::<Arc<Record>>() + 1) + 16;
/// A tombstone beside its names: its slot, and its place in the order of deaths.
const GRAVE_BYTES: usize = 2 * (size_of::<Grave>() + 1) + 48;
/// What a key costs beside its name: kind byte, slice header, rounding.
const KEY_BYTES: usize = 64;

/// A value to keep: copied when it would pin an allocation much larger than itself.
pub(crate) fn compact(value: &Slice) -> Slice {
    if value.allocated() > 2 * value.len() + 256 { Slice::copy_from(value) } else { value.clone() }
}

/// The own idle time in an attribute; anything but eight bytes says nothing.
fn idle_from(value: &[u8]) -> Millis {
    <[u8; 8]>::try_from(value).map_or(-1, |bytes| Millis::try_from(u64::from_le_bytes(bytes)).unwrap_or(NEVER))
}

fn spilled(attrs: &SmallVec<[Attr; 2]>) -> usize {
    if attrs.spilled() { attrs.capacity() * size_of::<Attr>() } else { 0 }
}

pub(crate) fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}
