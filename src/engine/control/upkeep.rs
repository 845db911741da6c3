//! What is done a little at a time: donations, pulls, expiry.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Control;
use crate::engine::core::Effects;
use crate::engine::donor::{DONATION_INTERVAL, Donation, Purpose, Step, TURN_BYTES};
use crate::engine::pull::{PULL_INTERVAL, Turn};
use crate::event::Event;
use crate::id::{MemberId, NodeState, Time};
use crate::stats::{add, bump};
use crate::wire::Control as Message;

/// For so long after a request was served donations leave room for the next.
const SERVED_LATELY: Time = Time::from_millis(100);
/// Records that one sweep looks at.
const SWEEP_TURN: usize = 4096;
/// How often expiry is looked at when something is due.
const SWEEP_INTERVAL: Time = Time::from_millis(50);
/// What is brought in a second or two may cost requests something; a donation that takes longer is patient.
const SHORT_BYTES: u64 = 128 << 20;
/// Bytes that donations send in one turn while requests are served: they wait for a processor while it has one. How scarce those are
/// shows in how late a turn begins, be it that the last one or other work of the loop took long: what is in time makes the next one
/// longer, what is late half as long (additive increase, multiplicative decrease, as of congestion control). The less it grows from
/// turn to turn, the fewer are late where it settles. However late, it is 16 KiB, and as
/// much again for each millisecond that it came late; all that are under way share it.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Pace {
    const MIN: usize = 16 << 10;
    const STEP: usize = 1 << 10;
    const PATIENT_STEP: usize = 32;
    /// Clocks of milliseconds are no reason.
    const LATE: Time = Time::from_micros(500);

    pub(super) fn new() -> Self {
        Self(Self::MIN)
    }

    fn turn(&mut self, late: Time, is_short: bool) -> usize {
        let step = if is_short { Self::STEP } else { Self::PATIENT_STEP };
        let next = if late > Self::LATE { self.0 / 2 } else { self.0 + step };
        self.0 = next.clamp(Self::MIN, TURN_BYTES - 1);
        let intervals = 1 + usize::try_from(late.as_millis()).unwrap_or(usize::MAX).min(TURN_BYTES);
        self.0.max(Self::MIN.saturating_mul(intervals)).min(TURN_BYTES - 1)
    }
}

impl<P> Control<P> {
    pub(super) fn donate(&mut self, now: Time, fx: &mut Effects<P>) {
        let Some(due) = self.next_donation.filter(|due| *due <= now) else { return };
        let is_short = self.donations.iter().all(|donation| donation.bytes < SHORT_BYTES);
        let turn = if self.serves_requests(now) {
            self.pace.turn(now.saturating_sub(due), is_short).div_ceil(self.donations.len().max(1))
        } else {
            TURN_BYTES
        };
        let mut more = false;
        let mut ended = Vec::new();
        self.donations.retain_mut(|donation| {
            let step = donation.step(&self.core, turn, now, fx);
            match (step, donation.purpose) {
                (Step::More, _) => more = true,
                (Step::Wait, _) | (Step::Done, Purpose::Differs) => {}
                (Step::Again, _) => {
                    donation.restart(now);
                    donation.hurries = true;
                }
                (Step::Done, Purpose::Repair) => {
                    let (peer, took) = (&donation.peer, now.saturating_sub(donation.since));
                    let (records, bytes) = (donation.records, donation.bytes);
                    log::info!("{} is repaired: {records} sessions, {bytes} bytes, {took:?}", peer.name());
                    add(&self.core.counters.repair_millis, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                    ended.push(Arc::clone(peer));
                }
                (Step::Done, Purpose::Join(_)) => {
                    self.asked.remove(&donation.peer.id());
                    ended.push(Arc::clone(&donation.peer));
                }
            }
            step != Step::Done
        });
        self.core.release(fx);
        for peer in ended {
            let more = |d: &Donation<P>| d.peer.id() == peer.id() && d.purpose != Purpose::Differs;
            if peer.is_repairing() && !self.donations.iter().any(more) {
                peer.set_repairing(false);
                self.absences.settle(peer.id(), now);
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

    /// Whether requests are served here, or somewhere else and told here, at present.
    fn serves_requests(&mut self, now: Time) -> bool {
        let counters = &self.core.counters;
        let served = [&counters.commits, &counters.changes_merged].map(|c| c.load(Ordering::Relaxed)).iter().sum();
        if served != self.served.0 {
            self.served = (served, Some(now));
        }
        self.served.1.is_some_and(|last| now.saturating_sub(last) < SERVED_LATELY)
    }

    /// Whether every known member is in view and repaired, and since when.
    pub(super) fn judge_whole(&mut self, now: Time) {
        let whole = self.absences.missed(self.settings.partition_max, now) == 0
            && self.core.roster().peers.iter().all(|p| !p.is_repairing() && !p.is_unreachable());
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
        // Who is away, and who is not repaired yet, has still to learn of the dead.
        let buries = self.absences.awaited(self.settings.partition_max, now) == 0
            && !self.core.roster().peers.iter().any(|p| p.is_repairing());
        let whole_for = self.whole_since.map(|since| now.saturating_sub(since));
        for context in self.core.store().contexts() {
            if context.next_due().is_none_or(|due| due > now) {
                continue;
            }
            let swept = context.sweep(now, whole_for, buries, SWEEP_TURN, &mut |emission| {
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
