//! One request's work on one session, from begin to outcome.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{Context, Inner};
use crate::buffer::Slice;
use crate::config::Mode;
use crate::engine::{Committed, Effects, Send};
use crate::id::{MemberId, Time, Version};
use crate::proto::op::{MissingReason, Op};
use crate::session::{self, Changes, CommitError, CommitStatus, Handle, Name};

/// One request's work on one session.
///
/// It sees the session as it was at begin, and its own writes. Nothing leaves it before [`Request::end`]; dropping it
/// discards everything. One thread at a time.
#[derive(Debug)]
pub struct Request {
    inner: Arc<Inner>,
    context: Arc<session::Context>,
    handle: Handle,
    changes: Changes,
}

impl Request {
    pub(super) fn begin(context: &Context, id: &[u8]) -> Self {
        let inner = Arc::clone(&context.inner);
        let handle = context.context.begin(id, inner.shell.recent());
        let changes = Changes { touch: true, ..Changes::default() };
        Self { context: Arc::clone(&context.context), inner, handle, changes }
    }

    /// The id that the request came with.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.handle.id()
    }

    /// Whether there is a session: it was found, or made by this request.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.handle.exists()
    }

    /// Whether this request made the session.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.handle.is_new()
    }

    /// Makes the session where there is none. Its identity is fixed now; it exists from [`Request::end`] on.
    pub fn create(&mut self) {
        if !self.handle.exists() {
            self.context.create(&mut self.handle);
        }
    }

    /// An attribute, this request's own writes included; borrowed, not copied.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        if let Some((_, value)) = self.changes.writes.iter().rev().find(|(n, _)| n.as_slice() == name) {
            return value.as_ref().map(Slice::as_bytes);
        }
        if self.changes.full {
            return None;
        }
        self.handle.get(name).map(Slice::as_bytes)
    }

    /// Every attribute with the version that was read, this request's own writes (`Version::ZERO`) included.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&[u8], Version, &[u8])> {
        let mut all: Vec<(&[u8], Version, &[u8])> = Vec::new();
        if !self.changes.full {
            let written = |name: &[u8]| self.changes.writes.iter().any(|(n, _)| n.as_slice() == name);
            all.extend(
                self.handle.attributes().filter(|(n, ..)| !written(n)).map(|(n, v, value)| (n, v, value.as_bytes())),
            );
        }
        for (i, (name, value)) in self.changes.writes.iter().enumerate() {
            let last = !self.changes.writes[i + 1..].iter().any(|(n, _)| n == name);
            if let (true, Some(value)) = (last, value) {
                all.push((name, Version::ZERO, value));
            }
        }
        all
    }

    /// The version of an attribute as read at begin.
    #[must_use]
    pub fn version(&self, name: &[u8]) -> Option<Version> {
        self.handle.version(name)
    }

    /// How much longer the session may idle; `None` where there is no session.
    #[must_use]
    pub fn remaining_idle(&self) -> Option<Duration> {
        self.handle.remaining_idle(self.inner.shell.now())
    }

    /// Idle time after which the session expires; `None` where there is no session.
    #[must_use]
    pub fn max_idle(&self) -> Option<Duration> {
        self.handle.max_idle()
    }

    /// Sets an attribute; the value is copied once.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.changes.writes.push((Name::from_slice(name), Some(Slice::copy_from(value))));
    }

    /// Sets an attribute and takes the value over without a copy.
    pub fn set_owned(&mut self, name: &[u8], value: Vec<u8>) {
        self.changes.writes.push((Name::from_slice(name), Some(Slice::from_vec(value))));
    }

    /// Removes an attribute.
    pub fn remove(&mut self, name: &[u8]) {
        self.changes.writes.push((Name::from_slice(name), None));
    }

    /// Hands in the whole session as the application holds it. What differs from what was read at begin is sent, and
    /// removals are explicit, so that in-place mutation replicates and what others changed meanwhile stays.
    pub fn replace_all<'a>(&mut self, attributes: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
        self.changes.full = true;
        self.changes.writes = attributes
            .into_iter()
            .map(|(name, value)| (Name::from_slice(name), Some(Slice::copy_from(value))))
            .collect();
    }

    /// Announces the access even when one was announced shortly before.
    pub fn touch(&mut self) {
        self.changes.touch_now = true;
    }

    /// Ends the session everywhere, whatever else was set.
    pub fn invalidate(&mut self) {
        self.changes.invalidate = true;
    }

    /// Gives the session another id; the old one leads nowhere afterwards.
    pub fn change_id(&mut self, new_id: &[u8]) {
        self.changes.new_id = Some(Slice::copy_from(new_id));
    }

    /// Sets the session's own idle time; `Duration::MAX` means never.
    pub fn set_max_idle(&mut self, idle: Duration) {
        self.changes.max_idle = Some(idle);
    }

    /// Ends the request: commits here, replicates as the mode says, and waits as the mode says.
    ///
    /// A `uri` that the filter matches is committed here and sent to nobody; the next change that is sent brings it along.
    ///
    /// # Errors
    /// Nothing changed. See [`EndError`] for whether to try again.
    pub fn end(mut self, uri: &str) -> Result<Outcome, EndError> {
        self.changes.silent = self.inner.filter.matches(uri);
        let shell = &self.inner.shell;
        let config = &shell.config;
        let waits = config.mode != Mode::Asynchronous;
        let limit = if waits { config.ack_timeout } else { config.queue_wait };
        // Who waits for acks has one deadline for all; who does not needs the clock only where it has to wait.
        let mut deadline = waits.then(|| shell.now() + limit);
        if !self.changes.silent && shell.core.is_pressed() {
            shell.wait_for_space(*deadline.get_or_insert_with(|| shell.now() + limit));
        }
        let send = if waits { Send::Acked(config.ack) } else { Send::Queued };
        let (committed, fx) = self.commit(send)?;
        let shell = &self.inner.shell;
        let outcome = match (&committed.op, deadline) {
            (Some(op), Some(deadline)) => {
                shell.write_and_wait(fx, op, deadline);
                outcome(&self.inner, &committed, Some(op))
            }
            _ => {
                shell.hand_over(fx);
                outcome(&self.inner, &committed, None)
            }
        };
        if let Some(op) = committed.op {
            shell.core.recycle(op);
        }
        Ok(outcome)
    }

    /// Ends the request without waiting, whatever the mode; the ticket tells when copies exist, at the configured level.
    ///
    /// # Errors
    /// Nothing changed. See [`EndError`] for whether to try again.
    pub fn end_with_ticket(mut self, uri: &str) -> Result<Ticket, EndError> {
        self.changes.silent = self.inner.filter.matches(uri);
        let (committed, fx) = self.commit(Send::Acked(self.inner.shell.config.ack))?;
        self.inner.shell.hand_over(fx);
        Ok(Ticket { inner: self.inner, committed })
    }

    fn commit(&mut self, send: Send) -> Result<(Committed, Effects<crate::runtime::Port>), EndError> {
        let shell = &self.inner.shell;
        if shell.is_forked() {
            return Err(EndError::Forked);
        }
        if !shell.core.state().serves() || shell.is_closed() {
            return Err(EndError::NotServing);
        }
        if !self.handle.exists() && (!self.changes.writes.is_empty() || self.changes.new_id.is_some()) {
            return Err(EndError::NoSession);
        }
        let send = if self.changes.silent { Send::Nobody } else { send };
        let mut fx = Effects::default();
        let committed = shell
            .core
            .commit(&self.context, &mut self.handle, &self.changes, send, shell.recent(), &mut fx)
            .map_err(EndError::Commit)?;
        Ok((committed, fx))
    }
}

/// Replication under way. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Ticket {
    inner: Arc<Inner>,
    committed: Committed,
}

impl Ticket {
    /// Whether nobody is waited for any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.committed.op.as_ref().is_none_or(|op| op.is_done())
    }

    /// Waits at most `timeout`; who is missing then is named in the outcome, and the change stays queued.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Outcome {
        if let Some(op) = &self.committed.op {
            let deadline: Time = self.inner.shell.now().saturating_add(timeout);
            self.inner.shell.wait(op, deadline);
        }
        self.outcome()
    }

    /// The outcome as of now.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        outcome(&self.inner, &self.committed, self.committed.op.as_ref())
    }

    /// Wakes `waker` when nobody is waited for any more; at once if that is so already. A later waker replaces it.
    pub fn on_done(&self, waker: Waker) {
        match &self.committed.op {
            Some(op) => {
                if !op.set_waker(waker.clone()) {
                    waker.wake();
                }
            }
            None => waker.wake(),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(op) = self.committed.op.take() {
            self.inner.shell.core.recycle(op);
        }
    }
}

fn outcome(inner: &Inner, committed: &Committed, op: Option<&Arc<Op>>) -> Outcome {
    let mut outcome =
        Outcome { status: Status::Replicated, version: committed.commit.version, copies: 1, missing: Vec::new() };
    outcome.status = match committed.commit.status {
        CommitStatus::Ended => {
            crate::stats::bump(&inner.shell.core.counters.ended);
            outcome.copies = 0;
            Status::Ended
        }
        CommitStatus::Unchanged => Status::Unchanged,
        CommitStatus::Changed if committed.filtered => Status::Filtered,
        CommitStatus::Changed if op.is_none() => Status::Queued(committed.queued),
        CommitStatus::Changed => Status::Replicated,
    };
    if let Some(op) = op {
        let now = op.outcome();
        outcome.copies += now.copies;
        if !now.missing.is_empty() {
            let name = |member| inner.shell.core.name(member);
            outcome.missing = now
                .missing
                .iter()
                .map(|(member, reason)| Missing { member: *member, name: name(*member), reason: *reason })
                .collect();
        }
    }
    outcome
}

/// What became of a request's change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How the request ended.
    pub status: Status,
    /// Version of the change; `Version::ZERO` where there is none.
    pub version: Version,
    /// Copies that exist at the ack level asked for, this node's included.
    pub copies: u32,
    /// Who was in view and has no copy, and why.
    pub missing: Vec<Missing>,
}

impl Outcome {
    /// Whether nobody is missing, and the session had not ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.status != Status::Ended
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Sent to every member in view; `missing` tells who has no copy.
    Replicated,
    /// Queued to so many members (asynchronous mode).
    Queued(u32),
    /// Nothing changed, and there was nothing to announce.
    Unchanged,
    /// The filter matched: changed here, sent to nobody.
    Filtered,
    /// The session had ended meanwhile; nothing was written.
    Ended,
}

/// A member without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its incarnation.
    pub member: MemberId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: MissingReason,
}

/// Why a request could not end; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndError {
    /// The change is too large, or the store full. The same change will be refused again until there is room.
    Commit(CommitError),
    /// A write to a session that does not exist and was not created. Begin again, or create.
    NoSession,
    /// The node is joining, leaving or closed. Try again when it is ready, or elsewhere.
    NotServing,
    /// The process forked after the start. Start a node in the child.
    Forked,
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(e) => write!(f, "nothing was written: {e}"),
            Self::NoSession => f.write_str("nothing was written: there is no session, and none was created"),
            Self::NotServing => f.write_str("nothing was written: the node is joining, leaving or closed"),
            Self::Forked => f.write_str("nothing was written: the process forked after the node started"),
        }
    }
}

impl std::error::Error for EndError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Commit(e) => Some(e),
            Self::NoSession | Self::NotServing | Self::Forked => None,
        }
    }
}
