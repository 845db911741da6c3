//! Three members as processes, the clients' way to them, and what all threads of a run share.
//!
//! With root and the tools each member has a host of its own, a network namespace; else all are on loopback.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hotspare::cli::demo::process::Process;
use serde_json::{Value, json};

use crate::common::lab::Lab;
use crate::common::{Cluster, SMALL_QUEUE, SOON, now, program};
use crate::history::{Counts, Incarnation, NODES, Quiet, Seen, Session, Wrong};

/// Session ids in use.
const SESSIONS: usize = 48;
const NAMES: [&str; NODES] = ["a", "b", "c"];
/// How long tombstones live: the idle time of sessions, and the longest tolerated partition.
pub const HORIZON: Duration = Duration::from_secs(120);
/// The idle time of a brief session, and how much longer others than its writer wait.
pub const BRIEF: Duration = Duration::from_secs(1);
pub const GRACE: Duration = Duration::from_secs(1);
/// How much later than it may a session go: a member looks a few times a second.
const LATE: Duration = Duration::from_secs(2);
/// How long members may take to agree once nothing happens any more.
const QUIET: Duration = Duration::from_secs(10);

/// A lock that a failed thread does not take along.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the time pass, but not beyond the end of the run.
pub fn pass(run: &Run, time: Duration) {
    let until = now() + time;
    while !run.is_over() {
        let left = until.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left.min(Duration::from_millis(50)));
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The process is gone, as was arranged, or is another one by now.
    Gone,
    /// The member refused, and said why.
    Refused(String),
}

/// One member, through its restarts.
#[derive(Debug)]
pub struct Node {
    pub index: usize,
    process: Mutex<Option<Process>>,
    pub pid: AtomicU32,
    incarnation: AtomicU64,
    /// Whether a client may come here: no fault of it is unhealed.
    pub healthy: AtomicBool,
    /// Whether its end is arranged.
    pub doomed: AtomicBool,
}

impl Node {
    pub fn name(&self) -> &'static str {
        NAMES[self.index]
    }

    /// The present process.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation.load(Ordering::SeqCst)
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }

    /// Asks the process `only`, or whichever it is. What it must not do is noted as a violation.
    pub fn ask(&self, run: &Run, only: Option<Incarnation>, request: &Value) -> Result<(Value, Incarnation), NoAnswer> {
        let mut process = lock(&self.process);
        let incarnation = self.incarnation();
        if only.is_some_and(|only| only != incarnation) {
            return Err(NoAnswer::Gone);
        }
        let Some(member) = process.as_mut() else { return Err(NoAnswer::Gone) };
        match member.ask(request) {
            Ok(answer) => Ok((answer, incarnation)),
            Err(why) if why.ends_with("has ended") => {
                if !self.doomed.load(Ordering::SeqCst) {
                    run.violation(Wrong::Member, &format!("{why} by itself; it was asked {request}"), None);
                }
                Err(NoAnswer::Gone)
            }
            Err(why) => {
                if why.contains("did not answer within") {
                    run.violation(Wrong::Member, &format!("{why}; it was asked {request}"), None);
                }
                Err(NoAnswer::Refused(why))
            }
        }
    }

    /// Starts a process in this place, on the port given or a free one, and waits until it serves.
    pub fn start(&self, run: &Run, port: Option<u16>, kind: MemberKind) -> Result<(), String> {
        let port = port.map(|port| format!("--port={port}"));
        let mut flags: Vec<&str> = port.iter().map(String::as_str).collect();
        if kind.asynchronous {
            run.count("starts asynchronous");
            flags.push("--mode=asynchronous");
        }
        if kind.small_queue {
            run.count("starts with a small queue");
            flags.extend(SMALL_QUEUE);
        }
        let mut process = match &run.lab {
            Some(lab) => lab.process(&run.cluster, self.index, &flags)?,
            None => Process::start(program(), self.name(), &run.cluster.flags(&flags))?,
        };
        process.wait_ready(SOON * 3)?;
        let mut place = lock(&self.process);
        self.pid.store(process.pid(), Ordering::SeqCst);
        self.incarnation.fetch_add(1, Ordering::SeqCst);
        self.doomed.store(false, Ordering::SeqCst);
        *place = Some(process);
        Ok(())
    }

    /// Takes the process out of its place: nobody asks it any more.
    pub fn take(&self) -> Option<Process> {
        lock(&self.process).take()
    }
}

/// How a member is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberKind {
    asynchronous: bool,
    small_queue: bool,
}

impl MemberKind {
    /// One that is drawn.
    pub fn any(rng: &mut fastrand::Rng) -> Self {
        Self { asynchronous: rng.u32(..6) == 0, small_queue: rng.u32(..3) == 0 }
    }
}

/// A session that nobody uses once it is there, and that must be gone some time later.
#[derive(Debug)]
pub struct Brief {
    pub id: String,
    gone: Duration,
}

impl Brief {
    /// One that was there at `at`.
    pub fn new(id: String, at: Duration) -> Self {
        Self { id, gone: at + BRIEF + GRACE + LATE }
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Run {
    pub cluster: Cluster,
    /// The members' hosts, where they have their own.
    pub lab: Option<Lab>,
    pub nodes: [Node; NODES],
    pub sessions: Vec<Mutex<Session>>,
    pub briefs: Mutex<Vec<Brief>>,
    /// Held by a client during an operation, and alone by whoever wants quiet.
    pub gate: RwLock<()>,
    pub counts: Mutex<Counts>,
    /// Microseconds of acknowledged updates.
    pub times: Mutex<Histogram<u64>>,
    /// The longest time for which a member hid a session that it had shown before.
    pub hidden: Mutex<Duration>,
    violations: Mutex<Vec<(Wrong, String)>>,
    start: Instant,
    over: AtomicBool,
}

impl Run {
    pub fn new(clients: usize, lab: Option<Lab>, mutant: Option<&str>) -> Self {
        let node = |index| Node {
            index,
            process: Mutex::new(None),
            pid: AtomicU32::new(0),
            incarnation: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            doomed: AtomicBool::new(false),
        };
        let horizon = (HORIZON / 2).as_secs();
        let mut cluster = Cluster::new()
            .with("--workers=2")
            // Nobody takes the events; those that a member keeps would look like growth.
            .with("--session-events=false")
            .with(format!("--max-idle={horizon}s"))
            .with(format!("--partition-max={horizon}s"))
            .with(format!("--idle-grace={}s", GRACE.as_secs()));
        if let Some(mutant) = mutant {
            cluster = cluster.with(format!("--mutant={mutant}"));
        }
        Self {
            cluster,
            lab,
            nodes: std::array::from_fn(node),
            sessions: (0..SESSIONS).map(|n| Mutex::new(Session::new(format!("s{n}"), n % clients))).collect(),
            gate: RwLock::new(()),
            counts: Mutex::default(),
            briefs: Mutex::default(),
            times: Mutex::new(Histogram::new(3).expect("three digits")),
            hidden: Mutex::default(),
            violations: Mutex::default(),
            start: now(),
            over: AtomicBool::new(false),
        }
    }

    /// Since the start.
    pub fn at(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn count(&self, name: &'static str) {
        self.add(name, 1);
    }

    pub fn add(&self, name: &'static str, n: usize) {
        *lock(&self.counts).entry(name).or_default() += n as u64;
    }

    /// Notes what must not be, and ends the run.
    pub fn violation(&self, wrong: Wrong, what: &str, session: Option<&Session>) {
        let history = session.map(Session::history).unwrap_or_default();
        lock(&self.violations).push((wrong, format!("{:.6}: {what}\n{history}", self.at().as_secs_f64())));
        self.end();
    }

    pub fn violations(&self) -> Vec<(Wrong, String)> {
        lock(&self.violations).clone()
    }

    /// Waits until every member sees every other, none suspect and none under repair.
    pub fn settle(&self, within: Duration) -> Result<(), String> {
        let deadline = now() + within;
        loop {
            let mut seen = String::new();
            let settled = self.nodes.iter().all(|node| match node.ask(self, None, &json!({ "do": "view" })) {
                Ok((view, _)) => {
                    seen = format!("{} sees {view}", node.name());
                    view["members"].as_array().is_some_and(|all| {
                        all.len() == NODES
                            && all
                                .iter()
                                .all(|m| m["state"] == "ready" && m["suspect"] == false && m["repairing"] == false)
                    })
                }
                Err(why) => {
                    seen = format!("{}: {why:?}", node.name());
                    false
                }
            });
            if settled {
                return Ok(());
            }
            if now() >= deadline {
                return Err(seen);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// With every client at rest: all members must show the same, and what they owe.
    pub fn examine(&self) {
        let _quiet = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        for session in &self.sessions {
            let mut session = lock(session);
            if !self.examine_session(&mut session) {
                return;
            }
            let old = session.old.take();
            if let Some(old) = old
                && !self.wait_gone(&old, "a session is there under an id that it had before", Some(&session))
            {
                return;
            }
        }
        let due = {
            let mut briefs = lock(&self.briefs);
            let (due, later) = briefs.drain(..).partition(|brief| brief.gone < self.at());
            *briefs = later;
            due
        };
        for brief in due {
            if !self.wait_gone(&brief.id, "a session is there long after it expired", None) {
                return;
            }
            self.count("expired");
        }
        self.count("examinations");
    }

    /// Waits until all members show the same of a session; whether all is well.
    fn examine_session(&self, session: &mut Session) -> bool {
        let deadline = now() + QUIET;
        loop {
            let shown = self.nodes.each_ref().map(|node| self.look(node, session));
            let [Some(a), Some(b), Some(c)] = shown else { return false };
            let shown = [a, b, c];
            match session.quiet(&shown) {
                // Where it is not known what became of a change of id, it may have either.
                Quiet::Agreed | Quiet::Wrong(Wrong::Lost, _) if shown[0].epoch.is_none() && session.try_next() => {}
                Quiet::Agreed => {
                    session.agreed(&shown[0]);
                    return true;
                }
                Quiet::Wrong(wrong, what) => {
                    self.violation(wrong, &format!("after quiet, on every member: {what}"), Some(session));
                    return false;
                }
                Quiet::Differ if self.is_over() && !self.violations().is_empty() => return false,
                Quiet::Differ if now() >= deadline => {
                    self.violation(Wrong::Divergent, "members differ after quiet", Some(session));
                    return false;
                }
                Quiet::Differ => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until no member shows anything under this id; whether that came.
    fn wait_gone(&self, id: &str, what: &str, session: Option<&Session>) -> bool {
        let deadline = now() + QUIET;
        for node in &self.nodes {
            loop {
                match node.ask(self, None, &json!({ "do": "get", "id": id })) {
                    Ok((answer, _)) if answer["exists"] == false => break,
                    Ok(_) if now() < deadline => std::thread::park_timeout(Duration::from_millis(50)),
                    Ok((answer, _)) => {
                        let what = format!("{what}: {id} at {}: {answer}", node.name());
                        self.violation(Wrong::Resurrected, &what, session);
                        return false;
                    }
                    Err(why) => {
                        self.violation(Wrong::Member, &format!("{} shows nothing: {why:?}", node.name()), session);
                        return false;
                    }
                }
            }
        }
        true
    }

    fn look(&self, node: &Node, session: &mut Session) -> Option<Seen> {
        let start = self.at();
        let answer = node.ask(self, None, &json!({ "do": "get", "id": session.id }));
        let seen = match answer.map(|(answer, _)| Seen::parse(&answer)) {
            Ok(Ok(seen)) => seen,
            Ok(Err(what)) => {
                self.violation(Wrong::Invented, &what, Some(session));
                return None;
            }
            Err(why) => {
                self.violation(Wrong::Member, &format!("{} shows nothing: {why:?}", node.name()), Some(session));
                return None;
            }
        };
        session.note("at rest", node.name(), (start, self.at()), String::from("read"), seen.to_string());
        Some(seen)
    }
}
