//! Counters of a node: what happened how often, as monotonic numbers.
//!
//! [`Counters`] is the live form, shared and atomic; [`Stats`] the snapshot that an application reads.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters of a node; each is updated with relaxed ordering.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// A snapshot of [`Counters`] with the gauges beside them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Gauge: live sessions held.
            pub sessions: u64,
            /// Gauge: bytes held by the session store, tombstones included.
            pub session_bytes: u64,
            /// Gauge: tombstones held.
            pub tombstones: u64,
            /// Gauge: members in view, this node included.
            pub members: u64,
            /// Gauge: memory, in bytes, of what is queued to members and not yet handed to the operating system.
            pub queued_bytes: u64,
            /// Gauge: buckets of sessions in which members differed from this node when they were compared last.
            pub divergent: u64,
        }

        impl Counters {
            /// The counters as plain numbers, gauges zero.
            #[must_use]
            pub fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* ..Stats::default() }
            }
        }

        impl Stats {
            /// Every counter and gauge with its name, in declaration order.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("sessions", self.sessions),
                    ("session_bytes", self.session_bytes),
                    ("tombstones", self.tombstones),
                    ("members", self.members),
                    ("queued_bytes", self.queued_bytes),
                    ("divergent", self.divergent),
                ]
            }
        }
    };
}

counters! {
    /// Changes committed by this node's requests.
    commits,
    /// Session frames encoded.
    frames_encoded,
    /// Frames queued to members (one per member and frame).
    frames_sent,
    /// Frames received and validated.
    frames_received,
    /// Bytes written to replication sockets.
    bytes_sent,
    /// Bytes read from replication sockets.
    bytes_received,
    /// Session frames merged.
    merges,
    /// Those of them that were sent as the changes of a request: all but whole states, as of transfers, repairs and answers to pulls.
    changes_merged,
    /// Merges that left a record partial.
    partials,
    /// Present states asked for.
    pulls,
    /// Session frames refused in acks.
    refused,
    /// Requests that found their session ended.
    ended,
    /// Sessions expired by idleness here.
    expired,
    /// Sessions rescued from another member's expiry.
    rescued,
    /// Callers whose ack timeout passed.
    ack_timeouts,
    /// Times that a caller waited for a queue to fall below high water.
    back_pressure,
    /// Peers whose queue was given up and repaired.
    repairs,
    /// Buckets of sessions that were found to differ from a member's, and repaired.
    divergences,
    /// Bytes of digests and listings queued.
    compare_bytes,
    /// Sessions brought to members because they differed.
    repair_sessions,
    /// Bytes of those.
    repair_bytes,
    /// Milliseconds that repairs of members took, added up.
    repair_millis,
    /// Sessions dropped because they ended elsewhere, while this node was away for longer than tombstones live.
    forgotten,
    /// Lanes dialled again after a loss.
    reconnects,
    /// Members found to answer others and not this node.
    links_bad,
    /// Lanes closed because nothing was answered on them, though their member lives.
    lanes_cut,
    /// Pings sent.
    pings_sent,
    /// Pings received from members of this cluster.
    pings_received,
    /// Datagrams of other clusters.
    foreign_pings,
    /// Datagrams that were no ping.
    bad_pings,
    /// Links closed because of what the peer sent.
    bad_frames,
    /// Events dropped because nobody read them.
    events_dropped,
    /// `sendmsg` calls.
    sys_send,
    /// `recv` calls.
    sys_recv,
    /// `epoll_wait` calls.
    sys_poll,
    /// Wake-ups written.
    sys_wake,
    /// `epoll_ctl` calls after registration.
    sys_ctl,
}

/// Adds one, relaxed.
pub fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds `n`, relaxed.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
