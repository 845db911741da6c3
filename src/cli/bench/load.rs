//! The workload in numbers: what is sent, how often, by how many threads, to how many receivers.
//!
//! The same flags start the command and the processes that it starts, so a load can be written back as flags.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::ValueEnum;

use crate::config::Mode;
use crate::id::AckLevel;

/// Flags that describe a workload.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Load {
    /// Receivers, each a process of its own.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) peers: NonZeroUsize,
    /// Replication mode.
    #[arg(long, value_enum, default_value_t = ModeFlag::Pooled)]
    pub(super) mode: ModeFlag,
    /// What an acknowledgement means (the two synchronous modes).
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = AckFlag::Applied)]
    pub(super) ack: AckFlag,
    /// Threads that update sessions.
    #[arg(long, value_name = "T", default_value = "1")]
    pub(super) threads: NonZeroUsize,
    /// Updates that each thread has in flight: above 1 it goes on with a ticket, and waits for the oldest. Latency is then of the
    /// hand-over alone.
    #[arg(long, value_name = "D", default_value = "1")]
    pub(super) depth: NonZeroUsize,
    /// I/O threads of every node; the library's default when absent.
    #[arg(long, value_name = "W")]
    pub(super) workers: Option<NonZeroUsize>,
    /// Connections from the sender to each receiver; as many as workers when absent.
    #[arg(long, value_name = "L")]
    pub(super) lanes: Option<NonZeroUsize>,
    /// Bytes of one update (at least 8); `k` and `m` multiply by 1,024.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "1k")]
    pub(super) size: usize,
    /// Sessions; 10,000, or 1,024 from 256 KiB on, when absent.
    #[arg(long, value_name = "K")]
    pub(super) sessions: Option<NonZeroUsize>,
    /// Length of one measurement.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "2")]
    pub(super) seconds: Duration,
    /// Open loop: updates a second over all threads, latency from the intended time. Closed loop when absent.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Congestion control of every measured socket, as the kernel names it; `system` leaves it alone.
    #[arg(long, value_name = "NAME", default_value = "reno")]
    pub(super) congestion: String,
}

impl Load {
    /// Sessions in all.
    pub(super) fn session_count(&self) -> usize {
        match self.sessions {
            Some(n) => n.get(),
            None if self.size >= 256 << 10 => 1_024,
            None => 10_000,
        }
    }

    /// Sessions of one thread: those congruent to `thread` modulo the number of threads.
    pub(super) fn sessions_of(&self, thread: usize) -> impl Iterator<Item = usize> + use<> {
        (thread..self.session_count()).step_by(self.threads.get())
    }

    /// Whether a call that returned promises that every receiver has applied the update.
    pub(super) fn acked(&self) -> bool {
        self.mode != ModeFlag::Asynchronous && self.ack == AckFlag::Applied
    }

    /// The congestion control to set, if any.
    pub(super) fn congestion(&self) -> Option<&str> {
        (self.congestion != "system").then_some(self.congestion.as_str())
    }

    /// The flags that give this load again.
    pub(super) fn to_flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--peers={}", self.peers),
            format!("--mode={}", self.mode.as_str()),
            format!("--ack={}", self.ack.as_str()),
            format!("--threads={}", self.threads),
            format!("--depth={}", self.depth),
            format!("--size={}", self.size),
            format!("--seconds={}", self.seconds.as_secs_f64()),
            format!("--congestion={}", self.congestion),
        ];
        let optional = [("workers", self.workers), ("lanes", self.lanes), ("sessions", self.sessions)];
        flags.extend(optional.iter().filter_map(|(name, n)| n.map(|n| format!("--{name}={n}"))));
        flags.extend(self.rate.map(|rate| format!("--rate={rate}")));
        flags
    }

    /// What cannot be measured, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let (sessions, threads) = (self.session_count(), self.threads.get());
        if sessions < threads {
            return Err(format!("{threads} threads cannot share {sessions} sessions: each session has one writer"));
        }
        if self.depth.get() > 1 && self.mode == ModeFlag::Asynchronous {
            return Err(String::from("nobody waits in asynchronous mode: --depth has no meaning there"));
        }
        if u32::try_from(sessions).is_err() {
            return Err(format!("{sessions} sessions are more than {}", u32::MAX));
        }
        Ok(())
    }
}

/// [`Mode`] as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeFlag {
    /// One socket per member; returns when all have acknowledged.
    Synchronous,
    /// Several sockets per member; returns when all have acknowledged.
    Pooled,
    /// Several sockets per member; returns when queued.
    Asynchronous,
}

impl ModeFlag {
    /// The word of the flag.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::Pooled => "pooled",
            Self::Asynchronous => "asynchronous",
        }
    }
}

impl From<ModeFlag> for Mode {
    fn from(flag: ModeFlag) -> Self {
        match flag {
            ModeFlag::Synchronous => Self::Synchronous,
            ModeFlag::Pooled => Self::Pooled,
            ModeFlag::Asynchronous => Self::Asynchronous,
        }
    }
}

/// [`AckLevel`] as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AckFlag {
    /// Handed to the operating system.
    None,
    /// Received whole and validated.
    Received,
    /// Merged and readable.
    Applied,
}

impl AckFlag {
    /// The word of the flag.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Received => "received",
            Self::Applied => "applied",
        }
    }
}

impl From<AckFlag> for AckLevel {
    fn from(flag: AckFlag) -> Self {
        match flag {
            AckFlag::None => Self::None,
            AckFlag::Received => Self::Received,
            AckFlag::Applied => Self::Applied,
        }
    }
}

/// Bytes that number an update, at the start of its payload.
pub(super) const STAMP: usize = 8;

/// The number that a payload opens with, 0 when it is too short for one.
pub(super) fn stamp_of(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        unit => return Err(format!("unknown unit {unit:?}: use k or m")),
    };
    let count: usize = digits.parse().map_err(|_| String::from("not a number of bytes"))?;
    match count.checked_mul(factor) {
        Some(size) if (STAMP..=BYTES_MAX).contains(&size) => Ok(size),
        _ => Err(format!("an update has {STAMP} to {BYTES_MAX} bytes")),
    }
}

/// Largest update: far above any session, low enough for the memory of a test machine.
const BYTES_MAX: usize = 32 << 20;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("not a number of seconds"))?;
    if !(0.01..=3600.0).contains(&seconds) {
        return Err(String::from("a measurement lasts 0.01 to 3600 seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1e8).contains(&rate) => Ok(rate),
        _ => Err(String::from("a rate is 0.1 to 100,000,000 updates a second")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        load: Load,
    }

    fn load(flags: &[&str]) -> Load {
        Flags::try_parse_from([&["bench"], flags].concat()).unwrap().load
    }

    #[test]
    fn flags_give_the_same_load_again() {
        let flags = ["--peers=3", "--mode=asynchronous", "--threads=16", "--size=16k", "--rate=1000.5", "--lanes=2"];
        let first = load(&flags).to_flags();
        let again: Vec<&str> = first.iter().map(String::as_str).collect();
        assert_eq!(load(&again).to_flags(), first);
        assert!(first.contains(&String::from("--size=16384")));
    }

    #[test]
    fn every_session_has_one_writer() {
        let load = load(&["--threads=3", "--sessions=10"]);
        let mut all: Vec<usize> = (0..3).flat_map(|thread| load.sessions_of(thread)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn large_updates_use_fewer_sessions() {
        assert_eq!(load(&["--size=255k"]).session_count(), 10_000);
        assert_eq!(load(&["--size=256k"]).session_count(), 1_024);
    }

    #[test]
    fn update_without_room_for_its_stamp_is_refused() {
        assert!(bytes("7").is_err());
        assert!(bytes("64m").is_err());
        assert!(bytes("1q").is_err());
        assert_eq!(bytes("8"), Ok(8));
    }

    #[test]
    fn more_threads_than_sessions_are_refused() {
        assert!(load(&["--threads=3", "--sessions=2"]).check().is_err());
    }
}
