//! Processes that are killed, stopped, stalled, restarted, or leave.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::common::{Cluster, SOON, SOON_MS, acknowledged, now};
use crate::record::Fault;

#[test]
fn f01_a_member_killed_under_load_loses_no_acknowledged_session() {
    let mut fault = Fault::new("F01", "SIGKILL of one of three while two write");
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
    let id = a.id();
    let killed = a.kill();
    fault.detect([&mut b, &mut c], &id, killed);
    let before = b.stat("commits");
    b.wait_stat("commits", before + 1000);
    let stopped = b.ask(json!({ "do": "load_stop" }));
    assert_eq!(stopped["errors"], 0, "{stopped}");

    let of_a = acknowledged(&log("a"));
    assert_eq!(of_a.len(), 32, "every session of A was acknowledged");
    let mut all = acknowledged(&log("b"));
    all.extend(of_a);
    for member in [&mut b, &mut c] {
        fault.check_load(member, &all);
    }
    fault.held("removed; its sessions are served by the others, whose load went on");
}

#[test]
fn f01_a_killed_member_leaves_every_view_within_milliseconds() {
    let mut fault = Fault::new("F01", "SIGKILL, again and again");
    let rounds: usize = std::env::var("HOTSPARE_KILLS").map_or(10, |n| n.parse().unwrap());
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
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
    let last = took[took.len() - 1];
    let said = format!("{} removals: p50 {:.1?}, p99 {:.1?}, longest {last:.1?}", took.len(), at(50), at(99));
    let _ = writeln!(std::io::stderr(), "kill -9 to removal from a view, {said}");
    // By silence it would take the drop time and two echoes.
    assert!(at(50) < Duration::from_millis(500), "{took:?}");
    assert!(last < Duration::from_secs(4), "{took:?}");
    fault.check([&mut a, &mut b]);
    fault.detected(last);
    fault.held(said);
}

#[test]
fn f02_what_two_members_killed_at_once_had_acknowledged_is_at_the_third() {
    let mut fault = Fault::new("F02", "SIGKILL of two of three while both write");
    let [mut a, mut b, mut c] = Cluster::new().members();
    let directory = tempfile::tempdir().unwrap();
    let log = |name: &str| directory.path().join(name);
    for (member, name) in [(&mut a, "a"), (&mut b, "b")] {
        let load = json!({ "do": "load_start", "threads": 2, "sessions": 16, "prefix": name, "log": log(name) });
        member.ask(load);
    }
    a.wait_stat("commits", 1000);
    b.wait_stat("commits", 1000);
    let (of_a, of_b) = (a.id(), b.id());
    a.kill();
    let killed = b.kill();
    for id in [of_a, of_b] {
        fault.detect([&mut c], &id, killed);
    }
    for name in ["a", "b"] {
        fault.check_load(&mut c, &acknowledged(&log(name)));
    }
    c.wait_view(1);
    fault.write(&mut c, "S", json!({ "k": "v" }), 1);
    fault.check([&mut c]);
    fault.held("the third serves all that was acknowledged");
}

#[test]
fn f04_a_stopped_member_is_removed_and_holds_up_writers_no_longer_than_that() {
    let mut fault = Fault::new("F04", "SIGSTOP of one of three");
    let cluster = Cluster::new().with("--ack-timeout=300ms");
    let [mut a, mut b, c] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "before" }), 3);
    c.pause();
    let stopped = now();
    let (mut waited, mut longest_us) = (0, 0);
    let after = loop {
        let ended = a.request("S", json!({ "set": { "k": "meanwhile" } }));
        longest_us = ended["took_us"].as_u64().unwrap().max(longest_us);
        if ended["missing"] == json!([]) {
            break ended;
        }
        assert_eq!(ended["missing"][0]["name"], "c", "{ended}");
        assert!(stopped.elapsed() < SOON, "it is never removed");
        waited += 1;
    };
    fault.detected(stopped.elapsed());
    assert_eq!(after["copies"], 2);
    assert!(longest_us < 1_500_000, "one write took {longest_us} µs");
    // The drop time and two echoes, with room for a busy machine.
    assert!(fault.detect([&mut a, &mut b], &c.id(), stopped) < Duration::from_secs(6));
    fault.expect("S", &json!({ "k": "meanwhile" }));
    fault.check([&mut a, &mut b]);
    fault.held(format!("removed; {waited} writes of one caller waited 300 ms each until then, none after"));
}

#[test]
fn f04_an_ack_timeout_names_the_member_and_the_change_arrives_later() {
    let mut fault = Fault::new("F04", "SIGSTOP of one of three for less than the drop time");
    let cluster = Cluster::new().with("--drop-time=60s").with("--ack-timeout=300ms");
    let [mut a, mut b, mut c] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "before" }), 3);
    c.pause();
    let ended = fault.write(&mut a, "S", json!({ "k": "late" }), 2);
    c.resume();
    assert_eq!(ended["missing"], json!([{ "name": "c", "reason": "timeout" }]));
    assert_eq!(b.get("S"), json!({ "k": "late" }));
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("the outcome names it; the change arrives when it goes on");
}

#[test]
fn f05_a_stopped_member_is_removed_and_converges_when_it_goes_on() {
    let mut fault = Fault::new("F05", "SIGCONT after removal");
    let cluster = Cluster::new().with("--frequency=200ms").with("--drop-time=1s").with("--verify-timeout=250ms");
    let [mut a, mut b, mut c] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "before" }), 3);
    fault.write(&mut a, "ended", json!({ "k": "v" }), 3);
    c.pause();
    let took = fault.detect([&mut a, &mut b], &c.id(), now());
    assert!(took < Duration::from_secs(4), "removed after {took:?}");
    fault.write(&mut a, "S", json!({ "k": "meanwhile" }), 2);
    fault.write(&mut a, "T", json!({ "k": "new" }), 2);
    fault.invalidate(&mut b, "ended", 2);
    c.resume();
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    fault.check([&mut c]);
    fault.write(&mut c, "S", json!({ "k": "after" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("admitted again and repaired");
}

#[test]
fn f05_a_member_that_slept_longer_than_sessions_idle_expires_none_in_use() {
    let mut fault = Fault::new("F05", "SIGSTOP for longer than sessions idle, then SIGCONT");
    let cluster = Cluster::new().with("--max-idle=4s").with("--idle-grace=1s").with("--ack-timeout=300ms");
    let [mut a, mut b, mut c] = cluster.members();
    a.ask(json!({ "do": "load_start", "threads": 1, "sessions": 8, "prefix": "w" }));
    a.wait_stat("commits", 100);
    c.pause();
    fault.detect([&mut a, &mut b], &c.id(), now());
    a.wait_pings(60);
    c.resume();
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    let expired = [&mut a, &mut b, &mut c].map(|member| member.stat("expired"));
    let last = a.stop_load();
    for member in [&mut a, &mut b, &mut c] {
        fault.check_load(member, &last);
    }
    assert_eq!(expired, [0; 3], "nothing in use expires");
    let downs = c.count_events("member-down", "a");
    assert_eq!(downs, 0, "it reads what waits in its sockets before it judges");
    fault.held("it expired nothing and removed nobody");
}

#[test]
fn f06_a_member_that_stalls_again_and_again_is_not_removed() {
    let mut fault = Fault::new("F06", "SIGSTOP and SIGCONT, eight stalls of four ping periods");
    let cluster = Cluster::new().with("--drop-time=1500ms");
    let [mut a, mut b, mut c] = cluster.members();
    a.ask(json!({ "do": "load_start", "threads": 1, "sessions": 8, "prefix": "w" }));
    for _ in 0..8 {
        c.pause();
        b.wait_pings(4);
        c.resume();
        b.wait_pings(1);
    }
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    let last = a.stop_load();
    for member in [&mut a, &mut b, &mut c] {
        fault.check_load(member, &last);
    }
    for (member, others) in [(&mut a, ["b", "c"]), (&mut b, ["a", "c"]), (&mut c, ["a", "b"])] {
        let events = member.events();
        let is_down = |name| events.iter().any(|e| e["event"] == "member-down" && e["name"] == name);
        assert!(!others.into_iter().any(is_down), "{events:?}");
    }
    fault.held("nobody was removed");
}

#[test]
fn f29_a_restart_on_the_same_port_is_a_new_member() {
    let mut fault = Fault::new("F29", "SIGKILL and a start on the same port within the drop time");
    let cluster = Cluster::new().with("--drop-time=60s");
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
    let (first, port) = (a.id(), a.port());
    let killed = a.kill();
    let mut again = cluster.start_with("a", &[&format!("--port={port}")]);
    assert_eq!(again.port(), port);
    assert_ne!(again.id(), first);
    assert_eq!(again.get("S"), json!({ "k": "v" }), "it has the state when it serves");
    fault.detect([&mut b], &first, killed);
    b.ask(json!({ "do": "wait_view", "with": again.id(), "settled": true, "within_ms": SOON_MS }));
    fault.write(&mut b, "S", json!({ "k": "w" }), 2);
    fault.check([&mut again, &mut b]);
    fault.held("a new member, with all state when it serves");
}

#[test]
fn f50_a_member_that_leaves_is_gone_at_once_and_on_purpose_and_returns_as_another() {
    let mut fault = Fault::new("F50", "leave, and a start on the same port at once");
    let cluster = Cluster::new().with("--drop-time=60s");
    let [mut a, mut b] = cluster.members();
    fault.write(&mut a, "S", json!({ "k": "v" }), 2);
    fault.write(&mut b, "S", json!({ "last": "word" }), 2);
    let (first, port) = (b.id(), b.port());
    let left = now();
    b.ask(json!({ "do": "leave" }));
    fault.detect([&mut a], &first, left);
    a.ask(json!({ "do": "wait_event", "event": "member-left", "name": "b", "within_ms": SOON_MS }));
    assert!(b.0.finish(SOON), "it ends when its input does");
    fault.write(&mut a, "S", json!({ "k": "w" }), 1);

    let mut again = cluster.start_with("b", &[&format!("--port={port}")]);
    a.ask(json!({ "do": "wait_view", "with": again.id(), "settled": true, "within_ms": SOON_MS }));
    fault.write(&mut a, "S", json!({ "k": "x" }), 2);
    fault.check([&mut a, &mut again]);
    let events = a.events();
    assert!(!events.iter().any(|event| event["event"] == "member-down"), "{events:?}");
    fault.held("left once and never down; the next one is in view");
}
