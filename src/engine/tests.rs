//! What the control loop does with inputs, seen in its actions and in the queues.

use std::sync::Arc;

use super::*;
use crate::buffer::Slice;
use crate::engine::peer::Reach;
use crate::id::{AckLevel, MemberId, NodeState, Time, Uid, Version};
use crate::proto::link::Identity;
use crate::proto::op::MissingReason;
use crate::proto::outbound::{Drain, Gather};
use crate::session::{BUCKETS, Changes, Digest, Limits, Settings};
use crate::wire::{self, Decoder, Kind, Listing};

mod compare;

const MS: Time = Time::from_millis(1);
const OTHER: MemberId = MemberId(2);

struct Node {
    core: Arc<Core<()>>,
    control: Control<()>,
    fx: Effects<()>,
    now: Time,
    /// Frames on the lane that the other member has answered for.
    acked: u64,
    /// How long others remember their dead.
    remembers_ms: u64,
}

fn addr(n: u8) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, n], 4700))
}

impl Node {
    fn new(lanes: usize) -> Self {
        Self::patient(lanes, Time::from_secs(3600))
    }

    /// A node with this drop time.
    fn patient(lanes: usize, drop_time: Time) -> Self {
        Self::with(lanes, drop_time, 4, 1000 * MS)
    }

    fn with(lanes: usize, drop_time: Time, contexts_max: usize, queue_wait: Time) -> Self {
        let identity = Identity {
            member: MemberId(1),
            cluster: wire::cluster_tag("t"),
            name: String::from("one"),
            addr: addr(1),
            versions: wire::PROTOCOL,
        };
        let core = Arc::new(Core::new(CoreSettings {
            identity,
            lanes,
            limits: Limits {
                value_bytes_max: 1 << 16,
                session_bytes_max: 1 << 16,
                store_bytes_max: 1 << 24,
                tombstones_max: 100,
                contexts_max,
            },
            sessions: Settings {
                max_idle: Time::from_secs(1800),
                idle_grace: Time::from_secs(60),
                touch_interval: Time::from_secs(5),
                horizon: Time::from_secs(3600),
            },
            high_water: 1 << 20,
            low_water: 1 << 19,
            queue_bytes_max: 1 << 21,
            event_queue: 64,
            session_events: false,
            seed: 1,
        }));
        let settings = ControlSettings {
            frequency: 100 * MS,
            drop_time,
            verify_timeout: 100 * MS,
            state_transfer_timeout: Time::from_secs(60),
            partition_max: Time::from_secs(1800),
            queue_wait,
            members_max: 8,
            seed: 1,
        };
        let control = Control::new(Arc::clone(&core), settings, Box::new(|_, _| ()), Time::ZERO);
        Self { core, control, fx: Effects::default(), now: Time::ZERO, acked: 0, remembers_ms: 10_000 }
    }

    fn post(&mut self, input: Input) -> &mut Self {
        self.core.inputs().post(input);
        self.control.handle_inputs(self.now, &mut self.fx);
        self
    }

    fn wait(&mut self, ms: u32) -> &mut Self {
        self.now += ms * MS;
        self.control.handle_timeout(self.now, &mut self.fx);
        self
    }

    /// It has nothing to do at once.
    fn is_idle(&mut self) {
        self.control.handle_inputs(self.now, &mut self.fx);
        self.wait(0).wait(0);
        assert!(self.control.poll_timeout().is_none_or(|due| due > self.now), "it would turn and turn");
    }

    fn hello(&mut self, state: NodeState) -> &mut Self {
        self.post(Input::Hello { member: OTHER, name: String::from("two"), addr: addr(2), state })
    }

    fn open(&mut self, lane: usize, state: NodeState) -> &mut Self {
        if let Some(peer) = self.core.peer(OTHER) {
            peer.set_state(state);
        }
        self.post(Input::LaneOpen { member: OTHER, name: String::from("two"), state, lane })
    }

    /// A list of nothing in all buckets.
    fn listing(&self) -> Listing {
        Listing {
            context: b"app".to_vec(),
            round: self.core.rounds(),
            answer: false,
            last: true,
            differ: 1,
            remembers_ms: self.remembers_ms,
            met: u64::MAX,
            buckets: [u64::MAX; BUCKETS / 64],
            entries: Vec::new(),
        }
    }

    /// The other member lists that it holds nothing.
    fn lists_nothing(&mut self) -> &mut Self {
        let listing = self.listing();
        self.post(Input::Listing(OTHER, Box::new(listing)))
    }

    /// Lanes that the shell is told to dial.
    fn dials(&mut self) -> Vec<usize> {
        std::iter::from_fn(|| self.control.poll_action())
            .filter_map(|action| match action {
                Action::Dial(lane) => Some(lane.lane),
                Action::Ping(_) | Action::Probe { .. } | Action::Cut(_) | Action::Close(_) => None,
            })
            .collect()
    }

    /// Kinds of the frames queued to the other member.
    fn queued(&mut self, lane: usize) -> Vec<Kind> {
        let peer = self.core.peer(OTHER).unwrap();
        let mut gather = Gather::default();
        let mut decoder = Decoder::new(1 << 20);
        decoder.authenticated();
        peer.with_lane(lane, |out| {
            out.close();
            let _in_flight = out.take_unacked();
            out.open(Vec::new());
            if out.begin_drain() {
                out.gather(&mut gather, usize::MAX, 1000);
                let _drain = out.wrote(&gather, gather.len, false, &mut self.fx.wakes);
            }
        });
        for part in &gather.parts {
            decoder.feed(part);
        }
        std::iter::from_fn(|| decoder.next().unwrap()).map(|frame| frame.kind).collect()
    }

    fn commit(&mut self, id: &[u8]) {
        self.write(id, b"");
    }

    /// A change that a caller waits for.
    fn ask(&mut self, id: &[u8]) -> Arc<crate::proto::op::Op> {
        self.end(id, b"", Send::Acked(AckLevel::Applied)).unwrap()
    }

    /// Writes what is queued to the other member, which answers for all that it was sent.
    fn settle(&mut self) -> &mut Self {
        let peer = self.core.peer(OTHER).unwrap();
        self.flush();
        peer.with_lane(0, |out| {
            let settled = self.acked + out.in_flight() as u64;
            let ack = wire::Ack { received: settled, applied: settled, ..wire::Ack::default() };
            out.ack(&ack, &mut self.fx.wakes).unwrap();
            self.acked = settled;
        });
        self
    }

    /// The connection takes so much.
    fn takes(&mut self, bytes: usize) {
        let peer = self.core.peer(OTHER).unwrap();
        let mut gather = Gather::default();
        let taken = peer.with_lane(0, |out| {
            if !out.begin_drain() {
                return 0;
            }
            out.gather(&mut gather, bytes, 1000);
            let taken = gather.len.min(bytes);
            if out.wrote(&gather, taken, false, &mut self.fx.wakes) == Drain::More {
                out.yield_drain(&gather);
            }
            taken
        });
        if peer.note_taken(taken) {
            self.post(Input::Pressed(OTHER));
        }
    }

    /// Writes what is queued to the other member.
    fn flush(&mut self) {
        let mut gather = Gather::default();
        self.core.peer(OTHER).unwrap().with_lane(0, |out| {
            if out.begin_drain() {
                out.gather(&mut gather, usize::MAX, 1000);
                let _drain = out.wrote(&gather, gather.len, false, &mut self.fx.wakes);
            }
        });
    }

    fn write(&mut self, id: &[u8], value: &[u8]) {
        self.end(id, value, Send::Queued);
    }

    fn end(&mut self, id: &[u8], value: &[u8], send: Send) -> Option<Arc<crate::proto::op::Op>> {
        let context = self.core.store().context(b"app").unwrap();
        let mut handle = context.begin(id, self.now);
        context.create(&mut handle);
        let mut changes = Changes { touch: true, ..Changes::default() };
        changes.writes.push((b"value".as_slice().into(), Some(Slice::copy_from(value))));
        self.core.commit(&context, &mut handle, &changes, send, self.now, &mut self.fx).unwrap().op
    }
}

#[test]
fn a_lane_lost_before_its_member_was_admitted_is_dialled_again_after() {
    let mut node = Node::new(2);
    node.hello(NodeState::Ready);
    assert_eq!(node.dials(), [0, 1]);
    node.post(Input::LaneLost { member: OTHER, lane: 1, opened: false });
    node.open(0, NodeState::Ready).wait(1);
    assert_eq!(node.dials(), [1]);
}

#[test]
fn a_joiner_that_asked_before_it_was_known_is_answered_once_it_is_live() {
    let mut node = Node::new(1);
    node.post(Input::StateRequest(OTHER, 1)).hello(NodeState::Joining).wait(1);
    // Contexts that are made until then are part of the answer.
    node.commit(b"s");
    node.open(0, NodeState::Joining).wait(1);
    assert_eq!(node.queued(0), [Kind::Status, Kind::Session, Kind::StateDone]);
}

#[test]
fn a_joiner_that_opened_without_asking_is_no_copy_before_it_was_brought_everything() {
    let mut node = Node::new(1);
    node.wait(300);
    node.commit(b"s");
    node.hello(NodeState::Joining).open(0, NodeState::Joining).wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    node.post(Input::Status(OTHER, NodeState::Ready));
    assert!(peer.is_repairing() && !peer.counts());
    let _status = node.queued(0);

    let mut node = Node::new(1);
    node.wait(300);
    node.commit(b"s");
    node.hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1)).wait(1);
    node.post(Input::Status(OTHER, NodeState::Ready));
    assert!(node.core.peer(OTHER).unwrap().counts(), "it was brought everything");
}

#[test]
fn members_that_show_different_things_send_each_other_what_differs() {
    let mut node = Node::new(1);
    node.wait(300);
    assert_eq!(node.control.state(), NodeState::Ready);
    node.commit(b"s");
    node.hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    assert_eq!(node.queued(0), [Kind::Status, Kind::Digest], "who was ready before is asked what it holds");
    node.lists_nothing().wait(1);
    // All of the first repair is settled.
    let mut ack = wire::Ack::default();
    assert_eq!(node.queued(0), [Kind::Listing, Kind::Session, Kind::StateDone]);
    let peer = node.core.peer(OTHER).unwrap();
    peer.with_lane(0, |out| {
        (ack.received, ack.applied) = (out.in_flight() as u64, out.in_flight() as u64);
        out.ack(&ack, &mut node.fx.wakes).unwrap();
    });
    node.wait(1);
    assert!(peer.counts());

    let context = node.core.store().context(b"app").unwrap();
    let same = Input::Digest { member: OTHER, context: b"app".to_vec(), round: 1, digest: context.digest() };
    node.post(same).wait(1);
    assert_eq!(node.queued(0), [Kind::Listing], "that there is no difference");
    assert_eq!(node.core.stats().divergent, 0);

    for divergent in [0, 1] {
        let digest = Digest::new(Box::new([0; BUCKETS]));
        node.post(Input::Digest { member: OTHER, context: b"app".to_vec(), round: 1, digest }).wait(1);
        assert_eq!(node.queued(0), [Kind::Listing]);
        assert_eq!(node.core.stats().divergent, divergent, "what differs once may be under way");
    }
    node.lists_nothing().wait(1);
    assert_eq!(node.queued(0), [Kind::Listing, Kind::Session], "it holds nothing, and is brought what is here");
}

#[test]
fn what_changes_beside_a_donation_waits_for_room_and_is_sent_once() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1));
    let peer = node.core.peer(OTHER).unwrap();
    let low = node.core.settings().low_water;
    let sessions = 30;
    for id in 0..sessions {
        node.write(&[id], &[0; 60_000]);
    }
    while peer.queued() < low {
        node.wait(1);
    }
    let full = peer.queued();
    for round in 0..1000 {
        node.write(&[0], &[1; 60_000]);
        node.write(b"new", &[2; 50]);
        assert_eq!(peer.queued(), full, "after {round} rounds");
    }
    assert!(!node.core.is_pressed(), "callers go on beside the walk");

    let mut sent = Vec::new();
    while sent.last() != Some(&Kind::StateDone) {
        sent.extend(node.queued(0));
        node.wait(1);
        assert!(!node.core.is_pressed(), "nor beside what is left, which gets less");
    }
    // The ready state; the walk; what changed since the request, each once; the end.
    assert_eq!(sent.len(), 1 + usize::from(sessions) + (usize::from(sessions) + 1) + 1);
    node.write(&[0], b"");
    assert_eq!(node.queued(0), [Kind::Session], "after the end changes are queued again");
}

#[test]
fn a_donation_leaves_time_to_requests_and_more_where_its_turns_begin_late() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining);
    (0..200).for_each(|id| node.write(&[id], &[0; 4000]));
    node.wait(1000);
    node.post(Input::StateRequest(OTHER, 1)).wait(1);
    assert!(node.queued(0).len() > 100, "what finds room at once where no request is served");
    node.post(Input::StateRequest(OTHER, 2));
    let turn = |node: &mut Node, after: Time| {
        node.write(b"one", b"");
        node.now += after;
        node.wait(0);
        node.queued(0).len()
    };
    let in_time: Vec<usize> = (0..20).map(|_| turn(&mut node, MS)).collect();
    assert!(in_time.iter().all(|sent| (3..=12).contains(sent)), "{in_time:?}");
    assert!(in_time[19] > in_time[1], "{in_time:?}");
    let late: Vec<usize> = (0..3).map(|_| turn(&mut node, MS + Time::from_micros(900))).collect();
    assert!(late[2] < in_time[19] && late[2] > 0, "{in_time:?}, {late:?}");
}

#[test]
fn callers_wait_no_longer_than_the_donations_of_a_member_catch_up() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining);
    // It missed something before it asked: two donations to one member, of which one finds the debt of both paid.
    node.post(Input::Overflow(OTHER, Vec::new())).post(Input::StateRequest(OTHER, 1));
    node.write(b"s", b"");
    let mut sent = Vec::new();
    for _ in 0..10 {
        node.wait(1);
        sent.extend(node.queued(0));
    }
    assert_eq!(sent.iter().filter(|kind| **kind == Kind::StateDone).count(), 2);
    assert!(!node.core.is_pressed());
}

#[test]
fn callers_wait_where_they_change_as_much_as_a_donation_brings() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1));
    let (mut turns, mut pressed) = (0, 0);
    while !node.queued(0).contains(&Kind::StateDone) {
        if node.core.is_pressed() {
            pressed += 1;
        } else {
            (0..30).for_each(|id| node.write(&[id], &[0; 60_000]));
        }
        node.wait(1);
        turns += 1;
        assert!(turns < 100, "it never ends");
    }
    assert!(pressed > 0 && !node.core.is_pressed(), "they wait, and no longer than that");
}

/// A node with a member that counts, and has more queued than high water.
fn pressed() -> (Node, Arc<Peer<()>>) {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    node.lists_nothing().wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    peer.with_lane(0, |out| out.open(Vec::new()));
    while !peer.counts() {
        node.settle().wait(1);
    }
    for id in 0..20 {
        node.write(&[id], &[0; 60_000]);
    }
    node.wait(0);
    assert!(node.core.is_pressed());
    (node, peer)
}

#[test]
fn nobody_waits_for_long_for_a_member_that_takes_in_nothing_and_its_queue_is_given_up_at_its_cap() {
    let (mut node, peer) = pressed();
    node.wait(40);
    assert!(node.core.is_pressed(), "not before");
    node.core.wake_on_space(std::task::Waker::noop().clone());
    node.fx.wakes.clear();
    let due = node.control.poll_timeout().unwrap();
    assert!(due <= node.now + 10 * MS, "it is looked at in time");
    node.wait(10);
    assert_eq!(node.fx.wakes.len(), 1, "who waits goes on");
    for id in 0..30 {
        assert!(!node.core.is_pressed(), "and nobody waits again");
        if !peer.is_repairing() {
            let before = peer.queued();
            node.write(&[id], &[1; 60_000]);
            assert!(peer.queued() > before || peer.queued() == 0, "it takes what is queued, or loses all of it");
        }
        node.post(Input::Status(OTHER, NodeState::Ready)).wait(100);
    }
    assert!(peer.is_repairing() && peer.losses() > 0);
    assert!(peer.queued() < node.core.settings().high_water);
}

#[test]
fn a_member_that_takes_in_something_again_is_waited_for_again() {
    let (mut node, peer) = pressed();
    node.wait(50);
    assert!(!node.core.is_pressed());
    assert!(!peer.note_taken(0));
    assert!(!node.core.is_pressed());
    assert!(peer.note_taken(1));
    assert!(node.core.is_pressed());
    assert_eq!(peer.losses(), 0, "its queue was kept");
}

#[test]
fn a_member_that_resumes_after_a_long_pause_is_not_taken_for_a_slow_one() {
    let (mut node, peer) = pressed();
    for _ in 0..30 {
        node.wait(50);
        node.is_idle();
    }
    assert!(peer.note_taken(1000));
    node.post(Input::Pressed(OTHER)).wait(1);
    for _ in 0..20 {
        let _stalled = peer.note_taken(1000);
        node.wait(40);
        assert!(node.core.is_pressed() && peer.losses() == 0, "it is given its time");
    }
}

#[test]
fn a_stalled_member_that_is_pressed_once_more_keeps_nobody_awake() {
    let (mut node, _peer) = pressed();
    node.wait(50);
    node.post(Input::Pressed(OTHER)).wait(1);
    node.is_idle();
}

#[test]
fn who_waits_for_a_member_that_is_out_of_reach_after_a_pause_of_this_node_goes_on() {
    let (mut node, peer) = pressed();
    node.core.wake_on_space(std::task::Waker::noop().clone());
    node.fx.wakes.clear();
    peer.set_reach(Reach::None);
    node.wait(500);
    assert_eq!(node.fx.wakes.len(), 1);
}

#[test]
fn who_waits_for_low_water_goes_on_when_a_member_stops_above_it() {
    let (mut node, peer) = pressed();
    node.core.wake_on_space(std::task::Waker::noop().clone());
    node.fx.wakes.clear();
    let mut gather = Gather::default();
    peer.with_lane(0, |out| {
        assert!(out.begin_drain());
        out.gather(&mut gather, 300_000, 1000);
        let _drain = out.wrote(&gather, gather.len, true, &mut node.fx.wakes);
    });
    assert!(peer.note_taken(gather.len) || !node.core.is_pressed());
    node.wait(1);
    assert!(node.fx.wakes.is_empty(), "low water was not reached");
    node.wait(50);
    assert_eq!(node.fx.wakes.len(), 1);
}

#[test]
fn a_member_that_takes_in_too_little_is_given_up_when_callers_have_waited_for_it() {
    let (mut node, peer) = pressed();
    for _ in 0..24 {
        let _stalled = peer.note_taken(1000);
        node.wait(40);
        assert!(node.core.is_pressed(), "not before");
    }
    let _stalled = peer.note_taken(1000);
    node.wait(40);
    node.post(Input::Status(OTHER, NodeState::Ready));
    assert!(!node.core.is_pressed() && peer.is_repairing());
    for id in 0..30 {
        node.write(&[id], &[1; 60_000]);
        node.wait(100);
        assert!(!node.core.is_pressed(), "nobody waits for its repair");
    }
    assert!(peer.queued() < node.core.settings().high_water);
}

#[test]
fn callers_wait_once_for_a_donation_that_its_member_does_not_take_in() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1));
    let change = |node: &mut Node| (0..30).for_each(|id| node.write(&[id], &[0; 60_000]));
    while !node.core.is_pressed() {
        change(&mut node);
        node.queued(0);
        node.wait(1);
    }
    for round in 0..50 {
        change(&mut node);
        node.wait(100);
        node.is_idle();
        assert!(round < 11 || !node.core.is_pressed(), "they go on after a second");
    }
    // It takes in more again: callers who change more than it does wait for it again, and so it ends.
    for turn in 0.. {
        assert!(turn < 200, "it never ends");
        if !node.core.is_pressed() {
            change(&mut node);
        }
        if node.queued(0).contains(&Kind::StateDone) {
            return;
        }
        node.wait(1);
    }
}

#[test]
fn callers_that_wait_for_a_donation_go_on_when_it_begins_again() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1)).wait(1);
    for id in 0..30 {
        node.write(&[id], &[0; 60_000]);
    }
    node.queued(0);
    node.post(Input::StateRequest(OTHER, 2));
    for id in 0..30 {
        node.write(&[id], &[1; 60_000]);
    }
    while !node.core.is_pressed() {
        node.queued(0);
        node.wait(1);
        (0..30).for_each(|id| node.write(&[id], &[2; 60_000]));
    }
    node.core.wake_on_space(std::task::Waker::noop().clone());
    node.fx.wakes.clear();
    node.post(Input::StateRequest(OTHER, 3)).wait(1);
    assert!(!node.core.is_pressed());
    assert_eq!(node.fx.wakes.len(), 1);
}

#[test]
fn a_member_that_takes_in_a_little_now_and_then_is_given_up_too() {
    for gap in [40, 60] {
        let (mut node, peer) = pressed();
        let mut waited = 0;
        for ms in 0..3000 {
            waited += u32::from(node.core.is_pressed());
            if ms % gap == 0 && peer.note_taken(1000) {
                node.post(Input::Pressed(OTHER));
            }
            node.wait(1);
        }
        assert!(
            peer.losses() > 0 && waited < 1100,
            "every {gap} ms: {} losses, callers waited {waited} ms",
            peer.losses()
        );
    }
}

#[test]
fn a_repair_over_a_link_that_takes_in_bursts_ends() {
    for gap in [40, 60, 100_usize] {
        let mut node = Node::new(1);
        node.wait(300).hello(NodeState::Joining).open(0, NodeState::Joining);
        (0..10).for_each(|id| node.write(&[id], &[0; 60_000]));
        let peer = node.core.peer(OTHER).unwrap();
        peer.with_lane(0, |out| _ = out.open(Vec::new()));
        node.post(Input::StateRequest(OTHER, 1));
        let mut ms = 0;
        while !peer.is_settled() {
            if !node.core.is_pressed() {
                (0..10).for_each(|id| node.write(&[id], &[1; 60_000]));
            }
            if ms % gap == 0 {
                node.takes(4000 * gap);
            }
            node.wait(1);
            ms += 1;
            assert!(ms < 5000, "it never ends where something is taken every {gap} ms");
        }
    }
}

#[test]
fn of_what_is_given_up_no_more_than_one_cap_waits_to_be_freed() {
    let (mut node, _) = pressed();
    for id in 0..250 {
        node.write(&[id], &[0; 60_000]);
    }
    let mut bytes = 0;
    while let Some(input) = node.core.inputs().take() {
        if let Input::Overflow(_, given_up) = input {
            bytes += given_up.iter().map(|queue| queue.bytes).sum::<usize>();
        }
    }
    assert!(bytes > 0 && bytes <= node.core.settings().queue_bytes_max, "{bytes} bytes");
}

#[test]
fn callers_that_are_pressed_are_looked_at_in_time() {
    let (mut node, peer) = pressed();
    for _ in 0..60 {
        if peer.note_taken(60_000) {
            node.post(Input::Pressed(OTHER));
        }
        node.wait(40);
        assert!(node.core.is_pressed() && peer.losses() == 0);
        assert!(node.control.poll_timeout().unwrap() <= node.now + 50 * MS);
    }
}

#[test]
fn who_waits_for_a_member_that_is_out_of_reach_goes_on() {
    let (mut node, peer) = pressed();
    node.wait(10);
    node.core.wake_on_space(std::task::Waker::noop().clone());
    node.fx.wakes.clear();
    peer.set_reach(Reach::None);
    node.wait(10);
    assert_eq!(node.fx.wakes.len(), 1);
}

/// A ping of the other member.
fn ping(seq: u64) -> Input {
    let ping = wire::Ping {
        versions: wire::PROTOCOL,
        cluster: wire::cluster_tag("t"),
        member: OTHER,
        uptime_ms: 0,
        seq,
        state: NodeState::Ready,
        addr: addr(2),
        view_hash: 0,
        name: String::from("two"),
        route: String::new(),
    };
    Input::Ping(ping, addr(2).ip())
}

#[test]
fn a_member_that_pings_and_answers_nothing_is_verified() {
    for answers in [false, true] {
        let mut node = Node::patient(1, Time::from_secs(1));
        node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
        node.dials();
        // In flight from here on.
        node.commit(b"s");
        assert!(!node.queued(0).is_empty());
        let mut is_verified = false;
        for seq in 1..15 {
            if answers {
                node.core.peer(OTHER).unwrap().answer(0, node.now);
            }
            node.post(ping(seq)).wait(100);
            is_verified |= std::iter::from_fn(|| node.control.poll_action()).any(|a| matches!(a, Action::Probe { .. }));
        }
        assert_eq!(is_verified, !answers);
    }
}

#[test]
fn a_node_that_was_late_expires_nothing_until_the_grace_has_passed() {
    let mut node = Node::patient(1, Time::from_secs(1));
    node.wait(300);
    node.commit(b"s");
    let expired = |node: &Node| node.core.stats().expired;
    node.wait(2_000_000);
    assert_eq!(expired(&node), 0, "what is in use elsewhere has not been heard yet");
    for _ in 0..590 {
        node.wait(100);
    }
    assert_eq!(expired(&node), 0);
    for _ in 0..20 {
        node.wait(100);
    }
    assert_eq!(expired(&node), 1);
}

#[test]
fn a_member_that_is_gone_is_still_called_by_its_name() {
    let mut node = Node::new(1);
    node.hello(NodeState::Ready).open(0, NodeState::Ready);
    assert_eq!(node.core.name(OTHER), "two");
    node.post(Input::Status(OTHER, NodeState::Leaving));
    assert!(node.core.peer(OTHER).is_none());
    assert_eq!(node.core.name(OTHER), "two");
    assert_eq!(node.core.name(MemberId(3)), MemberId(3).to_string());
}

/// A patient node whose other member counts.
fn counted() -> Node {
    let mut node = Node::patient(1, 500 * MS);
    node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    peer.with_lane(0, |out| out.open(Vec::new()));
    while !peer.counts() {
        node.settle().wait(1);
    }
    node
}

#[test]
fn one_caller_waits_for_a_suspect_and_the_next_ones_do_not() {
    let mut node = counted();
    let is_suspect = |node: &Node| node.core.roster().view.members[0].suspect;
    while !is_suspect(&node) {
        node.wait(100);
    }
    let first = node.ask(b"first");
    assert!(!first.is_done(), "it owes nothing: it may answer at once");
    node.flush();
    let second = node.ask(b"second");
    assert!(second.is_done());
    assert_eq!(second.outcome().missing.as_slice(), [(OTHER, MissingReason::Suspect)]);

    // It answers: what it missed is on the lane, and it counts at once.
    node.post(ping(1)).settle();
    assert!(!is_suspect(&node));
    assert_eq!((first.outcome().copies, second.outcome().copies), (1, 0));
    let third = node.ask(b"third");
    assert!(!third.is_done());
    node.settle();
    assert_eq!(third.outcome().copies, 1);
}

#[test]
fn a_lane_that_alone_is_silent_is_cut() {
    for answers in [false, true] {
        let mut node = Node::patient(2, 500 * MS);
        node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).open(1, NodeState::Ready).wait(1);
        let peer = node.core.peer(OTHER).unwrap();
        // In flight on both lanes from here on.
        for id in 0..20 {
            node.commit(&[id]);
        }
        assert!((0..2).all(|lane| !node.queued(lane).is_empty()));
        let mut cut = Vec::new();
        for seq in 1..20 {
            peer.answer(0, node.now);
            if answers {
                peer.answer(1, node.now);
            }
            node.post(ping(seq)).wait(100);
            while let Some(action) = node.control.poll_action() {
                match action {
                    Action::Probe { member, token, .. } => {
                        node.post(Input::Verified { member, token, ok: true });
                    }
                    Action::Cut(lane) => cut.push((lane.lane, seq)),
                    Action::Ping(_) | Action::Dial(_) | Action::Close(_) => {}
                }
            }
        }
        // Verified after one drop time, cut after another.
        let expected: &[(usize, u64)] = if answers { &[] } else { &[(1, 10)] };
        assert_eq!(cut, expected);
    }
}

#[test]
fn a_node_verifies_for_another_and_tells_only_what_it_reached() {
    for ok in [false, true] {
        let mut node = Node::new(1);
        node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
        let hello =
            Input::Hello { member: MemberId(3), name: String::from("three"), addr: addr(3), state: NodeState::Ready };
        node.post(hello).wait(1);
        node.post(Input::LaneOpen {
            member: MemberId(3),
            name: String::from("three"),
            state: NodeState::Ready,
            lane: 0,
        });
        node.dials();
        node.post(Input::Reach { from: OTHER, member: MemberId(4), token: 6 });
        node.post(Input::Reach { from: OTHER, member: MemberId(3), token: 7 });
        let probes: Vec<_> = std::iter::from_fn(|| node.control.poll_action())
            .filter_map(|action| match action {
                Action::Probe { member, addr: at, token, .. } => Some((member, at, token)),
                Action::Ping(_) | Action::Dial(_) | Action::Cut(_) | Action::Close(_) => None,
            })
            .collect();
        let [(MemberId(3), at, token)] = probes[..] else { panic!("{probes:?}") };
        assert_eq!(at, addr(3));
        node.queued(0);
        node.post(Input::Verified { member: MemberId(3), token, ok });
        assert_eq!(node.queued(0).contains(&Kind::Reached), ok);
    }
}

#[test]
fn nobody_waits_for_a_member_that_is_out_of_reach() {
    let mut node = Node::patient(1, 500 * MS);
    node.wait(300);
    for n in 2..=4 {
        let (member, name) = (MemberId(n), n.to_string());
        let at = addr(u8::try_from(n).unwrap());
        node.post(Input::Hello { member, name: name.clone(), addr: at, state: NodeState::Ready });
        node.post(Input::LaneOpen { member, name, state: NodeState::Ready, lane: 0 });
    }
    for _ in 1..20 {
        // The other two are heard, and say that they reach it.
        for member in [3, 4] {
            node.post(Input::Status(MemberId(member), NodeState::Ready));
        }
        node.wait(100);
        while let Some(action) = node.control.poll_action() {
            if let Action::Probe { member: OTHER, token, .. } = action {
                node.post(Input::Reached(OTHER, token));
            }
        }
    }
    let peer = node.core.peer(OTHER).expect("it stays a member");
    assert!(peer.is_unreachable());
    let op = node.ask(b"without it");
    assert!(!op.waits_for(OTHER) && op.outcome().missing.iter().any(|(member, _)| *member == OTHER));
    assert_eq!(node.core.stats().links_bad, 1);
    assert!(peer.owes(0), "whatever is in flight");
}

#[test]
fn callers_wait_for_a_suspect_that_was_just_heard_until_an_echo_fails() {
    let mut node = counted();
    let peer = node.core.peer(OTHER).unwrap();
    node.dials();
    peer.answer(0, node.now);
    node.ask(b"first");
    node.flush();
    // An old connection of it ended.
    node.post(Input::InletLost(OTHER));
    assert!(node.core.roster().view.members[0].suspect);
    assert!(!node.ask(b"second").is_done());
    node.wait(100);
    assert!(node.ask(b"third").is_done());
}

#[test]
fn an_incomplete_answer_that_comes_late_leaves_nothing_behind() {
    let mut node = Node::new(1);
    node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    let uid = Uid { counter: 1, member: MemberId(3) };
    let top = Version { counter: 5, member: MemberId(3) };
    let frame = wire::encode_session(&wire::SessionOut {
        context: b"app",
        uid,
        flags: wire::flags::PRESENT | wire::flags::ANSWER,
        clock: 5,
        top,
        exp: Version::ZERO,
        base: top,
        age_ms: 0,
        attrs: &[],
        over: &[],
    });
    let mut decoder = Decoder::new(1 << 20);
    decoder.authenticated();
    decoder.feed(&frame.to_vec());
    let frame = decoder.next().unwrap().unwrap();
    // Nobody asks any more: every member had answered, and the record was dropped.
    let refused = node.core.merge(OTHER, &frame.session().unwrap(), node.now, &mut node.fx);
    assert_eq!(refused, Err(wire::RefusedCode::Partial));
    let context = node.core.store().context(b"app").unwrap();
    assert!(context.is_partial(uid));
    for _ in 0..5 {
        node.wait(100);
    }
    assert!(!context.is_partial(uid), "it would wait for ever for what nobody is asked for");
    assert!(!node.queued(0).contains(&Kind::Pull), "who has answered is not asked again");
}

/// A node whose two others were lost for `away`, and one of them back and repaired but for what is compared. Before they
/// went the node held `before`; since then it made `since` and wrote to `used`.
fn parted(others: u64, away: Time) -> Node {
    let mut node = Node::patient(1, 500 * MS);
    node.wait(300);
    node.commit(b"before");
    node.commit(b"used");
    for n in 2..2 + others {
        let (member, name, at) = (MemberId(n), n.to_string(), addr(u8::try_from(n).unwrap()));
        node.post(Input::Hello { member, name: name.clone(), addr: at, state: NodeState::Ready });
        node.core.peer(member).unwrap().set_state(NodeState::Ready);
        node.post(Input::LaneOpen { member, name, state: NodeState::Ready, lane: 0 });
    }
    for _ in 0..20 {
        for n in 2..2 + others {
            node.post(Input::Status(MemberId(n), NodeState::Ready));
        }
        node.wait(300);
    }
    assert_eq!(node.core.roster().peers.len() as u64, others);
    let gone = |node: &Node| node.core.roster().peers.is_empty();
    while !gone(&node) {
        node.wait(100);
        while let Some(action) = node.control.poll_action() {
            if let Action::Probe { member, token, .. } = action {
                node.post(Input::Verified { member, token, ok: false });
            }
        }
    }
    node.commit(b"since");
    node.write(b"used", b"2");
    let until = node.now + away;
    while node.now < until {
        node.wait(200);
    }
    node.hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    node
}

/// Ids that the node holds.
fn held(node: &Node) -> Vec<&'static str> {
    let context = node.core.store().context(b"app").unwrap();
    let there = |id: &&str| context.begin(id.as_bytes(), node.now).exists();
    ["before", "used", "since"].into_iter().filter(there).collect()
}

#[test]
fn who_was_cut_off_for_longer_than_the_dead_are_remembered_drops_what_it_did_not_use() {
    let mut node = parted(2, Time::from_secs(20));
    node.lists_nothing().wait(1);
    assert_eq!(held(&node), ["used", "since"]);
    assert_eq!(node.core.stats().forgotten, 1);
}

#[test]
fn who_was_cut_off_for_less_keeps_and_brings_everything() {
    let mut node = parted(2, Time::from_secs(20));
    node.remembers_ms = 60_000;
    node.lists_nothing().wait(1);
    assert_eq!(held(&node), ["before", "used", "since"]);
    assert_eq!(node.queued(0).iter().filter(|kind| **kind == Kind::Session).count(), 3);
}

#[test]
fn of_two_that_were_both_alone_neither_drops_anything() {
    let mut node = parted(1, Time::from_secs(20));
    node.lists_nothing().wait(1);
    assert_eq!(held(&node), ["before", "used", "since"]);
}

#[test]
fn a_member_that_was_never_there_before_is_no_witness_of_what_ended() {
    let mut node = parted(2, Time::from_secs(20));
    let (member, name) = (MemberId(7), String::from("seven"));
    node.post(Input::Hello { member, name: name.clone(), addr: addr(7), state: NodeState::Ready });
    node.core.peer(member).unwrap().set_state(NodeState::Ready);
    node.post(Input::LaneOpen { member, name, state: NodeState::Ready, lane: 0 });
    let mut listing = node.listing();
    listing.entries = Vec::new();
    node.post(Input::Listing(member, Box::new(listing))).wait(1);
    assert_eq!(held(&node), ["before", "used", "since"], "it may lack them");
}

#[test]
fn what_others_hold_is_never_dropped() {
    let mut node = parted(2, Time::from_secs(20));
    let context = node.core.store().context(b"app").unwrap();
    let mut listing = node.listing();
    listing.entries = context
        .dump()
        .into_iter()
        .map(|(uid, dump)| wire::Entry { uid, top: dump.top.counter, fingerprint: 1 })
        .collect();
    node.post(Input::Listing(OTHER, Box::new(listing))).wait(1);
    assert_eq!(held(&node), ["before", "used", "since"], "partial there, and asked for");
}

#[test]
fn a_node_that_stood_still_asks_everybody_what_it_missed() {
    let mut node = Node::patient(1, 500 * MS);
    node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    node.commit(b"s");
    node.lists_nothing().wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    peer.with_lane(0, |out| out.open(Vec::new()));
    while !peer.counts() {
        node.settle().wait(1);
    }
    node.wait(10_000);
    assert!(peer.is_repairing());
    assert_eq!(node.queued(0), [Kind::Digest]);
}
