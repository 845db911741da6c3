//! The node's events as the script reads them: collected by a thread, bounded, the oldest dropped first.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{fields, micros};
use crate::cli::node::described;
use crate::event::Event;
use crate::node::Node;

/// Events since they were last taken.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    kept: Mutex<Kept>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    /// Events heard since the start.
    count: u64,
    events: VecDeque<Value>,
}

impl EventLog {
    /// Starts the thread that listens, for as long as the process lives.
    pub(super) fn start(node: &Node) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self::default());
        let (node, keeper) = (node.clone(), Arc::clone(&log));
        std::thread::Builder::new().name(String::from("member-events")).spawn(move || {
            loop {
                if let Some(event) = node.next_event(PATIENCE) {
                    keeper.keep(&event, node.now());
                }
            }
        })?;
        Ok(log)
    }

    /// Events heard since the start.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Waits for an event beyond the first `count`, at most `timeout`.
    pub(super) fn wait(&self, count: u64, timeout: Duration) {
        let kept = self.lock();
        let _ = self.heard.wait_timeout_while(kept, timeout, |kept| kept.count <= count);
    }

    /// What is kept, which is forgotten with that.
    pub(super) fn take(&self) -> Vec<Value> {
        self.lock().events.drain(..).collect()
    }

    /// The first one of this kind about the member of this name, which stays.
    pub(super) fn find(&self, event: &str, name: &str) -> Option<Value> {
        self.lock().events.iter().find(|kept| kept["event"] == event && kept["name"] == name).cloned()
    }

    fn keep(&self, event: &Event, at: Duration) {
        let mut kept = self.lock();
        kept.count += 1;
        if let Some((name, described)) = described(event) {
            let mut object = fields([("event", json!(name)), ("at_us", micros(at))]);
            object.extend(described.into_iter().map(|(name, value)| (name.to_owned(), value)));
            if kept.events.len() == KEPT_MAX {
                kept.events.pop_front();
            }
            kept.events.push_back(Value::Object(object));
        }
        drop(kept);
        self.heard.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PATIENCE: Duration = Duration::from_secs(1);
const KEPT_MAX: usize = 16_384;
