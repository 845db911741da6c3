//! What clients saw of each session, and what that obliges every member to show.
//!
//! Every attribute has one writer, and its value says so: `epoch:count`, where the owner of the session counts epochs (one
//! for each creation of the id) and each writer its own writes. What a client asked and got no full answer to is
//! *open*: it may show at any later time, or never. A session changes its id now and then; a member that may not have heard
//! of that yet owes nothing under the new one before the next quiet moment. Nothing here knows more than a client does.

#![allow(dead_code, unreachable_pub, reason = "a program and its tests share it")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Members of the cluster.
pub const NODES: usize = 3;
/// Clients, each a writer of an attribute in every session.
pub const CLIENTS: usize = 6;
/// What is kept of a session's history.
const EVENTS_MAX: usize = 120;
/// The attribute that says which creation of the id this is.
pub const EPOCH: &str = "epoch";

/// One write: the epoch that its writer saw, and the writer's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub epoch: u64,
    pub count: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.count)
    }
}

/// The attribute of a writer.
pub fn attribute(client: usize) -> String {
    format!("w{client}")
}

/// A session as a member showed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub epoch: Option<u64>,
    pub marks: [Option<Mark>; CLIENTS],
}

impl Seen {
    /// From the fields of an answer. The error is a value that nobody writes. Behind a mark there may be ballast.
    pub fn parse(answer: &Value) -> Result<Self, String> {
        let mut seen = Self::default();
        if answer["exists"] != true {
            return Ok(seen);
        }
        let strange = |name: &str, value: &Value| format!("{name} = {value} was written by nobody");
        for (name, value) in answer["attributes"].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            if name == EPOCH {
                seen.epoch = Some(text.parse().map_err(|_| strange(name, value))?);
                continue;
            }
            let client = name.strip_prefix('w').and_then(|n| n.parse::<usize>().ok()).filter(|n| *n < CLIENTS);
            let mut parts = text.split(':').map(|part| part.parse().ok());
            let mark = parts.next().flatten().zip(parts.next().flatten()).map(|(epoch, count)| Mark { epoch, count });
            let (Some(client), Some(mark)) = (client, mark) else { return Err(strange(name, value)) };
            seen.marks[client] = Some(mark);
        }
        Ok(seen)
    }

    /// The oldest epoch of which anything shows.
    fn oldest(&self) -> Option<u64> {
        self.marks.iter().flatten().map(|mark| mark.epoch).chain(self.epoch).min()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(epoch) = self.epoch else { return f.write_str("nothing") };
        write!(f, "epoch {epoch}")?;
        for (client, mark) in self.marks.iter().enumerate() {
            if let Some(mark) = mark {
                write!(f, " {}={mark}", attribute(client))?;
            }
        }
        Ok(())
    }
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// An acknowledged change is not there.
    Lost,
    /// An invalidated session is there.
    Resurrected,
    /// Members show different things after quiet.
    Divergent,
    /// A value that nobody wrote.
    Invented,
    /// A member ended, fell silent, or did not come back.
    Member,
    /// Memory or descriptors grow.
    Growth,
}

/// One operation as its client saw it.
#[derive(Debug)]
struct Event {
    start: Duration,
    end: Duration,
    client: String,
    node: String,
    what: String,
    result: String,
}

/// Something by which a member's present process is told from the one before.
pub type Incarnation = u64;

/// What there is to ask for when a read begins, and what it obliges to.
#[derive(Debug)]
pub struct Look {
    pub id: String,
    duty: Duty,
    renames: u64,
}

/// What a member must show to a read that begins now.
#[derive(Debug, Default)]
pub struct Duty {
    marks: [Option<Mark>; CLIENTS],
    dead: u64,
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied at every member in view, so many copies.
    Acked(u64),
    /// Applied where it was made; not known where else.
    Local,
    /// Certainly not applied.
    Refused,
    /// No answer: anything is possible.
    Unknown,
}

/// What members showed after quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quiet {
    Agreed,
    /// Not the same, so far.
    Differ,
    Wrong(Wrong, String),
}

/// One session id and all its sessions.
#[derive(Debug)]
pub struct Session {
    /// The id that it has, as far as its owner knows.
    pub id: String,
    /// What ids are made of.
    base: String,
    renames: u64,
    /// The id that was asked for, as long as nobody knows whether the session has it.
    next: Option<String>,
    /// An id that it had before, and must not have any more.
    pub old: Option<String>,
    /// Whether a member may not know the id.
    unsure: [bool; NODES],
    /// The client that creates and invalidates.
    pub owner: usize,
    /// The newest epoch that was asked for.
    pub epoch: u64,
    /// Whether the owner's last word was a creation or a write.
    pub alive: bool,
    /// The owner does not know what became of a creation or an invalidation: it waits for the next quiet moment.
    pub frozen: bool,
    counts: [u64; CLIENTS],
    acked: [Option<Mark>; CLIENTS],
    /// What each member has certainly applied, while it is the same process.
    applied: [[Option<(Mark, Incarnation)>; NODES]; CLIENTS],
    open: [Vec<Mark>; CLIENTS],
    /// Epochs up to here may have ended: an invalidation was asked for.
    ending: u64,
    /// Epochs up to here have ended: an invalidation was acknowledged.
    dead: u64,
    dead_at: [(u64, Incarnation); NODES],
    events: VecDeque<Event>,
}

impl Session {
    pub fn new(id: String, owner: usize) -> Self {
        Self {
            base: id.clone(),
            id,
            renames: 0,
            next: None,
            old: None,
            unsure: [false; NODES],
            owner,
            epoch: 0,
            alive: false,
            frozen: false,
            counts: [0; CLIENTS],
            acked: [None; CLIENTS],
            applied: [[None; NODES]; CLIENTS],
            open: Default::default(),
            ending: 0,
            dead: 0,
            dead_at: [(0, 0); NODES],
            events: VecDeque::new(),
        }
    }

    /// The next write of a client into an epoch, open until [`Session::wrote`].
    pub fn write(&mut self, client: usize, epoch: u64) -> Mark {
        self.counts[client] += 1;
        let mark = Mark { epoch, count: self.counts[client] };
        self.open[client].push(mark);
        mark
    }

    /// What became of a write at `node`; the incarnations are those before the write, where they are the same after it.
    pub fn wrote(
        &mut self,
        client: usize,
        mark: Mark,
        node: usize,
        incarnations: &[Option<Incarnation>; NODES],
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Acked(copies) => {
                if copies >= 2 {
                    self.acked[client] = self.acked[client].max(Some(mark));
                    self.open[client].retain(|open| *open != mark);
                }
                self.apply(client, mark, node, incarnations, copies);
            }
            Outcome::Local => self.apply(client, mark, node, incarnations, 1),
            Outcome::Refused => self.open[client].retain(|open| *open != mark),
            Outcome::Unknown => {}
        }
    }

    fn apply(
        &mut self,
        client: usize,
        mark: Mark,
        node: usize,
        incarnations: &[Option<Incarnation>; NODES],
        copies: u64,
    ) {
        for (at, incarnation) in incarnations.iter().enumerate() {
            if let Some(incarnation) = incarnation
                && (at == node || copies == NODES as u64)
            {
                self.applied[client][at] = Some((mark, *incarnation));
            }
        }
    }

    /// The owner asks for the end of what there is.
    pub fn invalidate(&mut self) {
        self.ending = self.epoch;
        self.alive = false;
    }

    /// What became of that.
    pub fn invalidated(&mut self, node: usize, incarnations: &[Option<Incarnation>; NODES], outcome: Outcome) {
        let Outcome::Acked(copies @ 2..) = outcome else {
            self.frozen = true;
            return;
        };
        self.dead = self.ending;
        for (at, incarnation) in incarnations.iter().enumerate() {
            if let Some(incarnation) = incarnation
                && (at == node || copies == NODES as u64)
            {
                self.dead_at[at] = (self.ending, *incarnation);
            }
        }
    }

    /// The owner asks for another id: this one.
    pub fn rename(&mut self) -> String {
        self.renames += 1;
        let next = format!("{}.{}", self.base, self.renames);
        self.next = Some(next.clone());
        next
    }

    /// What became of that.
    pub fn renamed(&mut self, node: usize, incarnations: &[Option<Incarnation>; NODES], outcome: Outcome) {
        match outcome {
            Outcome::Acked(copies @ 2..) => {
                let Some(next) = self.next.take() else { return };
                self.renames += 1;
                self.old = Some(std::mem::replace(&mut self.id, next));
                for (at, incarnation) in incarnations.iter().enumerate() {
                    let knows = incarnation.is_some() && (at == node || copies == NODES as u64);
                    self.unsure[at] |= !knows;
                }
            }
            Outcome::Refused => self.next = None,
            Outcome::Acked(_) | Outcome::Local | Outcome::Unknown => self.frozen = true,
        }
    }

    /// Takes the other of two ids that it may have; whether there is one.
    pub fn try_next(&mut self) -> bool {
        self.next.take().map(|next| self.id = next).is_some()
    }

    /// What to ask this process of a member for.
    pub fn look(&self, node: usize, incarnation: Incarnation) -> Look {
        Look { id: self.id.clone(), duty: self.duty_of(node, incarnation), renames: self.renames }
    }

    /// What is wrong with what that showed.
    pub fn judge_look(&self, look: &Look, seen: &Seen) -> Option<(Wrong, String)> {
        if self.next.is_some() || look.renames != self.renames {
            // It was asked for by an id that it may not have had.
            return self.judge(&Duty { marks: Default::default(), dead: look.duty.dead }, seen);
        }
        self.judge(&look.duty, seen)
    }

    /// What is wrong with what all members showed after quiet, under the id that it has.
    pub fn quiet(&self, shown: &[Seen; NODES]) -> Quiet {
        let [first, rest @ ..] = shown;
        if rest.iter().any(|other| other != first) {
            return Quiet::Differ;
        }
        match self.judge(&self.duty(), first) {
            Some((wrong, what)) => Quiet::Wrong(wrong, what),
            None => Quiet::Agreed,
        }
    }

    /// What this process of a member must show from now on.
    pub fn duty_of(&self, node: usize, incarnation: Incarnation) -> Duty {
        let applied = |client: &[Option<(Mark, Incarnation)>; NODES]| {
            client[node].filter(|(_, same)| *same == incarnation).map(|(mark, _)| mark)
        };
        let (dead, same) = self.dead_at[node];
        Duty {
            marks: std::array::from_fn(|c| applied(&self.applied[c]).filter(|_| !self.unsure[node])),
            dead: if same == incarnation { dead } else { 0 },
        }
    }

    /// What every member must show after quiet.
    pub fn duty(&self) -> Duty {
        Duty { marks: self.acked, dead: self.dead }
    }

    /// What is wrong with what a member showed, given its duty when the read began.
    pub fn judge(&self, duty: &Duty, seen: &Seen) -> Option<(Wrong, String)> {
        if let Some(epoch) = seen.oldest().filter(|epoch| *epoch <= duty.dead) {
            return Some((Wrong::Resurrected, format!("epoch {epoch} shows; up to {} all have ended", duty.dead)));
        }
        for client in 0..CLIENTS {
            let (name, shown) = (attribute(client), seen.marks[client]);
            if let Some(mark) = shown.filter(|mark| mark.count > self.counts[client] || mark.epoch > self.epoch) {
                return Some((Wrong::Invented, format!("{name} = {mark} was written by nobody")));
            }
            let Some(due) = duty.marks[client].filter(|due| due.epoch > self.ending) else { continue };
            let is_open = shown.is_some_and(|mark| self.open[client].contains(&mark));
            if shown < Some(due) && !is_open {
                return Some((Wrong::Lost, format!("{name} = {due} is due; {seen} shows")));
            }
        }
        None
    }

    /// All members show this after quiet: nothing is open any more.
    pub fn agreed(&mut self, seen: &Seen) {
        self.acked = seen.marks;
        self.applied = [[None; NODES]; CLIENTS];
        self.open = Default::default();
        self.unsure = [false; NODES];
        self.next = None;
        self.frozen = false;
        self.alive = seen.epoch.is_some_and(|epoch| epoch > self.ending);
        if self.alive || seen.epoch.is_none() {
            // What was asked to end has ended, whoever had answered.
            self.dead = self.ending;
        }
    }

    /// Notes an operation.
    pub fn note(&mut self, client: &str, node: &str, span: (Duration, Duration), what: String, result: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let (client, node, (start, end)) = (client.to_owned(), node.to_owned(), span);
        self.events.push_back(Event { start, end, client, node, what, result });
    }

    /// The history, the oldest first.
    pub fn history(&self) -> String {
        let mut text = format!("history of session {} (its owner is client {}):\n", self.id, self.owner);
        for event in &self.events {
            text += &format!(
                "  {:>11.6} .. {:>11.6}  client {:<10} at {:<5} {:<28} {}\n",
                event.start.as_secs_f64(),
                event.end.as_secs_f64(),
                event.client,
                event.node,
                event.what,
                event.result
            );
        }
        text
    }
}

/// Counts by name.
pub type Counts = BTreeMap<&'static str, u64>;
