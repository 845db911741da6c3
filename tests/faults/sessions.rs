//! Sessions under clocks, races and partitions.

use std::path::{Path, PathBuf};
use std::process::Command;

use hotspare::cli::demo::process::Process;
use serde_json::{Value, json};

use crate::common::lab::Lab;
use crate::common::{Cluster, Member, SOON_MS, ok, program, skip};
use crate::record::Fault;

/// A wall clock that a test sets, for members that it starts.
struct WallClock {
    library: PathBuf,
    file: tempfile::NamedTempFile,
}

impl WallClock {
    /// A clock that is right so far; `None` where nothing fakes clocks.
    fn new() -> Option<Self> {
        let roots = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let libraries = roots.map(|root| Path::new(root).join("faketime/libfaketimeMT.so.1"));
        let Some(library) = libraries.into_iter().find(|path| path.exists()) else {
            return skip("it needs libfaketime");
        };
        let clock = Self { library, file: ok(tempfile::NamedTempFile::new()) };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it off the true time by so much.
    fn set(&self, offset: &str) {
        ok(std::fs::write(self.file.path(), offset));
    }

    fn start(&self, cluster: &Cluster, name: &str) -> Member {
        let mut command = Command::new(program());
        command.args(["member", "--json", &format!("--name={name}")]).args(cluster.flags(&[]));
        self.fake(&mut command);
        Member(ok(Process::spawn(command, name)))
    }

    fn fake(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", self.file.path());
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// The year that a process sees.
    fn year(&self) -> i64 {
        let mut date = Command::new("date");
        self.fake(date.arg("+%Y"));
        ok(String::from_utf8_lossy(&ok(date.output()).stdout).trim().parse())
    }
}

#[test]
fn f20_a_wall_clock_that_jumps_has_no_effect() {
    let mut fault = Fault::new("F20", "wall clock of one of three set by ±1 h and ±10 years (libfaketime)");
    let Some(clock) = WallClock::new() else { return };
    let cluster = Cluster::new().with("--max-idle=60s");
    let [mut a, mut b] = cluster.members();
    let mut c = clock.start(&cluster, "c");
    c.wait_ready();
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    let year = clock.year();
    for (round, offset) in ["+1h", "-1h", "+3650d", "-3650d"].into_iter().enumerate() {
        clock.set(offset);
        fault.write(&mut c, "S", json!({ "k": format!("c{round}") }), 3);
        fault.write(&mut a, "S", json!({ "k": format!("a{round}") }), 3);
        fault.write(&mut c, &format!("at {offset}"), json!({ "k": "v" }), 3);
        // Beyond the drop time.
        b.wait_pings(12);
        fault.check([&mut a, &mut b, &mut c]);
    }
    assert_eq!(clock.year(), year - 10, "the clock that it saw did jump");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
        assert_eq!(member.stat("expired"), 0);
    }
    assert_eq!(a.count_events("member-down", "c") + a.count_events("member-suspect", "c"), 0);
    fault.held("nobody suspect, nothing expired, the later change won each time");
}

#[test]
fn f21_wall_clocks_twenty_years_apart_decide_nothing() {
    let mut fault = Fault::new("F21", "wall clocks 10 years fast, 10 years slow, and right (libfaketime)");
    let (Some(fast), Some(slow)) = (WallClock::new(), WallClock::new()) else { return };
    fast.set("+3650d");
    slow.set("-3650d");
    let cluster = Cluster::new();
    let (mut a, mut b, mut c) = (fast.start(&cluster, "a"), slow.start(&cluster, "b"), cluster.launch("c", &[]));
    for member in [&mut a, &mut b, &mut c] {
        member.wait_ready();
    }
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    assert_eq!(fast.year() - slow.year(), 20);
    for round in 0..20 {
        for (member, name) in [(&mut a, "fast"), (&mut b, "slow"), (&mut c, "right")] {
            fault.write(member, "S", json!({ "k": format!("{name} {round}") }), 3);
        }
        fault.check([&mut a, &mut b, &mut c]);
    }
    fault.invalidate(&mut b, "S", 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("the later change won each time, whoever made it");
}

#[test]
fn f35_a_late_change_cannot_bring_an_ended_session_back_nor_write_into_the_next_one() {
    let mut fault = Fault::new("F35", "a request begun before an end, ended after the next login");
    let [mut a, mut b] = Cluster::new().members();
    fault.write(&mut a, "S", json!({ "user": "first" }), 2);
    let slow = b.begin("S");
    fault.invalidate(&mut a, "S", 2);
    fault.check([&mut a, &mut b]);
    fault.write(&mut a, "T", json!({ "user": "first" }), 2);
    let slower = b.begin("T");
    fault.invalidate(&mut a, "T", 2);
    a.make("T", json!({ "user": "second" }), 2);
    for (handle, name) in [(&slow, "S"), (&slower, "T")] {
        assert_eq!(b.end(handle, json!({ "set": { "user": "ghost" } }))["status"], "ended", "{name}");
    }
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("S"), Value::Null);
        assert_eq!(member.get("T"), json!({ "user": "second" }));
    }
    fault.held("its outcome is `ended`; the next login is untouched");
}

#[test]
fn f36_a_session_in_use_elsewhere_outlives_its_writers_expiry() {
    let mut fault = Fault::new("F36", "idle at its writer, used at another for thrice the idle time");
    let [mut a, mut b, mut c] = Cluster::new().with("--idle-grace=500ms").members();
    let made = a.request("S", json!({ "create": true, "set": { "k": "v" }, "max_idle_ms": 1500 }));
    assert_eq!(made["copies"], 3, "{made}");
    a.request("idle", json!({ "create": true, "set": { "k": "v" }, "max_idle_ms": 1500 }));
    fault.expect("S", &json!({ "k": "v" }));
    for _ in 0..15 {
        b.request("S", json!({ "touch": true }));
        a.wait_pings(3);
        assert_eq!(c.get("S"), json!({ "k": "v" }));
    }
    fault.must_stay_gone("idle");
    b.request("S", json!({ "touch": true }));
    fault.check([&mut a, &mut b, &mut c]);
    // Nobody uses it any more.
    fault.must_stay_gone("S");
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("it lived while used and expired everywhere after; an unused one expired");
}

#[test]
fn f37_who_was_cut_off_for_longer_than_tombstones_live_brings_nothing_back() {
    let mut fault = Fault::new("F37", "one host cut off until the tombstones of the others are gone");
    let Some(lab) = Lab::build(3) else { return };
    let cluster = Cluster::new().with("--max-idle=3s").with("--partition-max=1s").with("--idle-grace=500ms");
    let [mut a, mut b, mut c] = lab.members(&cluster);
    fault.write(&mut a, "S", json!({ "k": "v" }), 3);
    fault.write(&mut a, "W", json!({ "k": "v" }), 3);
    // What is written just before a separation counts as written since.
    for _ in 0..10 {
        for id in ["S", "W"] {
            c.request(id, json!({ "touch": true }));
        }
        c.wait_pings(3);
    }
    lab.link(2, "down");
    for member in [&mut a, &mut b] {
        member.wait_without(&c.id());
    }
    c.ask(json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS }));
    fault.invalidate(&mut a, "S", 2);
    // In use at the one that is cut off, until nobody else knows of it.
    let deadline = crate::common::now() + crate::common::SOON;
    while a.stat("tombstones") + b.stat("tombstones") > 0 {
        assert!(crate::common::now() < deadline, "tombstones stay");
        c.request("S", json!({ "touch": true }));
        c.request("W", json!({ "touch": true }));
        c.wait_pings(3);
    }
    assert_eq!(c.get("S"), json!({ "k": "v" }));
    // Made here since, and written to here since.
    c.make("N", json!({ "k": "v" }), 1);
    c.request("W", json!({ "set": { "k": "w" } }));
    lab.link(2, "up");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
    }
    fault.write(&mut a, "T", json!({ "k": "v" }), 3);
    c.request("S", json!({ "touch": true }));
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("S"), Value::Null, "at {}", member.0.name());
    }
    fault.expect("N", &json!({ "k": "v" }));
    fault.expect("W", &json!({ "k": "w" }));
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("what ended meanwhile is gone there too, though it was in use; what was written there stays");
}

#[test]
fn f40_one_id_made_on_both_sides_of_a_partition_is_read_as_one() {
    let mut fault = Fault::new("F40", "the same id created on both sides of a partition");
    let Some(lab) = Lab::build(2) else { return };
    let [mut a, mut b] = lab.members(&Cluster::new());
    lab.link(1, "down");
    for member in [&mut a, &mut b] {
        member.ask(json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS }));
    }
    a.make("S", json!({ "left": "a" }), 1);
    b.make("S", json!({ "right": "b" }), 1);
    fault.expect("S", &json!({ "left": "a", "right": "b" }));
    lab.link(1, "up");
    for member in [&mut a, &mut b] {
        member.wait_view(2);
    }
    fault.check([&mut a, &mut b]);
    fault.write(&mut b, "S", json!({ "both": "b" }), 2);
    fault.check([&mut a, &mut b]);
    fault.invalidate(&mut a, "S", 2);
    fault.check([&mut a, &mut b]);
    fault.held("each reads the union; an end ends both");
}

#[test]
fn f41_changes_of_one_session_on_two_members_have_one_winner() {
    let mut fault = Fault::new("F41", "two members change one session at the same time, 100 times");
    let [mut a, mut b, mut c] = Cluster::new().members();
    fault.write(&mut a, "S", json!({ "k": "0" }), 3);
    let mut of_a = 0;
    for round in 0..100 {
        let own = [format!("a{round}"), format!("b{round}")];
        for (member, own) in [(&mut a, &own[0]), (&mut b, &own[1])] {
            let name = member.0.name().to_owned();
            member.send(json!({ "do": "request", "id": "S", "set": { "k": own, name: own } }));
        }
        for member in [&mut a, &mut b] {
            let (_, ended) = member.reply();
            // Who has a change before the one that it builds on names itself partial, and is no copy until it has both.
            let partial = ended["missing"].as_array().unwrap().iter().filter(|m| m["reason"] == "partial").count();
            assert_eq!(ended["copies"].as_u64().unwrap() + partial as u64, 3, "{ended}");
        }
        c.wait_session("S", json!({ "a": own[0], "b": own[1] }));
        let won = c.get("S")["k"].as_str().unwrap().to_owned();
        assert!(own.contains(&won), "{won} is of another round than {own:?}");
        of_a += u32::from(won == own[0]);
        fault.expect("S", &json!({ "k": won, "a": own[0], "b": own[1] }));
        fault.check([&mut a, &mut b, &mut c]);
    }
    fault.held(format!("the same winner everywhere, {of_a} times the first; what only one changed is kept"));
}
