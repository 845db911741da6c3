//! Nodes that were cut off or stood still.

use super::*;

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
