//! Sessions for Redis clients, on a mio loop of its own.
//!
//! Any language's Redis client, told to use the agent on its own machine, keeps its sessions in the cluster: reads are
//! local, a write is answered when the other members have it (as the node's mode says), and `WAIT` tells how many do.
//! RESP2, RESP3 and inline commands are understood.
//!
//! # What a key is
//!
//! A key is a session of the context that `SELECT` chose: database *n* is the context whose name is the number *n*
//! in decimal, so database 0 is the context `"0"`. What Redis calls a string is the session's attribute with the empty
//! name; the fields of a hash are its other attributes. `SET` is a full write; `HSET` changes what it names, and two members
//! that change different fields at once keep both changes. A deleted key is a session that ended: a slower write
//! elsewhere does not bring it back. `RENAME` changes the session's id and keeps writes that are under way; where the
//! new name was taken, that session ends first.
//!
//! # Where it differs from Redis
//!
//! - A time to live counts from the last write (or `EXPIRE`) of the key, also for writes that do not name it.
//! - A key is removed with its last field; another member's write to it at that moment is lost with it.
//! - `SCAN` goes through the sessions in a fixed number of steps: what `COUNT` says is only where a step may end.
//! - `WAIT` asks about the connection's last write and does not wait for members that will never have it.
//! - An empty key names no session, and an empty field no attribute: both are errors.
//! - Only what sessions need is there; anything else gets Redis's error for an unknown command.
//!
//! ```text
//! client ─ bytes ─▶ resp: words ─▶ command: checked ─▶ exec: entry changes ─▶ node ─▶ ticket ─┐
//! client ◀─ bytes ─ replies, in order ◀───────────────────────── copies exist, or ack timeout ┘
//! ```
//!
//! One thread serves all clients and never waits for the other members: a reply that must wait is held in
//! `replies`, its connection goes on, and the ticket calls when copies exist.

mod command;
mod connection;
mod entry;
mod exec;
mod failure;
mod glob;
mod host;
mod info;
mod replies;
mod resp;
mod server;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::Poll;
use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use self::host::Host;
use self::server::{Remote, Server};
use crate::config::Config;
use crate::node::Node;
use crate::runtime;

/// What an agent's operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Clients at a time; more are refused with Redis's own error. Default 10,000, as in Redis.
    pub clients_max: usize,
    /// Databases that `SELECT` may choose from, each a context of the node. Default 16, as in Redis.
    pub databases: usize,
    /// Bytes that the buffers of all clients may hold together; a client whose buffer grows beyond it is disconnected.
    /// Default 1 GiB. A value or a session that is being sent or read whole needs up to twice its size.
    pub buffer_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { clients_max: 10_000, databases: 16, buffer_bytes_max: 1 << 30 }
    }
}

/// A running agent. Dropping it stops it; its node goes on.
#[derive(Debug)]
pub struct Agent {
    addr: SocketAddr,
    remote: Arc<Remote>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens on `addr` (port 0 draws a free one) and serves the node's sessions from a thread of its own.
    ///
    /// Clients may connect while the node is joining; until it is ready they are told `LOADING`.
    ///
    /// # Errors
    /// When the address is not loopback and the node's configuration does not say `insecure_plaintext` (clients are not
    /// authenticated), when it cannot be bound, or when the thread cannot be started.
    pub fn start(node: Node, addr: SocketAddr, settings: Settings) -> Result<Self, AgentError> {
        let place = Place::take(addr, node.config())?;
        Self::start_at(place, node, settings)
    }

    /// The same on an address that was taken before.
    ///
    /// # Errors
    /// When it cannot be listened on any more, or when the thread cannot be started.
    pub fn start_at(place: Place, node: Node, settings: Settings) -> Result<Self, AgentError> {
        let (listener, addr) = place.listen()?;
        let poll = Poll::new().map_err(AgentError::Thread)?;
        let remote = Arc::new(Remote::new(&poll).map_err(AgentError::Thread)?);
        let theirs = Arc::clone(&remote);
        let serve = move || match Server::new(Host::new(node, settings), poll, listener, theirs) {
            Ok(mut server) => server.run(),
            Err(error) => log::error!("agent: cannot watch the listener: {error}"),
        };
        let thread = runtime::spawn("hotspare-agent", serve).map_err(AgentError::Thread)?;
        Ok(Self { addr, remote, thread: Some(thread) })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Disconnects all clients and waits until the thread has ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("agent: its thread had panicked");
        }
    }
}

/// An address that is bound and not listened on yet, so that a node finds out before it joins that it could not serve.
/// Clients are refused meanwhile.
#[derive(Debug)]
pub struct Place {
    socket: Socket,
    addr: SocketAddr,
}

impl Place {
    /// Takes `addr` (port 0 draws a free one).
    ///
    /// # Errors
    /// When the address is not loopback and the configuration does not say `insecure_plaintext`, or when it cannot be bound.
    pub fn take(addr: SocketAddr, config: &Config) -> Result<Self, AgentError> {
        if !addr.ip().is_loopback() && !config.insecure_plaintext {
            return Err(AgentError::Insecure(addr));
        }
        let bound = || {
            let socket =
                Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
            // Two that may reuse an address can both have it until one listens. Only where connections of one that is gone still
            // linger is that needed.
            if socket.bind(&addr.into()).is_err() {
                socket.set_reuse_address(true)?;
                socket.bind(&addr.into())?;
            }
            Ok(socket)
        };
        let socket = bound().map_err(|error| AgentError::Bind(addr, error))?;
        Ok(Self { socket, addr })
    }

    fn listen(self) -> Result<(TcpListener, SocketAddr), AgentError> {
        let Self { socket, addr } = self;
        let listen = || {
            socket.listen(CLIENTS_WAITING)?;
            let listener = TcpListener::from_std(socket.into());
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        listen().map_err(|error| AgentError::Bind(addr, error))
    }
}

/// Clients that connected and were not accepted yet, at most, as in Redis.
const CLIENTS_WAITING: i32 = 511;

/// Why an agent did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The address is reachable from other machines, and clients are not authenticated.
    Insecure(SocketAddr),
    /// The address cannot be listened on.
    Bind(SocketAddr, io::Error),
    /// The thread or its poll cannot be had.
    Thread(io::Error),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insecure(addr) => {
                write!(
                    f,
                    "{addr} is not a loopback address and redis clients are not authenticated; listen on loopback, or set insecure_plaintext"
                )
            }
            Self::Bind(addr, error) => write!(
                f,
                "cannot listen for redis clients on {addr}: {error}. Remedies: another port (0 draws a free one), or an \
                 address of this machine"
            ),
            Self::Thread(error) => write!(f, "cannot start the agent's thread: {error}"),
        }
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Insecure(_) => None,
            Self::Bind(_, error) | Self::Thread(error) => Some(error),
        }
    }
}
