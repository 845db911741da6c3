//! Planted mistakes: a handful that the simulator finds within a few seeds. `hotspare sim --mutants` looks for all of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "mutants")]

use hotspare::mutant::Mutant;
use hotspare::sim::{run, run_mutant};

/// The rule that a mistake violates within so many seeds.
fn caught_by(mutant: Mutant, seeds: u64) -> &'static str {
    let violation = (1..=seeds).find_map(|seed| run_mutant(seed, mutant).violation);
    violation.unwrap_or_else(|| panic!("{mutant:?} was not caught: {}", mutant.about())).rule
}

#[test]
fn mistakes_are_found_by_the_rules_that_they_break() {
    for (mutant, rule) in [
        (Mutant::AckBeforeApply, "I2"),
        (Mutant::WrittenIsApplied, "I2"),
        (Mutant::SnapshotOverwrites, "I4"),
        (Mutant::WriteFollowsName, "I3"),
        (Mutant::FullComparedWithHeld, "I3"),
        (Mutant::KilledCreateRises, "killed"),
        (Mutant::RemovalNotOverUnion, "union"),
        (Mutant::JoinerIsCopy, "copies"),
        (Mutant::DoneBeforeAllLanes, "I7"),
    ] {
        assert_eq!(caught_by(mutant, 30), rule, "{mutant:?}");
    }
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
