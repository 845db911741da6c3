//! Load of a member, for tests: threads that write and log what was acknowledged, and many sessions at once.
//!
//! Each thread owns its sessions and counts up in them, so that "not older than the last acknowledged write" can be
//! checked by one number. What is acknowledged goes to a file, one `id number` a line and one `write` each: it outlives
//! the process, whatever ends it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use super::words::refusal;
use super::{Reply, fields};
use crate::node::{Context, Status};

/// What load to make.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) threads: usize,
    /// Sessions of each thread.
    pub(super) sessions: usize,
    /// Bytes written beside the number.
    pub(super) size: usize,
    pub(super) prefix: String,
    /// Where acknowledged writes go.
    pub(super) log: Option<PathBuf>,
}

/// Load under way.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Writer>>,
}

impl Load {
    pub(super) fn start(context: &Context, plan: &Plan) -> io::Result<Self> {
        let mut load = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for index in 0..plan.threads.clamp(1, THREADS_MAX) {
            let log = match &plan.log {
                Some(path) => Some(OpenOptions::new().append(true).create(true).open(path)?),
                None => None,
            };
            let ids = (0..plan.sessions.max(1)).map(|n| format!("{}-{index}-{n}", plan.prefix)).collect();
            let mut writer = Writer::new(context.clone(), ids, vec![b'x'; plan.size], log);
            let stop = Arc::clone(&load.stop);
            let thread = std::thread::Builder::new().name(format!("member-load-{index}"));
            load.threads.push(thread.spawn(move || {
                writer.run(&stop);
                writer
            })?);
        }
        Ok(load)
    }

    /// Ends the load; what was done, and the last acknowledged number of each session.
    pub(super) fn stop(self) -> Map<String, Value> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut writes, mut acked, mut errors, mut last) = (0, 0, 0, Map::new());
        for writer in self.threads.into_iter().filter_map(|thread| thread.join().ok()) {
            writes += writer.writes;
            acked += writer.acked;
            errors += writer.errors;
            last.extend(writer.last.into_iter().map(|(id, number)| (id, json!(number))));
        }
        fields([
            ("writes", json!(writes)),
            ("acked", json!(acked)),
            ("errors", json!(errors)),
            ("last", Value::Object(last)),
        ])
    }
}

/// One thread of a load.
#[derive(Debug)]
struct Writer {
    context: Context,
    ids: Vec<String>,
    ballast: Vec<u8>,
    log: Option<File>,
    writes: u64,
    /// Writes that every member in view had applied.
    acked: u64,
    errors: u64,
    last: BTreeMap<String, u64>,
}

impl Writer {
    fn new(context: Context, ids: Vec<String>, ballast: Vec<u8>, log: Option<File>) -> Self {
        Self { context, ids, ballast, log, writes: 0, acked: 0, errors: 0, last: BTreeMap::new() }
    }

    fn run(&mut self, stop: &AtomicBool) {
        for number in 1_u64.. {
            for index in 0..self.ids.len() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                self.write(index, number);
            }
        }
    }

    fn write(&mut self, index: usize, number: u64) {
        let id = &self.ids[index];
        let mut request = self.context.create(id.as_bytes());
        request.set(NUMBER, number.to_string().as_bytes());
        request.set(b"ballast", &self.ballast);
        self.writes += 1;
        match request.end("/load") {
            Ok(outcome) if outcome.status == Status::Replicated && outcome.copies > 1 && outcome.is_complete() => {
                self.acked += 1;
                if let Some(log) = &mut self.log
                    && log.write_all(format!("{id} {number}\n").as_bytes()).is_err()
                {
                    self.errors += 1;
                }
                self.last.insert(id.clone(), number);
            }
            Ok(_) => {}
            Err(_) => self.errors += 1,
        }
    }
}

/// Checks that each session of `at_least` holds at least its number.
pub(super) fn check(context: &Context, request: &Value) -> Reply {
    let wanted = request["at_least"].as_object().ok_or_else(|| refusal("at_least is missing"))?;
    let (mut missing, mut behind) = (Vec::new(), Vec::new());
    for (id, number) in wanted {
        let held = context.get(id.as_bytes(), NUMBER);
        let held = held.as_ref().and_then(|held| std::str::from_utf8(held.as_bytes()).ok()?.parse::<u64>().ok());
        match held {
            None => missing.push(json!(id)),
            Some(held) if held < number.as_u64().unwrap_or(u64::MAX) => behind.push(json!([id, held, number])),
            Some(_) => {}
        }
    }
    Ok(fields([("checked", json!(wanted.len())), ("missing", missing.into()), ("behind", behind.into())]))
}

/// Many sessions, each with one value that follows from its id.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) prefix: String,
    pub(super) count: usize,
    pub(super) size: usize,
}

impl Filling {
    fn ids(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|n| format!("{}-{n}", self.prefix))
    }

    fn value(&self, id: &str) -> Vec<u8> {
        id.bytes().cycle().take(self.size).collect()
    }
}

/// Makes the sessions; counts those that not every member in view has.
pub(super) fn fill(context: &Context, filling: &Filling) -> Reply {
    let mut incomplete = 0_u64;
    for id in filling.ids() {
        let mut request = context.create(id.as_bytes());
        request.set_owned(VALUE, filling.value(&id));
        let outcome = request.end("/fill").map_err(|e| refusal(&format!("{id}: {e}")))?;
        incomplete += u64::from(!outcome.is_complete());
    }
    Ok(fields([("incomplete", json!(incomplete))]))
}

/// Counts the sessions that are missing, or hold something else.
pub(super) fn check_fill(context: &Context, filling: &Filling) -> Map<String, Value> {
    let (mut missing, mut wrong) = (0_u64, 0_u64);
    for id in filling.ids() {
        match context.get(id.as_bytes(), VALUE) {
            None => missing += 1,
            Some(value) if value.as_bytes() != filling.value(&id) => wrong += 1,
            Some(_) => {}
        }
    }
    fields([("missing", json!(missing)), ("wrong", json!(wrong))])
}

const THREADS_MAX: usize = 64;
/// The attribute that counts up.
const NUMBER: &[u8] = b"number";
/// The attribute of a filled session.
const VALUE: &[u8] = b"value";
