//! Receiving end: a thread for each connection that keeps the newest bytes of every session it hears of.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::super::load::stamp_of;
use super::super::process::Receiver;
use super::{ACK, HEADER, HELLO, set_congestion};

/// A listener and what its connections have received.
#[derive(Debug)]
pub(super) struct Listener {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    applied: AtomicU64,
    calls: AtomicU64,
    sessions: usize,
    ended: Mutex<Ended>,
    all_ended: Condvar,
}

/// What connections left behind when they closed.
#[derive(Debug)]
struct Ended {
    open: usize,
    stamps: Vec<u64>,
}

impl Listener {
    /// Listens on loopback and accepts from now on.
    pub(super) fn bind(sessions: usize, congestion: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        set_congestion(&listener, congestion)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            applied: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            sessions,
            ended: Mutex::new(Ended { open: 0, stamps: vec![0; sessions] }),
            all_ended: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name(String::from("accept")).spawn(move || accept(&listener, &accepting))?;
        Ok(Self { port, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Receiver for Listener {
    fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    fn syscalls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    fn stamps(&self) -> Vec<u64> {
        let mut ended = self.shared.ended.lock();
        let deadline = Instant::now() + CLOSING;
        while ended.open > 0 && !self.shared.all_ended.wait_until(&mut ended, deadline).timed_out() {}
        ended.stamps.clone()
    }
}

/// The sender has closed by the time that stamps are asked for.
const CLOSING: Duration = Duration::from_secs(5);

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else { return };
        shared.ended.lock().open += 1;
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name(String::from("receive")).spawn(move || {
            let mut held = Held::default();
            if let Err(e) = receive(&socket, &mut held, &shared) {
                eprintln!("bare receiver: {e}");
            }
            let mut ended = shared.ended.lock();
            for (session, payload) in held.places.iter().enumerate().filter(|(_, payload)| !payload.is_empty()) {
                ended.stamps[session] = stamp_of(payload);
            }
            ended.open -= 1;
            shared.all_ended.notify_all();
        });
        if thread.is_err() {
            return;
        }
    }
}

/// The newest bytes of every session that came over one connection.
#[derive(Debug, Default)]
struct Held {
    places: Vec<Box<[u8]>>,
}

impl Held {
    /// Where the payload of `session` is kept; `None` for a session out of range.
    fn place(&mut self, session: usize, size: usize) -> Option<&mut [u8]> {
        let place = self.places.get_mut(session)?;
        if place.is_empty() {
            *place = vec![0; size].into_boxed_slice();
        }
        Some(place)
    }
}

fn receive(mut socket: &TcpStream, held: &mut Held, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut hello = [0; HELLO];
    socket.read_exact(&mut hello)?;
    let (size, answered) = (word(&hello[..4]), word(&hello[4..]) != 0);
    held.places.resize(shared.sessions, Box::default());

    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut applied) = (0, 0_u64);
    loop {
        let n = socket.read(&mut buffer[filled..])?;
        let mut calls = 1;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let (mut start, mut count) = (0, 0);
        while filled - start >= HEADER {
            let session = word(&buffer[start..][..4]);
            let length = word(&buffer[start + 4..][..4]);
            let place = held.place(session, size).filter(|place| place.len() == length);
            let place = place.ok_or(io::ErrorKind::InvalidData)?;
            let there = (filled - start - HEADER).min(size);
            if there < size && HEADER + size <= BUFFER {
                break;
            }
            place[..there].copy_from_slice(&buffer[start + HEADER..][..there]);
            // What did not fit the buffer goes straight to its place.
            let mut rest = &mut place[there..];
            while !rest.is_empty() {
                let n = socket.read(rest)?;
                calls += 1;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                rest = &mut rest[n..];
            }
            start += HEADER + there;
            count += 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if count > 0 {
            applied += count;
            shared.applied.fetch_add(count, Ordering::Release);
            if answered {
                let ack: [u8; ACK] = applied.to_le_bytes();
                socket.write_all(&ack)?;
                calls += 1;
            }
        }
        shared.calls.fetch_add(calls, Ordering::Relaxed);
    }
}

/// Bytes asked for at once.
const BUFFER: usize = 128 << 10;

/// A number of the protocol; a short slice cannot occur.
fn word(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)) as usize
}
