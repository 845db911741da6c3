//! The rules between settings: the one place that decides whether a [`Config`] can run.
//!
//! Every rule is looked at, so that all problems are told at once. It reads values only; where they came from
//! is added by [`Layers`](super::Layers).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::value::{show_duration, show_size};
use super::{Config, Filter, Mode, Origin};

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The node would not start.
    Error,
    /// The node would start, and something would probably not be as meant.
    Warning,
}

/// Something wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Paths of the settings that it is about; empty where no setting can be named.
    pub keys: Vec<&'static str>,
    /// Where those were set, defaults left out.
    pub origins: Vec<Origin>,
    /// What is wrong, naming the settings.
    pub message: String,
}

impl Problem {
    pub(super) fn error(message: String, keys: &[&'static str]) -> Self {
        Self { severity: Severity::Error, keys: keys.to_vec(), origins: Vec::new(), message }
    }

    pub(super) fn warning(message: String, keys: &[&'static str]) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, keys) }
    }

    pub(super) fn unreadable(path: &'static str, why: &str) -> Self {
        Self::error(format!("{path}: {why}"), &[path])
    }

    pub(super) fn at(mut self, origin: Origin) -> Self {
        self.origins.push(origin);
        self
    }

    /// Whether it keeps a node from starting.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{origin}", if i == 0 { "" } else { ", " })?;
        }
        if !self.origins.is_empty() {
            f.write_str(": ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Config {
    /// Checks every rule.
    ///
    /// # Errors
    /// All errors, each naming the settings in conflict; see [`Config::warnings`] for the rest.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        let errors: Vec<_> = self.problems().into_iter().filter(Problem::is_error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What is allowed and probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        self.problems().into_iter().filter(|problem| !problem.is_error()).collect()
    }

    /// Errors and warnings, in the order of the settings.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = Found(Vec::new());
        self.check_names(&mut found);
        self.check_membership(&mut found);
        self.check_receiver(&mut found);
        self.check_sender(&mut found);
        self.check_sessions(&mut found);
        found.0
    }

    fn check_names(&self, found: &mut Found) {
        for (path, name) in [("node.name", &self.name), ("node.cluster", &self.cluster)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                found.error(format!("{path} has {} bytes; allowed are 1 to {NAME_BYTES_MAX}", name.len()), &[path]);
            } else if name.chars().any(char::is_control) {
                found.error(format!("{path} {name:?} has a control character"), &[path]);
            }
        }
    }

    fn check_membership(&self, found: &mut Found) {
        let group = self.multicast;
        let path = "membership.multicast";
        if !group.ip().is_multicast() {
            found.error(
                format!("{path} {group} is no multicast group: those are 224.0.0.0 to 239.255.255.255"),
                &[path],
            );
        } else if group.ip().octets()[..3] == [224, 0, 0] {
            found.warning(
                format!("{path} {group} is reserved for routing protocols (224.0.0.0/24): choose one in 239.0.0.0/8"),
                &[path],
            );
        }
        if group.port() == 0 {
            found.error(format!("{path} {group} has no port"), &[path]);
        }
        if self.multicast_ttl > 255 {
            found.error(format!("membership.ttl is {}; allowed are 0 to 255", self.multicast_ttl), &["membership.ttl"]);
        }
        match (self.interface, self.bind) {
            (Some(interface), _) if interface.is_multicast() || interface.is_unspecified() || interface.is_broadcast() => {
                found.error(
                    format!("membership.interface {interface} is no interface's address"),
                    &["membership.interface"],
                );
            }
            (Some(interface), bind) if interface.is_loopback() != bind.is_loopback() => found.warning(
                format!(
                    "membership.interface {interface} and receiver.bind {bind}: only one of them is loopback, so members \
                     that hear the pings do not reach the receiver"
                ),
                &["membership.interface", "receiver.bind"],
            ),
            (None, IpAddr::V6(bind)) => found.error(
                format!("membership.interface must be named where receiver.bind is IPv6 ({bind})"),
                &["membership.interface", "receiver.bind"],
            ),
            (Some(_) | None, _) => {}
        }

        found.within("membership.frequency", self.frequency, PERIOD_MIN, PERIOD_MAX);
        found.within("membership.drop_time", self.drop_time, PERIOD_MIN, SPAN_MAX);
        found.within("membership.verify_timeout", self.verify_timeout, PERIOD_MIN, SPAN_MAX);
        if self.drop_time <= self.frequency.saturating_mul(2) {
            found.error(
                format!(
                    "membership.drop_time {} must be more than twice membership.frequency {}, or one lost ping makes a suspect",
                    show_duration(self.drop_time),
                    show_duration(self.frequency)
                ),
                &["membership.drop_time", "membership.frequency"],
            );
        }
        if self.verify_timeout > self.drop_time {
            found.error(
                format!(
                    "membership.verify_timeout {} must not exceed membership.drop_time {}",
                    show_duration(self.verify_timeout),
                    show_duration(self.drop_time)
                ),
                &["membership.verify_timeout", "membership.drop_time"],
            );
        }
    }

    fn check_receiver(&self, found: &mut Found) {
        let bind = self.bind;
        if bind.is_unspecified() || bind.is_multicast() || bind == IpAddr::from([255; 4]) {
            found.error(
                format!(
                    "receiver.bind {bind} cannot be advertised: name one address of this machine (any but loopback also needs \
                     receiver.insecure_plaintext)"
                ),
                &["receiver.bind"],
            );
        } else if !bind.is_loopback() && !self.insecure_plaintext {
            found.error(
                format!(
                    "receiver.bind {bind} would carry sessions in plaintext: bind to loopback, or run an encrypted tunnel \
                     and set receiver.insecure_plaintext, or set it because everybody on that network is trusted"
                ),
                &["receiver.bind", "receiver.insecure_plaintext"],
            );
        }
        if self.port != 0 && self.port.checked_add(self.auto_bind).is_none() {
            found.error(
                format!("receiver.port {} plus receiver.auto_bind {} is above 65535", self.port, self.auto_bind),
                &["receiver.port", "receiver.auto_bind"],
            );
        }
        found.count("receiver.workers", self.workers, WORKERS_MAX);
    }

    fn check_sender(&self, found: &mut Found) {
        found.within("sender.ack_timeout", self.ack_timeout, Duration::from_millis(1), SPAN_MAX);
        found.within("sender.queue_wait", self.queue_wait, Duration::ZERO, SPAN_MAX);
        if let Some(lanes) = self.lanes {
            found.count("sender.lanes", lanes, LANES_MAX);
            if self.mode == Mode::Synchronous && lanes > 1 {
                found.warning(
                    format!("sender.lanes {lanes} has no effect where sender.mode is synchronous: it uses one"),
                    &["sender.lanes", "sender.mode"],
                );
            }
        }
        found.ascending(
            &[
                ("sender.low_water", self.low_water),
                ("sender.high_water", self.high_water),
                ("sender.queue_bytes_max", self.queue_bytes_max),
            ],
            true,
        );
        if self.session_bytes_max > self.queue_bytes_max {
            found.error(
                format!(
                    "sessions.session_bytes_max {} must not exceed sender.queue_bytes_max {}, or one session overflows a queue",
                    show_size(self.session_bytes_max),
                    show_size(self.queue_bytes_max)
                ),
                &["sessions.session_bytes_max", "sender.queue_bytes_max"],
            );
        }
        if let Some(name) = &self.congestion {
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > CONGESTION_BYTES_MAX || !name.bytes().all(known) {
                found.error(
                    format!("sender.congestion {name:?} is no kernel's name of a congestion control, as in \"cubic\""),
                    &["sender.congestion"],
                );
            }
        }
    }

    fn check_sessions(&self, found: &mut Found) {
        found.within("sessions.max_idle", self.max_idle, Duration::from_millis(1), SPAN_MAX);
        found.within("sessions.idle_grace", self.idle_grace, Duration::ZERO, SPAN_MAX);
        found.within("sessions.touch_interval", self.touch_interval, Duration::ZERO, SPAN_MAX);
        found.within("sessions.partition_max", self.partition_max, Duration::ZERO, SPAN_MAX);
        found.within("transfer.timeout", self.state_transfer_timeout, Duration::ZERO, SPAN_MAX);
        if self.touch_interval > self.idle_grace {
            // Other members know of an access up to touch_interval late, and give the session idle_grace for
            // it.
            found.error(
                format!(
                    "sessions.touch_interval {} must not exceed sessions.idle_grace {}, or members expire a session in use",
                    show_duration(self.touch_interval),
                    show_duration(self.idle_grace)
                ),
                &["sessions.touch_interval", "sessions.idle_grace"],
            );
        }
        found.count("sessions.tombstones_max", self.tombstones_max, COUNT_MAX);
        found.ascending(
            &[
                ("sessions.value_bytes_max", self.value_bytes_max),
                ("sessions.session_bytes_max", self.session_bytes_max),
                ("sessions.store_bytes_max", self.store_bytes_max),
            ],
            false,
        );
        if self.value_bytes_max == 0 {
            found.error(
                "sessions.value_bytes_max is 0, which allows no attribute".into(),
                &["sessions.value_bytes_max"],
            );
        }
        if self.session_bytes_max > SESSION_BYTES_CEILING {
            found.error(
                format!(
                    "sessions.session_bytes_max is {}; allowed are up to {}",
                    show_size(self.session_bytes_max),
                    show_size(SESSION_BYTES_CEILING)
                ),
                &["sessions.session_bytes_max"],
            );
        }
        if let Err(why) = Filter::compile(&self.filter) {
            found.error(format!("sessions.filter: {why}"), &["sessions.filter"]);
        }
        found.count("events.queue", self.event_queue, COUNT_MAX);
    }
}

/// The problems found so far.
struct Found(Vec<Problem>);

impl Found {
    fn error(&mut self, message: String, keys: &[&'static str]) {
        self.0.push(Problem::error(message, keys));
    }

    fn warning(&mut self, message: String, keys: &[&'static str]) {
        self.0.push(Problem::warning(message, keys));
    }

    fn within(&mut self, path: &'static str, value: Duration, low: Duration, high: Duration) {
        if value < low || value > high {
            self.error(
                format!(
                    "{path} is {}; allowed are {} to {}",
                    show_duration(value),
                    show_duration(low),
                    show_duration(high)
                ),
                &[path],
            );
        }
    }

    fn count(&mut self, path: &'static str, value: usize, high: usize) {
        if value == 0 || value > high {
            self.error(format!("{path} is {value}; allowed are 1 to {high}"), &[path]);
        }
    }

    /// Each must be below (or, if not `strict`, at most) the next.
    fn ascending(&mut self, sizes: &[(&'static str, usize)], strict: bool) {
        for pair in sizes.windows(2) {
            let [(low_path, low), (high_path, high)] = pair else {
                continue;
            };
            if low > high || (strict && low == high) {
                self.error(
                    format!(
                        "{low_path} {} must {} {high_path} {}",
                        show_size(*low),
                        if strict { "be below" } else { "not exceed" },
                        show_size(*high)
                    ),
                    &[low_path, high_path],
                );
            }
        }
    }
}

/// Names travel in every ping, a datagram of fixed size.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Ten times the largest preset: what is beyond is more likely a slip than a wish.
const WORKERS_MAX: usize = 64;
const LANES_MAX: usize = 64;
/// The kernel's `TCP_CA_NAME_MAX` without its terminator.
const CONGESTION_BYTES_MAX: usize = 15;
/// Offsets into a frame's payload have 32 bits; this stays well below.
const SESSION_BYTES_CEILING: usize = 1 << 30;
const COUNT_MAX: usize = 1 << 28;
const PERIOD_MIN: Duration = Duration::from_millis(5);
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// Ten years: sums of a few stay far from overflow.
const SPAN_MAX: Duration = Duration::from_secs(3650 * 86_400);
