//! Listings: what a member holds of the buckets in which its digest differs from another's.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::{COUNTER_MAX, UidLayout};
use super::{DIGEST_SUMS, Frame, FrameError, FrameOut, Kind};
use crate::id::Uid;
use crate::mark::hit;

/// What is held of one session, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which session.
    pub uid: Uid,
    /// The counter of the highest version seen.
    pub top: u64,
    /// A hash over what is held of it, never zero; zero when it is not held.
    pub fingerprint: u64,
}

impl Entry {
    /// Whether its sender holds the session.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.fingerprint != 0
    }
}

/// What the sender holds of some buckets of a context, or, as an answer to that, of the sessions in which the two differ. A
/// comparison takes as many of these as it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The context.
    pub context: Vec<u8>,
    /// The number of the digest that began the comparison.
    pub round: u64,
    /// Whether it answers another listing, and wants none back: then what is not listed does not differ, and what the sender
    /// does not hold is listed with zeros.
    pub answer: bool,
    /// Whether it is the last of this comparison.
    pub last: bool,
    /// In how many buckets the two digests differed.
    pub differ: u32,
    /// The sender still has the tombstones of all sessions that ended in this time until now, in milliseconds; `u64::MAX` where it
    /// may have missed that some ended.
    pub remembers_ms: u64,
    /// The sender's Lamport counter shortly before it met the receiver again: what is later has not ended unseen.
    pub met: u64,
    /// The buckets that this is of, the lowest in the lowest bit.
    pub buckets: [u64; DIGEST_SUMS / 64],
    /// What is held there, in any order.
    pub entries: Vec<Entry>,
}

impl Listing {
    /// All of a comparison, where nothing differs or nothing is said.
    #[must_use]
    pub fn of_nothing(context: Vec<u8>, round: u64) -> Self {
        Self {
            context,
            round,
            answer: false,
            last: true,
            differ: 0,
            remembers_ms: u64::MAX,
            met: 0,
            buckets: [0; DIGEST_SUMS / 64],
            entries: Vec::new(),
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    /// 1: answer; 2: last.
    flags: u8,
    reserved: u8,
    /// The payload begins with the context's name.
    context_len: U16,
    differ: U32,
    round: U64,
    remembers_ms: U64,
    met: U64,
    buckets: [U64; DIGEST_SUMS / 64],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryLayout {
    uid: UidLayout,
    top: U64,
    fingerprint: U64,
}

const ANSWER: u8 = 1;
const LAST: u8 = 2;

/// Encodes a listing.
#[must_use]
pub(super) fn encode_listing(listing: &Listing) -> FrameOut {
    let head = Head {
        flags: if listing.answer { ANSWER } else { 0 } | if listing.last { LAST } else { 0 },
        reserved: 0,
        context_len: U16::new(u16::try_from(listing.context.len()).unwrap_or(u16::MAX)),
        differ: U32::new(listing.differ),
        round: U64::new(listing.round),
        remembers_ms: U64::new(listing.remembers_ms),
        met: U64::new(listing.met),
        buckets: listing.buckets.map(U64::new),
    };
    let mut payload = Vec::with_capacity(listing.context.len() + listing.entries.len() * size_of::<EntryLayout>());
    payload.extend_from_slice(&listing.context);
    for entry in &listing.entries {
        let entry = EntryLayout {
            uid: UidLayout::new(entry.uid),
            top: U64::new(entry.top),
            fingerprint: U64::new(entry.fingerprint),
        };
        payload.extend_from_slice(entry.as_bytes());
    }
    FrameOut::fixed(Kind::Listing, &head, &payload)
}

impl Frame {
    /// The frame as a listing.
    ///
    /// # Errors
    ///
    /// When it is another kind, or a field has no meaning.
    pub fn listing(&self) -> Result<Listing, FrameError> {
        let (head, _, payload) = self.fixed_with_payload::<Head>(Kind::Listing)?;
        if head.flags & !(ANSWER | LAST) != 0 {
            return Err(hit!(ListingFlags => FrameError::Body));
        }
        let context_len = usize::from(head.context_len.get());
        let (context, entries) =
            payload.split_at_checked(context_len).ok_or_else(|| hit!(ListingContext => FrameError::Body))?;
        let entries = <[EntryLayout]>::ref_from_bytes(entries).map_err(|_| hit!(ListingCut => FrameError::Body))?;
        let entries = entries.iter().map(|entry| {
            let (uid, top) = (entry.uid.get()?, entry.top.get());
            if top > COUNTER_MAX {
                Err(hit!(ListingTop => FrameError::Body))
            } else {
                Ok(Entry { uid, top, fingerprint: entry.fingerprint.get() })
            }
        });
        Ok(Listing {
            context: context.to_vec(),
            round: head.round.get(),
            answer: head.flags & ANSWER != 0,
            last: head.flags & LAST != 0,
            differ: head.differ.get(),
            remembers_ms: head.remembers_ms.get(),
            met: head.met.get(),
            buckets: head.buckets.map(|word| word.get()),
            entries: entries.collect::<Result<_, _>>()?,
        })
    }
}
