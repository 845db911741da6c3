//! Identities and positions: members, sessions, versions, views.
//!
//! Everything here is a plain value with a total order. Nothing names a clock: a [`Version`] comes from
//! a Lamport counter, so that no wall clock ever takes part in deciding which write is newer.

use std::fmt;

/// One incarnation of one process: random, drawn at start, never reused.
///
/// A restart on the same address is a new member. Zero means "nobody" and is never drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(pub u64);

impl MemberId {
    /// Nobody: the value of fields that name no member.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{:016x}", self.0)
    }
}

/// A place in the history of a context: one Lamport counter, ties broken by the writer.
///
/// Versions order writes of one attribute. `Version::ZERO` is before every write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Lamport counter of the context, below 2^48.
    pub counter: u64,
    /// Who wrote.
    pub member: MemberId,
}

impl Version {
    /// Before every write.
    pub const ZERO: Self = Self { counter: 0, member: MemberId::NONE };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.counter, self.member)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}@{:x}", self.counter, self.member.0)
    }
}

/// A session's permanent identity, given at the create call and never reused.
///
/// The id that a cookie carries is only a *name* that leads here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid {
    /// Lamport counter of the context at creation.
    pub counter: u64,
    /// The creating member.
    pub member: MemberId,
}

impl Uid {
    /// A stable, well mixed hash of the identity: chooses the lane, the same on every member.
    ///
    /// The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    #[must_use]
    pub fn hash64(self) -> u64 {
        let mut z = self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.member.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.counter, self.member)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}/{:x}", self.counter, self.member.0)
    }
}

/// The number of a view; it rises by one with each change and is local to a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ViewId(pub u64);

/// Whether a node serves: what its pings and its handshakes say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum NodeState {
    /// Live for new changes, still merging snapshots; holds no promise yet.
    Joining = 0,
    /// Holds all state; its acks count.
    Ready = 1,
    /// Going on purpose; no new changes go to it.
    Leaving = 2,
}

impl NodeState {
    /// The state that a byte on the wire stands for.
    #[must_use]
    pub fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Joining),
            1 => Some(Self::Ready),
            2 => Some(Self::Leaving),
            _ => None,
        }
    }

    /// Whether requests may end on a node in this state.
    #[must_use]
    pub fn serves(self) -> bool {
        self == Self::Ready
    }

    /// The later of two states that were told of one incarnation: it never goes back, its words may overtake each other.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if other as u8 > self as u8 { other } else { self }
    }

    /// The lower-case word of the state.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Leaving => "leaving",
        }
    }
}

/// What a confirmation must mean before a synchronous caller returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum AckLevel {
    /// Handed to the operating system.
    None = 0,
    /// Received whole and validated by the member.
    Received = 1,
    /// Merged and readable at the member.
    Applied = 2,
}

/// Monotonic time since the start of the node (or of the simulation); the core never reads a clock.
pub type Time = std::time::Duration;
