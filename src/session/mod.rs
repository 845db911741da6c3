//! The replicated data: a map that merges.
//!
//! Owns every session of the node: [`Store`] holds [`Context`]s, a context holds records by uid, an index of names that leads
//! to them, and tombstones. It knows no peer and no socket: changes leave as encoded frames through `emit`, and arrive as
//! decoded ones in [`Context::merge`]. It reads no clock either; the time is an argument.
//!
//! Invariant: merged state is a join-semilattice (see `record`), so stores that merged the same frames, in any order and any
//! number of times, hold the same. Every version held is at or below the context's clock. `bytes` is exact at every moment
//! at which no call is under way.
//!
//! | file | job |
//! |---|---|
//! | `record`, `attr` | the lattice: attributes, `top`, `exp`, `over`, partiality; tombstones |
//! | `context`, `shard`, `names` | tables, locks, index; reads |
//! | `handle`, `commit`, `kill` | a request: begin, create, commit, invalidate |
//! | `merge`, `repair`, `scan` | what arrives; present states, rescue, lifting; going through everything |
//! | `digest` | whether two members show the same |
//! | `sweep` | expiry, forgetting, burying |
//! | `emit` | from held state to frames |

mod attr;
mod commit;
mod context;
mod digest;
mod emit;
mod handle;
mod hash;
mod kill;
mod merge;
mod names;
mod record;
mod repair;
mod scan;
mod shard;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::time::Duration;

pub use attr::Key;
pub use commit::{Changes, Commit, CommitError, CommitStatus, Name};
pub use context::Context;
pub use digest::{BUCKETS, Buckets, Differs, Digest};
pub use emit::Emission;
pub use handle::Handle;
pub(crate) use hash::SHARDS;
pub use merge::{Merged, MergedEvent};
pub use repair::Separation;
pub use scan::Cursor;
pub use store::Store;
pub use sweep::Swept;

use smallvec::SmallVec;

use crate::buffer::Slice;
use crate::id::Version;
use record::Record;

/// Longest name of an attribute or a session, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;
/// Longest name of a context, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 255;

/// Caps of a store; every one is checked before anything changes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest value of one attribute.
    pub value_bytes_max: usize,
    /// Largest session: the lengths of its names and values.
    pub session_bytes_max: usize,
    /// Bytes that all contexts may hold, bookkeeping included. Kills, removals and touches are never refused for it.
    pub store_bytes_max: usize,
    /// Tombstones of one context; above it the oldest go.
    pub tombstones_max: usize,
    /// Contexts of a store.
    pub contexts_max: usize,
}

/// Replication settings of one context.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Idle time after which a session expires, unless it has its own.
    pub max_idle: Duration,
    /// How much longer members other than the last writer wait; also how long an expired session keeps its content.
    pub idle_grace: Duration,
    /// Accesses within this time of the last announced one are not announced.
    pub touch_interval: Duration,
    /// How long tombstones live.
    pub horizon: Duration,
}

/// Internal attribute keys: a kind byte, then the name.
pub mod key {
    /// An application's attribute.
    pub const ATTR: u8 = b'a';
    /// A name (id) of the session; its value is empty.
    pub const NAME: u8 = b'n';
    /// The session's own max idle time, u64 LE milliseconds; its name is empty.
    pub const IDLE: u8 = b'i';
}

/// Why a context was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// There are as many as may be: limit.
    TooManyContexts(usize),
    /// The name is too long: its length.
    NameTooLong(usize),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyContexts(limit) => write!(f, "the store has its limit of {limit} contexts"),
            Self::NameTooLong(len) => write!(f, "context name of {len} bytes is over the limit of {CONTEXT_BYTES_MAX}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Of an attribute: internal key, version, value (`None`: removed).
pub type AttrDump = (SmallVec<[u8; 16]>, Version, Option<Slice>);

/// A snapshot of one record for checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDump {
    /// A tombstone: nothing else is set then.
    pub dead: bool,
    /// It missed something, or lost its content after expiry.
    pub partial: bool,
    /// The highest version seen.
    pub top: Version,
    /// The `top` that an expirer saw; expired while it is not below `top`.
    pub exp: Version,
    /// Internal key, version, value (`None`: removed); sorted by key.
    pub attrs: Vec<AttrDump>,
}

impl RecordDump {
    fn of(record: &Record) -> Self {
        let attrs = record.attrs().iter();
        Self {
            dead: false,
            partial: record.is_partial(),
            top: record.top,
            exp: record.exp,
            attrs: attrs.map(|a| (SmallVec::from_slice(&a.key), a.version, a.value.clone())).collect(),
        }
    }

    fn dead() -> Self {
        Self { dead: true, partial: false, top: Version::ZERO, exp: Version::ZERO, attrs: Vec::new() }
    }
}
