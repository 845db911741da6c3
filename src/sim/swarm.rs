//! What a seed stands for: the size of its cluster, its weather, its faults and the shape of its load.
//!
//! Swarm testing: each class of fault is on with one half, with a strength of its own, and the load's shape is drawn
//! too, so that seeds differ in kind. One seed in ten has no fault, one in ten exactly one: there nothing is excused.

use std::time::Duration;

use super::lean::Lean;
use super::net::{HostId, Weather};
use super::options::{Options, Suppress};
use super::process::addr_of;
use crate::engine::{ControlSettings, CoreSettings};
use crate::id::{MemberId, Time};
use crate::proto::link::Identity;
use crate::session::{Limits, Settings};
use crate::wire;

/// A class of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fault {
    /// A process is killed, and started again on the same address.
    Kill,
    /// A host vanishes without a word, and comes back.
    PowerLoss,
    /// A node leaves on purpose, and is started again.
    Leave,
    /// A process stands still while its clock goes on.
    Pause,
    /// One host is cut off.
    Isolate,
    /// One direction between two hosts is cut.
    OneWay,
    /// Two hosts are cut from each other while others see both.
    Partial,
    /// The cluster falls into two parts.
    Halves,
    /// A connection is reset.
    Reset,
    /// What one member writes reaches one other alone; then it dies, and at times the other too.
    Torn,
    /// Each host sees its neighbours in a ring alone.
    Ring,
    /// Ways hold back what goes on them, and then deliver it all.
    Clog,
    /// A partition that changes its shape while it lasts.
    Shift,
    /// A node's clock jumps ahead.
    Jump,
    /// One host, or each, is away from the others for longer than tombstones live.
    Absent,
    /// The cluster falls into two parts of several hosts each for as long.
    Apart,
}

impl Fault {
    /// Those that any seed may draw.
    pub(super) const ALL: [Self; 9] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Leave,
        Self::Pause,
        Self::Isolate,
        Self::OneWay,
        Self::Partial,
        Self::Halves,
        Self::Reset,
    ];

    /// All of them.
    pub(super) fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::BESIDES).chain([Self::Torn, Self::Absent, Self::Apart])
    }

    /// Those that come besides, so that seeds without them stay what they were.
    pub(super) const BESIDES: [Self; 4] = [Self::Ring, Self::Clog, Self::Shift, Self::Jump];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Leave => "leave",
            Self::Pause => "pause",
            Self::Isolate => "isolate",
            Self::OneWay => "one-way",
            Self::Partial => "partial",
            Self::Halves => "halves",
            Self::Reset => "reset",
            Self::Torn => "torn",
            Self::Ring => "ring",
            Self::Clog => "clog",
            Self::Shift => "shift",
            Self::Jump => "jump",
            Self::Absent => "absent",
            Self::Apart => "apart",
        }
    }
}

/// How much of the world is allowed to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing fails.
    Calm,
    /// One fault of this class, once.
    Single(Fault),
    /// These classes, again and again.
    Swarm(Vec<Fault>),
}

/// What a store holds that is never full.
pub(super) const STORE_BYTES_MAX: usize = 1 << 30;
/// Queues below this hold no huge values.
const HUGE_QUEUE: usize = 16 << 20;

/// The shape of the load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) users: usize,
    /// Mean time between two requests of one user, in milliseconds.
    pub(super) think_ms: f64,
    /// Where sessions expire: their idle time, and the share of pauses that last about as long.
    pub(super) away_ms: Option<u64>,
    pub(super) away: f64,
    /// Share of requests that go to any node rather than to the user's own.
    pub(super) roam: f64,
    /// Share of users that share their session with others.
    pub(super) hot: f64,
    /// Longest time between a request's begin and its end, in milliseconds, and the share that takes long.
    pub(super) hold_ms: u64,
    pub(super) slow: f64,
    /// Distinct attribute names.
    pub(super) names: usize,
    /// Usual size of a value, share of values sixteen times that, and of huge ones.
    pub(super) value: usize,
    pub(super) tail: f64,
    pub(super) huge: f64,
    /// Weights of what a request does: delta, full, remove, touch, invalidate, change of id, max idle.
    pub(super) weights: [u32; 7],
    /// Share of logins that take a new id.
    pub(super) fresh_id: f64,
    /// Shares of requests that wait for `applied`, for `received`; the rest is queued.
    pub(super) applied: f64,
    pub(super) received: f64,
    pub(super) ack_timeout: Duration,
    /// How long a caller waits above high water.
    pub(super) queue_wait: Duration,
}

/// Everything that a seed decides before the first event.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) lean: Lean,
    pub(super) kind: Kind,
    pub(super) nodes: usize,
    pub(super) weather: Weather,
    pub(super) load: Load,
    /// Mean time between faults, in milliseconds.
    pub(super) fault_every_ms: f64,
    /// Longest pause, cut and downtime.
    pub(super) outage_ms: u64,
    /// Clock rates differ by at most this, in parts per million.
    pub(super) drift_ppm: i64,
    /// Nodes start within this of each other, in milliseconds.
    pub(super) spread_ms: u64,
    /// How long load and faults last.
    pub(super) length: Duration,
    pub(super) lanes: usize,
    frequency: Duration,
    pub(super) queue_bytes_max: usize,
    pub(super) sessions: Settings,
    /// Longest tolerated partition.
    pub(super) partition_max: Duration,
    /// What the store of each host holds at most, where that is little.
    pub(super) store_bytes_max: Vec<usize>,
    /// Whether some speak a later version of the protocol besides.
    pub(super) mixed: bool,
    /// What of all this is left out.
    pub(super) suppress: Suppress,
}

impl Profile {
    /// What a seed stands for, but for the options. `rng` is the run's; what the seed leans to is drawn apart, so that it
    /// changes no other seed.
    pub(super) fn new(seed: u64, options: &Options, rng: &mut fastrand::Rng) -> Self {
        let mut own = fastrand::Rng::with_seed(!seed);
        let profile = Self::draw(rng);
        let drawn = Lean::draw(&mut own);
        let mut profile = profile.lean(options.lean.unwrap_or(drawn), &mut own);
        profile.besides(&mut own);
        profile.mixed = own.u8(..4) == 0;
        profile.suppress(&options.suppress);
        profile
    }

    /// Some faults more, for half of the seeds that lean to nothing which they would upset.
    fn besides(&mut self, rng: &mut fastrand::Rng) {
        if !matches!(self.lean, Lean::Nothing | Lean::Returns) {
            return;
        }
        match &mut self.kind {
            Kind::Calm => {}
            Kind::Single(fault) => {
                if rng.u8(..4) == 0 {
                    *fault = *pick(rng, &Fault::BESIDES);
                }
            }
            Kind::Swarm(faults) => {
                if rng.bool() {
                    faults.extend(Fault::BESIDES.into_iter().filter(|_| rng.bool()));
                    self.weather.flip = if rng.bool() { rng.f64() * 0.2 } else { 0.0 };
                }
            }
        }
    }

    /// Whether sessions are left unused for long enough to expire.
    pub(super) fn sessions_expire(&self) -> bool {
        self.sessions.max_idle < Duration::from_secs(60)
    }

    fn draw(rng: &mut fastrand::Rng) -> Self {
        let kind = match rng.u8(..10) {
            0 => Kind::Calm,
            1 => Kind::Single(Fault::ALL[rng.usize(..Fault::ALL.len())]),
            _ => Kind::Swarm(Fault::ALL.into_iter().filter(|_| rng.bool()).collect()),
        };
        let swarm = matches!(kind, Kind::Swarm(_));
        let on = |rng: &mut fastrand::Rng| swarm && rng.bool();
        let outage_ms = if rng.bool() { 1500 } else { 5000 };
        let short_idle = rng.u8(..10) < 3;
        let max_idle = if short_idle { rng.u64(2000..4000) } else { 1_000_000 };
        let slow_net = on(rng);
        let weather = Weather {
            latency: if slow_net { (500, 20_000) } else { (20, 400) },
            detour: Vec::new(),
            tail: if on(rng) { rng.f64() * 0.1 } else { 0.0 },
            tail_micros: rng.u64(1000..200_000),
            piece_max: if rng.bool() { 0 } else { *pick(rng, &[1, 7, 64, 1500, 16_384]) },
            short_write: if rng.bool() { 0.0 } else { rng.f64() * 0.3 },
            window: if on(rng) { rng.usize(4 << 10..32 << 10) * if slow_net { 4 } else { 1 } } else { 256 << 10 },
            loss: if on(rng) { rng.f64() * 0.4 } else { 0.0 },
            double: if on(rng) { rng.f64() * 0.3 } else { 0.0 },
            flip: 0.0,
            lost_dial: if on(rng) { rng.f64() * 0.3 } else { 0.0 },
            lag: if on(rng) { (0, 20_000) } else { (0, 100) },
        };
        let nodes = rng.usize(2..=5);
        let length = Duration::from_millis(rng.u64(5000..9000));
        let mut load = Load::draw(rng);
        load.away_ms = short_idle.then_some(max_idle);
        let queue_bytes_max = if on(rng) { rng.usize(64 << 10..512 << 10) } else { 64 << 20 };
        if queue_bytes_max < HUGE_QUEUE {
            // A session has to fit a queue; the configuration sees to that.
            (load.huge, load.tail) = (0.0, 0.0);
        }
        Self {
            lean: Lean::Nothing,
            nodes,
            fault_every_ms: 300.0 + rng.f64() * 2000.0,
            outage_ms,
            drift_ppm: if rng.bool() { 0 } else { 20_000 },
            spread_ms: if rng.bool() { 50 } else { 2000 },
            length,
            lanes: rng.usize(1..=3),
            frequency: Duration::from_millis(200),
            queue_bytes_max,
            partition_max: Duration::from_secs(1800),
            store_bytes_max: Vec::new(),
            mixed: false,
            suppress: Suppress::default(),
            sessions: Settings {
                max_idle: Duration::from_millis(max_idle),
                idle_grace: Duration::from_millis(rng.u64(500..2000)),
                touch_interval: Duration::from_millis(rng.u64(50..400)),
                // Where nothing is late, tombstones may go so soon that slow requests end after them.
                horizon: Duration::from_millis(match (rng.bool(), &kind) {
                    (true, Kind::Calm) => 400,
                    // What is under way on a narrow and long way is so for half a minute.
                    (true, _) => 4 * outage_ms + 60_000,
                    (false, _) => 2_000_000,
                }),
            },
            kind,
            weather,
            load,
        }
    }

    /// How much longer than others a way is.
    pub(super) fn detour(&self, from: usize, to: usize) -> Duration {
        Duration::from_micros(self.weather.detour.get(from).map_or(0, |row| row[to]))
    }

    /// How much longer than others a way is at most.
    pub(super) fn detour_max(&self) -> Duration {
        Duration::from_micros(self.weather.detour.iter().flatten().copied().max().unwrap_or(0))
    }

    /// Whether this class may strike.
    pub(super) fn faults(&self) -> &[Fault] {
        match &self.kind {
            Kind::Calm => &[],
            Kind::Single(fault) => std::slice::from_ref(fault),
            Kind::Swarm(faults) => faults,
        }
    }

    /// Which versions of the protocol an incarnation speaks. Where they are mixed half of them know a later one, so that each start
    /// may be an upgrade or the contrary.
    pub(super) fn versions(&self, member: MemberId) -> (u8, u8) {
        let (low, high) = wire::PROTOCOL;
        let later = self.mixed && member.0 & 1 == 1;
        (low, high + u8::from(later))
    }

    /// Whether this host's store, or any, holds little.
    pub(super) fn is_full(&self, host: Option<HostId>) -> bool {
        match host {
            None => !self.store_bytes_max.is_empty(),
            Some(host) => self.store_bytes_max.get(host).is_some_and(|max| *max < STORE_BYTES_MAX),
        }
    }

    /// Bytes that a host's store may hold.
    pub(super) fn store_max(&self, host: HostId) -> usize {
        self.store_bytes_max.get(host).copied().unwrap_or(STORE_BYTES_MAX)
    }

    pub(super) fn core(&self, member: MemberId, host: HostId, number: u32, seed: u64) -> CoreSettings {
        let (name, addr) = (format!("n{host}.{number}"), addr_of(host));
        CoreSettings {
            identity: Identity {
                member,
                cluster: wire::cluster_tag("sim"),
                name,
                addr,
                versions: self.versions(member),
            },
            lanes: self.lanes,
            limits: Limits {
                value_bytes_max: 1 << 20,
                session_bytes_max: 16 << 20,
                store_bytes_max: self.store_max(host),
                tombstones_max: 1 << 16,
                contexts_max: 4,
            },
            sessions: self.sessions,
            high_water: self.queue_bytes_max / 4,
            low_water: self.queue_bytes_max / 8,
            queue_bytes_max: self.queue_bytes_max,
            event_queue: 1024,
            session_events: seed & 1 == 0,
            seed,
        }
    }

    pub(super) fn control(&self, seed: u64) -> ControlSettings {
        ControlSettings {
            frequency: self.frequency,
            drop_time: self.frequency * 5,
            verify_timeout: Time::from_millis(250),
            state_transfer_timeout: Time::from_secs(60),
            partition_max: self.partition_max,
            queue_wait: Time::from_secs(1),
            members_max: 64,
            seed,
        }
    }
}

impl Load {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut weights = [20, 8, 4, 10, 3, 3, 1];
        for weight in &mut weights {
            // Some seeds do much of one thing and none of another.
            *weight = *weight * rng.u32(0..=4) / 2;
        }
        weights[0] += 4;
        Self {
            users: rng.usize(3..30),
            think_ms: 0.0,
            away_ms: None,
            away: 0.03,
            roam: if rng.bool() { 0.02 } else { rng.f64() * 0.5 },
            hot: rng.f64() * 0.6,
            hold_ms: *pick(rng, &[1, 10, 50]),
            slow: if rng.bool() { 0.0 } else { rng.f64() * 0.1 },
            names: rng.usize(1..12),
            value: *pick(rng, &[0, 16, 16, 256, 256, 2048]),
            tail: if rng.bool() { 0.0 } else { 0.05 },
            huge: if rng.u8(..10) == 0 { 0.004 } else { 0.0 },
            weights,
            fresh_id: if rng.bool() { 1.0 } else { rng.f64() },
            applied: 0.5 + rng.f64() * 0.5,
            received: 0.5,
            ack_timeout: Duration::from_millis(*pick(rng, &[300, 2000, 5000])),
            queue_wait: Duration::from_millis(200),
        }
        .paced(rng)
    }

    /// Sessions are used at several nodes at once, also those of later logins.
    pub(super) fn share(&mut self, rng: &mut fastrand::Rng) {
        self.roam = 0.5 + rng.f64() * 0.5;
        self.hot = 0.5 + rng.f64() * 0.5;
        self.fresh_id = rng.f64() * 0.3;
    }

    /// About as many requests a second whatever the number of users.
    fn paced(mut self, rng: &mut fastrand::Rng) -> Self {
        let per_second = 186.0 + rng.f64() * 372.0;
        #[expect(clippy::cast_precision_loss, reason = "a few users")]
        {
            self.think_ms = 1000.0 * self.users as f64 / per_second;
        }
        self
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}
