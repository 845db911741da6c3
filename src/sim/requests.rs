//! Users' requests: what a node is asked, what its caller is told, and what is checked of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Violation;
use super::commit::{Before, attr_key};
use super::load::Plan;
use super::look::{dump, dump_of, show, whole_of};
use super::net::HostId;
use super::oracle::{ChangeId, digest, is_readable};
use super::process::Process;
use super::swarm::Kind;
use super::world::{CONTEXT, Event, Phase, Ran, World};
use crate::engine::Send;
use crate::id::{AckLevel, MemberId, NodeState, Time, Uid};
use crate::proto::op::{MissingReason, Op};
use crate::session::{Changes, CommitError, CommitStatus, Handle};

/// Once the load has ended, sessions that would expire are used once in this time: each full second.
const PULSE: Duration = Duration::from_secs(1);
/// Where nothing is late, who writes to the dead is told by those who know it, after the way there and back and this.
const TELLING: Duration = Duration::from_millis(20);

/// A request that has begun.
#[derive(Debug)]
pub(super) struct Request {
    host: HostId,
    number: u32,
    user: usize,
    plan: Plan,
    handle: Handle,
    /// Its create was killed by name before it ended.
    killed: bool,
    waits_until: Option<Time>,
}

/// A caller that waits for copies.
#[derive(Debug)]
pub(super) struct Caller {
    host: HostId,
    number: u32,
    op: Arc<Op>,
    level: AckLevel,
    roster: SmallVec<[MemberId; 5]>,
    changes: SmallVec<[ChangeId; 2]>,
    /// Members that could be no copy when it was committed.
    no_copies: SmallVec<[MemberId; 5]>,
    /// How often each member's queue had been given up by then.
    losses: SmallVec<[u64; 5]>,
}

/// Tells which op woke its caller.
struct Bell {
    op: u64,
    rung: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.lock().push(self.op);
    }
}

impl World {
    pub(super) fn request(&mut self, user: usize) -> Ran {
        // Once the load is over a session is ended where the stores were full, and where sessions expire it is used.
        let ends = self.phase == Phase::Quiet && self.profile.is_full(None);
        if self.phase == Phase::Quiet && !ends && !self.profile.sessions_expire() {
            return Ok(());
        }
        let think = if self.phase == Phase::Quiet {
            // All at once and then a pause, so that there are moments without anything under way.
            let beat = PULSE.saturating_sub(Duration::from_nanos(u64::from(self.sched.now().subsec_nanos())));
            beat + self.sched.millis(0, 50)
        } else {
            self.users.think(&mut self.sched)
        };
        if !ends {
            self.sched.after(think, Event::Request(user));
        }
        let Some(host) = self.choose(user) else { return Ok(()) };
        let Some(process) = &self.processes[host] else { return Ok(()) };
        let now = process.clock(self.sched.now());
        let Ok(context) = process.core.store().context(CONTEXT) else { return Ok(()) };
        let mut handle = context.begin(&self.users.all[user].id, now);
        self.oracle.check_union(process.member, handle.uids())?;
        for uid in handle.uids() {
            self.oracle.check_served(process.member, *uid, context.dump_of(*uid).as_ref())?;
        }
        if let [uid] = *handle.uids() {
            for (name, version, value) in handle.attributes() {
                self.oracle.check_read(process.member, uid, attr_key(name), version, digest(value))?;
            }
            self.oracle.count_read(uid, context.dump_of(uid).as_ref());
        }
        let mut plan = self.users.plan(&mut self.sched);
        if self.phase == Phase::Quiet {
            // Sessions stay in use while the cluster comes to rest, or idleness would excuse everything.
            plan = if ends { Plan::Invalidate } else { Plan::Touch };
        }
        if !handle.exists() {
            if self.phase == Phase::Quiet {
                return Ok(());
            }
            context.create(&mut handle);
            plan = Plan::Delta;
        }
        self.serial += 1;
        let request = Request { host, number: process.number, user, plan, handle, killed: false, waits_until: None };
        self.requests.insert(self.serial, request);
        let hold = self.users.hold(&mut self.sched);
        self.sched.after(hold, Event::End(self.serial));
        Ok(())
    }

    /// The user's own node while it serves, else another that does; sometimes any.
    fn choose(&mut self, user: usize) -> Option<HostId> {
        let serving: Vec<HostId> = (0..self.profile.nodes).filter(|h| self.serves(*h)).collect();
        if serving.is_empty() {
            return None;
        }
        let any = serving[self.sched.rng.usize(..serving.len())];
        if self.sched.chance(self.profile.load.roam) {
            return Some(any);
        }
        let home = &mut self.users.all[user].home;
        if !serving.contains(home) {
            *home = any;
        }
        Some(*home)
    }

    pub(super) fn serves(&self, host: HostId) -> bool {
        !self.leaving.contains(&host)
            && self.net.hosts[host].paused_until <= self.sched.now()
            && self.processes[host].as_ref().is_some_and(|p| p.core.state().serves())
    }

    pub(super) fn end(&mut self, id: u64) -> Ran {
        let Some(request) = self.requests.get_mut(&id) else { return Ok(()) };
        let (host, user) = (request.host, request.user);
        let now = self.sched.now();
        let joins = self.processes.iter().flatten().filter(|p| p.core.state() == NodeState::Joining);
        let mut no_copies: SmallVec<[MemberId; 5]> = joins.map(|p| p.member).collect();
        let Some(process) = self.processes[host].as_mut().filter(|p| p.number == request.number) else {
            self.requests.remove(&id);
            return Ok(());
        };
        if self.net.hosts[host].paused_until > now {
            self.sched.at(self.net.hosts[host].paused_until, Event::End(id));
            return Ok(());
        }
        if !process.core.state().serves() {
            self.requests.remove(&id);
            return Ok(());
        }
        if process.core.is_pressed() {
            let until = *request.waits_until.get_or_insert(now + self.profile.load.queue_wait);
            if now < until {
                self.sched.after(Duration::from_millis(5), Event::End(id));
                return Ok(());
            }
        }
        let Some(mut request) = self.requests.remove(&id) else { return Ok(()) };
        let local = process.clock(now);
        let Ok(context) = process.core.store().context(CONTEXT) else { return Ok(()) };
        let idle = self.profile.sessions.max_idle;
        let changes = self.users.changes(user, request.plan, &request.handle, idle, &mut self.sched);
        let send = if self.sched.chance(self.profile.load.applied) {
            Send::Acked(AckLevel::Applied)
        } else if self.sched.chance(self.profile.load.received) {
            Send::Acked(AckLevel::Received)
        } else {
            Send::Queued
        };
        let before = Before::look(&context, &request.handle, &changes, local);
        let view = process.core.roster();
        let roster: SmallVec<[MemberId; 5]> = view.peers.iter().map(|p| p.id()).collect();
        let losses = view.peers.iter().map(|p| p.losses()).collect();
        no_copies.extend(view.peers.iter().filter(|p| p.is_repairing()).map(|p| p.id()));
        let telling = self.telling(host, &request.handle, &roster);
        let Some(process) = self.processes[host].as_mut() else { return Ok(()) };
        let committed = match process.core.commit(&context, &mut request.handle, &changes, send, local, &mut process.fx)
        {
            Ok(committed) => committed,
            Err(CommitError::StoreFull(_)) if self.profile.is_full(Some(host)) => {
                self.report.refused += 1;
                return before.check_unchanged(&context);
            }
            Err(e) => {
                let text = format!("a request within every limit was refused: {e}");
                return Err(Violation::new("commit", text));
            }
        };
        self.sched.mix(committed.commit.version.counter);
        self.sched.trace(|| {
            let uids = request.handle.uids();
            format!("n{host} {:?} of {uids:?} {:?} {}", request.plan, committed.commit, show(request.handle.id()))
        });
        let member = process.member;
        let recorded = match committed.commit.status {
            CommitStatus::Changed => {
                self.report.updates += 1;
                before.record(
                    &context,
                    &request.handle,
                    &changes,
                    committed.commit.version,
                    member,
                    &mut self.oracle,
                    now,
                )?
            }
            CommitStatus::Ended => {
                self.report.ended += 1;
                before.check_ended(&context)?;
                SmallVec::new()
            }
            CommitStatus::Unchanged => SmallVec::new(),
        };
        if let ([change, ..], Some(after), true) = (&recorded[..], telling, send != Send::Nobody) {
            let uid = self.oracle.change(*change).uid;
            let is_short = self.processes[host].as_ref().is_some_and(|p| !self.is_long_way(p, uid));
            self.sched.after(after, Event::Told(host, request.number, uid, is_short));
        }
        match (committed.commit.status, request.plan) {
            (CommitStatus::Changed, Plan::ChangeId) => {
                if let Some(id) = &changes.new_id {
                    self.users.all[user].id = id.to_vec();
                }
            }
            (CommitStatus::Ended, _) | (_, Plan::Invalidate) => self.users.login(user, &mut self.sched),
            _ => {}
        }
        if let (Some(op), Send::Acked(level)) = (committed.op, send) {
            self.serial += 1;
            let number = request.number;
            let caller =
                Caller { host, number, op: Arc::clone(&op), level, roster, changes: recorded, no_copies, losses };
            self.callers.insert(self.serial, caller);
            let bell = Waker::from(Arc::new(Bell { op: self.serial, rung: Arc::clone(&self.rung) }));
            if op.set_waker(bell) {
                self.sched.after(self.profile.load.ack_timeout, Event::AckTimeout(self.serial));
            } else {
                self.rung.lock().push(self.serial);
            }
        }
        self.check_use(member, &request, &changes, committed.commit.status, local)?;
        let Some(process) = self.processes[host].as_mut() else { return Ok(()) };
        process.settle(&mut self.net, &mut self.sched);
        process.plan_timer(&mut self.sched);
        self.after(host)
    }

    /// A request used sessions: what it may find, and what it must announce.
    fn check_use(
        &mut self,
        member: MemberId,
        request: &Request,
        changes: &Changes,
        status: CommitStatus,
        local: Time,
    ) -> Ran {
        let now = self.sched.now();
        if changes.invalidate {
            let same = |r: &&mut Request| {
                (r.host, r.number) == (request.host, request.number)
                    && r.handle.is_new()
                    && r.handle.id() == request.handle.id()
            };
            self.requests.values_mut().filter(same).for_each(|r| r.killed = true);
            return Ok(());
        }
        if request.killed && status == CommitStatus::Changed {
            let text = format!("{:?} was killed before its commit and lives", request.handle.uids());
            return Err(Violation::new("killed", text));
        }
        let touches = changes.touch || changes.full;
        if status == CommitStatus::Ended || !touches && status == CommitStatus::Unchanged {
            return Ok(());
        }
        if let [uid] = *request.handle.uids()
            && self.profile.kind == Kind::Calm
        {
            // Clocks drift, and an age does not grow on the way: what is late looks as if it had been later.
            let limit = self.profile.sessions.touch_interval.mul_f64(1.1)
                + Duration::from_millis(20)
                + self.profile.detour_max();
            let late = self.oracle.unused_for(uid, now).is_some_and(|unused| unused > limit);
            if late && touches && status == CommitStatus::Unchanged {
                let text = format!("an access of {uid:?} at {member} was not announced");
                return Err(Violation::new("touch", text));
            }
        }
        // Of a union, a write without a touch reaches one; a new name, and what it removes, all that have it.
        let all = touches || request.handle.uids().len() == 1;
        for uid in request.handle.uids() {
            if all {
                self.oracle.uses(member, *uid, local, now);
            } else {
                self.oracle.may_use(*uid, now);
            }
        }
        Ok(())
    }

    /// A caller reads what became of its change: woken, or out of patience.
    pub(super) fn settle(&mut self, id: u64, timed_out: bool) -> Ran {
        let Some(caller) = self.callers.remove(&id) else { return Ok(()) };
        if !self.is(caller.host, caller.number) {
            // The caller died with its process: nobody was told anything.
            return Ok(());
        }
        if timed_out && self.net.hosts[caller.host].paused_until > self.sched.now() {
            let at = self.net.hosts[caller.host].paused_until;
            self.callers.insert(id, caller);
            self.sched.at(at, Event::AckTimeout(id));
            return Ok(());
        }
        let outcome = caller.op.outcome();
        if timed_out && caller.op.is_done() {
            return Err(Violation::new("wake", String::from("an op was done and its caller was not woken")));
        }
        if !timed_out && !caller.op.is_done() {
            return Err(Violation::new("wake", String::from("a caller was woken by an op that is not done")));
        }
        let missing: SmallVec<[MemberId; 5]> = outcome.missing.iter().map(|(m, _)| *m).collect();
        let confirmed: SmallVec<[MemberId; 5]> =
            caller.roster.iter().copied().filter(|m| !missing.contains(m)).collect();
        if !caller.changes.is_empty() && outcome.copies as usize != confirmed.len() {
            let text =
                format!("an outcome counts {} copies; {confirmed:?} are not missing: {outcome:?}", outcome.copies);
            return Err(Violation::new("outcome", text));
        }
        // Where several write at once, one may build on what a third has not received yet: it is partial for a moment.
        let odd = outcome.missing.iter().any(|(_, why)| *why != MissingReason::Partial);
        if self.profile.kind == Kind::Calm && odd {
            let text = format!("nothing failed and a copy is missing: {outcome:?}");
            return Err(Violation::new("accuracy", text));
        }
        if let Some(member) = confirmed.iter().find(|m| !caller.changes.is_empty() && caller.no_copies.contains(m)) {
            let text = format!("{member} joined or was under repair, and counts as a copy: {outcome:?}");
            return Err(Violation::new("copies", text));
        }
        self.sched.mix(u64::from(outcome.copies));
        if timed_out {
            self.late.push((caller.host, caller.number, Arc::clone(&caller.op)));
            self.report.timeouts += 1;
        } else if missing.is_empty() && !caller.changes.is_empty() {
            self.report.acked += 1;
        }
        for change in &caller.changes {
            if let Some(member) = confirmed.iter().find(|m| self.oracle.died_before(**m, *change)) {
                let text = format!("{member} counts as a copy of what was committed after its death");
                return Err(Violation::new("copies", text));
            }
            let is_done = !timed_out && caller.level == AckLevel::Applied;
            self.oracle.confirmed(*change, &confirmed, (missing.is_empty(), is_done), self.sched.now());
            if caller.level != AckLevel::Applied {
                continue;
            }
            for member in &confirmed {
                let held = self.by_member(*member).and_then(|p| dump_of(p, self.oracle.change(*change).uid));
                self.oracle.check_ack(*change, *member, held.as_ref(), self.sched.now())?;
                let whole = self.by_member(*member).and_then(|p| whole_of(p, self.oracle.change(*change).uid));
                if let (Some(held), Some(whole)) = (held, whole) {
                    self.oracle.check_whole(*change, *member, &held, whole)?;
                }
            }
        }
        // One that lasts may have been confirmed before the member went.
        if let Some(since) = caller.changes.iter().map(|change| self.oracle.change(*change).at).min() {
            let losses = caller.roster.iter().copied().zip(caller.losses).collect();
            self.check_returns(caller.host, &confirmed, &losses, since)?;
        }
        if let Some(process) = &self.processes[caller.host] {
            process.core.recycle(caller.op);
        }
        Ok(())
    }

    /// Where nothing is late: how soon a request that writes now is told that its session is dead, if a member knows it.
    fn telling(&self, host: HostId, handle: &Handle, roster: &[MemberId]) -> Option<Duration> {
        let ([uid], Kind::Calm) = (handle.uids(), &self.profile.kind) else { return None };
        let dead = |p: &&Process| roster.contains(&p.member) && dump_of(p, *uid).is_some_and(|r| r.dead);
        let ways = |p: &Process| self.profile.detour(host, p.host) + self.profile.detour(p.host, host);
        let soonest = self.processes.iter().flatten().filter(dead).map(ways).min();
        soonest.map(|ways| ways + TELLING)
    }

    /// Whether more is on the ways between a process and those that know a session as dead than these take at once: news takes longer.
    fn is_long_way(&self, process: &Process, uid: Uid) -> bool {
        let window = self.profile.weather.window;
        let is_long = |from: &Process, to: &Process| {
            let peer = from.core.peer(to.member);
            peer.is_some_and(|p| p.lanes()[p.lane_of(uid)].peek(|out| out.outstanding() > window))
        };
        let mut dead = self.processes.iter().flatten().filter(|p| dump_of(p, uid).is_some_and(|r| r.dead));
        dead.any(|p| is_long(process, p) || is_long(p, process))
    }

    /// Who wrote to the dead has been told, where the ways were short at two looks that were so far apart that the news made them.
    pub(super) fn check_told(&mut self, host: HostId, number: u32, uid: Uid, was_short: bool) -> Ran {
        let process = self.processes[host].as_ref().filter(|p| p.number == number);
        let Some(process) = process.filter(|p| dump_of(p, uid).is_some_and(|r| is_readable(&r))) else { return Ok(()) };
        let is_short = !self.is_long_way(process, uid);
        if was_short && is_short {
            let text = format!("{uid:?} is dead at a member that n{host} wrote it to, and n{host} still serves it");
            return Err(Violation::new("told", text));
        }
        let after = self.profile.detour_max() * 2 + TELLING;
        self.sched.after(after, Event::Told(host, number, uid, is_short));
        Ok(())
    }

    /// The first copies of a member, of what was committed at `since`, since it came into view: it has all that the writer had committed
    /// before, and one that was away all that the writer had then.
    fn check_returns(
        &mut self,
        host: HostId,
        confirmed: &[MemberId],
        losses: &BTreeMap<MemberId, u64>,
        since: Time,
    ) -> Ran {
        let now = self.sched.now();
        for member in confirmed {
            let Some(writer) = &self.processes[host] else { return Ok(()) };
            // What was given up since is brought by a repair, and whoever waited for it was told.
            let Some(peer) = writer.core.peer(*member).filter(|p| losses.get(member) == Some(&p.losses())) else {
                continue;
            };
            let met = self.met.get_mut(&(writer.member, *member)).filter(|met| !met.counted && met.at < since);
            let Some(met) = met else { continue };
            met.counted = true;
            let (at, again) = (met.at, met.again);
            let may_lack = |p: &&Process| !self.profile.is_full(Some(p.host));
            let Some(process) = self.processes.iter().flatten().find(|p| p.member == *member).filter(may_lack) else {
                continue;
            };
            let held: BTreeMap<_, _> = dump(process).into_iter().collect();
            let forgot = |uid: &Uid| !held.contains_key(uid) && self.oracle.ended_since(*uid, at);
            let tells = |uid: &Uid| !met.partial.contains(uid) && !forgot(uid);
            let state: BTreeMap<_, _> = dump(writer).into_iter().filter(|(uid, _)| tells(uid)).collect();
            let by = writer.member;
            // What is under way to it is not lost.
            let idle: Vec<_> = peer.lanes().iter().map(|lane| lane.peek(|out| out.is_empty())).collect();
            let arrived: BTreeMap<_, _> =
                state.iter().filter(|(uid, _)| idle[peer.lane_of(**uid)]).map(|(uid, r)| (*uid, r.clone())).collect();
            self.oracle.check_join("copies", *member, &held, &BTreeMap::from([(by, (since, arrived))]), true, now)?;
            if again {
                self.oracle.check_join("return", *member, &held, &BTreeMap::from([(by, (at, state))]), false, now)?;
            }
        }
        Ok(())
    }

    fn by_member(&self, member: MemberId) -> Option<&Process> {
        self.processes.iter().flatten().find(|p| p.member == member)
    }
}
