//! What waits for the control loop: what workers and members left, in order, bounded.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::SegQueue;

use super::peer::SessionRef;
use crate::id::{MemberId, NodeState};
use crate::proto::outbound::GivenUp;
use crate::session::{BUCKETS, Digest};
use crate::wire::{Entry, Listing, Ping};

/// Bytes of inputs at which no more is read from members that list much; some hundreds of listings.
const BEHIND: usize = 32 << 20;
/// Bytes of inputs at which pings are dropped: they are repeated anyway.
const PINGS_MAX: usize = BEHIND + (8 << 20);

/// What the control loop must hear of.
#[derive(Debug)]
pub enum Input {
    /// A ping arrived.
    Ping(Ping, IpAddr),
    /// A member dialled this node and was accepted.
    Hello {
        /// Who.
        member: MemberId,
        /// Its name.
        name: String,
        /// Where it listens.
        addr: std::net::SocketAddr,
        /// What it said of itself.
        state: NodeState,
    },
    /// A lane to a member opened.
    LaneOpen {
        /// Who.
        member: MemberId,
        /// Its name.
        name: String,
        /// What it said of itself.
        state: NodeState,
        /// Which lane.
        lane: usize,
    },
    /// A lane to a member closed, or could not be opened.
    LaneLost {
        /// Who.
        member: MemberId,
        /// Which lane.
        lane: usize,
        /// Whether it had been open.
        opened: bool,
    },
    /// A member's connection to this node closed.
    InletLost(MemberId),
    /// A verification ended.
    Verified {
        /// Who.
        member: MemberId,
        /// The token of the verification.
        token: u64,
        /// Whether the echo came.
        ok: bool,
    },
    /// A member cannot reach another, and asks whether this node does.
    Reach {
        /// Who asks.
        from: MemberId,
        /// Whom it cannot reach.
        member: MemberId,
        /// What the answer carries.
        token: u64,
    },
    /// Another member reaches a suspect of this node: its id, and the token of the question.
    Reached(MemberId, u64),
    /// A joiner asks for everything.
    StateRequest(MemberId, u64),
    /// A donor sent everything on one lane.
    StateDone {
        /// The donor.
        member: MemberId,
        /// The round that it answers.
        round: u64,
        /// The lane that is done.
        lane: u16,
        /// Lanes that it uses.
        lanes: u16,
    },
    /// A member's state changed.
    Status(MemberId, NodeState),
    /// What a member shows of a context.
    Digest {
        /// Who.
        member: MemberId,
        /// The context.
        context: Vec<u8>,
        /// The number of the comparison that this begins.
        round: u64,
        /// The sums.
        digest: Digest,
    },
    /// What a member holds of buckets that differ.
    Listing(MemberId, Box<Listing>),
    /// Callers may have to wait for a member's queue.
    Pressed(MemberId),
    /// A member's queue was given up: what was in it is freed here, where no caller waits for that.
    Overflow(MemberId, Vec<GivenUp<SessionRef>>),
}

impl Input {
    /// Memory that it takes while it waits.
    fn bytes(&self) -> usize {
        let more = match self {
            Self::Digest { context, .. } => context.len() + size_of::<[u64; BUCKETS]>(),
            Self::Listing(_, listing) => {
                size_of::<Listing>() + listing.context.len() + listing.entries.len() * size_of::<Entry>()
            }
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

/// The queue of the control loop: anybody posts, it alone takes.
#[derive(Debug, Default)]
pub struct Inputs {
    queue: SegQueue<Input>,
    bytes: AtomicUsize,
}

impl Inputs {
    /// Leaves something. Pings are dropped while too much waits.
    pub fn post(&self, input: Input) {
        if matches!(input, Input::Ping(..)) && self.bytes.load(Ordering::Relaxed) >= PINGS_MAX {
            return;
        }
        self.bytes.fetch_add(input.bytes(), Ordering::Relaxed);
        self.queue.push(input);
    }

    /// The oldest.
    pub(super) fn take(&self) -> Option<Input> {
        let input = self.queue.pop()?;
        self.bytes.fetch_sub(input.bytes(), Ordering::Relaxed);
        Some(input)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether so much waits that whoever brings much is not to be read for now.
    pub fn are_behind(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= BEHIND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: usize) -> Input {
        let entry = Entry { uid: crate::id::Uid { counter: 1, member: MemberId(1) }, top: 1, fingerprint: 1 };
        let listing = Listing { entries: vec![entry; entries], ..Listing::of_nothing(b"app".to_vec(), 1) };
        Input::Listing(MemberId(1), Box::new(listing))
    }

    #[test]
    fn who_lists_much_is_not_read_while_listings_wait_and_is_read_again_when_they_were_taken() {
        let inputs = Inputs::default();
        let mut posted = 0;
        while !inputs.are_behind() {
            inputs.post(listing(4096));
            posted += 1;
        }
        assert!((100..1000).contains(&posted), "{posted} listings wait");
        assert!(inputs.take().is_some());
        assert!(!inputs.are_behind());
        while inputs.take().is_some() {}
        assert_eq!(inputs.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn pings_still_find_room_when_members_are_not_read_any_more() {
        let inputs = Inputs::default();
        while !inputs.are_behind() {
            inputs.post(listing(4096));
        }
        let from = IpAddr::from([127, 0, 0, 1]);
        let ping = Ping {
            versions: crate::wire::PROTOCOL,
            cluster: 1,
            member: MemberId(2),
            seq: 1,
            state: NodeState::Ready,
            addr: (from, 1).into(),
            name: String::from("two"),
            route: String::new(),
            view_hash: 0,
            uptime_ms: 0,
        };
        let behind = inputs.bytes.load(Ordering::Relaxed);
        for _ in 0..1 << 19 {
            inputs.post(Input::Ping(ping.clone(), from));
        }
        let bytes = inputs.bytes.load(Ordering::Relaxed);
        assert!(bytes > behind, "a ping found room");
        assert!(bytes < PINGS_MAX + 1000, "{bytes} bytes wait");
    }
}
