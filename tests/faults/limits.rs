//! Limits: slow readers, memory, descriptors, large sessions and many.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Cluster, SMALL_QUEUE, SOON_MS, is_able, skip};
use crate::record::Fault;

#[test]
fn f09_a_member_with_a_full_queue_is_repaired() {
    let mut fault = Fault::new("F09", "SIGSTOP of one of three while 25 MiB are written; queues of 256 KiB");
    let cluster = Cluster::new().with("--drop-time=60s").with("--mode=asynchronous").with("--queue-wait=20ms");
    let cluster = fault.cluster(SMALL_QUEUE.into_iter().fold(cluster, Cluster::with));
    let [mut a, mut b, mut c] = cluster.members();
    c.pause();
    // More than the kernel's buffers take in beside the queue.
    let filling = |word: &str| json!({ "do": word, "prefix": "f", "count": 400, "size": 64 << 10 });
    a.ask(filling("fill"));
    assert!(a.stat("repairs") > 0);
    // At most the cap for each of the two, and what cannot be divided.
    let queued = a.stat("queued_bytes");
    assert!(queued <= 2 * ((1 << 20) + (256 << 10)), "{queued}");
    b.wait_stat("sessions", 400);
    c.resume();
    c.wait_stat("sessions", 400);
    a.wait_view(3);
    for member in [&mut b, &mut c] {
        fault.check_fill(member, &filling("check_fill"));
    }
    for event in ["repair-started", "repair-done"] {
        a.ask(json!({ "do": "wait_event", "event": event, "name": "c", "within_ms": SOON_MS }));
    }
    assert_eq!(b.stat("members"), 3);
    fault.held(format!("{} KiB queued at most afterwards; repaired when it read again", queued >> 10));
}

#[test]
fn f25_a_full_store_refuses_and_its_member_serves_on() {
    let mut fault = Fault::new("F25", "1 MiB of store, more written on each side");
    let cluster = Cluster::new();
    let mut a = cluster.launch("a", &[]);
    let caps = ["--store-bytes-max=1MiB", "--session-bytes-max=256KiB", "--value-bytes-max=128KiB"];
    let mut b = cluster.launch("b", &caps);
    for member in [&mut a, &mut b] {
        member.wait_ready();
    }
    for member in [&mut a, &mut b] {
        member.wait_view(2);
    }
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
    // Its own caller is refused.
    let why = b.refused(json!({ "do": "fill", "prefix": "f", "count": 4000, "size": 1024 }));
    assert!(why.contains("the store holds its limit"), "{why}");
    // Another's change is no copy there, and the caller is told.
    let ended = a.request("T", json!({ "create": true, "set": { "k": "x".repeat(64 << 10) } }));
    assert_eq!(ended["copies"], 1, "{ended}");
    assert_eq!(ended["missing"], json!([{ "name": "b", "reason": "refused" }]), "{ended}");
    let held = b.stat("session_bytes");
    assert!(held <= 1 << 20, "{held}");
    assert_eq!(b.get("S"), json!({ "k": "v" }), "it serves what it has");
    // What ends makes room again.
    for n in 0..200 {
        b.request(&format!("f-{n}"), json!({ "invalidate": true }));
    }
    fault.write(&mut b, "U", json!({ "k": "v" }), 2);
    a.wait_view(2);
    fault.check([&mut a, &mut b]);
    fault.held("typed refusals, the member named as no copy; room again after ends");
}

#[test]
fn f26_a_member_without_descriptors_keeps_its_members_and_recovers() {
    let mut fault = Fault::new("F26", "a limit of descriptors used up by strangers (prlimit)");
    if !is_able("prlimit", &["--version"]) {
        return skip("it needs the prlimit command").unwrap_or_default();
    }
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "0" }), 2);
    let pid = b.0.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = |n: usize| {
        let status = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={n}:20000")]).status();
        assert!(status.unwrap().success(), "prlimit {n}");
    };
    limit(open + 4);
    let strangers: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, b.port())).unwrap()).collect();
    for round in 0..50 {
        fault.write(&mut a, "S", json!({ "k": round.to_string() }), 2);
    }
    // Beyond drop time and both echoes, none of which b can accept.
    a.wait_pings(25);
    fault.write(&mut a, "S", json!({ "during": "it" }), 2);
    let busy = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(busy >= open + 3, "the limit was reached: {busy} of {open} and 4");
    drop(strangers);
    limit(1024);
    let mut c = cluster.start("c");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    fault.write(&mut c, "S", json!({ "after": "it" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    assert_eq!(a.count_events("member-down", "b"), 0);
    fault.held("it kept its member meanwhile, and admitted another afterwards");
}

/// As large as a session may be, its name and id beside it.
const LARGEST: usize = (64 << 20) - 4096;

#[test]
fn f38_a_session_of_64_mib_travels_beside_others() {
    let mut fault = Fault::new("F38", "a session of 64 MiB beside load, and a join with it");
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let large = |word: &str| json!({ "do": word, "prefix": "large", "count": 1, "size": LARGEST });
    b.ask(json!({ "do": "load_start", "threads": 1, "sessions": 16, "prefix": "w" }));
    b.wait_stat("commits", 100);
    assert_eq!(a.ask(large("fill"))["incomplete"], 0, "it is applied at the other");
    let before = b.stat("commits");
    b.wait_stat("commits", before + 100);
    let mut c = cluster.start("c");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    let last = b.stop_load();
    for member in [&mut a, &mut b, &mut c] {
        fault.check_fill(member, &large("check_fill"));
        fault.check_load(member, &last);
    }
    for member in [&mut a, &mut b] {
        let events = member.events();
        assert!(!events.iter().any(|event| event["event"] == "member-down"), "{events:?}");
    }
    fault.held("applied at all; the load went on and nobody was removed");
}

#[test]
fn f38_a_value_above_the_cap_is_refused_and_nothing_changes() {
    let mut fault = Fault::new("F38", "a value above the cap (1 KiB)");
    let [mut a, mut b] = Cluster::new().with("--value-bytes-max=1KiB").members();
    fault.write(&mut a, "S", json!({ "k": "small" }), 2);
    let why = a.refused(json!({ "do": "request", "id": "S", "set": { "other": "x", "k": "x".repeat(1025) } }));
    assert!(why.contains("value-too-large"), "{why}");
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("S"), json!({ "k": "small" }));
    }
    fault.write(&mut a, "S", json!({ "k": "x".repeat(1024) }), 2);
    fault.check([&mut a, &mut b]);
    fault.held("refused with its name; nothing of that request was kept");
}

#[test]
fn f39_very_many_small_sessions_are_held_and_brought_to_a_joiner() {
    let mut fault = Fault::new("F39", "very many sessions of 64 bytes, then a join");
    let count = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let cluster = fault.cluster(Cluster::new().with("--mode=asynchronous").with("--state-transfer-timeout=60s"));
    let [mut a, mut b] = cluster.members();
    let filling = |word: &str| -> Value { json!({ "do": word, "prefix": "f", "count": count, "size": 64 }) };
    a.send(filling("fill"));
    a.0.reply(Duration::from_secs(120)).unwrap();
    b.ask(json!({ "do": "wait_stat", "name": "sessions", "at_least": count, "within_ms": SOON_MS }));
    let mut c = cluster.launch("c", &[]);
    let took = c.wait_ready();
    for member in [&mut b, &mut c] {
        fault.check_fill(member, &filling("check_fill"));
    }
    fault.held(format!("{count} sessions on three members; the joiner was ready after {took:.1?}"));
}
