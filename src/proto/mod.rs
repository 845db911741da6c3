//! SANS-IO: membership, views, links, windows and timers.
//!
//! Nothing in this room names a clock, a socket, a thread or a global random source: time and randomness
//! come in as arguments. The contract of each state machine is that of quinn and str0m: getters, commands,
//! `handle_*` (what arrived), `poll_*` (what to do). After a mutation, drain `poll_*` before the next one.

pub mod backoff;
pub mod link;
pub mod membership;
pub mod op;
pub mod outbound;
pub mod timer;
pub mod view;
