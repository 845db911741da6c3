//! A hot spare of every HTTP session.
//!
//! hotspare keeps sessions alive when a server dies. Every node of a cluster finds the others by multicast ping, sends each
//! session change over pooled TCP connections the moment a request ends, and can serve any session whose node is gone:
//! local reads, no central store, and an ack that means *applied*.
//!
//! # Two nodes in one process
//!
//! ```
//! use std::time::Duration;
//! use hotspare::{Config, Node};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::loopback();
//! # config.multicast = std::net::SocketAddrV4::new([239, 255, 71, 19].into(), 46_719);
//! config.cluster = "docs".into();
//! config.name = "a".into();
//! let a = Node::start(config.clone())?;
//! config.name = "b".into();
//! let b = Node::start(config)?;
//! a.wait_ready(Duration::from_secs(5))?;
//! b.wait_ready(Duration::from_secs(5))?;
//! # let deadline = a.now() + Duration::from_secs(5);
//! # while a.view().members.iter().filter(|m| m.state == hotspare::NodeState::Ready).count() < 2 && a.now() < deadline { a.next_event(Duration::from_millis(20)); }
//!
//! // A request on a: the session is created, changed, and replicated before `end` returns.
//! let shop = a.context("/shop")?;
//! let mut request = shop.create(b"S1");
//! request.set(b"user", b"ada");
//! let outcome = request.end("/login")?;
//! assert_eq!(outcome.copies, 2);
//!
//! // b can serve it: the same bytes, read in place.
//! let request = b.context("/shop")?.begin(b"S1");
//! assert_eq!(request.get(b"user"), Some(&b"ada"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # One direction
//!
//! ```text
//! application ─ request end ─▶ session store (merge, new version) ─▶ frame encoded once ─▶ placement(view)
//!    ─▶ outbound queue of each peer's lane ─▶ one sendmsg ═══TCP═══▶ read in place
//!    ─▶ decoder (each byte validated once) ─▶ peer's session store (merge) ─▶ event
//!    ─▶ cumulative ack ─▶ sender's window frees ─▶ waiting caller wakes with the count of copies
//! ```
//!
//! A session is pinned to a **lane**, one pooled connection, by the hash of its identity; a lane to a **worker**, one of
//! `tcpThreadCount` threads with a poll of its own. Order in a lane, cumulative acks and reading without locks follow.
//! Correctness never depends on that order: sessions [merge](session).
//!
//! # Rooms
//!
//! | room | what | knows |
//! |---|---|---|
//! | [`buffer`] | pooled, aligned, reference-counted memory | nothing |
//! | [`wire`] | bytes ⇄ typed frames | no clock, lock or socket |
//! | [`session`] | the replicated data: merge, expiry, snapshot | no peer, no socket |
//! | [`proto`] | membership, view, link, window, timers; sans-IO | no session |
//! | [`engine`] | what a node does with a frame, a request's end, a view change, a timer; sans-IO | both |
//! | [`runtime`] | the thin shell on mio: clocks, sockets, threads | the engine |
//! | [`node`] | what an application holds | everything below |
//!
//! The core takes time, bytes and randomness as arguments. The same objects run under `runtime` and under `sim`, where one seed
//! replays a whole cluster with its faults.
//!
//! # What is promised, and what is not
//!
//! With applied acks (the default), a change whose outcome names nobody missing survives the loss of all but one of the nodes that
//! hold it; the outcome counts them (one, where a node is alone). A logout stays a logout: writes of slower requests answer [`Status::Ended`] and bring nothing back.
//! Of two writes to one attribute the later [`Version`] wins, by Lamport time, whatever the clocks say. In asynchronous mode
//! what is in flight when a node dies is lost. A partition serves both sides; they merge when it heals. Sessions are held in
//! memory: when every node dies, they are gone. Traffic is plaintext; anything but loopback must be asked for.
//!
//! # Threads
//!
//! [`Node::start`] starts one control thread and `workers` I/O threads, with every signal blocked in them; nothing runs before.
//! A synchronous [`Request::end`] writes from the caller's thread and, where it can, reads its own ack there. A process that
//! forks after the start gets errors from the child's calls, never a hang.

#[cfg(feature = "cli")]
pub mod agent;
pub mod buffer;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod engine;
pub mod event;
pub mod id;
mod mark;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
pub mod node;
pub mod proto;
pub mod runtime;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
pub mod wire;

pub use crate::buffer::Slice;
pub use crate::config::{Config, Mode};
pub use crate::event::Event;
pub use crate::id::{AckLevel, MemberId, NodeState, Uid, Version, ViewId};
pub use crate::node::{
    CommitError, Context, ContextError, EndError, MemberInfo, Missing, MissingReason, Node, NotReady, Outcome, Request,
    StartError, Status, Ticket, ViewSnapshot,
};
pub use crate::stats::Stats;
