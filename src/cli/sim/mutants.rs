//! `hotspare sim --mutants`: whether the simulator finds every planted mistake.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::SimArgs;
use crate::cli::output::Output;
use crate::cli::{Exit, Failure};
use crate::mutant::Mutant;
use crate::sim::{self, Violation};

/// Seeds that one mistake is looked for in, unless told otherwise.
const SEEDS: u64 = 2000;
/// Seeds that are run however soon it is found: how often says how sure.
const SAMPLE: u64 = 50;
/// Where the table of a file begins.
const HEADING: &str = "| mistake |";

/// What became of one mistake.
#[derive(Debug)]
struct Hunt {
    mutant: Mutant,
    /// The first seed that showed it, and how.
    first: Option<(u64, Violation)>,
    /// How often each rule did.
    rules: BTreeMap<&'static str, u64>,
    seeds: u64,
}

/// Runs every mistake until a seed shows it, prints a line for each, and fails when one was not found.
pub(super) fn run(args: &SimArgs, out: &Output) -> Result<(), Failure> {
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let mutants = if args.mutant.is_empty() { Mutant::ALL } else { &args.mutant };
    let hook = std::panic::take_hook();
    // A mistake may well show in an assertion of the code that makes it: that is a result, and no message.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let none: Vec<Option<Hunt>> = mutants.iter().map(|_| None).collect();
    let hunts = Mutex::new((none, 0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = mutants.get(at) else { return };
                    let hunt = hunt(*mutant, args.seed, args.seeds.unwrap_or(SEEDS));
                    let (all, told) = &mut *hunts.lock();
                    all[at] = Some(hunt);
                    // In their order, however long each took.
                    while let Some(Some(hunt)) = all.get(*told) {
                        tell(hunt, out);
                        *told += 1;
                    }
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let hunts: Vec<Hunt> = hunts.into_inner().0.into_iter().flatten().collect();
    if let Some(path) = &args.table {
        write_table(path, &hunts).map_err(|e| Failure::new(Exit::Failed, [format!("{}: {e}", path.display())]))?;
    }
    let missed: Vec<String> = hunts
        .iter()
        .filter(|h| h.first.is_none())
        .map(|h| format!("{} was not caught in {} seeds: {}", h.mutant.name(), h.seeds, h.mutant.about()))
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, missed)) }
}

fn hunt(mutant: Mutant, from: u64, most: u64) -> Hunt {
    let mut hunt = Hunt { mutant, first: None, rules: BTreeMap::new(), seeds: 0 };
    while hunt.seeds < most && (hunt.seeds < SAMPLE || hunt.first.is_none()) {
        let seed = from.saturating_add(hunt.seeds);
        hunt.seeds += 1;
        if let Some(violation) = sim::run_mutant(seed, mutant).violation {
            *hunt.rules.entry(violation.rule).or_default() += 1;
            hunt.first.get_or_insert((seed, violation));
        }
    }
    hunt
}

impl Hunt {
    fn caught(&self) -> u64 {
        self.rules.values().sum()
    }

    /// Rules that it violated, the most frequent first.
    fn rules(&self) -> String {
        let mut rules: Vec<(&str, u64)> = self.rules.iter().map(|(rule, n)| (*rule, *n)).collect();
        rules.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        rules.iter().map(|(rule, n)| format!("{rule} {n}")).collect::<Vec<_>>().join(", ")
    }
}

fn tell(hunt: &Hunt, out: &Output) {
    let first = hunt.first.as_ref();
    out.record(
        "mutant",
        &[
            ("name", json!(hunt.mutant.name())),
            ("caught", json!(hunt.caught())),
            ("seeds", json!(hunt.seeds)),
            ("by", json!(hunt.rules())),
            ("first_seed", first.map_or(Value::Null, |(seed, _)| json!(seed))),
            ("first_by", first.map_or(Value::Null, |(_, v)| json!(v.rule))),
            ("about", json!(hunt.mutant.about())),
            ("seen", first.map_or(Value::Null, |(_, v)| json!(v.text))),
        ],
    );
}

/// Puts the hunts in the place of the file's table, which is the last thing in it.
fn write_table(path: &Path, hunts: &[Hunt]) -> std::io::Result<()> {
    let old = fs::read_to_string(path)?;
    let mut text = String::from(old.split(HEADING).next().unwrap_or_default());
    text.push_str(HEADING);
    text.push_str(" what it stands for | caught in | by | first seed |\n|---|---|---|---|---|\n");
    for hunt in hunts {
        let first = hunt.first.as_ref().map_or_else(|| String::from("-"), |(seed, _)| seed.to_string());
        let (name, about) = (hunt.mutant.name(), hunt.mutant.about());
        let by = if hunt.first.is_some() { hunt.rules() } else { String::from("not caught") };
        text.push_str(&format!("| {name} | {about} | {} of {} | {by} | {first} |\n", hunt.caught(), hunt.seeds));
    }
    fs::write(path, text)
}
