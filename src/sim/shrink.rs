//! A failing run made smaller: fewer classes of faults, fewer faults, hosts, users, less time.
//!
//! Each step leaves out more and is kept when the same rule is violated still. As one random source decides all, a smaller run is
//! another run; what it shows is the same rule, and most often the same cause.

use std::time::Duration;

use super::swarm::Profile;
use super::{Options, Report, Suppress, run_with};

/// A seed whose run fails, and the least of it that was found to fail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Smallest {
    /// What to run it with.
    pub options: Options,
    /// What it shows.
    pub report: Report,
    /// Runs that it took.
    pub runs: usize,
}

/// Looks for a smaller run of a seed that violates the same rule, with at most so many runs. `None` when the seed violates none.
#[must_use]
pub fn shrink(seed: u64, options: &Options, runs_max: usize) -> Option<Smallest> {
    let mut options = options.clone();
    options.trace = false;
    let report = run_with(seed, &options);
    let rule = report.violation.as_ref()?.rule;
    let mut search = Search { seed, rule, best: Smallest { options, report, runs: 1 }, runs_max };
    while search.pass() {}
    Some(search.best)
}

struct Search {
    seed: u64,
    rule: &'static str,
    best: Smallest,
    runs_max: usize,
}

impl Search {
    /// One attempt at everything, the greatest cuts first; whether anything was won.
    fn pass(&mut self) -> bool {
        let before = self.best.options.clone();
        // What comes after the violation has no part in it.
        let at = self.best.report.violation.as_ref().map_or(Duration::ZERO, |v| v.at);
        let until = self.best.options.suppress.faults_until.unwrap_or(Duration::MAX).min(at);
        for share in [0.25, 0.5, 0.75, 0.9, 1.0] {
            if self.attempt(|s| s.faults_until = Some(whole_ms(until.mul_f64(share)))) {
                break;
            }
        }
        let profile = Profile::new(self.seed, &self.best.options, &mut fastrand::Rng::with_seed(self.seed));
        for class in profile.classes() {
            self.attempt(|s| _ = s.classes.insert(class));
        }
        let (nodes, users, length) = self.best.report.size;
        for fewer in 2..nodes {
            if self.attempt(|s| s.nodes = Some(fewer)) {
                break;
            }
        }
        for fewer in [1, users / 8, users / 4, users / 2, users.saturating_sub(users / 4), users.saturating_sub(1)] {
            if (1..users).contains(&fewer) && self.attempt(|s| s.users = Some(fewer)) {
                break;
            }
        }
        for share in [0.25, 0.5, 0.75] {
            if self.attempt(|s| s.length = Some(whole_ms(length.mul_f64(share)))) {
                break;
            }
        }
        self.fewer_faults();
        self.best.options != before
    }

    /// Leaves out faults, half of what is left at once, then a quarter, and so on.
    fn fewer_faults(&mut self) {
        let mut size = self.best.report.strikes;
        while size > 0 {
            let mut from = 1;
            while from <= self.best.report.strikes {
                let faults = (from..from + size).filter(|f| !self.best.options.suppress.faults.contains(f));
                let faults: Vec<u64> = faults.collect();
                if !faults.is_empty() {
                    self.attempt(|s| s.faults.extend(faults));
                }
                from += size;
            }
            size /= 2;
        }
    }

    /// Runs with something left out besides, and keeps that if the rule is violated still.
    fn attempt(&mut self, leave_out: impl FnOnce(&mut Suppress)) -> bool {
        if self.best.runs >= self.runs_max {
            return false;
        }
        let mut options = self.best.options.clone();
        leave_out(&mut options.suppress);
        if options == self.best.options {
            return false;
        }
        self.best.runs += 1;
        let report = run_with(self.seed, &options);
        let fails = report.violation.as_ref().is_some_and(|v| v.rule == self.rule);
        // With less left in, another course of chance may take longer to fail.
        let fails = fails && report.events <= self.best.report.events;
        if fails {
            (self.best.options, self.best.report) = (options, report);
        }
        fails
    }
}

/// What a flag can say.
fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}
