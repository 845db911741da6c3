//! Members that callers wait for: nobody waits for long for one that takes in little or nothing.

use super::Control;
use crate::engine::core::Effects;
use crate::id::{MemberId, Time};

/// Callers go on when a member has taken in nothing for so long. Its queue may grow to its cap; should it take in something,
/// they wait for it again.
const STALL: Time = Time::from_millis(50);
/// A queue above high water that is written to is no sign of too little in less than this.
const PRESSING_MIN: Time = Time::from_millis(100);

/// What a member that callers wait for takes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressing {
    /// Since when that is counted, and what it had taken in by then. Who takes in a little now and then is slow: stalls do not end it,
    /// but are not counted, since nobody waits then.
    since: (Time, u64),
    /// What it had taken in when that was looked at last.
    taken: u64,
    flow: Flow,
}

/// Whether it takes in anything.
#[derive(Clone, Copy, Debug)]
enum Flow {
    /// It stalls at this time, if it takes in nothing more.
    Until(Time),
    /// It takes in nothing since, and nobody waits for it.
    StalledAt(Time),
}

impl Pressing {
    fn new(taken: u64, now: Time) -> Self {
        Self { since: (now, taken), taken, flow: Flow::Until(now + STALL) }
    }

    /// It is waited for, if it was not.
    fn resume(&mut self, now: Time) {
        if let Flow::StalledAt(then) = self.flow {
            self.since.0 += now.saturating_sub(then);
            self.flow = Flow::Until(now + STALL);
        }
    }

    /// It is not waited for, if it was.
    fn stall(&mut self, now: Time) {
        if let Flow::Until(_) = self.flow {
            self.flow = Flow::StalledAt(now);
        }
    }

    /// What was before says nothing of it.
    pub(super) fn begin_again(&mut self, now: Time) {
        self.since = (now, self.taken);
        self.flow = match self.flow {
            Flow::Until(_) => Flow::Until(now + STALL),
            Flow::StalledAt(_) => Flow::StalledAt(now),
        };
    }
}

impl<P> Control<P> {
    /// A queue is above high water: what its member takes in is looked at from now on.
    pub(super) fn press(&mut self, member: MemberId, now: Time) {
        let Some(taken) = self.core.peer(member).map(|peer| peer.taken()) else { return };
        self.pressing.entry(member).or_insert_with(|| Pressing::new(taken, now)).resume(now);
    }

    /// Where a member takes in nothing callers go on. Where it takes in less than high water in the queue wait, its queue is given up
    /// and it is repaired, at its own pace. Callers wait no second time for a donation that is too slow for them.
    pub(super) fn ease(&mut self, now: Time, fx: &mut Effects<P>) {
        let wait = self.settings.queue_wait.max(PRESSING_MIN);
        let high = self.core.settings().high_water as u64;
        for peer in self.core.peers() {
            let member = peer.id();
            if !self.core.is_waited_for(&peer) {
                if peer.is_stalled() && peer.is_pressed() {
                    self.pressing.entry(member).and_modify(|pressing| pressing.stall(now));
                } else if self.pressing.remove(&member).is_some() {
                    // Who waited for it, and for whatever reason does no more, is told so.
                    self.core.release(fx);
                }
                continue;
            }
            self.press(member, now);
            let Some(pressing) = self.pressing.get_mut(&member) else { continue };
            let taken = peer.taken();
            if taken != pressing.taken || peer.queued() == 0 {
                (pressing.taken, pressing.flow) = (taken, Flow::Until(now + STALL));
            }
            let is_over = now.saturating_sub(pressing.since.0) >= wait;
            let is_stuck = matches!(pressing.flow, Flow::Until(at) if now >= at);
            // A donation that catches up has the whole wait: its end is what callers wait for, and the next one would be no faster.
            if is_stuck && !peer.is_catching_up() {
                log::debug!("{} takes in nothing: nobody waits for it", peer.name());
                pressing.stall(now);
                peer.set_stalled();
                self.core.release(fx);
            } else if is_over {
                let is_slow = self.core.presses(&peer) && taken.saturating_sub(pressing.since.1) < high;
                *pressing = Pressing::new(taken, now);
                if is_slow && peer.is_catching_up() {
                    log::info!("{} does not catch up: nobody waits for its repair", peer.name());
                    peer.go_on();
                    self.core.release(fx);
                } else if is_slow {
                    log::info!(
                        "{} takes in less than is changed: its queue is given up, and it is repaired",
                        peer.name()
                    );
                    self.core.overflow(&peer, fx);
                }
            } else if is_stuck {
                pressing.flow = Flow::Until(pressing.since.0 + wait);
            }
        }
    }

    /// When [`ease`](Self::ease) has something to say, were nothing to arrive.
    pub(super) fn next_easing(&self) -> Option<Time> {
        let due = |pressing: &Pressing| match pressing.flow {
            Flow::Until(at) => Some(at),
            Flow::StalledAt(_) => None,
        };
        self.pressing.values().filter_map(due).min()
    }
}
