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
