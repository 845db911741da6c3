//! What a commit does, restated: from what the store showed before and what the request handed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Violation;
use super::look::show;
use super::oracle::{ChangeId, Content, Key, Oracle, digest, is_readable};
use crate::id::{MemberId, Time, Uid, Version};
use crate::session::{Changes, Context, Handle, RecordDump, key};

/// What a commit found, as far as the oracle must know it to say what the commit did.
pub(super) struct Before {
    /// Sessions of the handle and whether they were there.
    held: SmallVec<[(Uid, Option<RecordDump>); 1]>,
    /// Sessions that this commit, a create, may list as over, and whether it must: that is known of the expired ones.
    over: SmallVec<[(Uid, bool); 1]>,
}

impl Before {
    pub(super) fn look(context: &Arc<Context>, handle: &Handle, changes: &Changes, now: Time) -> Self {
        let held = handle.uids().iter().map(|uid| (*uid, context.dump_of(*uid))).collect();
        let mut over = SmallVec::new();
        if handle.is_new() && !changes.invalidate {
            let visible = context.begin(handle.id(), now);
            for (uid, record) in context.dump_named(handle.id()) {
                if !visible.uids().contains(&uid) {
                    over.push((uid, record.exp >= record.top));
                }
            }
        }
        Self { held, over }
    }

    /// Tells the oracle what was committed, session by session.
    pub(super) fn record(
        self,
        context: &Arc<Context>,
        handle: &Handle,
        changes: &Changes,
        version: Version,
        writer: MemberId,
        oracle: &mut Oracle,
        now: Time,
    ) -> Result<SmallVec<[ChangeId; 2]>, Violation> {
        let mut recorded = SmallVec::new();
        if handle.is_new() && !changes.invalidate {
            let name = name_key(handle.id());
            for (uid, surely) in self.over {
                oracle.over(uid, surely.then_some(handle.uids()[0]));
                oracle.kills(name.clone(), uid, None);
                if surely && context.dump_of(uid).is_some_and(|r| !r.dead) {
                    let text = format!("{uid:?} had expired under the name of {:?} and lives on", handle.uids()[0]);
                    return Err(Violation::new("over", text));
                }
            }
            for uid in oracle.killed_under(writer, &name) {
                let known = context.dump_of(uid).is_some_and(|r| r.dead);
                oracle.over(uid, known.then_some(handle.uids()[0]));
            }
        }
        if changes.invalidate {
            for (uid, record) in &self.held {
                let Some(record) = record.as_ref().filter(|r| !r.dead) else { continue };
                for (key, _, _) in record.attrs.iter().filter(|(k, _, v)| k[0] == key::NAME && v.is_some()) {
                    oracle.kills(Key::from_slice(key), *uid, Some(writer));
                }
                recorded.push(oracle.committed(writer, *uid, Version::ZERO, SmallVec::new(), true, now));
            }
            return Ok(recorded);
        }
        let writes = writes(handle, changes);
        let mut lead = true;
        for (uid, before) in &self.held {
            let live = before
                .as_ref()
                .is_some_and(|r| !r.dead && (r.top > r.exp || r.attrs.iter().any(|a| a.0[0] == key::ATTR)));
            if !handle.is_new() && !live {
                continue;
            }
            let Some(after) = context.dump_of(*uid) else {
                return Err(Violation::new("I1", format!("{uid:?} is gone right after its commit")));
            };
            // The first takes everything; the others of a union take what concerns names and what is removed.
            let version = if lead { version } else { after.top };
            let changed = before.as_ref().is_none_or(|b| b.top < after.top);
            let applied: SmallVec<[(Key, Content); 4]> = writes
                .iter()
                .filter(|(key, content)| {
                    (lead || content.is_none() || key[0] != key::ATTR) && applies(before.as_ref(), key, *content)
                })
                .cloned()
                .collect();
            let kept = applied.iter().find(|(key, content)| {
                content.is_none() && after.attrs.iter().any(|(k, _, v)| k[..] == key[..] && v.is_some())
            });
            if let Some((key, _)) = kept {
                let text = format!("{uid:?} keeps {}, which a request that saw it removed", show(key));
                return Err(Violation::new("union", text));
            }
            lead = false;
            if changed {
                recorded.push(oracle.committed(writer, *uid, version, applied, false, now));
            }
        }
        for id in &recorded {
            let uid = oracle.change(*id).uid;
            let held = context.dump_of(uid);
            oracle.check_ack(*id, writer, held.as_ref(), now)?;
            oracle.saw(*id, held.as_ref());
        }
        Ok(recorded)
    }

    /// A commit that was refused changed nothing.
    pub(super) fn check_unchanged(&self, context: &Arc<Context>) -> Result<(), Violation> {
        match self.held.iter().find(|(uid, before)| context.dump_of(*uid) != *before) {
            None => Ok(()),
            Some((uid, _)) => Err(Violation::new("full", format!("a commit was refused and changed {uid:?}"))),
        }
    }

    /// A commit that says the session had ended found none that lives.
    pub(super) fn check_ended(&self, context: &Arc<Context>) -> Result<(), Violation> {
        for (uid, _) in &self.held {
            let alive = context.dump_of(*uid).is_some_and(|r| is_readable(&r));
            if alive {
                return Err(Violation::new(
                    "ended",
                    format!("{uid:?} lives where a request was told that it had ended"),
                ));
            }
        }
        Ok(())
    }
}

/// What the changes write, from what the request read: the rule of a full write, restated.
fn writes(handle: &Handle, changes: &Changes) -> Vec<(Key, Content)> {
    let mut last: BTreeMap<Key, Content> = BTreeMap::new();
    for (name, value) in &changes.writes {
        last.insert(attr_key(name), value.as_ref().map(|v| digest(v)));
    }
    if changes.full {
        for (name, _, value) in handle.attributes() {
            let key = attr_key(name);
            match last.get(&key) {
                Some(Some(content)) if *content == digest(value) => {
                    last.remove(&key);
                }
                Some(_) => {}
                None => {
                    last.insert(key, None);
                }
            }
        }
    }
    let name_of = |id: &[u8]| name_key(id);
    if handle.is_new() {
        last.insert(name_of(handle.id()), Some(digest(&[])));
    }
    if let Some(id) = &changes.new_id {
        last.insert(name_of(id), Some(digest(&[])));
        last.insert(name_of(handle.id()), None);
    }
    if let Some(idle) = changes.max_idle {
        let ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        last.insert(Key::from_slice(&[key::IDLE]), Some(digest(&ms.to_le_bytes())));
    }
    last.into_iter().collect()
}

/// Whether writing this changes a record: a removal needs something to remove, a name or an idle time a difference.
fn applies(before: Option<&RecordDump>, key: &Key, content: Content) -> bool {
    let held =
        before.and_then(|r| r.attrs.iter().find(|(k, _, _)| k[..] == key[..])).and_then(|(_, _, v)| v.as_deref());
    match content {
        None => held.is_some(),
        Some(content) => key[0] == key::ATTR || held.map(digest) != Some(content),
    }
}

/// The internal key of an attribute.
pub(super) fn attr_key(name: &[u8]) -> Key {
    let mut key = Key::from_slice(&[key::ATTR]);
    key.extend_from_slice(name);
    key
}

/// The internal key of a session's name.
pub(super) fn name_key(id: &[u8]) -> Key {
    let mut key = Key::from_slice(&[key::NAME]);
    key.extend_from_slice(id);
    key
}
