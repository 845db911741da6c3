//! Seeds of the simulator: a fixed range, every seed that once failed, and that a seed is a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "sim")]

use std::time::Duration;

use hotspare::sim::{Lean, Options, Report, endure, run, run_with};

/// Seeds that once failed, one a line; what follows a `#` says what it was.
const ONCE_FAILED: &str = include_str!("sim_seeds.txt");

fn check(seed: u64) -> Report {
    let report = run(seed);
    if let Some(violation) = &report.violation {
        panic!("{violation}\nreplay: cargo run --features sim -- sim --seed {seed} --seeds 1 --trace");
    }
    report
}

#[test]
fn no_seed_of_a_fixed_range_violates_a_rule() {
    let acked: u64 = std::thread::scope(|scope| {
        let halves = [1..=150, 151..=300].map(|seeds| scope.spawn(|| seeds.map(|s| check(s).acked).sum::<u64>()));
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(acked > 50_000, "{acked} acked changes show too little");
}

#[test]
fn no_seed_that_once_failed_fails_again() {
    for line in ONCE_FAILED.lines() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            check(seed.parse().unwrap());
        }
    }
}

#[test]
fn no_seed_whose_stores_are_full_violates_a_rule() {
    let mut options = Options::default();
    options.lean = Some(Lean::Full);
    let refused: u64 = (1..=12)
        .map(|seed| {
            let report = run_with(seed, &options);
            assert!(report.violation.is_none(), "seed {seed}{options}: {:?}", report.violation);
            report.refused
        })
        .sum();
    assert!(refused > 1000, "{refused} refused commits show too little");
}

#[test]
fn three_pings_in_ten_may_be_lost_for_hours_and_nobody_is_removed() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let seen = endure(1, 3, hours(10), 0.3);
    assert!(seen.suspects > 100, "{seen:?}: loss that makes nobody a suspect shows nothing");
    assert_eq!((seen.false_removals, seen.complete), (0, true), "{seen:?}");
    assert!(endure(2, 3, hours(1), 0.3) == endure(2, 3, hours(1), 0.3), "a seed is a run");
}

#[test]
fn whatever_a_seed_is_told_to_lean_to_it_is_a_run() {
    for lean in Lean::ALL {
        let mut options = Options::default();
        options.lean = Some(*lean);
        options.suppress.users = Some(6);
        options.suppress.length = Some(Duration::from_secs(4));
        let (first, second) = (run_with(7, &options), run_with(7, &options));
        assert!(first == second, "{} gave two runs: {first:?} and {second:?}", lean.name());
        assert!(first.size.1 <= 6 && first.size.2 <= Duration::from_secs(4), "{:?}", first.size);
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_failing_seed_is_made_smaller_and_fails_by_the_same_rule_when_told_so() {
    use hotspare::mutant::{Mutant, plant};
    use hotspare::sim::shrink;

    let _planting = plant(Mutant::ReturnWithoutRepair);
    let whole = (1..200).map(run).find(|report| report.violation.is_some()).unwrap();
    let smallest = shrink(whole.seed, &Options::default(), 40).unwrap();
    let rule = |report: &Report| report.violation.as_ref().map(|v| v.rule);
    assert_eq!(rule(&smallest.report), rule(&whole));
    assert!(smallest.runs <= 40 && smallest.report.events < whole.events, "{smallest:?}");
    assert!(run_with(whole.seed, &smallest.options) == smallest.report, "its options are that run");
    let flags = smallest.options.to_string();
    assert!(flags.contains(" --"), "{flags:?} leaves out nothing");
}

#[test]
fn a_seed_is_a_run() {
    for seed in 1000..1020 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed} gave two runs: {first:?} and {second:?}");
    }
}
