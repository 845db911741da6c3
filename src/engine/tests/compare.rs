//! Comparing and bringing what differs: what ends, how often, and how much of it.

use std::collections::BTreeSet;

use super::*;
use crate::wire::Entry;

impl Node {
    /// A node that knows the other member, and has sent it what is sent to a new one.
    fn joined(contexts_max: usize, queue_wait: Time) -> Self {
        let mut node = Self::with(1, Time::from_secs(3600), contexts_max, queue_wait);
        node.wait(300).hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
        let _sent = node.frames();
        node
    }

    /// The frames queued to the other member, which are gone after that.
    fn frames(&mut self) -> Vec<wire::Frame> {
        let peer = self.core.peer(OTHER).unwrap();
        let mut gather = Gather::default();
        peer.with_lane(0, |out| {
            out.close();
            let _in_flight = out.take_unacked();
            out.open(Vec::new());
            if out.begin_drain() {
                out.gather(&mut gather, usize::MAX, 100_000);
                let _drain = out.wrote(&gather, gather.len, false, &mut self.fx.wakes);
            }
        });
        let mut decoder = Decoder::new(1 << 24);
        decoder.authenticated();
        gather.parts.iter().for_each(|part| decoder.feed(part));
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    /// Contexts whose digests are queued to the other member.
    fn digests(&mut self) -> Vec<Vec<u8>> {
        let digest = |frame: wire::Frame| match frame.control() {
            Ok(wire::Control::Digest(context, ..)) => Some(context),
            _ => None,
        };
        self.frames().into_iter().filter_map(digest).collect()
    }
}

#[test]
fn of_a_listing_that_was_cut_nothing_is_sent_again_when_its_connection_is_lost() {
    let mut node = Node::joined(4, 1000 * MS);
    let peer = node.core.peer(OTHER).unwrap();
    let before = peer.lanes()[0].peek(|out| out.in_flight());
    let entry = |counter| Entry { uid: Uid { counter, member: MemberId(3) }, top: 1, fingerprint: 1 };
    let listing = Listing { entries: (1..8500).map(entry).collect(), ..node.listing() };
    node.core.send_compared(&peer, &wire::Control::Listing(Box::new(listing)), &mut node.fx);
    node.flush();
    assert!(peer.lanes()[0].peek(|out| out.in_flight()) > before + 1, "it was cut");
    let again = peer.with_lane(0, |out| {
        out.close();
        out.take_unacked()
    });
    assert_eq!(again.len(), before, "its last piece alone would be no frame");
}

#[test]
fn every_context_is_compared_however_many_there_are() {
    let mut node = Node::joined(64, 1000 * MS);
    for n in 0..40 {
        node.core.store().context(format!("c{n:02}").as_bytes()).unwrap();
    }
    let peer = node.core.peer(OTHER).unwrap();
    let (mut seen, mut digests) = (BTreeSet::new(), 0);
    for _ in 0..600 {
        node.wait(100);
        peer.set_repairing(false);
        for context in node.digests() {
            digests += 1;
            seen.insert(context);
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(digests <= 40 * 14, "{digests} digests in a minute");
}

#[test]
fn contexts_are_compared_though_those_before_them_differ() {
    let mut node = Node::joined(64, 1000 * MS);
    // More than is brought in one turn.
    for id in 0..40 {
        node.write(&[id], &[0; 60_000]);
        let _sent = node.frames();
    }
    for n in 0..40 {
        node.core.store().context(format!("c{n:02}").as_bytes()).unwrap();
    }
    let peer = node.core.peer(OTHER).unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..600 {
        node.wait(100);
        peer.set_repairing(false);
        let digests = node.digests();
        if digests.iter().any(|context| context == b"app") {
            // It refuses what it is brought.
            node.lists_nothing();
        }
        seen.extend(digests);
    }
    assert_eq!(seen.len(), 41);
}

#[test]
fn a_digest_of_a_context_that_there_is_no_room_for_is_answered() {
    let mut node = Node::joined(4, 1000 * MS);
    for n in 0..4 {
        node.core.store().context(format!("c{n:02}").as_bytes()).unwrap();
    }
    let digest = Digest::new(Box::new([0; BUCKETS]));
    node.post(Input::Digest { member: OTHER, context: b"app".to_vec(), round: 1, digest }).wait(1);
    assert_eq!(node.queued(0), [Kind::Listing]);
}

#[test]
fn a_repair_ends_though_the_member_never_lists_anything() {
    let mut node = Node::with(1, Time::from_secs(3600), 4, 1000 * MS);
    node.wait(300);
    node.commit(b"s");
    node.hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    let peer = node.core.peer(OTHER).unwrap();
    assert!(peer.is_repairing());
    let mut kinds = Vec::new();
    for _ in 0..200 {
        node.wait(100);
        if peer.is_repairing() {
            kinds.extend(node.queued(0));
        }
    }
    assert!(kinds.contains(&Kind::Session), "it is brought everything");
    assert!(kinds.contains(&Kind::StateDone));
}

#[test]
fn callers_that_wait_for_nothing_give_up_no_queue_at_once() {
    let mut node = Node::joined(4, Time::ZERO);
    node.lists_nothing().wait(1);
    let _sent = node.frames();
    let peer = node.core.peer(OTHER).unwrap();
    peer.set_repairing(false);
    for id in 0..20 {
        node.write(&[id], &[0; 60_000]);
    }
    assert!(peer.queued() > node.core.settings().high_water);
    let before = peer.losses();
    node.wait(1).wait(1);
    assert_eq!(peer.losses(), before);
    node.wait(200).wait(200);
    assert_eq!(peer.losses(), before, "nor later: it may grow to its cap");
}

#[test]
fn what_is_listed_twice_is_brought_once() {
    let mut node = Node::with(1, Time::from_secs(3600), 4, 1000 * MS);
    node.wait(300);
    for id in 0..3 {
        node.commit(&[id]);
    }
    node.hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    let _sent = node.frames();
    node.lists_nothing().lists_nothing().wait(1);
    assert_eq!(node.queued(0).iter().filter(|kind| **kind == Kind::Session).count(), 3);
}

#[test]
fn a_bucket_that_differs_is_counted_once_by_each_side() {
    let mut node = Node::joined(4, 1000 * MS);
    node.commit(b"s");
    let digest = Digest::new(Box::new([0; BUCKETS]));
    node.post(Input::Digest { member: OTHER, context: b"app".to_vec(), round: 9, digest }).wait(1);
    let list = node.frames().iter().find_map(|frame| match frame.control() {
        Ok(wire::Control::Listing(list)) => Some(list),
        _ => None,
    });
    let list = list.unwrap();
    let entries = list.entries.iter().map(|e| Entry { top: 0, fingerprint: 0, ..*e }).collect();
    node.post(Input::Listing(OTHER, Box::new(Listing { answer: true, entries, ..*list })));
    assert_eq!(node.core.stats().divergences, 1);
}

#[test]
fn who_differs_for_ever_is_asked_ever_less_often() {
    let mut node = Node::joined(4, 1000 * MS);
    node.commit(b"s");
    let peer = node.core.peer(OTHER).unwrap();
    let mut digests = 0;
    for _ in 0..6000 {
        peer.set_repairing(false);
        node.wait(100);
        let more = node.digests().len();
        digests += more;
        if more > 0 {
            // It refuses what it is brought.
            node.lists_nothing();
        }
    }
    assert!((8..=16).contains(&digests), "{digests} digests in ten minutes");
    assert!(node.core.stats().divergent > 0);
}

#[test]
fn one_long_queue_makes_nobody_else_compare_more_often() {
    let mut node = Node::joined(4, 1000 * MS);
    let (member, name) = (MemberId(3), String::from("three"));
    node.post(Input::Hello { member, name: name.clone(), addr: addr(3), state: NodeState::Ready });
    node.core.peer(member).unwrap().set_state(NodeState::Ready);
    node.post(Input::LaneOpen { member, name, state: NodeState::Ready, lane: 0 });
    let (two, three) = (node.core.peer(OTHER).unwrap(), node.core.peer(member).unwrap());
    node.wait(1);
    for id in 0..12 {
        node.write(&[id], &[0; 60_000]);
    }
    let _sent = node.frames();
    assert!(three.queued() > node.core.settings().low_water);
    let mut digests = 0;
    for _ in 0..600 {
        for peer in [&two, &three] {
            peer.set_repairing(false);
        }
        node.wait(100);
        digests += node.digests().len();
    }
    assert!(digests <= 14, "{digests} digests in a minute to a member with which nothing is wrong");
}

/// Two others fall silent without a word, so that each echo runs out, and this node writes shortly after it heard them last. Whether
/// it still has that when one is back after very long and lacks it.
fn keeps_what_it_wrote(phase: u32) -> bool {
    let mut node = Node::patient(1, 500 * MS);
    node.wait(300);
    let others = [MemberId(2), MemberId(3)];
    for (member, at) in others.into_iter().zip(2..) {
        let name = member.to_string();
        node.post(Input::Hello { member, name: name.clone(), addr: addr(at), state: NodeState::Ready });
        node.core.peer(member).unwrap().set_state(NodeState::Ready);
        node.post(Input::LaneOpen { member, name, state: NodeState::Ready, lane: 0 });
    }
    for ms in std::iter::repeat_n(100, 40).chain(std::iter::repeat_n(20, phase as usize + 1)) {
        for member in others {
            node.post(Input::Status(member, NodeState::Ready));
        }
        node.wait(ms);
    }
    node.wait(20).wait(20).commit(b"since");
    while !node.core.roster().peers.is_empty() {
        node.wait(20);
        while node.control.poll_action().is_some() {}
    }
    for _ in 0..100 {
        node.wait(200);
    }
    node.hello(NodeState::Ready).open(0, NodeState::Ready).wait(1);
    node.lists_nothing().wait(1);
    held(&node).contains(&"since")
}

#[test]
fn what_is_written_just_after_a_separation_is_kept_whenever_it_is_noticed() {
    let lost: Vec<_> = (0..40).filter(|phase| !keeps_what_it_wrote(*phase)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
