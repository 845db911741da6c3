//! Real processes over loopback: crashes, stops, restarts, garbage, and the story as a whole.
//!
//! What is asserted about a member is what that member answered over its pipe.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Cluster, Member, SOON, SOON_MS, now, program, signal, wait_no_process};
use serde_json::{Value, json};

// --- the story -----------------------------------------------------------------------------------------------------

#[test]
fn the_demo_holds_every_step_and_leaves_no_process() {
    let output = Command::new(program()).args(["demo", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(output.status.success(), "{text}");
    let steps: Vec<&Value> = lines.iter().filter(|line| line["event"] == "step").collect();
    for number in 1..=9 {
        let step = steps.iter().find(|step| step["step"].as_str() == Some(&number.to_string()));
        let step = step.unwrap_or_else(|| panic!("step {number} was not played:\n{text}"));
        assert!(step["ok"] == true && step["checks"].as_array().is_some_and(|all| !all.is_empty()), "{step}");
    }
    let summary = lines.last().unwrap();
    assert!(summary["event"] == "summary" && summary["ok"] == true && summary["steps"] == steps.len(), "{summary}");
    wait_no_process(lines[0]["cluster"].as_str().unwrap());
}

#[test]
fn an_interrupted_demo_says_so_and_leaves_no_process() {
    let mut command = Command::new(program());
    let mut demo = command.args(["demo", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let stage: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let _first_step = lines.next().unwrap().unwrap();
    signal(demo.id(), "INT");
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    wait_no_process(stage["cluster"].as_str().unwrap());
}

#[test]
fn nodes_that_start_at_the_same_moment_do_not_wait_for_each_other() {
    let cluster = Cluster::new();
    let mut members = ["a", "b", "c"].map(|name| cluster.launch(name, &[]));
    let took = members.each_mut().map(Member::wait_ready);
    assert!(took.iter().all(|took| *took < Duration::from_secs(2)), "{took:?}");
    for member in &mut members {
        member.wait_view(3);
    }
    members[0].make("S", json!({ "k": "v" }), 3);
}

#[test]
fn a_change_is_readable_everywhere_when_its_request_returns() {
    let [mut a, mut b, mut c] = Cluster::new().members();
    a.make("S", json!({ "k": "0" }), 3);
    for round in 0..50 {
        let value = round.to_string();
        let ended = a.request("S", json!({ "set": { "k": value } }));
        assert_eq!((&ended["copies"], &ended["missing"]), (&json!(3), &json!([])), "{ended}");
        assert_eq!(b.get("S")["k"], json!(value));
        assert_eq!(c.get("S")["k"], json!(value));
    }
}

#[test]
fn a_slow_request_cannot_bring_an_invalidated_session_back_nor_write_into_the_next_one() {
    let [mut a, mut b] = Cluster::new().members();
    a.make("S", json!({ "user": "first" }), 2);
    let slow = b.begin("S");
    assert_eq!(a.request("S", json!({ "invalidate": true }))["copies"], 2);
    a.make("S", json!({ "user": "second" }), 2);
    assert_eq!(b.end(&slow, json!({ "set": { "user": "ghost" } }))["status"], "ended");
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("S"), json!({ "user": "second" }));
    }
}

#[test]
fn a_change_of_id_moves_the_session_on_every_member() {
    let [mut a, mut b] = Cluster::new().members();
    a.make("guest", json!({ "cart": "tea" }), 2);
    assert_eq!(b.request("guest", json!({ "change_id": "login" }))["copies"], 2);
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("guest"), Value::Null);
        assert_eq!(member.get("login"), json!({ "cart": "tea" }));
    }
}

#[test]
fn a_member_that_leaves_is_gone_at_once_and_on_purpose() {
    let [mut a, mut b] = Cluster::new().with("--drop-time=60s").members();
    a.make("S", json!({ "k": "v" }), 2);
    b.ask(json!({ "do": "leave" }));
    a.ask(json!({ "do": "wait_view", "without": b.id(), "within_ms": SOON_MS }));
    a.ask(json!({ "do": "wait_event", "event": "member-left", "name": "b", "within_ms": SOON_MS }));
    let events = a.ask(json!({ "do": "events" }));
    assert!(!events.to_string().contains("member-down"), "{events}");
    assert!(b.0.finish(SOON), "it ends when its input does");
    assert_eq!(a.request("S", json!({ "set": { "k": "w" } }))["copies"], 1);
}

// --- crashes -------------------------------------------------------------------------------------------------------

#[test]
fn kill_minus_nine_under_load_loses_no_acknowledged_session() {
    let [mut a, mut b, mut c] = Cluster::new().members();
    let directory = tempfile::tempdir().unwrap();
    let log = |name: &str| directory.path().join(name);
    for (member, name) in [(&mut a, "a"), (&mut b, "b")] {
        let load =
            json!({ "do": "load_start", "threads": 2, "sessions": 16, "size": 300, "prefix": name, "log": log(name) });
        member.ask(load);
    }
    a.wait_stat("commits", 1000);
    b.wait_stat("commits", 1000);
    a.kill();
    for member in [&mut b, &mut c] {
        member.ask(json!({ "do": "wait_view", "without": a.id(), "within_ms": SOON_MS }));
    }
    b.wait_stat("commits", 2000);
    let stopped = b.ask(json!({ "do": "load_stop" }));
    assert_eq!(stopped["errors"], 0, "{stopped}");

    let of_a = acknowledged(&std::fs::read_to_string(log("a")).unwrap());
    assert_eq!(of_a.len(), 32, "every session of A was acknowledged");
    let mut of_b = acknowledged(&std::fs::read_to_string(log("b")).unwrap());
    of_b.extend(of_a);
    for member in [&mut b, &mut c] {
        let seen = member.ask(json!({ "do": "check_load", "at_least": of_b }));
        assert_eq!((&seen["missing"], &seen["behind"]), (&json!([]), &json!([])), "at {}", member.0.name());
    }
}

/// The last acknowledged number of each session, from a member's log. A line without its end was not written out.
fn acknowledged(log: &str) -> BTreeMap<String, u64> {
    let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.filter_map(|line| line.split_once(' ')).map(|(id, n)| (id.to_owned(), n.parse().unwrap())).collect()
}

#[test]
fn a_killed_member_leaves_every_view_within_milliseconds() {
    let rounds: usize = std::env::var("HOTSPARE_KILLS").map_or(10, |n| n.parse().unwrap());
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let mut took = Vec::new();
    for _ in 0..rounds {
        let mut victim = cluster.start("victim");
        for member in [&mut a, &mut b, &mut victim] {
            member.wait_view(3);
        }
        let gone = json!({ "do": "wait_view", "without": victim.id(), "within_ms": SOON_MS });
        a.send(gone.clone());
        b.send(gone);
        let killed = victim.kill();
        for member in [&mut a, &mut b] {
            took.push(member.reply().0.saturating_duration_since(killed));
        }
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    let _ = writeln!(
        std::io::stderr(),
        "kill -9 to removal from a view, {} removals: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        took.len(),
        at(50),
        at(99),
        took[took.len() - 1]
    );
    // By silence it would take the drop time and two echoes.
    assert!(at(50) < Duration::from_millis(500), "{took:?}");
    assert!(took[took.len() - 1] < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_stopped_member_is_removed_and_converges_when_it_goes_on() {
    let cluster = Cluster::new().with("--frequency=200ms").with("--drop-time=1s").with("--verify-timeout=250ms");
    let [mut a, mut b, mut c] = cluster.members();
    a.make("S", json!({ "k": "before" }), 3);
    c.pause();
    let stopped = now();
    for member in [&mut a, &mut b] {
        member.ask(json!({ "do": "wait_view", "without": c.id(), "within_ms": SOON_MS }));
    }
    assert!(stopped.elapsed() < Duration::from_secs(4), "removed after {:?}", stopped.elapsed());
    assert_eq!(a.request("S", json!({ "set": { "k": "meanwhile" } }))["copies"], 2);
    a.make("T", json!({ "k": "new" }), 2);
    c.resume();
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    c.wait_session("S", json!({ "k": "meanwhile" }));
    c.wait_session("T", json!({ "k": "new" }));
    assert_eq!(c.request("S", json!({ "set": { "k": "after" } }))["copies"], 3);
    a.wait_session("S", json!({ "k": "after" }));
}

#[test]
fn a_restart_on_the_same_port_is_a_new_member() {
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    a.make("S", json!({ "k": "v" }), 2);
    let (first, port) = (a.id(), a.port());
    a.kill();
    let mut again = cluster.start_with("a", &[&format!("--port={port}")]);
    assert_eq!(again.port(), port);
    assert_ne!(again.id(), first);
    assert_eq!(again.get("S"), json!({ "k": "v" }), "it has the state when it serves");
    b.ask(json!({ "do": "wait_view", "without": first, "with": again.id(), "settled": true, "within_ms": SOON_MS }));
    assert_eq!(b.request("S", json!({ "set": { "k": "w" } }))["copies"], 2);
    assert_eq!(again.get("S"), json!({ "k": "w" }));
}

// --- state transfer ------------------------------------------------------------------------------------------------

#[test]
fn a_joiner_serves_with_every_session_while_the_donor_writes() {
    let count = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let cluster = Cluster::new();
    let mut a = cluster.start("a");
    let filling = |word: &str| json!({ "do": word, "prefix": "f", "count": count, "size": 1024 });
    a.ask(filling("fill"));
    a.ask(json!({ "do": "load_start", "threads": 1, "sessions": 100, "size": 100, "prefix": "w" }));
    let mut joiner = cluster.launch("joiner", &["--state-transfer-timeout=60s"]);
    let took = joiner.wait_ready();
    let seen = joiner.ask(filling("check_fill"));
    assert_eq!((&seen["missing"], &seen["wrong"]), (&json!(0), &json!(0)), "when it says that it serves");
    a.wait_view(2);
    let stopped = a.ask(json!({ "do": "load_stop" }));
    // The sockets have carried all of it once a synchronous change has come after it on every lane.
    let last = &stopped["last"];
    let seen = joiner.ask(json!({ "do": "check_load", "at_least": last }));
    assert_eq!((&seen["missing"], &seen["behind"]), (&json!([]), &json!([])));
    let _ =
        writeln!(std::io::stderr(), "a joiner got {count} sessions of 1 KiB beside load and served after {took:.1?}");
}

/// Small caps, so that writers which are faster than a member overflow its queue: smaller than what makes them write
/// themselves.
const SMALL_QUEUE: [&str; 5] = [
    "--high-water=128KiB",
    "--low-water=64KiB",
    "--queue-bytes-max=256KiB",
    "--value-bytes-max=128KiB",
    "--session-bytes-max=256KiB",
];

/// Writers that little holds up, and a queue that a member which stands still for a moment fills.
fn floods() -> Cluster {
    let cluster = Cluster::new().with("--drop-time=60s").with("--state-transfer-timeout=60s").with("--workers=2");
    SMALL_QUEUE.into_iter().fold(cluster.with("--mode=asynchronous").with("--queue-wait=20ms"), Cluster::with)
}

#[test]
fn a_joiner_serves_with_every_session_however_fast_the_writers_are() {
    let cluster = floods();
    let mut a = cluster.start("a");
    let filling = |word: &str| json!({ "do": word, "prefix": "f", "count": 3000, "size": 1024 });
    a.ask(filling("fill"));
    a.ask(json!({ "do": "load_start", "threads": 8, "sessions": 50, "size": 1000, "prefix": "w" }));
    for _ in 0..5 {
        let mut joiner = cluster.launch("joiner", &[]);
        a.ask(json!({ "do": "wait_view", "members": 2, "within_ms": SOON_MS }));
        // Both while it reads and while it does not.
        joiner.pause();
        a.wait_stat("queued_bytes", 64 << 10);
        joiner.resume();
        joiner.wait_ready();
        let seen = joiner.ask(filling("check_fill"));
        assert_eq!((&seen["missing"], &seen["wrong"]), (&json!(0), &json!(0)), "when it says that it serves");
        assert_eq!((joiner.stat("bad_frames"), a.stat("bad_frames")), (0, 0));
        joiner.kill();
        a.ask(json!({ "do": "wait_view", "without": joiner.id(), "within_ms": SOON_MS }));
    }
}

#[test]
fn a_member_that_stood_still_is_whole_again_however_fast_the_writers_are() {
    let cluster = floods();
    let mut a = cluster.start("a");
    let mut b = cluster.start("b");
    a.wait_view(2);
    a.ask(json!({ "do": "load_start", "threads": 8, "sessions": 50, "size": 1000, "prefix": "w" }));
    for _ in 0..5 {
        let repairs = a.stat("repairs");
        b.pause();
        a.wait_stat("repairs", repairs + 1);
        b.resume();
        // While they write.
        a.ask(json!({ "do": "wait_view", "members": 2, "settled": true, "within_ms": SOON_MS }));
    }
    let stopped = a.ask(json!({ "do": "load_stop" }));
    let seen = b.ask(json!({ "do": "check_load", "at_least": &stopped["last"] }));
    assert_eq!((&seen["missing"], &seen["behind"]), (&json!([]), &json!([])));
    assert_eq!((b.stat("bad_frames"), a.stat("bad_frames")), (0, 0), "what is given up leaves the stream whole");
}

#[test]
fn a_joiner_serves_although_a_donor_dies_during_the_transfer() {
    let cluster = Cluster::new().with("--state-transfer-timeout=60s");
    let [mut a, mut b] = cluster.members();
    let filling = |word: &str| json!({ "do": word, "prefix": "f", "count": 8_000, "size": 1024 });
    assert_eq!(a.ask(filling("fill"))["incomplete"], 0);
    for victim in 0..2 {
        let mut extra = cluster.start("extra");
        let mut joiner = cluster.launch("joiner", &[]);
        let joined = json!({ "do": "wait_view", "members": 4, "within_ms": SOON_MS });
        // One of the members that hold everything dies as soon as it sees the joiner.
        let dying = if victim == 0 { &mut extra } else { &mut b };
        dying.ask(joined);
        dying.kill();
        let took = joiner.wait_ready();
        assert!(took < Duration::from_secs(30), "it waited {took:?} for the dead");
        let seen = joiner.ask(filling("check_fill"));
        assert_eq!((&seen["missing"], &seen["wrong"]), (&json!(0), &json!(0)));
        drop((joiner, extra));
        if victim == 0 {
            a.wait_view(2);
            b.wait_view(2);
        }
    }
}

#[test]
fn a_joiner_whose_only_donor_dies_opens_alone() {
    let cluster = Cluster::new().with("--state-transfer-timeout=60s");
    let mut a = cluster.start("a");
    a.ask(json!({ "do": "fill", "prefix": "f", "count": 8_000, "size": 1024 }));
    let mut joiner = cluster.launch("joiner", &[]);
    a.ask(json!({ "do": "wait_view", "members": 2, "within_ms": SOON_MS }));
    a.kill();
    let took = joiner.wait_ready();
    assert!(took < Duration::from_secs(30), "it waited {took:?} for the dead");
    joiner.wait_view(1);
    joiner.make("S", json!({ "k": "v" }), 1);
}

// --- strangers and garbage -----------------------------------------------------------------------------------------

#[test]
fn two_clusters_in_one_group_ignore_each_other() {
    let ours = Cluster::new();
    let theirs = ours.neighbour();
    let [mut a, mut b] = ours.members();
    let [mut x, mut y] = theirs.members();
    a.make("S", json!({ "k": "ours" }), 2);
    x.make("S", json!({ "k": "theirs" }), 2);
    for member in [&mut a, &mut b, &mut x, &mut y] {
        let heard = member.stat("foreign_pings");
        member.wait_stat("foreign_pings", heard + 6);
        member.wait_view(2);
    }
    assert_eq!(b.get("S"), json!({ "k": "ours" }));
    assert_eq!(y.get("S"), json!({ "k": "theirs" }));
}

#[test]
fn garbage_on_the_replication_port_is_counted_and_does_no_harm() {
    let [mut a, mut b] = Cluster::new().members();
    a.make("S", json!({ "k": "0" }), 2);
    let mut random = vec![0; 4096];
    fastrand::seed(7);
    random.fill_with(|| fastrand::u8(..));
    let hello = header(1, 4096, 4000);
    let oversized = header(1, 0xffff_fff0, 0xffff_ff00);
    let early = header(5, 1024, 900);
    for (what, bytes, counted) in [
        ("random bytes", &random[..], true),
        ("a request of another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".as_slice(), true),
        ("an oversized length", &oversized, true),
        ("a session before the handshake", &early, true),
        ("a truncated hello", &hello, false),
        ("nothing", &[], false),
    ] {
        let before = a.stat("bad_frames");
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, a.port())).unwrap();
        // The far end may have closed before all was written.
        let _ = stream.write_all(bytes);
        if counted {
            a.wait_stat("bad_frames", before + 1);
            stream.set_read_timeout(Some(SOON)).unwrap();
            let end = stream.read(&mut [0; 64]);
            assert!(!end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{what} left it open");
        }
        drop(stream);
        assert_eq!(a.request("S", json!({ "set": { "k": what } }))["copies"], 2, "after {what}");
        assert_eq!(b.get("S")["k"], what);
    }
    assert_eq!(a.stat("members"), 2);
}

/// A frame's header with a right checksum.
fn header(kind: u8, frame_len: u32, meta_len: u32) -> Vec<u8> {
    let mut bytes = b"HSPR".to_vec();
    bytes.extend([1, kind, 0, 1]);
    bytes.extend([frame_len, meta_len, 0].map(u32::to_le_bytes).concat());
    let reserved = [0; 8];
    let checksum = crc32fast::hash(&[&bytes[..], &reserved].concat());
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(reserved);
    bytes
}

#[test]
fn garbage_datagrams_are_counted_and_do_no_harm() {
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let group: SocketAddrV4 = cluster.group.parse().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket2::SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_multicast_ttl_v4(0).unwrap();
    let before = (a.stat("bad_pings"), b.stat("bad_pings"));
    for length in [0_usize, 1, 31, 255, 256, 257, 1400] {
        socket.send_to(&vec![0xa5; length], group).unwrap();
    }
    a.wait_stat("bad_pings", before.0 + 6);
    b.wait_stat("bad_pings", before.1 + 6);
    a.wait_view(2);
    a.make("S", json!({ "k": "v" }), 2);
    assert_eq!(b.get("S"), json!({ "k": "v" }));
}

// --- starts that fail, and limits ----------------------------------------------------------------------------------

#[test]
fn a_taken_port_leads_to_the_next_free_one() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let a = Cluster::new().start_with("a", &[&format!("--port={port}"), "--auto-bind=50"]);
    assert!((port + 1..=port + 50).contains(&a.port()), "{} after {port}", a.port());
}

#[test]
fn a_taken_port_without_others_to_try_is_told_by_the_exit_code() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let flags = Cluster::new().flags(&[&port, "--auto-bind=0"]);
    let output = Command::new(program()).arg("node").args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot listen on") && said.contains("auto_bind"), "{said}");
}

#[test]
fn plaintext_off_loopback_is_refused_with_the_remedies() {
    // An address of the documentation's: were it tried, it could not be bound either, but with another exit code.
    let flags = Cluster::new().flags(&["--bind=192.0.2.1"]);
    let output = Command::new(program()).arg("node").args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("plaintext") && said.contains("insecure"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_value_above_the_cap_is_refused_and_nothing_changes() {
    let [mut a, mut b] = Cluster::new().with("--value-bytes-max=1KiB").members();
    a.make("S", json!({ "k": "small" }), 2);
    let why = a.refused(json!({ "do": "request", "id": "S", "set": { "other": "x", "k": "x".repeat(1025) } }));
    assert!(why.contains("value-too-large"), "{why}");
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("S"), json!({ "k": "small" }));
    }
    assert_eq!(a.request("S", json!({ "set": { "k": "x".repeat(1024) } }))["copies"], 2);
}

// --- slow members --------------------------------------------------------------------------------------------------

#[test]
fn an_ack_timeout_names_the_member_and_the_change_arrives_later() {
    let cluster = Cluster::new().with("--drop-time=60s").with("--ack-timeout=300ms");
    let [mut a, mut b, mut c] = cluster.members();
    a.make("S", json!({ "k": "before" }), 3);
    c.pause();
    let ended = a.request("S", json!({ "set": { "k": "late" } }));
    c.resume();
    assert_eq!(ended["copies"], 2, "{ended}");
    assert_eq!(ended["missing"], json!([{ "name": "c", "reason": "timeout" }]));
    assert_eq!(b.get("S"), json!({ "k": "late" }));
    c.wait_session("S", json!({ "k": "late" }));
}

#[test]
fn a_member_with_a_full_queue_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.toml");
    std::fs::write(&file, "[sender]\nmode = \"asynchronous\"\nqueue_wait = \"20ms\"\n").unwrap();
    let cluster = Cluster::new().with("--drop-time=60s").with(format!("--config={}", file.display()));
    let cluster = SMALL_QUEUE.into_iter().fold(cluster, Cluster::with);
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
        let seen = member.ask(filling("check_fill"));
        assert_eq!((&seen["missing"], &seen["wrong"]), (&json!(0), &json!(0)), "at {}", member.0.name());
    }
    for event in ["repair-started", "repair-done"] {
        a.ask(json!({ "do": "wait_event", "event": event, "name": "c", "within_ms": SOON_MS }));
    }
    assert_eq!(b.stat("members"), 3);
}
