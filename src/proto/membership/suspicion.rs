//! Doubt about one member, and the echoes that settle it.

use crate::id::Time;

/// Echoes asked for before a suspect is removed. Two, so that one lost connection attempt removes nobody.
pub(crate) const TRIES: u32 = 2;

/// Why a member is suspect, which decides what clears it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Nothing was heard for `drop_time`: anything heard clears it.
    Silence,
    /// A socket to it closed or was refused: only an answer on a fresh connection clears it. A ping does not,
    /// for multicast may work where TCP does not; nor does a frame, for it may have been sent before the end.
    Lost,
}

/// One suspicion. A new one is made each time, so answers to an old one mean nothing.
#[derive(Debug)]
pub(super) struct Suspicion {
    cause: Cause,
    tokens: [Option<u64>; TRIES as usize],
    tries: usize,
    /// Another member reached it while the latest try failed here.
    reached: bool,
    /// It was told that it is out of this node's reach.
    pub(super) told: bool,
    /// The latest try has failed then; or, before the first try, when to start.
    pub(super) deadline: Time,
}

impl Suspicion {
    pub(super) fn new(cause: Cause, now: Time) -> Self {
        Self { cause, tokens: [None; TRIES as usize], tries: 0, reached: false, told: false, deadline: now }
    }

    /// A socket closed meanwhile: words no longer clear it.
    pub(super) fn harden(&mut self) {
        self.cause = Cause::Lost;
    }

    /// Notes that an echo with `token` was asked for.
    pub(super) fn begin(&mut self, token: u64, deadline: Time) {
        self.tokens[self.tries] = Some(token);
        self.tries += 1;
        self.deadline = deadline;
    }

    /// Starts over at `at`: failures so far may be our own fault, or that of the way between.
    pub(super) fn restart(&mut self, at: Time) {
        self.tries = 0;
        self.reached = false;
        self.deadline = at;
    }

    /// Whether a try was made and came to nothing: there is no other reason to ask for the next.
    pub(super) fn has_failed(&self) -> bool {
        self.tries > 0
    }

    pub(super) fn exhausted(&self) -> bool {
        self.tries == TRIES as usize
    }

    /// Another member was answered by it.
    pub(super) fn note_reached(&mut self, token: u64) {
        self.reached |= self.awaits(token);
    }

    pub(super) fn is_reached(&self) -> bool {
        self.reached
    }

    pub(super) fn cleared_by_words(&self) -> bool {
        self.cause == Cause::Silence
    }

    /// Whether an answer to `token` clears this: any try's does, for the first may answer while the second
    /// runs.
    pub(super) fn asked(&self, token: u64) -> bool {
        self.tokens.contains(&Some(token))
    }

    /// Whether the failure of `token` is news: that of an earlier try was counted when its time was up.
    pub(super) fn awaits(&self, token: u64) -> bool {
        self.tries.checked_sub(1).is_some_and(|latest| self.tokens[latest] == Some(token))
    }
}
