//! Control: the small frames beside sessions and acks.

use smallvec::smallvec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::{Header, pad16};
use super::layout::UidLayout;
use super::listing::{Listing, encode_listing};
use super::{BY_REFERENCE, Frame, FrameError, FrameOut, Kind, frame};
use crate::buffer::{Buf, Slice};
use crate::id::{MemberId, NodeState, Uid};
use crate::mark::hit;

/// Sums in a digest.
pub const DIGEST_SUMS: usize = 4096;

/// Small messages with fixed layouts, counted on the lane like session frames (but Echo/EchoReply on a probe are not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for everything. The number is the asker's round.
    StateRequest(u64),
    /// Everything of `round` was sent on this lane: round (0: a repair), records on this lane, lanes used.
    StateDone(u64, u64, u16),
    /// Asks for the present state of one session: its context and uid.
    Pull(Vec<u8>, Uid),
    /// The sender's state changed.
    Status(NodeState),
    /// Asks for a sign of life with the same number.
    Echo(u64),
    /// The sign of life.
    EchoReply(u64),
    /// Application message: topic, payload.
    Message(u32, Slice),
    /// What the sender holds of a context, summed up: the context, a number that the answer carries, the sums. It asks for
    /// listings of the buckets that differ.
    Digest(Vec<u8>, u64, Box<[u64; DIGEST_SUMS]>),
    /// Such a listing.
    Listing(Box<Listing>),
    /// Asks whether the receiver reaches a member that answers the sender nothing; the number comes back.
    Reach(MemberId, u64),
    /// The member answered the sender of this. There is no word for the contrary: who asked waits no longer than for its own echo.
    Reached(MemberId, u64),
    /// What only the dialect of a later version has.
    #[cfg(feature = "sim")]
    Later,
}

/// Encodes a control frame. The payload of a message travels by reference when it is large.
#[must_use]
pub fn encode_control(control: &Control) -> FrameOut {
    match control {
        Control::StateRequest(round) => FrameOut::fixed(Kind::StateRequest, &U64::new(*round), &[]),
        Control::StateDone(round, records, lanes) => {
            let done = Done {
                round: U64::new(*round),
                records: U64::new(*records),
                lanes: U16::new(*lanes),
                reserved: [0; 6],
            };
            FrameOut::fixed(Kind::StateDone, &done, &[])
        }
        Control::Pull(context, uid) => FrameOut::fixed(Kind::Pull, &UidLayout::new(*uid), context),
        Control::Status(state) => FrameOut::fixed(Kind::Status, &[*state as u8, 0, 0, 0, 0, 0, 0, 0], &[]),
        Control::Echo(number) => FrameOut::fixed(Kind::Echo, &U64::new(*number), &[]),
        Control::EchoReply(number) => FrameOut::fixed(Kind::EchoReply, &U64::new(*number), &[]),
        Control::Message(topic, payload) => encode_message(*topic, payload),
        Control::Reach(member, number) => FrameOut::fixed(Kind::Reach, &About::new(*member, *number), &[]),
        Control::Reached(member, number) => FrameOut::fixed(Kind::Reached, &About::new(*member, *number), &[]),
        Control::Digest(context, round, sums) => {
            let sums = Sums { round: U64::new(*round), sums: sums.map(U64::new) };
            FrameOut::fixed(Kind::Digest, &sums, context)
        }
        Control::Listing(listing) => encode_listing(listing),
        #[cfg(feature = "sim")]
        Control::Later => FrameOut::fixed(Kind::Later, &U64::ZERO, &[]),
    }
}

impl Frame {
    /// The frame as a control message.
    ///
    /// # Errors
    ///
    /// When it is another kind, or a field has no meaning.
    pub fn control(&self) -> Result<Control, FrameError> {
        match self.kind {
            Kind::StateRequest => Ok(Control::StateRequest(self.fixed::<U64>(self.kind)?.get())),
            Kind::StateDone => {
                let done: &Done = self.fixed(self.kind)?;
                Ok(Control::StateDone(done.round.get(), done.records.get(), done.lanes.get()))
            }
            Kind::Pull => {
                let (uid, _, context) = self.fixed_with_payload::<UidLayout>(self.kind)?;
                Ok(Control::Pull(context.to_vec(), uid.get()?))
            }
            Kind::Status => {
                let [state, ..] = self.fixed::<[u8; 8]>(self.kind)?;
                NodeState::from_wire(*state).map(Control::Status).ok_or_else(|| hit!(StatusState => FrameError::Body))
            }
            Kind::Echo => Ok(Control::Echo(self.fixed::<U64>(self.kind)?.get())),
            Kind::EchoReply => Ok(Control::EchoReply(self.fixed::<U64>(self.kind)?.get())),
            Kind::Message => {
                let (topic, at, payload) = self.fixed_with_payload::<Topic>(self.kind)?;
                Ok(Control::Message(topic.topic.get(), frame::keep(&self.bytes, at, payload.len())))
            }
            Kind::Digest => {
                let (digest, _, context) = self.fixed_with_payload::<Sums>(self.kind)?;
                let mut sums = Box::new([0; DIGEST_SUMS]);
                for (sum, sent) in sums.iter_mut().zip(&digest.sums) {
                    *sum = sent.get();
                }
                Ok(Control::Digest(context.to_vec(), digest.round.get(), sums))
            }
            Kind::Listing => Ok(Control::Listing(Box::new(self.listing()?))),
            Kind::Reach => self.fixed::<About>(self.kind)?.get().map(|(member, number)| Control::Reach(member, number)),
            Kind::Reached => {
                self.fixed::<About>(self.kind)?.get().map(|(member, number)| Control::Reached(member, number))
            }
            #[cfg(feature = "sim")]
            Kind::Later => Ok(Control::Later),
            Kind::Hello | Kind::Welcome | Kind::Refuse | Kind::Ack | Kind::Session | Kind::Part => {
                Err(hit!(ControlKind => FrameError::Kind))
            }
        }
    }
}

/// Small payloads are copied. Large ones are shared, and zeros fill the frame up behind them.
fn encode_message(topic: u32, payload: &Slice) -> FrameOut {
    let topic = Topic { topic: U32::new(topic), reserved: [0; 4] };
    if payload.len() < BY_REFERENCE {
        return FrameOut::fixed(Kind::Message, &topic, payload);
    }
    let header = Header::new(Kind::Message, size_of::<Topic>(), payload.len());
    let mut head = Buf::with_capacity(header.payload_at() + 16);
    head.extend_from_slice(&header.encode());
    head.extend_from_slice(topic.as_bytes());
    head.resize(header.payload_at());
    let front = head.split_to(header.payload_at());
    let mut parts = smallvec![front, payload.clone()];
    let padding = pad16(payload.len()) - payload.len();
    if padding > 0 {
        head.resize(padding);
        parts.push(head.freeze());
    }
    FrameOut { parts, len: header.frame_len }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct About {
    member: U64,
    number: U64,
}

impl About {
    fn new(member: MemberId, number: u64) -> Self {
        Self { member: U64::new(member.0), number: U64::new(number) }
    }

    /// A member and a number; nobody is no member.
    fn get(&self) -> Result<(MemberId, u64), FrameError> {
        match MemberId(self.member.get()) {
            MemberId::NONE => Err(hit!(ReachOfNobody => FrameError::Body)),
            member => Ok((member, self.number.get())),
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Done {
    round: U64,
    records: U64,
    lanes: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Topic {
    topic: U32,
    reserved: [u8; 4],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Sums {
    round: U64,
    sums: [U64; DIGEST_SUMS],
}
