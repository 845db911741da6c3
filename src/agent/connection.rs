//! One client's connection: bytes in, commands in order, replies in order, bytes out.
//!
//! Owns the socket and both buffers. A turn does a bounded amount of work and never waits: where replies are held,
//! or the client does not read them, its commands stay in the buffer, then in the socket, then with the client.

use std::io::{self, Read as _, Write as _};
use std::task::Waker;

use mio::net::TcpStream;

use super::command::Keys;
use super::exec::{self, Client, Next};
use super::host::Host;
use super::replies::Replies;
use super::resp::Decoder;
use crate::id::Time;
use crate::node::Ticket;

/// Bytes that a connection reads in one turn, about; then it is another's.
const TURN_BYTES: usize = 256 << 10;
/// Bytes of a single read.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// An input buffer larger than this is given back when it is empty.
const KEEP_BYTES: usize = 4 << 10;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    client: Client,
    input: Vec<u8>,
    decoder: Decoder,
    replies: Replies<Ticket>,
    /// The poller reports changes only; what it said last stands until a call would block.
    readable: bool,
    writable: bool,
    /// The client sends no more: read up to the end, even after a short read.
    read_closed: bool,
    /// The end was read.
    ended: bool,
    /// No command starts any more; what is answered is still sent.
    closing: bool,
    /// The buffer holds no whole command.
    starved: bool,
    /// The next command waits for space in the members' queues, until then at most.
    blocked: Option<Time>,
}

/// What the connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// An event.
    Idle,
    /// Another turn, after the others had theirs.
    Again,
    /// To be dropped.
    Close,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, id: u64, waker: Waker, host: &Host) -> Self {
        Self {
            stream,
            client: Client::new(id, waker),
            input: Vec::new(),
            decoder: Decoder::new(host.limits),
            replies: Replies::new(),
            readable: false,
            writable: true,
            read_closed: false,
            ended: false,
            closing: false,
            starved: true,
            blocked: None,
        }
    }

    /// Takes note of what the poller saw.
    pub(crate) fn notice(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
        self.read_closed |= event.is_read_closed() || event.is_error();
    }

    /// Does what can be done now. `scratch` is where reads land first, so that idle connections own no buffer.
    pub(crate) fn turn(&mut self, host: &mut Host, scratch: &mut [u8], now: Time) -> Turn {
        match self.work(host, scratch, now) {
            Ok(()) => {}
            Err(error) => {
                log::debug!("client {}: {error}", self.client.id);
                return Turn::Close;
            }
        }
        let over = self.closing || self.ended && self.starved;
        if over && self.replies.is_empty() {
            Turn::Close
        } else if !over && self.blocked.is_none() && self.replies.has_room() && (!self.starved || self.readable) {
            Turn::Again
        } else {
            Turn::Idle
        }
    }

    /// When the connection wants a turn though nothing happens.
    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        self.replies.deadline(now).into_iter().chain(self.blocked).min()
    }

    /// Bytes of memory that its buffers hold.
    pub(crate) fn bytes(&self) -> usize {
        self.input.capacity() + self.replies.bytes()
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn work(&mut self, host: &mut Host, scratch: &mut [u8], now: Time) -> io::Result<()> {
        self.replies.open(now);
        let mut read = 0;
        loop {
            self.run(host, now);
            if self.closing || !self.starved || read >= TURN_BYTES {
                break;
            }
            match self.read(scratch)? {
                0 => break,
                bytes => read += bytes,
            }
        }
        self.replies.open(now);
        self.write()
    }

    /// Runs the commands in the buffer, as far as there is room for replies.
    fn run(&mut self, host: &mut Host, now: Time) {
        let mut done = 0;
        self.starved = false;
        self.blocked = None;
        while !self.closing && self.replies.has_room() {
            match self.decoder.next(&self.input[done..]) {
                Ok(None) => {
                    self.starved = true;
                    break;
                }
                Ok(Some((words, length))) => {
                    if is_http(&words) {
                        log::warn!(
                            "client {}: an HTTP request, perhaps a browser's on behalf of a page; closing",
                            self.client.id
                        );
                        self.closing = true;
                    } else if !words.is_empty() {
                        match exec::execute(host, &mut self.client, &mut self.replies, &words, now) {
                            Next::Command => {}
                            Next::Close => self.closing = true,
                            Next::Again(until) => {
                                self.blocked = Some(until);
                                break;
                            }
                        }
                    }
                    done += length;
                }
                Err(error) => {
                    self.replies.writer().error(&error);
                    self.closing = true;
                }
            }
        }
        self.input.drain(..done);
        if self.input.is_empty() && self.input.capacity() > KEEP_BYTES {
            self.input = Vec::new();
        }
    }

    /// Reads once; 0 when there is nothing to read now, or no more ever.
    fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        while self.readable && !self.ended {
            match self.stream.read(scratch) {
                Ok(0) => self.ended = true,
                Ok(bytes) => {
                    // A short read has emptied the socket; what comes later makes an event, unless the end came before.
                    self.readable = bytes == scratch.len() || self.read_closed;
                    self.input.extend_from_slice(&scratch[..bytes]);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.readable = false;
        Ok(0)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.writable && !self.replies.unsent().is_empty() {
            match self.stream.write(self.replies.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.replies.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A web page can make a browser send lines to a local port: the first word of a request or its `Host` gives it away.
fn is_http(words: Keys<'_>) -> bool {
    words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:"))
}
