//! The deadlines of the core, in one table.
//!
//! A [`TimerTable`] holds for each [`Timer`] the time at which it is due, if it runs. Every state machine of
//! the core keeps its own table and uses the timers that are its; the driver asks for the earliest deadline
//! and calls back when it has passed. There are few timers, so a scan beats any tree. Nothing here knows what
//! a timer is for, and nothing reads a clock.

use crate::id::Time;

/// What there is to do at a time. Each variant completes the sentence "when to …".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Timer {
    /// When to send the next ping (membership).
    Ping,
    /// When to dial the next candidate (membership).
    Dial,
    /// When to look for silent members, unanswered verifications and candidates gone quiet (membership).
    Judge,
    /// When to look for expired sessions and old tombstones.
    Sweep,
    /// When to ask again for the present state of partial records.
    Pull,
    /// When to compare with, or repair, the next member.
    Repair,
    /// When to give up on the donors of this round of the state transfer and ask again.
    Transfer,
    /// When to conclude that nobody is ready, so that the lowest id opens.
    OpenAlone,
    /// When to open with what there is, state missing or not.
    JoinDeadline,
}

impl Timer {
    /// Every timer, in declaration order.
    pub const ALL: [Self; 9] = [
        Self::Ping,
        Self::Dial,
        Self::Judge,
        Self::Sweep,
        Self::Pull,
        Self::Repair,
        Self::Transfer,
        Self::OpenAlone,
        Self::JoinDeadline,
    ];
}

/// When each [`Timer`] is due; `None` for one that does not run.
#[derive(Clone, Debug, Default)]
pub struct TimerTable {
    due: [Option<Time>; Timer::ALL.len()],
}

impl TimerTable {
    /// A table in which nothing runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `timer` due at `at`, or stops it with `None`, whatever was set before.
    pub fn set(&mut self, timer: Timer, at: impl Into<Option<Time>>) {
        self.due[timer as usize] = at.into();
    }

    /// Makes `timer` due at `at` unless it is due before that anyway.
    pub fn set_earlier(&mut self, timer: Timer, at: Time) {
        let due = &mut self.due[timer as usize];
        *due = Some(due.map_or(at, |was| was.min(at)));
    }

    /// Stops `timer`.
    pub fn stop(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    /// Moves every timer that was due before `now` to `now`: it is owed, but no longer late.
    pub fn forgive(&mut self, now: Time) {
        for due in self.due.iter_mut().flatten() {
            *due = (*due).max(now);
        }
    }

    /// Takes the timer that has been due the longest at `now`, stopping it.
    ///
    /// Call until `None`. A handler that sets a timer to `now` again is called again, so handlers must set
    /// later times than that.
    pub fn expire(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) =
            Timer::ALL.into_iter().filter_map(|timer| Some((self.get(timer)?, timer))).min_by_key(|(at, _)| *at)?;
        (at <= now).then(|| {
            self.stop(timer);
            timer
        })
    }

    /// When `timer` is due.
    #[must_use]
    pub fn get(&self, timer: Timer) -> Option<Time> {
        self.due[timer as usize]
    }

    /// The earliest deadline of all.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.due.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn due_timers_expire_once_and_earliest_first() {
        let mut table = TimerTable::new();
        table.set(Timer::Pull, ms(20));
        table.set(Timer::Ping, ms(30));
        table.set(Timer::Sweep, ms(50));
        assert_eq!(table.next(), Some(ms(20)));
        assert_eq!(table.expire(ms(10)), None);
        assert_eq!(table.expire(ms(40)), Some(Timer::Pull));
        assert_eq!(table.expire(ms(40)), Some(Timer::Ping));
        assert_eq!(table.expire(ms(40)), None);
        assert_eq!(table.next(), Some(ms(50)));
    }

    #[test]
    fn a_deadline_is_only_brought_forward_by_set_earlier() {
        let mut table = TimerTable::new();
        table.set_earlier(Timer::Dial, ms(20));
        table.set_earlier(Timer::Dial, ms(30));
        assert_eq!(table.get(Timer::Dial), Some(ms(20)));
        table.set_earlier(Timer::Dial, ms(10));
        assert_eq!(table.get(Timer::Dial), Some(ms(10)));
        table.set(Timer::Dial, None);
        assert_eq!(table.next(), None);
    }

    #[test]
    fn forgiven_timers_are_owed_but_not_late() {
        let mut table = TimerTable::new();
        table.set(Timer::Ping, ms(5));
        table.set(Timer::Judge, ms(50));
        table.forgive(ms(40));
        assert_eq!(table.get(Timer::Ping), Some(ms(40)));
        assert_eq!(table.get(Timer::Judge), Some(ms(50)));
    }
}
