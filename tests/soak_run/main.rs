//! A soak: real processes, clients, faults, and a checker that knows only what clients saw.
//!
//! `tests/soak --minutes 3` runs it in the release build. Without arguments, as one of the crate's tests, it takes some
//! ten seconds. `tests/soak --mutants` shows that it finds mistakes: it plants them in its members, one after the other. It ends with 1 where something was lost, came back, differs, grows, or ended by itself, and prints the
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
use self::cluster::{HORIZON, MemberKind, Run, lock};
use self::common::SOON;
use self::common::lab::Lab;
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

/// What thirty minutes are to reach.
const ACKED: u64 = 10_000_000;
const FAULTS: u64 = 150;
/// How long a planted mistake may stay unseen, and how fast faults come while one is looked for.
const HUNT: Duration = Duration::from_secs(120);
const HUNT_INTERVAL: Duration = Duration::from_secs(3);
/// Mistakes that the checker must see, and what as.
const MUTANTS: [(&str, &[Wrong]); 5] = [
    ("AckBeforeApply", &[Wrong::Lost]),
    ("TombstoneDroppedEarly", &[Wrong::Resurrected]),
    ("ChangeIdKeepsOldName", &[Wrong::Resurrected]),
    ("WrittenIsApplied", &[Wrong::Lost]),
    ("NoDigest,ReturnWithoutRepair,GiveUpWithoutRepair", &[Wrong::Divergent]),
];

const USAGE: &str = "usage: tests/soak [--minutes N] [--seed S] [--json] [--mutants | --mutant NAMES]";

#[derive(Clone, Debug)]
struct Args {
    time: Duration,
    seed: u64,
    json: bool,
    /// Plant these mistakes.
    mutant: Option<String>,
    /// Plant each of [`MUTANTS`].
    mutants: bool,
}

/// The arguments; nothing where this is not meant.
fn args() -> Result<Option<Args>, String> {
    let seed = fastrand::u64(..u64::from(u32::MAX));
    let mut args = Args { time: SHORT, seed, json: false, mutant: None, mutants: false };
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
            "--mutant" => args.mutant = Some(value()?),
            "--mutants" => args.mutants = true,
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
    let ok = if args.mutants { hunt(&args) } else { one(&args) };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One soak; whether all was well.
fn one(args: &Args) -> bool {
    let run = Run::new(CLIENTS, Lab::build_with_loss(NODES), args.mutant.as_deref());
    let interval = INTERVAL.min(args.time / FAULTS_MIN);
    let samples = soak(&run, args, interval);
    if samples.len() >= 12 {
        for (wrong, what) in growth(&run, &samples) {
            run.violation(wrong, &what, None);
        }
    }
    let report = report(&run, args, &samples);
    let text = if args.json { report.to_string() } else { words(&report) };
    let _ = writeln!(std::io::stdout(), "{text}");
    let violations = run.violations();
    for (wrong, what) in &violations {
        let _ = writeln!(std::io::stderr(), "{wrong:?} at {what}");
    }
    violations.is_empty()
}

/// Plants each mistake; whether every one was seen as what it is.
fn hunt(args: &Args) -> bool {
    let mut all = true;
    for (mutant, expected) in MUTANTS {
        let run = Run::new(CLIENTS, Lab::build_with_loss(NODES), Some(mutant));
        soak(&run, &Args { time: HUNT, mutants: true, ..args.clone() }, HUNT_INTERVAL);
        let seen: Vec<Wrong> = run.violations().into_iter().map(|(wrong, _)| wrong).collect();
        let found = seen.iter().any(|wrong| expected.contains(wrong));
        all &= found;
        let verdict = if found { "seen" } else { "NOT SEEN" };
        let line = format!("{mutant}: {verdict} as {seen:?} after {:.0} s", run.at().as_secs_f64());
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    all
}

/// Plays it; what memory and descriptors were on the way.
fn soak(run: &Run, args: &Args, interval: Duration) -> Vec<Sample> {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let stays = rng.usize(..NODES);
    // All at once, as a cluster starts.
    std::thread::scope(|scope| {
        for node in &run.nodes {
            // The one that stays speaks for all: it is as members are unasked.
            let kind = if node.index == stays { MemberKind::default() } else { MemberKind::any(&mut rng) };
            scope.spawn(move || {
                if let Err(why) = node.start(run, None, kind) {
                    run.violation(Wrong::Member, &why, None);
                }
            });
        }
    });
    if let Err(seen) = run.settle(SOON) {
        run.violation(Wrong::Member, &format!("the cluster did not start: {seen}"), None);
        return Vec::new();
    }
    let end = run.at() + args.time;
    // Where faults come faster they are shorter, unless a mistake is looked for: some need a member that was removed.
    let share = if args.mutants { 1.0 } else { interval.as_secs_f64() / INTERVAL.as_secs_f64() };
    let nemesis = Nemesis { rng: rng.fork(), stays, interval, share };
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

fn growth(run: &Run, samples: &[Sample]) -> Vec<(Wrong, String)> {
    let mut wrong = Vec::new();
    let (first, last) = thirds(samples, |s| s.memory);
    let counts = lock(&run.counts);
    let ended: u64 = ["invalidations", "expired"].iter().filter_map(|name| counts.get(name)).sum();
    // Those of the time for which tombstones live are held at a time.
    let held = ended as f64 * (HORIZON.as_secs_f64() / run.at().as_secs_f64()).min(1.0);
    if last > first + MEMORY_ROOM + held * MEMORY_OF_TOMBSTONE {
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
    let times = lock(&run.times).clone();
    let acked = operations.get("acked").copied().unwrap_or_default();
    let (seconds, happened) = (run.at().as_secs_f64(), faults.values().filter_map(Value::as_u64).sum::<u64>());
    let in_thirty = |n: u64| (n as f64 * 1800.0 / seconds).round();
    let violations = run.violations();
    let wrong = |kind: Wrong| violations.iter().filter(|(wrong, _)| *wrong == kind).count();
    let (memory, descriptors) = (thirds(samples, |s| s.memory), thirds(samples, |s| s.descriptors));
    json!({
        "ok": violations.is_empty(),
        "seed": args.seed,
        "seconds": seconds.round(),
        "hosts": if run.lab.is_some() { "network namespaces" } else { "loopback" },
        "acked_per_second": (acked as f64 / seconds).round(),
        "seconds_per_fault": (seconds / happened.max(1) as f64 * 10.0).round() / 10.0,
        "in_thirty_minutes": {
            "acked": in_thirty(acked),
            "enough": in_thirty(acked) >= ACKED as f64,
            "faults": in_thirty(happened),
            "enough_faults": in_thirty(happened) >= FAULTS as f64,
        },
        "operations": operations,
        "faults": faults,
        "acked_update_us": { "p50": times.value_at_quantile(0.5), "p99": times.value_at_quantile(0.99) },
        "longest_hidden_us": u64::try_from(lock(&run.hidden).as_micros()).unwrap_or(u64::MAX),
        "memory_kib": ends(samples, memory, |s| s.memory),
        "descriptors": ends(samples, descriptors, |s| s.descriptors),
        "flat": samples.len() >= 12 && wrong(Wrong::Growth) == 0,
        "lost": wrong(Wrong::Lost),
        "resurrected": wrong(Wrong::Resurrected),
        "divergent": wrong(Wrong::Divergent),
        "invented": wrong(Wrong::Invented),
        "member_trouble": wrong(Wrong::Member),
        "growth": wrong(Wrong::Growth),
    })
}

/// What something was at the start and at the end, and in the middle of the first and the last third.
fn ends(samples: &[Sample], thirds: (f64, f64), of: impl Fn(&Sample) -> f64) -> Value {
    let end = |sample: Option<&Sample>| sample.map(&of);
    json!({
        "start": end(samples.first()),
        "first_third": thirds.0,
        "last_third": thirds.1,
        "end": end(samples.last()),
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
