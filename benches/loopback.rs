//! Two nodes of one process over loopback: the whole path of an update, without processes or pinning.
//!
//! For finding what a change does to the path; `hotspare bench` measures what a site would see.

use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hotspare::config::{Config, Mode};
use hotspare::id::NodeState;
use hotspare::node::Node;

fn updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("update_1k");
    group.throughput(Throughput::Bytes(PAYLOAD as u64));
    for (name, mode) in [("applied", Mode::Pooled), ("asynchronous", Mode::Asynchronous)] {
        let (sender, receiver) = pair(mode);
        let sessions = sender.context("bench").expect("a first context");
        let ids: Vec<String> = (0..SESSIONS).map(|n| format!("{n:032x}")).collect();
        let mut payload = vec![0; PAYLOAD];
        fastrand::fill(&mut payload);
        for id in &ids {
            let mut request = sessions.create(id.as_bytes());
            request.set(b"data", &payload);
            request.end("/").expect("a session within all limits");
        }
        assert!(sender.drain(PATIENCE), "the receiver acknowledges");

        let mut next = ids.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let id = next.next().expect("a cycle has no end");
                let mut request = sessions.begin(id.as_bytes());
                request.set(b"data", &payload);
                request.end("/").expect("a session within all limits")
            });
        });
        assert!(sender.drain(PATIENCE), "the receiver acknowledges");
        sender.close();
        receiver.close();
    }
    group.finish();
}

/// Two nodes that know each other, in a group of their own.
fn pair(mode: Mode) -> (Node, Node) {
    let group = Ipv4Addr::new(239, 255, fastrand::u8(..), fastrand::u8(1..255));
    let node = |name: &str| {
        let mut config = Config::default();
        config.name = name.into();
        config.port = 0;
        config.mode = mode;
        config.session_events = false;
        config.multicast.set_ip(group);
        Node::start(config).expect("loopback")
    };
    let nodes = (node("sender"), node("receiver"));
    for node in [&nodes.0, &nodes.1] {
        node.wait_ready(PATIENCE).expect("two nodes open at once");
    }
    let whole = || {
        let members = nodes.0.view().members;
        members.len() == 2 && members.iter().all(|m| m.state == NodeState::Ready && !m.repairing)
    };
    while !whole() {
        let _event = nodes.0.next_event(Duration::from_millis(10));
    }
    nodes
}

const SESSIONS: usize = 1_000;
const PAYLOAD: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(30);

criterion_group!(benches, updates);
criterion_main!(benches);
