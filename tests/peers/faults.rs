//! The faults, each done in the same way to whichever system.
//!
//! Members a, b and c run on hosts 0, 1 and 2.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Member, SOON_MS, acknowledged, now, ok};
use crate::row::{BOUND, LOOK, Row, create, pass, until_still};
use crate::system::{Java, Rig, System};

/// Three members that all see each other, for the faults that leave them so.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    rig: Rig<'a>,
    members: [Member; 3],
}

impl<'a> Stage<'a> {
    pub(crate) fn build(system: System, java: &'a Java) -> Self {
        let rig = Rig::build(system, java, 3);
        let members = rig.members();
        let mut stage = Self { rig, members };
        stage.warm();
        stage
    }

    /// Load everywhere, until a compiler that compiles what is used often has done so.
    fn warm(&mut self) {
        for (member, prefix) in self.members.iter_mut().zip(["wa", "wb", "wc"]) {
            load(member, prefix, 1);
        }
        pass(Duration::from_secs(3), || {});
        for member in &mut self.members {
            member.ask(json!({ "do": "load_stop" }));
        }
    }

    fn row(&self, fault: &'static str) -> Row {
        Row::begin_to_weigh(&self.members);
        Row::new(self.rig.system, fault)
    }

    /// Waits until the members see each other again.
    fn whole(&mut self, row: &mut Row) {
        let wait = json!({ "do": "wait_view", "members": 3, "settled": true, "within_ms": SOON_MS });
        if self.members.iter_mut().any(|member| member.0.ask(&wait).is_err()) {
            row.say("they did not find together again within 20 s");
        }
    }

    /// Ends a row; members that do not see each other are started anew.
    fn end(&mut self, mut row: Row) -> Row {
        row.weigh(&self.members);
        let wait = json!({ "do": "wait_view", "members": 3, "settled": true, "within_ms": 10 });
        if self.members.iter_mut().any(|member| member.0.ask(&wait).is_err()) {
            for member in &mut self.members {
                member.kill();
            }
            self.members = self.rig.members();
            self.warm();
        }
        row
    }

    pub(crate) fn nothing(&mut self) -> Row {
        let mut row = self.row("none: sessions made and changed in one request");
        let [a, b, c] = &mut self.members;
        for n in 0..LOGINS {
            let (id, user) = (format!("login-{n}"), json!({ "user": n.to_string() }));
            let ended = a.request(&id, json!({ "create": true, "set": user }));
            row.waited(Duration::from_micros(ended["took_us"].as_u64().unwrap_or(0)));
            row.expect(&id, &user);
            // Nobody is in a hurry.
            pass(Duration::from_millis(5), || {});
        }
        row.check(&mut [a, b, c]);
        row.say("one after the other, 5 ms between");
        self.end(row)
    }

    pub(crate) fn only_load(&mut self) -> Row {
        let mut row = self.row("none: one writer of 16 sessions for 3 s");
        let [a, b, c] = &mut self.members;
        load(a, "only", 1);
        let (mut seen, mut moved) = (a.stat("commits"), now());
        let commits = seen;
        pass(Duration::from_secs(3), || still(&mut row, a, &mut seen, &mut moved));
        row.say(format!("{} requests/s", (seen - commits) / 3));
        let last = stopped(a, "only");
        row.check_load(&mut [b, c], &last);
        self.end(row)
    }

    pub(crate) fn end_against_late_change(&mut self) -> Row {
        let mut row = self.row("F35 an end races with a late change");
        let [a, b, c] = &mut self.members;
        for n in 0..ROUNDS {
            let (id, again) = (format!("end-{n}"), n % 2 == 1);
            made(a, b, &id);
            let slow = b.begin(&id);
            let late = json!({ "do": "end", "handle": slow, "set": { "user": "late" } });
            let end = json!({ "do": "request", "id": id, "invalidate": true });
            // In either order, and at once.
            let [first, second] =
                if n % 4 < 2 { [(&mut *a, end), (&mut *b, late)] } else { [(&mut *b, late), (&mut *a, end)] };
            together(first, second);
            if again {
                row.write(a, &id, json!({ "user": "next" }));
            } else {
                row.must_stay_gone(&id);
            }
        }
        row.check(&mut [a, b, c]);
        row.say(format!("{ROUNDS} sessions, half of them with a next login under the same id"));
        self.end(row)
    }

    pub(crate) fn two_writers(&mut self) -> Row {
        let mut row = self.row("F41 one session changed on two members");
        let [a, b, c] = &mut self.members;
        for n in 0..ROUNDS {
            let id = format!("two-{n}");
            made(a, b, &id);
            let set = |own: &str| json!({ "do": "request", "id": id, "set": { "user": own, own: "1" } });
            together((&mut *a, set("of_a")), (&mut *b, set("of_b")));
        }
        let members = &mut [a, b, c];
        let (lost, differ) = until_still(|| {
            let (mut lost, mut differ) = (0, 0);
            for n in 0..ROUNDS {
                let seen = members.each_mut().map(|member| member.get(&format!("two-{n}")));
                lost += seen
                    .iter()
                    .map(|seen| u64::from(seen["of_a"] != "1") + u64::from(seen["of_b"] != "1"))
                    .sum::<u64>();
                differ += u64::from(seen.iter().any(|other| other["user"] != seen[0]["user"]));
            }
            (lost, differ)
        });
        // Where they differ, one at least has not what the others have.
        row.count(ROUNDS * 7, lost + differ, 0);
        row.say(format!("{differ} of {ROUNDS} sessions differ from member to member for good"));
        self.end(row)
    }

    pub(crate) fn multicast_lost(&mut self) -> Row {
        let mut row = self.row("F15 multicast is lost, TCP works");
        for host in 0..3 {
            self.rig.lab.lose(host, &["ip daddr 224.0.0.0/4"]);
        }
        let (mut removals, mut n) = (0, 0);
        let [a, b, c] = &mut self.members;
        pass(Duration::from_secs(8), || {
            let views = [&mut *a, &mut *b, &mut *c].map(|member| member.stat("members"));
            removals += u64::from(views.iter().any(|members| *members < 3));
            let took = row.write(a, &format!("silent-{}", n % 50), json!({ "number": n.to_string() }));
            row.waited(took);
            n += 1;
        });
        row.check(&mut [a, b, c]);
        row.say(if removals == 0 { "nobody removed in 8 s" } else { "**members removed that live**" });
        for host in 0..3 {
            self.rig.lab.heal(host);
        }
        self.whole(&mut row);
        self.end(row)
    }

    pub(crate) fn one_way(&mut self) -> Row {
        let mut row = self.row("F11 loss one way");
        let [a, b, _] = &mut self.members;
        load(a, "one", 1);
        let cut = now();
        self.rig.lab.lose_from(0, 1);
        let (of_a, of_b) = (a.id(), b.id());
        let took = watch(&mut row, cut, [(a, &of_b), (b, &of_a)]);
        let [of_a, of_b] =
            took.map(|took| took.map_or_else(|| String::from("never"), |took| format!("{} ms", took.as_millis())));
        row.say(format!("a without b {of_a}, b without a {of_b}"));
        let last = stopped(a, "one");
        self.rig.lab.heal(1);
        self.whole(&mut row);
        let [_, b, c] = &mut self.members;
        row.check_load(&mut [b, c], &last);
        self.end(row)
    }

    pub(crate) fn isolated(&mut self) -> Row {
        let mut row = self.row("F14 one host is isolated, then back");
        let [a, b, c] = &mut self.members;
        row.write(a, "S", json!({ "base": "1" }));
        row.write(a, "ended", json!({ "k": "v" }));
        row.check(&mut [b, c]);
        load(a, "iso", 1);
        let cut = now();
        self.rig.lab.link(2, "down");
        let of_c = c.id();
        watch(&mut row, cut, [(a, &of_c), (b, &of_c)]);
        let last = stopped(a, "iso");
        let alone = json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS });
        let _ = c.0.ask(&alone);

        row.write(a, "S", json!({ "ours": "a" }));
        a.request("ended", json!({ "invalidate": true }));
        row.must_stay_gone("ended");
        row.write(a, "left", json!({ "k": "a" }));
        row.write(c, "S", json!({ "theirs": "c" }));
        row.write(c, "right", json!({ "k": "c" }));
        c.request("ended", json!({ "set": { "k": "late" } }));

        self.rig.lab.link(2, "up");
        self.whole(&mut row);
        let [a, b, c] = &mut self.members;
        row.check(&mut [a, b, c]);
        row.check_load(&mut [b, c], &last);
        self.end(row)
    }

    pub(crate) fn stopped(&mut self) -> Row {
        let mut row = self.row("F04, F05 a member is stopped, then goes on");
        let [a, b, c] = &mut self.members;
        load(a, "stop", 1);
        c.pause();
        let at = now();
        let of_c = c.id();
        watch(&mut row, at, [(a, &of_c), (b, &of_c)]);
        let last = stopped(a, "stop");
        c.resume();
        self.whole(&mut row);
        let [_, b, c] = &mut self.members;
        row.check_load(&mut [b, c], &last);
        self.end(row)
    }

    pub(crate) fn slow_reader(&mut self) -> Row {
        let mut row = self.row("F06, F09 a member that reads a fifth of the time");
        let [a, b, c] = &mut self.members;
        load(a, "slow", 4);
        let commits = a.stat("commits");
        pass(Duration::from_secs(3), || {});
        let (commits, healthy) = (a.stat("commits"), a.stat("commits") - commits);
        let (of_c, mut removed) = (c.id(), false);
        let (mut seen, mut moved) = (commits, now());
        for _ in 0..24 {
            for (stopped, time) in [(true, 200), (false, 50)] {
                if stopped {
                    c.pause();
                } else {
                    c.resume();
                }
                pass(Duration::from_millis(time), || {
                    removed |= misses(a, &of_c) || misses(b, &of_c);
                    still(&mut row, a, &mut seen, &mut moved);
                });
            }
        }
        let slow = a.stat("commits") - commits;
        let last = stopped(a, "slow");
        self.whole(&mut row);
        let [_, b, c] = &mut self.members;
        row.check_load(&mut [b, c], &last);
        row.say(format!(
            "four writers: {} requests/s before, {} during{}",
            healthy / 3,
            slow / 6,
            if removed { "; removed meanwhile" } else { "" }
        ));
        self.end(row)
    }

    pub(crate) fn killed(&mut self) -> Row {
        let mut row = self.row("F01 a member is killed");
        let directory = ok(tempfile::tempdir());
        for round in 0..3 {
            let prefix = format!("kill{round}");
            let log = directory.path().join(&prefix);
            let [a, b, c] = &mut self.members;
            let plan = json!({ "do": "load_start", "threads": 2, "sessions": 16, "prefix": prefix, "log": log });
            a.ask(plan);
            let commits = a.stat("commits");
            moves(a, commits + 2000);
            row.weigh([&*a]);
            let gone = json!({ "do": "wait_view", "without": a.id(), "within_ms": BOUND.as_millis() as u64 });
            for member in [&mut *b, &mut *c] {
                member.send(gone.clone());
            }
            let killed = a.kill();
            let took = [&mut *b, &mut *c].map(|member| Some(member.0.reply(BOUND * 2).ok()?.0 - killed));
            row.detected(later(took));
            let last = acknowledged(&log);
            row.check_load(&mut [b, c], &last);
            self.members[0] = self.rig.start(0);
            self.whole(&mut row);
        }
        self.end(row)
    }
}

/// Two members start at the same moment, three times, and not again after one that took long.
pub(crate) fn start_at_once(system: System, java: &Java) -> Row {
    let mut row = Row::new(system, "F31 all start at once");
    let mut last = Vec::new();
    let begun = now();
    while last.len() < 3 && begun.elapsed() < LONG / 2 {
        let rig = Rig::build(system, java, 2);
        let mut members = [0, 1].map(|host| rig.launch(host));
        let took = members.each_mut().map(|member| ok(member.0.wait_ready(LONG)));
        let [a, b] = &mut members;
        row.write(a, &format!("S{}", last.len()), json!({ "k": "v" }));
        row.check(&mut [a, b]);
        row.forget();
        row.weigh(&members);
        last.push(format!("{:.1?}", took[0].max(took[1])));
    }
    row.say(format!("the later of two was ready {} after both were started", last.join(", ")));
    row
}

/// The first of two members that hold everything dies while it is sending its state to a third.
pub(crate) fn donor_dies(system: System, java: &Java) -> Row {
    let mut row = Row::new(system, "F32 a donor dies");
    let rig = Rig::build(system, java, 3);
    let [mut a, mut b] = rig.members();
    let filling = json!({ "do": "fill", "prefix": "f", "count": 10_000, "size": 1024 });
    let mut check = filling.clone();
    check["do"] = json!("check_fill");
    // Again where something did not get there.
    let is_complete = (0..5).any(|_| {
        a.send(filling.clone());
        ok(a.0.reply(LONG));
        let count = |seen: Value| Some((seen["missing"].as_u64()?, seen["wrong"].as_u64()?));
        until_still(|| count(b.ask(check.clone())).unwrap_or_default()) == (0, 0)
    });
    assert!(is_complete, "the other member never has all of it");
    let begun = match system {
        // Members that hear a joiner send it their state at once.
        System::Hotspare => json!({ "do": "wait_view", "members": 3, "within_ms": SOON_MS }),
        System::TomcatDefault | System::TomcatTuned => {
            let at_least = a.stat("state_requests") + 1;
            json!({ "do": "wait_stat", "name": "state_requests", "at_least": at_least, "within_ms": SOON_MS })
        }
    };
    let launched = now();
    let mut c = rig.launch(2);
    a.ask(begun);
    row.weigh([&a, &b]);
    let killed = a.kill();
    let dying = killed - launched;
    let took = ok(c.0.wait_ready(LONG));
    row.check_fill(&mut c, &filling);
    row.say(format!("killed {dying:.1?} after the start, ready after {took:.1?}"));
    row.weigh([&b, &c]);
    row
}

/// A member joins while each of 4,000 sessions is written.
pub(crate) fn writes_during_join(system: System, java: &Java) -> Row {
    let mut row = Row::new(system, "F34 writes race with a state transfer");
    let rig = Rig::build(system, java, 2);
    let mut a = rig.start(0);
    a.ask(json!({ "do": "load_start", "threads": 2, "sessions": 2000, "size": 500, "prefix": "join" }));
    // Warm, and every session there.
    pass(Duration::from_secs(3), || {});
    let mut b = rig.launch(1);
    let took = ok(b.0.wait_ready(LONG));
    a.ask(json!({ "do": "load_stop" }));
    let last = (0..2).flat_map(|thread| present(&mut a, &format!("join-{thread}"), 2000)).collect();
    row.check_load(&mut [&mut b], &last);
    row.say(format!("ready after {took:.1?}"));
    row.weigh([&a, &b]);
    row
}

/// Starts a load of sessions with small values.
fn load(member: &mut Member, prefix: &str, threads: u64) {
    let commits = member.stat("commits");
    member.ask(json!({ "do": "load_start", "threads": threads, "sessions": 16, "size": 500, "prefix": prefix }));
    moves(member, commits + 500);
}

/// Waits until a load has written so much, or for some time: one that a fault of the row before still holds up, or a busy
/// machine, is no reason to stop.
fn moves(member: &mut Member, commits: u64) {
    let _ = member.0.ask(&json!({ "do": "wait_stat", "name": "commits", "at_least": commits, "within_ms": SOON_MS }));
}

/// Ends a load; what its member holds of it, which it answered.
fn stopped(member: &mut Member, prefix: &str) -> BTreeMap<String, u64> {
    member.send(json!({ "do": "load_stop" }));
    ok(member.0.reply(LONG));
    (0..4).flat_map(|thread| present(member, &format!("{prefix}-{thread}"), 16)).collect()
}

/// The number of each session that this member has.
fn present(member: &mut Member, prefix: &str, sessions: usize) -> BTreeMap<String, u64> {
    let ids = (0..sessions).map(|n| format!("{prefix}-{n}"));
    let number = |id: String| member.get(&id)["number"].as_str().map(|number| (id, ok(number.parse())));
    ids.filter_map(number).collect()
}

/// A session that two members have.
fn made(a: &mut Member, b: &mut Member, id: &str) {
    create(a, id);
    let wait = json!({ "do": "wait_session", "id": id, "attributes": { "user": "first" }, "within_ms": 200 });
    let mut set = || {
        a.request(id, json!({ "set": { "user": "first" } }));
        b.0.ask(&wait).is_ok()
    };
    assert!((0..10).any(|_| set()), "{id} does not get there");
}

/// Asks two members at the same time, and waits for both.
fn together(first: (&mut Member, Value), second: (&mut Member, Value)) {
    first.0.send(first.1);
    second.0.send(second.1);
    // What an ended session answers is no failure here.
    let _ = (first.0.0.reply(LONG), second.0.0.reply(LONG));
}

/// Whether a member has lost another one from its view.
fn misses(member: &mut Member, gone: &str) -> bool {
    member.0.ask(&json!({ "do": "wait_view", "without": gone, "within_ms": 0 })).is_ok()
}

/// Watches until each of two members has lost another one from its view, and a second longer, or until the bound; how
/// long it took each. The longest time in which the load of the first did not move is noted too.
fn watch(row: &mut Row, start: Instant, mut members: [(&mut Member, &str); 2]) -> [Option<Duration>; 2] {
    let mut took = [None; 2];
    let (mut seen, mut moved, mut done) = (members[0].0.stat("commits"), now(), None);
    while start.elapsed() < BOUND && done.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        for ((member, gone), took) in members.iter_mut().zip(&mut took) {
            if took.is_none() && misses(member, gone) {
                *took = Some(start.elapsed());
            }
        }
        if done.is_none() && took.iter().all(Option::is_some) {
            done = Some(now());
        }
        still(row, members[0].0, &mut seen, &mut moved);
        std::thread::park_timeout(LOOK);
    }
    row.detected(later(took));
    took
}

/// The longer one, where both happened.
fn later(took: [Option<Duration>; 2]) -> Option<Duration> {
    Some(took[0]?.max(took[1]?))
}

/// Notes for how long a member's load has not moved.
fn still(row: &mut Row, writer: &mut Member, seen: &mut u64, moved: &mut Instant) {
    let commits = writer.stat("commits");
    row.waited(moved.elapsed());
    if commits != *seen {
        (*seen, *moved) = (commits, now());
    }
}

const LOGINS: u64 = 500;
const ROUNDS: u64 = 100;
/// Longer than a state transfer may take by default.
const LONG: Duration = Duration::from_secs(90);
