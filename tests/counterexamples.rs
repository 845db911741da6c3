//! The counterexamples that shaped the session's merge rule, each as the story in which an earlier rule lost data,
//! brought a dead session back, or let one login read another's. Numbers in names are those of the list.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]

mod stores;

use std::time::Duration;

use hotspare::session::{Changes, CommitStatus, MergedEvent};
use hotspare::wire::{FrameOut, flags};
use stores::*;

/// Every order of three frames.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn one(mut frames: Vec<FrameOut>) -> FrameOut {
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

/// Two members that hold session `s` with `x` = 1.
fn pair() -> (Member, Member) {
    let (a, b) = (Member::new(1), Member::new(2));
    b.merge_all(&a.set("s", "x", "1", at(0)), at(0));
    (a, b)
}

#[test]
fn c01_creates_of_one_id_unseen_by_each_other_both_stay_readable() {
    let (a, b) = (Member::new(1), Member::new(2));
    let (from_a, from_b) = (a.set("s", "x", "a", at(0)), b.set("s", "y", "b", at(0)));
    a.merge_all(&from_b, at(0));
    b.merge_all(&from_a, at(0));
    for member in [&a, &b] {
        assert_eq!(member.all("s", at(1)), pairs(&[("x", "a"), ("y", "b")]));
        assert_eq!(member.begin("s", at(1)).uids().len(), 2);
    }
}

#[test]
fn c02_a_tombstone_held_elsewhere_does_not_kill_the_next_session_of_that_name() {
    let (a, b) = pair();
    b.merge_all(&a.kill("s", at(1)), at(1));
    // Only A forgets: its horizon is over, B's sweep has not run.
    let later = at(2) + HORIZON;
    a.sweep(later, None);
    assert_eq!(a.store.tombstones(), 0);
    let created = a.set("s", "x", "new", later);
    a.merge_all(&b.snapshot(later), later);
    b.merge_all(&created, later);
    assert_eq!(a.get("s", "x", later).as_deref(), Some("new"));
    assert_eq!(b.get("s", "x", later).as_deref(), Some("new"));
}

#[test]
fn c03_a_full_write_leaves_what_it_did_not_change() {
    let (a, b) = pair();
    b.merge_all(&a.set("s", "y", "1", at(1)), at(1));
    let handle = a.begin("s", at(2));
    let frame = one(a.commit(&handle, &full(&[("x", "2"), ("y", "1")]), at(2)).1);
    b.merge(&frame, at(2));
    for member in [&a, &b] {
        assert_eq!(member.all("s", at(2)), pairs(&[("x", "2"), ("y", "1")]));
    }
    // Only the difference travelled: who holds nothing else learns of x alone.
    let c = Member::new(3);
    c.merge(&frame, at(2));
    let attrs = c.dump()[0].1.attrs.clone();
    assert_eq!(attrs.iter().map(|(key, ..)| key.as_slice()).collect::<Vec<_>>(), [b"ax"]);
}

#[test]
fn c03_a_full_write_removes_what_it_lacks() {
    let (a, b) = pair();
    b.merge_all(&a.set("s", "y", "1", at(1)), at(1));
    let handle = a.begin("s", at(2));
    b.merge_all(&a.commit(&handle, &full(&[("y", "1")]), at(2)).1, at(2));
    for member in [&a, &b] {
        assert_eq!(member.all("s", at(2)), pairs(&[("y", "1")]));
    }
}

#[test]
fn c04_a_full_write_does_not_kill_a_concurrent_write_that_it_did_not_see() {
    let (a, b) = pair();
    let z = b.set("s", "z", "b", at(1));
    let handle = a.begin("s", at(1));
    for _ in 0..5 {
        b.merge_all(&a.set("s", "w", "busy", at(1)), at(1));
    }
    let whole = a.commit(&handle, &full(&[("x", "2")]), at(2)).1;
    a.merge_all(&z, at(2));
    b.merge_all(&whole, at(2));
    assert_eq!(a.get("s", "z", at(2)).as_deref(), Some("b"));
    assert_eq!(b.get("s", "z", at(2)).as_deref(), Some("b"));
}

#[test]
fn c05_a_full_write_is_compared_with_what_the_request_read_not_with_what_is_held() {
    let (a, b) = pair();
    let handle = a.begin("s", at(1));
    // B's newer x arrives while A's request runs; the request hands in the old x unchanged.
    a.merge_all(&b.set("s", "x", "2", at(1)), at(1));
    let (commit, _) = a.commit(&handle, &full(&[("x", "1")]), at(2));
    assert_eq!(commit.status, CommitStatus::Unchanged);
    assert_eq!(a.get("s", "x", at(2)).as_deref(), Some("2"));
}

#[test]
fn c06_expiry_and_writes_give_the_same_in_every_order() {
    let (a, b) = pair();
    let before = a.set("s", "x", "2", at(1));
    b.merge_all(&before, at(1));
    let expired = a.sweep(at(2) + IDLE, None);
    // B is younger by its own clock: it still serves, and writes.
    let after = b.set("s", "y", "3", at(2));
    let frames = [one(before), one(expired), one(after)];
    let mut results = Vec::new();
    for order in ORDERS {
        let c = Member::new(3);
        for index in order {
            c.merge(&frames[index], at(2));
        }
        results.push(c.dump());
    }
    let lattice = |dump: &Vec<(_, hotspare::session::RecordDump)>| {
        dump.iter().map(|(uid, d)| (*uid, d.dead, d.top, d.exp, d.attrs.clone())).collect::<Vec<_>>()
    };
    assert!(results.iter().all(|r| lattice(r) == lattice(&results[0])));
    assert_eq!(results[0][0].1.attrs.len(), 2, "x and y are both there");
    assert!(results[0][0].1.top > results[0][0].1.exp, "the newer write wins over the expiry");
}

#[test]
fn c07_ages_travel_so_clocks_that_differ_by_minutes_change_nothing() {
    // B's clock is 40 minutes ahead of A's.
    let skew = Duration::from_secs(2400);
    let (a, b) = (Member::new(1), Member::new(2));
    b.merge_all(&a.set("s", "x", "1", at(0)), skew);
    for second in (0..300).step_by(20) {
        let handle = a.begin("s", at(second));
        assert!(handle.exists(), "in use, at {second} s");
        b.merge_all(&a.commit(&handle, &touch(), at(second)).1, skew + at(second));
        assert_eq!(b.sweep(skew + at(second), None).len(), 0, "B expires nothing that is in use");
    }
    // And the idle time starts at the last access, whichever clock it was read on.
    assert!(b.begin("s", skew + at(280) + IDLE + GRACE).exists());
    assert!(!b.begin("s", skew + at(281) + IDLE + GRACE).exists());
}

#[test]
fn c08_a_rescue_carries_the_whole_session() {
    let (a, b) = pair();
    let c = Member::new(3);
    c.merge_all(&a.snapshot(at(0)), at(0));
    // B used the session 3 s after the last announced access: not announced.
    let handle = b.begin("s", at(3));
    assert!(b.commit(&handle, &touch(), at(3)).1.is_empty());
    let expired = a.sweep(IDLE + at(1), None);
    c.merge_all(&expired, IDLE + at(1));
    c.sweep(IDLE + GRACE + at(2), Some(GRACE));
    let uid = c.dump()[0].0;
    assert!(c.held(uid).expect("held").attrs.iter().all(|(key, ..)| key[0] != b'a'), "C dropped the content");

    assert!(b.merge(&expired[0], IDLE + at(1)).rescue);
    let mut rescued = Vec::new();
    b.context.rescue(uid, IDLE + at(1), &mut |e| rescued.push(e.frame));
    c.merge(&one(rescued), IDLE + at(1));
    // B is gone now.
    assert_eq!(c.get("s", "x", IDLE + at(2)).as_deref(), Some("1"));
}

#[test]
fn c08_only_who_used_the_session_itself_rescues_it() {
    let (a, b) = pair();
    let expired = one(a.sweep(IDLE + at(1), None));
    // The frame that told B of the last access was slow: by B's clock the session is still young.
    assert!(!b.merge(&expired, IDLE - at(1)).rescue);
}

#[test]
fn c09_a_request_that_outlives_a_logout_does_not_write_into_the_next_login() {
    let (a, b) = pair();
    let slow = a.begin("s", at(1));
    a.kill("s", at(2));
    a.set("s", "user", "next", at(3));
    let (commit, frames) = a.commit(&slow, &write("user", Some("old")), at(4));
    assert_eq!((commit.status, frames.len()), (CommitStatus::Ended, 0));
    assert_eq!(a.all("s", at(4)), pairs(&[("user", "next")]));
    drop(b);
}

#[test]
fn c10_a_session_created_at_begin_and_killed_before_its_commit_is_not_created() {
    let a = Member::new(1);
    let slow = a.create("s", at(0));
    a.set("s", "x", "1", at(1));
    a.kill("s", at(2));
    let (commit, frames) = a.commit(&slow, &write("x", Some("old")), at(3));
    assert_eq!((commit.status, frames.len()), (CommitStatus::Ended, 0));
    assert!(!a.begin("s", at(3)).exists());
    assert_eq!(a.store.sessions(), 0);
}

#[test]
fn c10_a_request_that_invalidates_ends_creates_pending_under_its_id() {
    let a = Member::new(1);
    let slow = a.create("s", at(0));
    a.set("s", "x", "1", at(1));
    let logout = a.begin("s", at(2));
    a.commit(&logout, &invalidate(), at(2));
    assert_eq!(a.commit(&slow, &write("x", Some("old")), at(3)).0.status, CommitStatus::Ended);
}

#[test]
fn c10_a_handle_whose_session_the_store_forgot_creates_nothing() {
    let (a, b) = pair();
    let handle = b.begin("s", at(1));
    b.merge_all(&a.kill("s", at(2)), at(2));
    let later = at(3) + HORIZON;
    b.sweep(later, None);
    assert_eq!(b.dump().len(), 0);
    assert_eq!(b.commit(&handle, &write("x", Some("2")), later).0.status, CommitStatus::Ended);
    assert_eq!(b.dump().len(), 0);
}

#[test]
fn c11_a_version_is_never_used_twice_even_by_who_forgot_the_session() {
    let (a, b) = pair();
    let first = a.commit(&a.begin("s", at(1)), &write("x", Some("2")), at(1)).0.version;
    b.merge_all(&a.kill("s", at(2)), at(2));
    a.sweep(at(3) + HORIZON, None);
    let created = a.create("s", at(3) + HORIZON);
    let second = a.commit(&created, &write("x", Some("3")), at(3) + HORIZON).0.version;
    assert!(second > first);
    // The clock follows what arrives, a refused or partial frame too.
    let c = Member::new(3);
    let clock = a.context.clock();
    c.merge(&one(a.set("s", "x", "4", at(4) + HORIZON)), at(0));
    assert!(c.context.clock() > clock);
}

#[test]
fn c12_a_write_in_flight_follows_a_change_of_id() {
    let (a, b) = pair();
    let in_flight = b.set("s", "y", "b", at(1));
    let renamed = a.rename("s", "n", at(1));
    a.merge_all(&in_flight, at(2));
    b.merge_all(&renamed, at(2));
    for member in [&a, &b] {
        assert_eq!(member.all("n", at(2)), pairs(&[("x", "1"), ("y", "b")]));
        assert!(!member.begin("s", at(2)).exists(), "the old name leads nowhere");
    }
}

#[test]
fn c13_a_logout_follows_a_change_of_id() {
    let (a, b) = pair();
    let killed = b.kill("s", at(1));
    let renamed = a.rename("s", "n", at(1));
    a.merge_all(&killed, at(2));
    b.merge_all(&renamed, at(2));
    for member in [&a, &b] {
        assert!(!member.begin("s", at(2)).exists() && !member.begin("n", at(2)).exists());
    }
}

#[test]
fn c14_two_changes_of_id_leave_both_names_to_one_session() {
    let (a, b) = pair();
    let (to_n, to_m) = (a.rename("s", "n", at(1)), b.rename("s", "m", at(1)));
    a.merge_all(&to_m, at(2));
    b.merge_all(&to_n, at(2));
    b.merge_all(&a.set("n", "y", "late", at(3)), at(3));
    for member in [&a, &b] {
        assert_eq!(member.all("n", at(3)), member.all("m", at(3)));
        assert_eq!(member.get("m", "y", at(3)).as_deref(), Some("late"));
        assert!(!member.begin("s", at(3)).exists());
    }
    a.merge_all(&b.kill("m", at(4)), at(4));
    for member in [&a, &b] {
        assert!(!member.begin("n", at(4)).exists());
    }
}

#[test]
fn c15_the_old_name_used_again_leaves_the_renamed_session_alone() {
    let (a, b) = pair();
    let late = b.set("s", "y", "late", at(1));
    let renamed = a.rename("s", "n", at(1));
    let again = a.set("s", "x", "again", at(2));
    a.merge_all(&late, at(3));
    b.merge_all(&again, at(3));
    b.merge_all(&renamed, at(3));
    for member in [&a, &b] {
        assert_eq!(member.all("n", at(3)), pairs(&[("x", "1"), ("y", "late")]));
        assert_eq!(member.all("s", at(3)), pairs(&[("x", "again")]));
    }
}

#[test]
fn c16_a_present_state_after_a_change_of_id_carries_the_content() {
    let (a, b) = pair();
    a.merge_all(&b.set("s", "y", "acked", at(1)), at(1));
    a.rename("s", "n", at(2));
    let c = Member::new(3);
    c.merge(&a.present(a.uid("n", at(2)), at(2)), at(2));
    assert_eq!(c.all("n", at(3)), pairs(&[("x", "1"), ("y", "acked")]));
}

#[test]
fn c17_a_kill_and_a_change_of_id_meet_in_one_record() {
    let (a, b) = pair();
    b.kill("s", at(1));
    a.rename("s", "n", at(1));
    // What each would send to repair the other is enough, in either direction.
    let (from_a, from_b) = (a.snapshot(at(2)), b.snapshot(at(2)));
    a.merge_all(&from_b, at(2));
    b.merge_all(&from_a, at(2));
    assert_eq!(a.dump(), b.dump());
    assert!(a.dump()[0].1.dead);
}

#[test]
fn c18_a_tombstone_keeps_its_age_when_it_travels() {
    let (a, b) = pair();
    a.kill("s", at(10));
    let half = at(10) + HORIZON / 2;
    b.merge_all(&a.snapshot(half), half);
    let end = at(11) + HORIZON;
    b.sweep(end, None);
    assert_eq!(b.store.tombstones(), 0, "the timer did not start again at B");
    // A is late with its sweep and pushes it back: too old to be made anew.
    b.merge_all(&a.snapshot(end), end);
    assert_eq!(b.store.tombstones(), 0);
}

#[test]
fn c18_an_expired_session_that_was_forgotten_is_not_brought_back_by_a_hop() {
    let (a, b) = pair();
    b.merge_all(&a.sweep(IDLE, None), IDLE);
    let end = IDLE + GRACE + HORIZON + at(1);
    b.sweep(IDLE + GRACE, Some(GRACE));
    b.sweep(end, Some(GRACE));
    assert_eq!(b.dump().len(), 0);
    b.merge_all(&a.snapshot(end), end);
    assert_eq!(b.dump().len(), 0);
}

#[test]
fn c19_a_delta_for_an_unknown_session_shows_nothing_until_the_rest_is_there() {
    let (a, _) = pair();
    let c = Member::new(3);
    let merged = c.merge(&one(a.set("s", "y", "2", at(1))), at(1));
    assert!(merged.partial && merged.event.is_none());
    assert!(!c.begin("s", at(1)).exists());
    let uid = a.uid("s", at(1));
    let merged = c.merge(&a.context.present(uid, flags::ANSWER, at(1)).expect("held"), at(1));
    assert!(merged.completed && !merged.partial);
    assert_eq!(merged.event, Some(MergedEvent::Created));
    assert_eq!(c.all("s", at(1)), pairs(&[("x", "1"), ("y", "2")]));
}

#[test]
fn c19_a_missed_delta_hides_the_session_until_it_is_filled() {
    let (a, b) = pair();
    let missed = one(a.set("s", "y", "2", at(1)));
    let touched = one(a.commit(&a.begin("s", at(1)), &touch_now(), at(1)).1);
    assert!(b.merge(&touched, at(1)).partial, "a touch has a base too");
    assert!(!b.begin("s", at(1)).exists());
    assert!(b.merge(&missed, at(1)).completed, "the missed delta fills the gap");
    assert_eq!(b.all("s", at(1)), pairs(&[("x", "1"), ("y", "2")]));
}

// What the present form needs beside the list.

#[test]
fn a_new_login_and_the_old_one_are_never_read_together() {
    let (a, b) = pair();
    let _killed_travels_on_another_lane = a.kill("s", at(1));
    let created = one(a.set("s", "user", "new", at(2)));
    b.merge(&created, at(2));
    assert_eq!(b.all("s", at(2)), pairs(&[("user", "new")]));
    // And who hears of the old one afterwards, does not revive it.
    let c = Member::new(3);
    c.merge(&created, at(2));
    let (old, _) = pair();
    c.merge_all(&old.snapshot(at(2)), at(2));
    assert_eq!(c.all("s", at(2)), pairs(&[("user", "new")]));
}

#[test]
fn a_login_after_expiry_kills_the_expired_session_everywhere() {
    let (a, b) = pair();
    let later = IDLE + at(1);
    a.sweep(later, None);
    let created = a.set("s", "user", "new", later);
    b.merge_all(&created, later);
    for member in [&a, &b] {
        assert_eq!(member.all("s", later), pairs(&[("user", "new")]));
        assert_eq!(member.store.tombstones(), 1);
    }
}

#[test]
fn over_reaches_who_hears_only_of_the_tombstone() {
    let (a, b) = pair();
    a.kill("s", at(1));
    a.set("s", "user", "new", at(2));
    let killed = one(a.kill("s", at(3)));
    // By way of C, which held none of the two.
    let c = Member::new(3);
    c.merge(&killed, at(3));
    let second = a.dump()[1].0;
    b.merge(&c.present(second, at(3)), at(3));
    assert!(b.dump().iter().all(|(_, dump)| dump.dead));
    assert_eq!(b.dump(), a.dump());
}

#[test]
fn expiry_never_kills_and_a_newer_access_brings_the_session_back() {
    let (a, b) = pair();
    // B is cut off, and its users go on; A expires the session and forgets its content.
    let used = b.set("s", "cart", "full", at(50));
    let expired = a.sweep(IDLE, None);
    a.sweep(IDLE + GRACE, Some(GRACE));
    assert_eq!(a.store.tombstones(), 0);
    // The cut heals.
    let healed = IDLE + GRACE + at(1);
    b.merge_all(&expired, healed);
    assert_eq!(b.all("s", healed), pairs(&[("cart", "full"), ("x", "1")]));
    assert!(a.merge(&one(used), healed).partial, "A asks for the rest");
    a.merge(&b.present(b.uid("s", healed), healed), healed);
    assert_eq!(a.all("s", healed), b.all("s", healed));
}

#[test]
fn content_is_dropped_only_after_the_grace_with_every_member_in_view() {
    let (a, _) = pair();
    let has_content = |m: &Member| m.dump()[0].1.attrs.iter().any(|(key, ..)| key[..] == *b"ax");
    a.sweep(IDLE, Some(GRACE));
    a.sweep(IDLE + GRACE + at(1), None);
    a.sweep(IDLE + GRACE * 3, Some(GRACE - at(1)));
    assert!(has_content(&a), "this may be the last copy");
    a.sweep(IDLE + GRACE * 5, Some(GRACE));
    assert!(!has_content(&a));
    assert!(a.dump()[0].1.partial);
}

#[test]
fn a_write_to_an_expired_session_wins_over_the_expiry() {
    let (a, b) = pair();
    let slow = a.begin("s", at(1));
    let expired = a.sweep(IDLE, None);
    b.merge_all(&expired, IDLE);
    b.sweep(IDLE + GRACE, Some(GRACE));
    let late = IDLE + GRACE;
    let (commit, frames) = a.commit(&slow, &write("y", Some("2")), late);
    assert_eq!(commit.status, CommitStatus::Changed);
    b.merge(&one(frames), late);
    for member in [&a, &b] {
        assert_eq!(member.all("s", late), pairs(&[("x", "1"), ("y", "2")]), "whole, though B had dropped the content");
    }
}

#[test]
fn a_write_to_a_session_whose_content_is_gone_says_ended() {
    let (a, _) = pair();
    let slow = a.begin("s", at(1));
    a.sweep(IDLE, Some(GRACE));
    a.sweep(IDLE + GRACE, Some(GRACE));
    assert_eq!(a.commit(&slow, &write("y", Some("2")), IDLE + GRACE * 2).0.status, CommitStatus::Ended);
}

#[test]
fn an_incomplete_present_state_completes_nothing() {
    let (a, b) = pair();
    let (c, d) = (Member::new(3), Member::new(4));
    let _missed = a.set("s", "y", "2", at(1));
    let last = one(a.set("s", "z", "3", at(2)));
    assert!(b.merge(&last, at(2)).partial);
    let uid = a.uid("s", at(2));
    // C knows nothing; what B can tell leaves it partial, and leaves D, which waits, waiting.
    assert!(c.merge(&b.present(uid, at(2)), at(2)).partial);
    d.merge(&last, at(2));
    assert!(!d.merge(&b.present(uid, at(2)), at(2)).completed);
    assert!(d.context.is_partial(uid));
    // A holder that was whole up to an older point learns that it missed something.
    let e = Member::new(5);
    e.merge_all(&pair().0.snapshot(at(0)), at(0));
    assert!(e.merge(&b.present(uid, at(2)), at(2)).partial);
    for member in [&b, &c, &d, &e] {
        assert!(member.merge(&a.present(uid, at(3)), at(3)).completed);
        assert_eq!(member.all("s", at(3)), a.all("s", at(3)));
    }
}

#[test]
fn lifting_serves_again_what_was_whole_once_and_drops_the_rest() {
    let (a, b) = pair();
    let c = Member::new(3);
    let _missed = a.set("s", "y", "2", at(1));
    let last = one(a.set("s", "z", "3", at(2)));
    let uid = a.uid("s", at(2));
    b.merge(&last, at(2));
    c.merge(&last, at(2));
    // A is gone for good.
    assert!(b.context.lift(uid, at(3)));
    assert_eq!(b.all("s", at(3)), pairs(&[("x", "1"), ("z", "3")]));
    assert!(!c.context.lift(uid, at(3)));
    assert!(!c.context.holds(uid));
    assert_eq!(c.store.sessions(), 0);
}

#[test]
fn an_answer_that_it_is_not_held_changes_nothing() {
    let (a, b) = pair();
    let uid = a.uid("s", at(0));
    let before = a.dump();
    assert!(!a.merge(&b.context.unknown(uid), at(1)).changed);
    assert_eq!(a.dump(), before);
}

#[test]
fn a_write_to_a_session_that_is_dead_here_asks_to_tell_its_sender() {
    let (a, b) = pair();
    let _lost = b.kill("s", at(1));
    let uid = a.uid("s", at(1));
    assert!(b.merge(&one(a.set("s", "x", "2", at(2))), at(2)).dead);
    let told = a.merge(&b.present(uid, at(3)), at(3));
    assert_eq!((told.event, told.dead), (Some(MergedEvent::Ended), false));
}

#[test]
fn a_removal_and_a_change_of_id_reach_every_session_of_a_union() {
    let (a, b) = (Member::new(1), Member::new(2));
    let (from_a, from_b) = (a.set("s", "x", "a", at(0)), b.set("s", "x", "b", at(0)));
    a.merge_all(&from_b, at(0));
    b.merge_all(&from_a, at(0));
    let handle = a.begin("s", at(1));
    let removed = a.commit(&handle, &write("x", None), at(1)).1;
    assert_eq!(removed.len(), 2);
    b.merge_all(&removed, at(1));
    b.merge_all(&a.rename("s", "n", at(2)), at(2));
    for member in [&a, &b] {
        assert_eq!(member.all("n", at(2)), pairs(&[]));
        assert_eq!(member.begin("n", at(2)).uids().len(), 2);
        assert!(!member.begin("s", at(2)).exists());
    }
    // A write goes to the lowest alone, a kill to all.
    assert_eq!(a.set("n", "y", "1", at(3)).len(), 1);
    assert_eq!(a.commit(&a.begin("n", at(4)), &invalidate(), at(4)).1.len(), 2);
}

#[test]
fn a_change_of_id_travels_in_one_frame() {
    let (a, b) = pair();
    let frame =
        one(a.commit(&a.begin("s", at(1)), &Changes { new_id: Some(slice("n")), ..Changes::default() }, at(1)).1);
    b.merge(&frame, at(1));
    assert!(b.begin("n", at(1)).exists() && !b.begin("s", at(1)).exists());
}
