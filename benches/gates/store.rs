//! A store with room for whatever a bench does.

use std::time::Duration;

use hotspare::id::MemberId;
use hotspare::session::{Limits, Settings, Store};

pub(crate) fn store(me: u64) -> Store {
    let limits = Limits {
        value_bytes_max: 1 << 20,
        session_bytes_max: 1 << 20,
        store_bytes_max: 1 << 32,
        tombstones_max: 1 << 20,
        contexts_max: 1,
    };
    let settings = Settings {
        max_idle: Duration::from_secs(1800),
        idle_grace: Duration::from_secs(60),
        touch_interval: Duration::from_secs(5),
        horizon: Duration::from_secs(3600),
    };
    Store::new(MemberId(me), limits, settings, 1)
}
