//! Virtual time: what happens when, in one order, from one random source.
//!
//! Events are taken by (time, sequence), so two events of one moment happen in the order in which they were planned.
//! Everything that happens is mixed into one hash: two runs of a seed are the same run exactly when the hashes agree.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::id::Time;

/// The heap of what is to come.
#[derive(Debug)]
pub(super) struct Sched<E> {
    now: Time,
    sequence: u64,
    heap: BinaryHeap<Entry<E>>,
    hash: u64,
    events: u64,
    verbose: bool,
    /// The only source of randomness of a run.
    pub(super) rng: fastrand::Rng,
}

#[derive(Debug)]
struct Entry<E> {
    /// Nanoseconds since the start.
    at: u64,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first; the earliest is wanted.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<E> Sched<E> {
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        Self {
            now: Time::ZERO,
            sequence: 0,
            heap: BinaryHeap::new(),
            hash: seed,
            events: 0,
            verbose,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Plans an event; one in the past happens now.
    pub(super) fn at(&mut self, at: Time, event: E) {
        let at = u64::try_from(at.max(self.now).as_nanos()).unwrap_or(u64::MAX);
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event, its time becoming the present one.
    pub(super) fn next(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = Time::from_nanos(entry.at);
        self.events += 1;
        self.mix(entry.at ^ entry.sequence.rotate_left(32));
        Some(entry.event)
    }

    /// Makes something part of the run's identity.
    pub(super) fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Writes a line of the trace when one was asked for; it is formed only then.
    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>10.3} ms  {}", self.now.as_secs_f64() * 1e3, line());
        }
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.f64() < p
    }

    /// A duration from `low` to `high`, in microseconds.
    pub(super) fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.rng.u64(low..=high.max(low)))
    }

    /// A duration from `low` to `high`, in milliseconds.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        self.micros(low * 1000, high * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_moment_as_planned() {
        let mut sched = Sched::new(1, false);
        sched.at(Time::from_secs(2), "late");
        sched.at(Time::from_secs(1), "first of one moment");
        sched.at(Time::from_secs(1), "second of one moment");
        assert_eq!(sched.next(), Some("first of one moment"));
        assert_eq!(sched.next(), Some("second of one moment"));
        sched.at(Time::ZERO, "in the past");
        assert_eq!(sched.next(), Some("in the past"));
        assert_eq!(sched.now(), Time::from_secs(1));
        assert_eq!(sched.next(), Some("late"));
        assert_eq!(sched.next(), None);
    }
}
