//! Planted mistakes: those that the simulator finds within some seeds. All of them, over more seeds, are looked for by
//! `cargo run --release --features sim,mutants -- sim --mutants`; `MUTANTS.md` says what that found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "mutants")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotspare::mutant::Mutant;
use hotspare::sim::{run, run_mutant};

/// Seeds that each may take.
const SEEDS: u64 = 40;

/// A rule that each of these violates: not always it alone, nor it first.
const FOUND: &[(Mutant, &str)] = &[
    (Mutant::AckBeforeApply, "I2"),
    (Mutant::AckWhilePartial, "I2"),
    (Mutant::WrittenIsApplied, "I2"),
    (Mutant::TombstoneDroppedEarly, "I6"),
    (Mutant::SnapshotOverwrites, "I4"),
    (Mutant::SnapshotWithoutTombstones, "I7"),
    (Mutant::NeverComplete, "I5"),
    (Mutant::WriteFollowsName, "I3"),
    (Mutant::KilledCreateRises, "killed"),
    (Mutant::FullComparedWithHeld, "I3"),
    (Mutant::RemovalNotOverUnion, "union"),
    (Mutant::KillNotOverUnion, "I6"),
    (Mutant::ChangeIdKeepsOldName, "union"),
    (Mutant::CreateForgetsExpired, "over"),
    (Mutant::OverNotApplied, "over"),
    (Mutant::DeathNotTold, "told"),
    (Mutant::ClockNotMerged, if cfg!(debug_assertions) { "panic" } else { "I3" }),
    (Mutant::BaseIgnored, "served"),
    (Mutant::PartialServed, "served"),
    (Mutant::TouchNotAnnounced, "touch"),
    (Mutant::ShedWhileCutOff, "kept"),
    (Mutant::ReturnWithoutRepair, "return"),
    (Mutant::RepairedTooEarly, "copies"),
    (Mutant::JoinerIsCopy, "copies"),
    (Mutant::DoneBeforeAllLanes, "I7"),
    (Mutant::PingAdmits, "admission"),
    (Mutant::EchoOfAnother, "down"),
    (Mutant::EchoNotNeeded, "down"),
    (Mutant::AcksOfAnother, "copies"),
    (Mutant::MissWakesNobody, "wake"),
];

#[test]
fn mistakes_are_found_by_the_rules_that_they_break() {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    let hunt = || {
        while let Some((mutant, rule)) = FOUND.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut seen = BTreeSet::new();
            let found = (1..=SEEDS).any(|seed| {
                let by = run_mutant(seed, *mutant).violation.map(|v| v.rule);
                seen.extend(by);
                by == Some(*rule)
            });
            if !found {
                missed.lock().unwrap().push(format!("{mutant:?} violates not {rule} in {SEEDS} seeds, but {seen:?}"));
            }
        }
    };
    std::thread::scope(|scope| [scope.spawn(hunt), scope.spawn(hunt)].map(|h| h.join().unwrap()));
    assert!(missed.lock().unwrap().is_empty(), "{missed:#?}");
}

#[test]
fn a_thread_without_a_mistake_makes_none() {
    assert!(run_mutant(1, Mutant::AckBeforeApply).violation.is_some());
    for seed in 1..=10 {
        let report = run(seed);
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
    }
}

#[test]
fn every_mistake_has_a_name_of_its_own_and_says_what_it_is() {
    for (at, mutant) in Mutant::ALL.iter().enumerate() {
        assert_eq!(*mutant as usize, at);
        assert!(mutant.about().ends_with('.'), "{mutant:?}");
        assert_eq!(Mutant::ALL.iter().filter(|m| m.name() == mutant.name()).count(), 1, "{mutant:?}");
    }
}
