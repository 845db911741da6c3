//! The limit: the same workload over bare sockets, written by hand and doing nothing else.
//!
//! No membership, no merge, no repair: a session is a place in an array and a frame its number, its length and
//! its bytes. What a node costs beyond this is what its promises cost. Frames lie ready in the sessions' own
//! memory, so the sender copies nothing that it does not gather.

mod multiplexed;
mod receiver;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use super::load::{Load, STAMP};
use super::measure::{Caller, measure};
use super::process::{ProcessArgs, Receivers, Row, answer};
use super::report::Figures;
use multiplexed::Shared;
use receiver::Listener;

/// Receives over bare sockets until standard input ends.
pub(super) fn receive(args: &ProcessArgs) -> Result<(), String> {
    let listener = Listener::bind(args.load.session_count(), args.load.congestion()).map_err(words)?;
    answer(&listener, &listener.port().to_string())
}

/// Sends over bare sockets and measures.
pub(super) fn send(args: &ProcessArgs) -> Result<Figures, String> {
    let load = &args.load;
    let mut receivers = Receivers::start(args)?;
    let mut addrs = Vec::new();
    for port in receivers.words() {
        let port = port.parse().map_err(|_| format!("a receiver listens on {port:?}"))?;
        addrs.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let calls = AtomicU64::new(0);
    let mut newest = vec![0; load.session_count()];
    let mut figures = match args.row {
        Row::Multiplexed => {
            let shared = Shared::connect(load, &addrs, &calls).map_err(words)?;
            let mut callers = shared.callers(load);
            let figures = fill_and_measure(load, &mut callers, &mut receivers, &calls)?;
            drop(callers);
            shared.newest(&mut newest);
            figures
        }
        row => {
            let mut callers = connect(load, row, &addrs, &calls).map_err(words)?;
            let figures = fill_and_measure(load, &mut callers, &mut receivers, &calls)?;
            for (thread, caller) in callers.iter().enumerate() {
                for (slot, session) in load.sessions_of(thread).enumerate() {
                    newest[session] = caller.frames.stamp(slot);
                }
            }
            figures
        }
    };
    // The sockets are closed by now, which is when a receiver shows what it holds.
    figures.lost = figures.lost.max(super::measure::count(receivers.stale(&newest)?));
    Ok(figures)
}

/// Sends every session once, so that both sides have touched all memory, then measures.
fn fill_and_measure<C: Caller>(
    load: &Load,
    callers: &mut [C],
    receivers: &mut Receivers,
    calls: &AtomicU64,
) -> Result<Figures, String> {
    let mut sent = 0;
    for caller in &mut *callers {
        for slot in 0..caller.slots() {
            if !caller.update(slot) {
                return Err(String::from("a bare socket failed"));
            }
            sent += 1;
        }
        caller.finish();
    }
    receivers.settle(sent)?;
    measure(load, callers, receivers, || calls.load(Ordering::Relaxed))
}

/// One caller for each thread, each with a socket of its own to every receiver.
fn connect<'a>(load: &Load, row: Row, addrs: &[SocketAddr], calls: &'a AtomicU64) -> io::Result<Vec<PerThread<'a>>> {
    let room = if row == Row::Gathered { GATHERED } else { 0 };
    let answered = row == Row::PerThread;
    (0..load.threads.get())
        .map(|thread| {
            let sockets = addrs.iter().map(|addr| dial(*addr, load, answered)).collect::<io::Result<_>>()?;
            let frames = Frames::new(load.sessions_of(thread), load.size);
            Ok(PerThread { frames, sockets, answered, gathered: Vec::with_capacity(room), room, calls, count: 0 })
        })
        .collect()
}

/// Bytes gathered before a write.
const GATHERED: usize = 64 << 10;

/// A thread with sockets and sessions of its own.
struct PerThread<'a> {
    frames: Frames,
    sockets: Vec<TcpStream>,
    answered: bool,
    gathered: Vec<u8>,
    room: usize,
    /// Where this caller's own count goes when it has finished.
    calls: &'a AtomicU64,
    count: u64,
}

impl PerThread<'_> {
    fn exchange(&mut self, slot: usize) -> io::Result<()> {
        let frame = self.frames.renew(slot);
        if frame.len() <= self.room {
            if self.gathered.len() + frame.len() > self.room {
                write_all(&self.sockets, &self.gathered, &mut self.count)?;
                self.gathered.clear();
            }
            self.gathered.extend_from_slice(frame);
            return Ok(());
        }
        write_all(&self.sockets, frame, &mut self.count)?;
        if self.answered {
            // The last one written to answers last: whoever waits for it first waits once.
            for mut socket in self.sockets.iter().rev() {
                let mut ack = [0; ACK];
                socket.read_exact(&mut ack)?;
                self.count += 1;
            }
        }
        Ok(())
    }
}

impl Caller for PerThread<'_> {
    fn slots(&self) -> usize {
        self.frames.len()
    }

    fn update(&mut self, slot: usize) -> bool {
        self.exchange(slot).is_ok()
    }

    fn finish(&mut self) -> bool {
        let sent = write_all(&self.sockets, &self.gathered, &mut self.count).is_ok();
        self.gathered.clear();
        self.calls.fetch_add(std::mem::take(&mut self.count), Ordering::Relaxed);
        sent
    }
}

fn write_all(sockets: &[TcpStream], bytes: &[u8], calls: &mut u64) -> io::Result<()> {
    for mut socket in sockets {
        let mut rest = bytes;
        while !rest.is_empty() {
            *calls += 1;
            rest = &rest[socket.write(rest)?..];
        }
    }
    Ok(())
}

/// A socket of the measured kind. An answered update leaves at once; a stream runs at the kernel's default, where
/// small writes may join: with `TCP_NODELAY` one write each measured a fifth of the rate.
fn dial(addr: SocketAddr, load: &Load, answered: bool) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(answered)?;
    set_congestion(&socket, load.congestion())?;
    let mut hello = [0; HELLO];
    hello[..4].copy_from_slice(&word(load.size));
    hello[4..].copy_from_slice(&u32::from(answered).to_le_bytes());
    socket.write_all(&hello)?;
    Ok(socket)
}

fn set_congestion<S: std::os::fd::AsFd>(socket: &S, name: Option<&str>) -> io::Result<()> {
    match name {
        Some(name) => socket2::SockRef::from(socket).set_tcp_congestion(name.as_bytes()),
        None => Ok(()),
    }
}

/// Opens every connection: bytes of an update, whether to answer.
const HELLO: usize = 8;
/// Before every payload: number of the session, bytes of the payload.
const HEADER: usize = 8;
/// The answer: updates applied on this connection.
const ACK: usize = 8;

/// Sessions of one writer, each as a frame ready to send: header, then incompressible bytes that open with a stamp.
#[derive(Debug)]
struct Frames {
    memory: Vec<u8>,
    stride: usize,
}

impl Frames {
    fn new(sessions: impl Iterator<Item = usize>, size: usize) -> Self {
        let stride = HEADER + size;
        let mut memory = Vec::new();
        for session in sessions {
            memory.extend_from_slice(&frame(session, size));
        }
        Self { memory, stride }
    }

    fn len(&self) -> usize {
        self.memory.len() / self.stride
    }

    /// The frame of a session that has changed once more.
    fn renew(&mut self, slot: usize) -> &[u8] {
        let frame = &mut self.memory[slot * self.stride..][..self.stride];
        renew(frame);
        frame
    }

    fn stamp(&self, slot: usize) -> u64 {
        stamp(&self.memory[slot * self.stride..][..self.stride])
    }
}

/// A session's frame, its stamp still 0.
fn frame(session: usize, size: usize) -> Box<[u8]> {
    let mut bytes = vec![0; HEADER + size].into_boxed_slice();
    fastrand::fill(&mut bytes[HEADER + STAMP..]);
    bytes[..4].copy_from_slice(&word(session));
    bytes[4..HEADER].copy_from_slice(&word(size));
    bytes
}

fn renew(frame: &mut [u8]) {
    let next = stamp(frame) + 1;
    frame[HEADER..][..STAMP].copy_from_slice(&next.to_le_bytes());
}

fn stamp(frame: &[u8]) -> u64 {
    super::load::stamp_of(&frame[HEADER..])
}

/// A number below 2^32 as it is sent; `Load::check` has bounded all of them.
fn word(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn words(error: io::Error) -> String {
    format!("bare sockets: {error}")
}
