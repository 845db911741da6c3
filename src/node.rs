//! CONTRACT (to be implemented): what an application holds. Everything here is thread-safe unless said.

use std::net::SocketAddr;
use std::time::Duration;

use crate::buffer::Slice;
use crate::config::Config;
use crate::event::Event;
use crate::id::{AckLevel, MemberId, NodeState, Version, ViewId};
use crate::session::CommitError;
use crate::stats::Stats;

/// A running node; clones share it. The last drop closes it.
#[derive(Clone, Debug)]
pub struct Node { _p: () }
impl Node {
    /// Checks the configuration, binds, starts threads. Returns at once; the node serves when [`Node::wait_ready`] says so.
    pub fn start(_config: Config) -> Result<Self, StartError> { todo!() }
    pub fn wait_ready(&self, _timeout: Duration) -> Result<(), NotReady> { todo!() }
    pub fn is_ready(&self) -> bool { todo!() }
    pub fn id(&self) -> MemberId { todo!() }
    pub fn name(&self) -> &str { todo!() }
    /// Address that the receiver listens on.
    pub fn addr(&self) -> SocketAddr { todo!() }
    pub fn config(&self) -> &Config { todo!() }
    pub fn view(&self) -> ViewSnapshot { todo!() }
    /// Opens (or makes) a context.
    pub fn context(&self, _name: &str) -> Result<Context, ContextError> { todo!() }
    /// Next event, waiting at most `timeout`; `None` on timeout or after close.
    pub fn next_event(&self, _timeout: Duration) -> Option<Event> { todo!() }
    pub fn stats(&self) -> Stats { todo!() }
    /// Waits until everything queued is acknowledged, or the timeout; true when empty.
    pub fn drain(&self, _timeout: Duration) -> bool { todo!() }
    /// Leaves on purpose: drains, tells the members, stops the threads.
    pub fn leave(&self, _timeout: Duration) { todo!() }
    /// Stops at once, as a crash would look except that sockets close.
    pub fn close(&self) { todo!() }
    /// Monotonic time since start, the one that the store's ages use.
    pub fn now(&self) -> Duration { todo!() }
}

/// The members in view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSnapshot { pub id: ViewId, /// This node first, then the others by member id.
    pub members: Vec<MemberInfo> }
/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo { pub id: MemberId, pub name: String, pub addr: SocketAddr, pub state: NodeState, pub suspect: bool, pub repairing: bool }

/// One web application's sessions on this node.
#[derive(Clone, Debug)]
pub struct Context { _p: () }
impl Context {
    pub fn name(&self) -> &str { todo!() }
    pub fn sessions(&self) -> usize { todo!() }
    /// One attribute, without a request and without moving the idle timer.
    pub fn get(&self, _id: &[u8], _name: &[u8]) -> Option<Slice> { todo!() }
    /// Starts a request on the session named `id`, if any: `exists` tells.
    pub fn begin(&self, _id: &[u8]) -> Request { todo!() }
    /// Starts a request that makes a new session under `id` (beside nothing: use when `begin` found none).
    pub fn create(&self, _id: &[u8]) -> Request { todo!() }
}

/// One request's work on one session. Not `Sync`; one thread at a time. Dropping it without `end` discards it.
#[derive(Debug)]
pub struct Request { _p: () }
impl Request {
    pub fn id(&self) -> &[u8] { todo!() }
    pub fn exists(&self) -> bool { todo!() }
    pub fn is_new(&self) -> bool { todo!() }
    /// Makes the session when there is none.
    pub fn create(&mut self) { todo!() }
    /// An attribute, this request's own writes included; borrowed, no copy.
    pub fn get(&self, _name: &[u8]) -> Option<&[u8]> { todo!() }
    /// Names with version of what was read at begin (`Version::ZERO` for own writes), own writes included.
    pub fn attributes(&self) -> Vec<(&[u8], Version, &[u8])> { todo!() }
    /// Version of an attribute as read at begin.
    pub fn version(&self, _name: &[u8]) -> Option<Version> { todo!() }
    pub fn remaining_idle(&self) -> Option<Duration> { todo!() }
    pub fn max_idle(&self) -> Option<Duration> { todo!() }
    /// Copies the value once.
    pub fn set(&mut self, _name: &[u8], _value: &[u8]) { todo!() }
    /// Takes the value over without a copy.
    pub fn set_owned(&mut self, _name: &[u8], _value: Vec<u8>) { todo!() }
    pub fn remove(&mut self, _name: &[u8]) { todo!() }
    /// The whole session as the application holds it: sends only what differs from what was read at begin.
    pub fn replace_all<'a>(&mut self, _attrs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) { todo!() }
    pub fn touch(&mut self) { todo!() }
    pub fn invalidate(&mut self) { todo!() }
    pub fn change_id(&mut self, _new_id: &[u8]) { todo!() }
    pub fn set_max_idle(&mut self, _idle: Duration) { todo!() }
    /// Ends the request: filter, commit, replicate as the mode says, wait as the mode says.
    pub fn end(self, _uri: &str) -> Result<Outcome, EndError> { todo!() }
    /// The same without waiting, whatever the mode: the ticket tells when copies exist.
    pub fn end_with_ticket(self, _uri: &str) -> Result<Ticket, EndError> { todo!() }
}

/// Replication under way. Dropping it does not cancel anything.
#[derive(Debug)]
pub struct Ticket { _p: () }
impl Ticket {
    pub fn is_done(&self) -> bool { todo!() }
    /// Waits at most `timeout`; what is missing then is named in the outcome, the change stays queued.
    pub fn wait(self, _timeout: Duration) -> Outcome { todo!() }
    /// The outcome as of now.
    pub fn outcome(&self) -> Outcome { todo!() }
    /// Wakes `waker` when done (at once if it is).
    pub fn on_done(&self, _waker: std::task::Waker) { todo!() }
}

/// What became of a request's change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome { pub status: Status, /// Version of the change, `Version::ZERO` where there is none.
    pub version: Version, /// Copies that exist as the ack level asks, this node's included.
    pub copies: u32, /// Who was in view and has no copy, and why.
    pub missing: Vec<Missing> }
impl Outcome { /// Whether nobody is missing and the session had not ended.
    pub fn is_complete(&self) -> bool { todo!() } }
/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status { /// Replicated, or under way in asynchronous mode.
    Replicated, /// Queued to `n` members (asynchronous mode).
    Queued(u32), /// Nothing changed, or nothing to announce.
    Unchanged, /// The URI is filtered: changed here, sent to nobody.
    Filtered, /// The session had ended elsewhere; nothing was written.
    Ended }
/// A member without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing { pub member: MemberId, pub name: String, pub reason: MissingReason }
/// Why a member has no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingReason { /// No acknowledgement in time; the change stays queued.
    Timeout, /// It went down or left.
    Down, /// Its queue was over the cap; it is being repaired.
    Repair, /// It is still joining.
    Joining, /// It holds the session only in part and has asked for the rest.
    Partial, /// It refused the frame (too large, or full).
    Refused }

/// Why a request could not end; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndError { /// Too large or full.
    Commit(CommitError), /// `set` on a session that does not exist and was not created.
    NoSession, /// The node is not ready or has closed.
    NotServing, /// The process forked after the start.
    Forked }
/// Why a node did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError { Config(Vec<String>), Bind(SocketAddr, std::io::Error), Multicast(String, std::io::Error), Insecure(std::net::IpAddr), Thread(std::io::Error) }
/// The node did not become ready in time; what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady(pub String);
/// Why a context was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextError { TooMany(usize), NameTooLong(usize) }
