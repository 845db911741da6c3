//! What a node tells its application, as plain values.

use crate::id::{MemberId, ViewId};

/// Something that happened in the cluster or to a session.
///
/// Events travel over a bounded queue; when nobody reads them the oldest stay, newer ones are dropped and
/// counted in [`Stats::events_dropped`](crate::stats::Stats::events_dropped).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member was admitted to the view: its handshake completed.
    MemberUp(MemberId, String, ViewId),
    /// A member was silent for `drop_time`, or its socket closed; it is being verified.
    MemberSuspect(MemberId, String),
    /// A suspect answers other members and not this node: it stays in view, and the link to it is bad.
    MemberUnreachable(MemberId, String),
    /// A suspect answered after all.
    MemberAlive(MemberId, String),
    /// A member did not answer and was removed from the view.
    MemberDown(MemberId, String, ViewId),
    /// A member left on purpose.
    MemberLeft(MemberId, String, ViewId),
    /// This node holds all state and serves.
    Ready(ReadyReason),
    /// A session was created: context and id. Events of sessions begin when this node is ready; what it has then, its state
    /// transfer brought.
    SessionCreated(String, Vec<u8>),
    /// A session changed: context and id.
    SessionChanged(String, Vec<u8>),
    /// A session was invalidated or expired: context and id.
    SessionEnded(String, Vec<u8>),
    /// The queue to a member rose above high water.
    BackPressureOn(MemberId, String),
    /// The queue to a member fell below low water.
    BackPressureOff(MemberId, String),
    /// A member's queue was given up; it is being repaired.
    RepairStarted(MemberId, String),
    /// A member under repair holds everything again.
    RepairDone(MemberId, String),
    /// A peer sent something unacceptable; its link was closed, or the datagram dropped.
    Refused(String),
}

/// Why a node opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyReason {
    /// Every ready member in view answered with all its state.
    Transferred,
    /// Nobody was ready for two ping periods, and this node has the lowest id of those starting.
    First,
    /// `stateTransferTimeout` passed; state of the named number of members is missing.
    TimedOut(u32),
}
