//! A partition that heals: how soon all hold the same, and what that costs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::lab::Lab;
use crate::common::{Member, SOON, now};
use crate::record::{Row, Run, Times, ratio};
use crate::silence::lan;

/// Bytes of a session's value when nothing was changed.
const SIZE: usize = 1024;
/// The member that is cut off from the other two.
const ALONE: usize = 2;
/// A member that was in view for so many pings is admitted again as soon as one that was never removed.
const FORGIVEN: u64 = 155;

#[test]
fn halves_of_a_partition_hold_the_same_when_it_has_healed() {
    let Some(run) = Run::begin() else { return };
    let Some(lab) = Lab::build_with_loss(3) else { return };
    let each = run.share(50_000, 500);
    let rounds = run.share(10, 2);
    let mut members = lab.members(&lan().with("--ack-timeout=5s"));
    for prefix in ["left", "right"] {
        answer(&mut members[0], &sessions("fill", prefix, each, SIZE));
    }
    let changed = each / 50;
    let (mut equal, mut together, mut bytes) = (Times::default(), Times::default(), Vec::new());
    for round in 1..=rounds {
        if round > 1 {
            // Each wait is bounded by less than that takes.
            (0..FORGIVEN / 5).for_each(|_| members[0].wait_pings(5));
        }
        let size = SIZE + round;
        partition(&lab, &mut members);
        answer(&mut members[0], &sessions("fill", "left", changed, size));
        answer(&mut members[ALONE], &sessions("fill", "right", changed, size));
        if round % 2 == 0 {
            // Longer than whoever was removed once is kept waiting.
            members[0].wait_pings(10);
        }
        let before = sent(&mut members);
        let healed = now();
        lab.rejoin(ALONE);
        let (all_in_view, all_equal) = wait_equal(&mut members, changed, size, healed);
        together.push(all_in_view);
        equal.push(all_equal);
        for member in &mut members {
            member.wait_view(3);
        }
        // Two lacked what one had written, and one what two had.
        let lacked = 3 * changed * size;
        bytes.push(ratio((wait_quiet(&mut members) - before) as f64, lacked as f64));
        for member in &mut members {
            for prefix in ["left", "right"] {
                assert_filled(member, &sessions("check_fill", prefix, changed, size));
            }
        }
    }
    bytes.sort_by(f64::total_cmp);
    let (least, most) = (bytes[0], bytes[rounds - 1]);
    let how = format!(
        "{} sessions of 1 KiB on three hosts, one of them cut off until removed, {changed} changed on each side, {rounds} \
         times, every other time healed at once, else after 10 pings more; from the end of the cut until a look at all \
         changed sessions found the same at all",
        2 * each
    );
    let reached = Some(equal.p99() <= Duration::from_secs(2));
    run.tell("heal", &Row { measured: equal.measured(), spread: equal.spread(), reached, how });
    let how = String::from("the same heals; the last member that saw all in its view");
    run.tell("heal-view", &Row { measured: together.measured(), spread: together.spread(), reached: None, how });
    run.tell(
        "heal-bytes",
        &Row {
            measured: format!("{most:.2} × at most"),
            spread: format!("{least:.2} … {most:.2}, n = {rounds}"),
            reached: Some(most <= 3.0),
            how: String::from(
                "all bytes on replication sockets from the heal until nothing more was sent, of the values that each of the \
                 three lacked",
            ),
        },
    );
    assert!(most <= 3.0, "{bytes:?} times what each lacked");
}

fn sessions(word: &str, prefix: &str, count: usize, size: usize) -> Value {
    json!({ "do": word, "prefix": prefix, "count": count, "size": size })
}

/// Asks for what may take long.
fn answer(member: &mut Member, request: &Value) -> Value {
    member.send(request.clone());
    member.reply().1
}

fn assert_filled(member: &mut Member, check: &Value) {
    let seen = answer(member, check);
    assert!(seen["missing"] == 0 && seen["wrong"] == 0, "at {}: {seen}", member.0.name());
}

/// Cuts one member off and waits until each half is alone.
fn partition(lab: &Lab, members: &mut [Member; 3]) {
    lab.isolate(ALONE);
    let ids = members.each_ref().map(Member::id);
    for other in 0..ALONE {
        members[other].wait_without(&ids[ALONE]);
        members[ALONE].wait_without(&ids[other]);
    }
}

/// Looks again and again; how long after the heal all saw each other, and all held the same.
fn wait_equal(members: &mut [Member; 3], count: usize, size: usize, healed: Instant) -> (Duration, Duration) {
    let mut together = None;
    loop {
        let in_view = members.iter_mut().all(|member| member.stat("members") == 3);
        let at = healed.elapsed();
        together = together.or_else(|| in_view.then_some(at));
        let same = members.iter_mut().all(|member| {
            ["left", "right"].into_iter().all(|prefix| {
                let seen = member.ask(sessions("check_fill", prefix, count, size));
                seen["missing"] == 0 && seen["wrong"] == 0
            })
        });
        if let (Some(together), true) = (together, same) {
            return (together, healed.elapsed().max(together));
        }
        assert!(healed.elapsed() < SOON * 3, "not equal, together after {together:?}");
    }
}

/// Bytes that all have sent to each other.
fn sent(members: &mut [Member; 3]) -> u64 {
    members.iter_mut().map(|member| member.stat("bytes_sent")).sum()
}

/// The same when it grows no more.
fn wait_quiet(members: &mut [Member; 3]) -> u64 {
    let since = now();
    let mut before = sent(members);
    loop {
        members[0].wait_pings(5);
        let after = sent(members);
        if after == before {
            return after;
        }
        assert!(since.elapsed() < SOON * 3, "they go on sending to each other");
        before = after;
    }
}
