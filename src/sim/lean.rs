//! What a seed leans to: a situation that chance alone would hardly ever bring about.
//!
//! Half of the seeds lean to one. Full stores and absences beyond the horizon are not drawn, and must be asked for: the first take their
//! time, and of the others one seed in a hundred has absences that overlap, after which no side was larger and a session comes back.

use std::time::Duration;

use super::swarm::{Fault, Kind, Profile, STORE_BYTES_MAX};

/// What a seed leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lean {
    /// Nothing in particular.
    Nothing,
    /// To ways of unequal length: what was caused arrives before its cause.
    Detours,
    /// To members that die when only some have what they wrote.
    Torn,
    /// To queues that overflow.
    Flood,
    /// To users who come back around the moment at which their session expires.
    Returns,
    /// To stores that are full.
    Full,
    /// To members that are away, each alone, for longer than tombstones live. Not drawn.
    Horizon,
    /// To a cluster that is in two parts of several members for as long. Not drawn.
    HorizonHalves,
}

impl Lean {
    /// All that may be asked for.
    pub const ALL: &[Self] = &[
        Self::Nothing,
        Self::Detours,
        Self::Torn,
        Self::Flood,
        Self::Returns,
        Self::Full,
        Self::Horizon,
        Self::HorizonHalves,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Detours => "detours",
            Self::Torn => "torn",
            Self::Flood => "flood",
            Self::Returns => "returns",
            Self::Full => "full",
            Self::Horizon => "horizon",
            Self::HorizonHalves => "horizon-halves",
        }
    }

    /// What a seed leans to when it is not told otherwise.
    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..8) {
            0 => Self::Detours,
            1 => Self::Torn,
            2 => Self::Flood,
            3 => Self::Returns,
            _ => Self::Nothing,
        }
    }

    /// Whether members may be away for longer than tombstones live.
    pub(super) fn is_beyond_horizon(self) -> bool {
        matches!(self, Self::Horizon | Self::HorizonHalves)
    }
}

impl Profile {
    pub(super) fn lean(mut self, lean: Lean, rng: &mut fastrand::Rng) -> Self {
        self.lean = lean;
        match lean {
            Lean::Nothing => self,
            Lean::Detours => self.with_detours(rng),
            Lean::Torn => self.torn(rng),
            Lean::Flood => self.flooded(rng),
            Lean::Returns => self.with_returns(rng),
            Lean::Full => self.full(rng),
            Lean::Horizon | Lean::HorizonHalves => self.beyond_horizon(rng),
        }
    }

    fn with_detours(mut self, rng: &mut fastrand::Rng) -> Self {
        self.nodes = self.nodes.max(3);
        if rng.bool() {
            self.kind = Kind::Calm;
            let weather = &mut self.weather;
            (weather.tail, weather.loss, weather.double, weather.lost_dial, weather.lag) =
                (0.0, 0.0, 0.0, 0.0, (0, 100));
            weather.window = 256 << 10;
            self.queue_bytes_max = 64 << 20;
            self.load.ack_timeout = Duration::from_secs(5);
        } else {
            // What is under way on a long and narrow way may be so for longer than a minute.
            self.sessions.horizon = self.sessions.horizon.max(Duration::from_secs(200));
        }
        self.lengthen(rng);
        self.load.share(rng);
        self
    }

    fn torn(mut self, rng: &mut fastrand::Rng) -> Self {
        self.nodes = self.nodes.max(3);
        let mut faults = vec![Fault::Torn; 3];
        faults.extend(Fault::ALL.into_iter().filter(|_| rng.u8(..4) == 0));
        self.storm(faults, 1500);
        self.fault_every_ms = 600.0 + rng.f64() * 1500.0;
        self.load.share(rng);
        self
    }

    fn flooded(mut self, rng: &mut fastrand::Rng) -> Self {
        self.queue_bytes_max = rng.usize(40 << 10..64 << 10);
        self.weather.window = rng.usize(4 << 10..16 << 10);
        // Nobody is away for so long that he is dropped and repaired for that.
        let faults = [Fault::Pause, Fault::Isolate, Fault::OneWay, Fault::Partial, Fault::Reset];
        self.storm(faults.into_iter().filter(|_| rng.bool()).chain([Fault::Pause]).collect(), 900);
        self.fault_every_ms = 300.0 + rng.f64() * 700.0;
        (self.load.value, self.load.tail, self.load.huge) = (2048, 0.0, 0.0);
        self.load.queue_wait = Duration::from_millis(rng.u64(0..30));
        self.load.think_ms /= 1.5;
        self
    }

    fn with_returns(mut self, rng: &mut fastrand::Rng) -> Self {
        let idle = rng.u64(1500..3000);
        self.sessions.max_idle = Duration::from_millis(idle);
        self.load.away_ms = Some(idle);
        self.load.away = 0.2 + rng.f64() * 0.6;
        if rng.bool() {
            self.lengthen(rng);
        }
        self.load.roam = rng.f64();
        self
    }

    /// The users' sessions do not all fit into the stores, or into one of them.
    fn full(mut self, rng: &mut fastrand::Rng) -> Self {
        if self.kind == Kind::Calm {
            // Copies may be missing though nothing fails.
            self.kind = Kind::Swarm(Vec::new());
        }
        self.sessions.max_idle = Duration::from_secs(1000);
        self.load.away_ms = None;
        self.load.value = if rng.bool() { 256 } else { 2048 };
        (self.load.tail, self.load.huge) = (0.0, 0.0);
        self.load.names = rng.usize(4..12);
        self.load.weights[4] = self.load.weights[4].max(2);
        let all = self.load.users * (200 + self.load.names * (100 + self.load.value / 2));
        // Tombstones take room too, and give it back.
        self.sessions.horizon = Duration::from_millis(4 * self.outage_ms + 6000);
        let cap = (40 << 10) + rng.usize(all * 3 / 10..=all * 9 / 10);
        let one = (!rng.bool()).then(|| rng.usize(..self.nodes));
        self.store_bytes_max =
            (0..self.nodes).map(|h| if one.is_none_or(|o| o == h) { cap } else { STORE_BYTES_MAX }).collect();
        self
    }

    /// Sessions end while a member is away, and their tombstones are gone when it returns. Tombstones live the idle time and the
    /// longest tolerated partition, as the configuration has it; or less than sessions do, so that all that the member held is
    /// still alive there.
    fn beyond_horizon(mut self, rng: &mut fastrand::Rng) -> Self {
        let short_idle = rng.bool();
        let idle = if short_idle { rng.u64(1500..4000) } else { 1_000_000 };
        self.sessions.max_idle = Duration::from_millis(idle);
        self.load.away_ms = short_idle.then_some(idle);
        self.partition_max = Duration::from_millis(rng.u64(4000..8000));
        self.sessions.horizon = self.partition_max + if short_idle { self.sessions.max_idle } else { Duration::ZERO };
        let fault = if self.lean == Lean::Horizon { Fault::Absent } else { Fault::Apart };
        self.nodes = if fault == Fault::Apart { self.nodes.max(4) } else { self.nodes };
        let mut faults = vec![fault; 6];
        faults.extend([Fault::Reset, Fault::Kill].into_iter().filter(|_| rng.u8(..3) == 0));
        self.kind = Kind::Swarm(faults);
        self.outage_ms = 1500;
        let absence = self.absence();
        self.fault_every_ms = absence.as_secs_f64() * 1e3 * (0.8 + rng.f64());
        self.length = absence * 3;
        self.load.share(rng);
        self.load.roam = 0.05 + rng.f64() * 0.3;
        self.load.weights[4] = self.load.weights[4].max(3);
        self.load.ack_timeout = Duration::from_millis(300);
        self.load.think_ms *= 2.0;
        self
    }

    /// How long a member is away, so that nobody can doubt that it was longer than tombstones live.
    pub(super) fn absence(&self) -> Duration {
        self.sessions.horizon.mul_f64(1.3) + Duration::from_secs(3)
    }

    fn storm(&mut self, faults: Vec<Fault>, outage_ms: u64) {
        self.kind = Kind::Swarm(faults);
        self.outage_ms = outage_ms;
        self.sessions.horizon = self.sessions.horizon.max(Duration::from_millis(4 * outage_ms + 6000));
    }

    /// Some ways become much longer than others, but not so long that who is verified by an echo could fail to answer.
    fn lengthen(&mut self, rng: &mut fastrand::Rng) {
        self.weather.latency = (20, 400);
        let mut way = || if rng.u8(..3) == 0 { rng.u64(30_000..90_000) } else { 0 };
        self.weather.detour = (0..self.nodes).map(|_| (0..self.nodes).map(|_| way()).collect()).collect();
    }
}
