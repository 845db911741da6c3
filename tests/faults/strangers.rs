//! Strangers: garbage, floods, other clusters, replays, taken addresses.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use hotspare::id::{MemberId, NodeState};
use hotspare::wire::{self, Hello};
use serde_json::json;

use crate::common::wire::{header, loopback_group};
use crate::common::{Cluster, Member, SOON, now, ok, program};
use crate::record::Fault;

#[test]
fn f17_pings_repeated_and_out_of_order_change_nothing() {
    let mut fault = Fault::new("F17", "every ping of two members sent again, twice and in reverse");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
    let (socket, group) = loopback_group(&cluster.group);
    for member in [&mut a, &mut b] {
        member.events();
    }
    let mut again = 0;
    for _ in 0..4 {
        let pings = hear(&socket, 10);
        for ping in pings.iter().rev().chain(&pings) {
            ok(socket.send_to(ping, group));
            again += 1;
        }
        // What this socket heard of itself is not to be repeated.
        while socket.recv_from(&mut [0; 1]).is_ok() {}
    }
    a.wait_pings(12);
    for member in [&mut a, &mut b] {
        member.wait_view(2);
        let events = member.events();
        let is_of_members = |word: &str| word.starts_with("member-");
        assert!(!events.iter().any(|e| e["event"].as_str().is_some_and(is_of_members)), "{events:?}");
    }
    fault.write(&mut b, "S", json!({ "k": "w" }), 2);
    fault.check([&mut a, &mut b]);
    fault.held(format!("{again} repeated pings, no event about a member"));
}

/// So many datagrams of a group.
fn hear(socket: &std::net::UdpSocket, count: usize) -> Vec<Vec<u8>> {
    ok(socket.set_nonblocking(false));
    ok(socket.set_read_timeout(Some(SOON)));
    let mut bytes = [0; 2048];
    let heard = (0..count).map(|_| {
        let (n, _) = ok(socket.recv_from(&mut bytes));
        bytes[..n].to_vec()
    });
    let heard = heard.collect();
    ok(socket.set_nonblocking(true));
    heard
}

#[test]
fn f27_a_taken_port_leads_to_the_next_free_one() {
    let mut fault = Fault::new("F27", "the port is taken, others may be tried");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let a = Cluster::new().start_with("a", &[&format!("--port={port}"), "--auto-bind=50"]);
    assert!((port + 1..=port + 50).contains(&a.port()), "{} after {port}", a.port());
    fault.held("the next free one is taken");
}

#[test]
fn f27_a_taken_port_without_others_to_try_is_told_by_the_exit_code() {
    let mut fault = Fault::new("F27", "the port is taken, no other may be tried");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let flags = Cluster::new().flags(&[&port, "--auto-bind=0"]);
    let output = Command::new(program()).arg("node").args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot listen on") && said.contains("auto_bind"), "{said}");
    fault.held("the start fails with exit code 3 and names the setting");
}

#[test]
fn f27_plaintext_off_loopback_is_refused_with_the_remedies() {
    let mut fault = Fault::new("F27", "an address off loopback, no key");
    // An address of the documentation's: were it tried, it could not be bound either, but with another exit code.
    let flags = Cluster::new().flags(&["--bind=192.0.2.1"]);
    let output = Command::new(program()).arg("node").args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("plaintext") && said.contains("insecure"), "{said}");
    assert!(output.stdout.is_empty());
    fault.held("the start fails with exit code 2 and names the remedies");
}

#[test]
fn f28_two_clusters_in_one_group_ignore_each_other() {
    let mut fault = Fault::new("F28", "two clusters of two in one multicast group");
    let ours = Cluster::new();
    let theirs = ours.neighbour();
    let [mut a, mut b] = ours.members();
    let [mut x, mut y] = theirs.members();
    fault.write(&mut a, "S", json!({ "k": "ours" }), 2);
    x.make("S", json!({ "k": "theirs" }), 2);
    for member in [&mut a, &mut b, &mut x, &mut y] {
        let heard = member.stat("foreign_pings");
        member.wait_stat("foreign_pings", heard + 6);
        member.wait_view(2);
    }
    fault.check([&mut a, &mut b]);
    assert_eq!(y.get("S"), json!({ "k": "theirs" }));
    fault.held("counted as foreign, never admitted; sessions stay apart");
}

/// Throws bytes at a member's port; when they must be `counted`, waits until they are and the connection is closed.
fn throw(member: &mut Member, what: &str, bytes: &[u8], counted: bool) {
    let before = member.stat("bad_frames");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, member.port())).unwrap();
    // The far end may have closed before all was written.
    let _ = stream.write_all(bytes);
    if counted {
        member.wait_stat("bad_frames", before + 1);
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = [0; 64];
        let end = loop {
            match stream.read(&mut answer) {
                Ok(n) if n > 0 => {}
                end => break end,
            }
        };
        assert!(!end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{what} left it open");
    }
}

#[test]
fn f43_garbage_on_the_replication_port_is_counted_and_does_no_harm() {
    let mut fault = Fault::new("F43", "garbage, truncated and early frames on the replication port");
    let [mut a, mut b] = Cluster::new().members();
    fault.write(&mut a, "S", json!({ "k": "0" }), 2);
    let mut random = vec![0; 4096];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let hello = header(1, 4096, 4000);
    let early = header(5, 1024, 900);
    for (what, bytes, counted) in [
        ("random bytes", &random[..], true),
        ("a request of another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".as_slice(), true),
        ("a session before the handshake", &early, true),
        ("a truncated hello", &hello, false),
        ("nothing", &[], false),
    ] {
        throw(&mut a, what, bytes, counted);
        fault.write(&mut a, "S", json!({ "k": what }), 2);
        assert_eq!(b.get("S")["k"], what);
    }
    assert_eq!(a.stat("members"), 2);
    fault.check([&mut a, &mut b]);
    fault.held("counted, the connection closed; replication goes on");
}

#[test]
fn f43_garbage_datagrams_are_counted_and_do_no_harm() {
    let mut fault = Fault::new("F43", "datagrams of 0 to 1400 bytes that are no ping");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let (socket, group) = loopback_group(&cluster.group);
    let before = (a.stat("bad_pings"), b.stat("bad_pings"));
    for length in [0_usize, 1, 31, 255, 256, 257, 1400] {
        socket.send_to(&vec![0xa5; length], group).unwrap();
    }
    a.wait_stat("bad_pings", before.0 + 6);
    b.wait_stat("bad_pings", before.1 + 6);
    a.wait_view(2);
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
    fault.check([&mut a, &mut b]);
    fault.held("counted; replication goes on");
}

#[test]
fn f44_an_oversized_length_allocates_nothing() {
    let mut fault = Fault::new("F44", "frames that declare 4 GiB, ten before and ten after a handshake");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "0" }), 2);
    let before = a.peak_kib().unwrap();
    let oversized = |kind| header(kind, 0xffff_fff0, 0xffff_ff00);
    // Nobody listens there: what says that it is a member is dialled in vain.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for n in 0..10 {
        throw(&mut a, "an oversized hello", &oversized(1), true);
        let hello = Hello {
            versions: (1, 1),
            cluster: wire::cluster_tag(&cluster.name),
            member: MemberId(0x5757_0000 + n),
            expect: MemberId::NONE,
            lane: 0,
            lanes: 1,
            state: NodeState::Ready,
            probe: true,
            addr: nobody,
            name: String::from("stranger"),
        };
        let mut bytes = wire::encode_hello(&hello).to_vec();
        bytes.extend(oversized(5));
        throw(&mut a, "an oversized session after a handshake", &bytes, true);
    }
    fault.write(&mut a, "S", json!({ "k": "1" }), 2);
    assert_eq!(a.stat("members"), 2);
    let grown = a.peak_kib().unwrap() - before;
    assert!(grown < 16 << 10, "it grew by {grown} KiB");
    fault.check([&mut a, &mut b]);
    fault.held(format!("each connection closed; memory grew by {grown} KiB"));
}

#[test]
fn f45_idle_connections_keep_nobody_out_for_long() {
    let mut fault = Fault::new("F45", "3,000 connections to one member that say nothing, and a join meanwhile");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "0" }), 2);
    let (before, opened) = (a.peak_kib().unwrap(), now());
    let idle: Vec<TcpStream> =
        (0..3000).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, a.port())).unwrap()).collect();
    for round in 0..20 {
        fault.write(&mut b, "S", json!({ "k": round.to_string() }), 2);
    }
    let mut c = cluster.start("c");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    let took = opened.elapsed();
    fault.write(&mut c, "S", json!({ "from": "the joiner" }), 3);
    let grown = a.peak_kib().unwrap() - before;
    assert!(grown < 64 << 10, "it grew by {grown} KiB");
    assert_eq!(a.count_events("member-down", "b") + b.count_events("member-down", "a"), 0);
    fault.check([&mut a, &mut b, &mut c]);
    drop(idle);
    fault.held(format!("nobody removed; a joiner was in after {took:.1?}; memory grew by {grown} KiB"));
}

#[test]
fn f47_pings_of_a_dead_member_sent_again_are_no_life() {
    let mut fault = Fault::new("F47", "pings of a member recorded and sent again after its SIGKILL");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let (socket, group) = loopback_group(&cluster.group);
    let mut victim = cluster.start("victim");
    for member in [&mut a, &mut b, &mut victim] {
        member.wait_view(3);
    }
    fault.write(&mut victim, "S", json!({ "k": "v" }), 3);
    while socket.recv_from(&mut [0; 1]).is_ok() {}
    let mut pings = hear(&socket, 60);
    pings.retain(|ping| ping.windows(6).any(|word| word == b"victim"));
    assert!(pings.len() >= 5, "{} of 60 were its", pings.len());
    let id = victim.id();
    let killed = victim.kill();
    let mut fresh = cluster.launch("fresh", &[]);
    for round in 0..30 {
        for ping in &pings {
            ok(socket.send_to(ping, group));
        }
        if round == 0 {
            fault.detect([&mut a, &mut b], &id, killed);
        }
        a.wait_pings(1);
    }
    let took = fresh.wait_ready();
    for member in [&mut a, &mut b, &mut fresh] {
        member.wait_view(3);
        assert!(member.count_events("member-up", "victim") <= 1, "it does not come back");
    }
    assert_eq!(fresh.stat("members"), 3);
    fault.write(&mut a, "S", json!({ "k": "w" }), 3);
    fault.check([&mut a, &mut b, &mut fresh]);
    fault.held(format!("removed all the same; a new member that hears only them was ready after {took:.1?}"));
}
