//! The words between membership and whoever drives it: plain values, no rules.

use std::net::SocketAddr;

use crate::id::{MemberId, NodeState, Time};
use crate::wire::Ping;

/// What a node tells its membership at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This incarnation.
    pub me: MemberId,
    /// Tag of the cluster's name; pings with another are foreign.
    pub cluster: u64,
    /// This node's name, for people.
    pub name: String,
    /// This node's route, by which load balancers know it.
    pub route: String,
    /// The address that others dial.
    pub addr: SocketAddr,
    /// Protocol versions that this node speaks: lowest, highest.
    pub versions: (u8, u8),
    /// Period of the pings.
    pub frequency: Time,
    /// Silence after which a member is suspect, and a candidate forgotten.
    pub drop_time: Time,
    /// How long one echo may take; two are tried.
    pub verify_timeout: Time,
    /// Most members in view, and most candidates for it, this node in neither.
    pub members_max: usize,
}

/// What a ping turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingVerdict {
    /// Of another cluster, or of no protocol version that this build speaks: counted and ignored.
    Foreign,
    /// This node's own, looped back.
    Own,
    /// Heard already, or of a member that is gone: no sign of life.
    Stale,
    /// New.
    Fresh,
}

/// What membership wants done, or tells.
///
/// A change of the view has happened when `Up`, `Down` or `Left` is polled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipAction {
    /// Send this ping to the group.
    Ping(Ping),
    /// Open a lane to a candidate. Answer with [`Membership::handle_admitted`](super::Membership::handle_admitted) or
    /// [`Membership::handle_dial_failed`](super::Membership::handle_dial_failed).
    Dial {
        /// Whom the handshake must find there.
        member: MemberId,
        /// Where.
        addr: SocketAddr,
        /// Its name.
        name: String,
    },
    /// Ask for an echo on a fresh connection. Answer with [`Membership::handle_verified`](super::Membership::handle_verified): at once where the
    /// connection is refused or finds another incarnation; silence counts as failure after `verify_timeout`.
    Verify {
        /// Whom the handshake must find there.
        member: MemberId,
        /// Where.
        addr: SocketAddr,
        /// What the echo carries, and the answer must.
        token: u64,
        /// Whether an echo failed before.
        again: bool,
    },
    /// Ask these members whether they reach a suspect. Answer with
    /// [`Membership::handle_reached`](super::Membership::handle_reached) where one does.
    AskOthers {
        /// Whom they are to reach.
        member: MemberId,
        /// What an answer must carry.
        token: u64,
        /// Whom to ask.
        others: Vec<MemberId>,
    },
    /// A suspect answers others and not this node: it stays in view, and the link between the two is bad.
    Unreachable {
        /// Which.
        member: MemberId,
    },
    /// A member entered the view.
    Up {
        /// Which.
        member: MemberId,
    },
    /// A member in view is being verified.
    Suspect {
        /// Which.
        member: MemberId,
    },
    /// A suspect is alive after all.
    Alive {
        /// Which.
        member: MemberId,
    },
    /// A suspect did not answer and is no longer in view.
    Down {
        /// Which.
        member: MemberId,
    },
    /// A member left on purpose and is no longer in view.
    Left {
        /// Which.
        member: MemberId,
    },
    /// A member that is not in view is of no interest any more: drop what lanes there are.
    Forget {
        /// Which.
        member: MemberId,
    },
}

/// How a known member is thought to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Heard within `drop_time`, as far as it is in view.
    Alive,
    /// In view and being verified.
    Suspect,
}

/// A member that this node knows of, in view or candidate.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its incarnation.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// Where it is dialled.
    pub addr: SocketAddr,
    /// Whether it serves: of a member in view by its own authenticated word, of a candidate by its last ping.
    pub state: NodeState,
    /// Whether it is in view.
    pub in_view: bool,
    /// Whether it is being verified.
    pub status: Status,
    /// The hash of its view in its last ping; zero before the first.
    pub view_hash: u64,
}
