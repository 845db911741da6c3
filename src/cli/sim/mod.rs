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
use crate::sim::{self, Report};

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
    /// Run on after a seed has failed, and list every one
    #[arg(long)]
    all: bool,
    /// Plant one mistake after another, and say how many seeds show each
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with_all = ["trace", "all"])]
    mutants: bool,
    /// Plant this mistake in every run; with --mutants it may be repeated, and only these are looked for
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAME", value_parser = mutants::parse)]
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
    checked: u64,
    excused: u64,
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
        self.checked += report.checked;
        self.excused += report.excused;
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

/// Runs the seeds, prints the sums, and fails with the first seed that violated a rule.
pub(super) fn run(args: &SimArgs, out: &Output) -> Result<(), Failure> {
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
                    let report = if args.trace { sim::trace(seed) } else { sim::run(seed) };
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
    tell(&sum)
}

fn print(sum: &Sum, took: Duration, out: &Output) {
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    let (per_minute, excused) = (
        (sum.seeds as f64 * 60.0 / took.as_secs_f64().max(1e-9)).round(),
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
            ("timeouts", json!(sum.timeouts)),
            ("acks_checked", json!(sum.acks_checked)),
            ("joins_checked", json!(sum.joins_checked)),
            ("joins_timed_out", json!(sum.timed_out_joins)),
            ("checked", json!(sum.checked)),
            ("reads", json!(sum.reads)),
            ("gaps", json!(sum.gaps)),
            ("excused", json!(sum.excused)),
            ("excused_percent", json!((excused * 100.0).round() / 100.0)),
            ("ended", json!(sum.gone[0])),
            ("over", json!(sum.gone[1])),
            ("idle", json!(sum.gone[2])),
            ("slowest_rest_ms", json!(u64::try_from(sum.slowest.as_millis()).unwrap_or(u64::MAX))),
            ("failed", json!(sum.failures.len())),
        ],
    );
}

fn tell(sum: &Sum) -> Result<(), Failure> {
    if sum.failures.is_empty() {
        return Ok(());
    }
    let mut lines = Vec::new();
    for report in &sum.failures {
        if let Some(violation) = &report.violation {
            lines.push(format!("seed {}: {violation}", report.seed));
        }
    }
    if let Some(first) = sum.failures.first() {
        lines.push(format!("replay: hotspare sim --seed {} --seeds 1 --trace", first.seed));
    }
    Err(Failure::new(Exit::Failed, lines))
}
