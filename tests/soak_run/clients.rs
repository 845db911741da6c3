//! Clients: each asks one member after the other for sessions, as a balancer with sticky sessions would have it.
//!
//! A client stays with its member, waits while that is stopped, and goes to a healthy one when it is gone.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cluster::{NoAnswer, Node, Run, lock, pass};
use crate::history::{Duty, EPOCH, Incarnation, NODES, Outcome, Seen, Session, Wrong, attribute};

/// How long a client rests between operations, at most.
const REST: Duration = Duration::from_millis(4);

/// How long a member may hide a session of which it has missed something. It has asked for the rest by then.
const HIDDEN_MAX: Duration = Duration::from_secs(2);

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    node: usize,
    rng: fastrand::Rng,
    /// Whether its last write is at every member in view, so that it may go to another one.
    settled: bool,
}

impl Client {
    pub fn new(number: usize, seed: u64) -> Self {
        Self { number, node: number % NODES, rng: fastrand::Rng::with_seed(seed), settled: true }
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
            pass(run, REST.mul_f64(self.rng.f64()));
        }
    }

    /// The member to ask: the one before, unless it is gone.
    fn place<'a>(&mut self, run: &'a Run) -> Option<&'a Node> {
        let node = &run.nodes[self.node];
        let wanders = self.settled && node.is_healthy() && self.rng.u32(..200) == 0;
        if wanders || node.doomed.load(std::sync::atomic::Ordering::SeqCst) {
            let healthy: Vec<usize> = (0..NODES).filter(|n| *n != self.node && run.nodes[*n].is_healthy()).collect();
            self.node = *healthy.get(self.rng.usize(..healthy.len().max(1)))?;
        }
        Some(&run.nodes[self.node])
    }

    fn work(&mut self, run: &Run, node: &Node) {
        let at = self.rng.usize(..run.sessions.len());
        let (mine, alive) = {
            let session = lock(&run.sessions[at]);
            (session.owner == self.number && !session.frozen, session.alive)
        };
        match self.rng.u32(..100) {
            _ if mine && !alive => self.create(run, node, at),
            0..6 if mine => self.invalidate(run, node, at),
            0..40 => self.read(run, node, at),
            _ => self.update(run, node, at),
        }
    }

    fn read(&self, run: &Run, node: &Node, at: usize) {
        let id = lock(&run.sessions[at]).id.clone();
        let _seen = self.look(run, node, at, &json!({ "do": "get", "id": id }), "read");
    }

    /// Asks for a session and judges what shows; the answer with it.
    fn look(
        &self,
        run: &Run,
        node: &Node,
        at: usize,
        request: &Value,
        what: &str,
    ) -> Option<(Seen, Value, Incarnation)> {
        let incarnation = node.incarnation();
        let duty = lock(&run.sessions[at]).duty_of(node.index, incarnation);
        let start = run.at();
        let answer = node.ask(run, Some(incarnation), request);
        let end = run.at();
        let mut session = lock(&run.sessions[at]);
        let (answer, incarnation) = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.note(&mut session, node, (start, end), what.to_owned(), format!("{why:?}"));
                return None;
            }
        };
        let seen = Seen::parse(&answer);
        let text = seen.as_ref().map_or_else(Clone::clone, ToString::to_string);
        self.note(&mut session, node, (start, end), what.to_owned(), text);
        run.count("reads");
        let wrong = match &seen {
            Ok(seen) => session.judge(&duty, seen),
            Err(what) => Some((Wrong::Invented, what.clone())),
        };
        drop(session);
        match wrong {
            None => {}
            Some((Wrong::Lost, what)) if seen.as_ref().is_ok_and(|seen| seen.epoch.is_none()) => {
                self.wait_shown(run, node, at, incarnation, &duty, &what);
            }
            Some((wrong, what)) => {
                let what = format!("client {} at {}: {what}", self.number, node.name());
                run.violation(wrong, &what, Some(&lock(&run.sessions[at])));
            }
        }
        Some((seen.ok()?, answer, incarnation))
    }

    /// A member hides a session that it has a part of: for as long as the rest takes, no longer.
    fn wait_shown(&self, run: &Run, node: &Node, at: usize, incarnation: Incarnation, duty: &Duty, what: &str) {
        let request = json!({ "do": "get", "id": lock(&run.sessions[at]).id });
        let since = run.at();
        loop {
            let start = run.at();
            let Ok((answer, _)) = node.ask(run, Some(incarnation), &request) else { return };
            let mut session = lock(&run.sessions[at]);
            let Ok(seen) = Seen::parse(&answer) else { return };
            self.note(&mut session, node, (start, run.at()), String::from("read again"), seen.to_string());
            if session.judge(duty, &seen).is_none() {
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

    /// A request that reads, then writes the client's attribute into what it read.
    fn update(&mut self, run: &Run, node: &Node, at: usize) {
        let id = lock(&run.sessions[at]).id.clone();
        let begun = self.look(run, node, at, &json!({ "do": "begin", "id": id }), "begin");
        let Some((seen, answer, incarnation)) = begun else { return };
        let mut end = json!({ "do": "end", "handle": answer["handle"] });
        let Some(epoch) = seen.epoch else {
            let _nothing = node.ask(run, Some(incarnation), &end);
            return;
        };
        let mark = lock(&run.sessions[at]).write(self.number, epoch);
        end["set"] = json!({ attribute(self.number): mark.to_string() });
        let (outcome, others) = self.change(run, node, at, incarnation, &end, format!("write {mark}"));
        self.settled = !matches!(outcome, Outcome::Local | Outcome::Unknown);
        lock(&run.sessions[at]).wrote(self.number, mark, node.index, &others, outcome);
    }

    fn create(&mut self, run: &Run, node: &Node, at: usize) {
        let incarnation = node.incarnation();
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
        let (outcome, others) = self.change(run, node, at, incarnation, &request, format!("create {mark}"));
        self.settled = !matches!(outcome, Outcome::Local | Outcome::Unknown);
        let mut session = lock(&run.sessions[at]);
        session.wrote(self.number, mark, node.index, &others, outcome);
        session.alive = matches!(outcome, Outcome::Acked(_));
        session.frozen = !session.alive;
    }

    fn invalidate(&self, run: &Run, node: &Node, at: usize) {
        let incarnation = node.incarnation();
        let (id, epoch) = {
            let mut session = lock(&run.sessions[at]);
            session.invalidate();
            (session.id.clone(), session.epoch)
        };
        let request = json!({ "do": "request", "id": id, "invalidate": true });
        let (outcome, others) = self.change(run, node, at, incarnation, &request, format!("invalidate {epoch}"));
        lock(&run.sessions[at]).invalidated(node.index, &others, outcome);
        run.count("invalidations");
    }

    /// Asks for a change. What came of it, and which members were the same process all the while.
    fn change(
        &self,
        run: &Run,
        node: &Node,
        at: usize,
        incarnation: Incarnation,
        request: &Value,
        what: String,
    ) -> (Outcome, [Option<Incarnation>; NODES]) {
        let before = run.nodes.each_ref().map(Node::incarnation);
        let start = run.at();
        let answer = node.ask(run, Some(incarnation), request);
        let end = run.at();
        let others = std::array::from_fn(|n| Some(before[n]).filter(|same| run.nodes[n].incarnation() == *same));
        let (outcome, text) = match answer {
            Ok((answer, _)) => (outcome_of(&answer), answer.to_string()),
            Err(NoAnswer::Refused(why)) if why.contains("no-session") => (Outcome::Refused, why),
            Err(why) => (Outcome::Unknown, format!("{why:?}")),
        };
        self.note(&mut lock(&run.sessions[at]), node, (start, end), what, text);
        run.count(match outcome {
            Outcome::Acked(2..) => "acked",
            Outcome::Acked(_) => "acked alone",
            Outcome::Local => "incomplete",
            Outcome::Refused => "ended or no session",
            Outcome::Unknown => "no answer",
        });
        if matches!(outcome, Outcome::Acked(2..)) {
            lock(&run.times).push(u32::try_from((end - start).as_micros()).unwrap_or(u32::MAX));
        }
        (outcome, others)
    }

    fn note(&self, session: &mut Session, node: &Node, span: (Duration, Duration), what: String, result: String) {
        let place = format!("{}#{}", node.name(), node.incarnation());
        session.note(&self.number.to_string(), &place, span, what, result);
    }
}

fn outcome_of(answer: &Value) -> Outcome {
    let is_complete = answer["missing"].as_array().is_some_and(Vec::is_empty);
    match (answer["status"].as_str(), answer["copies"].as_u64()) {
        (Some("replicated"), Some(copies)) if is_complete => Outcome::Acked(copies),
        (Some("ended"), _) => Outcome::Refused,
        _ => Outcome::Local,
    }
}
