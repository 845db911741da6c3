//! One store against a model of maps: after any sequence of requests both show the same, and every request ends alike.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]

mod stores;

use std::collections::{BTreeMap, BTreeSet};

use hotspare::id::Uid;
use hotspare::session::{Changes, CommitStatus, Handle};
use proptest::prelude::*;
use stores::*;

const IDS: [&str; 3] = ["s", "t", "u"];
const NAMES: [&str; 3] = ["x", "y", "z"];
const SLOTS: usize = 3;
const TOUCH_INTERVAL: u64 = 5;

#[derive(Clone, Debug)]
enum Op {
    Begin(usize, usize, bool),
    Commit(usize, Vec<(usize, Option<u8>)>, What),
    Kill(usize),
    Wait(u64),
    Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Delta,
    Full,
    Touch,
    Nothing,
    Invalidate,
    Rename(usize),
    Idle(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let what = prop_oneof![
        4 => Just(What::Delta), 2 => Just(What::Full), 1 => Just(What::Touch), 1 => Just(What::Nothing),
        1 => Just(What::Invalidate), 1 => (0..IDS.len()).prop_map(What::Rename), 1 => (5u64..30).prop_map(What::Idle),
    ];
    let writes = prop::collection::vec((0..NAMES.len(), prop::option::weighted(0.7, any::<u8>())), 0..4);
    prop_oneof![
        4 => (0..SLOTS, 0..IDS.len(), any::<bool>()).prop_map(|(slot, id, create)| Op::Begin(slot, id, create)),
        8 => (0..SLOTS, writes, what).prop_map(|(slot, writes, what)| Op::Commit(slot, writes, what)),
        1 => (0..IDS.len()).prop_map(Op::Kill),
        2 => (1u64..40).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

#[derive(Clone, Debug)]
struct Session {
    names: BTreeSet<usize>,
    /// Name to (when it was written, value or removal).
    attrs: BTreeMap<usize, (u64, Option<String>)>,
    access: u64,
    announced: u64,
    idle: u64,
    expired: bool,
}

/// What a request of the model read.
#[derive(Clone, Debug, Default)]
struct Read {
    id: usize,
    uids: Vec<Uid>,
    base: BTreeMap<usize, String>,
    pending: bool,
}

#[derive(Default)]
struct Model {
    sessions: BTreeMap<Uid, Session>,
    pending: BTreeSet<(usize, Uid)>,
    now: u64,
    writes: u64,
}

impl Model {
    fn visible(&self, id: usize) -> Vec<Uid> {
        let shown = |s: &Session| s.names.contains(&id) && !s.expired && self.now - s.access <= s.idle;
        self.sessions.iter().filter(|(_, s)| shown(s)).map(|(uid, _)| *uid).collect()
    }

    fn union(&self, id: usize) -> BTreeMap<usize, String> {
        let mut newest: BTreeMap<usize, (u64, Option<String>)> = BTreeMap::new();
        for uid in self.visible(id) {
            for (name, attr) in &self.sessions[&uid].attrs {
                if newest.get(name).is_none_or(|held| held.0 < attr.0) {
                    newest.insert(*name, attr.clone());
                }
            }
        }
        newest.into_iter().filter_map(|(name, (_, value))| Some((name, value?))).collect()
    }

    fn kill_name(&mut self, id: usize) {
        self.pending.retain(|(name, _)| *name != id);
        self.sessions.retain(|_, s| !s.names.contains(&id));
    }

    fn commit(&mut self, read: &Read, writes: &[(usize, Option<u8>)], what: What) -> CommitStatus {
        if what == What::Invalidate {
            return self.invalidate(read);
        }
        let mut changes: BTreeMap<usize, Option<String>> =
            writes.iter().map(|(name, value)| (*name, value.map(|v| v.to_string()))).collect();
        if what == What::Full {
            changes.retain(|name, value| read.base.get(name) != value.as_ref());
            for name in read.base.keys() {
                if !writes.iter().any(|(n, _)| n == name) {
                    changes.insert(*name, None);
                }
            }
        }
        let renames = matches!(what, What::Rename(to) if to != read.id);
        let sets_idle = matches!(what, What::Idle(_));
        if read.uids.is_empty() {
            let empty = changes.is_empty() && !renames && !sets_idle;
            return if empty { CommitStatus::Unchanged } else { CommitStatus::Ended };
        }
        if read.pending && !self.sessions.contains_key(&read.uids[0]) {
            return self.create(read, changes, what);
        }
        let mut status = CommitStatus::Ended;
        for uid in &read.uids {
            let one = self.change(*uid, read.id, &changes, what, status == CommitStatus::Ended);
            if status != CommitStatus::Changed && one != CommitStatus::Ended {
                status = one;
            }
        }
        status
    }

    fn invalidate(&mut self, read: &Read) -> CommitStatus {
        self.pending.retain(|(name, _)| *name != read.id);
        let before = self.sessions.len();
        self.sessions.retain(|uid, _| !read.uids.contains(uid));
        match (self.sessions.len() < before, read.pending || read.uids.is_empty()) {
            (true, _) => CommitStatus::Changed,
            (false, true) => CommitStatus::Unchanged,
            (false, false) => CommitStatus::Ended,
        }
    }

    fn create(&mut self, read: &Read, changes: BTreeMap<usize, Option<String>>, what: What) -> CommitStatus {
        let uid = read.uids[0];
        if !self.pending.remove(&(read.id, uid)) {
            return CommitStatus::Ended;
        }
        let id = if let What::Rename(to) = what { to } else { read.id };
        let now = self.now;
        self.sessions.retain(|_, s| !(s.names.contains(&id) && (s.expired || now - s.access > s.idle)));
        self.writes += 1;
        let attrs =
            changes.into_iter().filter(|(_, v)| v.is_some()).map(|(name, v)| (name, (self.writes, v))).collect();
        let idle = if let What::Idle(idle) = what { idle } else { IDLE.as_secs() };
        let session = Session { names: [id].into(), attrs, access: now, announced: now, idle, expired: false };
        self.sessions.insert(uid, session);
        CommitStatus::Changed
    }

    fn change(
        &mut self,
        uid: Uid,
        id: usize,
        changes: &BTreeMap<usize, Option<String>>,
        what: What,
        lead: bool,
    ) -> CommitStatus {
        let (now, writes) = (self.now, self.writes + 1);
        let Some(session) = self.sessions.get_mut(&uid) else { return CommitStatus::Ended };
        let mut changed = false;
        for (name, value) in changes {
            let held = session.attrs.get(name).is_some_and(|(_, v)| v.is_some());
            if (value.is_some() && lead) || (value.is_none() && held) {
                session.attrs.insert(*name, (writes, value.clone()));
                changed = true;
            }
        }
        match what {
            What::Rename(to) if to != id => {
                changed |= session.names.insert(to);
                changed |= session.names.remove(&id);
            }
            What::Idle(idle) => {
                // The same as the context's still is a change the first time; the range makes them differ.
                changed |= session.idle != idle;
                session.idle = idle;
            }
            _ => {}
        }
        let touch = matches!(what, What::Touch | What::Full);
        if touch || changed {
            session.access = now;
        }
        let announced = touch && (session.expired || now - session.announced >= TOUCH_INTERVAL);
        if changed || announced {
            session.announced = now;
            session.expired = false;
            self.writes = writes;
            CommitStatus::Changed
        } else {
            CommitStatus::Unchanged
        }
    }

    fn sweep(&mut self) {
        for session in self.sessions.values_mut() {
            session.expired |= session.access + session.idle <= self.now;
        }
    }
}

fn changes(writes: &[(usize, Option<u8>)], what: What) -> Changes {
    let mut changes = Changes::default();
    for (name, value) in writes {
        changes.writes.push((NAMES[*name].as_bytes().into(), value.map(|v| slice(&v.to_string()))));
    }
    match what {
        What::Delta | What::Nothing => {}
        What::Full => changes.full = true,
        What::Touch => changes.touch = true,
        What::Invalidate => changes.invalidate = true,
        What::Rename(to) => changes.new_id = Some(slice(IDS[to])),
        What::Idle(idle) => changes.max_idle = Some(at(idle)),
    }
    changes
}

/// A request that is open in the store and in the model.
type Slot = Option<(Handle, Read)>;

fn begin(member: &Member, model: &mut Model, slot: &mut Slot, id: usize, create: bool) {
    if let Some((handle, read)) = slot.take()
        && read.pending
    {
        model.pending.remove(&(read.id, handle.uids()[0]));
    }
    let mut handle = member.begin(IDS[id], at(model.now));
    let mut read = Read { id, uids: model.visible(id), base: model.union(id), pending: false };
    assert_eq!(handle.uids(), read.uids);
    if create && read.uids.is_empty() {
        member.context.create(&mut handle);
        read.uids = handle.uids().to_vec();
        read.pending = true;
        model.pending.insert((id, read.uids[0]));
    }
    *slot = Some((handle, read));
}

proptest! {
    #[test]
    fn a_store_shows_what_a_map_would(ops in prop::collection::vec(op(), 1..60)) {
        let member = Member::new(1);
        let mut model = Model::default();
        let mut slots: [Slot; SLOTS] = [None, None, None];
        for op in &ops {
            match op {
                Op::Begin(slot, id, create) => begin(&member, &mut model, &mut slots[*slot], *id, *create),
                Op::Commit(slot, writes, what) => {
                    let Some((handle, read)) = &slots[*slot] else { continue };
                    let writes = if matches!(what, What::Delta | What::Full) { &writes[..] } else { &[] };
                    let (commit, _) = member.commit(handle, &changes(writes, *what), at(model.now));
                    prop_assert_eq!(commit.status, model.commit(read, writes, *what), "{:?}", op);
                }
                Op::Kill(id) => {
                    member.kill(IDS[*id], at(model.now));
                    model.kill_name(*id);
                }
                Op::Wait(seconds) => model.now += seconds,
                Op::Sweep => {
                    member.sweep(at(model.now), None);
                    model.sweep();
                }
            }
            for (id, text) in IDS.iter().enumerate() {
                let shown: Vec<_> = model.union(id).into_iter().map(|(name, v)| (NAMES[name].to_owned(), v)).collect();
                prop_assert_eq!(member.all(text, at(model.now)), shown, "{} after {:?}", text, op);
                for (name, key) in NAMES.iter().enumerate() {
                    let one = member.get(text, key, at(model.now));
                    prop_assert_eq!(one, model.union(id).remove(&name));
                }
            }
            let live = model.sessions.values().filter(|s| !s.expired).count();
            prop_assert_eq!(member.store.sessions(), live);
        }
    }
}
