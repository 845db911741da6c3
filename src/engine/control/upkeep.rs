//! What keeps members equal while nothing else happens: donations and repair, digests, pulls, expiry.

use std::sync::Arc;

use super::Control;
use crate::engine::core::Effects;
use crate::engine::donor::{Donation, Purpose, Step};
use crate::engine::peer::Peer;
use crate::engine::pull::{PULL_INTERVAL, Turn};
use crate::event::Event;
use crate::id::{MemberId, NodeState, Time};
use crate::mutant::planted;
use crate::session::{Context, Digest};
use crate::stats::{add, bump};
use crate::wire::Control as Message;

/// How soon a donation that waits for room looks again.
const DONATION_INTERVAL: Time = Time::from_millis(1);
/// Records that one sweep looks at.
const SWEEP_TURN: usize = 4096;
/// How often expiry is looked at when something is due.
const SWEEP_INTERVAL: Time = Time::from_millis(50);
/// How soon after a change of the view members compare what they show: the others have noticed by then, and what was under
/// way has arrived.
const COMPARE_DELAY: Time = Time::from_millis(500);
/// How often they compare when nothing happens.
pub(super) const COMPARE_INTERVAL: Time = Time::from_secs(60);

impl<P> Control<P> {
    /// Members may show different things now: one that is gone may have reached some and not others with what it wrote or
    /// passed on, and one that opened may have been told things by a member that told nobody else.
    pub(super) fn compare_soon(&mut self, now: Time) {
        self.next_compare = self.next_compare.min(now + COMPARE_DELAY);
    }

    /// Tells every member that holds everything what this node shows.
    pub(super) fn compare(&mut self, now: Time, fx: &mut Effects<P>) {
        if now < self.next_compare || self.join.is_some() || planted!(NoDigest) {
            return;
        }
        self.next_compare = now + COMPARE_INTERVAL;
        let roster = self.core.roster();
        if !roster.peers.iter().any(|p| p.counts()) {
            return;
        }
        for context in self.core.store().contexts() {
            let digest = context.digest();
            for peer in roster.peers.iter().filter(|p| p.counts() && !p.is_unreachable()) {
                self.tell_digest(peer, &context, &digest, false, fx);
            }
        }
    }

    pub(super) fn tell_digest(
        &self,
        peer: &Arc<Peer<P>>,
        context: &Context,
        digest: &Digest,
        answer: bool,
        fx: &mut Effects<P>,
    ) {
        let message = Message::Digest(context.name().to_vec(), answer, Box::new(*digest.sums()));
        self.core.send_message(peer, 0, &message, None, fx);
    }

    /// A member shows something else: it is sent what is held here of the buckets that differ, and told this node's
    /// digest, so that it does the same.
    pub(super) fn handle_digest(
        &mut self,
        member: MemberId,
        context: &[u8],
        answer: bool,
        theirs: &Digest,
        now: Time,
        fx: &mut Effects<P>,
    ) {
        // A member under repair is sent everything anyway, and a joiner asks for it.
        let Some(peer) = self.core.peer(member).filter(|p| p.counts() && self.join.is_none()) else { return };
        let Ok(context) = self.core.store().context(context) else { return };
        let digest = context.digest();
        let buckets = digest.differs(theirs);
        if buckets.is_empty() {
            return;
        }
        add(&self.core.counters.divergences, u64::from(buckets.len()));
        if !answer {
            self.tell_digest(&peer, &context, &digest, true, fx);
        }
        if !self.donations.iter_mut().any(|d| d.widen(&peer, &context, buckets)) {
            self.donations.push(Donation::of_difference(peer, context, buckets));
        }
        self.next_donation = Some(now);
    }

    /// Starts to bring a member up to date with everything held here.
    pub(super) fn repair(&mut self, peer: &Arc<Peer<P>>, now: Time) {
        peer.set_repairing(true);
        self.whole_since = None;
        // Everything is sent again, whatever of it was under way: what was given up may have been part of that.
        self.donations.retain(|d| d.peer.id() != peer.id() || !matches!(d.purpose, Purpose::Differs(_)));
        let mut running = false;
        for donation in self.donations.iter_mut().filter(|d| d.peer.id() == peer.id()) {
            donation.restart();
            running = true;
        }
        if !running {
            self.donations.push(Donation::new(Arc::clone(peer), Purpose::Repair));
        }
        bump(&self.core.counters.repairs);
        self.core.tell(Event::RepairStarted(peer.id(), peer.name().to_owned()));
        self.next_donation = Some(now);
    }

    pub(super) fn donate(&mut self, now: Time, fx: &mut Effects<P>) {
        if self.next_donation.is_none_or(|t| t > now) {
            return;
        }
        let mut more = false;
        let mut ended = Vec::new();
        self.donations.retain_mut(|donation| {
            let step = donation.step(&self.core, now, fx);
            match (step, donation.purpose) {
                (Step::More, _) => more = true,
                (Step::Wait, _) | (Step::Done, Purpose::Differs(_)) => {}
                (Step::Again, _) => donation.restart(),
                (Step::Done, Purpose::Repair) => ended.push(Arc::clone(&donation.peer)),
                (Step::Done, Purpose::Join(_)) => {
                    self.asked.remove(&donation.peer.id());
                    ended.push(Arc::clone(&donation.peer));
                }
            }
            step != Step::Done
        });
        self.core.release(fx);
        for peer in ended {
            let more = |d: &Donation<P>| d.peer.id() == peer.id() && !matches!(d.purpose, Purpose::Differs(_));
            if peer.is_repairing() && !self.donations.iter().any(more) {
                peer.set_repairing(false);
                self.core.tell(Event::RepairDone(peer.id(), peer.name().to_owned()));
                self.judge_whole(now);
            }
        }
        self.next_donation = match (self.donations.is_empty(), more) {
            (true, _) => None,
            (false, true) => Some(now),
            (false, false) => Some(now + DONATION_INTERVAL),
        };
    }

    /// Whether every known member is in view and repaired, and since when.
    pub(super) fn judge_whole(&mut self, now: Time) {
        self.lost.retain(|_, since| now.saturating_sub(*since) < self.settings.partition_max);
        let whole =
            self.lost.is_empty() && self.core.roster().peers.iter().all(|p| !p.is_repairing() && !p.is_unreachable());
        if !whole {
            self.whole_since = None;
        } else if self.whole_since.is_none() {
            self.whole_since = Some(now);
        }
    }

    pub(super) fn pull(&mut self, now: Time, fx: &mut Effects<P>) {
        if now < self.next_pull {
            return;
        }
        self.next_pull = now + PULL_INTERVAL / 4;
        let roster = self.core.roster();
        let members: Vec<MemberId> = roster.peers.iter().map(|p| p.id()).collect();
        let turns = self.core.pulls.lock().turn(now, &members);
        for turn in turns {
            match turn {
                Turn::Ask(member, context, uid) => {
                    if let Some(peer) = self.core.peer(member) {
                        bump(&self.core.counters.pulls);
                        let message = Message::Pull(context.name().to_vec(), uid);
                        self.core.send_message(&peer, peer.lane_of(uid), &message, None, fx);
                    }
                }
                Turn::Lift(context, uid) => {
                    // What nobody can complete counts as whole from now on; nobody else may be left with less.
                    if context.lift(uid, now)
                        && let Some(frame) = context.present(uid, 0, now)
                    {
                        for peer in &roster.peers {
                            self.core.send_session(peer, &context, uid, frame.clone(), fx);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn sweep(&mut self, now: Time, fx: &mut Effects<P>) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        self.judge_whole(now);
        let whole_for = self.whole_since.map(|since| now.saturating_sub(since));
        for context in self.core.store().contexts() {
            if context.next_due().is_none_or(|due| due > now) {
                continue;
            }
            let swept = context.sweep(now, whole_for, SWEEP_TURN, &mut |emission| {
                self.core.spread(&context, emission, None, fx);
            });
            add(&self.core.counters.expired, swept.expired as u64);
            if swept.more {
                self.next_sweep = now;
            }
            if self.core.settings().session_events && self.core.state() != NodeState::Joining {
                let name = String::from_utf8_lossy(context.name()).into_owned();
                for id in swept.ended {
                    self.core.tell(Event::SessionEnded(name.clone(), id.name().to_vec()));
                }
            }
        }
    }
}
