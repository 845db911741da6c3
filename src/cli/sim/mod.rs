//! `hotspare sim`: runs seeds of the simulator and says what they showed.

#![expect(clippy::disallowed_methods, reason = "it measures seeds per minute, and runs them on several threads")]

#[cfg(feature = "mutants")]
mod mutants;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use crate::cli::output::Output;
use crate::cli::{Exit, Failure, progress};
use crate::sim::{self, Lean, Options, Report, Suppress};

/// Seeds that are run unasked.
const SEEDS: u64 = 100;

/// Flags of `hotspare sim`.
#[derive(Debug, clap::Args)]
pub(super) struct SimArgs {
    /// How many seeds to run: 100, with --mutants at most 2000 for each
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many threads run seeds; 0: one for each processor
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Print what happens in each run
    #[arg(long)]
    trace: bool,
    /// Lean to this, whatever the seeds lean to
    #[arg(long, value_name = "NAME", value_parser = parse_lean, hide = true)]
    lean: Option<Lean>,
    /// Leave out these classes of faults and weather, such as reset or ping-loss
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_class)]
    without: Vec<&'static str>,
    /// Leave out these faults of a run, the first being 1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    without_fault: Vec<u64>,
    /// Not more nodes than these
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Not more users than these
    #[arg(long, value_name = "N")]
    users: Option<usize>,
    /// Load and faults last no longer, in seconds
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    length: Option<Duration>,
    /// No fault strikes later, in seconds
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    faults_until: Option<Duration>,
    /// Runs that a failing seed is made smaller with; 0: none
    #[arg(long, value_name = "N", default_value_t = 200)]
    shrink: usize,
    /// Run membership alone for so many hours, with heavy loss of pings and no load
    #[arg(long, value_name = "HOURS", conflicts_with_all = ["trace", "all", "seeds"])]
    membership_hours: Option<u64>,
    /// Run on after a seed has failed, and list every one
    #[arg(long)]
    all: bool,
    /// Plant one mistake after another, and say how many seeds show each
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with_all = ["trace", "all"])]
    mutants: bool,
    /// Plant this mistake in every run; with --mutants it may be repeated, and only these are looked for
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAME", value_parser = crate::mutant::Mutant::named)]
    mutant: Vec<crate::mutant::Mutant>,
    /// Write what became of the mistakes into the table of this file
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "FILE", requires = "mutants")]
    table: Option<std::path::PathBuf>,
}

/// What all seeds showed together.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    events: u64,
    updates: u64,
    acked: u64,
    timeouts: u64,
    refused: u64,
    checked: u64,
    excused: u64,
    beyond_horizon: u64,
    gone: [u64; 3],
    acks_checked: u64,
    joins_checked: u64,
    timed_out_joins: u64,
    reads: u64,
    gaps: u64,
    slowest: Duration,
    failures: Vec<Report>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.updates += report.updates;
        self.acked += report.acked;
        self.timeouts += report.timeouts;
        self.refused += report.refused;
        self.checked += report.checked;
        self.excused += report.excused;
        self.beyond_horizon += report.beyond_horizon;
        for (sum, n) in self.gone.iter_mut().zip(report.gone) {
            *sum += n;
        }
        self.acks_checked += report.acks_checked;
        self.joins_checked += report.joins_checked;
        self.timed_out_joins += report.timed_out_joins;
        self.reads += report.reads;
        self.gaps += report.gaps;
        self.slowest = self.slowest.max(report.convergence);
        if report.violation.is_some() {
            self.failures.push(report);
        }
    }
}

fn parse_lean(name: &str) -> Result<Lean, String> {
    Lean::ALL
        .iter()
        .copied()
        .find(|lean| lean.name() == name)
        .ok_or_else(|| format!("one of {}", Lean::ALL.iter().map(|l| l.name()).collect::<Vec<_>>().join(", ")))
}

/// Runs the seeds, prints the sums, and fails with the first seed that violated a rule.
pub(super) fn run(args: &SimArgs, out: &Output) -> Result<(), Failure> {
    if let Some(hours) = args.membership_hours {
        return endure(args.seed, hours, out);
    }
    #[cfg(feature = "mutants")]
    if args.mutants {
        return mutants::run(args, out);
    }
    #[cfg(feature = "mutants")]
    if args.mutant.len() > 1 {
        return Err(Failure::new(
            Exit::Usage,
            ["a run has one mistake; --mutants looks for several, one after another"],
        ));
    }
    let threads = match args.threads {
        _ if args.trace => 1,
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let options = args.options();
    let next = AtomicU64::new(args.seed);
    let seeds = args.seeds.unwrap_or(SEEDS);
    let end = args.seed.saturating_add(seeds);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let bar = progress::bar(out, seeds);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    #[cfg(feature = "mutants")]
                    let _planting = args.mutant.first().copied().map(crate::mutant::plant);
                    let report = sim::run_with(seed, &options);
                    if report.violation.is_some() && !args.all {
                        stop.store(true, Ordering::Relaxed);
                    }
                    sum.lock().add(report);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut sum = sum.into_inner();
    sum.failures.sort_by_key(|r| r.seed);
    print(&sum, start.elapsed(), out);
    tell(&sum, args, &options)
}

fn print(sum: &Sum, took: Duration, out: &Output) {
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    let (per_minute, acked_per_seed, excused) = (
        (sum.seeds as f64 * 60.0 / took.as_secs_f64().max(1e-9)).round(),
        (sum.acked as f64 / sum.seeds.max(1) as f64).round(),
        100.0 * sum.excused as f64 / (sum.checked + sum.excused).max(1) as f64,
    );
    out.record(
        "sim",
        &[
            ("seeds", json!(sum.seeds)),
            ("seeds_per_minute", json!(per_minute)),
            ("events", json!(sum.events)),
            ("updates", json!(sum.updates)),
            ("acked", json!(sum.acked)),
            ("acked_per_seed", json!(acked_per_seed)),
            ("refused", json!(sum.refused)),
            ("timeouts", json!(sum.timeouts)),
            ("acks_checked", json!(sum.acks_checked)),
            ("joins_checked", json!(sum.joins_checked)),
            ("joins_timed_out", json!(sum.timed_out_joins)),
            ("checked", json!(sum.checked)),
            ("reads", json!(sum.reads)),
            ("gaps", json!(sum.gaps)),
            ("excused", json!(sum.excused)),
            ("excused_percent", json!((excused * 100.0).round() / 100.0)),
            ("beyond_horizon", json!(sum.beyond_horizon)),
            ("ended", json!(sum.gone[0])),
            ("over", json!(sum.gone[1])),
            ("idle", json!(sum.gone[2])),
            ("slowest_rest_ms", json!(u64::try_from(sum.slowest.as_millis()).unwrap_or(u64::MAX))),
            ("failed", json!(sum.failures.len())),
        ],
    );
}

fn tell(sum: &Sum, args: &SimArgs, options: &Options) -> Result<(), Failure> {
    let Some(first) = sum.failures.first() else { return Ok(()) };
    let failures = sum.failures.iter().filter_map(|r| Some((r.seed, r.violation.as_ref()?)));
    let mut lines: Vec<String> = failures.map(|(seed, violation)| format!("seed {seed}: {violation}")).collect();
    let mut shown = Options { trace: true, ..options.clone() };
    let replay = |seed, options: &Options| format!("hotspare sim --seed {seed} --seeds 1{options}{}", args.planted());
    lines.push(format!("replay: {}", replay(first.seed, &shown)));
    if args.shrink > 0 && !args.trace {
        #[cfg(feature = "mutants")]
        let _planting = args.mutant.first().copied().map(crate::mutant::plant);
        if let Some(smallest) = sim::shrink(first.seed, options, args.shrink) {
            let (nodes, users, length) = smallest.report.size;
            let strikes: u64 = smallest.report.faults.values().sum();
            lines.push(format!(
                "smallest of {} runs: {nodes} nodes, {users} users, {} s, {strikes} faults",
                smallest.runs,
                sim::seconds(length),
            ));
            shown = Options { trace: true, ..smallest.options };
            lines.push(format!("  {}", replay(first.seed, &shown)));
            lines.extend(smallest.report.violation.map(|v| format!("  {v}")));
        }
    }
    Err(Failure::new(Exit::Failed, lines))
}

impl SimArgs {
    /// What of the runs is to be otherwise than their seeds say.
    fn options(&self) -> Options {
        let mut options = Options::default();
        (options.lean, options.trace) = (self.lean, self.trace);
        let suppress = &mut options.suppress;
        suppress.classes = self.without.iter().copied().collect();
        suppress.faults = self.without_fault.iter().copied().collect();
        (suppress.nodes, suppress.users) = (self.nodes, self.users);
        (suppress.length, suppress.faults_until) = (self.length, self.faults_until);
        options
    }

    /// The flag that plants the same mistake.
    fn planted(&self) -> String {
        #[cfg(feature = "mutants")]
        return self.mutant.first().map(|m| format!(" --mutant {}", m.name())).unwrap_or_default();
        #[cfg(not(feature = "mutants"))]
        String::new()
    }
}

/// Nodes of a run of membership alone, and the share of pings lost.
const MEMBERSHIP: (usize, f64) = (3, 0.3);

/// Runs membership alone, and fails when it removed a member that lived.
fn endure(seed: u64, hours: u64, out: &Output) -> Result<(), Failure> {
    let (nodes, loss) = MEMBERSHIP;
    let seen = sim::endure(seed, nodes, Duration::from_secs(hours.saturating_mul(3600)), loss);
    out.record(
        "membership",
        &[
            ("hours", json!(hours)),
            ("nodes", json!(nodes)),
            ("pings", json!(seen.pings)),
            ("lost", json!(seen.lost)),
            ("suspects", json!(seen.suspects)),
            ("echoes", json!(seen.echoes)),
            ("false_removals", json!(seen.false_removals)),
            ("complete", json!(seen.complete)),
        ],
    );
    if seen.false_removals == 0 && seen.complete {
        return Ok(());
    }
    let text = format!("{} members that lived were removed from a view", seen.false_removals);
    Err(Failure::new(Exit::Failed, [text]))
}

fn parse_class(name: &str) -> Result<&'static str, String> {
    Suppress::classes()
        .find(|class| *class == name)
        .ok_or_else(|| format!("one of {}", Suppress::classes().collect::<Vec<_>>().join(", ")))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
