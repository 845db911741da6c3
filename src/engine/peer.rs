//! A remote member as this node sends to it: its lanes, what it can use, and what is queued to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::id::{MemberId, NodeState, Time, Uid};
use crate::mutant::planted;
use crate::proto::outbound::{LaneState, Outbound};
use crate::proto::view::View;
use crate::session::Context;

/// A session, as a lane remembers what it carried.
#[derive(Clone, Debug)]
pub struct SessionRef {
    /// Its context.
    pub context: Arc<Context>,
    /// Its identity.
    pub uid: Uid,
}

impl PartialEq for SessionRef {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid && Arc::ptr_eq(&self.context, &other.context)
    }
}

/// One lane to a member: the queue, and what the shell keeps for it.
#[derive(Debug)]
pub struct Lane<P> {
    out: Mutex<Outbound<SessionRef>>,
    /// When the member was heard on it last, where acks come.
    answered: AtomicU64,
    /// The shell's own.
    pub port: P,
}

/// One remote member.
#[derive(Debug)]
pub struct Peer<P> {
    id: MemberId,
    name: String,
    addr: SocketAddr,
    lanes: Box<[Lane<P>]>,
    state: AtomicU8,
    repairing: AtomicBool,
    reach: AtomicU8,
    closed: AtomicBool,
    pressed: AtomicBool,
    stalled: AtomicBool,
    queued: AtomicUsize,
    /// Bytes that the operating system has taken for it.
    taken: AtomicU64,
    brought: AtomicU64,
    /// Times that its queue was given up.
    losses: AtomicU64,
    heard: AtomicU64,
    /// What a donation still has to bring because it changed meanwhile; `None` while there is none to bring it.
    owed: Mutex<Option<Owed>>,
    /// How far the last donation is.
    donation: AtomicU8,
    /// Buckets of each context in which it showed something else when that was looked at last.
    divergence: Mutex<BTreeMap<Vec<u8>, [u32; 2]>>,
}

/// Whether a member in view can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reach {
    /// As far as is known.
    Sure,
    /// It is being verified.
    Doubtful,
    /// And was not heard on any lane for the drop time, or failed an echo.
    Silent,
    /// Others reach it, this node does not.
    None,
}

/// Sessions that changed while a donation was under way. However often one changes, it is sent once.
#[derive(Debug, Default)]
struct Owed {
    sessions: Vec<(Arc<Context>, BTreeSet<Uid>)>,
    len: usize,
}

/// A donation goes through everything and brings what changed, or none was made.
const WALKING: u8 = 0;
/// It brings what changed meanwhile, and callers wait for that.
const CATCHING_UP: u8 = 1;
/// It has brought everything.
const SETTLED: u8 = 2;
/// It brings what changed as the member takes it, and nobody waits.
const PATIENT: u8 = 3;

/// Sessions owed to one member, at most; above it everything is.
const OWED_MAX: usize = 1 << 20;

/// What a donation has to bring next beside its walk.
#[derive(Debug)]
pub(crate) enum Debt {
    /// Nothing; from now on changes are queued.
    Settled,
    /// This session.
    Session(SessionRef),
    /// More than was noted.
    Everything,
}

/// A lane of a peer, as effects name it.
#[derive(Debug)]
pub struct LaneRef<P> {
    /// The member.
    pub peer: Arc<Peer<P>>,
    /// Which of its lanes.
    pub lane: usize,
}

impl<P> Clone for LaneRef<P> {
    fn clone(&self) -> Self {
        Self { peer: Arc::clone(&self.peer), lane: self.lane }
    }
}

impl<P> LaneRef<P> {
    /// The lane.
    pub fn get(&self) -> &Lane<P> {
        &self.peer.lanes[self.lane]
    }
}

/// Who changes go to: the members in view with their lanes, as one immutable value.
#[derive(Debug)]
pub struct Roster<P> {
    /// The view it stands for.
    pub view: Arc<View>,
    /// The members in view, by id, this node not among them.
    pub peers: Vec<Arc<Peer<P>>>,
}

impl<P> Peer<P> {
    pub(crate) fn new(
        id: MemberId,
        name: String,
        addr: SocketAddr,
        lanes: usize,
        mut port: impl FnMut(usize) -> P,
    ) -> Self {
        let lane = |lane| Lane { out: Mutex::new(Outbound::new(id)), answered: AtomicU64::new(0), port: port(lane) };
        let lanes = (0..lanes.max(1)).map(lane).collect();
        Self {
            id,
            name,
            addr,
            lanes,
            state: AtomicU8::new(NodeState::Joining as u8),
            repairing: AtomicBool::new(false),
            reach: AtomicU8::new(Reach::Sure as u8),
            closed: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            brought: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            owed: Mutex::new(None),
            donation: AtomicU8::new(WALKING),
            divergence: Mutex::default(),
        }
    }

    /// Notes in how many buckets of a context it showed something else than this node.
    pub(crate) fn note_divergence(&self, context: &[u8], buckets: u32) {
        let mut divergence = self.divergence.lock();
        let [_, last] = divergence.get(context).copied().unwrap_or_default();
        if buckets == 0 && last == 0 {
            divergence.remove(context);
        } else {
            divergence.insert(context.to_vec(), [last, buckets]);
        }
    }

    /// In how many buckets of all contexts it showed something else the last two times: what is under way differs once.
    pub fn divergence(&self) -> u32 {
        self.divergence.lock().values().map(|[before, last]| *before.min(last)).sum()
    }

    /// Whether it showed something else when that was looked at last.
    pub(super) fn differs(&self) -> bool {
        self.divergence.lock().values().any(|[_, last]| *last > 0)
    }

    /// A donation begins: from now on it brings what [`owe`](Self::owe) notes.
    pub(crate) fn open_debt(&self) {
        let mut owed = self.owed.lock();
        owed.get_or_insert_default();
        self.donation.store(WALKING, Ordering::Release);
    }

    /// Leaves a session to the donation under way; false when there is none, and the change must be queued.
    pub(crate) fn owe(&self, context: &Arc<Context>, uid: Uid) -> bool {
        let mut owed = self.owed.lock();
        let Some(owed) = &mut *owed else { return false };
        if owed.len < OWED_MAX && !planted!(OwedForgotten) {
            let at = owed.sessions.iter().position(|(c, _)| Arc::ptr_eq(c, context)).unwrap_or_else(|| {
                owed.sessions.push((Arc::clone(context), BTreeSet::new()));
                owed.sessions.len() - 1
            });
            owed.len += usize::from(owed.sessions[at].1.insert(uid));
        }
        true
    }

    /// Takes what is owed next. Where that is nothing the debt is closed in the same step, so that no change falls between.
    pub(crate) fn take_owed(&self) -> Debt {
        let mut owed = self.owed.lock();
        // Another donation to the same member may have paid it.
        if let Some(debt) = &mut *owed {
            if debt.len == OWED_MAX {
                *debt = Owed::default();
                return Debt::Everything;
            }
            while let Some((context, uids)) = debt.sessions.last_mut() {
                if let Some(uid) = uids.pop_first() {
                    debt.len -= 1;
                    return Debt::Session(SessionRef { context: Arc::clone(context), uid });
                }
                debt.sessions.pop();
            }
        }
        *owed = None;
        self.donation.store(SETTLED, Ordering::Release);
        Debt::Settled
    }

    /// Sessions that are owed now.
    pub(crate) fn owed(&self) -> usize {
        self.owed.lock().as_ref().map_or(0, |owed| owed.len)
    }

    /// What changes is more than the donation brings: callers wait until it has brought everything. Where they waited in vain
    /// before, only if it has become `quick`.
    pub(crate) fn catch_up(&self, quick: bool) {
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        if self.donation.compare_exchange(WALKING, CATCHING_UP, set, get) == Err(PATIENT) && quick {
            let _ = self.donation.compare_exchange(PATIENT, CATCHING_UP, set, get);
        }
    }

    /// Nobody waits for this donation any more.
    pub(crate) fn go_on(&self) {
        let _ = self.donation.compare_exchange(CATCHING_UP, PATIENT, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn is_catching_up(&self) -> bool {
        self.donation.load(Ordering::Acquire) == CATCHING_UP
    }

    /// Whether its last donation has brought everything: changes are queued again, and it counts when it has taken in the end.
    pub(crate) fn is_settled(&self) -> bool {
        self.donation.load(Ordering::Acquire) == SETTLED
    }

    /// Its incarnation.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address that its lanes are dialled at.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its lanes.
    pub fn lanes(&self) -> &[Lane<P>] {
        &self.lanes
    }

    /// The lane that a session is pinned to.
    pub fn lane_of(&self, uid: Uid) -> usize {
        // The modulus is below the number of lanes, which is small.
        #[expect(clippy::cast_possible_truncation, reason = "below the number of lanes")]
        {
            (uid.hash64() % self.lanes.len() as u64) as usize
        }
    }

    /// What it said of itself last.
    pub fn state(&self) -> NodeState {
        NodeState::from_wire(self.state.load(Ordering::Acquire)).unwrap_or(NodeState::Joining)
    }

    /// Notes what it said of itself. An incarnation never goes back: the handshake of one lane may be read after a later
    /// word on another.
    pub(crate) fn set_state(&self, state: NodeState) {
        self.state.fetch_max(state as u8, Ordering::AcqRel);
    }

    /// Whether it is being brought up to date after a loss.
    pub fn is_repairing(&self) -> bool {
        self.repairing.load(Ordering::Acquire)
    }

    /// Marks it; true when it was not marked before.
    pub(crate) fn set_repairing(&self, on: bool) -> bool {
        self.repairing.swap(on, Ordering::AcqRel) != on
    }

    /// Notes how far it is in reach: within one suspicion this only gets worse.
    pub(crate) fn set_reach(&self, reach: Reach) {
        if reach == Reach::Sure {
            self.reach.store(reach as u8, Ordering::Release);
        } else {
            self.reach.fetch_max(reach as u8, Ordering::AcqRel);
        }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.reach.load(Ordering::Acquire) != Reach::Sure as u8
    }

    /// Whether it answers others and not this node.
    pub fn is_unreachable(&self) -> bool {
        self.reach.load(Ordering::Acquire) == Reach::None as u8
    }

    /// Whether it is silent and owes an answer on this lane: one caller waits for that, and no more need to. A lane that is closed is
    /// another matter: what is queued goes with the next connection.
    pub(crate) fn owes(&self, lane: usize) -> bool {
        let reach = self.reach.load(Ordering::Acquire);
        let owes = || self.lanes[lane].peek(|out| out.state() == LaneState::Open && out.in_flight() > 0);
        reach == Reach::None as u8 || reach == Reach::Silent as u8 && owes()
    }

    /// Whether it was heard on no lane since then.
    pub(crate) fn is_unheard_since(&self, then: Time) -> bool {
        self.lanes.iter().all(|lane| lane.answered() <= then)
    }

    /// Whether it was removed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether its acks make copies: it is ready and holds everything.
    pub fn counts(&self) -> bool {
        (self.state() == NodeState::Ready || planted!(JoinerIsCopy))
            && (!self.is_repairing() || planted!(RepairedTooEarly))
    }

    /// Memory of what is queued to it and not yet handed to the operating system, in bytes.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Memory of what the operating system has taken for it so far, in bytes.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Notes that the operating system took something; true when it had not for so long that nobody waited any more.
    pub(crate) fn note_taken(&self, bytes: usize) -> bool {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        bytes > 0 && self.is_stalled() && self.stalled.swap(false, Ordering::Relaxed)
    }

    /// Notes that it takes in nothing: nobody waits for its queue until it does.
    pub(crate) fn set_stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether it took in nothing since that was noted.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Times that its queue was given up: who counts before sending, and finds the same number under a lane's lock
    /// afterwards, has lost nothing of what it queued on that lane before.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Notes that its queue is about to be given up.
    pub(crate) fn note_loss(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that it sent a whole session.
    pub(crate) fn note_brought(&self) {
        self.brought.fetch_add(1, Ordering::Relaxed);
    }

    /// Whole sessions that it sent so far.
    pub(crate) fn brought(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }

    /// Notes that it was heard; what `Control` takes as life.
    pub fn hear(&self, now: Time) {
        self.heard.store(nanos(now), Ordering::Relaxed);
    }

    /// Notes that it was heard on a lane.
    pub(crate) fn answer(&self, lane: usize, now: Time) {
        self.hear(now);
        self.lanes[lane].answered.store(nanos(now), Ordering::Relaxed);
    }

    /// When it was heard last, once: what was told already must not speak for a member that fell silent since.
    pub(crate) fn take_heard(&self) -> Option<Time> {
        match self.heard.swap(0, Ordering::Relaxed) {
            0 => None,
            nanos => Some(Time::from_nanos(nanos)),
        }
    }

    /// Whether callers may wait for its queue to fall below low water.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Whether back-pressure was announced; `set` returns whether that changed.
    pub(crate) fn set_pressed(&self, on: bool) -> bool {
        self.pressed.load(Ordering::Relaxed) != on && self.pressed.swap(on, Ordering::AcqRel) != on
    }

    /// Does something to a lane's queue and keeps the peer's byte count true.
    pub fn with_lane<R>(&self, lane: usize, f: impl FnOnce(&mut Outbound<SessionRef>) -> R) -> R {
        let mut out = self.lanes[lane].out.lock();
        let before = out.held();
        let result = f(&mut out);
        let after = out.held();
        if after >= before {
            self.queued.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.queued.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }
}

impl<P> Lane<P> {
    /// When the member was heard on it last; zero before the first time.
    pub(crate) fn answered(&self) -> Time {
        Time::from_nanos(self.answered.load(Ordering::Relaxed))
    }

    /// The queue, read only: changes go through [`Peer::with_lane`].
    pub fn peek<R>(&self, f: impl FnOnce(&Outbound<SessionRef>) -> R) -> R {
        let out: MutexGuard<'_, Outbound<SessionRef>> = self.out.lock();
        f(&out)
    }
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
