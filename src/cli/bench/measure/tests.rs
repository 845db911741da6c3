//! Loops that are counted and timed without a socket.

use std::num::NonZeroUsize;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    load: Load,
}

fn load(flags: &[&str]) -> Load {
    Flags::try_parse_from([&["bench"], flags].concat()).unwrap().load
}

/// Counts updates of its sessions; every one takes `cost`.
struct Counted {
    updates: Vec<u64>,
    cost: Duration,
    finished: bool,
}

impl Counted {
    fn new(slots: usize, cost: Duration) -> Self {
        Self { updates: vec![0; slots], cost, finished: false }
    }
}

impl Caller for Counted {
    fn slots(&self) -> usize {
        self.updates.len()
    }

    fn update(&mut self, slot: usize) -> bool {
        let start = Instant::now();
        while start.elapsed() < self.cost {
            std::hint::spin_loop();
        }
        self.updates[slot] += 1;
        slot != 0
    }

    fn finish(&mut self) -> bool {
        self.finished = true;
        true
    }
}

#[test]
fn closed_loop_reaches_every_session_and_counts_failures_apart() {
    let mut callers = [Counted::new(4, Duration::ZERO), Counted::new(4, Duration::ZERO)];
    let tally = run(&load(&["--threads=2"]), Duration::from_millis(200), &mut callers).unwrap();
    let done: u64 = callers.iter().flat_map(|caller| &caller.updates).sum();
    let failed: u64 = callers.iter().map(|caller| caller.updates[0]).sum();
    assert_eq!((tally.updates, tally.errors), (done - failed, failed));
    assert_eq!(tally.latency.len(), done);
    assert!(callers.iter().all(|caller| caller.finished && caller.updates.iter().all(|&n| n > 0)));
}

#[test]
fn open_loop_counts_a_stall_against_the_updates_that_waited() {
    let load = load(&["--rate=100"]);
    assert_eq!(load.threads, NonZeroUsize::MIN);
    // Due every 10 ms, done in 20: the last of 20 returns about 200 ms late.
    let mut callers = [Counted::new(1, Duration::from_millis(20))];
    let tally = run(&load, Duration::from_millis(200), &mut callers).unwrap();
    assert_eq!(tally.latency.len(), 20);
    assert!(tally.latency.max() > 150_000_000, "{}", tally.latency.max());
}

#[test]
fn open_loop_that_cannot_keep_up_reports_what_it_did_not_send() {
    let mut callers = [Counted::new(2, Duration::from_millis(5))];
    let tally = run(&load(&["--rate=100000"]), Duration::from_millis(2), &mut callers).unwrap();
    assert_eq!(tally.updates + tally.errors, 200);
    assert!(tally.errors > 100);
}
