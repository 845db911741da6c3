//! Who is in: pings, admission, suspicion, removal and return.
//!
//! [`Membership`] is one node's opinion about the others. It owns the view, the candidates for it and the
//! memory of those that went. It sends nothing and dials nothing: what arrived comes in through `handle_*`,
//! what there is to do goes out through [`Membership::poll_action`], and the time is an argument of both.
//! Drain `poll_action` after each `handle_*`, and call [`Membership::handle_timeout`] when
//! [`Membership::poll_timeout`] says.
//!
//! ```text
//!            ping, hello                lane opened
//!  unknown ──────────────▶ candidate ──────────────▶ alive ◀──────────▶ suspect
//!     ▲                        │ quiet                 │     heard, or      │ two echoes
//!     │ back-off, then a       ▼                       │ left  echo answered │ failed
//!     └ newer ping or hello ── graveyard ◀─────────────┴────────────────────┘
//! ```
//!
//! Five rules carry the rest.
//! - **A ping only hints.** It proposes a candidate and counts as life; only a handshake admits, and only an
//!   authenticated word or failed echoes remove.
//! - **Nobody goes down unverified.** Silence or a closed socket makes a suspect; two echoes on fresh
//!   connections, bound to the incarnation, decide. A refused connection fails an echo at once, so a killed
//!   member is gone in milliseconds, and a stopped one after `drop_time + 2 * verify_timeout`.
//! - **A bad link is no dead member.** With its last echo a node asks others whether they reach the suspect. Where one does, the
//!   member stays, suspect and named out of reach, and is verified again after each `drop_time`; so it costs no time where
//!   nobody reaches it, and one that dies later goes at most one echo later than any other.
//! - **Own lateness is nobody else's silence.** A node that was called late extends every deadline by that
//!   much and judges nobody before it had time to read what arrived meanwhile.
//! - **Ids are incarnations.** A restarted process is a new member, whatever its address; one that was removed
//!   by mistake returns under its id: at once the first time, and then after a back-off that grows while it flaps.
//!
//! Invariant: a member is in exactly one of view, candidates and graveyard, and each of the three is bounded.

mod candidates;
mod graveyard;
mod suspicion;
mod types;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use self::candidates::{Candidate, Candidates, Dial};
use self::graveyard::{End, Grave, Graveyard};
pub(crate) use self::suspicion::TRIES;
use self::suspicion::{Cause, Suspicion};
pub use self::types::{Member, MembershipAction, PingVerdict, Settings, Status};
use super::backoff::Backoff;
use super::timer::{Timer, TimerTable};
use super::view::{View, ViewMember};
use crate::id::{MemberId, NodeState, Time, ViewId};
use crate::mark::hit;
use crate::mutant::planted;
use crate::wire::Ping;

/// First delay before a member that was removed, or could not be dialled, is dialled again.
const RETRY_FIRST: Time = Time::from_secs(1);
/// Longest such delay; a member that stayed in view for as long counts as new to trouble.
const RETRY_MAX: Time = Time::from_secs(30);
/// What a node that was late leaves its driver to read what arrived meanwhile before it judges. A turn of
/// the event loop takes well under one millisecond for each peer.
const DRAIN: Time = Time::from_millis(5);
/// Others that are asked about a suspect, at most; and how many there must be for it: of two others one is the suspect, and what
/// the third says would decide alone.
const OTHERS: std::ops::RangeInclusive<usize> = 2..=3;
/// Least value of any period: below it timers would only busy the driver.
const PERIOD_MIN: Time = Time::from_millis(1);

/// The membership of one node. See the [module](self).
#[derive(Debug)]
pub struct Membership {
    settings: Settings,
    rng: fastrand::Rng,
    started: Time,
    state: NodeState,
    /// Sequence of the last ping sent.
    seq: u64,
    pinged_at: Option<Time>,
    admitted: BTreeMap<MemberId, Admitted>,
    candidates: Candidates,
    graveyard: Graveyard,
    view: Arc<View>,
    timers: TimerTable,
    /// Nobody is judged before.
    grace_until: Time,
    actions: VecDeque<MembershipAction>,
}

/// A member in view.
#[derive(Debug)]
struct Admitted {
    member: Member,
    /// Highest sequence heard.
    seq: u64,
    /// When it last gave a sign of life.
    heard: Time,
    since: Time,
    suspicion: Option<Suspicion>,
    differs: Option<Differs>,
    /// It said that it leaves, but not over its link: a removal is then told as `Left`.
    goodbye: bool,
    backoff: Backoff,
}

/// A member whose view is not ours. Views differ for moments all the time; one that goes on may be of a member that removed
/// this node and cannot tell it, since what it sends arrives and what is sent to it does not.
#[derive(Debug)]
struct Differs {
    theirs: u64,
    ours: u64,
    since: Time,
    /// Once for each pair of views: where a partition is partial they differ for as long as it lasts.
    verified: bool,
}

impl Membership {
    /// A node that starts, joining and alone; its first ping is due at once.
    #[must_use]
    pub fn new(mut settings: Settings, rng_seed: u64, now: Time) -> Self {
        for period in [&mut settings.frequency, &mut settings.drop_time, &mut settings.verify_timeout] {
            *period = (*period).max(PERIOD_MIN);
        }
        let mut timers = TimerTable::new();
        timers.set(Timer::Ping, now);
        Self {
            rng: fastrand::Rng::with_seed(rng_seed),
            started: now,
            state: NodeState::Joining,
            seq: 0,
            pinged_at: None,
            admitted: BTreeMap::new(),
            candidates: Candidates::new(settings.members_max, settings.frequency, now),
            graveyard: Graveyard::default(),
            view: Arc::new(View { id: ViewId::default(), me: settings.me, members: Vec::new() }),
            timers,
            grace_until: now,
            actions: VecDeque::new(),
            settings,
        }
    }

    /// Says in pings, from now on, that this node is in `state`; a change pings at once.
    ///
    /// A leaving node dials nobody any more.
    pub fn set_state(&mut self, state: NodeState, now: Time) {
        self.catch_up(now);
        if self.state != state {
            self.state = state;
            self.ping(now);
        }
    }

    /// A ping arrived, from the host `from`.
    pub fn handle_ping(&mut self, now: Time, ping: &Ping, from: IpAddr) -> PingVerdict {
        self.catch_up(now);
        if ping.cluster != self.settings.cluster {
            return hit!(PingOfAnotherCluster => PingVerdict::Foreign);
        }
        if !meet(self.settings.versions, ping.versions) {
            return hit!(PingOfNoCommonVersion => PingVerdict::Foreign);
        }
        if ping.member == self.settings.me {
            return hit!(PingOfOurOwn => PingVerdict::Own);
        }
        if let Some(known) = self.admitted.get_mut(&ping.member) {
            if ping.seq <= known.seq {
                return hit!(PingHeardBefore => PingVerdict::Stale);
            }
            known.seq = ping.seq;
            known.member.view_hash = ping.view_hash;
            match (known.member.state, ping.state) {
                (_, NodeState::Leaving) => known.goodbye = true,
                (NodeState::Joining, NodeState::Ready) => self.note_state(ping.member, NodeState::Ready),
                (_, NodeState::Joining | NodeState::Ready) => {}
            }
            self.hear(now, ping.member);
            self.compare_views(now, ping);
            return PingVerdict::Fresh;
        }
        if let Some(candidate) = self.candidates.get_mut(ping.member) {
            if ping.seq <= candidate.seq {
                return hit!(PingOfCandidateHeardBefore => PingVerdict::Stale);
            }
            candidate.seq = ping.seq;
            candidate.member.view_hash = ping.view_hash;
            candidate.member.state = candidate.member.state.later(ping.state);
            candidate.expires = candidate.expires.max(now + self.settings.drop_time);
            return PingVerdict::Fresh;
        }
        self.propose(now, ping, from)
    }

    /// An authenticated frame of `member` arrived: it lives.
    pub fn handle_contact(&mut self, now: Time, member: MemberId) {
        self.catch_up(now);
        if self.hear(now, member) {
            return;
        }
        if let Some(candidate) = self.candidates.get_mut(member) {
            candidate.expires = candidate.expires.max(now + self.settings.drop_time);
        }
    }

    /// `member` dialled this node and its handshake was accepted: it lives, and is worth dialling back.
    ///
    /// It becomes a candidate that is dialled at once; one that was removed from the view, when its back-off
    /// is over; one that left, never. Static and other discovery report what they found here as well.
    pub fn handle_hello(&mut self, now: Time, member: MemberId, name: &str, addr: SocketAddr, state: NodeState) {
        self.catch_up(now);
        if member == self.settings.me || member == MemberId::NONE {
            return;
        }
        if let Some(known) = self.admitted.get_mut(&member) {
            if known.member.addr != addr || known.member.name != name {
                known.member.addr = addr;
                known.member.name = String::from(name);
                self.publish();
            }
            self.note_state(member, state);
            self.hear(now, member);
            return;
        }
        let known = self.candidates.remove(member);
        if known.is_none() && !self.takes_newcomers(state, true) {
            return;
        }
        let Some(mut candidate) = known.or_else(|| self.resurrect(now, member)) else {
            return;
        };
        candidate.member.name = String::from(name);
        candidate.member.addr = addr;
        candidate.member.state = candidate.member.state.later(state);
        candidate.met = true;
        if candidate.dial != Dial::UnderWay {
            candidate.dial = Dial::At(now.max(candidate.not_before));
        }
        self.consider(now, candidate);
    }

    /// `member` said over its own link that its state changed. One that leaves is out at once.
    pub fn handle_status(&mut self, now: Time, member: MemberId, state: NodeState) {
        self.catch_up(now);
        match state {
            NodeState::Leaving => self.remove(now, member, End::Left),
            NodeState::Joining | NodeState::Ready => {
                self.note_state(member, state);
                self.handle_contact(now, member);
            }
        }
    }

    /// A lane to `member` opened: it enters the view. Of a member in view (a further lane, or one dialled
    /// again) it is as good as an answered echo.
    ///
    /// One that is no candidate any more is to be forgotten; the action says so.
    pub fn handle_admitted(&mut self, now: Time, member: MemberId, name: &str, state: NodeState) {
        self.catch_up(now);
        if self.admitted.contains_key(&member) {
            self.note_state(member, state);
            self.clear(now, member);
            return;
        }
        if self.admitted.len() >= self.settings.members_max {
            self.retry_later(now, member);
            self.actions.push_back(hit!(ViewIsFull => MembershipAction::Forget { member }));
            return;
        }
        let Some(Candidate { member: mut known, seq, backoff, .. }) = self.candidates.remove(member) else {
            self.actions.push_back(hit!(AdmittedUnknown => MembershipAction::Forget { member }));
            return;
        };
        if state == NodeState::Leaving {
            self.bury(now, member, End::Left, seq, backoff);
            self.actions.push_back(hit!(AdmittedLeaver => MembershipAction::Forget { member }));
            return;
        }
        known.name = String::from(name);
        known.state = known.state.later(state);
        known.in_view = true;
        let admitted = Admitted {
            member: known,
            seq,
            heard: now,
            since: now,
            suspicion: None,
            differs: None,
            goodbye: false,
            backoff,
        };
        self.admitted.insert(member, admitted);
        self.timers.set_earlier(Timer::Judge, now + self.settings.drop_time);
        self.publish();
        self.actions.push_back(MembershipAction::Up { member });
    }

    /// A lane to `member` could not be opened: refused, timed out, or the handshake failed.
    pub fn handle_dial_failed(&mut self, now: Time, member: MemberId) {
        self.catch_up(now);
        self.suspect(now, member, Cause::Lost);
        self.retry_later(now, member);
    }

    /// A lane to or from `member` closed.
    pub fn handle_lost(&mut self, now: Time, member: MemberId) {
        self.handle_dial_failed(now, member);
    }

    /// How the echo with `token` to `member` ended.
    pub fn handle_verified(&mut self, now: Time, member: MemberId, token: u64, ok: bool) {
        self.catch_up(now);
        let Some(suspicion) = self.admitted.get(&member).and_then(|m| m.suspicion.as_ref()) else {
            return;
        };
        if ok && suspicion.asked(token) {
            self.clear(now, member);
        } else if !ok && suspicion.awaits(token) {
            self.verify(now, member);
        }
    }

    /// Another member that was asked with `token` reaches `member`.
    pub fn handle_reached(&mut self, now: Time, member: MemberId, token: u64) {
        self.catch_up(now);
        if let Some(suspicion) = self.admitted.get_mut(&member).and_then(|m| m.suspicion.as_mut()) {
            suspicion.note_reached(token);
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.catch_up(now);
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Ping => self.ping(now),
                Timer::Dial => self.dial(now),
                Timer::Judge => self.judge(now),
                Timer::Sweep
                | Timer::Pull
                | Timer::Repair
                | Timer::Transfer
                | Timer::OpenAlone
                | Timer::JoinDeadline => unreachable!("membership never sets {timer:?}"),
            }
        }
    }

    /// When to call [`Membership::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<MembershipAction> {
        self.actions.pop_front()
    }

    /// What this node says of itself.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Who is in.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Every member that this node knows of: those in view by id, then the candidates by id.
    pub fn known(&self) -> impl Iterator<Item = &Member> {
        self.members().chain(self.candidates())
    }

    /// The members in view, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.admitted.values().map(|m| &m.member)
    }

    /// The members heard of and not in view, by id.
    pub fn candidates(&self) -> impl Iterator<Item = &Member> {
        self.candidates.members()
    }

    /// Pings, and sets the next one.
    fn ping(&mut self, now: Time) {
        self.seq += 1;
        self.pinged_at = Some(now);
        self.timers.set(Timer::Ping, now + self.settings.frequency);
        self.actions.push_back(MembershipAction::Ping(Ping {
            versions: self.settings.versions,
            cluster: self.settings.cluster,
            member: self.settings.me,
            seq: self.seq,
            state: self.state,
            addr: self.settings.addr,
            name: self.settings.name.clone(),
            route: self.settings.route.clone(),
            view_hash: self.view.hash(),
            uptime_ms: u64::try_from(now.saturating_sub(self.started).as_millis()).unwrap_or(u64::MAX),
        }));
    }

    /// Lets a stranger hear of this node now rather than at the next ping, yet at most four times a period.
    fn ping_soon(&mut self, now: Time) {
        let earliest = self.pinged_at.map_or(now, |at| at + self.settings.frequency / 4);
        if earliest <= now {
            self.ping(now);
        } else {
            self.timers.set_earlier(Timer::Ping, earliest);
        }
    }

    /// Makes a candidate of the unknown sender of a ping.
    fn propose(&mut self, now: Time, ping: &Ping, from: IpAddr) -> PingVerdict {
        if ping.member == MemberId::NONE || ping.addr.port() == 0 {
            return hit!(PingOfNobody => PingVerdict::Stale);
        }
        if let Some(grave) = self.graveyard.get_mut(ping.member) {
            if grave.end == End::Left || ping.seq <= grave.seq {
                return hit!(PingOfTheGone => PingVerdict::Stale);
            }
            grave.seq = ping.seq;
            if now < grave.retry_at {
                return hit!(PingTooSoon => PingVerdict::Stale);
            }
        }
        if !self.takes_newcomers(ping.state, false) {
            return hit!(PingWithoutRoom => PingVerdict::Fresh);
        }
        let Some(mut candidate) = self.resurrect(now, ping.member) else {
            return PingVerdict::Stale;
        };
        candidate.seq = ping.seq;
        candidate.member.name.clone_from(&ping.name);
        candidate.member.state = ping.state;
        candidate.member.view_hash = ping.view_hash;
        candidate.member.addr = ping.addr;
        if ping.addr.ip().is_unspecified() {
            candidate.member.addr.set_ip(from);
        }
        self.consider(now, candidate);
        if planted!(PingAdmits) {
            self.handle_admitted(now, ping.member, &ping.name, ping.state);
        }
        self.ping_soon(now);
        PingVerdict::Fresh
    }

    /// Whether an unknown member in `state` is to become a candidate: one that leaves is not worth it, nobody
    /// is to a node that leaves itself, and the table is bounded.
    fn takes_newcomers(&self, state: NodeState, met: bool) -> bool {
        state != NodeState::Leaving && self.state != NodeState::Leaving && self.candidates.has_room(met)
    }

    /// A candidate of this id with what its grave remembers, if it has one; none for one that left.
    fn resurrect(&mut self, now: Time, member: MemberId) -> Option<Candidate> {
        if self.graveyard.get_mut(member).is_some_and(|grave| grave.end == End::Left) {
            return hit!(LeftForGood => None);
        }
        let (seq, not_before, backoff) = match self.graveyard.take(member) {
            Some(Grave { end: End::Down, seq, retry_at, backoff, .. }) => (seq, retry_at, backoff),
            Some(Grave { seq, backoff, .. }) => (seq, now, backoff),
            None => (0, now, Backoff::new(RETRY_FIRST, RETRY_MAX)),
        };
        let member = Member {
            id: member,
            name: String::new(),
            addr: self.settings.addr,
            state: NodeState::Joining,
            in_view: false,
            status: Status::Alive,
            view_hash: 0,
        };
        let dial = Dial::At(now.max(not_before));
        Some(Candidate { member, seq, expires: now, dial, not_before, met: false, backoff })
    }

    /// Takes a candidate in, and dials it when due.
    fn consider(&mut self, now: Time, mut candidate: Candidate) {
        candidate.expires = now.max(candidate.not_before) + self.settings.drop_time;
        self.timers.set_earlier(Timer::Judge, candidate.expires);
        if let Some(displaced) = self.candidates.insert(candidate) {
            self.forget(now, displaced);
        }
        self.dial(now);
    }

    /// Dials every candidate that is due and within the ration.
    fn dial(&mut self, now: Time) {
        if self.state == NodeState::Leaving {
            self.timers.stop(Timer::Dial);
            return;
        }
        while let Some(Member { id, addr, name, .. }) = self.candidates.next_dial(now) {
            self.actions.push_back(MembershipAction::Dial { member: *id, addr: *addr, name: name.clone() });
        }
        self.timers.set(Timer::Dial, self.candidates.next_dial_at());
    }

    /// The dial of a candidate came to nothing.
    fn retry_later(&mut self, now: Time, member: MemberId) {
        let Some(candidate) = self.candidates.get_mut(member) else { return };
        if candidate.dial == Dial::UnderWay {
            let at = now + candidate.backoff.fail(&mut self.rng);
            candidate.dial = Dial::At(at);
            self.timers.set_earlier(Timer::Dial, at);
        }
    }

    /// Verifies a member whose view has differed from ours for the drop time.
    fn compare_views(&mut self, now: Time, ping: &Ping) {
        let Some(known) = self.admitted.get_mut(&ping.member) else { return };
        let (theirs, ours) = (ping.view_hash, self.view.hash());
        match &mut known.differs {
            // Zero is of a member that does not say.
            _ if theirs == ours || theirs == 0 => known.differs = None,
            Some(differs) if (differs.theirs, differs.ours) == (theirs, ours) => {
                if !differs.verified && now.saturating_sub(differs.since) >= self.settings.drop_time {
                    differs.verified = true;
                    self.suspect(now, ping.member, Cause::Lost);
                }
            }
            differs => *differs = Some(Differs { theirs, ours, since: now, verified: false }),
        }
    }

    /// `member` gave a sign of life; whether it is in view.
    fn hear(&mut self, now: Time, member: MemberId) -> bool {
        let Some(known) = self.admitted.get_mut(&member) else { return false };
        known.heard = known.heard.max(now);
        if known.suspicion.as_ref().is_some_and(Suspicion::cleared_by_words) {
            self.clear(now, member);
        }
        true
    }

    /// `member`, which is in view, is alive beyond doubt.
    fn clear(&mut self, now: Time, member: MemberId) {
        let Some(known) = self.admitted.get_mut(&member) else { return };
        known.heard = known.heard.max(now);
        if known.suspicion.take().is_some() {
            known.member.status = Status::Alive;
            self.timers.set_earlier(Timer::Judge, now + self.settings.drop_time);
            self.publish();
            self.actions.push_back(MembershipAction::Alive { member });
        }
    }

    /// Begins to doubt `member`, if it is in view.
    fn suspect(&mut self, now: Time, member: MemberId, cause: Cause) {
        let Some(known) = self.admitted.get_mut(&member) else { return };
        if let Some(suspicion) = &mut known.suspicion {
            if cause == Cause::Lost {
                suspicion.harden();
            }
            return;
        }
        known.suspicion = Some(Suspicion::new(cause, now));
        known.member.status = Status::Suspect;
        self.publish();
        self.actions.push_back(MembershipAction::Suspect { member });
        self.verify(now, member);
    }

    /// Asks a suspect for its next echo, or removes it when there is no further try.
    fn verify(&mut self, now: Time, member: MemberId) {
        let Some(known) = self.admitted.get_mut(&member) else { return };
        let Some(suspicion) = &mut known.suspicion else { return };
        if !suspicion.exhausted() {
            let (token, again) = (self.rng.u64(..), suspicion.has_failed());
            suspicion.begin(token, now + self.settings.verify_timeout);
            self.timers.set_earlier(Timer::Judge, suspicion.deadline);
            let is_last = suspicion.exhausted();
            self.actions.push_back(MembershipAction::Verify { member, addr: known.member.addr, token, again });
            if is_last {
                self.ask_others(member, token);
            }
        } else if suspicion.is_reached() {
            let at = now + self.settings.drop_time;
            suspicion.restart(at);
            self.timers.set_earlier(Timer::Judge, at);
            if !std::mem::replace(&mut suspicion.told, true) {
                self.actions.push_back(MembershipAction::Unreachable { member });
            }
        } else if now < self.grace_until {
            suspicion.restart(self.grace_until);
            self.timers.set_earlier(Timer::Judge, self.grace_until);
        } else {
            self.remove(now, member, End::Down);
        }
    }

    /// Has others try what this node fails to do.
    fn ask_others(&mut self, member: MemberId, token: u64) {
        let others = self.admitted.values().filter(|m| m.suspicion.is_none()).map(|m| m.member.id);
        let mut others: Vec<MemberId> = others.collect();
        if others.len() >= *OTHERS.start() {
            self.rng.shuffle(&mut others);
            others.truncate(*OTHERS.end());
            self.actions.push_back(MembershipAction::AskOthers { member, token, others });
        }
    }

    /// Goes through every deadline of silence.
    fn judge(&mut self, now: Time) {
        if now < self.grace_until {
            self.timers.set(Timer::Judge, self.grace_until);
            return;
        }
        for member in self.candidates.expired(now) {
            if let Some(candidate) = self.candidates.remove(member) {
                self.forget(now, candidate);
            }
        }
        let drop_time = self.settings.drop_time;
        let due: Vec<_> = self
            .admitted
            .values()
            .filter(|m| m.deadline(drop_time) <= now)
            .map(|m| (m.member.id, m.suspicion.is_some()))
            .collect();
        for (member, suspect) in due {
            if suspect {
                self.verify(now, member);
            } else {
                self.suspect(now, member, Cause::Silence);
            }
        }
        let next = self.admitted.values().map(|m| m.deadline(drop_time)).chain(self.candidates.next_expiry()).min();
        self.timers.set(Timer::Judge, next);
    }

    /// Takes a member out of the view, or out of the candidates, for good or until it returns.
    fn remove(&mut self, now: Time, member: MemberId, end: End) {
        if let Some(known) = self.admitted.remove(&member) {
            let Admitted { seq, since, goodbye, mut backoff, .. } = known;
            if now.saturating_sub(since) >= RETRY_MAX {
                backoff.reset();
            }
            self.bury(now, member, end, seq, backoff);
            self.publish();
            self.actions.push_back(if goodbye || end == End::Left {
                MembershipAction::Left { member }
            } else {
                MembershipAction::Down { member }
            });
        } else if let Some(Candidate { seq, backoff, .. }) = self.candidates.remove(member) {
            self.bury(now, member, end, seq, backoff);
            self.actions.push_back(MembershipAction::Forget { member });
        } else if let Some(grave) = self.graveyard.get_mut(member) {
            grave.end = grave.end.max(end);
        }
    }

    /// Lets go of a candidate that is out of the table already.
    fn forget(&mut self, now: Time, candidate: Candidate) {
        let Candidate { member: Member { id: member, .. }, seq, backoff, .. } = candidate;
        self.bury(now, member, End::Forgotten, seq, backoff);
        self.actions.push_back(MembershipAction::Forget { member });
    }

    fn bury(&mut self, now: Time, member: MemberId, end: End, seq: u64, mut backoff: Backoff) {
        // It may have been cut off, and costs one dial when it is heard again.
        let is_first = end == End::Down && backoff.failures() == 0;
        let delay = backoff.fail(&mut self.rng);
        let retry_at = if is_first { now } else { now + delay };
        self.graveyard.bury(member, Grave { end, at: now, seq, retry_at, backoff });
    }

    /// Takes over the state of a member in view, or of a candidate. Words may overtake each other, the later state counts.
    fn note_state(&mut self, member: MemberId, state: NodeState) {
        if let Some(known) = self.admitted.get_mut(&member) {
            known.goodbye |= state == NodeState::Leaving;
            let state = known.member.state.later(state);
            if known.member.state != state {
                known.member.state = state;
                self.publish();
            }
        } else if let Some(candidate) = self.candidates.get_mut(member) {
            candidate.member.state = candidate.member.state.later(state);
        }
    }

    /// Makes the next view.
    fn publish(&mut self) {
        let members = self
            .members()
            .map(|m| ViewMember {
                id: m.id,
                name: m.name.clone(),
                addr: m.addr,
                state: m.state,
                suspect: m.status == Status::Suspect,
            })
            .collect();
        self.view = Arc::new(View { id: ViewId(self.view.id.0 + 1), me: self.settings.me, members });
    }

    /// Makes good for own lateness before anything is made of what arrived.
    ///
    /// The ping timer always runs, so a node that was called in time is late by less than a period. More
    /// means that it was paused or starved: what it did not hear meanwhile may lie unread in its sockets.
    fn catch_up(&mut self, now: Time) {
        let Some(due) = self.timers.next() else { return };
        let late = now.saturating_sub(due);
        if late <= self.settings.frequency {
            return;
        }
        for known in self.admitted.values_mut() {
            known.heard = (known.heard + late).min(now);
            if let Some(suspicion) = &mut known.suspicion {
                suspicion.deadline += late;
            }
        }
        self.candidates.extend(late);
        self.timers.forgive(now);
        if late > self.settings.drop_time {
            self.grace_until = now + self.settings.drop_time;
        } else if now >= self.grace_until + self.settings.drop_time {
            // Not each time: a node that is always late must come to a judgement too.
            self.grace_until = now + DRAIN;
        }
    }
}

impl Admitted {
    /// When its silence, or that of the echo asked for, has lasted too long.
    fn deadline(&self, drop_time: Time) -> Time {
        self.suspicion.as_ref().map_or(self.heard + drop_time, |s| s.deadline)
    }
}

/// Whether the two ranges of protocol versions meet.
fn meet((ours_lowest, ours_highest): (u8, u8), (lowest, highest): (u8, u8)) -> bool {
    lowest <= ours_highest && highest >= ours_lowest
}
