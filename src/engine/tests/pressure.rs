//! Who waits for a member's queue.

use super::*;

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
