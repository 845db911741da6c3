//! What keeps members equal: they compare digests, list to each other what differs, and bring it.
//!
//! ```text
//! A ── digest ──▶ B       (both hold the same: B answers with an empty listing)
//! A ◀── listing ─ B       all that B holds of the buckets that differ; A brings what B lacks
//! A ── answer ──▶ B       in which sessions they differ; B brings what A lacks
//! ```
//!
//! Of a session that both hold, who saw the higher version last brings it first, and is answered if it lacks something. So of what
//! is held only that travels which differs; listings are of all in the buckets that do, and a repair brings all tombstones. Every message carries the number of its comparison: what an old connection still
//! brings answers nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Control;
use super::absence::Word;
use crate::engine::core::Effects;
use crate::engine::donor::{Beginner, Donation, Purpose};
use crate::engine::peer::Peer;
use crate::event::Event;
use crate::id::{MemberId, Time, Uid};
use crate::mutant::planted;
use crate::session::{Buckets, Context, Differs, Digest};
use crate::stats::{add, bump};
use crate::wire::{Control as Message, Entry, Listing};

/// How soon after a change of the view members compare what they show: the others have noticed by then, and what was under
/// way has arrived.
const COMPARE_DELAY: Time = Time::from_millis(500);
/// How often a node that nothing happens at compares with another, at random.
const IDLE_INTERVAL: Time = Time::from_secs(5);
/// How often it does so in any case.
const BUSY_INTERVAL: Time = Time::from_secs(60);

/// How long a member that showed something else is left alone, at most: what it refuses it would be sent each time.
const AGAIN_MAX: Time = Time::from_secs(60);
/// How soon what found no room is looked at again.
const ROOM_INTERVAL: Time = Time::from_millis(100);

/// When to compare next, and with whom.
#[derive(Debug)]
pub(super) struct Comparing {
    /// With a member at random.
    next: Time,
    /// With everybody, after a change of the view.
    all: Option<Time>,
    /// At the latest, whatever happens here.
    latest: Time,
    /// Changes made and merged when it was looked at last: none since means idle.
    changes: u64,
    /// What is to be compared as soon as there is room for it.
    pending: Vec<(MemberId, Arc<Context>)>,
    /// When that is looked for.
    room: Option<Time>,
    /// When those that differed are asked next, and how long they are left alone after that.
    again: BTreeMap<MemberId, (Time, Time)>,
}

impl Comparing {
    pub(super) fn new(now: Time) -> Self {
        Self {
            next: now + IDLE_INTERVAL,
            all: None,
            latest: now + BUSY_INTERVAL,
            changes: 0,
            pending: Vec::new(),
            room: None,
            again: BTreeMap::new(),
        }
    }

    pub(super) fn due(&self) -> Time {
        [self.all, self.room].into_iter().flatten().fold(self.next, Time::min)
    }

    /// Members may show different things now: one that is gone may have reached some and not others with what it wrote or
    /// passed on, and one that opened may have been told things by a member that told nobody else.
    pub(super) fn soon(&mut self, now: Time) {
        self.all = Some(self.all.map_or(now + COMPARE_DELAY, |all| all.min(now + COMPARE_DELAY)));
    }

    /// Whether a member that differed last, as who was full then and has room now, is asked again.
    fn asks_again(&mut self, member: MemberId, now: Time) -> bool {
        let (due, wait) = self.again.entry(member).or_insert((now, IDLE_INTERVAL));
        let is_due = now >= *due;
        if is_due {
            (*due, *wait) = (now + *wait, (2 * *wait).min(AGAIN_MAX));
        }
        is_due
    }
}

impl<P> Control<P> {
    /// Tells others what this node shows, when it is time.
    pub(super) fn compare(&mut self, now: Time, fx: &mut Effects<P>) {
        if now < self.comparing.due() || self.join.is_some() || planted!(NoDigest) {
            return;
        }
        let roster = self.core.roster();
        let compares = |peer: &&Arc<Peer<P>>| peer.counts() && !peer.is_unreachable();
        let peers: Vec<_> = roster.peers.iter().filter(compares).collect();
        let with_all = self.comparing.all.take_if(|all| *all <= now).is_some();
        if now >= self.comparing.next || with_all {
            self.choose(&peers, with_all, now);
        }
        let low = self.core.settings().low_water;
        let (core, donations) = (&self.core, &self.donations);
        self.comparing.pending.retain(|(member, context)| {
            let Some(peer) = peers.iter().find(|peer| peer.id() == *member) else { return false };
            // One that is still brought what differed is asked when it has that.
            let waits = peer.queued() >= low || donations.iter().any(|d| d.brings(peer));
            if !waits {
                core.tell_digest(peer, context, fx);
            }
            waits
        });
        self.comparing.room = (!self.comparing.pending.is_empty()).then(|| now + ROOM_INTERVAL);
    }

    /// Notes whom to compare with now.
    fn choose(&mut self, peers: &[&Arc<Peer<P>>], with_all: bool, now: Time) {
        let stats = self.core.counters.snapshot();
        let changes = stats.commits + stats.merges;
        let idle = std::mem::replace(&mut self.comparing.changes, changes) == changes;
        let by_chance = idle || now >= self.comparing.latest;
        self.comparing.again.retain(|member, _| peers.iter().any(|peer| peer.id() == *member && peer.differs()));
        let equal = peers.iter().filter(|peer| !peer.differs()).count();
        let mut one = if equal == 0 { usize::MAX } else { self.rng.usize(..equal) };
        let contexts = self.core.store().contexts();
        for peer in peers {
            let is_chosen = if peer.differs() {
                self.comparing.asks_again(peer.id(), now)
            } else {
                let is_one = one == 0;
                one = one.wrapping_sub(1);
                by_chance && is_one
            };
            if !(with_all || is_chosen) {
                continue;
            }
            self.comparing.latest = now + BUSY_INTERVAL;
            for context in &contexts {
                let is_new =
                    |(member, other): &(MemberId, Arc<Context>)| *member != peer.id() || !Arc::ptr_eq(other, context);
                if self.comparing.pending.iter().all(is_new) {
                    self.comparing.pending.push((peer.id(), Arc::clone(context)));
                }
            }
        }
        self.comparing.next = now + IDLE_INTERVAL;
    }

    /// A member tells what it holds, summed up: it is told what is held here of the buckets that differ.
    pub(super) fn handle_digest(
        &mut self,
        member: MemberId,
        context: &[u8],
        round: u64,
        theirs: &Digest,
        now: Time,
        fx: &mut Effects<P>,
    ) {
        // A joiner holds nothing to compare yet.
        let Some(peer) = self.core.peer(member).filter(|_| self.join.is_none()) else { return };
        let Ok(context) = self.core.store().context(context) else {
            // There is no room for one more context. Whoever asks waits for no more than this.
            let listing = Listing::of_nothing(context.to_vec(), round);
            self.core.send_compared(&peer, &Message::Listing(Box::new(listing)), fx);
            return;
        };
        // Both may ask at the same time, as after a partition. One comparison does for both.
        let mine = self.core.identity().member;
        if mine < member && self.donations.iter_mut().any(|d| d.asks(&peer, &context, now)) {
            return;
        }
        let buckets = context.digest().differs(theirs);
        peer.note_divergence(context.name(), buckets.len());
        add(&self.core.counters.divergences, u64::from(buckets.len()));
        for donation in &mut self.donations {
            donation.takes_part(&peer, &context, round);
            if buckets.is_empty() {
                donation.listed(&peer, &context, Beginner::Member, round);
            }
        }
        // One that is under way answers too; who needs another asks again.
        if !self.donations.iter().any(|d| d.lists(&peer, &context)) {
            let known = self.known_of(member, &context, now);
            self.donations.push(Donation::of_listing(peer, context, round, &buckets, known, now));
        }
        self.next_donation = Some(now);
    }

    /// A member lists what it holds of buckets that differ, or in what it differs: it is brought what it lacks.
    pub(super) fn handle_listing(&mut self, member: MemberId, listing: Listing, now: Time, fx: &mut Effects<P>) {
        let Some(peer) = self.core.peer(member).filter(|_| self.join.is_none()) else { return };
        let Ok(context) = self.core.store().context(&listing.context) else { return };
        let word = self.absences.word_of(&listing, member, now);
        let (mut told, mut later, mut lacked): (Vec<Uid>, Vec<Entry>, Vec<Uid>) = Default::default();
        let mut answer = Vec::new();
        context.differing(&Buckets::new(listing.buckets), listing.entries, !listing.answer, |differs| match differs {
            Differs::Dead(uid) => told.push(uid),
            Differs::First(mine) => {
                answer.push(mine);
                told.push(mine.uid);
            }
            Differs::Later(mine, theirs) => {
                answer.push(mine);
                later.push(theirs);
            }
            Differs::There(theirs) => answer.push(Entry { top: 0, fingerprint: 0, ..theirs }),
            Differs::Here(mine) => lacked.push(mine.uid),
        });
        for uid in lacked {
            match &word {
                Word::Ended(separation) if context.forget(uid, separation) => bump(&self.core.counters.forgotten),
                Word::Unsure(separation) if !context.is_written_since(uid, separation) => {}
                Word::Told | Word::Ended(_) | Word::Unsure(_) => told.push(uid),
            }
        }
        let differs = !told.is_empty() || !later.is_empty();
        if differs && !self.donations.iter_mut().any(|d| d.bring(&peer, &context, &told, &later, now)) {
            let mut donation = Donation::of_difference(Arc::clone(&peer), now);
            donation.bring(&peer, &context, &told, &later, now);
            self.donations.push(donation);
        }
        self.donations.iter_mut().for_each(|donation| donation.hears(&peer));
        if listing.last {
            let by = if listing.answer { Beginner::Member } else { Beginner::Me };
            for donation in &mut self.donations {
                donation.listed(&peer, &context, by, listing.round);
            }
            // The other side of a comparison notes it by the digest.
            if !listing.answer {
                peer.note_divergence(context.name(), listing.differ);
                add(&self.core.counters.divergences, u64::from(listing.differ));
            }
        }
        if !listing.answer && listing.differ > 0 {
            let (remembers_ms, met) = self.known_of(member, &context, now);
            let answer = Listing { answer: true, remembers_ms, met, entries: answer, ..listing };
            self.core.answer_listing(&peer, answer, fx);
        }
        self.next_donation = Some(now);
    }

    /// Starts to bring a member up to date with what is held here.
    pub(super) fn repair(&mut self, peer: &Arc<Peer<P>>, now: Time) {
        self.mark_repairing(peer);
        // Everything is looked at again, whatever of it was under way: what was given up may have been part of that.
        self.donations.retain(|d| d.peer.id() != peer.id() || d.purpose != Purpose::Differs);
        let mut running = false;
        for donation in self.donations.iter_mut().filter(|d| d.peer.id() == peer.id()) {
            donation.restart(now);
            running = true;
        }
        if !running {
            let peer = Arc::clone(peer);
            // Who still joins holds little, and has not asked for it yet.
            let compares = peer.state() == crate::id::NodeState::Ready && self.join.is_none();
            self.donations.push(if compares {
                Donation::of_repair(peer, now)
            } else {
                Donation::of_everything(peer, Purpose::Repair, now)
            });
        }
        self.next_donation = Some(now);
    }

    /// From now on it is no copy, until a donation has brought it what it lacks.
    pub(super) fn mark_repairing(&mut self, peer: &Peer<P>) {
        peer.set_repairing(true);
        self.whole_since = None;
        bump(&self.core.counters.repairs);
        self.core.tell(Event::RepairStarted(peer.id(), peer.name().to_owned()));
    }
}
