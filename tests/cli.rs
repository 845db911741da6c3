//! The command as a shell or a supervisor meets it: what it prints where, and its exit codes.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Far above what a step takes on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
    command.args(arguments).env_clear();
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    finished(command(arguments).output().unwrap())
}

fn finished(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_succeed_and_help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["node", "--help"], &["ping", "-h"], &["config", "--help"]] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert!(out.contains("2    wrong flags or configuration"), "{out}");
    }
    assert_eq!(run(&["--version"]), (0, format!("hotspare {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn wrong_flags_are_told_together_and_nothing_starts() {
    let (code, out, err) = run(&["node", "--frequncy", "1s", "--port", "70000", "--mode=none", "--agent", "here"]);
    assert_eq!((code, out.as_str()), (2, ""));
    for expected in ["'--frequency'", "--port: ", "--mode: ", "'here'"] {
        assert!(err.contains(expected), "{err}");
    }
    assert_eq!(err.lines().count(), 4, "{err}");
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: hotspare"), "{err}");
}

#[test]
fn checking_a_file_prints_ok_or_every_problem_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.toml");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "[sender]\nmode = \"asynchronous\"\n").unwrap();
    assert_eq!(run(&["config", "check", file]), (0, "OK\n".into(), String::new()));

    std::fs::write(&path, "[sender]\nmode = \"async\"\nlane = 1\n[membership]\nmulticast = \"224.0.0.5:46002\"\n")
        .unwrap();
    let (code, out, err) = run(&["config", "check", file]);
    assert_eq!((code, err.as_str()), (2, ""));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with(&format!("{file}:2: sender.mode: ")));
    assert!(lines[1].starts_with(&format!("{file}:3: unknown setting sender.lane; did you mean sender.lanes?")));
    assert!(lines[2].starts_with(&format!("{file}:5: warning: membership.multicast")));

    let (code, out, _) = run(&["--json", "config", "check", file]);
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &result["ok"]), (2, &Value::Bool(false)));
    assert_eq!(result["problems"][0]["keys"][0], "sender.mode");
    assert_eq!(result["problems"][0]["at"][0], format!("{file}:2"));
    assert_eq!(result["problems"][2]["severity"], "warning");
}

#[test]
fn a_dump_shows_which_layer_each_value_came_from_and_is_a_file_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.toml");
    std::fs::write(&path, "[sender]\nlanes = 3\n").unwrap();
    let dump = |extra: &[&str]| {
        let mut command = command(extra);
        command.args(["config", "dump", "--config", path.to_str().unwrap(), "--workers", "4"]);
        finished(command.env("HOTSPARE_NODE_NAME", "a").output().unwrap())
    };
    let (code, out, err) = dump(&[]);
    assert_eq!((code, err.as_str()), (0, ""));
    let comment =
        |start: &str| out.lines().find(|line| line.starts_with(start)).and_then(|line| line.split("# ").nth(1));
    assert_eq!(comment("lanes = 3").unwrap(), format!("{}:2", path.display()));
    assert_eq!(comment("name = \"a\""), Some("env HOTSPARE_NODE_NAME"));
    assert_eq!(comment("workers = 4"), Some("--workers"));
    assert_eq!(comment("frequency = "), Some("default (lan)"));

    let (_, json, _) = dump(&["--json"]);
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    let row = rows.iter().find(|row| row["key"] == "receiver.workers").unwrap();
    assert_eq!((&row["value"], &row["origin"]), (&Value::from("4"), &Value::from("--workers")));

    std::fs::write(&path, out).unwrap();
    assert_eq!(run(&["config", "check", path.to_str().unwrap()]).0, 0);
}

#[test]
fn ping_says_why_it_hears_nobody() {
    let (code, out, err) =
        run(&["ping", "--preset=loopback", "--multicast", "239.255.77.9:46119", "--for", "50ms", "--probe"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no member of cluster \"hotspare\" was heard on 239.255.77.9:46119"), "{err}");
    assert!(err.contains("multicast works within this machine") && !err.contains("did not come back"), "{err}");

    // TEST-NET-1: no machine has it.
    let flags = ["ping", "--interface", "192.0.2.1", "--bind", "192.0.2.1", "--insecure-plaintext", "--for", "50ms"];
    let (code, _, err) = run(&flags);
    assert_eq!(code, 3);
    assert!(err.contains("no interface has the address 192.0.2.1"), "{err}");
}

#[test]
fn a_taken_address_is_no_wrong_flag_and_has_its_own_exit_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let [a, b, ..] = std::process::id().to_le_bytes();
    let group = format!("239.255.{b}.{a}:46117");
    let node = ["node", "--preset=loopback", "--multicast", &group];
    for flags in [["--port", &address.port().to_string()], ["--agent", &address.to_string()]] {
        let (code, out, err) = run(&[&node[..], &flags[..]].concat());
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains(&address.to_string()), "{err}");
    }
}

/// A node of the command, killed at the end if it is still there.
struct Node {
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    fn start(name: &str, group: &str) -> Self {
        let mut command = command(&["--json", "node", "--preset=loopback", "--name", name, "--multicast", group]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::Builder::new()
            .spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)))
            .unwrap();
        Self { child, lines }
    }

    /// The next event of this name, within the bound.
    fn event(&self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(BOUND).unwrap_or_else(|why| panic!("no {name}: {why}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The exit code, once standard output has ended.
    fn ended(&mut self) -> Option<i32> {
        while self.lines.recv_timeout(BOUND).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_says_that_it_is_ready_then_what_happens_and_leaves_on_a_signal() {
    // A group of this process alone, so that runs side by side do not meet.
    let [a, b, ..] = std::process::id().to_le_bytes();
    let group = format!("239.255.{b}.{a}:46118");
    let mut a = Node::start("a", &group);
    let ready: Value = serde_json::from_str(&a.lines.recv_timeout(BOUND).unwrap()).unwrap();
    assert_eq!((&ready["event"], &ready["name"], &ready["members"]), (&"ready".into(), &"a".into(), &1.into()));

    let mut b = Node::start("b", &group);
    assert_eq!(b.event("ready")["members"], 2);
    assert_eq!(a.event("member-up")["name"], "b");

    let flags = ["--json", "ping", "--preset=loopback", "--multicast", &group, "--for", "300ms"];
    let (code, out, err) = run(&flags);
    assert_eq!(code, 0, "{err}");
    let heard: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!((&heard[0]["name"], &heard[0]["address"]), (&Value::from("a"), &ready["address"]));
    assert_eq!((&heard[0]["state"], &heard[0]["cluster"]), (&Value::from("ready"), &Value::from("same")));

    b.signal("-TERM");
    assert_eq!(b.ended(), Some(0));
    assert_eq!(a.event("member-left")["name"], "b");
    a.signal("-INT");
    assert_eq!(a.ended(), Some(0));
}
