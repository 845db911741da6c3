//! What an application holds: a node, its contexts, and the views of its members.
//!
//! Everything here is thread-safe unless said. A [`Node`] owns threads from [`Node::start`] until [`Node::close`] or the
//! drop of its last clone; nothing runs before, so a host may fork first. After a fork the child gets errors, never a hang.

mod request;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::buffer::Slice;
use crate::config::{Config, Filter};
use crate::event::Event;
use crate::id::{MemberId, NodeState, ViewId};
use crate::runtime::{Shell, ShellError};
use crate::session;
use crate::stats::Stats;

pub use self::request::{EndError, Missing, Outcome, Request, Status, Ticket};
pub use crate::proto::op::MissingReason;
pub use crate::session::CommitError;

/// A running node; clones share it. The drop of the last one closes it.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    shell: Arc<Shell>,
    filter: Filter,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shell.close();
    }
}

impl Node {
    /// Checks the configuration, binds, and starts the threads.
    ///
    /// Returns at once; the node serves when [`Node::wait_ready`] says so.
    ///
    /// # Errors
    /// Every problem of the configuration at once, or what the system said to a socket or thread. Nothing runs then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if let Err(problems) = config.check() {
            if let Some(bind) = insecure(&config) {
                return Err(StartError::Insecure(bind));
            }
            return Err(StartError::Config(problems.iter().map(ToString::to_string).collect()));
        }
        let filter = Filter::compile(&config.filter).map_err(|e| StartError::Config(vec![e.to_string()]))?;
        let shell = Shell::start(config)?;
        Ok(Self { inner: Arc::new(Inner { shell, filter }) })
    }

    /// Waits until the node holds all state and serves.
    ///
    /// # Errors
    /// The timeout passed, or the node closed; it names what is waited for. Waiting again is fine.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady> {
        if self.inner.shell.is_forked() {
            return Err(NotReady(String::from("nothing: the process forked after the start")));
        }
        self.inner.shell.wait_ready(timeout).map_err(NotReady)
    }

    /// Whether the node holds all state and serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.shell.core.state() == NodeState::Ready && !self.inner.shell.is_closed()
    }

    /// This incarnation's id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.inner.shell.core.identity().member
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.shell.core.identity().name
    }

    /// Address that the receiver listens on and advertises.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.inner.shell.core.identity().addr
    }

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.shell.config
    }

    /// The members in view now.
    #[must_use]
    pub fn view(&self) -> ViewSnapshot {
        let core = &self.inner.shell.core;
        let roster = core.roster();
        let me = core.identity();
        let mut members = vec![MemberInfo {
            id: me.member,
            name: me.name.clone(),
            addr: me.addr,
            state: core.state(),
            suspect: false,
            repairing: false,
            divergent: 0,
        }];
        members.extend(roster.peers.iter().map(|peer| MemberInfo {
            id: peer.id(),
            name: peer.name().to_owned(),
            addr: peer.addr(),
            state: peer.state(),
            suspect: roster.view.get(peer.id()).is_some_and(|m| m.suspect),
            repairing: peer.is_repairing(),
            divergent: peer.divergence(),
        }));
        ViewSnapshot { id: roster.view.id, members }
    }

    /// Opens a context, or makes it.
    ///
    /// # Errors
    /// There are too many contexts, or the name is too long; nothing changed.
    pub fn context(&self, name: &str) -> Result<Context, ContextError> {
        let context = self.inner.shell.core.store().context(name.as_bytes()).map_err(|e| match e {
            session::StoreError::TooManyContexts(n) => ContextError::TooMany(n),
            session::StoreError::NameTooLong(n) => ContextError::NameTooLong(n),
        })?;
        Ok(Context { inner: Arc::clone(&self.inner), context, name: Arc::from(name) })
    }

    /// The next event, waiting at most `timeout`; `None` on timeout.
    #[must_use]
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.inner.shell.core.next_event(timeout)
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.shell.core.stats()
    }

    /// Waits until everything queued is acknowledged; false when the timeout passed first.
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        !self.inner.shell.is_forked() && self.inner.shell.drain(timeout)
    }

    /// Whether a member's queue is above high water. [`Request::end`] waits then; who must not, because it uses tickets,
    /// writes no more until [`Node::on_space`] calls.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.inner.shell.core.is_pressed()
    }

    /// Wakes `waker` once when queues have space again. Ask [`Node::is_pressed`] after this: space may have come before.
    pub fn on_space(&self, waker: Waker) {
        self.inner.shell.core.wake_on_space(waker);
    }

    /// Leaves on purpose: drains at most `timeout`, tells the members, stops the threads. Calls after it find the node
    /// closed.
    pub fn leave(&self, timeout: Duration) {
        if !self.inner.shell.is_forked() {
            self.inner.shell.leave(timeout);
        }
    }

    /// Stops at once; members see closed sockets, as in a crash.
    pub fn close(&self) {
        self.inner.shell.close();
    }

    /// Monotonic time since the start, by which the store's ages go.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.inner.shell.now()
    }
}

fn insecure(config: &Config) -> Option<IpAddr> {
    (!config.bind.is_loopback() && !config.insecure_plaintext).then_some(config.bind)
}

/// The members in view at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSnapshot {
    /// Rises with each change of the view.
    pub id: ViewId,
    /// This node first, then the others by member id.
    pub members: Vec<MemberInfo>,
}

/// One member in view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its incarnation.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Address that it listens on.
    pub addr: SocketAddr,
    /// What it said of itself last.
    pub state: NodeState,
    /// Whether it is being verified.
    pub suspect: bool,
    /// Whether it is being brought up to date.
    pub repairing: bool,
    /// In how many of the 4,096 buckets of each context, taken together, it held something else when the two last compared.
    pub divergent: u32,
}

/// One web application's sessions on this node.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
    context: Arc<session::Context>,
    name: Arc<str>,
}

impl Context {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Live sessions held.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.context.sessions()
    }

    /// One attribute, without a request, without a copy, and without moving the idle timer.
    #[must_use]
    pub fn get(&self, id: &[u8], name: &[u8]) -> Option<Slice> {
        self.context.read(id, name, self.inner.shell.recent()).map(|(_, value)| value)
    }

    /// The ids in one part of the index, in no order; `None` past the last part. An id that leads to a session all the
    /// while is in exactly one part; some lead to sessions that a request does not find, because they are partial or due.
    #[must_use]
    pub fn ids(&self, part: usize) -> Option<Vec<Slice>> {
        self.context.ids(part)
    }

    /// Starts a request on the session that `id` leads to; [`Request::exists`] tells whether there is one.
    #[must_use]
    pub fn begin(&self, id: &[u8]) -> Request {
        Request::begin(self, id)
    }

    /// Starts a request that makes a session under `id`, where there is none; else it is like [`Context::begin`].
    #[must_use]
    pub fn create(&self, id: &[u8]) -> Request {
        let mut request = Request::begin(self, id);
        request.create();
        request
    }
}

/// Why a node did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Every problem of the configuration.
    Config(Vec<String>),
    /// An address off loopback without a credential.
    Insecure(IpAddr),
    /// The receiver's address could not be bound.
    Bind(SocketAddr, std::io::Error),
    /// The group could not be joined: group and interface.
    Multicast(String, std::io::Error),
    /// The system gave no thread, poll or randomness.
    System(std::io::Error),
}

impl From<ShellError> for StartError {
    fn from(e: ShellError) -> Self {
        match e {
            ShellError::Bind(addr, e) => Self::Bind(addr, e),
            ShellError::Multicast(what, e) => Self::Multicast(what, e),
            ShellError::Thread(e) => Self::System(e),
            ShellError::Random(e) => Self::System(std::io::Error::other(e)),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => {
                write!(f, "the configuration has {} problem(s)", problems.len())?;
                for problem in problems {
                    write!(f, "\n  {problem}")?;
                }
                Ok(())
            }
            Self::Insecure(bind) => write!(
                f,
                "refusing to listen on {bind}: it would carry sessions in plaintext, and whoever reaches the port could read \
                 and write them. Remedies: bind to loopback; run an encrypted tunnel and set `insecure_plaintext`; or set it \
                 (`--insecure-plaintext`) because everybody on that network is trusted"
            ),
            Self::Bind(addr, e) => write!(
                f,
                "cannot listen on {addr}: {e}. Remedies: another `port` (0 draws a free one), a larger `auto_bind`, or an \
                 address of this machine as `bind`"
            ),
            Self::Multicast(what, e) => write!(
                f,
                "cannot join multicast {what}: {e}. `ip route get <group>` shows the route, `ip maddr show` the groups; \
                 `interface` names the address of the interface to use"
            ),
            Self::System(e) => write!(f, "the system refused a thread, a poll or randomness: {e}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, e) | Self::Multicast(_, e) | Self::System(e) => Some(e),
            Self::Config(_) | Self::Insecure(_) => None,
        }
    }
}

/// The node did not become ready in time; what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady(pub String);

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready yet: waiting for {}", self.0)
    }
}

impl std::error::Error for NotReady {}

/// Why a context was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextError {
    /// So many exist already.
    TooMany(usize),
    /// The longest name, in bytes.
    NameTooLong(usize),
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(n) => write!(f, "{n} contexts exist, no more are allowed"),
            Self::NameTooLong(n) => write!(f, "the context's name is longer than {n} bytes"),
        }
    }
}

impl std::error::Error for ContextError {}
