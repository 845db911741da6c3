//! The receiving end of a lane: frame → merge → ack.

use std::sync::Arc;

use super::core::{Core, Effects};
use super::input::Input;
use super::peer::Peer;
use crate::id::{MemberId, Time};
#[cfg(feature = "mutants")]
use crate::mutant::planted;
use crate::proto::link::{AcceptEvent, AcceptLink, LinkError};
use crate::session::Digest;
use crate::stats::bump;
use crate::wire::{Control as Message, Frame, Kind, flags};

/// One accepted connection. Not shared: one reader at a time.
#[derive(Debug)]
pub struct Inlet<P> {
    link: AcceptLink,
    member: MemberId,
    /// The member as this node sends to it, once known: what was heard is noted there.
    peer: Option<Arc<Peer<P>>>,
    /// It brought what takes the control loop its time, since that was up to date last.
    lists: bool,
    /// A frame that is acknowledged and not yet merged: a planted mistake.
    #[cfg(feature = "mutants")]
    late: Option<Frame>,
}

impl<P> Inlet<P> {
    /// A connection just accepted.
    pub fn new(core: &Core<P>) -> Self {
        // A whole session, its names and its table.
        let whole_max = core.settings().limits.session_bytes_max.saturating_add(1 << 20);
        Self {
            link: AcceptLink::new(whole_max),
            member: MemberId::NONE,
            peer: None,
            lists: false,
            #[cfg(feature = "mutants")]
            late: None,
        }
    }

    /// Where bytes are read to.
    pub fn space(&mut self) -> &mut [u8] {
        self.link.space()
    }

    /// `n` bytes of [`Inlet::space`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.link.filled(n);
    }

    /// Whether the handshake is complete.
    pub fn is_open(&self) -> bool {
        self.link.hello().is_some()
    }

    /// Who dialled; `MemberId::NONE` before the handshake and for a probe.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Whether nothing more is to be read from it for now: it brings more than the control loop gets done.
    pub fn is_held_back(&mut self, core: &Core<P>) -> bool {
        self.lists &= core.inputs().are_behind();
        self.lists
    }

    /// Takes in what was read, and appends to `out` what must be written back: handshake, echo replies, and the one
    /// ack for all of it.
    ///
    /// # Errors
    /// The connection must close, after `out` was written.
    pub fn process(
        &mut self,
        core: &Core<P>,
        now: Time,
        out: &mut Vec<u8>,
        fx: &mut Effects<P>,
    ) -> Result<(), LinkError> {
        let result = self.process_frames(core, now, out, fx);
        self.link.poll_ack(out);
        if let Err(error) = &result
            && !matches!(error, LinkError::Refuse(_))
        {
            bump(&core.counters.bad_frames);
        }
        if self.peer.is_none() && self.member != MemberId::NONE {
            self.peer = core.peer(self.member);
        }
        if let Some(peer) = &self.peer {
            peer.hear(now);
        }
        result
    }

    /// The connection is gone.
    pub fn lost(&self, core: &Core<P>) {
        if self.member != MemberId::NONE {
            core.inputs().post(Input::InletLost(self.member));
        }
    }

    fn process_frames(
        &mut self,
        core: &Core<P>,
        now: Time,
        out: &mut Vec<u8>,
        fx: &mut Effects<P>,
    ) -> Result<(), LinkError> {
        while let Some(event) = self.link.poll_event(core.identity(), core.state(), out)? {
            match event {
                AcceptEvent::Hello(hello) => {
                    if !hello.probe {
                        self.member = hello.member;
                        core.inputs().post(Input::Hello {
                            member: hello.member,
                            name: hello.name,
                            addr: hello.addr,
                            state: hello.state,
                        });
                    }
                }
                AcceptEvent::Frame(frame, position) => {
                    #[cfg(feature = "mutants")]
                    let Some(frame) = self.put_off(frame) else { continue };
                    bump(&core.counters.frames_received);
                    self.take_in(core, &frame, position, now, out, fx)?;
                }
            }
        }
        Ok(())
    }

    /// What is to be taken in now.
    #[cfg(feature = "mutants")]
    fn put_off(&mut self, frame: Frame) -> Option<Frame> {
        if planted!(AckBeforeApply) && frame.kind == Kind::Session { self.late.replace(frame) } else { Some(frame) }
    }

    fn take_in(
        &mut self,
        core: &Core<P>,
        frame: &Frame,
        position: u64,
        now: Time,
        out: &mut Vec<u8>,
        fx: &mut Effects<P>,
    ) -> Result<(), LinkError> {
        if frame.kind == Kind::Session {
            let view = frame.session()?;
            if let Err(code) = core.merge(self.member, &view, now, fx) {
                bump(&core.counters.refused);
                self.link.refuse(position, code, out);
            } else if view.flags() & flags::DELTA == 0
                && let Some(peer) = &self.peer
            {
                peer.note_brought();
            }
            return Ok(());
        }
        match frame.control()? {
            Message::StateRequest(round) => core.inputs().post(Input::StateRequest(self.member, round)),
            Message::StateDone(round, _records, lanes) => {
                let lane = self.link.hello().map_or(0, |h| h.lane);
                core.inputs().post(Input::StateDone { member: self.member, round, lane, lanes });
            }
            Message::Pull(context, uid) => core.answer(self.member, &context, uid, now, fx),
            Message::Status(state) => core.inputs().post(Input::Status(self.member, state)),
            Message::Digest(context, round, sums) => {
                self.lists = true;
                core.inputs().post(Input::Digest { member: self.member, context, round, digest: Digest::new(sums) });
            }
            Message::Listing(listing) => {
                self.lists = true;
                core.inputs().post(Input::Listing(self.member, listing));
            }
            Message::Reach(member, token) => core.inputs().post(Input::Reach { from: self.member, member, token }),
            Message::Reached(member, token) => core.inputs().post(Input::Reached(member, token)),
            Message::Message(..) => {}
            #[cfg(feature = "sim")]
            Message::Later => {}
            Message::Echo(_) | Message::EchoReply(_) => return Err(LinkError::Unexpected(frame.kind)),
        }
        Ok(())
    }
}
