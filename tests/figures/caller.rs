//! One caller of a member, over its pipe: a read, then a write of the same session, and so on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::common::Member;
use crate::record::Times;

/// The sessions of a filling that one caller writes, and what it was told.
#[derive(Debug)]
pub(crate) struct Caller {
    /// First session and the step to the next.
    place: (usize, usize),
    count: usize,
    number: u64,
    /// Writes that other members had as well, the last of each session.
    pub(crate) acknowledged: BTreeMap<String, u64>,
    /// How long its writes took, since this was last taken, one that waited counted for each period.
    pub(crate) took: Times,
    /// The same of those that waited for a member until it was found dead.
    pub(crate) bereaved: Times,
}

/// What the sessions of a filling are called.
pub(crate) const PREFIX: &str = "f";

/// How often a client would ask that does not wait for the answer.
const PERIOD: Duration = Duration::from_millis(1);

impl Caller {
    /// One of `of` callers that share `count` sessions.
    pub(crate) fn new(index: usize, of: usize, count: usize) -> Self {
        let (acknowledged, times) = (BTreeMap::new(), Times::default());
        Self { place: (index, of), count, number: 0, acknowledged, took: times.clone(), bereaved: times }
    }

    /// Reads one session and writes it.
    pub(crate) fn turn(&mut self, member: &mut Member) {
        self.number += 1;
        let (first, step) = self.place;
        // All over the filling, in no order that its transfer has.
        let drawn = fastrand::usize(..self.count / step);
        let id = format!("{PREFIX}-{}", first + drawn * step);
        let read = member.ask(json!({ "do": "get", "id": id }));
        assert_eq!(read["exists"], true, "{id}: {read}");
        let ended = member.request(&id, json!({ "set": { "number": self.number.to_string() } }));
        let took = Duration::from_micros(ended["took_us"].as_u64().unwrap());
        let is_bereaved = ended["missing"].as_array().unwrap().iter().any(|missing| missing["reason"] == "down");
        let times = if is_bereaved { &mut self.bereaved } else { &mut self.took };
        times.push_waited(took, PERIOD);
        if ended["copies"].as_u64().unwrap() > 1 {
            self.acknowledged.insert(id, self.number);
        }
    }
}
