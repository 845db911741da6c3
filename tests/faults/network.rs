//! Hosts whose wires fail: silence, partitions, loss, resets, changed bytes.

use serde_json::{Value, json};

use crate::common::lab::{Lab, address};
use crate::common::{Cluster, Member, SOON_MS, is_able, now, skip};
use crate::record::Fault;

/// The three of them wait until they see each other.
fn together<const N: usize>(members: [&mut Member; N]) {
    for member in members {
        member.wait_view(N);
    }
}

#[test]
fn f03_a_host_that_is_gone_without_a_word_is_removed_by_silence() {
    let mut fault = Fault::new("F03", "one of three hosts off the wire, no FIN");
    let Some(lab) = Lab::build(3) else { return };
    let cluster = Cluster::new().with("--ack-timeout=500ms");
    let [mut a, mut b, c] = lab.members(&cluster);
    fault.write(&mut a, "S", json!({ "k": "before" }), 3);
    lab.link(2, "down");
    let gone = now();
    // On its way when nobody notices yet.
    let ended = fault.write(&mut a, "S", json!({ "k": "into the void" }), 2);
    assert_eq!(ended["missing"][0]["name"], "c", "{ended}");
    let took = fault.detect([&mut a, &mut b], &c.id(), gone);
    assert!(took.as_secs() < 6, "removed after {took:?}");
    let ended = fault.write(&mut b, "S", json!({ "k": "after" }), 2);
    assert_eq!(ended["missing"], json!([]));
    fault.check([&mut a, &mut b]);
    fault.held("removed; a write until then waited one ack timeout (500 ms)");
}

#[test]
fn f07_a_member_that_came_back_while_cut_off_replaces_its_half_open_past() {
    let mut fault = Fault::new("F07", "a host off the wire, its member killed and started again there, then back");
    let Some(lab) = Lab::build(2) else { return };
    let cluster = Cluster::new().with("--drop-time=60s").with("--port=4700").with("--auto-bind=0");
    let [mut a, mut b] = lab.members(&cluster);
    fault.write(&mut a, "S", json!({ "k": "before" }), 2);
    let old = b.id();
    lab.link(1, "down");
    b.kill();
    let mut again = lab.launch(&cluster, 1, &[]);
    again.wait_ready();
    lab.link(1, "up");
    let back = now();
    // Written to connections of which the other end knows nothing.
    a.request("S", json!({ "set": { "k": "after" } }));
    fault.expect("S", &json!({ "k": "after" }));
    fault.detect([&mut a], &old, back);
    a.ask(json!({ "do": "wait_view", "with": again.id(), "settled": true, "within_ms": SOON_MS }));
    fault.check([&mut again]);
    again.wait_view(2);
    fault.write(&mut again, "S", json!({ "k": "both" }), 2);
    fault.check([&mut a, &mut again]);
    fault.held("the old one is replaced long before its drop time (60 s); the new one has all state");
}

#[test]
fn f07_a_lane_that_is_silently_dead_is_dialled_again() {
    let mut fault = Fault::new("F07", "all packets of one of two lanes lost, while the other works");
    if !is_able("ss", &["-V"]) {
        return skip("it needs the ss command").unwrap_or_default();
    }
    let Some(lab) = Lab::build_with_loss(2) else { return };
    let [mut a, mut b] = lab.members(&Cluster::new().with("--lanes=2").with("--ack-timeout=300ms"));
    for n in 0..8 {
        fault.write(&mut a, &format!("S{n}"), json!({ "k": "before" }), 2);
    }
    // The port that the first lane of a comes from.
    let filter = format!("dst {} and dport = :{}", address(1), b.port());
    let lanes = lab.exec(0, &["ss", "-Htn", "state", "established", &filter]);
    let local = lanes.lines().next().and_then(|line| line.split_whitespace().nth(2)).expect("a lane");
    let port = local.rsplit(':').next().unwrap();
    lab.lose(1, &[&format!("tcp sport {port}")]);
    let since = now();
    let mut late = 0;
    while a.stat("lanes_cut") == 0 {
        assert!(since.elapsed() < crate::common::SOON, "it is never noticed");
        for n in 0..8 {
            let ended = a.request(&format!("S{n}"), json!({ "set": { "k": "meanwhile" } }));
            late += u32::from(ended["copies"] != 2);
        }
    }
    fault.detected(since.elapsed());
    assert!(late > 0, "the lane was used");
    assert!(lab.lost(1) > 0, "and what it carried was lost");
    b.wait_session("S0", json!({ "k": "meanwhile" }));
    for n in 0..8 {
        fault.expect(&format!("S{n}"), &json!({ "k": "meanwhile" }));
    }
    a.wait_view(2);
    fault.check([&mut b]);
    for n in 0..8 {
        fault.write(&mut a, &format!("S{n}"), json!({ "k": "after" }), 2);
    }
    fault.check([&mut a, &mut b]);
    assert_eq!(a.count_events("member-down", "b"), 0);
    assert_eq!(a.stat("lanes_cut"), 1);
    fault.held(format!("{late} writes had no copy in time; the lane was closed and dialled again, nobody removed"));
}

#[test]
fn f08_connections_reset_under_load_lose_nothing() {
    let mut fault = Fault::new("F08", "all connections between two hosts reset five times under load");
    if !is_able("ss", &["-V"]) {
        return skip("it needs the ss command").unwrap_or_default();
    }
    let Some(lab) = Lab::build_with_loss(2) else { return };
    let [mut a, mut b] = lab.members(&Cluster::new().with("--lanes=2"));
    for (member, name) in [(&mut a, "a"), (&mut b, "b")] {
        member.ask(json!({ "do": "load_start", "threads": 2, "sessions": 16, "size": 20_000, "prefix": name }));
    }
    let before = a.stat("reconnects") + b.stat("reconnects");
    for _ in 0..5 {
        let commits = a.stat("commits");
        a.wait_stat("commits", commits + 200);
        assert!(lab.reset(0, 1), "they have connections");
        lab.wait_lost(0, 1);
        lab.heal(0);
    }
    let commits = a.stat("commits");
    a.wait_stat("commits", commits + 200);
    together([&mut a, &mut b]);
    let (of_a, of_b) = (a.stop_load(), b.stop_load());
    let reconnects = a.stat("reconnects") + b.stat("reconnects") - before;
    assert!(reconnects > 0, "connections that were reset are dialled again");
    for member in [&mut a, &mut b] {
        fault.check_load(member, &of_a);
        fault.check_load(member, &of_b);
        assert_eq!(member.stat("bad_frames"), 0, "a part of a frame is no frame");
    }
    assert_eq!(a.count_events("member-down", "b") + b.count_events("member-down", "a"), 0);
    fault.held(format!("{reconnects} lanes dialled again; nobody removed, no bad frame"));
}

#[test]
fn f10_both_halves_of_a_partition_go_on_and_converge_when_it_heals() {
    let mut fault = Fault::new("F10", "two of four hosts cut from the other two");
    let Some(lab) = Lab::build_with_loss(4) else { return };
    let [mut a, mut b, mut c, mut d] = lab.members(&Cluster::new());
    fault.write(&mut a, "S", json!({ "base": "1" }), 4);
    fault.write(&mut a, "ended", json!({ "k": "v" }), 4);
    let cut = now();
    for host in 0..4 {
        let others = if host < 2 { [2, 3] } else { [0, 1] };
        let rules = others.map(|other| format!("ip saddr {}", address(other)));
        lab.lose(host, &rules.each_ref().map(String::as_str));
    }
    fault.detect([&mut a, &mut b], &c.id(), cut);
    fault.detect([&mut c, &mut d], &a.id(), cut);
    for member in [&mut a, &mut b, &mut c, &mut d] {
        member.wait_view(2);
    }
    fault.write(&mut a, "S", json!({ "ours": "a" }), 2);
    fault.write(&mut c, "S", json!({ "theirs": "c" }), 2);
    fault.write(&mut b, "left", json!({ "k": "b" }), 2);
    fault.write(&mut d, "right", json!({ "k": "d" }), 2);
    fault.invalidate(&mut b, "ended", 2);
    assert_eq!(d.request("ended", json!({ "set": { "k": "late" } }))["copies"], 2);
    for host in 0..4 {
        lab.heal(host);
    }
    together([&mut a, &mut b, &mut c, &mut d]);
    fault.check([&mut a, &mut b, &mut c, &mut d]);
    fault.write(&mut d, "S", json!({ "again": "d" }), 4);
    fault.check([&mut a, &mut b, &mut c, &mut d]);
    fault.held("both halves served; all changes are together after, what was ended stays so");
}

#[test]
fn f11_loss_one_way_takes_both_ends_out_of_each_others_view() {
    let mut fault = Fault::new("F11", "what one host sends to another is lost, the other way works");
    let Some(lab) = Lab::build_with_loss(3) else { return };
    let cluster = Cluster::new().with("--ack-timeout=500ms");
    let [mut a, mut b, mut c] = lab.members(&cluster);
    fault.write(&mut a, "S", json!({ "k": "v" }), 3);
    a.events();
    let cut = now();
    lab.lose_from(0, 1);
    fault.detect([&mut b], &a.id(), cut);
    // It still hears the other's pings: what is not answered tells it, or the view in them.
    fault.detect([&mut a], &b.id(), cut);
    fault.write(&mut a, "S", json!({ "k": "w" }), 2);
    c.wait_view(3);
    // Long enough to be admitted and removed again and again.
    c.wait_pings(60);
    let (ups, downs) = (a.count_events("member-up", "b"), b.count_events("member-up", "a"));
    assert!(ups <= 2 && downs <= 2, "admitted again {ups} and {downs} times in 6 s");
    lab.heal(1);
    together([&mut a, &mut b, &mut c]);
    fault.check([&mut a, &mut b, &mut c]);
    fault.write(&mut b, "S", json!({ "k": "x" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("each removed the other, though one still heard pings; the third sees both; whole after");
}

#[test]
fn f12_what_two_cut_members_write_reaches_each_through_the_third() {
    let mut fault = Fault::new("F12", "two of three hosts cut from each other, the third sees both");
    let Some(lab) = Lab::build_with_loss(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    fault.write(&mut a, "S", json!({ "base": "1" }), 3);
    fault.write(&mut a, "ended", json!({ "k": "v" }), 3);
    let cut = now();
    lab.lose_from(0, 1);
    lab.lose_from(1, 0);
    fault.detect([&mut a], &b.id(), cut);
    fault.detect([&mut b], &a.id(), cut);
    fault.write(&mut a, "S", json!({ "of": "a" }), 2);
    fault.write(&mut b, "T", json!({ "of": "b" }), 2);
    fault.invalidate(&mut b, "ended", 2);
    c.wait_view(3);
    // While it lasts: nothing goes between the two but through the third.
    let healed = now();
    fault.check([&mut a, &mut b, &mut c]);
    let through = healed.elapsed();
    lab.heal(0);
    lab.heal(1);
    together([&mut a, &mut b, &mut c]);
    fault.write(&mut b, "S", json!({ "after": "b" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held(format!("each had the other's changes through the third within {through:.1?}"));
}

#[test]
fn f12_of_four_a_bad_link_is_named_and_removes_nobody() {
    let mut fault = Fault::new("F12", "two of four hosts cut from each other; then one of them off the wire");
    let Some(lab) = Lab::build_with_loss(4) else { return };
    let [mut a, mut b, mut c, mut d] = lab.members(&Cluster::new().with("--ack-timeout=500ms"));
    fault.write(&mut a, "S", json!({ "base": "1" }), 4);
    lab.lose_from(0, 1);
    lab.lose_from(1, 0);
    for (member, other) in [(&mut a, "b"), (&mut b, "a")] {
        member.ask(json!({ "do": "wait_event", "event": "member-unreachable", "name": other, "within_ms": SOON_MS }));
    }
    // Nobody waits for what cannot be reached; it has it from the others.
    let ended = fault.write(&mut a, "S", json!({ "of": "a" }), 3);
    assert_eq!(ended["missing"], json!([{ "name": "b", "reason": "suspect" }]), "{ended}");
    fault.write(&mut b, "T", json!({ "of": "b" }), 3);
    fault.check([&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(a.stat("members"), 4);
    assert_eq!(a.count_events("member-down", "b") + b.count_events("member-down", "a"), 0);

    // What is really gone goes as fast as it would anywhere.
    lab.link(1, "down");
    let took = fault.detect([&mut a, &mut c, &mut d], &b.id(), now());
    assert!(took.as_secs() < 6, "removed after {took:?}");
    fault.write(&mut a, "S", json!({ "after": "a" }), 3);
    fault.check([&mut a, &mut c, &mut d]);
    lab.heal(0);
    lab.heal(1);
    lab.link(1, "up");
    together([&mut a, &mut b, &mut c, &mut d]);
    fault.write(&mut b, "S", json!({ "again": "b" }), 4);
    fault.check([&mut a, &mut b, &mut c, &mut d]);
    fault.held("each end named the link, nobody was removed and nobody waited; what was gone was removed");
}

#[test]
fn f13_a_link_that_flaps_settles_when_it_stays() {
    let mut fault = Fault::new("F13", "one host's cable out and in, six times for about one second each");
    let Some(lab) = Lab::build(3) else { return };
    let cluster = Cluster::new().with("--ack-timeout=300ms");
    let [mut a, mut b, mut c] = lab.members(&cluster);
    a.ask(json!({ "do": "load_start", "threads": 1, "sessions": 8, "prefix": "w" }));
    a.events();
    for _ in 0..6 {
        lab.link(2, "down");
        a.wait_pings(10);
        lab.link(2, "up");
        a.wait_pings(10);
    }
    let ups = a.count_events("member-up", "c");
    together([&mut a, &mut b, &mut c]);
    let commits = a.stat("commits");
    a.wait_stat("commits", commits + 50);
    let last = a.stop_load();
    let ids: Vec<&String> = last.keys().collect();
    for member in [&mut a, &mut b] {
        fault.check_load(member, &last);
    }
    // The host that flapped is repaired soon, if not at once.
    for (id, number) in ids.into_iter().zip(last.values()) {
        fault.expect(id, &json!({ "number": number.to_string() }));
    }
    fault.check([&mut c]);
    let repairs = a.stat("repairs");
    assert!(ups <= 6, "admitted {ups} times in six flaps");
    fault.held(format!("admitted again {ups} times, {repairs} repairs by one member; whole when it stays"));
}

#[test]
fn f13_a_link_that_flaps_for_a_minute_brings_its_member_back_ever_less_often() {
    let mut fault = Fault::new("F13", "one host's cable out for three seconds and in for two, twelve times");
    let Some(lab) = Lab::build(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new().with("--ack-timeout=300ms"));
    fault.write(&mut a, "S", json!({ "k": "v" }), 3);
    a.events();
    for _ in 0..12 {
        lab.link(2, "down");
        // Silence and two unanswered echoes are two seconds.
        a.wait_pings(30);
        lab.link(2, "up");
        a.wait_pings(20);
    }
    let events = a.events();
    let count = |word| events.iter().filter(|event| event["event"] == word && event["name"] == "c").count();
    let (ups, downs) = (count("member-up"), count("member-down"));
    assert!(downs >= 3 && ups <= 7, "removed {downs} times and admitted {ups} times in twelve flaps");
    let stays = now();
    // The longest that anybody waits before it is let in again is half a minute.
    for member in [&mut a, &mut b, &mut c] {
        member.send(json!({ "do": "wait_view", "members": 3, "settled": true, "within_ms": 50_000 }));
        member.reply();
    }
    let whole = stays.elapsed();
    fault.write(&mut c, "S", json!({ "k": "x" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held(format!("removed {downs} times, admitted again {ups} times; whole {whole:.0?} after it stays"));
}

#[test]
fn f14_an_isolated_host_goes_on_alone_and_converges_when_it_heals() {
    let mut fault = Fault::new("F14", "one of three hosts isolated, then back");
    let Some(lab) = Lab::build(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    fault.write(&mut a, "S", json!({ "base": "1" }), 3);
    fault.write(&mut a, "ended", json!({ "k": "v" }), 3);
    lab.link(2, "down");
    let cut = now();
    fault.detect([&mut a, &mut b], &c.id(), cut);
    c.ask(json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS }));

    fault.write(&mut a, "S", json!({ "ours": "a" }), 2);
    fault.invalidate(&mut b, "ended", 2);
    fault.write(&mut a, "left", json!({ "k": "a" }), 2);
    fault.write(&mut c, "S", json!({ "theirs": "c" }), 1);
    assert_eq!(c.request("ended", json!({ "set": { "k": "late" } }))["copies"], 1);
    fault.write(&mut c, "right", json!({ "k": "c" }), 1);

    lab.link(2, "up");
    together([&mut a, &mut b, &mut c]);
    fault.check([&mut a, &mut b, &mut c]);
    fault.write(&mut c, "S", json!({ "again": "c" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("both sides served; all changes are together after, what was ended stays so");
}

#[test]
fn f15_lost_multicast_alone_removes_nobody() {
    let mut fault = Fault::new("F15", "all multicast lost at each of three hosts for 40 pings");
    let Some(lab) = Lab::build_with_loss(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    for host in 0..3 {
        lab.lose(host, &["ip daddr 224.0.0.0/4"]);
    }
    // Far beyond the drop time of one second: counted in the pings that each member sends meanwhile.
    let sent = [&mut a, &mut b, &mut c].map(|member| member.stat("pings_sent"));
    for (member, sent) in [&mut a, &mut b, &mut c].into_iter().zip(sent) {
        member.wait_stat("pings_sent", sent + 40);
    }
    assert!((0..3).all(|host| lab.lost(host) >= 40), "pings were lost");
    for member in [&mut a, &mut b, &mut c] {
        let events = member.events();
        let words: Vec<&str> = events.iter().filter_map(|e| e["event"].as_str()).collect();
        assert!(words.contains(&"member-suspect"), "silence was noticed: {words:?}");
        assert!(!words.contains(&"member-down"), "but an echo over TCP answered: {words:?}");
    }
    fault.write(&mut a, "S", json!({ "k": "v" }), 3);
    fault.check([&mut a, &mut b, &mut c]);
    fault.held("suspected and verified, nobody removed (a joiner would not be found: no static members yet)");
}

#[test]
fn f16_a_host_whose_pings_alone_arrive_is_no_member() {
    let mut fault = Fault::new("F16", "all TCP blocked at one of three hosts, multicast works");
    let Some(lab) = Lab::build_with_loss(3) else { return };
    // A new one there hears ready members that it cannot ask, and opens when that has lasted too long.
    let cluster = Cluster::new().with("--ack-timeout=500ms").with("--state-transfer-timeout=3s");
    let [mut a, mut b, mut c] = lab.members(&cluster);
    fault.write(&mut a, "S", json!({ "k": "v" }), 3);
    let cut = now();
    lab.lose(2, &["meta l4proto tcp"]);
    // Something to say, which is not answered.
    fault.write(&mut a, "S", json!({ "k": "w" }), 2);
    let heard = a.stat("pings_received");
    fault.detect([&mut a, &mut b], &c.id(), cut);
    // A new one on that host is heard, and not admitted either.
    c.kill();
    let mut late = lab.launch(&cluster, 2, &[]);
    late.wait_ready();
    a.wait_stat("pings_received", heard + 20);
    late.wait_pings(30);
    for member in [&mut a, &mut b] {
        assert_eq!(member.stat("members"), 2, "a ping alone admits nobody");
    }
    fault.write(&mut a, "S", json!({ "k": "x" }), 2);
    lab.heal(2);
    together([&mut a, &mut b, &mut late]);
    fault.check([&mut a, &mut b, &mut late]);
    fault.held("removed when a change was not answered; a new one there was heard, and not admitted until TCP worked");
}

#[test]
fn f18_changed_bytes_close_the_connection_and_are_never_applied() {
    let mut fault = Fault::new("F18", "the first payload byte of each segment to one host overwritten for a while");
    let Some(lab) = Lab::build_with_loss(2) else { return };
    let cluster = Cluster::new().with("--drop-time=60s").with("--ack-timeout=500ms");
    let [mut a, mut b] = lab.members(&cluster);
    for n in 0..20 {
        fault.write(&mut a, &format!("S{n}"), json!({ "k": "before" }), 2);
    }
    let before = b.stat("bad_frames");
    // Behind a TCP header of 32 bytes (with timestamps) stands what is sent.
    lab.nft(
        1,
        "table ip change {\n  chain in {\n    type filter hook input priority -300; policy accept;\n    \
         ip saddr 10.77.0.1 ip length > 60 ip protocol tcp @th,256,8 set 0x41\n  }\n}\n",
    );
    for n in 0..20 {
        a.request(&format!("S{n}"), json!({ "set": { "k": format!("during {n}") } }));
        fault.expect(&format!("S{n}"), &json!({ "k": format!("during {n}") }));
    }
    let counted = b.stat("bad_frames") - before;
    for n in 0..20 {
        let seen = b.get(&format!("S{n}"));
        let right = [json!("before"), json!(format!("during {n}"))];
        assert!(seen == Value::Null || right.contains(&seen["k"]), "{seen}");
    }
    lab.nft(1, "delete table ip change\n");
    together([&mut a, &mut b]);
    fault.check([&mut a, &mut b]);
    assert!(counted > 0, "they were noticed");
    fault.held(format!(
        "{counted} connections closed, nothing wrong applied, whole after (bytes inside values: not before TLS)"
    ));
}
