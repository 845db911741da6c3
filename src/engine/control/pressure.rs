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
    /// Since when that is counted, and what it had taken in by then. Stalls do not end it: who takes in a little now and then is slow.
    since: (Time, u64),
    /// What it had taken in when that was looked at last.
    taken: u64,
    /// When it stalls if it takes in nothing more; `None` while it does.
    stalls: Option<Time>,
}

impl<P> Control<P> {
    /// A queue is above high water: what its member takes in is looked at from now on.
    pub(super) fn press(&mut self, member: MemberId, now: Time) {
        let Some(taken) = self.core.peer(member).map(|peer| peer.taken()) else { return };
        let pressing = self.pressing.entry(member).or_insert(Pressing { since: (now, taken), taken, stalls: None });
        pressing.stalls.get_or_insert(now + STALL);
    }

    /// Where a member takes in nothing callers go on. Where it takes in less than high water in the queue wait, its queue is given up
    /// and it is repaired, at its own pace. Callers wait no second time for a donation that is too slow for them.
    pub(super) fn ease(&mut self, now: Time, fx: &mut Effects<P>) {
        let wait = self.settings.queue_wait.max(PRESSING_MIN);
        let high = self.core.settings().high_water as u64;
        for peer in self.core.peers() {
            let member = peer.id();
            if !self.core.is_waited_for(&peer) {
                let is_stalled = peer.is_stalled() && peer.is_pressed();
                // Who waited for it, and for whatever reason does no more, is told so.
                if !is_stalled && self.pressing.remove(&member).is_some() {
                    self.core.release(fx);
                }
                continue;
            }
            self.press(member, now);
            let Some(pressing) = self.pressing.get_mut(&member) else { continue };
            let taken = peer.taken();
            if taken != pressing.taken || peer.queued() == 0 {
                (pressing.taken, pressing.stalls) = (taken, Some(now + STALL));
            }
            // A donation that catches up has the whole wait: its end is what callers wait for, and the next one would be no faster.
            let is_stuck = !peer.is_catching_up() && pressing.stalls.is_some_and(|at| now >= at);
            let is_over = now.saturating_sub(pressing.since.0) >= wait;
            if is_stuck {
                log::debug!("{} takes in nothing: nobody waits for it", peer.name());
                pressing.stalls = None;
                peer.set_stalled();
                self.core.release(fx);
            } else if is_over {
                let is_slow = self.core.presses(&peer) && taken.saturating_sub(pressing.since.1) < high;
                pressing.since = (now, taken);
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
            }
        }
    }

    /// When [`ease`](Self::ease) has something to say, were nothing to arrive.
    pub(super) fn next_easing(&self) -> Option<Time> {
        self.pressing.values().filter_map(|pressing| pressing.stalls).min()
    }
}
