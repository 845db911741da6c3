//! A request's end: from changes to a new version, under the lock of each session that changed.
//!
//! One version for all that a request changed in a session; `base` is the session's `top` before. Every limit is checked before
//! anything changes. A commit to an expired session makes it visible again: a newer access wins over idleness.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::attr::Attr;
use super::context::{Context, Weight};
use super::emit::{Emission, Held, attr_out};
use super::kill::Death;
use super::record::{Effects, Growth, OVER_MAX, Place, Record, compact, signed};
use super::time::{Millis, millis};
use super::{Handle, NAME_BYTES_MAX, key};
use crate::buffer::Slice;
use crate::id::{Time, Uid, Version};
use crate::mark::hit;
use crate::mutant::planted;
use crate::wire::AttrOut;

/// The name of an attribute on its way into a commit: short ones, which most are, cost no allocation.
pub type Name = SmallVec<[u8; 24]>;

/// What a request changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Application attributes: name, value or removal; the last entry for a name counts.
    pub writes: SmallVec<[(Name, Option<Slice>); 2]>,
    /// `writes` is the whole session: what the base has and it lacks is removed, what equals the base is not sent.
    pub full: bool,
    /// The request accessed the session (moves the idle timer, announced coalesced). A write is an access anyway.
    pub touch: bool,
    /// Announce the touch even within the touch interval.
    pub touch_now: bool,
    /// End the session; whatever else changed is dropped.
    pub invalidate: bool,
    /// A new id; the one that the handle was opened with no longer leads to the session.
    pub new_id: Option<Slice>,
    /// The session's own idle time.
    pub max_idle: Option<Duration>,
    /// Nobody is told. The next change that is told carries the whole session, as others could not place a delta; a mere
    /// access makes no version.
    pub silent: bool,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// How it ended.
    pub status: CommitStatus,
    /// The version of the change; `Version::ZERO` where there is none.
    pub version: Version,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus {
    /// Something was emitted.
    Changed,
    /// Nothing to send.
    Unchanged,
    /// The session was gone; nothing changed.
    Ended,
}

/// Why a commit was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// A value is too large: limit, actual.
    ValueTooLarge(usize, usize),
    /// The session would be too large: limit, actual.
    SessionTooLarge(usize, usize),
    /// A name or an id is too long: limit, actual.
    NameTooLong(usize, usize),
    /// An id is empty.
    IdEmpty,
    /// The store holds as much as it may: limit.
    StoreFull(usize),
}

impl std::fmt::Display for CommitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ValueTooLarge(limit, actual) => write!(f, "value of {actual} bytes is over the limit of {limit}"),
            Self::SessionTooLarge(limit, actual) => write!(f, "session of {actual} bytes is over the limit of {limit}"),
            Self::NameTooLong(limit, actual) => write!(f, "name of {actual} bytes is over the limit of {limit}"),
            Self::IdEmpty => f.write_str("the id is empty"),
            Self::StoreFull(limit) => write!(f, "the store holds its limit of {limit} bytes"),
        }
    }
}

impl std::error::Error for CommitError {}

const ENDED: Commit = Commit { status: CommitStatus::Ended, version: Version::ZERO };
const UNCHANGED: Commit = Commit { status: CommitStatus::Unchanged, version: Version::ZERO };

/// One attribute to set or remove.
#[derive(Debug)]
struct Op<'a> {
    kind: u8,
    name: &'a [u8],
    value: Option<Cow<'a, Slice>>,
    /// Every uid of a union gets it; writes go to the lowest alone.
    everywhere: bool,
}

/// Ops that change a record, and where.
type Placed<'a> = SmallVec<[(&'a Op<'a>, Place); 4]>;

/// What a request changed, ready to be applied to each of its uids.
#[derive(Debug)]
struct Plan<'a> {
    ops: SmallVec<[Op<'a>; 4]>,
    touch: bool,
    touch_now: bool,
    silent: bool,
}

impl Context {
    /// Applies a request's changes. `emit` runs under the lock of the session, once per uid that changed, so that two commits
    /// of one session reach each lane in their order; it must not block nor call back into the store.
    ///
    /// The handle gives up what it read, but for a full write, which is compared with it.
    ///
    /// # Errors
    /// A limit would be passed; nothing changed then.
    pub fn commit(
        &self,
        handle: &mut Handle,
        changes: &Changes,
        now: Time,
        emit: &mut dyn FnMut(Emission<'_>),
    ) -> Result<Commit, CommitError> {
        let now = millis(now);
        if changes.invalidate {
            return Ok(self.end(handle, now, emit));
        }
        if !changes.full {
            handle.forget();
        }
        let handle = &*handle;
        let held = if planted!(FullComparedWithHeld) { self.begin_again(handle, now) } else { None };
        let plan = Plan::new(held.as_ref().unwrap_or(handle), changes, self.limits.value_bytes_max)?;
        if !handle.exists() {
            return Ok(if plan.ops.is_empty() { UNCHANGED } else { hit!(WriteToNothing => ENDED) });
        }
        if handle.is_new()
            && let Some(commit) = self.commit_new(handle, changes.new_id.as_ref(), &plan, now, emit)?
        {
            return Ok(commit);
        }
        let mut first = None;
        let named = planted!(WriteFollowsName).then(|| self.names.uids(handle.id()));
        for &uid in named.as_deref().unwrap_or_else(|| handle.uids()) {
            let commit = self.commit_held(uid, &plan, first.is_none(), now, emit)?;
            if commit.status != CommitStatus::Ended {
                let earlier = first.get_or_insert(commit);
                if earlier.status == CommitStatus::Unchanged {
                    *earlier = commit;
                }
            }
        }
        Ok(first.unwrap_or(ENDED))
    }

    /// Kills what the handle sees, and every create that is pending under its id.
    fn end(&self, handle: &Handle, now: Millis, emit: &mut dyn FnMut(Emission<'_>)) -> Commit {
        self.names.kill_pending(handle.id());
        let mut killed = false;
        for &uid in handle.uids().iter().take(if planted!(KillNotOverUnion) { 1 } else { usize::MAX }) {
            killed |= self.kill_held(uid, now, emit);
        }
        match (killed, handle.is_new() || !handle.exists()) {
            (true, _) => Commit { status: CommitStatus::Changed, version: Version::ZERO },
            (false, true) => UNCHANGED,
            (false, false) => hit!(KillOfTheDead => ENDED),
        }
    }

    /// The first commit of a create; `None` when an earlier one was it.
    fn commit_new(
        &self,
        handle: &Handle,
        new_id: Option<&Slice>,
        plan: &Plan<'_>,
        now: Millis,
        emit: &mut dyn FnMut(Emission<'_>),
    ) -> Result<Option<Commit>, CommitError> {
        // What is new has one.
        let [uid] = *handle.uids() else { return Ok(Some(ENDED)) };
        let id = new_id.map_or_else(|| handle.id(), Slice::as_bytes);
        check_id(id)?;
        let expired = self.expired_under(id, uid, now);
        let cell = self.cell(uid);
        let mut guard = cell.lock.write();
        let shard = &mut *guard;
        if shard.records.get(uid).is_some() {
            return Ok(None);
        }
        let rises = planted!(KilledCreateRises);
        if !rises && (shard.graves.get(uid).is_some() || !self.names.is_pending(handle.id(), uid)) {
            return Ok(Some(hit!(KilledBeforeCommit => ENDED)));
        }

        let version = self.next_version();
        let mut record = Record::new(uid);
        let mut effects = Effects::default();
        record.put(key::NAME, id, version, Some(Slice::empty()), &mut effects);
        for op in plan.ops.iter().filter(|op| op.kind != key::NAME && op.value.is_some()) {
            record.put(op.kind, op.name, version, op.value.as_deref().map(compact), &mut effects);
        }
        record.write(version);
        record.untold = plan.silent;
        record.unite_over(expired.iter().copied().chain(self.names.dead(id)));
        (record.access, record.here, record.announced) = (now, now, now);
        if record.payload() > self.limits.session_bytes_max {
            let actual = record.payload();
            return Err(hit!(CreateTooLarge => CommitError::SessionTooLarge(self.limits.session_bytes_max, actual)));
        }
        let reserved = signed(record.bytes());
        if !self.totals.reserve(reserved) {
            return Err(hit!(CreateIntoFullStore => CommitError::StoreFull(self.limits.store_bytes_max)));
        }
        // Under its name first: whoever kills by name from here on finds it, and waits for this lock.
        self.index(uid, &effects);
        if !self.names.remove_pending(handle.id(), uid) && !rises {
            self.names.remove(id, uid);
            self.totals.adjust(-reserved);
            return Ok(Some(ENDED));
        }

        let record = Arc::make_mut(shard.records.insert(Arc::new(record)));
        self.settle(Weight::default(), Weight::of(record), reserved);
        cell.schedule(&mut shard.queue, uid, record, record.deadline(self.me, &self.spans));
        let frame = {
            let attrs: SmallVec<[AttrOut<'_>; 4]> = record.attrs().iter().map(attr_out).collect();
            self.delta_frame(uid, record, Version::ZERO, &attrs, record.over(), now)
        };
        emit(Emission::new(self, uid, frame, Held::Record(record), now));
        drop(guard);

        // The others hear of these deaths with the create itself.
        for old in expired {
            self.kill(old, &Death { since: now, names: &[], over: &[], unknown: false }, now, None);
        }
        Ok(Some(Commit { status: CommitStatus::Changed, version }))
    }

    /// Uids under a name that no reader sees any more: expired, or idle for so long that they will be.
    fn expired_under(&self, id: &[u8], except: Uid, now: Millis) -> SmallVec<[Uid; 2]> {
        let mut expired = SmallVec::new();
        for uid in self.names.uids(id) {
            if uid == except || expired.len() == OVER_MAX || planted!(CreateForgetsExpired) {
                continue;
            }
            let shard = self.cell(uid).lock.read();
            if shard.records.get(uid).is_some_and(|r| r.is_expired() || r.is_idle(now, self.me, &self.spans)) {
                expired.push(uid);
            }
        }
        expired
    }

    /// Applies the plan to one uid.
    fn commit_held(
        &self,
        uid: Uid,
        plan: &Plan<'_>,
        lead: bool,
        now: Millis,
        emit: &mut dyn FnMut(Emission<'_>),
    ) -> Result<Commit, CommitError> {
        let cell = self.cell(uid);
        let mut guard = cell.lock.write();
        let shard = &mut *guard;
        if planted!(HandleRecreates) && shard.records.get(uid).is_none() && shard.graves.get(uid).is_none() {
            Arc::make_mut(shard.records.insert(Arc::new(Record::new(uid)))).write(self.next_version());
        }
        let Some(record) = shard.records.get_mut(uid) else { return Ok(hit!(HandleOfTheGone => ENDED)) };
        if record.is_expired() && !record.has_content() {
            return Ok(hit!(HandleOfTheShed => ENDED));
        }

        let ops = plan.ops.iter().filter(|op| lead || op.everywhere).map(|op| (op, record.find(op.kind, op.name)));
        let ops: Placed<'_> = ops.filter(|(op, place)| op.applies(place.ok().map(|at| &record.attrs()[at]))).collect();
        let reserved = self.reserve(record, &ops, lead)?;
        let record = Arc::make_mut(record);
        let (before, base, revived) = (Weight::of(record), record.top, record.is_expired());
        if plan.touch || !ops.is_empty() {
            (record.access, record.here) = (now, now);
        }
        let is_due =
            plan.touch_now || !planted!(TouchNotAnnounced) && now.saturating_sub(record.announced) >= self.spans.touch;
        let announce = plan.touch && (revived || (is_due && !plan.silent));
        if ops.is_empty() && !announce {
            return Ok(UNCHANGED);
        }
        // A partial holder cannot make up for what it did not tell; whoever is asked for the rest can.
        let whole = (revived || record.untold) && !record.is_partial();
        record.untold = plan.silent || (record.untold && !whole);
        if !plan.silent {
            record.announced = now;
        }
        let version = self.next_version();
        let mut effects = Effects::default();
        let mut moved = false;
        for (op, place) in &ops {
            let place = if moved { record.find(op.kind, op.name) } else { *place };
            moved |= place.is_err();
            record.put_at(place, op.kind, op.name, version, op.value.as_deref().map(compact), &mut effects);
        }
        record.write(version);
        self.index(uid, &effects);
        self.settle(before, Weight::of(record), reserved);
        cell.schedule(&mut shard.queue, uid, record, record.deadline(self.me, &self.spans));

        let frame = if whole {
            // Others may have dropped the attributes of an expired session, and lack what they were not told.
            self.present_frame(uid, Held::Record(record), 0, now)
        } else {
            let places = ops.iter().map(|(op, place)| if moved { record.find(op.kind, op.name) } else { *place });
            let attrs: SmallVec<[AttrOut<'_>; 4]> = places.flatten().map(|at| attr_out(&record.attrs()[at])).collect();
            self.delta_frame(uid, record, base, &attrs, &[], now)
        };
        emit(Emission::new(self, uid, frame, Held::Record(record), now));
        drop(guard);
        drop(effects);
        Ok(Commit { status: CommitStatus::Changed, version })
    }

    /// Checks the limits of a session and of the store, and sets the growth aside. The other uids of a union get no values;
    /// they are past refusing, as the first has changed.
    fn reserve(&self, record: &Record, ops: &[(&Op<'_>, Place)], lead: bool) -> Result<isize, CommitError> {
        let mut growth = Growth::default();
        for (op, place) in ops {
            let value = op.value.as_deref().map(|v| (v.len(), v.allocated()));
            let one = record.growth(*place, op.kind, op.name, value);
            growth.bytes += one.bytes;
            growth.payload += one.payload;
        }
        if !lead {
            self.totals.adjust(growth.bytes.max(0));
            return Ok(growth.bytes);
        }
        let payload = signed(record.payload()) + growth.payload;
        if growth.payload > 0 && payload > signed(self.limits.session_bytes_max) {
            let actual = payload.unsigned_abs();
            return Err(hit!(SessionTooLarge => CommitError::SessionTooLarge(self.limits.session_bytes_max, actual)));
        }
        if !self.totals.reserve(growth.bytes) {
            return Err(hit!(StoreFull => CommitError::StoreFull(self.limits.store_bytes_max)));
        }
        Ok(growth.bytes)
    }
}

impl Op<'_> {
    /// Whether it changes what is held. Setting an attribute always does, even to what it is: the application said so.
    fn applies(&self, held: Option<&Attr>) -> bool {
        let held = held.and_then(|attr| attr.value.as_ref());
        match (self.value.as_deref(), self.kind) {
            (None, _) => held.is_some(),
            (Some(_), key::NAME) => held.is_none(),
            (Some(value), key::IDLE) => held != Some(value),
            (Some(_), _) => true,
        }
    }
}

impl<'a> Plan<'a> {
    /// Checks names and values and finds what differs.
    fn new(handle: &'a Handle, changes: &'a Changes, value_bytes_max: usize) -> Result<Self, CommitError> {
        let mut ops: SmallVec<[Op<'a>; 4]> = SmallVec::new();
        for (name, value) in &changes.writes {
            if name.len() > NAME_BYTES_MAX {
                return Err(hit!(AttributeNameTooLong => CommitError::NameTooLong(NAME_BYTES_MAX, name.len())));
            }
            let len = value.as_ref().map_or(0, |v| v.len());
            if len > value_bytes_max {
                return Err(hit!(ValueTooLarge => CommitError::ValueTooLarge(value_bytes_max, len)));
            }
            let value = value.as_ref().map(Cow::Borrowed);
            ops.push(Op {
                kind: key::ATTR,
                name,
                everywhere: value.is_none() && !planted!(RemovalNotOverUnion),
                value,
            });
        }
        keep_last(&mut ops);
        if changes.full {
            compare(&mut ops, handle);
        }
        if let Some(new) = &changes.new_id {
            check_id(new)?;
            if new.as_bytes() != handle.id() {
                ops.push(Op { kind: key::NAME, name: new, value: Some(Cow::Owned(Slice::empty())), everywhere: true });
                if !planted!(ChangeIdKeepsOldName) {
                    ops.push(Op { kind: key::NAME, name: handle.id(), value: None, everywhere: true });
                }
            }
        }
        if let Some(idle) = changes.max_idle {
            let ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
            let value = Some(Cow::Owned(Slice::copy_from(&ms.to_le_bytes())));
            ops.push(Op { kind: key::IDLE, name: &[], value, everywhere: true });
        }
        let touch = changes.touch || changes.touch_now || changes.full;
        Ok(Self { ops, touch, touch_now: changes.touch_now, silent: changes.silent })
    }
}

fn check_id(id: &[u8]) -> Result<(), CommitError> {
    match id.len() {
        0 => Err(hit!(IdEmpty => CommitError::IdEmpty)),
        len if len > NAME_BYTES_MAX => Err(hit!(IdTooLong => CommitError::NameTooLong(NAME_BYTES_MAX, len))),
        _ => Ok(()),
    }
}

/// Sorts by name; of several entries for one name the last stays.
fn keep_last(ops: &mut SmallVec<[Op<'_>; 4]>) {
    if ops.len() > 1 {
        ops.reverse();
        ops.sort_by(|a, b| a.name.cmp(b.name));
        ops.dedup_by(|later, earlier| later.name == earlier.name);
    }
}

/// Compares the whole session, sorted by name, with what the handle read: what is equal goes, what is missing is removed.
fn compare<'a>(ops: &mut SmallVec<[Op<'a>; 4]>, handle: &'a Handle) {
    let base = handle.base();
    let missing: SmallVec<[&'a [u8]; 4]> = base
        .iter()
        .filter(|attr| attr.value.is_some())
        .map(|attr| attr.name())
        .filter(|name| ops.binary_search_by(|op| op.name.cmp(name)).is_err())
        .collect();
    ops.retain(|op| match base.binary_search_by(|attr| attr.name().cmp(op.name)) {
        Ok(at) => base[at].value.as_ref() != op.value.as_deref(),
        Err(_) => op.value.is_some(),
    });
    ops.extend(missing.into_iter().map(|name| Op { kind: key::ATTR, name, value: None, everywhere: true }));
}
