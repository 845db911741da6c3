//! Members as real processes: started from the built command, asked over their pipes, killed and reaped when dropped.
//!
//! A test gets a cluster name and a multicast group of its own, so that tests may run side by side. Every wait has a bound.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod lab;
pub mod wire;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotspare::cli::demo::process::Process;
use serde_json::{Value, json};

/// The command under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hotspare"))
}

/// How long anything may take that should be quick: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);

/// The same for a member's own waits.
pub const SOON_MS: u64 = 20_000;

/// A cluster name and a multicast group that nobody else uses, and the flags of its members.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    pub group: String,
    flags: Vec<String>,
}

impl Cluster {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (x, y, port) = (fastrand::u8(..), fastrand::u8(..), fastrand::u16(30_000..60_000));
        Self {
            name: format!("test-{}-{number}", std::process::id()),
            group: format!("239.255.{x}.{y}:{port}"),
            // Periods that a busy machine keeps.
            flags: ["--preset=loopback", "--frequency=100ms", "--drop-time=1s", "--verify-timeout=500ms"]
                .map(String::from)
                .to_vec(),
        }
    }

    /// The same with one more flag for every member.
    #[must_use]
    pub fn with(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// The replication mode of its members.
    pub fn mode(&self) -> &str {
        self.flags.iter().rev().find_map(|flag| flag.strip_prefix("--mode=")).unwrap_or("pooled")
    }

    /// Another cluster in the same group.
    pub fn neighbour(&self) -> Self {
        Self { name: format!("{}-neighbour", self.name), ..self.clone() }
    }

    /// The flags of a member, the last of a kind counting.
    pub fn flags(&self, more: &[&str]) -> Vec<String> {
        let own = [format!("--cluster={}", self.name), format!("--multicast={}", self.group)];
        let mut all: Vec<String> = Vec::new();
        for flag in self.flags.iter().cloned().chain(own).chain(more.iter().map(|flag| (*flag).to_owned())) {
            let key = flag.split('=').next().unwrap_or_default().to_owned();
            all.retain(|other| other.split('=').next() != Some(&key));
            all.push(flag);
        }
        all
    }

    /// Starts a member and waits until it serves.
    pub fn start(&self, name: &str) -> Member {
        self.start_with(name, &[])
    }

    pub fn start_with(&self, name: &str, more: &[&str]) -> Member {
        let mut member = self.launch(name, more);
        member.wait_ready();
        member
    }

    /// Starts a member; it is not ready yet.
    pub fn launch(&self, name: &str, more: &[&str]) -> Member {
        Member(ok(Process::start(program(), name, &self.flags(more))))
    }

    /// So many members that all see each other.
    pub fn members<const N: usize>(&self) -> [Member; N] {
        let names = ["a", "b", "c", "d", "e"];
        let mut members: [Member; N] = std::array::from_fn(|n| self.launch(names[n], &[]));
        for member in &mut members {
            member.wait_ready();
        }
        for member in &mut members {
            member.wait_view(N);
        }
        members
    }
}

/// A member whose refusals and silences fail the test.
#[derive(Debug)]
pub struct Member(pub Process);

impl Member {
    pub fn wait_ready(&mut self) -> Duration {
        ok(self.0.wait_ready(SOON * 3))
    }

    pub fn id(&self) -> String {
        self.0.id().to_owned()
    }

    pub fn port(&self) -> u16 {
        let port = self.0.address().rsplit(':').next().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("{} is no address", self.0.address()))
    }

    pub fn ask(&mut self, request: Value) -> Value {
        ok(self.0.ask(&request).map_err(|why| format!("{request}: {why}")))
    }

    /// Asks for what must be refused; why it was.
    pub fn refused(&mut self, request: Value) -> String {
        match self.0.ask(&request) {
            Ok(reply) => panic!("{request} was not refused: {reply}"),
            Err(why) => why,
        }
    }

    pub fn send(&mut self, request: Value) {
        ok(self.0.send(&request));
    }

    pub fn reply(&mut self) -> (Instant, Value) {
        ok(self.0.reply(SOON * 3))
    }

    /// A whole request.
    pub fn request(&mut self, id: &str, changes: Value) -> Value {
        self.ask(merged(json!({ "do": "request", "id": id }), changes))
    }

    /// Begins a request and leaves it open; its handle.
    pub fn begin(&mut self, id: &str) -> Value {
        self.ask(json!({ "do": "begin", "id": id }))["handle"].clone()
    }

    pub fn end(&mut self, handle: &Value, changes: Value) -> Value {
        self.ask(merged(json!({ "do": "end", "handle": handle }), changes))
    }

    /// Makes a session that every one of `copies` members has.
    pub fn make(&mut self, id: &str, attributes: Value, copies: u64) {
        let made = self.request(id, json!({ "create": true, "set": attributes }));
        assert_eq!(made["copies"], copies, "{made}");
    }

    /// The session's attributes as this member sees them now; null where there is no session.
    pub fn get(&mut self, id: &str) -> Value {
        let seen = self.ask(json!({ "do": "get", "id": id }));
        if seen["exists"] == true { seen["attributes"].clone() } else { Value::Null }
    }

    pub fn stat(&mut self, name: &str) -> u64 {
        let stats = self.ask(json!({ "do": "stats" }));
        stats[name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Waits until the view has so many members, all ready, none suspect and none under repair.
    pub fn wait_view(&mut self, members: usize) {
        self.ask(json!({ "do": "wait_view", "members": members, "settled": true, "within_ms": SOON_MS }));
    }

    pub fn wait_session(&mut self, id: &str, attributes: Value) {
        self.ask(json!({ "do": "wait_session", "id": id, "attributes": attributes, "within_ms": SOON_MS }));
    }

    pub fn wait_gone(&mut self, id: &str) {
        self.ask(json!({ "do": "wait_session", "id": id, "absent": true, "within_ms": SOON_MS }));
    }

    pub fn wait_stat(&mut self, name: &str, at_least: u64) {
        self.ask(json!({ "do": "wait_stat", "name": name, "at_least": at_least, "within_ms": SOON_MS }));
    }

    /// SIGKILL; when it went out.
    pub fn kill(&mut self) -> Instant {
        self.weigh();
        ok(self.0.kill())
    }

    /// The most memory that it has had so far, in KiB; none once it has ended.
    pub fn peak_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Notes the memory for [`largest_kib`].
    fn weigh(&self) {
        if let Some(kib) = self.peak_kib() {
            LARGEST_KIB.set(LARGEST_KIB.get().max(kib));
        }
    }

    /// The words of its events since they were last asked for, oldest first.
    pub fn events(&mut self) -> Vec<Value> {
        let events = self.ask(json!({ "do": "events" }));
        events["events"].as_array().cloned().unwrap_or_default()
    }

    /// How many of those were this word about this member.
    pub fn count_events(&mut self, word: &str, name: &str) -> usize {
        self.events().iter().filter(|event| event["event"] == word && event["name"] == name).count()
    }

    /// Ends its load; the last acknowledged number of each session.
    pub fn stop_load(&mut self) -> BTreeMap<String, u64> {
        let stopped = self.ask(json!({ "do": "load_stop" }));
        assert_eq!(stopped["errors"], 0, "{stopped}");
        ok(serde_json::from_value(stopped["last"].clone()))
    }

    pub fn wait_without(&mut self, id: &str) {
        self.ask(json!({ "do": "wait_view", "without": id, "within_ms": SOON_MS }));
    }

    /// Waits for so many more of its pings: that much of its time has passed.
    pub fn wait_pings(&mut self, more: u64) {
        let sent = self.stat("pings_sent");
        self.wait_stat("pings_sent", sent + more);
    }

    /// SIGSTOP: its sockets stay open and answer nothing.
    pub fn pause(&self) {
        let pid = self.0.pid();
        signal(pid, "STOP");
        // A thread that runs elsewhere stops a moment later.
        let deadline = now() + SOON;
        while !is_stopped(pid) {
            assert!(now() < deadline, "{pid} did not stop");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub fn resume(&self) {
        signal(self.0.pid(), "CONT");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.weigh();
    }
}

thread_local! {
    static LARGEST_KIB: Cell<u64> = const { Cell::new(0) };
}

/// The most memory that any one member of this thread had which has ended, in KiB; begins again at zero.
pub fn largest_kib() -> u64 {
    LARGEST_KIB.take()
}

/// The last acknowledged number of each session, from a member's log. A line without its end was not written out.
pub fn acknowledged(log: &Path) -> BTreeMap<String, u64> {
    let log = ok(std::fs::read_to_string(log));
    let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.filter_map(|line| line.split_once(' ')).map(|(id, n)| (id.to_owned(), ok(n.parse()))).collect()
}

/// Small caps, so that writers which are faster than a member overflow its queue: smaller than what makes them write
/// themselves.
pub const SMALL_QUEUE: [&str; 5] = [
    "--high-water=128KiB",
    "--low-water=64KiB",
    "--queue-bytes-max=256KiB",
    "--value-bytes-max=128KiB",
    "--session-bytes-max=256KiB",
];

pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Real, effective, saved and file system user.
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

pub fn is_able(command: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(command).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Says why a test did nothing, or fails where nothing may be left out.
pub fn skip<T>(why: &str) -> Option<T> {
    let must_run = std::env::var("CI_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!must_run, "CI_REQUIRE_TOOLS=1, but {why}");
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
    None
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "kill -{name} {pid}: {status:?}");
}

/// Whether every thread of the process is stopped.
fn is_stopped(pid: u32) -> bool {
    let stat = |task: &Path| std::fs::read_to_string(task.join("stat")).unwrap_or_default();
    let tasks = ok(std::fs::read_dir(format!("/proc/{pid}/task")));
    // The state follows the name, which stands in parentheses.
    tasks
        .flatten()
        .all(|task| stat(&task.path()).rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}

/// Waits until processes with this text in their command line are gone.
pub fn wait_no_process(text: &str) {
    let deadline = now() + SOON;
    loop {
        let left = processes_with(text);
        if left.is_empty() {
            return;
        }
        assert!(now() < deadline, "processes {left:?} of {text} are left");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn processes_with(text: &str) -> Vec<PathBuf> {
    let all = ok(std::fs::read_dir("/proc"));
    let paths = all.flatten().map(|entry| entry.path());
    paths
        .filter(|path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "tests bound their waits")]
pub fn now() -> Instant {
    Instant::now()
}

/// The value, or the test fails with the reason.
#[track_caller]
pub fn ok<T, E: Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(why) => panic!("{why}"),
    }
}

fn merged(mut request: Value, changes: Value) -> Value {
    if let (Some(all), Value::Object(changes)) = (request.as_object_mut(), changes) {
        all.extend(changes);
    }
    request
}
