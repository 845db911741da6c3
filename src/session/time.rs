//! Local time inside the session store: signed milliseconds since the start of the node.
//!
//! Signed because an access or a death may lie before this node's start. None of it is part of merged state.

use std::time::Duration;

use super::Settings;
use crate::id::Time;

/// Milliseconds since the node's start; negative before it.
pub(crate) type Millis = i64;

/// A time that never comes.
pub(crate) const NEVER: Millis = Millis::MAX;
/// A time before all others.
pub(crate) const LONG_AGO: Millis = Millis::MIN;

/// Width of a bucket of the expiry queues: a session expires at most this late, and a turn of the sweep is worth its wake-up.
const TICK_MS: Millis = 100;

pub(crate) fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(NEVER)
}

/// The time that lay `age_ms` before `now`.
pub(crate) fn before(now: Millis, age_ms: u64) -> Millis {
    now.saturating_sub(Millis::try_from(age_ms).unwrap_or(NEVER))
}

/// How long before `now` something was; zero when it lies ahead.
pub(crate) fn age(now: Millis, then: Millis) -> u64 {
    u64::try_from(now.saturating_sub(then)).unwrap_or(0)
}

/// The first tick that starts at or after the deadline.
pub(crate) fn tick(deadline: Millis) -> u64 {
    u64::try_from(deadline.max(0)).unwrap_or(0).div_ceil(TICK_MS.unsigned_abs())
}

/// The tick that `now` lies in.
pub(crate) fn tick_now(now: Millis) -> u64 {
    u64::try_from(now).unwrap_or(0) / TICK_MS.unsigned_abs()
}

/// When a tick starts.
pub(crate) fn tick_start(tick: u64) -> Time {
    Duration::from_millis(tick.saturating_mul(TICK_MS.unsigned_abs()))
}

/// The settings of a context in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    pub(crate) idle: Millis,
    pub(crate) grace: Millis,
    pub(crate) touch: Millis,
    pub(crate) horizon: Millis,
}

impl Spans {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            idle: millis(settings.max_idle),
            grace: millis(settings.idle_grace),
            touch: millis(settings.touch_interval),
            horizon: millis(settings.horizon),
        }
    }
}
