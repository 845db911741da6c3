//! The benchmark as a program sees it: one JSON object with every promised key, and nothing lost.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::process::Command;

use serde_json::Value;

fn bench(flags: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hotspare"))
        .args(["bench", "--json", "--rounds=1", "--sessions=64", "--congestion=system"])
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const KEYS: [&str; 11] = [
    "updates_per_s",
    "mb_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "cpu_us_per_update",
    "syscalls_per_update",
    "allocs_per_update",
    "lost",
    "errors",
];

fn check(figures: &Value) {
    for key in KEYS {
        assert!(figures[key].is_number(), "{key}: {figures}");
    }
    assert!(figures["updates_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!((&figures["lost"], &figures["errors"]), (&Value::from(0.0), &Value::from(0.0)));
}

#[test]
fn acked_updates_to_two_receivers_stand_beside_both_limits() {
    let result = bench(&["--seconds=0.05", "--limit", "--placement=same", "--peers=2", "--threads=3"]);
    check(&result);
    check(&result["limit"]);
    check(&result["limit_multiplexed"]);
    assert!(result["ratio_p50"].as_f64().unwrap() > 0.0);
    assert!(result["ratio_updates"].as_f64().unwrap() > 0.0);
    assert_eq!(result["placement"], "same");
}

#[test]
fn asynchronous_updates_are_all_applied_in_the_end() {
    let result = bench(&["--seconds=0.05", "--limit", "--placement=same", "--mode=asynchronous", "--threads=2"]);
    check(&result);
    check(&result["limit"]);
    check(&result["limit_single"]);
}

#[test]
fn open_loop_of_large_updates_keeps_to_its_rate() {
    let result = bench(&["--placement=same", "--rate=200", "--size=256k", "--seconds=0.5"]);
    check(&result);
    assert!(result["updates_per_s"].as_f64().unwrap() < 220.0);
}

#[test]
fn tickets_in_flight_are_all_waited_for() {
    let result = bench(&["--placement=same", "--depth=16", "--threads=2", "--seconds=0.05"]);
    check(&result);
    assert_eq!(result["workload"]["depth"], 16);
}
