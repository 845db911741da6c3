//! `hotspare sim --mutants`: whether the simulator finds every planted mistake.

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

/// What became of one mistake.
#[derive(Debug)]
struct Hunt {
    mutant: Mutant,
    /// The seed that showed it, and how.
    caught: Option<(u64, Violation)>,
    seeds: u64,
}

/// The mistake of that name.
pub(super) fn parse(name: &str) -> Result<Mutant, String> {
    Mutant::ALL
        .iter()
        .copied()
        .find(|m| m.name() == name)
        .ok_or_else(|| format!("one of {}", Mutant::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")))
}

/// Runs every mistake until a seed shows it, prints a line for each, and fails when one was not found.
pub(super) fn run(args: &SimArgs, out: &Output) -> Result<(), Failure> {
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let hook = std::panic::take_hook();
    // A mistake may well show in an assertion of the code that makes it: that is a result, and no message.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let none: Vec<Option<Hunt>> = Mutant::ALL.iter().map(|_| None).collect();
    let hunts = Mutex::new((none, 0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(*mutant, args.seed, args.seeds.unwrap_or(SEEDS));
                    let (all, told) = &mut *hunts.lock();
                    all[*mutant as usize] = Some(hunt);
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
    let missed: Vec<String> = hunts
        .into_inner()
        .0
        .into_iter()
        .flatten()
        .filter(|h| h.caught.is_none())
        .map(|h| format!("{} was not caught in {} seeds: {}", h.mutant.name(), h.seeds, h.mutant.about()))
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, missed)) }
}

fn hunt(mutant: Mutant, first: u64, most: u64) -> Hunt {
    for n in 0..most {
        if let Some(violation) = sim::run_mutant(first.saturating_add(n), mutant).violation {
            return Hunt { mutant, caught: Some((first.saturating_add(n), violation)), seeds: n + 1 };
        }
    }
    Hunt { mutant, caught: None, seeds: most }
}

fn tell(hunt: &Hunt, out: &Output) {
    let caught = hunt.caught.as_ref();
    out.record(
        "mutant",
        &[
            ("name", json!(hunt.mutant.name())),
            ("caught_by", caught.map_or(Value::Null, |(_, v)| json!(v.rule))),
            ("seed", caught.map_or(Value::Null, |(seed, _)| json!(seed))),
            ("seeds", json!(hunt.seeds)),
            ("about", json!(hunt.mutant.about())),
            ("seen", caught.map_or(Value::Null, |(_, v)| json!(v.text))),
        ],
    );
}
