//! The fault catalogue: each fault made with real processes, one named test each, and what came out.
//!
//! The names begin with the fault's id. What is asserted about a member is what that member answered over its pipe.
//! `HOTSPARE_FAULTS=1` makes a run write `tests/FAULTS.md`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]

mod catalogue;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod joins;
mod limits;
mod network;
mod record;
mod sessions;
mod strangers;

use catalogue::{CATALOGUE, Proof};

/// Where the tests are.
const SOURCES: [&str; 6] = [
    include_str!("crash.rs"),
    include_str!("joins.rs"),
    include_str!("limits.rs"),
    include_str!("network.rs"),
    include_str!("sessions.rs"),
    include_str!("strangers.rs"),
];

#[test]
fn every_fault_of_the_catalogue_has_a_test_or_a_reason() {
    for (number, entry) in (1..).zip(CATALOGUE) {
        assert_eq!(entry.id, format!("F{number:02}"), "in order and without gaps");
        // One that is ignored, with its reason, is not yet.
        let named = format!("#[test]\nfn f{number:02}_");
        let is_tested = SOURCES.iter().any(|source| source.contains(&named));
        assert_eq!(is_tested, entry.proof == Proof::Run, "{}: {:?}", entry.id, entry.proof);
    }
    assert_eq!(CATALOGUE.len(), 52);
}
