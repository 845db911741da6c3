//! The faults that a cluster must live through, and where each is shown.

/// A fault.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) proof: Proof,
}

/// Where a fault is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By tests here, whose names begin with the id.
    Run,
    /// By a check of the simulator.
    Simulator(&'static str),
    /// Nowhere so far, and why.
    NotYet(&'static str),
}

use Proof::{NotYet, Run, Simulator};

const fn entry(id: &'static str, title: &'static str, proof: Proof) -> Entry {
    Entry { id, title, proof }
}

pub(crate) const CATALOGUE: &[Entry] = &[
    entry("F01", "a member is killed", Run),
    entry("F02", "two members are killed at once", Run),
    entry("F03", "a host is gone without a word", Run),
    entry("F04", "a member is stopped", Run),
    entry("F05", "a removed member goes on", Run),
    entry("F06", "a member stalls again and again", Run),
    entry("F07", "a half-open connection", Run),
    entry("F08", "a reset in the midst of a frame", Run),
    entry("F09", "a member that does not read", Run),
    entry("F10", "a partition into halves", Run),
    entry("F11", "loss one way", Run),
    entry("F12", "a partial partition", Run),
    entry("F13", "a link that flaps", Run),
    entry("F14", "one host is isolated", Run),
    entry("F15", "multicast is lost, TCP works", Run),
    entry("F16", "multicast works, TCP is blocked", Run),
    entry("F17", "pings duplicated and out of order", Run),
    entry("F18", "bytes changed on the way", Run),
    entry("F19", "lanes that overtake each other", Simulator("I3, I4; streams of one pair have delays of their own")),
    entry("F20", "the wall clock jumps", Run),
    entry("F21", "wall clocks differ", Run),
    entry("F22", "monotonic clocks drift", Simulator("I1, accuracy; each process has a clock rate of its own")),
    entry("F23", "the store's disk fails", NotYet("there is no store")),
    entry("F24", "the store's database fails", NotYet("there is no store")),
    entry("F25", "a memory cap is reached", Run),
    entry("F26", "descriptors run out", Run),
    entry("F27", "a bad or taken address", Run),
    entry("F28", "two clusters in one group", Run),
    entry("F29", "a restart on the same address", Run),
    entry("F30", "a join under load", Run),
    entry("F31", "all start at once", Run),
    entry("F32", "a donor dies", Run),
    entry("F33", "a joiner dies", Run),
    entry("F34", "writes race with a state transfer", Run),
    entry("F35", "an end races with a late change", Run),
    entry("F36", "an expiry races with an access", Run),
    entry("F37", "a partition longer than tombstones live", Run),
    entry("F38", "a session of 64 MiB", Run),
    entry("F39", "very many small sessions", Run),
    entry("F40", "one id made twice", Run),
    entry("F41", "one session changed on two members", Run),
    entry("F42", "versions mixed", NotYet("there is one version; tests/golden pins its bytes")),
    entry("F43", "garbage", Run),
    entry("F44", "an oversized length", Run),
    entry("F45", "idle connections", Run),
    entry("F46", "a member with another key", NotYet("there are no keys")),
    entry("F47", "pings of the dead replayed", Run),
    entry("F48", "pings that name a victim", NotYet("pings have no MAC")),
    entry("F49", "crossed dials", Simulator("I1, I2; a lane has one dialler, so nothing is crossed")),
    entry("F50", "a leave and an instant return", Run),
    entry("F51", "misuse through C", NotYet("there is no C ABI")),
    entry("F52", "fork and signals of the host", NotYet("there is no C ABI")),
];
