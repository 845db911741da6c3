//! The two ends of a lane's connection: handshake, counting of frames, acks and echo.
//!
//! The dialler sends `Hello` and then frames; the acceptor answers `Welcome` (or `Refuse`) and then acks. Both
//! count the frames after the handshake from 1, so that no frame carries a number. A link owns its decoder and
//! knows neither what a frame means nor where bytes come from.

use std::fmt;

use smallvec::SmallVec;

use crate::id::{MemberId, NodeState};
use crate::mark::hit;
use crate::mutant::planted;
use crate::wire::{self, Ack, Control, Decoder, Frame, FrameError, Hello, Kind, RefuseReason, RefusedCode, Welcome};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are no acceptable frames.
    Frame(FrameError),
    /// The other end refused the handshake.
    Refused(RefuseReason),
    /// This end refuses the handshake.
    Refuse(RefuseReason),
    /// A frame that has no place here, such as a `Welcome` to an acceptor.
    Unexpected(Kind),
    /// An acknowledgement of frames never sent.
    Ack,
    /// Another member answered than the one dialled.
    Member(MemberId),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(e) => write!(f, "unacceptable frame: {e:?}"),
            Self::Refused(r) => write!(f, "handshake refused by the other end: {r:?}"),
            Self::Refuse(r) => write!(f, "handshake refused: {r:?}"),
            Self::Unexpected(k) => write!(f, "frame of kind {k:?} out of place"),
            Self::Ack => f.write_str("acknowledgement of frames never sent"),
            Self::Member(m) => write!(f, "another member answered: {m}"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<FrameError> for LinkError {
    fn from(e: FrameError) -> Self {
        Self::Frame(e)
    }
}

/// What the dialler's end learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialEvent {
    /// The handshake is complete.
    Open(Welcome),
    /// Frames are settled.
    Ack(Ack),
    /// A probe was answered.
    EchoReply(u64),
}

/// The dialler's end.
#[derive(Debug)]
pub struct DialLink {
    decoder: Decoder,
    expect: MemberId,
    open: bool,
}

impl DialLink {
    /// A link whose `Hello` the caller sends first. `expect` is who must answer.
    pub fn new(expect: MemberId) -> Self {
        // Nothing but small fixed frames ever comes back on a lane.
        Self { decoder: Decoder::new(wire::FRAME_BYTES_UNAUTHENTICATED), expect, open: false }
    }

    /// Where bytes are read to.
    pub fn space(&mut self) -> &mut [u8] {
        self.decoder.space()
    }

    /// `n` bytes of [`DialLink::space`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.decoder.filled(n);
    }

    /// The next event in what was read.
    ///
    /// # Errors
    /// The connection must close with the reason.
    pub fn poll_event(&mut self) -> Result<Option<DialEvent>, LinkError> {
        let Some(frame) = self.decoder.next()? else { return Ok(None) };
        match (self.open, frame.kind) {
            (false, Kind::Welcome) => {
                let welcome = frame.welcome()?;
                let any = planted!(EchoOfAnother) || planted!(AcksOfAnother);
                if self.expect != MemberId::NONE && welcome.member != self.expect && !any {
                    return Err(hit!(WelcomeOfAnother => LinkError::Member(welcome.member)));
                }
                self.open = true;
                Ok(Some(DialEvent::Open(welcome)))
            }
            (false, Kind::Refuse) => {
                let reason = frame.refuse()?;
                Err(hit!(HandshakeRefused => LinkError::Refused(reason)))
            }
            (true, Kind::Ack) => Ok(Some(DialEvent::Ack(frame.ack()?))),
            (true, Kind::EchoReply) => match frame.control()? {
                Control::EchoReply(token) => Ok(Some(DialEvent::EchoReply(token))),
                // A frame of this kind says nothing else.
                _ => Ok(None),
            },
            (_, kind) => Err(hit!(DiallerGetsOther => LinkError::Unexpected(kind))),
        }
    }
}

/// Who this node is, for handshakes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This incarnation.
    pub member: MemberId,
    /// Tag of the cluster's name.
    pub cluster: u64,
    /// This node's name.
    pub name: String,
    /// Address that others dial.
    pub addr: std::net::SocketAddr,
    /// Protocol versions that it speaks: lowest, highest.
    pub versions: (u8, u8),
}

/// What the acceptor's end learns.
#[derive(Debug)]
pub enum AcceptEvent {
    /// The handshake: the answer to send is in `out` already.
    Hello(Hello),
    /// A frame with its place in the lane (the place of its last piece).
    Frame(Frame, u64),
}

/// The acceptor's end.
#[derive(Debug)]
pub struct AcceptLink {
    decoder: Decoder,
    hello: Option<Hello>,
    /// What both ends speak, once the handshake is complete.
    version: u8,
    received: u64,
    applied: u64,
    acked: u64,
    refused: SmallVec<[(u64, RefusedCode); 4]>,
}

impl AcceptLink {
    /// A link that waits for `Hello`. `whole_max` caps a frame joined from parts.
    pub fn new(whole_max: usize) -> Self {
        Self {
            decoder: Decoder::new(whole_max),
            hello: None,
            version: 0,
            received: 0,
            applied: 0,
            acked: 0,
            refused: SmallVec::new(),
        }
    }

    /// Where bytes are read to.
    pub fn space(&mut self) -> &mut [u8] {
        self.decoder.space()
    }

    /// `n` bytes of [`AcceptLink::space`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.decoder.filled(n);
    }

    /// Who dialled, once the handshake is complete.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// The next event in what was read; handshake answers and echo replies are appended to `out`.
    ///
    /// # Errors
    /// The connection must close with the reason, after `out` was written.
    pub fn poll_event(
        &mut self,
        me: &Identity,
        state: NodeState,
        out: &mut Vec<u8>,
    ) -> Result<Option<AcceptEvent>, LinkError> {
        // Whoever asks for the next has taken in the last.
        self.applied = self.received;
        loop {
            let Some(frame) = self.decoder.next()? else {
                self.received += self.decoder.take_units();
                self.applied = self.received;
                return Ok(None);
            };
            let units = self.decoder.take_units();
            let Some(hello) = &self.hello else {
                if frame.kind != Kind::Hello {
                    return Err(hit!(NoHelloFirst => LinkError::Unexpected(frame.kind)));
                }
                let hello = frame.hello()?;
                if let Some(reason) = refusal(&hello, me, state) {
                    append(out, &wire::encode_refuse(reason));
                    return Err(hit!(HelloRefused => LinkError::Refuse(reason)));
                }
                self.decoder.authenticated();
                let version = hello.versions.1.min(me.versions.1);
                self.version = version;
                let welcome = Welcome { version, member: me.member, state, name: me.name.clone() };
                append(out, &wire::encode_welcome(&welcome));
                self.hello = Some(hello.clone());
                return Ok(Some(AcceptEvent::Hello(hello)));
            };
            match (hello.probe, frame.kind) {
                (true, Kind::Echo) => {
                    if let Control::Echo(token) = frame.control()? {
                        append(out, &wire::encode_control(&Control::EchoReply(token)));
                    }
                }
                (
                    false,
                    Kind::Session
                    | Kind::StateRequest
                    | Kind::StateDone
                    | Kind::Pull
                    | Kind::Status
                    | Kind::Message
                    | Kind::Digest
                    | Kind::Listing
                    | Kind::Reach
                    | Kind::Reached,
                ) => {
                    self.received += units;
                    return Ok(Some(AcceptEvent::Frame(frame, self.received)));
                }
                #[cfg(feature = "sim")]
                (false, Kind::Later) if self.version > 1 => {
                    self.received += units;
                    return Ok(Some(AcceptEvent::Frame(frame, self.received)));
                }
                (_, kind) => return Err(hit!(AcceptorGetsOther => LinkError::Unexpected(kind))),
            }
        }
    }

    /// What both ends speak; 0 before the handshake is complete.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The frame at `position` was not taken in as a copy.
    pub fn refuse(&mut self, position: u64, code: RefusedCode, out: &mut Vec<u8>) {
        self.refused.push((position, code));
        if self.refused.len() == Ack::REFUSED_MAX {
            self.poll_ack(out);
        }
    }

    /// Appends the ack of everything taken in since the last one, if any: one for each batch read.
    pub fn poll_ack(&mut self, out: &mut Vec<u8>) {
        if self.acked == self.applied && self.refused.is_empty() {
            return;
        }
        self.acked = self.applied;
        let ack = Ack { received: self.received, applied: self.applied, refused: std::mem::take(&mut self.refused) };
        wire::encode_ack(&ack, out);
    }
}

fn refusal(hello: &Hello, me: &Identity, state: NodeState) -> Option<RefuseReason> {
    let (low, high) = hello.versions;
    let any = hello.probe && planted!(EchoOfAnother) || !hello.probe && planted!(AcksOfAnother);
    if hello.cluster != me.cluster {
        Some(hit!(HelloCluster => RefuseReason::Cluster))
    } else if low > me.versions.1 || high < me.versions.0 {
        Some(hit!(HelloNoVersion => RefuseReason::Version))
    } else if hello.expect != MemberId::NONE && hello.expect != me.member && !any || hello.member == me.member {
        Some(hit!(HelloNotMe => RefuseReason::NotMe))
    } else if state == NodeState::Leaving {
        Some(hit!(HelloToLeaver => RefuseReason::Leaving))
    } else {
        None
    }
}

/// Appends a frame's bytes.
pub fn append(out: &mut Vec<u8>, frame: &wire::FrameOut) {
    for part in &frame.parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
