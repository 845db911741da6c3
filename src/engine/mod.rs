//! SANS-IO GLUE: what a node does with a frame, a request's end, a view change and a timer.
//!
//! The engine joins the session store and the protocol, which do not know each other. Its objects are driven by a
//! shell — `runtime` over real sockets, `sim` over simulated ones — and every rule of replication lives here, so that
//! both follow the same one:
//!
//! | object | owner | does |
//! |---|---|---|
//! | [`Core`] | shared | store, roster, peers; commits of requests, merges of frames |
//! | [`Inlet`] | whoever reads an accepted connection | frames → merge → ack |
//! | [`Outlet`] | whoever reads a dialled lane | handshake, acks → windows → waiting callers |
//! | [`Probe`] | whoever reads a verification | echo |
//! | [`Control`] | the control loop | membership, join, donation, repair, pulls, expiry, timers |
//!
//! Every call takes an [`Effects`] and leaves there what the shell must do afterwards, with no lock held: lanes to
//! write, callers to wake, and whether the control loop has input. `P` is whatever the shell keeps for a lane; the
//! engine never looks at it.
//!
//! # Who waits for whom
//!
//! A caller waits for space where a member's queue is above high water. Nobody waits for long for one that does not keep up:
//!
//! | member | callers | queue |
//! |---|---|---|
//! | takes in something | wait until it is below low water | kept |
//! | takes in nothing for 50 ms | go on, until it takes in something again | grows to its cap; then given up, and the member is repaired |
//! | takes in less than high water in the queue wait, stalls not counted | go on | given up, and the member is repaired |
//! | is brought state, and what changes meanwhile is as much | wait for the end of it, at most the queue wait, once | kept: changes are noted, and brought once |
//! | cannot be reached | go on | grows to its cap, until it is removed or reached again |
//!
//! A donation in turn waits for requests: while some are served its turns are short, and shorter where they begin late, which shows
//! that processors are scarce. What is brought in a second or two grows fast; a longer one is patient.

mod control;
mod core;
mod donor;
mod inlet;
mod input;
mod join;
mod outlet;
mod peer;
mod pull;
#[cfg(test)]
mod tests;

pub use self::control::{Action, Control, ControlSettings, MakePort};
pub use self::core::{Committed, Core, CoreSettings, Effects, Send};
pub use self::inlet::Inlet;
pub use self::input::{Input, Inputs};
pub use self::outlet::{Outlet, Probe};
pub use self::peer::{Lane, LaneRef, Peer, Roster, SessionRef};
