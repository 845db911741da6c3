//! The soak's checker on histories made by hand: what it must call lost, resurrected, divergent or invented, and what not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "soak_run/history.rs"]
mod history;

use history::{CLIENTS, EPOCH, Incarnation, Mark, NODES, Outcome, Quiet, Seen, Session, Wrong, attribute};
use serde_json::{Map, Value, json};

/// All members are their first process.
const SAME: [Option<Incarnation>; NODES] = [Some(1); NODES];
const EVERYWHERE: Outcome = Outcome::Acked(NODES as u64);

/// A session of client 0 in its first epoch, created everywhere.
fn session() -> Session {
    let mut session = Session::new(String::from("s"), 0);
    session.epoch = 1;
    wrote(&mut session, 0, 1, 0, EVERYWHERE);
    session.alive = true;
    session
}

/// Client's next write into an epoch, at a member; its mark.
fn wrote(session: &mut Session, client: usize, epoch: u64, node: usize, outcome: Outcome) -> Mark {
    let mark = session.write(client, epoch);
    session.wrote(client, mark, node, &SAME, outcome);
    mark
}

/// What a member shows that has this.
fn shows(epoch: u64, marks: &[(usize, Mark)]) -> Seen {
    let mut attributes: Map<String, Value> =
        marks.iter().map(|(client, mark)| (attribute(*client), json!(mark.to_string()))).collect();
    attributes.insert(EPOCH.to_owned(), json!(epoch.to_string()));
    Seen::parse(&json!({ "exists": true, "attributes": attributes })).unwrap()
}

fn nothing() -> Seen {
    Seen::parse(&json!({ "exists": false })).unwrap()
}

fn wrong(judged: Option<(Wrong, String)>) -> Option<Wrong> {
    judged.map(|(wrong, _)| wrong)
}

/// What is wrong with what a member shows to a read that begins now.
fn read(session: &Session, node: usize, seen: &Seen) -> Option<Wrong> {
    wrong(session.judge_look(&session.look(node, 1), seen))
}

/// The same where all members show it after quiet.
fn quiet(session: &Session, seen: &Seen) -> Option<Wrong> {
    match session.quiet(&[seen.clone(), seen.clone(), seen.clone()]) {
        Quiet::Agreed => None,
        Quiet::Wrong(wrong, _) => Some(wrong),
        Quiet::Differ => panic!("they are equal"),
    }
}

const FIRST: Mark = Mark { epoch: 1, count: 1 };

#[test]
fn an_acked_write_that_does_not_show_is_lost() {
    let mut session = session();
    let write = wrote(&mut session, 2, 1, 1, EVERYWHERE);
    let whole = shows(1, &[(0, FIRST), (2, write)]);
    let stale = shows(1, &[(0, FIRST)]);
    for node in 0..NODES {
        assert_eq!(read(&session, node, &whole), None);
        assert_eq!(read(&session, node, &stale), Some(Wrong::Lost));
        assert_eq!(read(&session, node, &nothing()), Some(Wrong::Lost));
    }
    assert_eq!(quiet(&session, &whole), None);
    assert_eq!(quiet(&session, &stale), Some(Wrong::Lost));
    assert_eq!(quiet(&session, &nothing()), Some(Wrong::Lost));
}

#[test]
fn an_older_value_than_the_acked_one_is_lost_unless_it_is_open() {
    let mut session = session();
    let old = wrote(&mut session, 2, 1, 1, EVERYWHERE);
    let new = wrote(&mut session, 2, 1, 1, EVERYWHERE);
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST), (2, old)])), Some(Wrong::Lost));
    let open = wrote(&mut session, 2, 1, 1, Outcome::Unknown);
    let newest = wrote(&mut session, 2, 1, 2, EVERYWHERE);
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST), (2, open)])), None, "nobody knows which came last");
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST), (2, newest)])), None);
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST), (2, new)])), Some(Wrong::Lost));
}

#[test]
fn a_write_that_two_members_acked_is_due_at_the_third_only_after_quiet() {
    let mut session = session();
    wrote(&mut session, 2, 1, 1, Outcome::Acked(2));
    let stale = shows(1, &[(0, FIRST)]);
    assert_eq!(read(&session, 0, &stale), None);
    assert_eq!(read(&session, 1, &stale), Some(Wrong::Lost), "it made it");
    assert_eq!(quiet(&session, &stale), Some(Wrong::Lost));
}

#[test]
fn a_process_owes_nothing_for_the_one_before_it() {
    let session = session();
    assert_eq!(wrong(session.judge_look(&session.look(0, 2), &nothing())), None);
    assert_eq!(wrong(session.judge_look(&session.look(0, 1), &nothing())), Some(Wrong::Lost));
}

#[test]
fn a_write_without_an_answer_may_show_or_not_and_one_refused_owes_nothing() {
    let mut session = session();
    let open = wrote(&mut session, 2, 1, 1, Outcome::Unknown);
    wrote(&mut session, 3, 1, 1, Outcome::Refused);
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST), (2, open)])), None);
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST)])), None);
}

#[test]
fn what_ended_and_shows_again_is_resurrected() {
    let mut session = session();
    session.invalidate();
    assert_eq!(read(&session, 0, &shows(1, &[(0, FIRST)])), None, "it may take its time");
    session.invalidated(1, &SAME, EVERYWHERE);
    for node in 0..NODES {
        assert_eq!(read(&session, node, &nothing()), None);
        assert_eq!(read(&session, node, &shows(1, &[(0, FIRST)])), Some(Wrong::Resurrected));
    }
    session.epoch = 2;
    let next = wrote(&mut session, 0, 2, 0, EVERYWHERE);
    assert_eq!(quiet(&session, &shows(2, &[(0, next)])), None);
    let ghost = wrote(&mut session, 4, 1, 1, Outcome::Unknown);
    assert_eq!(quiet(&session, &shows(2, &[(0, next), (4, ghost)])), Some(Wrong::Resurrected), "of the old one");
}

#[test]
fn an_end_that_two_members_acked_counts_at_the_third_after_quiet() {
    let mut session = session();
    session.invalidate();
    session.invalidated(1, &SAME, Outcome::Acked(2));
    let ghost = shows(1, &[(0, FIRST)]);
    assert_eq!(read(&session, 0, &ghost), None);
    assert_eq!(read(&session, 1, &ghost), Some(Wrong::Resurrected));
    assert_eq!(quiet(&session, &ghost), Some(Wrong::Resurrected));
}

#[test]
fn members_that_show_different_things_after_quiet_differ() {
    let mut session = session();
    let open = wrote(&mut session, 2, 1, 1, Outcome::Unknown);
    let (with, without) = (shows(1, &[(0, FIRST), (2, open)]), shows(1, &[(0, FIRST)]));
    for odd in 0..NODES {
        let mut shown = [with.clone(), with.clone(), with.clone()];
        shown[odd] = without.clone();
        assert_eq!(session.quiet(&shown), Quiet::Differ);
    }
}

#[test]
fn what_nobody_wrote_is_invented() {
    let session = session();
    for mark in [Mark { epoch: 1, count: 2 }, Mark { epoch: 2, count: 1 }] {
        assert_eq!(read(&session, 0, &shows(1, &[(0, mark)])), Some(Wrong::Invented));
    }
    for (name, value) in [("w0", "1"), ("w0", "x:1"), ("w99", "1:1"), ("other", "1:1"), (EPOCH, "one")] {
        let answer = json!({ "exists": true, "attributes": { name: value } });
        assert!(Seen::parse(&answer).is_err(), "{name} = {value}");
    }
    let ballast = json!({ "exists": true, "attributes": { EPOCH: "1", "w0": "1:1:xxxx" } });
    assert_eq!(Seen::parse(&ballast).unwrap(), shows(1, &[(0, FIRST)]));
}

#[test]
fn after_a_change_of_id_only_members_that_know_it_owe_the_new_one() {
    let mut session = session();
    let before = session.look(0, 1);
    let next = session.rename();
    assert_eq!(read(&session, 0, &nothing()), None, "it may have either id");
    session.renamed(1, &SAME, Outcome::Acked(2));
    assert_eq!((session.id.as_str(), session.old.as_deref()), (next.as_str(), Some("s")));
    assert_eq!(wrong(session.judge_look(&before, &nothing())), None, "a read by the old id");
    assert_eq!(read(&session, 0, &nothing()), None, "it may not have heard");
    assert_eq!(read(&session, 1, &nothing()), Some(Wrong::Lost));
    assert_eq!(quiet(&session, &nothing()), Some(Wrong::Lost));
    session.agreed(&shows(1, &[(0, FIRST)]));
    wrote(&mut session, 0, 1, 0, EVERYWHERE);
    assert_eq!(read(&session, 0, &nothing()), Some(Wrong::Lost));
}

#[test]
fn a_change_of_id_without_an_answer_leaves_either_until_quiet() {
    let mut session = session();
    let next = session.rename();
    session.renamed(1, &SAME, Outcome::Unknown);
    assert!(session.frozen && session.id == "s");
    assert_eq!(quiet(&session, &nothing()), Some(Wrong::Lost), "so the other is tried");
    assert!(session.try_next() && session.id == next && !session.try_next());
    assert_eq!(quiet(&session, &shows(1, &[(0, FIRST)])), None);
    session.agreed(&shows(1, &[(0, FIRST)]));
    assert!(!session.frozen && session.alive);
}

#[test]
fn a_history_tells_what_clients_saw_and_is_bounded() {
    let mut session = session();
    for n in 0..1000 {
        session.note("0", "a#1", Default::default(), format!("write {n}"), String::from("ok"));
    }
    let history = session.history();
    assert!(history.contains("write 999") && !history.contains("write 9 "));
    assert!(history.lines().count() < 200 && CLIENTS > 1);
}
