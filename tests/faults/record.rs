//! What a run showed: a row for each fault, and the page made of them.
//!
//! A test opens a [`Fault`], tells it every change that must outlive the fault, has it look for them at the end, and says
//! what came out. The row is written when the fault is dropped, after the members, whose memory it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::catalogue::{CATALOGUE, Proof};
use crate::common::{Cluster, Member, SOON, largest_kib, now};

/// One fault as one test makes it.
#[derive(Debug)]
pub(crate) struct Fault {
    id: &'static str,
    done: &'static str,
    mode: String,
    /// What each session must hold.
    sessions: BTreeMap<String, Value>,
    /// Sessions that must not be there.
    ended: BTreeSet<String>,
    row: Row,
}

/// What the page says of one test.
#[derive(Clone, Debug, Default)]
struct Row {
    mode: String,
    done: &'static str,
    outcome: Option<String>,
    detected: Option<Duration>,
    checked: u64,
    lost: u64,
    resurrected: u64,
    largest_kib: u64,
}

impl Fault {
    /// Opens the fault: its id, and what is done to whom.
    pub(crate) fn new(id: &'static str, done: &'static str) -> Self {
        assert!(CATALOGUE.iter().any(|entry| entry.id == id), "{id} is in the catalogue");
        // Whatever members before it had.
        largest_kib();
        let row = Row { done, ..Row::default() };
        Self { id, done, mode: String::from("pooled"), sessions: BTreeMap::new(), ended: BTreeSet::new(), row }
    }

    /// Its cluster's mode goes into the row.
    pub(crate) fn cluster(&mut self, cluster: Cluster) -> Cluster {
        cluster.mode().clone_into(&mut self.mode);
        cluster
    }

    /// Makes or changes a session, which so many members have when the request returns.
    pub(crate) fn write(&mut self, member: &mut Member, id: &str, attributes: Value, copies: u64) -> Value {
        let create = !self.sessions.contains_key(id);
        let ended = member.request(id, json!({ "create": create, "set": attributes }));
        assert_eq!(ended["copies"], copies, "{id}: {ended}");
        self.expect(id, &attributes);
        ended
    }

    /// The session must hold these attributes beside what it must hold already.
    pub(crate) fn expect(&mut self, id: &str, attributes: &Value) {
        let session = self.sessions.entry(id.to_owned()).or_insert_with(|| json!({}));
        for (name, value) in attributes.as_object().into_iter().flatten() {
            session[name] = value.clone();
        }
    }

    /// Invalidates a session on so many members.
    pub(crate) fn invalidate(&mut self, member: &mut Member, id: &str, copies: u64) {
        let ended = member.request(id, json!({ "invalidate": true }));
        assert_eq!(ended["copies"], copies, "{id}: {ended}");
        self.must_stay_gone(id);
    }

    pub(crate) fn must_stay_gone(&mut self, id: &str) {
        self.sessions.remove(id);
        self.ended.insert(id.to_owned());
    }

    /// Looks for all of it at these members; what is not there soon is lost, and what is there again is resurrected.
    pub(crate) fn check<'a>(&mut self, members: impl IntoIterator<Item = &'a mut Member>) {
        let until = now() + SOON;
        let within = || json!(u64::try_from(until.saturating_duration_since(now()).as_millis()).unwrap_or(0));
        for member in members {
            for (id, attributes) in &self.sessions {
                let wait = json!({ "do": "wait_session", "id": id, "attributes": attributes, "within_ms": within() });
                let found = member.0.ask(&wait);
                self.row.checked += 1;
                if let Err(why) = found {
                    self.row.lost += 1;
                    complain(self.id, &why);
                }
            }
            for id in &self.ended {
                let wait = json!({ "do": "wait_session", "id": id, "absent": true, "within_ms": within() });
                if let Err(why) = member.0.ask(&wait) {
                    self.row.resurrected += 1;
                    complain(self.id, &why);
                }
            }
        }
        self.judge();
    }

    /// Looks at once for the last acknowledged number of each session of a load.
    pub(crate) fn check_load(&mut self, member: &mut Member, last: &BTreeMap<String, u64>) {
        let seen = member.ask(json!({ "do": "check_load", "at_least": last }));
        let count = |name: &str| seen[name].as_array().map_or(0, Vec::len) as u64;
        self.row.checked += last.values().sum::<u64>();
        self.row.lost += count("missing") + count("behind");
        assert!(self.row.lost == 0, "at {}: {seen}", member.0.name());
    }

    /// Looks at once for all of a filling.
    pub(crate) fn check_fill(&mut self, member: &mut Member, filling: &Value) {
        let mut ask = filling.clone();
        ask["do"] = json!("check_fill");
        let seen = member.ask(ask);
        self.row.checked += filling["count"].as_u64().unwrap_or(0);
        self.row.lost += seen["missing"].as_u64().unwrap_or(0) + seen["wrong"].as_u64().unwrap_or(0);
        assert!(self.row.lost == 0, "at {}: {seen}", member.0.name());
    }

    /// Notes how long it took to be noticed; the longest counts.
    pub(crate) fn detected(&mut self, took: Duration) {
        self.row.detected = self.row.detected.max(Some(took));
    }

    /// Has the members wait until this one is out of their views; the longest time since then counts.
    pub(crate) fn detect<'a>(
        &mut self,
        members: impl IntoIterator<Item = &'a mut Member>,
        gone: &str,
        since: Instant,
    ) -> Duration {
        let mut members: Vec<&mut Member> = members.into_iter().collect();
        for member in &mut members {
            member.send(json!({ "do": "wait_view", "without": gone, "within_ms": crate::common::SOON_MS }));
        }
        let took = members.iter_mut().map(|member| member.reply().0.saturating_duration_since(since)).max();
        let took = took.unwrap_or_default();
        self.detected(took);
        took
    }

    /// What came out. Without this the row says that the test failed or did not run.
    pub(crate) fn held(&mut self, outcome: impl Into<String>) {
        self.judge();
        self.row.outcome = Some(outcome.into());
    }

    fn judge(&self) {
        let Row { lost, resurrected, .. } = self.row;
        assert!(lost == 0 && resurrected == 0, "{}: {lost} changes lost, {resurrected} sessions resurrected", self.id);
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let mut row = std::mem::take(&mut self.row);
        row.mode = std::mem::take(&mut self.mode);
        row.largest_kib = largest_kib();
        if std::thread::panicking() {
            row.outcome = Some(String::from("**failed**"));
        }
        let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert((self.id, self.done), row);
        if std::env::var_os(WRITE_VARIABLE).is_some_and(|value| value == "1") {
            // Said and not judged: a drop must not fail a test that held.
            if let Err(why) = std::fs::write(path(), page(&rows)) {
                complain(self.id, &why.to_string());
            }
        }
    }
}

type Rows = BTreeMap<(&'static str, &'static str), Row>;

static ROWS: Mutex<Rows> = Mutex::new(BTreeMap::new());

/// Makes a run write the page.
const WRITE_VARIABLE: &str = "HOTSPARE_FAULTS";

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "FAULTS.md"].iter().collect()
}

fn page(rows: &Rows) -> String {
    let mut text = String::from(HEAD);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let _ = writeln!(text, "This run: {cores} cores, {build} build.\n");
    text.push_str("| fault | what was done | mode | outcome | detected | checked | lost | resurrected | largest |\n");
    text.push_str("|---|---|---|---|---:|---:|---:|---:|---:|\n");
    for entry in CATALOGUE {
        let own: Vec<&Row> = rows.iter().filter(|((id, _), _)| *id == entry.id).map(|(_, row)| row).collect();
        let title = format!("{} {}", entry.id, entry.title);
        if own.is_empty() {
            let why = match entry.proof {
                Proof::Run => String::from("did not run"),
                Proof::Simulator(check) => format!("simulator: {check}"),
                Proof::NotYet(why) => format!("not yet: {why}"),
            };
            let _ = writeln!(text, "| {title} | | | {why} | | | | | |");
        }
        for row in own {
            let Row { mode, done, outcome, detected, checked, lost, resurrected, largest_kib } = row;
            let outcome = outcome.as_deref().unwrap_or("did not run here");
            let detected = detected.map(|took| format!("{} ms", took.as_millis())).unwrap_or_default();
            let lost = if *checked == 0 { String::new() } else { lost.to_string() };
            let largest = if *largest_kib == 0 { String::new() } else { format!("{} MiB", largest_kib.div_ceil(1024)) };
            let _ = writeln!(
                text,
                "| {title} | {done} | {mode} | {outcome} | {detected} | {checked} | {lost} | {resurrected} | {largest} |"
            );
        }
    }
    text.push_str(BESIDE);
    text
}

/// To the real standard error: what a test prints is caught.
pub(crate) fn complain(id: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{id}: {why}");
}

const HEAD: &str = "# The fault catalogue\n
Written by the run itself; as root, with `ip` and `nft`, for all of it:\n
    HOTSPARE_FAULTS=1 cargo test --release --test faults -- --test-threads=1\n
Each row is one test of `tests/faults/` with real processes. *Detected* is the time from the fault to the last view that
had lost the member. *Checked* counts acknowledged changes that were looked for afterwards, once for each member that was
asked: of a load the last of each session stands for all before it. *Lost* and *resurrected* count those that were not
there, and ended sessions that were: both must be 0. *Largest* is the most memory that any one member had (`VmHWM`).
A row that names the simulator is a fault that needs a clock or a network of its own: `hotspare sim` (feature `sim`)
makes it, and the check named is the one of its module's page.\n
";

const BESIDE: &str = "
## Beside Tomcat's own cluster\n
[PEERS.md](PEERS.md) has the faults of this page that `SimpleTcpCluster` of Tomcat 10.1 can express, done by the same code
to it, with its defaults and tuned, and to hotspare with its defaults, side by side and as measured. `tests/peers/` does it,
by hand.
";
