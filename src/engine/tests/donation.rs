//! What a member is brought: joins, repairs, comparisons.

use super::*;

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
fn a_joiner_that_opens_before_it_was_brought_everything_is_brought_the_rest_and_is_no_copy_until_then() {
    let mut node = Node::new(1);
    node.wait(300);
    (0..30).for_each(|id| node.write(&[id], &[0; 60_000]));
    node.hello(NodeState::Joining).open(0, NodeState::Joining).post(Input::StateRequest(OTHER, 1)).wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    let mut sent = node.queued(0);
    node.post(Input::Status(OTHER, NodeState::Ready));
    assert!(sent.contains(&Kind::Session) && !sent.contains(&Kind::StateDone));
    assert!(peer.is_repairing() && !peer.counts());
    for _ in 0..100 {
        if !sent.contains(&Kind::StateDone) {
            node.wait(1);
            sent.extend(node.queued(0));
        }
    }
    assert_eq!(sent.iter().filter(|kind| **kind == Kind::Session).count(), 30, "nothing was sent twice");
    assert!(sent.contains(&Kind::StateDone));
    node.settle().wait(1);
    assert!(!peer.is_repairing() && peer.counts());
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
