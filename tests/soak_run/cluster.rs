//! Three members as processes, the clients' way to them, and what all threads of a run share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hotspare::cli::demo::process::Process;
use serde_json::{Value, json};

use crate::common::{Cluster, SOON, now, program};
use crate::history::{Counts, Incarnation, NODES, Seen, Session, Wrong};

/// Session ids in use.
const SESSIONS: usize = 48;
const NAMES: [&str; NODES] = ["a", "b", "c"];
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
    pub fn start(&self, run: &Run, port: Option<u16>) -> Result<(), String> {
        let port = port.map(|port| format!("--port={port}"));
        let flags = run.cluster.flags(&port.iter().map(String::as_str).collect::<Vec<_>>());
        let mut process = Process::start(program(), self.name(), &flags)?;
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

/// What all threads share.
#[derive(Debug)]
pub struct Run {
    pub cluster: Cluster,
    pub nodes: [Node; NODES],
    pub sessions: Vec<Mutex<Session>>,
    /// Held by a client during an operation, and alone by whoever wants quiet.
    pub gate: RwLock<()>,
    pub counts: Mutex<Counts>,
    /// Microseconds of acknowledged updates.
    pub times: Mutex<Vec<u32>>,
    /// The longest time for which a member hid a session that it had shown before.
    pub hidden: Mutex<Duration>,
    violations: Mutex<Vec<(Wrong, String)>>,
    start: Instant,
    over: AtomicBool,
}

impl Run {
    pub fn new(clients: usize) -> Self {
        let node = |index| Node {
            index,
            process: Mutex::new(None),
            pid: AtomicU32::new(0),
            incarnation: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            doomed: AtomicBool::new(false),
        };
        Self {
            // Nobody takes the events; those that a member keeps would look like growth.
            cluster: Cluster::new().with("--workers=2").with("--session-events=false"),
            nodes: std::array::from_fn(node),
            sessions: (0..SESSIONS).map(|n| Mutex::new(Session::new(format!("s{n}"), n % clients))).collect(),
            gate: RwLock::new(()),
            counts: Mutex::default(),
            times: Mutex::default(),
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
        *lock(&self.counts).entry(name).or_default() += 1;
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
        let deadline = now() + QUIET;
        for session in &self.sessions {
            let mut session = lock(session);
            loop {
                let shown = self.nodes.each_ref().map(|node| self.look(node, &mut session));
                let [Some(first), rest @ ..] = &shown else { return };
                if rest.iter().all(|other| other.as_ref() == Some(first)) {
                    if let Some((wrong, what)) = session.judge(&session.duty(), first) {
                        self.violation(wrong, &format!("after quiet, on every member: {what}"), Some(&session));
                        return;
                    }
                    session.agreed(first);
                    break;
                }
                if self.is_over() && !self.violations().is_empty() {
                    return;
                }
                if now() >= deadline {
                    self.violation(Wrong::Divergent, "members differ after quiet", Some(&session));
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        self.count("examinations");
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
