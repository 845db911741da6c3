//! Everything that can be set, with defaults, presets and the one place that checks it.
//!
//! [`Config`] is plain data; [`Config::check`] holds every rule between its fields. [`KEYS`] is the one table
//! of settings, from which TOML keys, environment variables, flags and `config dump` come; [`Layers`] loads
//! them on top of each other and knows where each value came from. [`Filter`] is the compiled URI filter.
//! Nothing here opens a socket or reads the process's environment.

mod check;
mod filter;
mod keys;
mod layers;
mod toml;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

pub use check::{Problem, Severity};
pub use filter::{Filter, FilterError};
pub use keys::{ENV_PREFIX, KEYS, Key};
pub use layers::{Layers, Loaded, Origin};
pub use value::{Shape, parse_duration, parse_size, show_duration, show_size};

use crate::id::AckLevel;

/// How a request's end treats the other members.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// One socket per member; returns when every member in view has acknowledged.
    Synchronous,
    /// `lanes` sockets per member, in parallel; returns when every member in view has acknowledged.
    Pooled,
    /// `lanes` sockets per member; returns when the change is queued.
    Asynchronous,
}

/// The settings of a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// This node's name in views, logs and outcomes.
    pub name: String,
    /// Cluster name: members of another cluster are ignored.
    pub cluster: String,
    /// Address that the receiver listens on and advertises. Anything but loopback needs `insecure_plaintext`.
    pub bind: IpAddr,
    /// Port of the receiver; 0 draws a free one.
    pub port: u16,
    /// How many ports after `port` are tried when it is taken.
    pub auto_bind: u16,
    /// Allows plaintext off loopback.
    pub insecure_plaintext: bool,
    /// Multicast group and port of the pings.
    pub multicast: SocketAddrV4,
    /// Address of the interface that pings leave by; `None`: `bind` where it is IPv4.
    pub interface: Option<Ipv4Addr>,
    /// Multicast time to live.
    pub multicast_ttl: u32,
    /// Period of the pings.
    pub frequency: Duration,
    /// Silence after which a member is suspect.
    pub drop_time: Duration,
    /// How long one echo of a verification may take; two are tried.
    pub verify_timeout: Duration,
    /// Replication mode.
    pub mode: Mode,
    /// What an acknowledgement must mean in the two synchronous modes.
    pub ack: AckLevel,
    /// How long a synchronous caller waits for acknowledgements.
    pub ack_timeout: Duration,
    /// How long an asynchronous caller waits above high water; a member of which the system takes less than high water in this time is
    /// repaired instead. Nobody waits for one of which the system has taken nothing for 50 ms: its queue may grow to its cap, and is given up there.
    pub queue_wait: Duration,
    /// I/O threads (`tcpThreadCount`).
    pub workers: usize,
    /// Pooled connections to each member; `None`: as many as workers.
    pub lanes: Option<usize>,
    /// Memory of what is queued to a member, in bytes, above which callers wait.
    pub high_water: usize,
    /// Memory of what is queued to a member, in bytes, below which callers go on.
    pub low_water: usize,
    /// Memory of what is queued to a member, in bytes, at which its queue is given up and repaired.
    pub queue_bytes_max: usize,
    /// Congestion control of the replication sockets, as the kernel names it; `None`: the system's default.
    pub congestion: Option<String>,
    /// How long a joining node waits for state, counted from what it was brought last, before it opens with what it has; no longer
    /// than 60 times this in all.
    pub state_transfer_timeout: Duration,
    /// Idle time after which a session expires; a session may set its own.
    pub max_idle: Duration,
    /// How much longer members other than the last writer wait before they expire a session.
    pub idle_grace: Duration,
    /// Accesses within this time of the last announced one are not announced.
    pub touch_interval: Duration,
    /// Longest tolerated partition: tombstones live `max_idle` plus this.
    pub partition_max: Duration,
    /// Tombstones kept per context; above it the oldest go.
    pub tombstones_max: usize,
    /// Largest value of one attribute, in bytes.
    pub value_bytes_max: usize,
    /// Largest session (names and values), in bytes.
    pub session_bytes_max: usize,
    /// Bytes that the store may hold in all; commits above it are refused.
    pub store_bytes_max: usize,
    /// Whether only what a request changed is sent (`true`), or a full write is compared with what was read.
    pub dirty_flag: bool,
    /// Requests whose URI matches send nothing: a `;` list of patterns, or one regular expression.
    pub filter: String,
    /// Events that may wait for the application.
    pub event_queue: usize,
    /// Whether sessions' events are produced (members' always are).
    pub session_events: bool,
}

impl Default for Config {
    /// [`Config::lan`].
    fn default() -> Self {
        Self::lan()
    }
}

impl Config {
    /// A local network of a few dozen members: a crashed member is noticed at once by its sockets, a silent
    /// one after a second.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            name: String::from("node"),
            cluster: String::from("hotspare"),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 4700,
            auto_bind: 100,
            insecure_plaintext: false,
            multicast: SocketAddrV4::new(Ipv4Addr::new(239, 192, 72, 83), 46_002),
            interface: None,
            multicast_ttl: 1,
            frequency: Duration::from_millis(200),
            drop_time: Duration::from_millis(1000),
            verify_timeout: Duration::from_millis(250),
            mode: Mode::Pooled,
            ack: AckLevel::Applied,
            ack_timeout: Duration::from_millis(15_000),
            queue_wait: Duration::from_millis(1000),
            workers: 2,
            lanes: None,
            high_water: 8 << 20,
            low_water: 4 << 20,
            queue_bytes_max: 128 << 20,
            congestion: None,
            state_transfer_timeout: Duration::from_secs(60),
            max_idle: Duration::from_secs(1800),
            idle_grace: Duration::from_secs(60),
            touch_interval: Duration::from_secs(5),
            partition_max: Duration::from_secs(1800),
            tombstones_max: 1 << 20,
            value_bytes_max: 64 << 20,
            session_bytes_max: 64 << 20,
            store_bytes_max: 16 << 30,
            dirty_flag: true,
            filter: String::new(),
            event_queue: 4096,
            session_events: true,
        }
    }

    /// Tests and demonstrations on one machine: any free port, pings that never leave the host, short periods.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            port: 0,
            auto_bind: 0,
            interface: Some(Ipv4Addr::LOCALHOST),
            multicast_ttl: 0,
            frequency: Duration::from_millis(50),
            drop_time: Duration::from_millis(500),
            verify_timeout: Duration::from_millis(250),
            ack_timeout: Duration::from_secs(5),
            workers: 1,
            state_transfer_timeout: Duration::from_secs(10),
            idle_grace: Duration::from_secs(1),
            touch_interval: Duration::from_millis(100),
            ..Self::lan()
        }
    }

    /// The numbers of `SimpleTcpCluster`, for sites that are used to them: what an imported `server.xml`
    /// starts from.
    #[must_use]
    pub fn tomcat() -> Self {
        Self {
            port: 4000,
            multicast: SocketAddrV4::new(Ipv4Addr::new(228, 0, 0, 4), 45_564),
            frequency: Duration::from_millis(500),
            drop_time: Duration::from_millis(3000),
            verify_timeout: Duration::from_millis(1000),
            workers: 6,
            // `expireTolerance` and `updateActiveInterval` of its DeltaManager.
            idle_grace: Duration::from_secs(300),
            touch_interval: Duration::from_secs(60),
            ..Self::lan()
        }
    }

    /// Lanes to each member: one in `synchronous` mode, else `lanes`, else as many as workers.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        match self.mode {
            Mode::Synchronous => 1,
            Mode::Pooled | Mode::Asynchronous => self.lanes.unwrap_or(self.workers).max(1),
        }
    }
}
