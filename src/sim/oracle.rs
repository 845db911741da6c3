//! What must be true, kept apart from the code under test: every committed change, who holds it, who is alive.
//!
//! The oracle never asks a node whether it did well: it is told what callers did and what they were told, looks at dumps,
//! and compares. The rules are those of [`super`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use smallvec::SmallVec;

use super::Violation;
use super::absence::Absences;
use super::hash::Quick;
use crate::id::{MemberId, Time, Uid, Version};
use crate::session::{RecordDump, key};

/// An internal key: kind, then name.
pub(super) type Key = SmallVec<[u8; 16]>;

/// What identifies a value; `None`: removed.
pub(super) type Content = Option<u64>;

/// One committed change of one session.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) uid: Uid,
    /// `Version::ZERO` for an end.
    pub(super) version: Version,
    pub(super) ends: bool,
    pub(super) writes: SmallVec<[(Key, Content); 4]>,
    /// The writer, then who confirmed.
    pub(super) holders: SmallVec<[MemberId; 5]>,
    pub(super) at: Time,
    /// When its caller was told of success by every member in view.
    acked: Option<Time>,
    /// When its caller was told what became of it, by every member that was to apply it.
    told: Option<Time>,
    /// What of the session its writer had then, this change included.
    saw: SmallVec<[(Key, Version); 4]>,
}

/// A create lists only so many, and those that expired are among them.
const KILLED_MAX: usize = 8;

/// Place of a change in the oracle's list.
pub(super) type ChangeId = usize;

#[derive(Debug, Default)]
struct Truth {
    changes: Vec<ChangeId>,
    /// Somebody invalidated it.
    ended: bool,
    /// A create under its name listed it as over.
    over: bool,
    /// The sessions whose creates are known to have done so.
    over_by: SmallVec<[Uid; 1]>,
    /// Its changes by version.
    by_version: BTreeMap<Version, ChangeId>,
}

#[derive(Debug)]
struct Life {
    alive: bool,
    died_at: Option<Time>,
}

/// What was checked, and what was not because it may not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Obligations checked at the end.
    pub(super) checked: u64,
    /// Every holder had crashed.
    pub(super) excused: u64,
    /// The session had been ended by somebody.
    pub(super) ended: u64,
    /// A create listed it as over.
    pub(super) over: u64,
    /// All that held it were away for longer than tombstones live.
    pub(super) beyond_horizon: u64,
    /// It had really been idle.
    pub(super) idle: u64,
    /// Copies checked at the moment of their ack.
    pub(super) acks: u64,
    /// Obligations checked at a join.
    pub(super) joins: u64,
    /// Reads of a session, and those that showed a change without all that its writer had seen.
    pub(super) reads: u64,
    pub(super) gaps: u64,
}

#[derive(Debug)]
pub(super) struct Oracle {
    idle: Duration,
    /// A session may expire this much earlier than its idle time: announcements are coalesced, clocks drift.
    slack: Duration,
    /// As much may clocks be apart after the idle time.
    drift: Duration,
    lives: BTreeMap<MemberId, Life>,
    sessions: BTreeMap<Uid, Truth>,
    changes: Vec<Change>,
    content: HashMap<(Uid, Key, Version), Content, Quick>,
    seen: HashMap<(MemberId, Uid, Key), Version, Quick>,
    dead: HashSet<(MemberId, Uid), Quick>,
    /// When a request of a member last used a session, by the member's clock.
    used: HashMap<(MemberId, Uid), Time, Quick>,
    /// What is over, by the names that it had, and the members whose requests ended it.
    killed: BTreeMap<Key, BTreeMap<Uid, SmallVec<[MemberId; 1]>>>,
    /// When a member was last seen to hold attributes of a session.
    full: HashMap<(MemberId, Uid), Time, Quick>,
    /// When any request last did.
    accessed: HashMap<Uid, Time, Quick>,
    /// Where members may be away for longer than tombstones live.
    absences: Option<Absences>,
    pub(super) tally: Tally,
}

type Checked = Result<(), Violation>;

impl Oracle {
    pub(super) fn new(idle: Duration, slack: Duration, drift: Duration, absences: Option<Absences>) -> Self {
        Self {
            idle,
            slack,
            drift,
            lives: BTreeMap::new(),
            sessions: BTreeMap::new(),
            changes: Vec::new(),
            content: HashMap::default(),
            seen: HashMap::default(),
            dead: HashSet::default(),
            used: HashMap::default(),
            killed: BTreeMap::new(),
            full: HashMap::default(),
            accessed: HashMap::default(),
            absences,
            tally: Tally::default(),
        }
    }

    pub(super) fn born(&mut self, member: MemberId) {
        self.lives.insert(member, Life { alive: true, died_at: None });
    }

    pub(super) fn died(&mut self, member: MemberId, now: Time) {
        if let Some(life) = self.lives.get_mut(&member) {
            life.alive = false;
            life.died_at = Some(now);
        }
    }

    /// How long a member has been dead.
    pub(super) fn dead_for(&self, member: MemberId, now: Time) -> Option<Duration> {
        self.lives.get(&member)?.died_at.map(|died| now.saturating_sub(died))
    }

    /// Whether a member was dead when a change was committed.
    pub(super) fn died_before(&self, member: MemberId, id: ChangeId) -> bool {
        let died_at = self.lives.get(&member).and_then(|l| l.died_at);
        died_at.is_some_and(|died| died < self.changes[id].at)
    }

    /// A change is in the writer's store.
    pub(super) fn committed(
        &mut self,
        writer: MemberId,
        uid: Uid,
        version: Version,
        writes: SmallVec<[(Key, Content); 4]>,
        ends: bool,
        now: Time,
    ) -> ChangeId {
        for (key, content) in &writes {
            self.content.insert((uid, key.clone(), version), *content);
        }
        let id = self.changes.len();
        let truth = self.sessions.entry(uid).or_default();
        truth.changes.push(id);
        truth.by_version.insert(version, id);
        if ends {
            truth.ended = true;
            self.dead.insert((writer, uid));
        }
        let holders = SmallVec::from_slice(&[writer]);
        self.changes.push(Change {
            uid,
            version,
            ends,
            writes,
            holders,
            at: now,
            acked: None,
            told: None,
            saw: SmallVec::new(),
        });
        id
    }

    /// A create may have listed the session as over; `by`: this one surely has.
    pub(super) fn over(&mut self, uid: Uid, by: Option<Uid>) {
        let truth = self.sessions.entry(uid).or_default();
        truth.over = true;
        truth.over_by.extend(by);
    }

    /// A session of that name is over; `by`: a request of this member ended it.
    pub(super) fn kills(&mut self, name: Key, uid: Uid, by: Option<MemberId>) {
        self.killed.entry(name).or_default().entry(uid).or_default().extend(by);
    }

    /// Those of the newest sessions over under that name that requests of the member ended: a create there lists them as over.
    pub(super) fn killed_under(&self, member: MemberId, name: &Key) -> SmallVec<[Uid; KILLED_MAX]> {
        let newest = self.killed.get(name).into_iter().flat_map(|k| k.iter().rev().take(KILLED_MAX));
        newest.filter(|(_, by)| by.contains(&member)).map(|(uid, _)| *uid).collect()
    }

    /// What the writer of a change had of the session afterwards.
    pub(super) fn saw(&mut self, id: ChangeId, held: Option<&RecordDump>) {
        let attrs = held.map(|h| h.attrs.as_slice()).unwrap_or_default();
        self.changes[id].saw = attrs.iter().map(|(key, version, _)| (Key::from_slice(key), *version)).collect();
    }

    /// A request is never given a login together with the one that it replaced.
    pub(super) fn check_union(&self, member: MemberId, uids: &[Uid]) -> Checked {
        if self.was_away_after(member, Time::ZERO) {
            return Ok(());
        }
        for uid in uids.iter().filter(|uid| !self.was_written_away(**uid)) {
            let over_by = self.sessions.get(uid).map(|t| t.over_by.as_slice()).unwrap_or_default();
            if let Some(by) = over_by.iter().find(|by| uids.contains(by)) {
                let text = format!("a request at {member} was given {uid:?} together with {by:?}, which is over it");
                return Err(Violation::new("over", text));
            }
        }
        Ok(())
    }

    /// A request is given nothing that is hidden.
    pub(super) fn check_served(&self, member: MemberId, uid: Uid, held: Option<&RecordDump>) -> Checked {
        if held.is_some_and(is_readable) {
            return Ok(());
        }
        Err(Violation::new("served", format!("a request at {member} was given {uid:?}, which is not readable there")))
    }

    /// A request used a session; `local` is the clock of its node.
    pub(super) fn uses(&mut self, member: MemberId, uid: Uid, local: Time, now: Time) {
        self.used.insert((member, uid), local);
        self.accessed.insert(uid, now);
    }

    /// A request may have used a session.
    pub(super) fn may_use(&mut self, uid: Uid, now: Time) {
        self.accessed.insert(uid, now);
    }

    /// How long ago any request may have used a session before.
    pub(super) fn unused_for(&self, uid: Uid, now: Time) -> Option<Duration> {
        self.accessed.get(&uid).map(|then| now.saturating_sub(*then))
    }

    /// A session that is in use at a node is not expired there.
    pub(super) fn check_in_use(&self, member: MemberId, dump: &[(Uid, RecordDump)], local: Time, now: Time) -> Checked {
        for (uid, record) in dump.iter().filter(|(_, r)| !r.dead && r.exp >= r.top) {
            let truth = self.sessions.get(uid);
            let newest =
                truth.and_then(|t| t.by_version.get(&record.top)).map(|id| now.saturating_sub(self.changes[*id].at));
            if let Some(unused) = newest.filter(|unused| *unused + self.drift + Duration::from_millis(2) < self.idle) {
                let text = format!("{uid:?} is expired at {member}, which knows of an access {unused:?} ago");
                return Err(Violation::new("expiry", text));
            }
            if record.partial {
                continue;
            }
            let Some(used) = self.used.get(&(member, *uid)) else { continue };
            let unused = local.saturating_sub(*used);
            // Both ends are whole milliseconds there.
            if unused + Duration::from_millis(2) < self.idle {
                let text = format!("{uid:?} is expired at {member}, where it was used {unused:?} ago");
                return Err(Violation::new("expiry", text));
            }
        }
        Ok(())
    }

    /// What a node holds of an expired session stays while a member that it lost is away; `since`: the longest.
    pub(super) fn check_kept(
        &mut self,
        member: MemberId,
        dump: &[(Uid, RecordDump)],
        since: Option<Time>,
        now: Time,
    ) -> Checked {
        for (uid, record) in dump.iter().filter(|(_, r)| !r.dead) {
            if record.attrs.iter().any(|(key, _, _)| key[0] == key::ATTR) {
                // Of what never was whole a part may go, once nobody has more, and come back as what others hold of it.
                if !record.partial {
                    self.full.insert((member, *uid), now);
                }
                continue;
            }
            let Some(full) = self.full.remove(&(member, *uid)) else { continue };
            if record.partial && record.exp >= record.top && since.is_some_and(|since| since < full) {
                let text = format!("{member} dropped what it held of {uid:?} while a member that it lost was away");
                return Err(Violation::new("kept", text));
            }
        }
        Ok(())
    }

    /// I2 beside [`check_ack`](Self::check_ack): what a member confirms it has had whole.
    pub(super) fn check_whole(&self, id: ChangeId, member: MemberId, held: &RecordDump, whole: Version) -> Checked {
        let change = &self.changes[id];
        let expired = held.exp >= held.top;
        if held.dead
            || change.ends
            || expired
            || whole >= change.version
            || self.is_idle(change.uid, change.at)
            || self.was_away_after(member, change.at)
        {
            return Ok(());
        }
        let text = format!("{member} acked {} and has everything up to {whole:?} only", self.name(id));
        Err(Violation::new("I2", text))
    }

    /// Counts whether a read shows its newest change with all that the writer of that had seen.
    pub(super) fn count_read(&mut self, uid: Uid, held: Option<&RecordDump>) {
        let Some(record) = held else { return };
        let Some(id) = self.sessions.get(&uid).and_then(|t| t.by_version.get(&record.top)) else { return };
        self.tally.reads += 1;
        let whole = self.changes[*id]
            .saw
            .iter()
            .all(|(key, version)| record.attrs.iter().any(|(k, v, _)| k[..] == key[..] && v >= version));
        self.tally.gaps += u64::from(!whole);
    }

    pub(super) fn change(&self, id: ChangeId) -> &Change {
        &self.changes[id]
    }

    pub(super) fn changes_of(&self, uid: Uid) -> impl Iterator<Item = &Change> {
        self.sessions.get(&uid).into_iter().flat_map(|t| t.changes.iter().map(|id| &self.changes[*id]))
    }

    /// A caller was told that members confirmed its change; `whole`: every one in view; `done`: none is waited for any more.
    pub(super) fn confirmed(&mut self, id: ChangeId, by: &[MemberId], (whole, done): (bool, bool), now: Time) {
        let change = &mut self.changes[id];
        for member in by {
            if !change.holders.contains(member) {
                change.holders.push(*member);
            }
        }
        change.acked = change.acked.or_else(|| whole.then_some(now));
        change.told = change.told.or_else(|| done.then_some(now));
    }

    /// I2: a member whose ack made a caller's success holds the change at that moment.
    pub(super) fn check_ack(
        &mut self,
        id: ChangeId,
        member: MemberId,
        held: Option<&RecordDump>,
        now: Time,
    ) -> Checked {
        if !self.is_alive(member) {
            return Ok(());
        }
        let change = &self.changes[id];
        if change.ends && held.is_some_and(|h| h.dead) {
            self.dead.insert((member, change.uid));
        }
        let Err(why) = holds(change, held) else {
            self.tally.acks += 1;
            return Ok(());
        };
        // A caller whose patience ended, or who stood still, is told of acks that came long before.
        let is_gone = || self.may_be_buried(change.uid) || self.was_away_after(member, change.at);
        let began_anew = held.is_none() || self.absences.is_some();
        if self.is_idle(change.uid, now) || began_anew && is_gone() {
            return Ok(());
        }
        Err(Violation::new("I2", format!("{member} acked {} and {why}", self.name(id))))
    }

    /// I3, I4, I6 on one node's state.
    pub(super) fn look(&mut self, member: MemberId, dump: &[(Uid, RecordDump)]) -> Checked {
        for (uid, record) in dump {
            if record.dead {
                if !self.dead.contains(&(member, *uid)) {
                    self.dead.insert((member, *uid));
                    self.check_death(member, *uid)?;
                }
                continue;
            }
            if self.dead.contains(&(member, *uid)) {
                if self.may_forget_end(member, *uid) {
                    continue;
                }
                return Err(Violation::new(
                    "I6",
                    format!("{member} had applied the end of {uid:?} and holds it again"),
                ));
            }
            let named = record.attrs.iter().any(|(key, _, value)| key[0] == key::NAME && value.is_some());
            if is_readable(record) && !named {
                return Err(Violation::new("served", format!("{uid:?} is readable at {member} and has no name")));
            }
            for (key, version, value) in &record.attrs {
                let key = Key::from_slice(key);
                let content = value.as_deref().map(digest);
                match self.content.get(&(*uid, key.clone(), *version)) {
                    Some(truth) if *truth == content => {}
                    Some(_) => {
                        let text = format!("{member} holds {uid:?} {} at {version:?} with another content", show(&key));
                        return Err(Violation::new("I3", text));
                    }
                    None => {
                        let text = format!("{member} holds {uid:?} {} at {version:?}, which nobody wrote", show(&key));
                        return Err(Violation::new("I3", text));
                    }
                }
                // What is hidden may be older: an expired record drops what it had, and is filled again by whoever comes.
                if record.partial || record.exp >= record.top || self.may_begin_anew(member, *uid) {
                    continue;
                }
                let seen = self.seen.entry((member, *uid, key)).or_insert(*version);
                if *version < *seen {
                    let text = format!("{member} went back to {version:?} from {seen:?} in {uid:?}");
                    return Err(Violation::new("I4", text));
                }
                *seen = *version;
            }
        }
        Ok(())
    }

    /// I4 as a request sees it.
    pub(super) fn check_read(
        &mut self,
        member: MemberId,
        uid: Uid,
        key: Key,
        version: Version,
        content: u64,
    ) -> Checked {
        if self.dead.contains(&(member, uid)) && !self.may_forget_end(member, uid) {
            let text = format!("a request at {member} was given {uid:?}, whose end was applied there");
            return Err(Violation::new("I6", text));
        }
        match self.content.get(&(uid, key.clone(), version)) {
            Some(Some(truth)) if *truth == content => {}
            other => {
                let text = format!("a request at {member} read {uid:?} {} at {version:?}: {other:?}", show(&key));
                return Err(Violation::new("I3", text));
            }
        }
        if self.may_begin_anew(member, uid) {
            // It may have begun anew here; whether it may, is for the others to say.
            return Ok(());
        }
        let seen = self.seen.entry((member, uid, key)).or_insert(version);
        if version < *seen {
            let text = format!("a request at {member} read {version:?} after {seen:?} in {uid:?}");
            return Err(Violation::new("I4", text));
        }
        *seen = version;
        Ok(())
    }

    /// What a joiner that opens must hold, and who came back and is a copy. Of each donor it is given since when it sends all
    /// that changes there, and what it holds; `own`: only what it wrote itself.
    pub(super) fn check_join(
        &mut self,
        rule: &'static str,
        joiner: MemberId,
        held: &BTreeMap<Uid, RecordDump>,
        donors: &BTreeMap<MemberId, (Time, BTreeMap<Uid, RecordDump>)>,
        own: bool,
        now: Time,
    ) -> Checked {
        for id in 0..self.changes.len() {
            let change = &self.changes[id];
            let Some(acked) = (if own { change.told } else { change.acked }) else { continue };
            let donor = change.holders.iter().take(if own { 1 } else { usize::MAX }).find(|m| {
                donors.get(m).is_some_and(|(since, state)| {
                    let record = state.get(&change.uid);
                    // What misses something at the donor itself is not for it to pass on.
                    let whole = record.is_some_and(|r| r.dead || is_readable(r));
                    // Who was away for so long may hold what has ended.
                    let proves = !self.was_away_after(**m, Time::ZERO);
                    proves && acked < *since && whole && holds(change, record).is_ok()
                })
            });
            let Some(donor) = donor else { continue };
            let record = held.get(&change.uid);
            let Err(why) = holds(change, record) else {
                self.tally.joins += 1;
                continue;
            };
            if self.is_idle(change.uid, now) || record.is_none() && self.may_be_buried(change.uid) {
                continue;
            }
            let text = format!("{joiner} counts, and of {}, held by {donor}, {why}", self.name(id));
            return Err(Violation::new(rule, text));
        }
        Ok(())
    }

    /// I1 and I6 when all is quiet: every node is judged by its state.
    pub(super) fn check_quiet(&mut self, nodes: &BTreeMap<MemberId, BTreeMap<Uid, RecordDump>>, now: Time) -> Checked {
        for id in 0..self.changes.len() {
            let change = &self.changes[id];
            if !change.holders.iter().any(|m| self.is_alive(*m)) {
                if change.acked.is_some() {
                    self.tally.excused += 1;
                }
                continue;
            }
            self.tally.checked += 1;
            let truth = &self.sessions[&change.uid];
            if change.ends {
                let stayed = |m: &&MemberId| self.is_alive(**m) && !self.was_away_after(**m, change.at);
                if !change.holders.iter().any(|m| stayed(&m)) || self.was_written_away(change.uid) {
                    self.tally.beyond_horizon += 1;
                    continue;
                }
                for (member, state) in nodes {
                    if state.get(&change.uid).is_some_and(is_readable) {
                        let text = format!("{member} still serves {}", self.name(id));
                        return Err(Violation::new("I6", text));
                    }
                }
                continue;
            }
            if truth.ended {
                self.tally.ended += 1;
                continue;
            }
            if truth.over {
                self.tally.over += 1;
                continue;
            }
            if self.is_idle(change.uid, now) {
                self.tally.idle += 1;
                continue;
            }
            if self.may_be_dropped(change, now) {
                self.tally.beyond_horizon += 1;
                continue;
            }
            for (member, state) in nodes {
                let record = state.get(&change.uid);
                let visible = record.is_some_and(is_readable);
                let why = match reads(change, record) {
                    Err(why) => why,
                    Ok(()) if !visible => String::from("it is not readable there"),
                    Ok(()) => continue,
                };
                let text = format!("{} is lost at {member}: {why}", self.name(id));
                return Err(Violation::new("I1", text));
            }
        }
        Ok(())
    }

    /// Whether nobody is known to have used the session for its idle time, now or at any time before.
    ///
    /// An access counts while one of those that hold it is alive.
    pub(super) fn is_idle(&self, uid: Uid, now: Time) -> bool {
        self.is_idle_for(uid, now, |member| self.is_alive(member))
    }

    /// The same for some members alone.
    fn is_idle_for(&self, uid: Uid, now: Time, counts: impl Fn(MemberId) -> bool) -> bool {
        let limit = self.idle.saturating_sub(self.slack);
        let mut last = None;
        for change in self.changes_of(uid) {
            if change.ends || !change.holders.iter().any(|m| counts(*m)) {
                continue;
            }
            if last.is_some_and(|last| change.at.saturating_sub(last) >= limit) {
                return true;
            }
            last = Some(change.at);
        }
        last.is_none_or(|last| now.saturating_sub(last) >= limit)
    }

    fn is_alive(&self, member: MemberId) -> bool {
        self.lives.get(&member).is_some_and(|l| l.alive)
    }

    /// Of each member that lives: whether it is with more than half of the hosts.
    pub(super) fn note_company(&mut self, members: &[(MemberId, bool)], now: Time) {
        if let Some(absences) = &mut self.absences {
            absences.note(members, now);
        }
    }

    fn was_away_after(&self, member: MemberId, at: Time) -> bool {
        self.absences.as_ref().is_some_and(|absences| absences.was_away_after(member, at))
    }

    /// Whether a member may have forgotten an end that nobody else had heard of.
    fn may_forget_end(&mut self, member: MemberId, uid: Uid) -> bool {
        let may = self.was_away_after(member, Time::ZERO) || self.was_written_away(uid);
        if may {
            self.dead.remove(&(member, uid));
            self.tally.beyond_horizon += 1;
        }
        may
    }

    /// Whether somebody who was away for longer than tombstones live wrote to the session then: it was in use there, and stays.
    fn was_written_away(&self, uid: Uid) -> bool {
        let Some(absences) = &self.absences else { return false };
        self.changes_of(uid).any(|c| !c.writes.is_empty() && c.holders.iter().any(|m| absences.is_away_at(*m, c.at)))
    }

    /// Whether a session ended after a time. What a member is brought in part, and nobody completes, it drops again; where nobody does
    /// as the session ended meanwhile, it may have heard neither of the session nor of its end: who heard of that passes it on to nobody.
    pub(super) fn ended_since(&self, uid: Uid, since: Time) -> bool {
        let ended = |id: &ChangeId| self.changes[*id].ends && self.changes[*id].at > since;
        self.sessions.get(&uid).is_some_and(|truth| truth.changes.iter().any(ended))
    }

    /// Whether a session may have ended so long ago that its tombstone is gone.
    fn may_be_buried(&self, uid: Uid) -> bool {
        self.absences.is_some() && self.sessions.get(&uid).is_some_and(|truth| truth.ended || truth.over)
    }

    /// Whether what a member shows of a session may be older than what it showed: it ended meanwhile, or was dropped.
    fn may_begin_anew(&self, member: MemberId, uid: Uid) -> bool {
        self.may_be_buried(uid) || self.was_away_after(member, Time::ZERO)
    }

    /// Whether nobody is known to hold the session, and in use, but members that were away for longer than tombstones live; or those
    /// that hold the change saw it idle, whatever was done elsewhere.
    fn may_be_dropped(&self, change: &Change, now: Time) -> bool {
        let Some(absences) = &self.absences else { return false };
        let written = |member: MemberId| {
            let here =
                self.changes_of(change.uid).filter(|c| !c.writes.is_empty() && c.holders.first() == Some(&member));
            here.map(|c| c.at).max().unwrap_or(Time::ZERO)
        };
        self.is_idle_for(change.uid, now, |member| self.is_alive(member) && !absences.may_drop(member, written(member)))
            || self.is_idle_for(change.uid, now, |member| self.is_alive(member) && change.holders.contains(&member))
    }

    fn check_death(&self, member: MemberId, uid: Uid) -> Checked {
        if self.sessions.get(&uid).is_some_and(|t| t.ended || t.over) {
            return Ok(());
        }
        Err(Violation::new("I1", format!("{uid:?} is dead at {member}, and nobody ended it")))
    }

    fn name(&self, id: ChangeId) -> String {
        let change = &self.changes[id];
        let what = if change.ends { String::from("end") } else { format!("change {:?}", change.version) };
        format!("{what} of {:?} (committed {:?}, held by {:?})", change.uid, change.at, change.holders)
    }
}

/// Whether a state is at or after a change.
fn holds(change: &Change, held: Option<&RecordDump>) -> Result<(), String> {
    let Some(record) = held else { return Err(String::from("does not hold the session")) };
    if record.dead {
        return Ok(());
    }
    if change.ends {
        return Err(String::from("holds the session alive"));
    }
    if record.top < change.version {
        return Err(format!("is at {:?}", record.top));
    }
    has_writes(change, record, |_, _| false)
}

/// The same as far as a reader can see: that somebody used a session shows in that it does not expire, and whose removal of what
/// two removed is known shows in nothing.
fn reads(change: &Change, held: Option<&RecordDump>) -> Result<(), String> {
    let Some(record) = held else { return Err(String::from("does not hold the session")) };
    if record.dead {
        return Ok(());
    }
    has_writes(change, record, |written, is_set| written.is_none() && !is_set)
}

/// Whether a record has what the change wrote or something later; of an older one `is_same` decides: what was written, and
/// whether anything is set there.
fn has_writes(change: &Change, record: &RecordDump, is_same: impl Fn(Content, bool) -> bool) -> Result<(), String> {
    for (key, written) in &change.writes {
        let held = record.attrs.iter().find(|(k, _, _)| k[..] == key[..]);
        let (version, is_set) = held.map_or((Version::ZERO, false), |(_, v, value)| (*v, value.is_some()));
        if version < change.version && !is_same(*written, is_set) {
            return Err(format!("has {} at {version:?}", show(key)));
        }
    }
    Ok(())
}

/// Whether a reader sees the session.
pub(super) fn is_readable(record: &RecordDump) -> bool {
    !record.dead && !record.partial && record.top > record.exp
}

/// What identifies a value.
pub(super) fn digest(value: &[u8]) -> u64 {
    u64::from(crc32fast::hash(value)) | (value.len() as u64) << 32
}

fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
