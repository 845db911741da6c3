//! CONTRACT (to be implemented): the replicated data, a map that merges.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::buffer::Slice;
use crate::id::{MemberId, Time, Uid, Version};
use crate::wire::{FrameOut, RefusedCode, SessionView};

/// Caps of a store; every one is checked before anything changes.
#[derive(Clone, Copy, Debug)]
pub struct Limits { pub value_bytes_max: usize, pub session_bytes_max: usize, pub store_bytes_max: usize, pub tombstones_max: usize, pub contexts_max: usize }

/// Replication settings of one context.
#[derive(Clone, Copy, Debug)]
pub struct Settings { pub max_idle: Duration, pub idle_grace: Duration, pub touch_interval: Duration, /// How long tombstones live.
    pub horizon: Duration }

/// Internal attribute keys: a kind byte, then the name.
pub mod key {
    /// An application's attribute.
    pub const ATTR: u8 = b'a';
    /// A name (id) of the session; its value is empty.
    pub const NAME: u8 = b'n';
    /// The session's own max idle time, u64 LE milliseconds.
    pub const IDLE: u8 = b'i';
}

/// All contexts of a node. Thread-safe.
#[derive(Debug)]
pub struct Store { _p: () }
impl Store {
    /// `seed` keys the hash tables.
    pub fn new(_me: MemberId, _limits: Limits, _settings: Settings, _seed: u64) -> Self { todo!() }
    /// Opens or makes the context.
    pub fn context(&self, _name: &[u8]) -> Result<Arc<Context>, StoreError> { todo!() }
    pub fn find(&self, _name: &[u8]) -> Option<Arc<Context>> { todo!() }
    pub fn contexts(&self) -> Vec<Arc<Context>> { todo!() }
    /// Live (visible or partial, not dead) sessions.
    pub fn sessions(&self) -> usize { todo!() }
    pub fn tombstones(&self) -> usize { todo!() }
    /// Bytes held: values, keys, records, tombstones.
    pub fn bytes(&self) -> usize { todo!() }
}

/// One web application's sessions.
#[derive(Debug)]
pub struct Context { _p: () }
impl Context {
    pub fn name(&self) -> &[u8] { todo!() }
    pub fn settings(&self) -> Settings { todo!() }
    /// Present Lamport counter.
    pub fn clock(&self) -> u64 { todo!() }
    pub fn sessions(&self) -> usize { todo!() }
    /// One attribute of the visible session(s) under `id`, without copying the value.
    pub fn read(&self, _id: &[u8], _name: &[u8], _now: Time) -> Option<(Version, Slice)> { todo!() }
    /// What a request sees: the handle holds every live uid under `id`, and the (key -> version, value) base that it read; empty when there is none.
    pub fn begin(self: &Arc<Self>, _id: &[u8], _now: Time) -> Handle { todo!() }
    /// Gives an empty handle a fresh uid; the session exists from the commit on. A kill by name on this node before the commit ends it.
    pub fn create(&self, _handle: &mut Handle) { todo!() }
    /// Applies a request's changes. `emit` runs under the lock of the session, once per uid that changed, so that two commits
    /// of one session reach each lane in their order; it must not block nor call back into the store.
    pub fn commit(&self, _handle: &Handle, _changes: &Changes, _now: Time, _emit: &mut dyn FnMut(&Emission<'_>)) -> Result<Commit, CommitError> { todo!() }
    /// Kills every uid under the name, live or pending. Returns how many.
    pub fn invalidate(&self, _id: &[u8], _now: Time, _emit: &mut dyn FnMut(&Emission<'_>)) -> usize { todo!() }
    /// Merges a received frame. An error is the reason for the ack; nothing changed then.
    pub fn merge(&self, _incoming: &SessionView<'_>, _now: Time) -> Result<Merged, RefusedCode> { todo!() }
    /// Present state of a uid (a tombstone too), extra flags or'ed in; `None` when not held.
    pub fn present(&self, _uid: Uid, _extra_flags: u32, _now: Time) -> Option<FrameOut> { todo!() }
    /// The answer "I do not hold it".
    pub fn unknown(&self, _uid: Uid) -> FrameOut { todo!() }
    /// Rescue: a new touch version on a session in use that another member expired; emits its PRESENT state.
    pub fn rescue(&self, _uid: Uid, _now: Time, _emit: &mut dyn FnMut(&Emission<'_>)) { todo!() }
    /// Every member answered and none had it whole: serve again if ever complete, else drop. True when it serves.
    pub fn lift(&self, _uid: Uid, _now: Time) -> bool { todo!() }
    pub fn is_partial(&self, _uid: Uid) -> bool { todo!() }
    /// Whether a live record has this uid (partial included).
    pub fn holds(&self, _uid: Uid) -> bool { todo!() }
    /// Timers: expires what is due (emitting), drops attributes of long expired records (only when `whole_for` — how long every
    /// known member has been in view and repaired — is at least the grace), buries tombstones past the horizon. Does at most `budget` records; returns ended sessions' names.
    pub fn sweep(&self, _now: Time, _whole_for: Option<Duration>, _budget: usize, _emit: &mut dyn FnMut(&Emission<'_>)) -> Swept { todo!() }
    /// Earliest time that `sweep` has something to do.
    pub fn next_due(&self) -> Option<Time> { todo!() }
    /// Emits present states (tombstones too) from the cursor on, until about `budget` bytes; true when all were seen.
    /// Anything held when the scan started and still held is emitted.
    pub fn scan(&self, _cursor: &mut Cursor, _budget: usize, _now: Time, _emit: &mut dyn FnMut(Uid, FrameOut)) -> bool { todo!() }
    /// Everything held, as comparable values, for tests and the simulator: uid -> dump.
    pub fn dump(&self) -> Vec<(Uid, RecordDump)> { todo!() }
}

/// A snapshot of one record for checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDump { pub dead: bool, pub partial: bool, pub top: Version, pub exp: Version, /// key, version, value (`None`: removed)
    pub attrs: Vec<(Vec<u8>, Version, Option<Vec<u8>>)> }

/// Where a scan stands.
#[derive(Debug, Default)]
pub struct Cursor { _p: () }

/// What was swept.
#[derive(Debug, Default)]
pub struct Swept { pub expired: usize, pub buried: usize, /// (ids) of sessions that ended here, for events
    pub ended: Vec<Slice>, /// Whether the budget ran out.
    pub more: bool }

/// What a request read: identity and base.
#[derive(Clone, Debug)]
pub struct Handle { _p: () }
impl Handle {
    pub fn id(&self) -> &[u8] { todo!() }
    pub fn uids(&self) -> &[Uid] { todo!() }
    /// Whether a session existed, or was created since.
    pub fn exists(&self) -> bool { todo!() }
    pub fn is_new(&self) -> bool { todo!() }
    /// Value of an application attribute as read.
    pub fn get(&self, _name: &[u8]) -> Option<&Slice> { todo!() }
    pub fn version(&self, _name: &[u8]) -> Option<Version> { todo!() }
    /// Application attributes as read: name, version, value.
    pub fn attributes(&self) -> impl Iterator<Item = (&[u8], Version, &Slice)> { let v: Vec<(&[u8], Version, &Slice)> = todo!(); #[allow(unreachable_code)] v.into_iter() }
    /// Remaining idle time as of `now` (max idle minus age); `None`: no session.
    pub fn remaining_idle(&self, _now: Time) -> Option<Duration> { todo!() }
    pub fn max_idle(&self) -> Option<Duration> { todo!() }
}

/// What a request changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Application attributes: name, value or removal; the last entry for a name counts.
    pub writes: SmallVec<[(Slice, Option<Slice>); 2]>,
    /// `writes` is the whole session: what the base has and it lacks is removed, what equals the base is not sent.
    pub full: bool,
    /// The request accessed the session (moves the idle timer, announced coalesced).
    pub touch: bool,
    /// Announce the touch even within the touch interval.
    pub touch_now: bool,
    pub invalidate: bool,
    pub new_id: Option<Slice>,
    pub max_idle: Option<Duration>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit { pub status: CommitStatus, pub version: Version }
/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus { /// Something was emitted.
    Changed, /// Nothing to send.
    Unchanged, /// The session was gone; nothing changed.
    Ended }

/// Why a commit was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError { /// limit, actual
    ValueTooLarge(usize, usize), SessionTooLarge(usize, usize), NameTooLong(usize, usize), StoreFull(usize) }
/// Why a context was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError { TooManyContexts(usize), NameTooLong(usize) }

/// A change to send, seen under the session's lock.
#[derive(Debug)]
pub struct Emission<'a> { pub context: &'a Context, pub uid: Uid, /// The delta (or tombstone, expiry, touch, present state).
    pub frame: FrameOut, _p: () }
impl Emission<'_> {
    /// The whole present state, for members that cannot use a delta. Encoded at each call: encode once, share.
    pub fn present(&self) -> FrameOut { todo!() }
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged { /// Anything in the record changed.
    pub changed: bool, /// The record is partial now: ask for the present state.
    pub partial: bool, /// Another member expired a session that is in use here.
    pub rescue: bool, pub event: Option<MergedEvent>, /// One id of the session, for events.
    pub id: Option<Slice>, /// Uids that were partial and became whole through this frame (0 or 1), and kills by `over`.
    pub completed: bool }
/// What became of the session in a reader's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergedEvent { Created, Changed, Ended }
impl std::fmt::Display for CommitError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") } }
impl std::error::Error for CommitError {}
