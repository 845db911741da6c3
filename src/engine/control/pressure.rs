//! Members that callers wait for, and hardly take in anything: nobody waits for one of those for long.

use super::Control;
use crate::engine::core::Effects;
use crate::id::Time;

/// A queue above high water is no sign of anything in less than this.
const PRESSING_MIN: Time = Time::from_millis(100);

impl<P> Control<P> {
    /// Where callers have waited for a member for the queue wait, and it took in less than high water meanwhile, they go on: its queue is
    /// given up and it is repaired, at its own pace. Callers wait no second time for a donation that is too slow for them.
    pub(super) fn ease(&mut self, now: Time, fx: &mut Effects<P>) {
        for peer in self.core.peers() {
            let member = peer.id();
            if !self.core.presses(&peer) {
                self.pressing.remove(&member);
                continue;
            }
            let taken = peer.taken();
            // Where callers wait for nothing, it has this turn to take something in.
            let Some((since, before)) = self.pressing.get(&member).copied() else {
                self.pressing.insert(member, (now, taken));
                continue;
            };
            if now.saturating_sub(since) < self.settings.queue_wait.max(PRESSING_MIN) {
                continue;
            }
            self.pressing.remove(&member);
            if taken.saturating_sub(before) >= self.core.settings().high_water as u64 {
                continue;
            }
            log::info!("{} takes in less than is changed: nobody waits for it", peer.name());
            if peer.is_catching_up() {
                peer.go_on();
                self.core.release(fx);
            } else {
                self.core.overflow(&peer, fx);
            }
        }
    }
}
