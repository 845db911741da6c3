//! The moments at which the oracle looks: now and then at one node, at each that opens, and at the end at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Violation;
use super::net::HostId;
use super::oracle::is_readable;
use super::process::Process;
use super::swarm::Kind;
use super::world::{CONTEXT, Event, LOOK, PATIENCE, Phase, World};
use crate::event::ReadyReason;
use crate::id::{MemberId, NodeState, Uid, Version};
use crate::session::{BUCKETS, RecordDump, key};

/// Silence, an echo that does not come, and time for a node to look: after as much nobody has a dead member in view.
const BURIAL: Duration = Duration::from_secs(3);

/// What a tombstone takes at most, with the names that it had and a full list of those it is over.
const TOMBSTONE: usize = 1024;

/// What names and growing tables may take beside what was set aside for a change.
const SLACK: usize = 4 << 10;

/// Sessions that are left where stores were full.
const SPARED: usize = 3;

impl World {
    pub(super) fn opened(&mut self, host: HostId, reason: ReadyReason) -> Result<(), Violation> {
        let Some(process) = &self.processes[host] else { return Ok(()) };
        let now = self.sched.now();
        match reason {
            ReadyReason::TimedOut(_) => {
                self.report.timed_out_joins += 1;
                return Ok(());
            }
            ReadyReason::First | ReadyReason::Transferred => {}
        }
        if self.profile.is_full(Some(host)) {
            // It could not take in everything.
            return Ok(());
        }
        let held: BTreeMap<Uid, RecordDump> = dump(process).into_iter().collect();
        let view = process.core.roster();
        let mut donors = BTreeMap::new();
        for donor in self.processes.iter().flatten() {
            let since = self.met.get(&(process.member, donor.member)).map(|met| met.at);
            // Who opened so lately that the joiner has not heard of it was not asked: it looks what differs, as a member that finds the
            // joiner ready.
            let is_asked = process.core.peer(donor.member).is_some_and(|peer| peer.state() == NodeState::Ready);
            // One that it met in the very turn in which it opened came after.
            if let Some(since) = since
                && since < now
                && is_asked
                && view.view.contains(donor.member)
                && donor.core.state() == NodeState::Ready
                && self.net.connected(host, donor.host)
            {
                // It gives what it has once the joiner is in its view: from then on the joiner hears of what changes.
                let first = self.met.get(&(donor.member, process.member)).filter(|met| !met.again);
                let live = first.map_or(since, |met| since.max(met.at));
                let partial = |uid: &Uid| first.is_some_and(|met| met.partial.contains(uid));
                let forgot = |uid: &Uid| !held.contains_key(uid) && self.oracle.ended_since(*uid, live);
                let state = dump(donor).into_iter().filter(|(uid, _)| !partial(uid) && !forgot(uid)).collect();
                donors.insert(donor.member, (live, state));
            }
        }
        self.oracle.check_join("I7", process.member, &held, &donors, false, now)
    }

    pub(super) fn look(&mut self) -> Result<(), Violation> {
        self.sched.after(LOOK, Event::Look);
        self.note_company();
        let host = self.sched.rng.usize(..self.profile.nodes);
        if let Some(process) = &self.processes[host] {
            let dump = dump(process);
            self.oracle.look(process.member, &dump)?;
            let now = self.sched.now();
            self.oracle.check_in_use(process.member, &dump, process.clock(now), now)?;
            let away = self.away.range((process.member, MemberId::NONE)..).take_while(|(k, _)| k.0 == process.member);
            // A partition that lasts for longer than tolerated is none any more.
            let away = away.filter(|(_, a)| a.since + self.profile.partition_max > now).map(|(_, a)| a.noticed);
            self.oracle.check_kept(process.member, &dump, away.min(), now)?;
            self.check_bounds(process)?;
            self.check_dead(process)?;
        }
        let now = self.sched.now();
        match self.phase {
            Phase::Start => {
                let all = self.processes.iter().all(|p| p.as_ref().is_some_and(|p| p.core.state() == NodeState::Ready));
                let any = (0..self.profile.nodes).any(|h| self.serves(h));
                // Where ways are long, not all know yet that all are ready.
                let all = all && (self.profile.detour_max().is_zero() || self.not_quiet().is_none());
                if all || any && matches!(self.profile.kind, Kind::Swarm(_)) {
                    self.begin_storm();
                } else if now > PATIENCE {
                    return Err(Violation::new("liveness", self.not_quiet().unwrap_or_default()));
                }
                Ok(())
            }
            Phase::Storm | Phase::Aftermath => Ok(()),
            Phase::Quiet => {
                self.make_room();
                let states =
                    self.processes.iter().flatten().map(|p| (p.member, dump(p).into_iter().collect())).collect();
                let waits = self.not_quiet().or_else(|| differ(&states));
                match waits {
                    None => {
                        for (member, state) in &states {
                            let state: Vec<(Uid, RecordDump)> = state.iter().map(|(u, r)| (*u, r.clone())).collect();
                            self.oracle.look(*member, &state)?;
                        }
                        self.oracle.check_quiet(&states, now)?;
                        let excused = self.oracle.tally.excused;
                        if excused > 0 && !matches!(self.profile.kind, Kind::Swarm(_)) {
                            let text =
                                format!("{excused} acked changes are lost with all their holders after one fault");
                            return Err(Violation::new("I1", text));
                        }
                        if self.late.iter().any(|(host, number, op)| self.is(*host, *number) && !op.is_done()) {
                            let text = String::from("all is acknowledged, and an op whose caller has gone still waits");
                            return Err(Violation::new("outcome", text));
                        }
                        self.report.convergence = now - self.quiet_at;
                        self.finished = true;
                        Ok(())
                    }
                    Some(why) if now > self.quiet_at + PATIENCE => Err(Violation::new("I5", why)),
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// Where stores were full, nearly every session is ended once the load is over: then all that is left fits.
    fn make_room(&mut self) {
        if !self.profile.is_full(None) || self.sched.now().subsec_millis() >= 200 {
            return;
        }
        let mut found = BTreeMap::new();
        for process in self.processes.iter().flatten() {
            for (_, record) in dump(process).into_iter().filter(|(_, r)| is_readable(r)) {
                let names = record.attrs.into_iter().filter(|(key, _, value)| key[0] == key::NAME && value.is_some());
                found.extend(names.map(|(key, ..)| (key[1..].to_vec(), process.host)));
            }
        }
        for (id, host) in found.into_iter().skip(SPARED) {
            let user = self.users.add(id, host);
            self.sched.after(Duration::ZERO, Event::Request(user));
        }
    }

    /// Tells the oracle who is with more than half of the hosts.
    fn note_company(&mut self) {
        if !self.profile.lean.is_beyond_horizon() {
            return;
        }
        let now = self.sched.now();
        let runs = |h: &HostId| self.processes[*h].is_some() && self.net.hosts[*h].paused_until <= now;
        let in_company = |host: HostId| {
            let company = (0..self.profile.nodes).filter(|h| runs(h) && self.net.connected(host, *h)).count();
            runs(&host) && company * 2 > self.profile.nodes
        };
        let members: Vec<_> = self.processes.iter().flatten().map(|p| (p.member, in_company(p.host))).collect();
        self.oracle.note_company(&members, now);
    }

    /// Why the cluster is not at rest.
    fn not_quiet(&self) -> Option<String> {
        for host in 0..self.profile.nodes {
            let Some(process) = &self.processes[host] else { return Some(format!("n{host} is not up")) };
            if process.core.state() != NodeState::Ready {
                let waits = process.control.waiting_for().unwrap_or_default();
                return Some(format!("n{host} is not ready: it waits for {waits}"));
            }
        }
        for process in self.processes.iter().flatten() {
            let host = process.host;
            let roster = process.core.roster();
            for other in self.processes.iter().flatten().filter(|p| p.host != host) {
                let Some(peer) = roster.peers.iter().find(|p| p.id() == other.member) else {
                    return Some(format!("n{host} does not have n{} in view", other.host));
                };
                if !peer.counts() {
                    return Some(format!("n{} does not count as a copy for n{host}: {:?}", other.host, peer.state()));
                }
            }
            if roster.peers.len() + 1 != self.profile.nodes {
                return Some(format!("n{host} has {} members in view", roster.peers.len() + 1));
            }
            for peer in &roster.peers {
                for (at, lane) in peer.lanes().iter().enumerate() {
                    let what = lane.peek(|o| (!o.is_empty()).then(|| (o.state(), o.in_flight(), o.unwritten())));
                    if let Some((state, in_flight, unwritten)) = what {
                        let (name, port) = (peer.name(), lane.port.get());
                        return Some(format!(
                            "lane {at} of n{host} to {name} (connection {port:?}) is {state:?}, {in_flight} in flight, {unwritten} bytes unwritten"
                        ));
                    }
                }
            }
        }
        None
    }

    /// Who died is in no view, unless the node could hardly notice.
    fn check_dead(&self, process: &Process) -> Result<(), Violation> {
        let now = self.sched.now();
        // What a dead member sent may come late.
        let late = self.net.hosts[process.host].paused_until.max(self.net.clogged_until(process.host));
        if late + BURIAL > now {
            return Ok(());
        }
        for member in &process.core.roster().view.members {
            if self.oracle.dead_for(member.id, now).is_some_and(|dead| dead > BURIAL) {
                let text = format!("n{} still has {} in view, which died long ago", process.host, member.id);
                return Err(Violation::new("down", text));
            }
        }
        Ok(())
    }

    /// Queues stay below their cap, but for a digest and a few small control messages, and stores below theirs, but for tombstones:
    /// who is told of an end takes note of it, whatever room there is.
    fn check_bounds(&self, process: &Process) -> Result<(), Violation> {
        let store = process.core.store();
        let (bytes, cap) = (store.bytes(), self.profile.store_max(process.host));
        if bytes > cap + SLACK + store.tombstones() * TOMBSTONE {
            return Err(Violation::new("bounds", format!("n{} holds {bytes} bytes, and may {cap}", process.host)));
        }
        for peer in &process.core.roster().peers {
            let cap = self.profile.queue_bytes_max + 8 * BUCKETS + (16 << 10);
            if peer.queued() > cap {
                let text = format!("{} bytes are queued from n{} to {}", peer.queued(), process.host, peer.name());
                return Err(Violation::new("bounds", text));
            }
        }
        Ok(())
    }
}

/// The first session that waits for what it misses, or difference between what the nodes show.
fn differ(states: &BTreeMap<MemberId, BTreeMap<Uid, RecordDump>>) -> Option<String> {
    for (member, state) in states {
        if let Some((uid, record)) = state.iter().find(|(_, r)| !r.dead && r.partial && r.top > r.exp) {
            return Some(format!("{uid:?} misses something at {member}: {}", sketch(Some(record))));
        }
    }
    let mut all = states.iter();
    let (first, reference) = all.next()?;
    for (member, state) in all {
        let uids: BTreeSet<&Uid> = state.keys().chain(reference.keys()).collect();
        for uid in uids {
            let (here, there) = (visible(state.get(uid)), visible(reference.get(uid)));
            if here != there {
                let (one, other) = (sketch(reference.get(uid)), sketch(state.get(uid)));
                return Some(format!("{uid:?} differs: {first} has {one}, {member} has {other}"));
            }
        }
    }
    None
}

/// A record in few words.
fn sketch(record: Option<&RecordDump>) -> String {
    match record {
        None => String::from("nothing"),
        Some(record) if record.dead => String::from("its tombstone"),
        Some(record) => {
            let attrs = record.attrs.iter().map(|(key, version, value)| {
                format!("{}={version:?}{}", show(key), if value.is_some() { "" } else { " removed" })
            });
            let (partial, top, exp) = (record.partial, record.top, record.exp);
            format!("partial {partial} top {top:?} exp {exp:?} {}", attrs.collect::<Vec<_>>().join(" "))
        }
    }
}

/// What a reader can see of a record: key, version, value.
type Visible<'a> = Vec<(&'a [u8], Version, Option<&'a [u8]>)>;

fn visible(record: Option<&RecordDump>) -> Option<Visible<'_>> {
    let record = record.filter(|r| is_readable(r))?;
    let live = record.attrs.iter().filter(|(_, _, value)| value.is_some());
    Some(live.map(|(key, version, value)| (&key[..], *version, value.as_deref())).collect())
}

/// Everything that a node holds.
pub(super) fn dump(process: &Process) -> Vec<(Uid, RecordDump)> {
    process.core.store().find(CONTEXT).map(|c| c.dump()).unwrap_or_default()
}

/// What a node holds of one session.
pub(super) fn dump_of(process: &Process, uid: Uid) -> Option<RecordDump> {
    process.core.store().find(CONTEXT)?.dump_of(uid)
}

/// Up to which version a node has everything of one session.
pub(super) fn whole_of(process: &Process, uid: Uid) -> Option<Version> {
    process.core.store().find(CONTEXT)?.whole_up_to(uid)
}

pub(super) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
