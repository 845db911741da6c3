//! Members that callers wait for: nobody waits for long for one that takes in little or nothing.

use super::Control;
use crate::engine::core::Effects;
use crate::id::Time;

/// Callers go on when a member has taken in nothing for so long. Its queue may grow to its cap; should it take in something,
/// they wait for it again.
const STALL: Time = Time::from_millis(50);
/// A queue above high water that is written to is no sign of too little in less than this.
const PRESSING_MIN: Time = Time::from_millis(100);

/// What a member that callers wait for takes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressing {
    /// Since when they wait, and what it had taken in by then.
    since: (Time, u64),
    /// When it was seen to take in something last, and all that by then.
    moved: (Time, u64),
}

impl<P> Control<P> {
    /// Where a member takes in nothing callers go on. Where they have waited for one for the queue wait, and it took in less than high
    /// water meanwhile, its queue is given up and it is repaired, at its own pace. Callers wait no second time for a donation that is
    /// too slow for them.
    pub(super) fn ease(&mut self, now: Time, fx: &mut Effects<P>) {
        for peer in self.core.peers() {
            let member = peer.id();
            if !self.core.is_waited_for(&peer) {
                self.pressing.remove(&member);
                continue;
            }
            let taken = peer.taken();
            // Where callers wait for nothing, it has this turn to take something in.
            let pressing = self.pressing.entry(member).or_insert(Pressing { since: (now, taken), moved: (now, taken) });
            if taken != pressing.moved.1 || peer.queued() == 0 {
                pressing.moved = (now, taken);
            }
            let (since, before) = pressing.since;
            let is_stuck = now.saturating_sub(pressing.moved.0) >= STALL;
            if !is_stuck && now.saturating_sub(since) < self.settings.queue_wait.max(PRESSING_MIN) {
                continue;
            }
            self.pressing.remove(&member);
            let is_slow =
                self.core.presses(&peer) && taken.saturating_sub(before) < self.core.settings().high_water as u64;
            if !is_stuck && !is_slow {
                continue;
            }
            log::info!("{} takes in less than is changed: nobody waits for it", peer.name());
            if peer.is_catching_up() {
                peer.go_on();
                self.core.release(fx);
            } else if is_stuck {
                peer.set_stalled();
                self.core.release(fx);
            } else {
                self.core.overflow(&peer, fx);
            }
        }
    }

    /// When [`ease`](Self::ease) has something to say, were nothing to arrive.
    pub(super) fn next_easing(&self) -> Option<Time> {
        self.pressing.values().map(|pressing| pressing.moved.0 + STALL).min()
    }
}
