//! The dialling end: a lane's handshake and acks, and the probe that verifies a suspect.

use std::net::SocketAddr;

use super::core::{Core, Effects};
use super::input::Input;
use super::peer::LaneRef;
use crate::event::Event;
use crate::id::{MemberId, Time};
use crate::mutant::planted;
use crate::proto::link::{DialEvent, DialLink, LinkError};
use crate::proto::outbound::BadAck;
use crate::stats::bump;
use crate::wire::{self, Control as Message, FrameOut, Hello, RefusedCode};

/// The reading half of a dialled lane. Not shared: one reader at a time.
#[derive(Debug)]
pub struct Outlet<P> {
    link: DialLink,
    lane: LaneRef<P>,
    generation: Option<u32>,
}

fn hello<P>(core: &Core<P>, expect: MemberId, lane: usize, lanes: usize, probe: bool) -> Hello {
    let me = core.identity();
    Hello {
        versions: me.versions,
        cluster: me.cluster,
        member: me.member,
        expect,
        lane: u16::try_from(lane).unwrap_or(u16::MAX),
        lanes: u16::try_from(lanes).unwrap_or(u16::MAX),
        state: core.state(),
        probe,
        addr: me.addr,
        name: me.name.clone(),
    }
}

impl<P> Outlet<P> {
    /// A connection just dialled, and the bytes to write first.
    pub fn new(core: &Core<P>, lane: LaneRef<P>) -> (Self, FrameOut) {
        let hello = hello(core, lane.peer.id(), lane.lane, lane.peer.lanes().len(), false);
        let link = DialLink::new(lane.peer.id());
        (Self { link, lane, generation: None }, wire::encode_hello(&hello))
    }

    /// Which lane it reads.
    pub fn lane(&self) -> &LaneRef<P> {
        &self.lane
    }

    /// Whether the handshake is complete.
    pub fn is_open(&self) -> bool {
        self.generation.is_some()
    }

    /// The queue's number of this connection, once the handshake is complete.
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Where bytes are read to.
    pub fn space(&mut self) -> &mut [u8] {
        self.link.space()
    }

    /// `n` bytes of [`Outlet::space`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.link.filled(n);
    }

    /// Takes in what was read.
    ///
    /// # Errors
    /// The connection must close; then call [`Outlet::lost`].
    pub fn process(&mut self, core: &Core<P>, now: Time, fx: &mut Effects<P>) -> Result<(), LinkError> {
        let result = self.process_events(core, now, fx);
        self.lane.peer.answer(self.lane.lane, now);
        if let Err(error) = &result
            && !matches!(error, LinkError::Refused(_))
        {
            bump(&core.counters.bad_frames);
            core.tell(Event::Refused(format!("lane to {}: {error}", self.lane.peer.name())));
        }
        result
    }

    fn process_events(&mut self, core: &Core<P>, now: Time, fx: &mut Effects<P>) -> Result<(), LinkError> {
        while let Some(event) = self.link.poll_event()? {
            match event {
                DialEvent::Open(welcome) => {
                    self.lane.peer.set_state(welcome.state);
                    self.generation = Some(core.lane_open(&self.lane, now, fx));
                    #[cfg(feature = "sim")]
                    if welcome.version > 1 || planted!(DialectNotNegotiated) && core.identity().versions.1 > 1 {
                        core.send_message(&self.lane.peer, self.lane.lane, &Message::Later, None, fx);
                    }
                    core.inputs().post(Input::LaneOpen {
                        member: welcome.member,
                        name: welcome.name,
                        state: welcome.state,
                        lane: self.lane.lane,
                    });
                }
                DialEvent::Ack(ack) => {
                    let (refusals, wants_drain) = self
                        .lane
                        .peer
                        .with_lane(self.lane.lane, |out| {
                            if self.generation != Some(out.generation()) {
                                return Ok(Default::default());
                            }
                            let refusals = out.ack(&ack, &mut fx.wakes)?;
                            Ok((refusals, out.wants_drain()))
                        })
                        .map_err(|BadAck| LinkError::Ack)?;
                    // A member that is full, or refuses the size, holds less than everything: it is no copy, and says so.
                    for (_, code) in refusals {
                        if code != RefusedCode::Partial {
                            core.tell(Event::Refused(format!("{} refused a session: {code:?}", self.lane.peer.name())));
                        }
                    }
                    // The window was full, and is not any more.
                    if wants_drain {
                        fx.kick(&self.lane.peer, self.lane.lane);
                    }
                }
                DialEvent::EchoReply(_) => return Err(LinkError::Unexpected(wire::Kind::EchoReply)),
            }
        }
        Ok(())
    }

    /// The connection is gone, or was never made.
    pub fn lost(&self, core: &Core<P>) {
        core.lane_lost(&self.lane, self.generation);
    }
}

/// A verification: an echo on a fresh connection.
#[derive(Debug)]
pub struct Probe {
    link: DialLink,
    member: MemberId,
    /// Where to connect.
    pub addr: SocketAddr,
    token: u64,
    done: bool,
}

impl Probe {
    /// A verification of a member, and the bytes to write first.
    pub fn new<P>(core: &Core<P>, member: MemberId, addr: SocketAddr, token: u64) -> (Self, Vec<u8>) {
        let mut out = Vec::new();
        crate::proto::link::append(&mut out, &wire::encode_hello(&hello(core, member, 0, 1, true)));
        crate::proto::link::append(&mut out, &wire::encode_control(&Message::Echo(token)));
        (Self { link: DialLink::new(member), member, addr, token, done: false }, out)
    }

    /// Where bytes are read to.
    pub fn space(&mut self) -> &mut [u8] {
        self.link.space()
    }

    /// `n` bytes of [`Probe::space`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.link.filled(n);
    }

    /// Takes in what was read; true when the verification ended and the connection can close.
    pub fn process<P>(&mut self, core: &Core<P>) -> bool {
        loop {
            match self.link.poll_event() {
                Ok(Some(DialEvent::EchoReply(token))) if token == self.token => {
                    self.end(core, true);
                    return true;
                }
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => {
                    self.end(core, false);
                    return true;
                }
            }
        }
    }

    /// The connection failed, closed, or took too long.
    pub fn failed<P>(&mut self, core: &Core<P>) {
        self.end(core, planted!(EchoNotNeeded));
    }

    fn end<P>(&mut self, core: &Core<P>, ok: bool) {
        if !std::mem::replace(&mut self.done, true) {
            core.inputs().post(Input::Verified { member: self.member, token: self.token, ok });
        }
    }
}
