//! The faults of the catalogue that Tomcat's own cluster can express, done to it and to hotspare by the same code.
//!
//! By hand only: it needs a JDK and Tomcat 10, and takes minutes. `HOTSPARE_PEERS=1` makes it run and write
//! `tests/PEERS.md`. It judges nobody: a system that loses something has a row that says so.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod row;
mod system;

use std::io::Write as _;

use common::lab::Lab;
use common::now;
use faults::Stage;
use row::{Row, publish};
use system::{Java, System};

#[test]
fn the_same_faults_side_by_side() {
    if std::env::var_os("HOTSPARE_PEERS").is_none_or(|value| value != "1") {
        let _ = writeln!(std::io::stderr(), "SKIP: by hand, with HOTSPARE_PEERS=1");
        return;
    }
    let (Some(java), Some(_)) = (Java::compile(), Lab::build_with_loss(1)) else { return };
    let (java, start, mut rows) = (&java, now(), Vec::<Row>::new());
    for system in System::ALL {
        let mut stage = Stage::build(system, java);
        for fault in [
            Stage::nothing,
            Stage::only_load,
            Stage::end_against_late_change,
            Stage::two_writers,
            Stage::multicast_lost,
            Stage::one_way,
            Stage::isolated,
            Stage::stopped,
            Stage::slow_reader,
            Stage::killed,
        ] {
            rows.push(fault(&mut stage));
        }
        drop(stage);
        // Mostly waiting, so at the same time.
        rows.extend(std::thread::scope(|scope| {
            [faults::start_at_once, faults::donor_dies]
                .map(|fault| scope.spawn(move || fault(system, java)))
                .map(|thread| thread.join().unwrap())
        }));
        rows.push(faults::writes_during_join(system, java));
    }
    publish(&rows, java, start.elapsed());
}
