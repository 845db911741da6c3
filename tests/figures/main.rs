//! The figures that a cluster is to reach under faults, measured with real processes, and the page made of them.
//!
//! `HOTSPARE_FIGURES=1 cargo test --release --test figures -- --test-threads=1`, as root, measures at full size and writes
//! `tests/FIGURES.md`. A share of one, as in `HOTSPARE_FIGURES=0.05`, tries it smaller and writes no page.
//!
//! What no busy machine changes is asserted: nothing lost, nobody removed, bytes, memory. Times are written down beside
//! what was asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]

mod caller;
#[path = "../common/mod.rs"]
mod common;
mod heal;
mod join;
mod kill;
mod record;
mod silence;
mod slow;
