//! What one member brings another: everything to a joiner, and otherwise what the two were found to differ in.
//!
//! A donation of everything walks every context and emits present states (tombstones too). One that repairs a member that was
//! away, or whose queue was given up, asks it first what it holds where digests differ, and brings only that. Both go on the lanes of
//! their sessions and pause above low water. Changes made meanwhile are left to them, so that writers neither starve a donation nor
//! overflow the queue; it brings those sessions next, in passes: each brings what changed during the one before. Callers go on as
//! long as that halves from pass to pass; where it does not they wait, as they do for a full queue. Then it ends with `StateDone`
//! on every lane.
//!
//! Listings are brought the same way, in pieces and when there is room: they grow with what is held.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::core::{Core, Effects};
use super::peer::{Debt, Peer};
use crate::id::{AckLevel, Time, Uid};
use crate::proto::op::Op;
use crate::session::{Buckets, Context, Cursor, SHARDS};
use crate::stats::add;
use crate::wire::{Control as Message, Entry, FrameOut, Listing};

/// Bytes emitted in one turn, at most, so that a donation never holds the control loop for long.
pub(super) const TURN_BYTES: usize = 1 << 20;
/// How soon a donation that waits for room, or leaves it to requests, goes on.
pub(super) const DONATION_INTERVAL: Time = Time::from_millis(1);
/// Entries of one listing; the last bucket may bring more. Half of what a frame takes.
const LIST_MAX: usize = 4096;
/// What an entry takes on the wire.
const ENTRY_BYTES: usize = 32;
/// A pass that takes less is brought to a member worth waiting for, even one that callers once waited for in vain.
const QUICK: Time = Time::from_secs(1);
/// Sessions noted as differing, at most: where more do, everything is brought.
const TOLD_MAX: usize = 1 << 20;
/// How long a listing is waited for before it is asked for again: who has not admitted this node yet does not answer.
const ASK_AGAIN: Time = Time::from_secs(1);
/// Where much is to be listed on a narrow way that takes its time.
const ASK_AGAIN_MAX: Time = Time::from_secs(16);
/// Who was asked so often and listed nothing is brought everything.
const ASKS_MAX: u32 = 3;

/// Why a member is sent what is held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It joins, and asked in this round.
    Join(u64),
    /// It missed something.
    Repair,
    /// It shows something else. Nobody waits for the end of it.
    Differs,
}

/// What this node holds, on its way to one member.
#[derive(Debug)]
pub(super) struct Donation<P> {
    pub(super) peer: Arc<Peer<P>>,
    pub(super) purpose: Purpose,
    plan: Plan,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// It began again because more changed, or was lost, than it kept up with: it leaves no time to requests any more.
    pub(super) hurries: bool,
    /// When this began.
    pub(super) since: Time,
    /// What the present pass brings.
    pass: Pass,
    /// Losses of the member's queue when this began.
    losses: u64,
    /// Confirmed when the member has taken in the end of every lane.
    end: Option<Arc<Op>>,
}

/// Sessions that changed during one pass and are brought by the next.
#[derive(Clone, Copy, Debug)]
struct Pass {
    owed: usize,
    left: usize,
    since: Time,
}

/// What is still to be brought.
#[derive(Debug)]
enum Plan {
    /// Everything of these contexts; `None` before the first turn, since contexts may be made until then.
    Walk(Option<Vec<Arc<Context>>>, Cursor),
    /// What differs.
    Difference(Difference),
    /// What is held of these buckets, as a listing.
    List(Box<List>),
}

#[derive(Debug, Default)]
struct Difference {
    /// The tombstones were noted: digests say nothing of the dead.
    tells_dead: bool,
    /// Contexts that the member has not listed yet; `None` before it was asked.
    asking: Option<Vec<Asked>>,
    ask_again: Time,
    /// How long it is waited for next.
    patience: Time,
    /// How often it was asked since it listed something.
    unanswered: u32,
    /// Sessions to bring, none twice.
    told: VecDeque<(Arc<Context>, Uid)>,
    noted: BTreeSet<(usize, Uid)>,
    /// All that is still to be told is tombstones, which nobody found to differ.
    telling_dead: bool,
    /// What the member listed with a higher version, and brings first.
    later: VecDeque<(Arc<Context>, Entry)>,
    /// Until then it is waited for.
    later_until: Time,
}

/// A context that is compared.
#[derive(Debug)]
struct Asked {
    context: Arc<Context>,
    /// When it was told what is held here, in this round of asking.
    told: Option<Time>,
    /// Comparisons that answer, by who began them: from this number on of this node, and of the member since this node asks.
    rounds: [Option<u64>; 2],
}

/// Who began a comparison: its number is of that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginner {
    Me = 0,
    Member = 1,
}

#[derive(Debug)]
struct List {
    context: Arc<Context>,
    round: u64,
    differ: u32,
    remembers_ms: u64,
    met: u64,
    rest: Buckets,
    shard: usize,
}

/// How far a turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is room for more at once.
    More,
    /// The queue is above low water, or the member has not answered yet.
    Wait,
    /// The member has everything.
    Done,
    /// The end was given up on the way: start again.
    Again,
}

impl<P> Donation<P> {
    fn new(peer: Arc<Peer<P>>, purpose: Purpose, plan: Plan, now: Time) -> Self {
        let losses = peer.losses();
        if purpose != Purpose::Differs {
            peer.open_debt();
        }
        let pass = Pass { owed: usize::MAX, left: 0, since: now };
        Self { peer, purpose, plan, records: 0, bytes: 0, hurries: false, since: now, pass, losses, end: None }
    }

    /// Everything.
    pub(super) fn of_everything(peer: Arc<Peer<P>>, purpose: Purpose, now: Time) -> Self {
        Self::new(peer, purpose, Plan::Walk(None, Cursor::default()), now)
    }

    /// What a member lacks that holds nearly everything.
    pub(super) fn of_repair(peer: Arc<Peer<P>>, now: Time) -> Self {
        Self::new(peer, Purpose::Repair, Plan::Difference(Difference::default()), now)
    }

    /// What a member was found to lack while nothing was wrong.
    pub(super) fn of_difference(peer: Arc<Peer<P>>, now: Time) -> Self {
        let plan = Plan::Difference(Difference { asking: Some(Vec::new()), tells_dead: true, ..Difference::default() });
        Self::new(peer, Purpose::Differs, plan, now)
    }

    /// A listing of what is held of these buckets, for the comparison of this number.
    pub(super) fn of_listing(
        peer: Arc<Peer<P>>,
        context: Arc<Context>,
        round: u64,
        buckets: &Buckets,
        (remembers_ms, met): (u64, u64),
        now: Time,
    ) -> Self {
        let list = List { context, round, differ: buckets.len(), remembers_ms, met, rest: *buckets, shard: 0 };
        Self::new(peer, Purpose::Differs, Plan::List(Box::new(list)), now)
    }

    /// Whether this is a listing of the context for the member: a newer one takes its place.
    pub(super) fn lists(&self, peer: &Arc<Peer<P>>, context: &Arc<Context>) -> bool {
        matches!(&self.plan, Plan::List(list) if Arc::ptr_eq(&list.context, context) && Arc::ptr_eq(&self.peer, peer))
    }

    /// Adds what was found to differ: what is to be told, and what the member tells first. False when this brings something else.
    pub(super) fn bring(
        &mut self,
        peer: &Arc<Peer<P>>,
        context: &Arc<Context>,
        told: &[Uid],
        later: &[Entry],
        now: Time,
    ) -> bool {
        let Plan::Difference(difference) = &mut self.plan else { return false };
        if !Arc::ptr_eq(&self.peer, peer) || self.end.is_some() {
            return false;
        }
        let noted = difference.told.len() + difference.later.len();
        if noted + told.len() + later.len() <= TOLD_MAX {
            told.iter().for_each(|uid| difference.tell(context, *uid));
            difference.later.extend(later.iter().map(|entry| (Arc::clone(context), *entry)));
            difference.later_until = now + ASK_AGAIN;
        } else if self.purpose == Purpose::Repair {
            self.plan = Plan::Walk(None, Cursor::default());
        }
        // Otherwise the next comparison finds the rest.
        true
    }

    /// The member listed all of a context where the two differ, in this comparison.
    pub(super) fn listed(&mut self, peer: &Arc<Peer<P>>, context: &Arc<Context>, by: Beginner, round: u64) {
        if let Some(asked) = self.asked(peer, context)
            && asked.rounds[by as usize].is_some_and(|first| round >= first)
            && let Plan::Difference(Difference { asking: Some(asking), .. }) = &mut self.plan
        {
            asking.retain(|asked| !Arc::ptr_eq(&asked.context, context));
        }
    }

    /// Whether a listing of this context was asked for a moment ago.
    pub(super) fn asks(&mut self, peer: &Arc<Peer<P>>, context: &Arc<Context>, now: Time) -> bool {
        let told = self.asked(peer, context).and_then(|asked| asked.told);
        told.is_some_and(|told| now.saturating_sub(told) < ASK_AGAIN)
    }

    /// The member listed something.
    pub(super) fn hears(&mut self, peer: &Arc<Peer<P>>) {
        if let Plan::Difference(difference) = &mut self.plan
            && Arc::ptr_eq(&self.peer, peer)
        {
            difference.unanswered = 0;
        }
    }

    /// Whether the member is still to be brought what was found to differ.
    pub(super) fn brings(&self, peer: &Arc<Peer<P>>) -> bool {
        Arc::ptr_eq(&self.peer, peer)
            && matches!(&self.plan, Plan::Difference(d) if !d.told.is_empty() || !d.later.is_empty())
    }

    /// What is listed now, for a comparison that the member began, is all that this brings: its answer does for this too.
    pub(super) fn takes_part(&mut self, peer: &Arc<Peer<P>>, context: &Arc<Context>, round: u64) {
        if let Some(asked) = self.asked(peer, context) {
            asked.rounds[Beginner::Member as usize].get_or_insert(round);
        }
    }

    fn asked(&mut self, peer: &Arc<Peer<P>>, context: &Arc<Context>) -> Option<&mut Asked> {
        let Plan::Difference(Difference { asking: Some(asking), .. }) = &mut self.plan else { return None };
        let asked = asking.iter_mut().find(|asked| Arc::ptr_eq(&asked.context, context))?;
        Arc::ptr_eq(&self.peer, peer).then_some(asked)
    }

    /// Begins again: what was sent may be lost.
    pub(super) fn restart(&mut self, now: Time) {
        let (peer, since) = (Arc::clone(&self.peer), self.since);
        let hurries = self.hurries || self.losses != peer.losses();
        *self = match &self.plan {
            Plan::Difference(_) => Self::of_repair(peer, now),
            Plan::Walk(..) | Plan::List(_) => Self::of_everything(peer, self.purpose, now),
        };
        (self.since, self.hurries) = (since, hurries);
    }

    /// Sends some more, at most so much.
    pub(super) fn step(&mut self, core: &Core<P>, turn: usize, now: Time, fx: &mut Effects<P>) -> Step {
        if let Some(end) = &self.end {
            if !end.is_done() {
                return Step::Wait;
            }
            let lost = !end.outcome().missing.is_empty();
            return if lost { Step::Again } else { Step::Done };
        }
        if matches!(&self.plan, Plan::Difference(d) if d.unanswered > ASKS_MAX) {
            self.plan = Plan::Walk(None, Cursor::default());
        }
        let turn = if self.hurries { TURN_BYTES } else { turn };
        let mut budget = turn;
        let step = match &mut self.plan {
            Plan::Walk(contexts, cursor) => {
                let contexts = contexts.get_or_insert_with(|| core.store().contexts());
                let mut way = Way { peer: &self.peer, records: &mut self.records, bytes: &mut self.bytes, core, now };
                walk(contexts, cursor, &mut way, &mut budget, fx)
            }
            Plan::Difference(difference) => {
                let mut way = Way { peer: &self.peer, records: &mut self.records, bytes: &mut self.bytes, core, now };
                difference.step(&mut way, &mut budget, fx)
            }
            // Shorter ones take no less time: a shard is walked for each.
            Plan::List(list) => return list.step(&self.peer, core, fx),
        };
        match step {
            // The rest of the time is for others.
            Some(Step::More) if turn < TURN_BYTES => return Step::Wait,
            Some(step) => return step,
            None => {}
        }
        // What changed meanwhile is not to become more again.
        let budget = TURN_BYTES;
        match self.purpose {
            Purpose::Join(round) => self.finish(round, budget, core, now, fx),
            Purpose::Repair => self.finish(0, budget, core, now, fx),
            Purpose::Differs => Step::Done,
        }
    }

    /// Brings what changed meanwhile, and the end.
    fn finish(&mut self, round: u64, mut budget: usize, core: &Core<P>, now: Time, fx: &mut Effects<P>) -> Step {
        let low = core.settings().low_water;
        loop {
            if budget == 0 || self.peer.queued() >= low {
                return if budget == 0 { Step::More } else { Step::Wait };
            }
            if self.pass.left == 0 {
                let owed = self.peer.owed();
                if owed > self.pass.owed / 2 {
                    self.peer.catch_up(now.saturating_sub(self.pass.since) < QUICK);
                }
                self.pass = Pass { owed, left: owed, since: now };
            }
            self.pass.left = self.pass.left.saturating_sub(1);
            match self.peer.take_owed() {
                Debt::Settled => break,
                Debt::Everything => return Step::Again,
                Debt::Session(owed) => {
                    // What is not held any more is owed to nobody.
                    let Some(frame) = owed.context.present(owed.uid, 0, now) else { continue };
                    budget = budget.saturating_sub(frame.weight());
                    self.records += 1;
                    self.bytes += frame.len as u64;
                    core.send_session(&self.peer, &owed.context, owed.uid, frame, fx);
                }
            }
        }
        let op = Arc::new(Op::default());
        let lanes = self.peer.lanes().len();
        for lane in 0..lanes {
            op.expect(self.peer.id());
            let message = Message::StateDone(round, self.records, u16::try_from(lanes).unwrap_or(u16::MAX));
            core.send_end(&self.peer, lane, &message, &op, self.losses, fx);
        }
        op.seal();
        debug_assert_eq!(op.level(), AckLevel::Applied);
        self.end = Some(op);
        Step::Wait
    }
}

/// The way of a donation to its member.
struct Way<'a, P> {
    peer: &'a Arc<Peer<P>>,
    records: &'a mut u64,
    bytes: &'a mut u64,
    core: &'a Core<P>,
    now: Time,
}

impl<P> Way<'_, P> {
    /// Bytes that may be sent now.
    fn room(&self, budget: usize) -> usize {
        self.core.settings().low_water.saturating_sub(self.peer.queued()).min(budget)
    }

    fn send(&mut self, context: &Arc<Context>, uid: Uid, frame: FrameOut, fx: &mut Effects<P>) {
        *self.records += 1;
        *self.bytes += frame.len as u64;
        self.core.send_session(self.peer, context, uid, frame, fx);
    }
}

/// Sends some more of everything. `None` when that was all of it.
fn walk<P>(
    contexts: &mut Vec<Arc<Context>>,
    cursor: &mut Cursor,
    way: &mut Way<'_, P>,
    budget: &mut usize,
    fx: &mut Effects<P>,
) -> Option<Step> {
    while let Some(context) = contexts.last().cloned() {
        let room = way.room(*budget);
        if room == 0 {
            return Some(if *budget == 0 { Step::More } else { Step::Wait });
        }
        let mut sent = 0;
        let done = context.scan(cursor, room, way.now, &mut |uid, frame: FrameOut| {
            sent += frame.weight();
            way.send(&context, uid, frame, fx);
        });
        *budget = budget.saturating_sub(if done { sent.max(1) } else { sent.max(room) });
        if done {
            contexts.pop();
            *cursor = Cursor::default();
        }
    }
    None
}

impl Difference {
    /// Sends some more of what differs. `None` when that was all of it.
    fn step<P>(&mut self, way: &mut Way<'_, P>, budget: &mut usize, fx: &mut Effects<P>) -> Option<Step> {
        if self.asking.is_none() {
            let asked = |context| Asked { context, told: None, rounds: [None; 2] };
            (self.asking, self.ask_again) =
                (Some(way.core.store().contexts().into_iter().map(asked).collect()), way.now + ASK_AGAIN);
        }
        let asking = self.asking.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
        if way.now >= self.ask_again {
            asking.iter_mut().for_each(|asked| asked.told = None);
            self.unanswered += u32::from(!asking.is_empty());
            self.patience = (2 * self.patience).clamp(ASK_AGAIN, ASK_AGAIN_MAX);
            self.ask_again = way.now + self.patience;
        }
        for asked in asking.iter_mut().filter(|asked| asked.told.is_none()) {
            if way.room(*budget) == 0 {
                return Some(Step::Wait);
            }
            let round = way.core.tell_digest(way.peer, &asked.context, fx);
            asked.rounds[Beginner::Me as usize].get_or_insert(round);
            asked.told = Some(way.now);
        }
        let waits = !asking.is_empty();
        while way.room(*budget) > 0 {
            let Some((context, uid)) = self.next() else {
                if self.is_told_first(way.now) || waits {
                    return Some(Step::Wait);
                }
                if self.told.is_empty() {
                    // Last, so that who died meanwhile is among them.
                    if std::mem::replace(&mut self.tells_dead, true) {
                        return None;
                    }
                    self.tell_dead(way.core);
                }
                continue;
            };
            // What is not held any more differs no longer.
            let Some(frame) = context.present(uid, 0, way.now) else { continue };
            *budget = budget.saturating_sub(frame.weight());
            if !self.telling_dead {
                add(&way.core.counters.repair_sessions, 1);
                add(&way.core.counters.repair_bytes, frame.len as u64);
            }
            way.send(&context, uid, frame, fx);
        }
        Some(if *budget == 0 { Step::More } else { Step::Wait })
    }

    /// Looks at what the member was to bring first: what it lacks nevertheless is told. True while there is more to wait for.
    fn is_told_first(&mut self, now: Time) -> bool {
        while let Some((context, entry)) = self.later.front() {
            match context.lacks(entry) {
                None if now < self.later_until => return true,
                Some(false) => {}
                None | Some(true) => {
                    let (context, uid) = (Arc::clone(context), entry.uid);
                    self.tell(&context, uid);
                }
            }
            self.later.pop_front();
        }
        false
    }

    /// Notes all tombstones.
    fn tell_dead<P>(&mut self, core: &Core<P>) {
        self.telling_dead = true;
        for context in core.store().contexts() {
            context.dead().into_iter().for_each(|uid| self.tell(&context, uid));
        }
    }

    /// Notes a session to bring.
    fn tell(&mut self, context: &Arc<Context>, uid: Uid) {
        if self.noted.insert((Arc::as_ptr(context) as usize, uid)) {
            self.told.push_back((Arc::clone(context), uid));
        }
    }

    /// The next session to bring. It may be noted again from now on.
    fn next(&mut self) -> Option<(Arc<Context>, Uid)> {
        let (context, uid) = self.told.pop_front()?;
        self.noted.remove(&(Arc::as_ptr(&context) as usize, uid));
        Some((context, uid))
    }
}

impl List {
    /// Sends some more of a listing.
    fn step<P>(&mut self, peer: &Arc<Peer<P>>, core: &Core<P>, fx: &mut Effects<P>) -> Step {
        let mut budget = TURN_BYTES;
        loop {
            let room = core.settings().low_water.saturating_sub(peer.queued()).min(budget);
            if room == 0 {
                return if budget == 0 { Step::More } else { Step::Wait };
            }
            let max = (room / ENTRY_BYTES).clamp(1, LIST_MAX);
            let (mut covered, mut entries) = (Buckets::default(), Vec::new());
            while self.shard < SHARDS && entries.len() < max {
                let Some((more, mut list)) = self.context.list(self.shard, &self.rest, max - entries.len()) else {
                    self.shard += 1;
                    continue;
                };
                covered = covered.union(&more);
                self.rest = self.rest.without(&more);
                entries.append(&mut list);
            }
            let done = self.shard == SHARDS;
            let listing = Listing {
                context: self.context.name().to_vec(),
                round: self.round,
                answer: false,
                last: done,
                differ: self.differ,
                remembers_ms: self.remembers_ms,
                met: self.met,
                buckets: covered.bits(),
                entries,
            };
            let sent = core.send_compared(peer, &Message::Listing(Box::new(listing)), fx);
            budget = budget.saturating_sub(sent);
            if done {
                return Step::Done;
            }
        }
    }
}
