//! The replies of one connection: in the order of its commands, some held back until copies exist.
//!
//! A write is local at once; its reply waits for the other members. Commands behind it go on, and what they
//! answer queues up behind its reply. So pipelining keeps its order and its pace, and a client that waits
//! stops nobody but itself. Owns the bytes until they are sent; does no I/O, reads no clock.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::resp::{Protocol, Writer};
use crate::id::Time;
use crate::node::Ticket;

/// Replication under way, as far as a reply depends on it.
pub(crate) trait Progress {
    /// Whether nothing more is to come.
    fn is_done(&self) -> bool;
    /// Other members that have the change.
    fn members(&self) -> u32;
}

impl Progress for Ticket {
    fn is_done(&self) -> bool {
        Self::is_done(self)
    }

    fn members(&self) -> u32 {
        self.outcome().copies.saturating_sub(1)
    }
}

/// Replies that may be held at once: how deep a connection pipelines its writes.
const HELD_MAX: usize = 1024;
/// Unsent bytes above which a connection's commands wait.
const HIGH_WATER: usize = 1 << 20;
/// A buffer larger than this is given back when it is empty.
const KEEP_BYTES: usize = 4 << 10;
/// How often a `WAIT` looks at a change that is on its way: tickets tell of the last copy, not of each.
const WAIT_TICK: Duration = Duration::from_millis(2);

/// The replies of one connection.
#[derive(Debug)]
pub(crate) struct Replies<T> {
    pub(crate) protocol: Protocol,
    /// Free to go; the first `sent` bytes are gone.
    ready: Vec<u8>,
    sent: usize,
    held: VecDeque<Held<T>>,
    /// Bytes in `held`, the last entry's apart, which still grows.
    held_bytes: usize,
}

/// Bytes that wait for something, and for everything in front of them.
#[derive(Debug)]
struct Held<T> {
    gate: Gate<T>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Gate<T> {
    /// Opens when the change is where the mode wants it, or the time is over.
    Write { ticket: Rc<T>, until: Time },
    /// Opens when so many members have the change, no more will, or the time is over; then says how many.
    Wait { ticket: Rc<T>, members: u32, until: Time },
}

impl<T: Progress> Replies<T> {
    pub(crate) fn new() -> Self {
        Self { protocol: Protocol::default(), ready: Vec::new(), sent: 0, held: VecDeque::new(), held_bytes: 0 }
    }

    /// Holds whatever is written from now on until the change is copied or the time is over.
    pub(crate) fn hold(&mut self, ticket: Rc<T>, until: Time) {
        if !ticket.is_done() {
            self.push(Gate::Write { ticket, until });
        }
    }

    /// Answers how many members have the change, as soon as `members` do or the time is over.
    pub(crate) fn wait(&mut self, ticket: Rc<T>, members: u32, until: Time) {
        self.push(Gate::Wait { ticket, members, until });
    }

    /// Lets go what waited long enough.
    pub(crate) fn open(&mut self, now: Time) {
        while let Some(held) = self.held.front() {
            let count = match &held.gate {
                Gate::Write { ticket, until } => (ticket.is_done() || *until <= now).then_some(None),
                Gate::Wait { ticket, members, until } => {
                    // In this order: a ticket that is done counts what it counted last.
                    let done = ticket.is_done() || *until <= now;
                    let have = ticket.members();
                    (done || have >= *members).then_some(Some(have))
                }
            };
            let Some(count) = count else { return };
            let Some(held) = self.held.pop_front() else { return };
            if !self.held.is_empty() {
                self.held_bytes -= held.bytes.len();
            }
            if let Some(count) = count {
                Writer::new(&mut self.ready, self.protocol).integer(i64::from(count));
            }
            if self.ready.is_empty() {
                self.ready = held.bytes;
            } else {
                self.ready.extend_from_slice(&held.bytes);
            }
        }
    }

    /// The next reply goes here.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        let protocol = self.protocol;
        Writer::new(self.tail(), protocol)
    }

    /// Where the next reply starts, for [`Self::since`] and [`Self::undo`].
    pub(crate) fn mark(&mut self) -> Mark {
        Mark(self.tail().len())
    }

    /// Bytes written since the mark. Nothing may have been held or sent in between.
    pub(crate) fn since(&mut self, mark: &Mark) -> usize {
        self.tail().len() - mark.0
    }

    /// Takes back what was written since the mark.
    pub(crate) fn undo(&mut self, mark: Mark) {
        self.tail().truncate(mark.0);
    }

    /// Whether one more command may run.
    pub(crate) fn has_room(&self) -> bool {
        let last = self.held.back().map_or(0, |held| held.bytes.len());
        self.held.len() < HELD_MAX && self.unsent().len() + self.held_bytes + last < HIGH_WATER
    }

    /// Whether nothing is held and nothing unsent.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.unsent().is_empty()
    }

    /// What may be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.ready[self.sent..]
    }

    /// The next `bytes` of [`Self::unsent`] are gone.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent < self.ready.len() {
            return;
        }
        self.sent = 0;
        if self.ready.capacity() > KEEP_BYTES {
            self.ready = Vec::new();
        } else {
            self.ready.clear();
        }
    }

    /// When [`Self::open`] must be called again though no ticket calls.
    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        Some(match self.held.front()?.gate {
            Gate::Write { until, .. } => until,
            Gate::Wait { until, .. } => until.min(now + WAIT_TICK),
        })
    }

    /// Bytes of memory behind all this.
    pub(crate) fn bytes(&self) -> usize {
        let last = self.held.back().map_or(0, |held| held.bytes.capacity());
        self.ready.capacity() + self.held_bytes + last
    }

    fn push(&mut self, gate: Gate<T>) {
        self.held_bytes += self.held.back().map_or(0, |held| held.bytes.len());
        self.held.push_back(Held { gate, bytes: Vec::new() });
    }

    fn tail(&mut self) -> &mut Vec<u8> {
        match self.held.back_mut() {
            Some(held) => &mut held.bytes,
            None => {
                // What is left to send is short when a command runs, see `has_room`.
                self.ready.drain(..std::mem::take(&mut self.sent));
                &mut self.ready
            }
        }
    }
}

/// A place in the replies.
#[derive(Debug)]
pub(crate) struct Mark(usize);

#[cfg(test)]
mod tests;
