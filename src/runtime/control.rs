//! The control loop: multicast, the listener, timers, and what `Control` wants done.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::{TcpListener, UdpSocket};
use mio::{Events, Interest, Poll, Token};

use super::worker::Command;
use super::{ControlCommand, Port, Shell};
use crate::engine::{Action, Control, Effects, Input, Probe};
use crate::id::{NodeState, Time};
use crate::stats::{add, bump};
use crate::wire;

/// The token of the mailbox's waker.
pub(super) const WAKE: Token = Token(0);
const MULTICAST: Token = Token(1);
const LISTENER: Token = Token(2);
/// Datagrams read in one turn: a flood cannot keep the timers from running.
const DATAGRAMS_PER_TURN: usize = 256;

/// The control loop.
#[derive(Debug)]
pub(super) struct ControlLoop {
    shell: Arc<Shell>,
    control: Control<Port>,
    poll: Poll,
    multicast: UdpSocket,
    listener: TcpListener,
    group: SocketAddr,
    next_worker: usize,
    stop: bool,
}

impl ControlLoop {
    pub(super) fn new(
        shell: Arc<Shell>,
        control: Control<Port>,
        poll: Poll,
        multicast: std::net::UdpSocket,
        listener: std::net::TcpListener,
    ) -> io::Result<Self> {
        let mut multicast = UdpSocket::from_std(multicast);
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut multicast, MULTICAST, Interest::READABLE)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let group = SocketAddr::V4(shell.config.multicast);
        Ok(Self { shell, control, poll, multicast, listener, group, next_worker: 0, stop: false })
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut fx = Effects::default();
        self.turn(&mut fx);
        let mut more = false;
        while !self.stop {
            let timeout = if more {
                Some(Time::ZERO)
            } else {
                self.control.poll_timeout().map(|t| t.saturating_sub(self.shell.now()))
            };
            bump(&self.shell.core.counters.sys_poll);
            if let Err(e) = self.poll.poll(&mut events, timeout) {
                if e.kind() != io::ErrorKind::Interrupted {
                    log::error!("poll failed: {e}");
                    break;
                }
                continue;
            }
            let mut heard = more;
            for event in &events {
                match event.token() {
                    MULTICAST => heard = true,
                    LISTENER => self.accept(),
                    _ => {}
                }
            }
            // What waits in the sockets is read before anyone is judged by silence.
            more = heard && self.hear();
            self.read_mailbox(&mut fx);
            self.turn(&mut fx);
        }
        self.shell.note(|s| s.closed = true);
    }

    /// One turn of the engine: inputs, timers, actions.
    fn turn(&mut self, fx: &mut Effects<Port>) {
        let now = self.shell.now();
        self.control.handle_inputs(now, fx);
        self.control.handle_timeout(now, fx);
        while let Some(action) = self.control.poll_action() {
            self.act(action, now);
        }
        let ready = self.control.state() == NodeState::Ready;
        let waiting_for = self.control.waiting_for();
        self.shell.note(|s| {
            s.ready = ready;
            s.waiting_for = waiting_for.unwrap_or_default();
        });
        self.shell.apply(fx);
    }

    fn act(&mut self, action: Action<Port>, now: Time) {
        match action {
            Action::Ping(bytes) => {
                if let Err(e) = self.multicast.send_to(&bytes, self.group) {
                    self.shell.complain(None, "ping", || format!("cannot send a ping to {}: {e}", self.group));
                }
            }
            Action::Dial(lane) => {
                let worker = lane.get().port.worker;
                self.shell.workers[worker].mailbox.post(Command::Dial(lane));
            }
            Action::Probe { member, addr, token, within } => {
                let (probe, hello) = Probe::new(&self.shell.core, member, addr, token);
                let worker = self.next_worker();
                self.shell.workers[worker].mailbox.post(Command::Probe(Box::new(probe), hello, now + within));
            }
            Action::Cut(lane) => {
                // The end shows as an event to whoever reads it.
                if let Some(socket) = lane.get().port.socket() {
                    socket.shut();
                }
            }
            Action::Close(peer) => {
                for lane in peer.lanes() {
                    if let Some(socket) = lane.port.socket() {
                        socket.shut();
                    }
                    lane.port.set_socket(None);
                }
                for worker in &self.shell.workers {
                    worker.mailbox.post(Command::Close(peer.id()));
                }
            }
        }
    }

    fn next_worker(&mut self) -> usize {
        self.next_worker = (self.next_worker + 1) % self.shell.workers.len();
        self.next_worker
    }

    /// Reads datagrams; true when the turn ended before the socket was empty.
    fn hear(&self) -> bool {
        // One byte more than a ping, so that a longer datagram is told from one.
        let mut bytes = [0; wire::PING_LEN + 1];
        for _ in 0..DATAGRAMS_PER_TURN {
            let (n, from) = match self.multicast.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            match wire::decode_ping(&bytes[..n]) {
                Ok(ping) => self.shell.core.inputs().post(Input::Ping(ping, from.ip())),
                Err(error) => {
                    add(&self.shell.core.counters.bad_pings, 1);
                    self.shell.complain(Some(from.ip()), "datagram", || {
                        format!("datagram of {n} bytes from {from} is no ping: {error:?}")
                    });
                }
            }
        }
        true
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let worker = self.next_worker();
                    self.shell.workers[worker].mailbox.post(Command::Accepted(stream.into()));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    // Out of descriptors, say: the next connection tries again.
                    self.shell.complain(None, "accept", || format!("cannot accept: {e}"));
                    return;
                }
            }
        }
    }

    fn read_mailbox(&mut self, fx: &mut Effects<Port>) {
        let shell = Arc::clone(&self.shell);
        shell.control.begin();
        while let Some(command) = shell.control.take() {
            match command {
                ControlCommand::Leave => {
                    self.control.leave(shell.now(), fx);
                    while let Some(action) = self.control.poll_action() {
                        self.act(action, shell.now());
                    }
                    shell.apply(fx);
                    shell.note(|s| s.left = true);
                }
                ControlCommand::Stop => self.stop = true,
            }
        }
    }
}
