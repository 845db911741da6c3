//! Clients: each asks one member after the other for sessions, as a balancer with sticky sessions would have it.
//!
//! A client stays with its member, waits while that is stopped, and goes to a healthy one when it is gone. What it asks
//! for goes in batches, one line of the member's input for many requests: the pipe is not what is tried.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cluster::{BRIEF, Brief, NoAnswer, Node, Run, lock, pass};
use crate::history::{CLIENTS, EPOCH, Incarnation, Look, Mark, NODES, Outcome, Seen, Session, Wrong, attribute};

/// How long a client rests between batches, at most.
const REST: Duration = Duration::from_micros(500);
/// The same where nobody waited for copies: asynchronous members would take the machine from all others.
const REST_UNSETTLED: Duration = Duration::from_millis(40);
/// Sessions of a batch.
const BATCH: usize = 24;
/// How many writes carry ballast, one of so many, and how much at most: it fills small queues.
const BALLAST: u32 = 30;
const BALLAST_BYTES: usize = 2048;

/// How long a member may hide a session of which it has missed something. It has the rest by then, or has removed who has it.
const HIDDEN_MAX: Duration = Duration::from_secs(5);

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    node: usize,
    rng: fastrand::Rng,
    /// Whether its last writes are at every member in view, so that it may go to another one.
    settled: bool,
    /// Brief sessions so far.
    briefs: u64,
}

/// A session begun.
#[derive(Debug)]
struct Begun {
    at: usize,
    seen: Seen,
    handle: Value,
}

/// What came of a change, and which members were the same process all the while.
type Came = (Outcome, [Option<Incarnation>; NODES]);

impl Client {
    pub fn new(number: usize, seed: u64) -> Self {
        Self { number, node: number % NODES, rng: fastrand::Rng::with_seed(seed), settled: true, briefs: 0 }
    }

    /// Works until the run is over.
    pub fn run(mut self, run: &Run) {
        while !run.is_over() {
            {
                let _working = run.gate.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(node) = self.place(run) {
                    self.work(run, node);
                }
            }
            let rest = if self.settled { REST } else { REST_UNSETTLED };
            pass(run, rest.mul_f64(self.rng.f64()));
        }
    }

    /// The member to ask: the one before, unless it is gone.
    fn place<'a>(&mut self, run: &'a Run) -> Option<&'a Node> {
        let node = &run.nodes[self.node];
        let wanders = self.settled && node.is_healthy() && self.rng.u32(..100) == 0;
        if wanders || node.doomed.load(Ordering::SeqCst) {
            let healthy: Vec<usize> = (0..NODES).filter(|n| *n != self.node && run.nodes[*n].is_healthy()).collect();
            self.node = *healthy.get(self.rng.usize(..healthy.len().max(1)))?;
        }
        Some(&run.nodes[self.node])
    }

    fn work(&mut self, run: &Run, node: &Node) {
        match self.rng.u32(..100) {
            0..10 => self.own(run, node),
            10..12 => self.brief(run, node),
            12..25 => drop(self.look(run, node, "get")),
            _ => self.update(run, node),
        }
    }

    /// Does to a session of its own what only owners do.
    fn own(&mut self, run: &Run, node: &Node) {
        let at = self.number + CLIENTS * self.rng.usize(..run.sessions.len() / CLIENTS);
        let (frozen, alive) = {
            let session = lock(&run.sessions[at]);
            (session.frozen, session.alive)
        };
        match self.rng.u32(..100) {
            _ if frozen => {}
            _ if !alive => self.create(run, node, at),
            0..20 => self.invalidate(run, node, at),
            20..40 => self.rename(run, node, at),
            _ => {}
        }
    }

    /// Asks for some sessions and judges what shows; those begun, where that was asked, and at which process.
    fn look(&mut self, run: &Run, node: &Node, what: &str) -> Option<(Vec<Begun>, Incarnation)> {
        let mut picks: Vec<usize> = (0..run.sessions.len()).collect();
        self.rng.shuffle(&mut picks);
        picks.truncate(BATCH);
        let incarnation = node.incarnation();
        let looks: Vec<Look> = picks.iter().map(|at| lock(&run.sessions[*at]).look(node.index, incarnation)).collect();
        let all: Vec<Value> = looks.iter().map(|look| json!({ "do": what, "id": look.id })).collect();
        let start = run.at();
        let answer = node.ask(run, Some(incarnation), &json!({ "do": "many", "all": all }));
        let span = (start, run.at());
        let (answer, incarnation) = match answer {
            Ok(answer) => answer,
            Err(why) => {
                for at in picks {
                    self.note(&mut lock(&run.sessions[at]), node, span, what.to_owned(), format!("{why:?}"));
                }
                return None;
            }
        };
        let mut begun = Vec::new();
        let answers = answer["all"].as_array().into_iter().flatten();
        for ((at, look), answer) in picks.into_iter().zip(&looks).zip(answers) {
            let mut session = lock(&run.sessions[at]);
            let seen = Seen::parse(answer);
            let text = seen.as_ref().map_or_else(Clone::clone, ToString::to_string);
            self.note(&mut session, node, span, what.to_owned(), text);
            let wrong = match &seen {
                Ok(seen) => session.judge_look(look, seen),
                Err(what) => Some((Wrong::Invented, what.clone())),
            };
            drop(session);
            match wrong {
                None => {}
                Some((Wrong::Lost, what)) if seen.as_ref().is_ok_and(|seen| seen.epoch.is_none()) => {
                    self.wait_shown(run, node, at, incarnation, look, &what);
                }
                Some((wrong, what)) => {
                    let what = format!("client {} at {}: {what}", self.number, node.name());
                    run.violation(wrong, &what, Some(&lock(&run.sessions[at])));
                }
            }
            begun.push(Begun { at, seen: seen.ok()?, handle: answer["handle"].clone() });
        }
        run.add("reads", begun.len());
        Some((begun, incarnation))
    }

    /// A member hides a session that it has a part of: for as long as the rest takes, no longer.
    fn wait_shown(&self, run: &Run, node: &Node, at: usize, incarnation: Incarnation, look: &Look, what: &str) {
        let request = json!({ "do": "get", "id": look.id });
        let since = run.at();
        loop {
            let start = run.at();
            let Ok((answer, _)) = node.ask(run, Some(incarnation), &request) else { return };
            let mut session = lock(&run.sessions[at]);
            let Ok(seen) = Seen::parse(&answer) else { return };
            self.note(&mut session, node, (start, run.at()), String::from("read again"), seen.to_string());
            if session.judge_look(look, &seen).is_none() {
                let hidden = run.at().saturating_sub(since);
                run.count("hidden for a moment");
                let mut longest = lock(&run.hidden);
                *longest = longest.max(hidden);
                return;
            }
            if run.at() > since + HIDDEN_MAX {
                let what = format!("client {} at {}, for {HIDDEN_MAX:?}: {what}", self.number, node.name());
                run.violation(Wrong::Lost, &what, Some(&session));
                return;
            }
            drop(session);
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }

    /// Requests that read, then write the client's attribute into what they read.
    fn update(&mut self, run: &Run, node: &Node) {
        let Some((begun, incarnation)) = self.look(run, node, "begin") else { return };
        let mut marks: Vec<(usize, Mark)> = Vec::new();
        let mut all = Vec::new();
        let mut ends = Vec::new();
        for Begun { at, seen, handle } in begun {
            let end = json!({ "do": "end", "handle": handle });
            let Some(epoch) = seen.epoch else {
                ends.push(end);
                continue;
            };
            let mark = lock(&run.sessions[at]).write(self.number, epoch);
            let mut text = mark.to_string();
            if self.rng.u32(..BALLAST) == 0 {
                text += ":";
                text += &"x".repeat(self.rng.usize(..BALLAST_BYTES));
            }
            all.push(json!({ "do": "end", "handle": end["handle"], "set": { attribute(self.number): text } }));
            marks.push((at, mark));
        }
        all.append(&mut ends);
        let places: Vec<(usize, String)> = marks.iter().map(|(at, mark)| (*at, format!("write {mark}"))).collect();
        // Some wait for one change after the other, as the threads of a server do, others with a ticket for each.
        let together = self.rng.u32(..4) > 0;
        let came = self.change(run, node, incarnation, all, (&places, together));
        // Others changed nothing.
        let written = &came[..marks.len().min(came.len())];
        self.settled = written.iter().all(|(outcome, _)| !matches!(outcome, Outcome::Local | Outcome::Unknown));
        for ((at, mark), (outcome, others)) in marks.into_iter().zip(came) {
            lock(&run.sessions[at]).wrote(self.number, mark, node.index, &others, outcome);
        }
    }

    fn create(&mut self, run: &Run, node: &Node, at: usize) {
        let (id, mark) = {
            let mut session = lock(&run.sessions[at]);
            session.epoch += 1;
            let epoch = session.epoch;
            (session.id.clone(), session.write(self.number, epoch))
        };
        let set: Map<String, Value> =
            [(EPOCH.to_owned(), json!(mark.epoch.to_string())), (attribute(self.number), json!(mark.to_string()))]
                .into_iter()
                .collect();
        let request = json!({ "do": "request", "id": id, "create": true, "set": set });
        let (outcome, others) = self.change_one(run, node, request, at, format!("create {id} {mark}"));
        self.settled = !matches!(outcome, Outcome::Local | Outcome::Unknown);
        let mut session = lock(&run.sessions[at]);
        session.wrote(self.number, mark, node.index, &others, outcome);
        session.alive = matches!(outcome, Outcome::Acked(_));
        session.frozen = !session.alive;
    }

    fn invalidate(&self, run: &Run, node: &Node, at: usize) {
        let (id, epoch) = {
            let mut session = lock(&run.sessions[at]);
            session.invalidate();
            (session.id.clone(), session.epoch)
        };
        let request = json!({ "do": "request", "id": id, "invalidate": true });
        let (outcome, others) = self.change_one(run, node, request, at, format!("invalidate {id} {epoch}"));
        lock(&run.sessions[at]).invalidated(node.index, &others, outcome);
        run.count("invalidations");
    }

    fn rename(&self, run: &Run, node: &Node, at: usize) {
        let (id, next) = {
            let mut session = lock(&run.sessions[at]);
            (session.id.clone(), session.rename())
        };
        let what = format!("change of {id} to {next}");
        let request = json!({ "do": "request", "id": id, "change_id": next });
        let (outcome, others) = self.change_one(run, node, request, at, what);
        lock(&run.sessions[at]).renamed(node.index, &others, outcome);
        run.count("changes of id");
    }

    /// Makes a session that nobody uses. It is there at once and everywhere, and must be gone later.
    fn brief(&mut self, run: &Run, node: &Node) {
        self.briefs += 1;
        let id = format!("brief-{}-{}", self.number, self.briefs);
        let idle = u64::try_from(BRIEF.as_millis()).unwrap_or(u64::MAX);
        let request = json!({ "do": "request", "id": id, "create": true, "set": { "x": "1" }, "max_idle_ms": idle });
        let start = run.at();
        let (outcome, others) = self.ask_change(run, node, request);
        lock(&run.briefs).push(Brief::new(id.clone(), run.at()));
        let other = &run.nodes[self.rng.usize(..NODES)];
        let (Outcome::Acked(3), Some(same), true) = (outcome, others[other.index], other.is_healthy()) else { return };
        let Ok((answer, _)) = other.ask(run, Some(same), &json!({ "do": "get", "id": id })) else { return };
        if answer["exists"] == false && run.at() < start + BRIEF {
            let what = format!("{id}, made at {} and acked, is not at {}", node.name(), other.name());
            run.violation(Wrong::Lost, &what, None);
        }
    }

    fn ask_change(&self, run: &Run, node: &Node, request: Value) -> Came {
        let came = self.change(run, node, node.incarnation(), vec![request], (&[], false));
        came.into_iter().next().unwrap_or((Outcome::Unknown, [None; NODES]))
    }

    fn change_one(&self, run: &Run, node: &Node, request: Value, at: usize, what: String) -> Came {
        let came = self.change(run, node, node.incarnation(), vec![request], (&[(at, what)], false));
        came.into_iter().next().unwrap_or((Outcome::Unknown, [None; NODES]))
    }

    /// Asks for changes; the first of them are of these sessions.
    fn change(
        &self,
        run: &Run,
        node: &Node,
        incarnation: Incarnation,
        all: Vec<Value>,
        (places, together): (&[(usize, String)], bool),
    ) -> Vec<Came> {
        let before = run.nodes.each_ref().map(Node::incarnation);
        let count = all.len();
        let start = run.at();
        let answer = node.ask(run, Some(incarnation), &json!({ "do": "many", "all": all, "together": together }));
        let span = (start, run.at());
        let others = std::array::from_fn(|n| Some(before[n]).filter(|same| run.nodes[n].incarnation() == *same));
        let mut came = Vec::new();
        for n in 0..count {
            let (outcome, text) = match &answer {
                Ok((answer, _)) => (outcome_of(&answer["all"][n]), answer["all"][n].to_string()),
                Err(NoAnswer::Gone) => (Outcome::Unknown, String::from("gone")),
                Err(NoAnswer::Refused(why)) => (Outcome::Unknown, why.clone()),
            };
            if let Some((at, what)) = places.get(n) {
                self.note(&mut lock(&run.sessions[*at]), node, span, what.clone(), text);
            }
            if n < places.len().max(1) {
                run.count(match outcome {
                    Outcome::Acked(2..) => "acked",
                    Outcome::Acked(_) => "acked alone",
                    Outcome::Local => "incomplete",
                    Outcome::Refused => "ended or no session",
                    Outcome::Unknown => "no answer",
                });
            }
            if let (Outcome::Acked(2..), Ok((answer, _))) = (outcome, &answer) {
                lock(&run.times).saturating_record(answer["all"][n]["took_us"].as_u64().unwrap_or_default());
            }
            came.push((outcome, others));
        }
        came
    }

    fn note(&self, session: &mut Session, node: &Node, span: (Duration, Duration), what: String, result: String) {
        let place = format!("{}#{}", node.name(), node.incarnation());
        session.note(&self.number.to_string(), &place, span, what, result);
    }
}

fn outcome_of(answer: &Value) -> Outcome {
    let is_complete = answer["missing"].as_array().is_some_and(Vec::is_empty);
    match (answer["status"].as_str(), answer["copies"].as_u64(), answer["kind"].as_str()) {
        (Some("replicated"), Some(copies), _) if is_complete => Outcome::Acked(copies),
        (Some("ended"), ..) | (_, _, Some("no-session")) => Outcome::Refused,
        (Some(_), ..) => Outcome::Local,
        _ => Outcome::Unknown,
    }
}
