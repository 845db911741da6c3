//! The measured loop: threads that update sessions of their own, closed or open, and what that cost.
//!
//! It knows neither sockets nor nodes. Latency is from call to return in a closed loop, from the *intended*
//! time to return in an open one, so a stall counts against every update that it delayed.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::load::Load;
use super::process::Receivers;
use super::report::Figures;
use crate::cli::alloc;
use crate::runtime::affinity;

/// One thread's way of sending updates.
pub(super) trait Caller: Send {
    /// Sessions that this caller owns.
    fn slots(&self) -> usize;
    /// Sends the whole payload of one of its sessions; false when it failed.
    fn update(&mut self, slot: usize) -> bool;
    /// Hands over whatever waits to be gathered.
    fn finish(&mut self) -> bool {
        true
    }
}

/// Warms up and measures once; `syscalls` tells those of this process. `lost` is what no receiver count shows.
pub(super) fn measure<C: Caller>(
    load: &Load,
    callers: &mut [C],
    receivers: &mut Receivers,
    syscalls: impl Fn() -> u64,
) -> Result<Figures, String> {
    let warm_up = (load.seconds / 4).min(WARM_UP_MAX);
    let warm = run(load, warm_up, callers)?;
    receivers.settle(warm.updates)?;

    let before = receivers.totals()?;
    let syscalls_before = syscalls();
    let cpu_before = affinity::process_cpu();
    let allocations_before = alloc::counted();
    let tally = run(load, load.seconds, callers)?;
    let allocations = alloc::counted() - allocations_before;
    let lost = receivers.settle(tally.updates)?;
    let settled = Instant::now();
    let cpu = affinity::process_cpu() - cpu_before;
    let syscalls = syscalls() - syscalls_before;
    let after = receivers.totals()?;

    let end = if load.acked() { tally.end } else { settled };
    let elapsed = end.duration_since(tally.start).as_secs_f64();
    let updates = count(tally.updates);
    let per_update = |n: f64| if tally.updates == 0 { 0.0 } else { n / updates };
    let micros = |quantile: f64| count(tally.latency.value_at_quantile(quantile)) / 1e3;
    Ok(Figures {
        updates_per_s: updates / elapsed,
        mb_per_s: updates * count(load.size as u64) / elapsed / 1e6,
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        max_us: count(tally.latency.max()) / 1e3,
        cpu_us_per_update: per_update((cpu + (after.cpu - before.cpu)).as_secs_f64() * 1e6),
        syscalls_per_update: per_update(count(syscalls + after.syscalls - before.syscalls)),
        allocs_per_update: per_update(count(allocations)),
        lost: count(lost),
        errors: count(tally.errors),
        updates,
        seconds: elapsed,
    })
}

/// Long enough to reach every session's memory, short beside a measurement.
const WARM_UP_MAX: Duration = Duration::from_millis(500);

/// What all threads did.
struct Tally {
    latency: Histogram<u64>,
    updates: u64,
    errors: u64,
    start: Instant,
    end: Instant,
}

impl Tally {
    fn new(start: Instant) -> Result<Self, String> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3).map_err(|e| e.to_string())?;
        Ok(Self { latency, updates: 0, errors: 0, start, end: start })
    }

    fn note(&mut self, latency: Duration, sent: bool) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
        if sent {
            self.updates += 1;
        } else {
            self.errors += 1;
        }
    }

    fn merge(&mut self, other: &Self) -> Result<(), String> {
        self.latency.add(&other.latency).map_err(|e| e.to_string())?;
        self.updates += other.updates;
        self.errors += other.errors;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        Ok(())
    }
}

/// Sixty seconds in nanoseconds: four times the acknowledgement timeout.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Runs every caller in a thread of its own for `length`.
fn run<C: Caller>(load: &Load, length: Duration, callers: &mut [C]) -> Result<Tally, String> {
    let threads = callers.len();
    thread::scope(|scope| {
        let running: Result<Vec<_>, _> = callers
            .iter_mut()
            .enumerate()
            .map(|(thread, caller)| {
                let interval = load.rate.map(|rate| Duration::from_secs_f64(count(threads as u64) / rate));
                let offset = interval.unwrap_or_default().mul_f64(count(thread as u64) / count(threads as u64));
                thread::Builder::new().name(format!("update-{thread}")).spawn_scoped(scope, move || {
                    let mut tally = Tally::new(Instant::now())?;
                    match interval {
                        None => closed_loop(caller, length, &mut tally),
                        Some(interval) => open_loop(caller, length, interval, offset, &mut tally),
                    }
                    if !caller.finish() {
                        tally.errors += 1;
                    }
                    tally.end = Instant::now();
                    Ok::<_, String>(tally)
                })
            })
            .collect();
        let mut total: Option<Tally> = None;
        for thread in running.map_err(|e| format!("cannot start a thread: {e}"))? {
            let tally = thread.join().map_err(|_| String::from("an updating thread panicked"))??;
            match &mut total {
                None => total = Some(tally),
                Some(total) => total.merge(&tally)?,
            }
        }
        total.ok_or_else(|| String::from("no threads"))
    })
}

/// The next update starts when the last returned. One clock reading serves as the end of one and the start of
/// the next, so drawing the session counts as part of the call.
fn closed_loop<C: Caller>(caller: &mut C, length: Duration, tally: &mut Tally) {
    let mut rng = fastrand::Rng::new();
    let mut before = tally.start;
    while before.duration_since(tally.start) < length {
        let sent = caller.update(rng.usize(..caller.slots()));
        let now = Instant::now();
        tally.note(now.duration_since(before), sent);
        before = now;
    }
}

/// Updates are due at fixed times whether or not the last has returned. What is still due after ten times the
/// length is an error, not forgotten.
fn open_loop<C: Caller>(caller: &mut C, length: Duration, interval: Duration, offset: Duration, tally: &mut Tally) {
    let mut rng = fastrand::Rng::new();
    let mut due = offset;
    while due < length {
        let now = tally.start.elapsed();
        if now > length * 10 {
            let left = (length - due).as_nanos().div_ceil(interval.as_nanos().max(1));
            tally.errors += u64::try_from(left).unwrap_or(u64::MAX);
            return;
        }
        if let Some(early) = due.checked_sub(now) {
            thread::sleep(early);
        }
        let sent = caller.update(rng.usize(..caller.slots()));
        tally.note(tally.start.elapsed() - due, sent);
        due += interval;
    }
}

/// A count as a number to divide by; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^53")]
pub(super) fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
