//! The one owner of membership, join, donation, repair, pulls and expiry: what the control loop drives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

mod absence;
mod compare;
mod pressure;
mod reach;
mod upkeep;

use self::absence::Absences;
use self::compare::Comparing;
use self::pressure::Pressing;
use self::upkeep::Pace;
use super::core::{Core, Effects};
use super::donor::{Donation, Purpose};
use super::input::Input;
use super::join::{Join, Known, Verdict};
use super::peer::{LaneRef, Peer, Reach, Roster};
use crate::event::{Event, ReadyReason};
use crate::id::{MemberId, NodeState, Time};
use crate::mutant::planted;
use crate::proto::backoff::Backoff;
use crate::proto::membership::{Membership, MembershipAction, PingVerdict, Settings as MembershipSettings};
use crate::stats::bump;
use crate::wire::{self, Control as Message};

/// Listings that one turn reads: with those of a million sessions members would not be heard for half a second.
const LISTINGS_TURN: u32 = 8;
/// First and longest wait before a lane is dialled again.
const REDIAL: (Time, Time) = (Time::from_millis(20), Time::from_secs(2));

/// What the control loop is made with.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Period of the pings.
    pub frequency: Time,
    /// Silence that makes a suspect.
    pub drop_time: Time,
    /// How long one echo may take.
    pub verify_timeout: Time,
    /// How long a joiner waits for state.
    pub state_transfer_timeout: Time,
    /// Longest tolerated partition.
    pub partition_max: Time,
    /// How long callers wait for a member that hardly takes in anything.
    pub queue_wait: Time,
    /// Members at most.
    pub members_max: usize,
    /// Seeds back-off jitter.
    pub seed: u64,
}

/// What the shell must do.
#[derive(Debug)]
pub enum Action<P> {
    /// Multicast these bytes.
    Ping([u8; wire::PING_LEN]),
    /// Connect a lane and hand it to an `Outlet`.
    Dial(LaneRef<P>),
    /// Verify a member by a `Probe`, within the time given.
    Probe {
        /// Who.
        member: MemberId,
        /// Where.
        addr: SocketAddr,
        /// Token to give back.
        token: u64,
        /// How long it may take.
        within: Time,
    },
    /// Close this lane's connection, as if it had been lost.
    Cut(LaneRef<P>),
    /// Close everything with this member.
    Close(Arc<Peer<P>>),
}

/// Makes what the shell keeps for a lane.
pub type MakePort<P> = Box<dyn FnMut(MemberId, usize) -> P + Send>;

#[derive(Clone, Copy, Debug)]
enum Dialling {
    /// The shell was told to connect.
    Under,
    /// The handshake is complete.
    Open,
    /// To be dialled again then.
    At(Time),
    /// Membership says when.
    Idle,
}

#[derive(Debug)]
struct LaneControl {
    phase: Dialling,
    backoff: Backoff,
    /// Since when what is in flight on it waits for an answer.
    unanswered: Time,
    /// Its member was verified for that since.
    verified: bool,
}

/// The control part of a node. Not shared: the control loop owns it.
pub struct Control<P> {
    core: Arc<Core<P>>,
    settings: ControlSettings,
    membership: Membership,
    join: Option<Join>,
    donations: Vec<Donation<P>>,
    /// Members in view that were joining when they were looked at last.
    joining: BTreeSet<MemberId>,
    /// Joiners that asked for everything and have not been given it: a joiner that is lost and returns does not ask again.
    asked: BTreeMap<MemberId, u64>,
    lanes: BTreeMap<(MemberId, usize), LaneControl>,
    /// Members that callers wait for.
    pressing: BTreeMap<MemberId, Pressing>,
    /// Members that went down: while they are away the view is not whole.
    absences: Absences,
    /// Since when every known member is in view and repaired.
    whole_since: Option<Time>,
    /// Members that this node verifies for others: by its own token who asked, about whom, and the token to answer with.
    favours: BTreeMap<u64, (MemberId, MemberId, u64)>,
    actions: VecDeque<Action<P>>,
    make_port: MakePort<P>,
    rng: fastrand::Rng,
    /// When this control was called last.
    last_turn: Time,
    next_sweep: Time,
    next_pull: Time,
    next_donation: Option<Time>,
    pace: Pace,
    /// Requests served, here or at members, and when that was seen to grow last.
    served: (u64, Option<Time>),
    comparing: Comparing,
    /// When the join rule has something new to say, were nothing to arrive.
    join_due: Option<Time>,
    roster_dirty: bool,
}

impl<P> fmt::Debug for Control<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("membership", &self.membership).finish_non_exhaustive()
    }
}

impl<P> Control<P> {
    /// The control part of a joining node.
    pub fn new(core: Arc<Core<P>>, settings: ControlSettings, make_port: MakePort<P>, now: Time) -> Self {
        let me = core.identity().clone();
        let membership = Membership::new(
            MembershipSettings {
                me: me.member,
                cluster: me.cluster,
                name: me.name,
                route: String::new(),
                addr: me.addr,
                versions: me.versions,
                frequency: settings.frequency,
                drop_time: settings.drop_time,
                verify_timeout: settings.verify_timeout,
                members_max: settings.members_max,
            },
            settings.seed,
            now,
        );
        let join = Join::new(me.member, settings.frequency, settings.state_transfer_timeout, now);
        Self {
            rng: fastrand::Rng::with_seed(settings.seed ^ 0x5eed),
            core,
            settings,
            membership,
            join: Some(join),
            donations: Vec::new(),
            joining: BTreeSet::new(),
            asked: BTreeMap::new(),
            lanes: BTreeMap::new(),
            pressing: BTreeMap::new(),
            absences: Absences::default(),
            whole_since: Some(now),
            favours: BTreeMap::new(),
            actions: VecDeque::new(),
            make_port,
            last_turn: now,
            next_sweep: now,
            next_pull: now,
            next_donation: None,
            pace: Pace::new(),
            served: (0, None),
            comparing: Comparing::new(now),
            join_due: None,
            roster_dirty: true,
        }
    }

    /// The shared part.
    pub fn core(&self) -> &Arc<Core<P>> {
        &self.core
    }

    /// What this node says of itself.
    pub fn state(&self) -> NodeState {
        self.membership.state()
    }

    /// What a joining node waits for, in words.
    pub fn waiting_for(&self) -> Option<String> {
        let known = self.known();
        self.join.as_ref().map(|j| j.waiting_for(&known))
    }

    /// Leaves on purpose: members are told, nobody dials this node any more.
    pub fn leave(&mut self, now: Time, fx: &mut Effects<P>) {
        self.join = None;
        self.set_state(NodeState::Leaving, now, fx);
        self.settle(now, fx);
    }

    /// Reads what came in; of listings, which take their time, only some.
    pub fn handle_inputs(&mut self, now: Time, fx: &mut Effects<P>) {
        let mut listings = 0;
        while let Some(input) = self.core.inputs().take() {
            listings += u32::from(matches!(input, Input::Listing(..)));
            self.handle(input, now, fx);
            self.settle(now, fx);
            if listings == LISTINGS_TURN {
                return;
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, fx: &mut Effects<P>) {
        self.hear(now);
        self.membership.handle_timeout(now);
        self.settle(now, fx);
        self.redial(now);
        self.ease(now, fx);
        self.donate(now, fx);
        self.pull(now, fx);
        self.sweep(now, fx);
        self.compare(now, fx);
        self.settle(now, fx);
    }

    /// When [`Control::handle_timeout`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.core.inputs().is_empty() {
            return Some(Time::ZERO);
        }
        let mut next = self.membership.poll_timeout();
        let mut earlier = |t: Time| next = Some(next.map_or(t, |n| n.min(t)));
        for lane in self.lanes.values() {
            if let Dialling::At(t) = lane.phase {
                earlier(t);
            }
        }
        if let Some(t) = self.next_donation {
            earlier(t);
        }
        if let Some(t) = self.next_easing() {
            earlier(t);
        }
        if self.join.is_none() {
            earlier(self.comparing.due());
        }
        if !self.core.pulls.lock().is_empty() {
            earlier(self.next_pull);
        }
        for context in self.core.store().contexts() {
            if let Some(due) = context.next_due() {
                earlier(due.max(self.next_sweep));
            }
        }
        if let Some(t) = self.join_due {
            earlier(t);
        }
        next
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action<P>> {
        self.actions.pop_front()
    }

    fn handle(&mut self, input: Input, now: Time, fx: &mut Effects<P>) {
        match input {
            Input::Ping(ping, from) => self.handle_ping(&ping, from, now),
            Input::Hello { member, name, addr, state } => {
                self.membership.handle_hello(now, member, &name, addr, state);
            }
            Input::LaneOpen { member, name, state, lane } => {
                if let Some(control) = self.lanes.get_mut(&(member, lane)) {
                    control.phase = Dialling::Open;
                    control.backoff.reset();
                    (control.unanswered, control.verified) = (now, false);
                    self.membership.handle_admitted(now, member, &name, state);
                    self.tell_state(member, lane, fx);
                }
            }
            Input::LaneLost { member, lane, opened } => self.handle_lane_lost(member, lane, opened, now),
            Input::InletLost(member) => self.membership.handle_lost(now, member),
            Input::Verified { member, token, ok } => {
                if !self.end_favour(token, ok, now, fx) {
                    self.membership.handle_verified(now, member, token, ok);
                }
            }
            Input::Reach { from, member, token } => self.do_favour(from, member, token),
            Input::Reached(member, token) => self.membership.handle_reached(now, member, token),
            Input::StateRequest(member, round) => {
                // A second request of the same member is of a later round: only that one matters.
                self.donations.retain(|d| d.peer.id() != member || !matches!(d.purpose, Purpose::Join(_)));
                if self.asked.len() >= self.settings.members_max {
                    let known: BTreeSet<MemberId> = self.membership.known().map(|m| m.id).collect();
                    self.asked.retain(|m, _| known.contains(m));
                }
                if self.asked.len() < self.settings.members_max {
                    self.asked.insert(member, round);
                    self.answer_joiner(member, now);
                }
            }
            Input::StateDone { member, round, lane, lanes } => {
                if let Some(join) = &mut self.join {
                    join.done(member, round, lane, lanes);
                }
            }
            Input::Status(member, state) => {
                if let Some(peer) = self.core.peer(member) {
                    peer.set_state(state);
                }
                self.membership.handle_status(now, member, state);
                self.roster_dirty = true;
                if state == NodeState::Ready {
                    // It may have opened without having asked this node.
                    self.comparing.soon(now);
                }
            }
            Input::Digest { member, context, round, digest } => {
                self.handle_digest(member, &context, round, &digest, now, fx)
            }
            Input::Listing(member, listing) => self.handle_listing(member, *listing, now, fx),
            Input::Pressed(member) => self.press(member, now),
            Input::Overflow(member, _) => {
                if let Some(peer) = self.core.peer(member) {
                    self.repair(&peer, now);
                }
            }
        }
    }

    fn handle_ping(&mut self, ping: &wire::Ping, from: IpAddr, now: Time) {
        match self.membership.handle_ping(now, ping, from) {
            PingVerdict::Foreign => bump(&self.core.counters.foreign_pings),
            PingVerdict::Fresh => bump(&self.core.counters.pings_received),
            PingVerdict::Own | PingVerdict::Stale => {}
        }
    }

    fn handle_lane_lost(&mut self, member: MemberId, lane: usize, opened: bool, now: Time) {
        let in_view = self.in_view(member);
        let Some(control) = self.lanes.get_mut(&(member, lane)) else { return };
        if in_view {
            control.phase = Dialling::At(now + control.backoff.fail(&mut self.rng));
        } else {
            control.phase = Dialling::Idle;
        }
        if opened {
            self.membership.handle_lost(now, member);
        } else {
            self.membership.handle_dial_failed(now, member);
        }
    }

    fn in_view(&self, member: MemberId) -> bool {
        self.membership.view().members.iter().any(|m| m.id == member)
    }

    /// Any frame of a member counts as life. But what is in flight to it must be answered, whatever else is heard: its pings
    /// may arrive where its lanes do not, and callers would wait for each change.
    fn hear(&mut self, now: Time) {
        let gap = now.saturating_sub(std::mem::replace(&mut self.last_turn, now));
        // A ping is due each period: longer gaps are this node's own, and answers may lie unread in its sockets.
        let late = gap > 2 * self.settings.frequency;
        if gap > self.settings.drop_time {
            // The others may have removed it. What is in use there comes with their repair; until then nothing is idle.
            self.next_sweep = now + self.core.settings().sessions.idle_grace;
            self.stand_up(now.saturating_sub(gap), now);
        }
        self.sample_clocks(now);
        if late {
            // What was not sent meanwhile is no fault of theirs.
            self.pressing.values_mut().for_each(|pressing| pressing.begin_again(now));
        }
        for peer in self.core.peers() {
            if let Some(heard) = peer.take_heard() {
                self.membership.handle_contact(heard, peer.id());
            }
            for lane in 0..peer.lanes().len() {
                self.watch(LaneRef { peer: Arc::clone(&peer), lane }, late, now);
            }
        }
    }

    /// What is in flight on a lane is to be answered within the drop time: else its member is verified. If that lives, and the
    /// lane stays silent for as long again, the lane is dead though its socket does not say so, and is dialled again.
    fn watch(&mut self, lane: LaneRef<P>, late: bool, now: Time) {
        let member = lane.peer.id();
        let Some(control) = self.lanes.get_mut(&(member, lane.lane)) else { return };
        let waits = !late && lane.get().peek(|out| out.in_flight() > 0);
        let since = if waits { lane.get().answered().max(control.unanswered) } else { now };
        if since != control.unanswered {
            (control.unanswered, control.verified) = (since, false);
        }
        if now.saturating_sub(since) < self.settings.drop_time {
            return;
        }
        if !control.verified {
            (control.unanswered, control.verified) = (now, true);
            self.membership.handle_lost(now, member);
        } else if matches!(control.phase, Dialling::Open) && !lane.peer.is_suspect() {
            (control.unanswered, control.verified) = (now, false);
            log::info!("lane {} to {} answers nothing: it is dialled again", lane.lane, lane.peer.name());
            bump(&self.core.counters.lanes_cut);
            self.actions.push_back(Action::Cut(lane));
        }
    }

    /// Carries out what membership decided, and what follows from it for join and roster.
    fn settle(&mut self, now: Time, fx: &mut Effects<P>) {
        loop {
            while let Some(action) = self.membership.poll_action() {
                self.carry_out(action, now, fx);
            }
            if std::mem::take(&mut self.roster_dirty) {
                self.publish();
            }
            self.look_at_joiners(now);
            if !self.consider_join(now, fx) {
                return;
            }
        }
    }

    /// A joiner that opened without what this node holds, as it could not ask for it in time, is no copy before it was brought that.
    fn look_at_joiners(&mut self, now: Time) {
        let opened = |member: &MemberId| self.core.peer(*member).is_none_or(|peer| peer.state() != NodeState::Joining);
        let opened: Vec<MemberId> = self.joining.iter().copied().filter(opened).collect();
        for member in opened {
            self.joining.remove(&member);
            let lacks =
                |peer: &Arc<Peer<P>>| peer.state() == NodeState::Ready && !peer.is_settled() && !peer.is_repairing();
            if self.join.is_none()
                && let Some(peer) = self.core.peer(member).filter(lacks)
                && !planted!(ReturnWithoutRepair)
            {
                let joins = |d: &Donation<P>| d.peer.id() == member && matches!(d.purpose, Purpose::Join(_));
                if self.donations.iter().any(joins) {
                    // It is brought everything already: when that has come, it is repaired.
                    self.mark_repairing(&peer);
                } else {
                    self.repair(&peer, now);
                }
            }
        }
    }

    fn carry_out(&mut self, action: MembershipAction, now: Time, fx: &mut Effects<P>) {
        match action {
            MembershipAction::Ping(ping) => {
                bump(&self.core.counters.pings_sent);
                self.actions.push_back(Action::Ping(wire::encode_ping(&ping)));
            }
            MembershipAction::Dial { member, addr, name } => self.dial(member, addr, name, now, fx),
            MembershipAction::Verify { member, addr, token, again } => {
                if again {
                    self.note_reach(member, Reach::Silent);
                }
                self.actions.push_back(Action::Probe { member, addr, token, within: self.settings.verify_timeout });
            }
            MembershipAction::AskOthers { member, token, others } => {
                for peer in others.into_iter().filter_map(|other| self.core.peer(other)) {
                    self.core.send_message(&peer, 0, &Message::Reach(member, token), None, fx);
                }
            }
            MembershipAction::Unreachable { member } => self.note_unreachable(member, now),
            MembershipAction::Up { member } => self.up(member, now),
            MembershipAction::Suspect { member } => {
                self.roster_dirty = true;
                let then = now.saturating_sub(self.settings.drop_time);
                let is_silent = self.core.peer(member).is_some_and(|peer| peer.is_unheard_since(then));
                self.note_reach(member, if is_silent { Reach::Silent } else { Reach::Doubtful });
                let name = self.core.name(member);
                self.core.tell(Event::MemberSuspect(member, name));
            }
            MembershipAction::Alive { member } => {
                self.roster_dirty = true;
                self.note_reach(member, Reach::Sure);
                self.judge_whole(now);
                let name = self.core.name(member);
                self.core.tell(Event::MemberAlive(member, name));
                // It answers: its lost lanes need not wait for their back-off.
                for (_, lane) in self.lanes.range_mut((member, 0)..=(member, usize::MAX)) {
                    if matches!(lane.phase, Dialling::At(_)) {
                        lane.phase = Dialling::At(now);
                    }
                }
            }
            MembershipAction::Down { member } => {
                let addr = self.core.peer(member).map(|p| p.addr());
                let others: Vec<_> =
                    self.core.roster().peers.iter().filter(|p| p.id() != member).map(|p| p.addr()).collect();
                self.absences.lose(member, addr, &others, self.settings.partition_max, now);
                self.removed(member, now, fx, Event::MemberDown);
            }
            MembershipAction::Left { member } => self.removed(member, now, fx, Event::MemberLeft),
            MembershipAction::Forget { member } => self.drop_peer(member, fx),
        }
    }

    fn dial(&mut self, member: MemberId, addr: SocketAddr, name: String, now: Time, fx: &mut Effects<P>) {
        let peer = match self.core.peer(member) {
            Some(peer) if peer.addr() == addr => peer,
            other => {
                if other.is_some() {
                    self.drop_peer(member, fx);
                }
                let make_port = &mut self.make_port;
                let lanes = self.core.settings().lanes;
                let peer = Arc::new(Peer::new(member, name, addr, lanes, |lane| make_port(member, lane)));
                for lane in 0..lanes.max(1) {
                    let backoff = Backoff::new(REDIAL.0, REDIAL.1);
                    let (phase, unanswered) = (Dialling::Idle, now);
                    self.lanes.insert((member, lane), LaneControl { phase, backoff, unanswered, verified: false });
                }
                self.core.add_peer(Arc::clone(&peer));
                peer
            }
        };
        for lane in 0..peer.lanes().len() {
            let Some(control) = self.lanes.get_mut(&(member, lane)) else { continue };
            if matches!(control.phase, Dialling::Idle | Dialling::At(_)) {
                control.phase = Dialling::Under;
                self.actions.push_back(Action::Dial(LaneRef { peer: Arc::clone(&peer), lane }));
            }
        }
    }

    fn redial(&mut self, now: Time) {
        for ((member, lane), control) in &mut self.lanes {
            let Dialling::At(due) = control.phase else { continue };
            if due > now {
                continue;
            }
            if let Some(peer) = self.core.peer(*member) {
                control.phase = Dialling::Under;
                self.actions.push_back(Action::Dial(LaneRef { peer, lane: *lane }));
            }
        }
    }

    fn up(&mut self, member: MemberId, now: Time) {
        self.publish();
        self.roster_dirty = false;
        let Some(peer) = self.core.peer(member) else { return };
        // Lanes that were lost while it was a candidate waited for membership to dial it again.
        for (_, lane) in self.lanes.range_mut((member, 0)..=(member, usize::MAX)) {
            if matches!(lane.phase, Dialling::Idle) {
                lane.phase = Dialling::At(now);
            }
        }
        self.core.tell(Event::MemberUp(member, peer.name().to_owned(), self.membership.view().id));
        self.answer_joiner(member, now);
        if peer.state() == NodeState::Joining {
            self.joining.insert(member);
        }
        // A member that is ready before this node knew it did not get its state through a join that this node saw:
        // it may lack what is here, and both sides look for what differs. So it is after a partition, also for one that still
        // joins: what this node answered it before was of before.
        let was_lost = self.absences.find(member, peer.addr(), now);
        let missed = was_lost || peer.state() == NodeState::Ready && self.join.is_none();
        if missed && !planted!(ReturnWithoutRepair) {
            self.repair(&peer, now);
        }
        self.judge_whole(now);
    }

    /// Begins to send a joiner everything, if it asked and is live: what is committed between a scan and the admission would
    /// reach it by neither.
    fn answer_joiner(&mut self, member: MemberId, now: Time) {
        let Some(round) = self.asked.get(&member) else { return };
        let roster = self.core.roster();
        let live = roster.peers.iter().find(|p| p.id() == member).cloned();
        let Some(peer) = (if planted!(DonationBeforeAdmission) { self.core.peer(member) } else { live }) else {
            return;
        };
        self.donations.push(Donation::of_everything(peer, Purpose::Join(*round), now));
        self.next_donation = Some(now);
    }

    fn removed(
        &mut self,
        member: MemberId,
        now: Time,
        fx: &mut Effects<P>,
        event: fn(MemberId, String, crate::id::ViewId) -> Event,
    ) {
        let name = self.core.name(member);
        self.publish();
        self.roster_dirty = false;
        self.drop_peer(member, fx);
        self.comparing.soon(now);
        self.core.tell(event(member, name, self.membership.view().id));
        self.judge_whole(now);
    }

    fn drop_peer(&mut self, member: MemberId, fx: &mut Effects<P>) {
        if let Some(join) = &mut self.join {
            join.forget(member);
        }
        self.donations.retain(|d| d.peer.id() != member);
        self.pressing.remove(&member);
        self.joining.remove(&member);
        let gone: Vec<_> = self.lanes.range((member, 0)..=(member, usize::MAX)).map(|(k, _)| *k).collect();
        for key in gone {
            self.lanes.remove(&key);
        }
        if let Some(peer) = self.core.remove_peer(member) {
            self.core.end_peer(&peer, fx);
            self.actions.push_back(Action::Close(peer));
        }
    }

    /// Makes the present view the one that changes go by.
    fn publish(&self) {
        let view = Arc::clone(self.membership.view());
        let peers = view.members.iter().filter_map(|m| self.core.peer(m.id)).collect();
        self.core.publish(Roster { view, peers });
    }

    fn known(&self) -> Vec<Known> {
        let in_view: BTreeSet<MemberId> = self.membership.view().members.iter().map(|m| m.id).collect();
        self.membership
            .known()
            .filter(|m| m.state != NodeState::Leaving)
            .map(|m| Known { id: m.id, ready: m.state == NodeState::Ready, in_view: in_view.contains(&m.id) })
            .collect()
    }

    /// Asks those who should be asked, and opens when it is time. True when something changed.
    fn consider_join(&mut self, now: Time, fx: &mut Effects<P>) -> bool {
        let known = self.known();
        self.join_due = None;
        let Some(join) = &mut self.join else { return false };
        for peer in self.core.peers() {
            join.brought(peer.id(), peer.brought(), now);
        }
        for (member, round) in join.ask(&known) {
            if let Some(peer) = self.core.peer(member) {
                self.core.send_message(&peer, 0, &Message::StateRequest(round), None, fx);
            }
        }
        match join.verdict(&known, now) {
            Verdict::Wait(t) => {
                self.join_due = Some(t);
                false
            }
            Verdict::Open(reason) => {
                if let ReadyReason::TimedOut(missing) = reason {
                    log::warn!("state transfer timed out; opening without the state of {missing} member(s)");
                }
                self.join = None;
                self.set_state(NodeState::Ready, now, fx);
                self.comparing.soon(now);
                self.core.tell(Event::Ready(reason));
                true
            }
        }
    }

    fn set_state(&mut self, state: NodeState, now: Time, fx: &mut Effects<P>) {
        self.core.set_state(state);
        self.membership.set_state(state, now);
        for peer in self.core.peers() {
            self.core.send_message(&peer, 0, &Message::Status(state), None, fx);
        }
    }

    /// A handshake tells the state of its moment; a lane that opened around a change is told the present one.
    fn tell_state(&self, member: MemberId, lane: usize, fx: &mut Effects<P>) {
        if lane == 0
            && let Some(peer) = self.core.peer(member)
        {
            self.core.send_message(&peer, 0, &Message::Status(self.core.state()), None, fx);
        }
    }
}
