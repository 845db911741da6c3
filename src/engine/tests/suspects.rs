//! Members that are silent, late, or out of reach.

use super::*;

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
