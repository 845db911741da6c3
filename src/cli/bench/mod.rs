//! `hotspare bench`: what replication costs here, beside what bare sockets cost at the same moment.
//!
//! The workload is a session update: each of many sessions has incompressible bytes of its own and one writer;
//! an update picks a session at random and sends it whole. Every measurement runs in fresh processes, pinned
//! to cores; rounds of what is compared alternate, so that a slow minute of the machine strikes both.
//! PERF.md says how to read the result.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for it")]

mod cluster;
mod limit;
mod load;
mod measure;
mod process;
mod report;

use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::output::Output;
use super::{Exit, Failure, progress};
use crate::runtime::affinity;
use load::{AckFlag, Load, ModeFlag};
pub(super) use process::{ProcessArgs, run as run_process};
use process::{Role, Row};
use report::{Rounds, Table};

/// Flags of `hotspare bench`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// The workload.
    #[command(flatten)]
    load: Load,
    /// Which cores the processes run on; both ways, one after the other, when absent.
    #[arg(long, value_enum)]
    placement: Option<Placement>,
    /// Measure bare sockets in turn with the nodes, and compare.
    #[arg(long)]
    limit: bool,
    /// Rounds of each measurement; 5 with `--limit`, 1 without, when absent.
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
}

/// Where processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// All on one core: no wake-up crosses cores.
    Same,
    /// The sender on one core, the receivers on another.
    Across,
}

impl Placement {
    fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Across => "across",
        }
    }
}

/// Measures, prints the figures, and fails when updates were lost or failed.
pub(super) fn run(args: &BenchArgs, out: &Output) -> Result<(), Failure> {
    args.load.check().map_err(|line| Failure::new(Exit::Usage, [line]))?;
    if args.limit && args.load.depth.get() > 1 {
        let line = String::from("bare sockets have no tickets: --limit and --depth do not go together");
        return Err(Failure::new(Exit::Usage, [line]));
    }
    let cores = affinity::allowed().map_err(|e| format!("cannot tell which cores are allowed: {e}"))?;
    let placements = match args.placement {
        Some(placement) => vec![placement],
        None => vec![Placement::Across, Placement::Same],
    };
    if placements.contains(&Placement::Across) && cores.len() < 2 {
        let line = "one core only: nothing can be placed across cores (use --placement same)";
        return Err(Failure::new(Exit::Usage, [line]));
    }
    let rows = rows(args);
    let rounds = args.rounds.map_or(if args.limit { LIMIT_ROUNDS } else { 1 }, NonZeroUsize::get);
    let mut tables: Vec<Table> = placements
        .iter()
        .map(|placement| Table {
            placement: placement.as_str(),
            rows: rows.iter().map(|row| (row.key, row.name, Rounds::default())).collect(),
        })
        .collect();

    let bar = progress::bar(out, (placements.len() * rounds * rows.len()) as u64);
    for round in 0..rounds {
        for (placement, table) in placements.iter().zip(&mut tables) {
            for (row, (.., figures)) in rows.iter().zip(&mut table.rows) {
                bar.set_message(format!("round {}: {}, {}", round + 1, placement.as_str(), row.name));
                let process = ProcessArgs {
                    role: Role::Sender,
                    row: row.row,
                    sender_core: cores[0],
                    receiver_core: cores[usize::from(*placement == Placement::Across)],
                    group: Ipv4Addr::new(239, 255, fastrand::u8(..), fastrand::u8(1..255)),
                    load: args.load.clone(),
                };
                figures.0.push(process.measure()?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();

    if out.is_json() {
        out.line(&Value::Object(to_json(args, rounds, &tables)).to_string());
    } else {
        out.line(&headline(args, rounds));
        out.line(&machine().map(|(name, value)| format!("{name} {value}")).join(" · "));
        for table in &tables {
            out.line(&format!("\n{}", table.to_text().trim_end()));
        }
    }
    match tables.iter().map(Table::failures).sum::<f64>() {
        0.0 => Ok(()),
        failures => Err(Failure::from(format!("{failures} updates were lost or failed"))),
    }
}

/// Fewer do not show how far rounds lie apart.
const LIMIT_ROUNDS: usize = 5;

/// One line of the table.
struct RowPlan {
    key: &'static str,
    name: &'static str,
    row: Row,
}

/// What is measured: the nodes, and with `--limit` the bare sockets that promise the same.
fn rows(args: &BenchArgs) -> Vec<RowPlan> {
    let hotspare = RowPlan { key: "hotspare", name: "hotspare", row: Row::Hotspare };
    if !args.limit {
        return vec![hotspare];
    }
    let per_thread = "bare, one socket per thread";
    let [first, second] = match (args.load.mode, args.load.ack) {
        (ModeFlag::Asynchronous, _) => [
            ("limit", "bare, gathered to 64 KiB", Row::Gathered),
            ("limit_single", "bare, one write each", Row::Single),
        ],
        (_, AckFlag::None) => [
            ("limit", "bare, one write each", Row::Single),
            ("limit_gathered", "bare, gathered to 64 KiB", Row::Gathered),
        ],
        (_, AckFlag::Received | AckFlag::Applied) => {
            [("limit", per_thread, Row::PerThread), ("limit_multiplexed", "bare, one shared socket", Row::Multiplexed)]
        }
    }
    .map(|(key, name, row)| RowPlan { key, name, row });
    vec![hotspare, first, second]
}

/// The first placement's table at the top, the other under its name.
fn to_json(args: &BenchArgs, rounds: usize, tables: &[Table]) -> Map<String, Value> {
    let load = &args.load;
    let mut object = Map::new();
    let machine = machine().map(|(name, value)| (name.to_string(), json!(value)));
    object.insert(String::from("machine"), Value::Object(Map::from_iter(machine)));
    let workload = json!({
        "peers": load.peers,
        "mode": load.mode.as_str(),
        "ack": load.ack.as_str(),
        "threads": load.threads,
        "depth": load.depth,
        "workers": load.workers,
        "lanes": load.lanes,
        "size": load.size,
        "sessions": load.session_count(),
        "seconds": load.seconds.as_secs_f64(),
        "rate": load.rate,
        "rounds": rounds,
        "congestion": load.congestion,
    });
    object.insert(String::from("workload"), workload);
    if let Some((first, others)) = tables.split_first() {
        object.extend(first.to_json());
        object.extend(others.iter().map(|table| (table.placement.to_string(), Value::Object(table.to_json()))));
    }
    object
}

fn headline(args: &BenchArgs, rounds: usize) -> String {
    let load = &args.load;
    let promise = match load.mode {
        ModeFlag::Asynchronous => String::from("asynchronous"),
        mode @ (ModeFlag::Synchronous | ModeFlag::Pooled) => format!("{}, ack {}", mode.as_str(), load.ack.as_str()),
    };
    let closed = || match load.depth.get() {
        1 => String::from("closed loop"),
        depth => format!("closed loop, {depth} in flight for each thread"),
    };
    let pace = load.rate.map_or_else(closed, |rate| format!("open loop at {rate} a second"));
    format!(
        "{promise}, to {}, {} threads, {} bytes, {} sessions, {pace}, {rounds} × {} s, congestion control {}",
        load.peers,
        load.threads,
        load.size,
        load.session_count(),
        load.seconds.as_secs_f64(),
        load.congestion,
    )
}

/// What the figures depend on and this machine can tell.
fn machine() -> [(&'static str, String); 4] {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    [
        ("cpu", models.first().copied().unwrap_or("unknown").to_string()),
        ("cores", models.len().to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load", read("/proc/loadavg")),
    ]
}
