//! Changes that nobody is told: a filtered request's. What comes after them must leave no receiver with a part.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]

mod stores;

use hotspare::session::{Changes, CommitStatus};
use stores::*;

#[test]
fn the_next_change_that_is_told_brings_along_what_was_not() {
    let (a, b) = (Member::new(1), Member::new(2));
    b.merge_all(&a.set("s", "user", "ada", at(0)), at(0));
    let silent = |name: &str| Changes { silent: true, ..write(name, Some("1")) };
    let _lost = a.commit(&a.begin("s", at(1)), &silent("hits"), at(1));
    assert_eq!(b.get("s", "hits", at(1)), None);

    let told = a.set("s", "cart", "tea", at(2));
    let merged = b.merge(&told[0], at(2));
    assert!(!merged.partial, "it has everything at once and asks nobody");
    assert_eq!(b.all("s", at(2)), a.all("s", at(2)));
    assert_eq!(b.get("s", "hits", at(2)).as_deref(), Some("1"));

    let delta = a.set("s", "cart", "milk", at(3));
    assert!(delta[0].len < told[0].len, "then deltas go again");
    assert!(!b.merge(&delta[0], at(3)).partial);
}

#[test]
fn a_session_made_by_a_request_that_nobody_is_told_of_arrives_with_the_next() {
    let (a, b) = (Member::new(1), Member::new(2));
    let _lost = a.commit(&a.create("s", at(0)), &Changes { silent: true, ..write("user", Some("ada")) }, at(0));
    let merged = b.merge(&a.set("s", "cart", "tea", at(1))[0], at(1));
    assert!(!merged.partial);
    assert_eq!(b.all("s", at(1)), a.all("s", at(1)));
}

#[test]
fn a_mere_access_that_nobody_is_told_makes_no_version() {
    let (a, b) = (Member::new(1), Member::new(2));
    b.merge_all(&a.set("s", "user", "ada", at(0)), at(0));
    // Past the interval in which accesses are not announced.
    let late = at(30);
    let context = &a.context;
    let access = Changes { touch: true, silent: true, ..Changes::default() };
    let commit = context.commit(&mut a.begin("s", late), &access, late, &mut |_| panic!("it tells nobody")).unwrap();
    assert_eq!(commit.status, CommitStatus::Unchanged);
    let told = a.set("s", "cart", "tea", late);
    assert!(!b.merge(&told[0], late).partial, "a delta on what was told");
}
