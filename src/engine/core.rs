//! What all threads of a node share: the store, the roster, and the rules of commit and merge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use crossbeam::channel;
use parking_lot::{Mutex, RwLock};
use smallvec::{SmallVec, smallvec};

use super::input::{Input, Inputs};
use super::peer::{LaneRef, Peer, Roster, SessionRef};
use super::pull::Pulls;
use crate::event::Event;
use crate::id::{AckLevel, MemberId, NodeState, Time, Uid};
use crate::mutant::planted;
use crate::proto::link::Identity;
use crate::proto::op::{MissingReason, Op, OpPool};
use crate::proto::outbound::{Content, Drain, Gather, Ops, Wakes};
use crate::proto::view::View;
use crate::session::{
    Changes, Commit, CommitError, Context, Emission, Handle, Limits, Merged, MergedEvent, Settings, Store,
};
use crate::stats::{Counters, Stats, add, bump};
use crate::wire::{self, Control as Message, FrameOut, Listing, RefusedCode, SessionView, flags};

/// Names kept of members that are gone.
const NAMES_KEPT: usize = 64;
/// Ops kept for reuse.
const OPS_KEPT: usize = 1024;

/// A frame, cut where it is too long for one.
type Pieces = SmallVec<[FrameOut; 1]>;

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// Who this node is.
    pub identity: Identity,
    /// Lanes to each member.
    pub lanes: usize,
    /// Caps of the store.
    pub limits: Limits,
    /// Replication settings of every context.
    pub sessions: Settings,
    /// Memory of what is queued to a member, in bytes, above which callers wait.
    pub high_water: usize,
    /// Memory of what is queued to a member, in bytes, below which callers go on.
    pub low_water: usize,
    /// Memory of what is queued to a member, in bytes, at which its queue is given up.
    pub queue_bytes_max: usize,
    /// Events that may wait.
    pub event_queue: usize,
    /// Whether sessions' events are produced.
    pub session_events: bool,
    /// Keys the hash tables.
    pub seed: u64,
}

/// How a change goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// To every member, each confirming at this level.
    Acked(AckLevel),
    /// To every member; nobody waits.
    Queued,
    /// To nobody: the request was filtered.
    Nobody,
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// What became of the session.
    pub commit: Commit,
    /// The replication under way, when somebody may wait for it.
    pub op: Option<Arc<Op>>,
    /// Members that it was queued to.
    pub queued: u32,
    /// Whether it was kept from everybody by the filter.
    pub filtered: bool,
}

/// What the shell must do after a call, with no lock held.
#[derive(Debug)]
pub struct Effects<P> {
    /// Lanes with something to write.
    pub kick: SmallVec<[LaneRef<P>; 4]>,
    /// Whom to wake.
    pub wakes: Wakes,
}

impl<P> Default for Effects<P> {
    fn default() -> Self {
        Self { kick: SmallVec::new(), wakes: Wakes::new() }
    }
}

impl<P> Effects<P> {
    pub(crate) fn kick(&mut self, peer: &Arc<Peer<P>>, lane: usize) {
        if !self.kick.iter().any(|k| k.lane == lane && Arc::ptr_eq(&k.peer, peer)) {
            self.kick.push(LaneRef { peer: Arc::clone(peer), lane });
        }
    }
}

/// The shared part of a node.
#[derive(Debug)]
pub struct Core<P> {
    settings: CoreSettings,
    store: Store,
    /// Live counters.
    pub counters: Counters,
    state: AtomicU8,
    roster: RwLock<Arc<Roster<P>>>,
    peers: RwLock<BTreeMap<MemberId, Arc<Peer<P>>>>,
    /// Names of members that are gone, the latest first: outcomes still name them.
    gone: Mutex<VecDeque<(MemberId, String)>>,
    inputs: Inputs,
    events: (channel::Sender<Event>, channel::Receiver<Event>),
    ops: OpPool,
    space: Mutex<Vec<Waker>>,
    /// The number of the next comparison.
    rounds: AtomicU64,
    pub(super) pulls: Mutex<Pulls>,
}

impl<P> Core<P> {
    /// A core that is joining and knows nobody.
    pub fn new(settings: CoreSettings) -> Self {
        let me = settings.identity.member;
        Self {
            store: Store::new(me, settings.limits, settings.sessions, settings.seed),
            counters: Counters::default(),
            state: AtomicU8::new(NodeState::Joining as u8),
            roster: RwLock::new(Arc::new(Roster {
                view: Arc::new(View { id: crate::id::ViewId(0), me, members: Vec::new() }),
                peers: Vec::new(),
            })),
            peers: RwLock::new(BTreeMap::new()),
            gone: Mutex::new(VecDeque::new()),
            inputs: Inputs::default(),
            events: channel::bounded(settings.event_queue.max(1)),
            ops: OpPool::new(OPS_KEPT),
            space: Mutex::new(Vec::new()),
            rounds: AtomicU64::new(1),
            pulls: Mutex::new(Pulls::default()),
            settings,
        }
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.settings.identity
    }

    /// What it was made with.
    pub fn settings(&self) -> &CoreSettings {
        &self.settings
    }

    /// The sessions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What this node says of itself.
    pub fn state(&self) -> NodeState {
        NodeState::from_wire(self.state.load(Ordering::Acquire)).unwrap_or(NodeState::Joining)
    }

    pub(super) fn set_state(&self, state: NodeState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Who changes go to now.
    pub fn roster(&self) -> Arc<Roster<P>> {
        Arc::clone(&self.roster.read())
    }

    pub(super) fn publish(&self, roster: Roster<P>) {
        *self.roster.write() = Arc::new(roster);
    }

    /// A member that lanes exist for, in view or not yet.
    pub fn peer(&self, member: MemberId) -> Option<Arc<Peer<P>>> {
        self.peers.read().get(&member).cloned()
    }

    pub(super) fn peers(&self) -> Vec<Arc<Peer<P>>> {
        self.peers.read().values().cloned().collect()
    }

    pub(super) fn add_peer(&self, peer: Arc<Peer<P>>) {
        self.peers.write().insert(peer.id(), peer);
    }

    pub(super) fn remove_peer(&self, member: MemberId) -> Option<Arc<Peer<P>>> {
        if let Some(peer) = self.peer(member) {
            let mut gone = self.gone.lock();
            gone.retain(|(id, _)| *id != member);
            gone.truncate(NAMES_KEPT - 1);
            gone.push_front((member, peer.name().to_owned()));
        }
        self.peers.write().remove(&member)
    }

    /// What waits for the control loop.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Tells the application; a full queue drops the event and counts it.
    pub fn tell(&self, event: Event) {
        if self.events.0.try_send(event).is_err() {
            bump(&self.counters.events_dropped);
        }
    }

    /// The next event for the application, waited for at most so long.
    pub fn next_event(&self, timeout: Time) -> Option<Event> {
        if timeout.is_zero() {
            return self.events.1.try_recv().ok();
        }
        self.events.1.recv_timeout(timeout).ok()
    }

    /// The name of a member, in view or gone since shortly; of others the id.
    pub fn name(&self, member: MemberId) -> String {
        if let Some(peer) = self.peer(member) {
            return peer.name().to_owned();
        }
        let gone = self.gone.lock();
        gone.iter().find(|(id, _)| *id == member).map_or_else(|| member.to_string(), |(_, name)| name.clone())
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        let roster = self.roster();
        stats.sessions = self.store.sessions() as u64;
        stats.session_bytes = self.store.bytes() as u64;
        stats.tombstones = self.store.tombstones() as u64;
        stats.members = roster.peers.len() as u64 + 1;
        stats.queued_bytes = roster.peers.iter().map(|p| p.queued() as u64).sum();
        stats.divergent = roster.peers.iter().map(|p| u64::from(p.divergence())).sum();
        stats
    }

    /// Whether every frame queued to a member in view is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.roster().peers.iter().all(|p| p.lanes().iter().all(|l| l.peek(|o| o.is_empty())))
    }

    /// Whether a caller should wait for space: a member that counts, or is about to, has more queued than high water, or its
    /// donation has only what changed meanwhile still to bring, and does not catch up with callers that go on.
    pub fn is_pressed(&self) -> bool {
        self.roster.read().peers.iter().any(|p| self.presses(p))
    }

    /// Whether callers wait for this member.
    pub(super) fn presses(&self, peer: &Peer<P>) -> bool {
        let high = || peer.queued() > self.settings.high_water;
        // A link that is bad may stay so: its queue fills, and is given up, while nobody waits.
        let waits = || (peer.counts() || peer.is_settled()) && !peer.is_stalled() && high();
        !peer.is_unreachable() && (peer.is_catching_up() || waits())
    }

    /// Whether callers may be waiting for this member: who began to does so until its queue is below low water.
    pub(super) fn is_waited_for(&self, peer: &Peer<P>) -> bool {
        let counts = || peer.counts() || peer.is_settled();
        self.presses(peer) || !peer.is_unreachable() && !peer.is_stalled() && peer.is_pressed() && counts()
    }

    /// Leaves whom to wake when a queue falls below low water. Check [`Core::is_pressed`] again afterwards.
    pub fn wake_on_space(&self, waker: Waker) {
        let mut space = self.space.lock();
        // One place for each that waits, a thread or a connection of the agent, however often it looks.
        if !space.iter().any(|w| w.will_wake(&waker)) {
            bump(&self.counters.back_pressure);
            space.push(waker);
        }
    }

    /// Applies a request's changes here and queues them to every member.
    ///
    /// # Errors
    /// The change was too large, or the store is full; nothing changed.
    pub fn commit(
        &self,
        context: &Arc<Context>,
        handle: &mut Handle,
        changes: &Changes,
        send: Send,
        now: Time,
        fx: &mut Effects<P>,
    ) -> Result<Committed, CommitError> {
        let op = match send {
            Send::Acked(level) => Some(self.ops.take(level)),
            Send::Queued | Send::Nobody => None,
        };
        let mut queued = 0;
        let commit = context.commit(handle, changes, now, &mut |emission| {
            if send != Send::Nobody {
                queued = queued.max(self.spread(context, emission, op.as_ref(), fx));
            }
        });
        if let Some(op) = &op {
            op.seal();
        }
        bump(&self.counters.commits);
        commit.map(|commit| Committed { commit, op, queued, filtered: send == Send::Nobody })
    }

    /// Gives back an op whose outcome was read.
    pub fn recycle(&self, op: Arc<Op>) {
        self.ops.give(op);
    }

    /// Queues one change of one session to every member in view; runs under the session's lock.
    /// Returns how many members it went to.
    pub(super) fn spread(
        &self,
        context: &Arc<Context>,
        mut emission: Emission<'_>,
        op: Option<&Arc<Op>>,
        fx: &mut Effects<P>,
    ) -> u32 {
        // Read under the session's lock: a member admitted later gets this change by its snapshot.
        let roster = self.roster.read();
        if roster.peers.is_empty() {
            return 0;
        }
        bump(&self.counters.frames_encoded);
        let mut delta = emission.take_frame().split();
        let mut present: Option<Pieces> = None;
        let mut count = 0;
        for (at, peer) in roster.peers.iter().enumerate() {
            let counts = peer.counts();
            if !counts && peer.owe(context, emission.uid) {
                // Its donation brings it, once, however often it changes until then: the queue is the donation's.
                if let Some(op) = op {
                    op.exclude(peer.id(), not_counted(peer));
                }
                continue;
            }
            let pieces = if counts { &mut delta } else { present.get_or_insert_with(|| emission.present().split()) };
            let bytes: usize = pieces.iter().map(FrameOut::weight).sum();
            if !self.fits(peer, bytes) {
                self.overflow(peer, fx);
                if let Some(op) = op {
                    op.exclude(peer.id(), MissingReason::Repair);
                }
                continue;
            }
            let lane = peer.lane_of(emission.uid);
            let op = op.filter(|op| {
                let waits = counts && !peer.owes(lane);
                if waits {
                    op.expect(peer.id());
                } else {
                    op.exclude(peer.id(), not_counted(peer));
                }
                waits
            });
            // The last takes the frame itself.
            let pieces = if at + 1 == roster.peers.len() { std::mem::take(pieces) } else { pieces.clone() };
            let content = Content::Session(SessionRef { context: Arc::clone(context), uid: emission.uid });
            self.push(peer, lane, pieces, content, op, fx);
            count += 1;
        }
        count
    }

    /// Whether a member's queue takes so many bytes more. Below low water it takes one frame of any size, or a session that
    /// is large beside the cap could never be repaired.
    fn fits(&self, peer: &Peer<P>, bytes: usize) -> bool {
        let queued = peer.queued();
        queued < self.settings.low_water || queued + bytes <= self.settings.queue_bytes_max
    }

    /// Queues pieces of one frame on a lane.
    fn push(
        &self,
        peer: &Arc<Peer<P>>,
        lane: usize,
        pieces: Pieces,
        content: Content<SessionRef>,
        op: Option<&Arc<Op>>,
        fx: &mut Effects<P>,
    ) {
        peer.with_lane(lane, |out| {
            if peer.is_closed() {
                // It was removed since the roster was read: it is told apart from a timeout.
                if let Some(op) = op {
                    fx.wakes.extend(op.miss(peer.id(), MissingReason::Down));
                }
            } else {
                out.push(pieces, content, op);
            }
        });
        bump(&self.counters.frames_sent);
        fx.kick(peer, lane);
        if peer.queued() > self.settings.high_water && peer.set_pressed(true) {
            self.tell(Event::BackPressureOn(peer.id(), peer.name().to_owned()));
            self.inputs.post(Input::Pressed(peer.id()));
            // The queue may have been written meanwhile, by one who saw no pressure to relieve.
            self.relieve(peer, fx);
        }
    }

    /// Queues one session frame on the lane of its session.
    pub(super) fn send_session(
        &self,
        peer: &Arc<Peer<P>>,
        context: &Arc<Context>,
        uid: Uid,
        frame: FrameOut,
        fx: &mut Effects<P>,
    ) {
        let pieces = frame.split();
        let bytes: usize = pieces.iter().map(FrameOut::weight).sum();
        if !self.fits(peer, bytes) {
            self.overflow(peer, fx);
            return;
        }
        let content = Content::Session(SessionRef { context: Arc::clone(context), uid });
        self.push(peer, peer.lane_of(uid), pieces, content, None, fx);
    }

    /// Queues a control message.
    pub(super) fn send_message(
        &self,
        peer: &Arc<Peer<P>>,
        lane: usize,
        message: &Message,
        op: Option<&Arc<Op>>,
        fx: &mut Effects<P>,
    ) {
        let frame = wire::encode_control(message);
        self.push(peer, lane, smallvec![frame], Content::Control, op, fx);
    }

    /// Tells a member what this node holds of a context, summed up. Returns the number of the comparison that this begins.
    pub(super) fn tell_digest(&self, peer: &Arc<Peer<P>>, context: &Context, fx: &mut Effects<P>) -> u64 {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let message = Message::Digest(context.name().to_vec(), round, context.digest().into_sums());
        self.send_compared(peer, &message, fx);
        round
    }

    /// The number of the latest comparison.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed) - 1
    }

    /// Queues what belongs to a comparison. Returns its bytes.
    pub(super) fn send_compared(&self, peer: &Arc<Peer<P>>, message: &Message, fx: &mut Effects<P>) -> usize {
        let pieces = wire::encode_control(message).split();
        let bytes = pieces.iter().map(|piece| piece.len).sum();
        add(&self.counters.compare_bytes, bytes as u64);
        self.push(peer, 0, pieces, Content::Control, None, fx);
        bytes
    }

    /// Answers a listing. Who lists and takes no answers in is repaired from the beginning.
    pub(super) fn answer_listing(&self, peer: &Arc<Peer<P>>, answer: Listing, fx: &mut Effects<P>) {
        if self.fits(peer, 0) {
            self.send_compared(peer, &Message::Listing(Box::new(answer)), fx);
        } else {
            self.overflow(peer, fx);
        }
    }

    /// Queues the end of a donation on a lane, unless the queue was given up since `losses` were counted: then the end would
    /// speak of frames that are gone, and the op misses.
    pub(super) fn send_end(
        &self,
        peer: &Arc<Peer<P>>,
        lane: usize,
        end: &Message,
        op: &Arc<Op>,
        losses: u64,
        fx: &mut Effects<P>,
    ) {
        let frame = wire::encode_control(end);
        peer.with_lane(lane, |out| {
            if peer.is_closed() {
                fx.wakes.extend(op.miss(peer.id(), MissingReason::Down));
            } else if peer.losses() != losses {
                fx.wakes.extend(op.miss(peer.id(), MissingReason::Repair));
            } else {
                out.push([frame], Content::Control, Some(op));
            }
        });
        bump(&self.counters.frames_sent);
        fx.kick(peer, lane);
    }

    /// A member's queue is over its cap: it is given up, and the member repaired from the store.
    pub(super) fn overflow(&self, peer: &Arc<Peer<P>>, fx: &mut Effects<P>) {
        let is_first = peer.set_repairing(!planted!(GiveUpWithoutRepair));
        // Before anything is lost, so that no end of a donation can be queued behind the gap.
        peer.note_loss();
        let give_up = |lane| peer.with_lane(lane, |out| out.give_up(MissingReason::Repair, &mut fx.wakes));
        let mut given_up: Vec<_> = (0..peer.lanes().len()).map(give_up).collect();
        if !is_first {
            // The control loop has not come to free what it was left before.
            given_up.clear();
        }
        if !planted!(GiveUpWithoutRepair) {
            self.inputs.post(Input::Overflow(peer.id(), given_up));
        }
        self.relieve(peer, fx);
        // It counts no more, so nobody waits for its queue, whatever of it is still under way.
        fx.wakes.extend(self.space.lock().drain(..));
    }

    /// Tells those who wait for space when a queue is below low water again.
    fn relieve(&self, peer: &Peer<P>, fx: &mut Effects<P>) {
        if peer.queued() < self.settings.low_water && peer.set_pressed(false) {
            self.tell(Event::BackPressureOff(peer.id(), peer.name().to_owned()));
            fx.wakes.extend(self.space.lock().drain(..));
        }
    }

    /// A donation caught up, or began again: who waited for it goes on, if nothing else is in the way.
    pub(super) fn release(&self, fx: &mut Effects<P>) {
        if !self.is_pressed() {
            fx.wakes.extend(self.space.lock().drain(..));
        }
    }

    /// `n` gathered bytes were taken by the operating system; `full` when it takes no more now.
    pub fn wrote(&self, lane: &LaneRef<P>, gathered: &Gather, n: usize, full: bool, fx: &mut Effects<P>) -> Drain {
        add(&self.counters.bytes_sent, n as u64);
        let (drain, freed) = lane.peer.with_lane(lane.lane, |out| {
            let held = out.held();
            let drain = out.wrote(gathered, n, full, &mut fx.wakes);
            (drain, held.saturating_sub(out.held()))
        });
        if lane.peer.note_taken(freed.max(n)) {
            self.inputs.post(Input::Pressed(lane.peer.id()));
        }
        self.relieve(&lane.peer, fx);
        drain
    }

    /// The connection of a lane is gone. `generation` is the one that the shell was told at the opening, if it opened.
    pub fn lane_lost(&self, lane: &LaneRef<P>, opened: Option<u32>) {
        let stale = lane.peer.with_lane(lane.lane, |out| {
            let stale = opened.is_some_and(|g| g != out.generation());
            if !stale && opened.is_some() {
                out.close();
            }
            stale
        });
        if !stale && !lane.peer.is_closed() {
            self.inputs.post(Input::LaneLost { member: lane.peer.id(), lane: lane.lane, opened: opened.is_some() });
        }
    }

    /// A lane's handshake is complete: what the last connection may have lost goes first, as present state.
    /// Returns the generation of the connection.
    pub(super) fn lane_open(&self, lane: &LaneRef<P>, now: Time, fx: &mut Effects<P>) -> u32 {
        let peer = &lane.peer;
        let unacked = peer.with_lane(lane.lane, |out| {
            out.close();
            out.take_unacked()
        });
        if !unacked.is_empty() {
            bump(&self.counters.reconnects);
        }
        let mut again: Vec<(Pieces, Content<SessionRef>, Ops)> = Vec::new();
        // Several changes of one session need its state once, or a window of small deltas would become as many whole sessions.
        let mut places: BTreeMap<(usize, Uid), usize> = BTreeMap::new();
        let mut bytes = 0;
        for entry in unacked {
            let pieces = match (&entry.content, entry.frame) {
                (Content::Session(_), _) if planted!(NotResent) => None,
                (Content::Session(s), frame) => {
                    let key = (Arc::as_ptr(&s.context) as usize, s.uid);
                    if let Some((_, _, ops)) = places.get(&key).and_then(|at| again.get_mut(*at)) {
                        ops.extend(entry.ops);
                        continue;
                    }
                    let present = if planted!(ResendOldDelta) { frame } else { s.context.present(s.uid, 0, now) };
                    if let Some(frame) = &present {
                        places.insert(key, again.len());
                        bytes += frame.weight();
                    }
                    present.map(FrameOut::split)
                }
                (Content::Control, Some(frame)) => Some(SmallVec::from_iter([frame])),
                (Content::Control, None) => None,
            };
            match pieces {
                Some(pieces) => again.push((pieces, entry.content, entry.ops)),
                // The session is not held any more: there is nothing to have a copy of.
                None => fx.wakes.extend(entry.ops.iter().filter_map(|op| op.miss(peer.id(), MissingReason::Refused))),
            }
        }
        let over = again.len() > 1 && peer.queued() + bytes > self.settings.queue_bytes_max;
        if over {
            again.retain(|(_, content, ops)| {
                fx.wakes.extend(ops.iter().filter_map(|op| op.miss(peer.id(), MissingReason::Repair)));
                *content == Content::Control
            });
        }
        let generation = peer.with_lane(lane.lane, |out| {
            if peer.is_closed() {
                // It was removed while this was gathered: whoever waits is told so, and not left to a timeout.
                let ops = again.iter().flat_map(|(_, _, ops)| ops.iter());
                fx.wakes.extend(ops.filter_map(|op| op.miss(peer.id(), MissingReason::Down)));
            } else {
                out.open(again);
            }
            out.generation()
        });
        if over {
            self.overflow(peer, fx);
        }
        fx.kick(peer, lane.lane);
        generation
    }

    /// Removes a member from every queue: nobody waits for it any more.
    pub(super) fn end_peer(&self, peer: &Arc<Peer<P>>, fx: &mut Effects<P>) {
        peer.set_closed();
        for lane in 0..peer.lanes().len() {
            drop(peer.with_lane(lane, |out| out.end(MissingReason::Down, &mut fx.wakes)));
        }
        self.relieve(peer, fx);
        fx.wakes.extend(self.space.lock().drain(..));
    }

    /// Merges a session frame from a member. An error is the reason for the ack.
    pub(super) fn merge(
        &self,
        from: MemberId,
        view: &SessionView<'_>,
        now: Time,
        fx: &mut Effects<P>,
    ) -> Result<(), RefusedCode> {
        let context = self.store.context(view.context()).map_err(|_| RefusedCode::Context)?;
        let uid = view.uid();
        let answer = view.flags() & flags::ANSWER != 0;
        if view.flags() & flags::UNKNOWN != 0 {
            self.pulls.lock().answered(context.name(), uid, from);
            return Ok(());
        }
        let merged = context.merge(view, now)?;
        // Not before: whoever sees the count may read what was merged.
        bump(&self.counters.merges);
        if view.flags() & flags::DELTA != 0 {
            bump(&self.counters.changes_merged);
        }
        if answer {
            self.pulls.lock().answered(context.name(), uid, from);
        }
        self.tell_merged(&context, &merged);
        if merged.rescue && !planted!(NoRescue) {
            bump(&self.counters.rescued);
            context.rescue(uid, now, &mut |e| {
                self.spread(&context, e, None, fx);
            });
        }
        // The sender does not know of the death: without this it would serve until its next repair what ended here.
        if merged.dead
            && !planted!(DeathNotTold)
            && let (Some(peer), Some(frame)) = (self.peer(from), context.present(uid, 0, now))
        {
            self.send_session(&peer, &context, uid, frame, fx);
        }
        if !merged.partial {
            return Ok(());
        }
        bump(&self.counters.partials);
        if self.pulls.lock().missed(&context, uid, from, answer, now)
            && let Some(peer) = self.peer(from)
        {
            bump(&self.counters.pulls);
            self.send_message(&peer, peer.lane_of(uid), &Message::Pull(context.name().to_vec(), uid), None, fx);
        }
        if planted!(AckWhilePartial) { Ok(()) } else { Err(RefusedCode::Partial) }
    }

    fn tell_merged(&self, context: &Context, merged: &Merged) {
        // What a state transfer brings was created elsewhere, long before.
        if !self.settings.session_events || self.state() == NodeState::Joining {
            return;
        }
        let (Some(event), Some(id)) = (merged.event, &merged.id) else { return };
        let context = String::from_utf8_lossy(context.name()).into_owned();
        let id = id.name().to_vec();
        self.tell(match event {
            MergedEvent::Created => Event::SessionCreated(context, id),
            MergedEvent::Changed => Event::SessionChanged(context, id),
            MergedEvent::Ended => Event::SessionEnded(context, id),
        });
    }

    /// Answers a member that asks for one session.
    pub(super) fn answer(&self, to: MemberId, name: &[u8], uid: Uid, now: Time, fx: &mut Effects<P>) {
        let (Some(peer), Ok(context)) = (self.peer(to), self.store.context(name)) else { return };
        let frame = context.present(uid, flags::ANSWER, now).unwrap_or_else(|| context.unknown(uid));
        self.send_session(&peer, &context, uid, frame, fx);
    }
}

/// Why a member's acks make no copies now.
fn not_counted<P>(peer: &Peer<P>) -> MissingReason {
    match (peer.is_repairing(), peer.state()) {
        (true, _) => MissingReason::Repair,
        (false, NodeState::Ready) => MissingReason::Suspect,
        (false, NodeState::Joining | NodeState::Leaving) => MissingReason::Joining,
    }
}
