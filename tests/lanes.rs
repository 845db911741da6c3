//! Two nodes of one process: who writes a lane, and who reads its acks.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop; it waits in real time"
)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hotspare::config::Config;
use hotspare::id::NodeState;
use hotspare::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes with one lane each way, in a group of their own.
fn pair() -> (Node, Node) {
    let group = Ipv4Addr::new(239, 255, fastrand::u8(..), fastrand::u8(1..255));
    let node = |name: &str| {
        let mut config = Config::default();
        config.name = name.into();
        config.port = 0;
        config.lanes = Some(1);
        config.multicast.set_ip(group);
        Node::start(config).unwrap()
    };
    let nodes = (node("a"), node("b"));
    for node in [&nodes.0, &nodes.1] {
        node.wait_ready(PATIENCE).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while node.view().members.iter().filter(|m| m.state == NodeState::Ready && !m.repairing).count() < 2 {
            assert!(Instant::now() < deadline, "{:?}", node.view());
            let _event = node.next_event(Duration::from_millis(50));
        }
    }
    nodes
}

#[test]
fn acks_of_what_a_caller_wrote_without_waiting_are_read() {
    let (a, b) = pair();
    let context = a.context("shop").unwrap();
    // More than one write takes, so that the caller writes it; after a caller that waited and has read its own ack, nobody
    // watches the lane.
    let large = vec![7; 300 << 10];
    for round in 0..20u8 {
        let mut request = context.create(b"S");
        request.set(b"small", &[round]);
        assert!(request.end("/").unwrap().is_complete());
        let mut request = context.begin(b"S");
        request.set(b"large", &large);
        let outcome = request.end_with_ticket("/").unwrap().wait(PATIENCE);
        assert!(outcome.is_complete(), "round {round}: {outcome:?}");
    }
    a.close();
    b.close();
}
