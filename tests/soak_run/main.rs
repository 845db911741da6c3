//! A soak: real processes on loopback, clients, faults, and a checker that knows only what clients saw.
//!
//! `tests/soak --minutes 3` runs it in the release build. Without arguments, as one of the crate's tests, it takes some
//! ten seconds. It ends with 1 where something was lost, came back, differs, grows, or ended by itself, and prints the
//! history of the session in question and the seed. The seed draws the faults and the clients' choices; when things
//! happen is up to the machine.

#![allow(unreachable_pub, clippy::cast_precision_loss, reason = "a program of its own")]

mod clients;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod history;
mod nemesis;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use self::clients::Client;
use self::cluster::{Run, lock};
use self::common::SOON;
use self::history::{CLIENTS, Counts, NODES, Wrong};
use self::nemesis::Nemesis;

/// What a run without arguments takes, starts and the last examination apart.
const SHORT: Duration = Duration::from_secs(8);
/// From one fault to the next, in a run that is long enough.
const INTERVAL: Duration = Duration::from_secs(10);
/// Faults in a run, at least.
const FAULTS_MIN: u32 = 6;
/// How often memory and descriptors are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What memory may grow by, in KiB, and for each session that ended: its tombstone stays for longer than the run takes.
const MEMORY_ROOM: f64 = 8192.0;
const MEMORY_OF_TOMBSTONE: f64 = 1.0;
/// What descriptors may grow by.
const DESCRIPTORS_ROOM: f64 = 6.0;

const USAGE: &str = "usage: tests/soak [--minutes N] [--seed S] [--json]";

#[derive(Debug)]
struct Args {
    time: Duration,
    seed: u64,
    json: bool,
}

/// The arguments; nothing where this is not meant.
fn args() -> Result<Option<Args>, String> {
    let mut args = Args { time: SHORT, seed: fastrand::u64(..u64::from(u32::MAX)), json: false };
    let mut words = std::env::args().skip(1);
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').map_or((word.as_str(), None), |(f, v)| (f, Some(v.to_owned())));
        let mut value = || value.clone().or_else(|| words.next()).ok_or_else(|| format!("{flag} of what?"));
        match flag {
            "--minutes" => {
                let minutes = value()?.parse::<f64>().ok().filter(|n| (0.1..=10_000.0).contains(n));
                args.time = minutes.map(|n| Duration::from_secs_f64(n * 60.0)).ok_or("--minutes takes a number")?;
            }
            "--seed" => args.seed = value()?.parse().map_err(|_| "--seed takes a number")?,
            "--json" => args.json = true,
            // What `cargo test` says to every test program.
            "--list" => return Ok(None),
            "--test-threads" | "--skip" | "--color" | "--format" => drop(value()?),
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--show-output" | "--include-ignored" => {}
            flag if flag.starts_with('-') => return Err(format!("no such flag: {flag}")),
            name => names.push(name.to_owned()),
        }
    }
    Ok((names.is_empty() || names.iter().any(|name| "soak".contains(name))).then_some(args))
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let run = Run::new(CLIENTS);
    let samples = soak(&run, &args);
    if samples.len() >= 12 {
        let ended = lock(&run.counts).get("invalidations").copied().unwrap_or_default();
        for (wrong, what) in growth(&samples, ended) {
            run.violation(wrong, &what, None);
        }
    }
    let report = report(&run, &args, &samples);
    let text = if args.json { report.to_string() } else { words(&report) };
    let _ = writeln!(std::io::stdout(), "{text}");
    let violations = run.violations();
    for (wrong, what) in &violations {
        let _ = writeln!(std::io::stderr(), "{wrong:?} at {what}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays it; what memory and descriptors were on the way.
fn soak(run: &Run, args: &Args) -> Vec<Sample> {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let stays = rng.usize(..NODES);
    // All at once, as a cluster starts.
    std::thread::scope(|scope| {
        for node in &run.nodes {
            scope.spawn(|| {
                if let Err(why) = node.start(run, None) {
                    run.violation(Wrong::Member, &why, None);
                }
            });
        }
    });
    if let Err(seen) = run.settle(SOON) {
        run.violation(Wrong::Member, &format!("the cluster did not start: {seen}"), None);
        return Vec::new();
    }
    let interval = INTERVAL.min(args.time / FAULTS_MIN);
    let end = run.at() + args.time;
    let nemesis = Nemesis { rng: rng.fork(), stays, interval };
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        let faults = scope.spawn(|| {
            // Whatever ends it ends the run.
            let _ends = End(run);
            nemesis.run(run, end);
        });
        for number in 0..CLIENTS {
            let client = Client::new(number, rng.u64(..));
            scope.spawn(|| {
                let ends = End(run);
                client.run(run);
                drop(ends);
            });
        }
        while !faults.is_finished() {
            // A member under fault holds other descriptors than one that serves.
            if run.nodes.iter().all(cluster::Node::is_healthy) {
                samples.extend(sample(run.nodes[stays].pid.load(Ordering::SeqCst)));
            }
            std::thread::park_timeout(LOOK);
        }
    });
    if run.violations().is_empty() {
        match run.settle(SOON) {
            Ok(()) => run.examine(),
            Err(seen) => run.violation(Wrong::Member, &format!("not whole at the end: {seen}"), None),
        }
    }
    // With their pipes closed members end by themselves.
    for node in &run.nodes {
        node.doomed.store(true, Ordering::SeqCst);
        if let Some(mut process) = node.take()
            && !process.finish(SOON)
            && run.violations().is_empty()
        {
            run.violation(Wrong::Member, &format!("{} did not end with its input", node.name()), None);
        }
    }
    samples
}

/// Ends the run when its thread ends, also by a panic.
struct End<'a>(&'a Run);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.violation(Wrong::Member, "a thread of the checker panicked", None);
        }
        self.0.end();
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Resident, in KiB.
    memory: f64,
    descriptors: f64,
}

fn sample(pid: u32) -> Option<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = line.split_whitespace().next()?.parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64;
    Some(Sample { memory, descriptors })
}

/// The medians of the first and the last third.
fn thirds(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let third = samples.len() / 3;
    let median = |part: &[Sample]| {
        let mut all: Vec<f64> = part.iter().map(&of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    (median(&samples[..third]), median(&samples[samples.len() - third..]))
}

fn growth(samples: &[Sample], ended: u64) -> Vec<(Wrong, String)> {
    let mut wrong = Vec::new();
    let (first, last) = thirds(samples, |s| s.memory);
    if last > first + MEMORY_ROOM + ended as f64 * MEMORY_OF_TOMBSTONE {
        wrong.push((Wrong::Growth, format!("memory grew from {first} KiB to {last} KiB")));
    }
    let (first, last) = thirds(samples, |s| s.descriptors);
    if last > first + DESCRIPTORS_ROOM {
        wrong.push((Wrong::Growth, format!("descriptors grew from {first} to {last}")));
    }
    wrong
}

fn report(run: &Run, args: &Args, samples: &[Sample]) -> Value {
    let counts: Counts = std::mem::take(&mut lock(&run.counts));
    let (faults, operations): (Counts, Counts) = counts.into_iter().partition(|(name, _)| name.starts_with("fault: "));
    let faults: serde_json::Map<String, Value> =
        faults.into_iter().map(|(name, n)| (name.trim_start_matches("fault: ").to_owned(), json!(n))).collect();
    let mut times = std::mem::take(&mut *lock(&run.times));
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let violations = run.violations();
    let wrong = |kind: Wrong| violations.iter().filter(|(wrong, _)| *wrong == kind).count();
    let (memory, descriptors) = (thirds(samples, |s| s.memory), thirds(samples, |s| s.descriptors));
    json!({
        "ok": violations.is_empty(),
        "seed": args.seed,
        "seconds": run.at().as_secs(),
        "operations": operations,
        "faults": faults,
        "acked_update_us": { "p50": at(50), "p99": at(99) },
        "longest_hidden_us": u64::try_from(lock(&run.hidden).as_micros()).unwrap_or(u64::MAX),
        "memory_kib": { "first_third": memory.0, "last_third": memory.1 },
        "descriptors": { "first_third": descriptors.0, "last_third": descriptors.1 },
        "lost": wrong(Wrong::Lost),
        "resurrected": wrong(Wrong::Resurrected),
        "divergent": wrong(Wrong::Divergent),
        "invented": wrong(Wrong::Invented),
        "member_trouble": wrong(Wrong::Member),
        "growth": wrong(Wrong::Growth),
    })
}

/// The report as lines.
fn words(report: &Value) -> String {
    let mut text = String::from(if report["ok"] == true { "soak: ok" } else { "soak: VIOLATED" });
    for (name, value) in report.as_object().into_iter().flatten().filter(|(name, _)| *name != "ok") {
        let name = name.replace('_', " ");
        match value.as_object() {
            Some(parts) => {
                let parts: Vec<String> =
                    parts.iter().map(|(part, n)| format!("{} {n}", part.replace('_', " "))).collect();
                let _ = write!(text, "\n  {name:<16} {}", parts.join(", "));
            }
            None => {
                let _ = write!(text, "\n  {name:<16} {value}");
            }
        }
    }
    text
}
