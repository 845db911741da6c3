//! Seeds of the simulator: a fixed range, every seed that once failed, and that a seed is a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "sim")]

use hotspare::sim::{Report, run};

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
fn a_seed_is_a_run() {
    for seed in 1000..1020 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed} gave two runs: {first:?} and {second:?}");
    }
}
