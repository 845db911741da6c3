//! Waiting longer after each failure.
//!
//! A [`Backoff`] counts failures and turns them into delays. It owns no clock and no randomness: the
//! caller adds the delay to its own `now` and lends the generator. Invariant: a delay lies between half
//! the current step and the step itself, and no step is above the cap.

use crate::id::Time;

/// Delays that double with each failure up to a cap, drawn from the upper half of each step.
///
/// The draw keeps members that failed together (a switch went down) from coming back together; the lower
/// bound of half a step keeps the promise that a flapping member waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Time,
    cap: Time,
    failures: u32,
}

impl Backoff {
    /// Starts with a step of `first`; no step is above `cap`.
    #[must_use]
    pub const fn new(first: Time, cap: Time) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// Counts a failure and gives the delay before the next attempt.
    pub fn fail(&mut self, rng: &mut fastrand::Rng) -> Time {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let step = self.first.saturating_mul(factor).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        let spread = u64::try_from((step - half).as_nanos()).unwrap_or(u64::MAX);
        half + Time::from_nanos(rng.u64(0..=spread))
    }

    /// Forgets the failures: the next delay is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the start or the last reset.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Time = Time::from_secs(1);
    const CAP: Time = Time::from_secs(30);

    #[test]
    fn delays_double_up_to_the_cap_and_keep_to_the_upper_half_of_the_step() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(FIRST, CAP);
        for step in [1, 2, 4, 8, 16, 30, 30, 30].map(Time::from_secs) {
            let delay = backoff.fail(&mut rng);
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for a step of {step:?}");
        }
    }

    #[test]
    fn countless_failures_stay_at_the_cap() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(FIRST, CAP);
        for _ in 0..200 {
            assert!(backoff.fail(&mut rng) <= CAP);
        }
        assert_eq!(backoff.failures(), 200);
    }

    #[test]
    fn a_reset_starts_over() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(FIRST, CAP);
        for _ in 0..5 {
            backoff.fail(&mut rng);
        }
        backoff.reset();
        assert!(backoff.fail(&mut rng) <= FIRST);
    }

    #[test]
    fn delays_differ_between_seeds() {
        let delay = |seed| Backoff::new(FIRST, CAP).fail(&mut fastrand::Rng::with_seed(seed));
        assert_ne!(delay(1), delay(2));
        assert_eq!(delay(3), delay(3));
    }
}
