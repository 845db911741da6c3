//! How a loop that sleeps in `poll` is told something.
//!
//! The parts are the parent's, so that the loom tests compile this very file with those of the checker.

use super::parts::{AtomicBool, Ordering, SegQueue, Waker};

/// A queue to a loop that sleeps in `poll`: wake-ups are coalesced into one write until the loop looks.
///
/// The consumer clears the flag *before* it drains; clearing it afterwards would lose the wake-up of what was pushed
/// in between.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    queue: SegQueue<T>,
    woken: AtomicBool,
    waker: Waker,
}

impl<T> Mailbox<T> {
    pub(super) fn new(waker: Waker) -> Self {
        Self { queue: SegQueue::new(), woken: AtomicBool::new(false), waker }
    }

    /// Leaves a message; true when a wake-up was written for it.
    pub(super) fn post(&self, message: T) -> bool {
        self.queue.push(message);
        self.wake()
    }

    /// Wakes the loop without a message.
    pub(super) fn wake(&self) -> bool {
        if self.woken.swap(true, Ordering::AcqRel) {
            return false;
        }
        // The eventfd can only fail when it overflows, and then the loop is awake.
        self.waker.wake().is_ok()
    }

    /// Starts a turn of the loop: what is posted from now on wakes it again.
    pub(super) fn begin(&self) {
        self.woken.swap(false, Ordering::AcqRel);
    }

    pub(super) fn take(&self) -> Option<T> {
        self.queue.pop()
    }
}
