//! One run: the loop of events, the requests, and the moments at which the oracle looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::absence::{Absences, NOTICE};
use super::load::{Users, exponential};
use super::look::dump;
use super::net::{ConnId, HostId, Net, NetEvent};
use super::options::Options;
use super::oracle::Oracle;
use super::process::Process;
use super::requests::{Caller, Request};
use super::swarm::{Kind, Profile};
use super::{Report, Sched, Violation};
use crate::event::Event as NodeEvent;
use crate::id::{MemberId, Time, Uid};
use crate::proto::op::Op;

/// The one context of a run.
pub(super) const CONTEXT: &[u8] = b"app";
/// How often a node is looked at, and how often the end is tried.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Load goes on for this long after everything has healed.
const AFTERMATH: Duration = Duration::from_millis(1000);
/// A cluster without faults is ready within this, a healed one quiet and equal.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a leaving node may take to hand over what it has queued.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

/// Everything that can happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Net(NetEvent),
    Turn(HostId),
    Timer(HostId, u32),
    Deadline(HostId, u32, ConnId),
    /// A process starts.
    Start(HostId),
    /// A user's next request.
    Request(usize),
    /// A request ends.
    End(u64),
    /// A caller waits no longer.
    AckTimeout(u64),
    /// Something goes wrong.
    Fault,
    /// A partition takes another shape; so many more follow, each lasting so long.
    Shift(u32, Duration),
    /// Ways that were cut are whole again.
    Mend(Vec<(HostId, HostId)>),
    /// A leaving node looks whether it may go.
    Leave(HostId, u32, Time),
    /// A process is gone.
    Gone(HostId, u32),
    /// A process dies, if it still runs.
    Kill(HostId, u32),
    /// A process should have been told of a death: the ways to it were short when it wrote, or was looked at last.
    Told(HostId, u32, Uid, bool),
    /// The oracle looks at a node.
    Look,
    /// Faults end.
    Heal,
    /// Load ends.
    Calm,
}

/// A member that a process lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    pub(super) noticed: Time,
    pub(super) since: Time,
}

/// How a process came to know a member.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) at: Time,
    /// It had lost it before.
    pub(super) again: bool,
    /// Since when it has been away, until it is repaired.
    lost: Option<Time>,
    /// What the process had not whole then.
    pub(super) partial: BTreeSet<Uid>,
    /// Whether a caller has been told of a copy since.
    pub(super) counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nodes start.
    Start,
    /// Load and faults.
    Storm,
    /// Load, no faults.
    Aftermath,
    /// Neither.
    Quiet,
}

pub(super) struct World {
    pub(super) profile: Profile,
    pub(super) sched: Sched,
    pub(super) net: Net,
    pub(super) processes: Vec<Option<Process>>,
    pub(super) starts: Vec<u32>,
    pub(super) leaving: BTreeSet<HostId>,
    pub(super) phase: Phase,
    pub(super) oracle: Oracle,
    pub(super) report: Report,
    pub(super) users: Users,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) callers: BTreeMap<u64, Caller>,
    /// Ops whose callers have gone: they settle all the same.
    pub(super) late: Vec<(HostId, u32, Arc<Op>)>,
    pub(super) rung: Arc<Mutex<Vec<u64>>>,
    pub(super) serial: u64,
    /// When each process came to know each member that it knows.
    pub(super) met: BTreeMap<(MemberId, MemberId), Met>,
    /// Since when a process misses a member that it lost and that has not come back.
    pub(super) away: BTreeMap<(MemberId, MemberId), Away>,
    pub(super) quiet_at: Time,
    pub(super) finished: bool,
}

pub(super) type Ran = Result<(), Violation>;

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut sched = Sched::new(seed, options.trace);
        let profile = Profile::new(seed, options, &mut sched.rng);
        let net = Net::new(profile.nodes, profile.weather.clone());
        let users = Users::new(&profile.load, profile.nodes, &mut sched);
        let drift = profile.sessions.max_idle / 20;
        let slack = profile.sessions.touch_interval + drift + Duration::from_millis(300);
        let absences = profile.lean.is_beyond_horizon().then(|| Absences::new(profile.sessions.horizon));
        Self {
            oracle: Oracle::new(profile.sessions.max_idle, slack, drift, absences),
            processes: (0..profile.nodes).map(|_| None).collect(),
            starts: vec![0; profile.nodes],
            leaving: BTreeSet::new(),
            phase: Phase::Start,
            report: Report { seed, size: (profile.nodes, profile.load.users, profile.length), ..Report::default() },
            users,
            requests: BTreeMap::new(),
            callers: BTreeMap::new(),
            late: Vec::new(),
            rung: Arc::default(),
            serial: 0,
            met: BTreeMap::new(),
            away: BTreeMap::new(),
            quiet_at: Time::ZERO,
            finished: false,
            profile,
            sched,
            net,
        }
    }

    pub(super) fn run(mut self) -> Report {
        self.sched.trace(|| format!("{:#?}", self.profile));
        for host in 0..self.profile.nodes {
            let delay = self.sched.millis(0, self.profile.spread_ms);
            self.sched.after(delay, Event::Start(host));
        }
        self.sched.after(LOOK, Event::Look);
        let mut result = Ok(());
        while result.is_ok() && !self.finished {
            result = match self.sched.next() {
                Some(event) => self.handle(event),
                None => Err(Violation::new("liveness", String::from("nothing is planned any more"))),
            };
        }
        self.report.violation = result.err().map(|v| Violation { at: self.sched.now(), ..v });
        let tally = self.oracle.tally;
        (self.report.checked, self.report.excused) = (tally.checked, tally.excused);
        self.report.beyond_horizon = tally.beyond_horizon;
        self.report.gone = [tally.ended, tally.over, tally.idle];
        (self.report.acks_checked, self.report.joins_checked) = (tally.acks, tally.joins);
        (self.report.reads, self.report.gaps) = (tally.reads, tally.gaps);
        self.report.events = self.sched.events();
        self.report.hash = self.sched.hash();
        self.report.time = self.sched.now();
        self.report
    }

    fn handle(&mut self, event: Event) -> Ran {
        match event {
            Event::Net(event) => self.net.handle(&mut self.sched, event),
            Event::Turn(host) => {
                if self.net.begin_turn(&mut self.sched, host) {
                    if let Some(process) = &mut self.processes[host] {
                        process.turn(&mut self.net, &mut self.sched);
                    }
                    return self.after(host);
                }
            }
            Event::Timer(host, number) => {
                if self.is(host, number) {
                    self.net.plan_turn(&mut self.sched, host);
                }
            }
            Event::Deadline(host, number, id) => {
                if self.is(host, number) {
                    self.net.announce(&mut self.sched, host, super::net::Ready::Deadline(id));
                }
            }
            Event::Start(host) => self.start(host),
            Event::Request(user) => return self.request(user),
            Event::End(request) => return self.end(request),
            Event::AckTimeout(op) => return self.settle(op, true),
            Event::Fault => self.fault(),
            Event::Shift(shapes, each) => self.shift(shapes, each),
            Event::Mend(ways) => {
                for (from, to) in ways {
                    self.net.mend(&mut self.sched, from, to);
                }
            }
            Event::Leave(host, number, since) => self.leave(host, number, since),
            Event::Gone(host, number) => {
                if self.is(host, number) {
                    self.bury(host, super::net::Death::Killed);
                }
            }
            Event::Kill(host, number) => self.kill(host, number),
            Event::Told(host, number, uid, was_short) => return self.check_told(host, number, uid, was_short),
            Event::Look => return self.look(),
            Event::Heal => self.heal(),
            Event::Calm => {
                self.phase = Phase::Quiet;
                self.quiet_at = self.sched.now();
            }
        }
        Ok(())
    }

    pub(super) fn is(&self, host: HostId, number: u32) -> bool {
        self.processes[host].as_ref().is_some_and(|p| p.number == number)
    }

    fn start(&mut self, host: HostId) {
        if self.processes[host].is_some() {
            return;
        }
        self.starts[host] += 1;
        let process = Process::start(&self.profile, &mut self.net, &mut self.sched, host, self.starts[host]);
        self.sched.trace(|| format!("n{host}.{} starts as {}", process.number, process.member));
        self.oracle.born(process.member);
        self.processes[host] = Some(process);
    }

    /// Load and faults begin: where nothing may be excused, once every node is ready.
    pub(super) fn begin_storm(&mut self) {
        self.phase = Phase::Storm;
        for user in 0..self.users.all.len() {
            let delay = self.users.think(&mut self.sched);
            self.sched.after(delay, Event::Request(user));
        }
        match &self.profile.kind {
            Kind::Calm => {}
            Kind::Single(_) => {
                let delay = self.sched.millis(500, 4000);
                self.sched.after(delay, Event::Fault);
            }
            Kind::Swarm(_) => {
                let delay = exponential(&mut self.sched, self.profile.fault_every_ms);
                self.sched.after(delay, Event::Fault);
            }
        }
        self.sched.after(self.profile.length, Event::Heal);
    }

    fn heal(&mut self) {
        self.sched.trace(|| String::from("everything heals"));
        self.phase = Phase::Aftermath;
        self.net.mend_all(&mut self.sched);
        let weather = &mut self.net.weather;
        (weather.loss, weather.double, weather.lost_dial, weather.tail) = (0.0, 0.0, 0.0, 0.0);
        weather.lag = (0, 100);
        for host in 0..self.profile.nodes {
            self.net.hosts[host].paused_until = self.sched.now();
            self.sched.after(Duration::ZERO, Event::Turn(host));
            self.sched.after(Duration::ZERO, Event::Start(host));
        }
        self.sched.after(AFTERMATH, Event::Calm);
    }

    /// After every turn of a process: its events, and the callers that were woken.
    pub(super) fn after(&mut self, host: HostId) -> Ran {
        let mut opened = None;
        if let Some(process) = &mut self.processes[host]
            && let Some(wrong) = process.wrong.take()
        {
            return Err(Violation::new("wire", wrong));
        }
        if let Some(process) = &self.processes[host] {
            let now = self.sched.now();
            while let Some(event) = process.core.next_event(Duration::ZERO) {
                match &event {
                    NodeEvent::MemberUp(member, _, _) => {
                        let pair = (process.member, *member);
                        let lost = self.away.remove(&pair).map(|away| away.since);
                        let again = lost.is_some();
                        let partial = dump(process).into_iter().filter(|(_, r)| r.partial).map(|(uid, _)| uid);
                        let met = Met { at: now, again, lost, partial: partial.collect(), counted: false };
                        self.met.insert(pair, met);
                        if !process.has_met(*member) {
                            let text = format!("n{host} has {member} in view, with whom no handshake was complete");
                            return Err(Violation::new("admission", text));
                        }
                    }
                    NodeEvent::MemberDown(member, ..) | NodeEvent::MemberLeft(member, ..) => {
                        let met = self.met.remove(&(process.member, *member));
                        if matches!(event, NodeEvent::MemberDown(..)) {
                            // Who stood still until shortly before was away since then.
                            let own = &self.net.hosts[host];
                            let since = if own.paused_until + NOTICE > now { own.paused_from } else { now };
                            let since = met.and_then(|met| met.lost).map_or(since, |lost| lost.min(since));
                            self.away.insert((process.member, *member), Away { noticed: now, since });
                        }
                        if self.profile.kind == Kind::Calm {
                            let text = format!("n{host} lost {member} though nothing failed");
                            return Err(Violation::new("accuracy", text));
                        }
                    }
                    NodeEvent::RepairDone(member, _) => {
                        if let Some(met) = self.met.get_mut(&(process.member, *member)) {
                            met.lost = None;
                        }
                    }
                    NodeEvent::Ready(reason) => opened = Some(*reason),
                    NodeEvent::SessionCreated(..) | NodeEvent::SessionChanged(..) | NodeEvent::SessionEnded(..) => {
                        continue;
                    }
                    NodeEvent::Refused(why) if self.profile.is_full(None) && why.contains("Full") => {}
                    NodeEvent::Refused(why) if !why.contains("andshake") => {
                        return Err(Violation::new(
                            "wire",
                            format!("n{host} refused what an honest member sent: {why}"),
                        ));
                    }
                    _ => {}
                }
                self.sched.trace(|| format!("n{host}.{} {event:?}", process.number));
            }
            self.sched.mix(process.core.store().sessions() as u64);
        }
        if let Some(reason) = opened {
            self.opened(host, reason)?;
        }
        loop {
            let rung: Vec<u64> = std::mem::take(&mut *self.rung.lock());
            if rung.is_empty() {
                return Ok(());
            }
            for op in rung {
                self.settle(op, false)?;
            }
        }
    }
}
