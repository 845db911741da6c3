//! Joins: under load, all at once, with donors and joiners that die.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Cluster, Member, SMALL_QUEUE, SOON_MS};
use crate::record::Fault;

/// So many sessions of 1 KiB, as the words that fill and check have them.
fn filling(word: &str, count: usize) -> Value {
    json!({ "do": word, "prefix": "f", "count": count, "size": 1024 })
}

#[test]
fn f30_a_joiner_serves_with_every_session_while_the_donor_writes() {
    let mut fault = Fault::new("F30", "a join while the donor writes");
    let count = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let cluster = Cluster::new();
    let mut a = cluster.start("a");
    a.ask(filling("fill", count));
    a.ask(json!({ "do": "load_start", "threads": 1, "sessions": 100, "size": 100, "prefix": "w" }));
    let mut joiner = cluster.launch("joiner", &["--state-transfer-timeout=60s"]);
    let took = joiner.wait_ready();
    fault.check_fill(&mut joiner, &filling("check_fill", count));
    a.wait_view(2);
    // The sockets have carried all of it once a synchronous change has come after it on every lane.
    let last = a.stop_load();
    fault.check_load(&mut joiner, &last);
    fault.held(format!("ready after {took:.1?} with {count} sessions of 1 KiB"));
}

/// Writers that little holds up, and a queue that a member which stands still for a moment fills.
fn floods(fault: &mut Fault) -> Cluster {
    let cluster = Cluster::new().with("--drop-time=60s").with("--state-transfer-timeout=60s").with("--workers=2");
    let cluster = cluster.with("--mode=asynchronous").with("--queue-wait=20ms");
    fault.cluster(SMALL_QUEUE.into_iter().fold(cluster, Cluster::with))
}

#[test]
fn f30_a_joiner_serves_with_every_session_however_fast_the_writers_are() {
    let mut fault =
        Fault::new("F30", "five joins beside eight writers and a queue of 256 KiB, each stopped for a moment");
    let cluster = floods(&mut fault);
    let mut a = cluster.start("a");
    a.ask(filling("fill", 3000));
    a.ask(json!({ "do": "load_start", "threads": 8, "sessions": 50, "size": 1000, "prefix": "w" }));
    for _ in 0..5 {
        let mut joiner = cluster.launch("joiner", &[]);
        a.ask(json!({ "do": "wait_view", "members": 2, "within_ms": SOON_MS }));
        // Both while it reads and while it does not.
        joiner.pause();
        a.wait_stat("queued_bytes", 64 << 10);
        joiner.resume();
        joiner.wait_ready();
        fault.check_fill(&mut joiner, &filling("check_fill", 3000));
        assert_eq!((joiner.stat("bad_frames"), a.stat("bad_frames")), (0, 0));
        joiner.kill();
        a.wait_without(&joiner.id());
    }
    fault.held("each joiner was complete when ready, while they wrote");
}

#[test]
fn f09_a_member_that_stood_still_is_whole_again_however_fast_the_writers_are() {
    let mut fault = Fault::new("F09", "SIGSTOP until its queue of 256 KiB overflows, five times, beside eight writers");
    let cluster = floods(&mut fault);
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
    fault.held("whole again each time, while they wrote");
}

#[test]
fn f31_nodes_that_start_at_the_same_moment_do_not_wait_for_each_other() {
    let mut fault = Fault::new("F31", "three starts at the same moment");
    let cluster = Cluster::new();
    let mut members = ["a", "b", "c"].map(|name| cluster.launch(name, &[]));
    let took = members.each_mut().map(Member::wait_ready);
    assert!(took.iter().all(|took| *took < Duration::from_secs(2)), "{took:?}");
    for member in &mut members {
        member.wait_view(3);
    }
    fault.write(&mut members[0], "S", json!({ "k": "v" }), 3);
    fault.check(&mut members);
    fault.held(format!("all ready within {:.1?}", took.into_iter().max().unwrap_or_default()));
}

#[test]
fn f32_a_joiner_serves_although_a_donor_dies_during_the_transfer() {
    let mut fault = Fault::new("F32", "SIGKILL of one of three donors during a transfer, twice");
    let cluster = Cluster::new().with("--state-transfer-timeout=60s");
    let [mut a, mut b] = cluster.members();
    assert_eq!(a.ask(filling("fill", 8_000))["incomplete"], 0);
    let mut longest = Duration::ZERO;
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
        longest = longest.max(took);
        fault.check_fill(&mut joiner, &filling("check_fill", 8_000));
        drop((joiner, extra));
        if victim == 0 {
            a.wait_view(2);
            b.wait_view(2);
        }
    }
    fault.held(format!("ready after {longest:.1?} at most, complete"));
}

#[test]
fn f32_a_joiner_whose_only_donor_dies_opens_alone() {
    let mut fault = Fault::new("F32", "SIGKILL of the only donor during a transfer");
    let cluster = Cluster::new().with("--state-transfer-timeout=60s");
    let mut a = cluster.start("a");
    a.ask(filling("fill", 8_000));
    let mut joiner = cluster.launch("joiner", &[]);
    a.ask(json!({ "do": "wait_view", "members": 2, "within_ms": SOON_MS }));
    a.kill();
    let took = joiner.wait_ready();
    assert!(took < Duration::from_secs(30), "it waited {took:?} for the dead");
    joiner.wait_view(1);
    fault.write(&mut joiner, "S", json!({ "k": "v" }), 1);
    fault.check([&mut joiner]);
    fault.held(format!("opened alone after {took:.1?}"));
}

#[test]
fn f33_a_donor_keeps_nothing_for_joiners_that_die() {
    let mut fault = Fault::new("F33", "SIGKILL of five joiners in turn during their transfers");
    let count = 8_000;
    let cluster = Cluster::new().with("--state-transfer-timeout=60s");
    let mut a = cluster.start("a");
    a.ask(filling("fill", count));
    let mut peaks = Vec::new();
    for _ in 0..5 {
        let mut joiner = cluster.launch("joiner", &[]);
        a.ask(json!({ "do": "wait_view", "members": 2, "within_ms": SOON_MS }));
        joiner.kill();
        a.ask(json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS }));
        assert_eq!(a.stat("queued_bytes"), 0, "what was queued to it is gone");
        peaks.push(a.peak_kib().unwrap());
    }
    assert!(peaks[4] < peaks[0] + (16 << 10), "memory grows with each: {peaks:?} KiB");
    let mut joiner = cluster.start("joiner");
    fault.check_fill(&mut joiner, &filling("check_fill", count));
    fault.held(format!(
        "the donor grew by {} KiB after the first; the next joiner was complete",
        peaks[4].saturating_sub(peaks[0])
    ));
}

#[test]
fn f34_a_joiner_has_the_newest_of_sessions_that_change_during_the_transfer() {
    let mut fault = Fault::new("F34", "a join while each of its 4,000 sessions is written");
    let cluster = Cluster::new();
    let mut a = cluster.start("a");
    a.ask(json!({ "do": "load_start", "threads": 2, "sessions": 2000, "size": 500, "prefix": "w" }));
    a.wait_stat("commits", 8000);
    let mut joiner = cluster.start("joiner");
    let last = a.stop_load();
    // What the donor has now, whether its writers waited for the joiner or not.
    for thread in 0..2 {
        for n in 0..2000 {
            let id = format!("w-{thread}-{n}");
            let number = a.get(&id)["number"].clone();
            assert!(number.is_string(), "{id}: {number}");
            fault.expect(&id, &json!({ "number": number }));
        }
    }
    fault.check_load(&mut joiner, &last);
    fault.check([&mut joiner]);
    fault.held("each has its newest state");
}
