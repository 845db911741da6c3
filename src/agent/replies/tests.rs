//! Order, holding back and bounds of replies, with tickets that the tests play.

use std::cell::Cell;

use super::*;

#[derive(Debug, Default)]
struct Copies {
    done: Cell<bool>,
    members: Cell<u32>,
}

impl Progress for Copies {
    fn is_done(&self) -> bool {
        self.done.get()
    }

    fn members(&self) -> u32 {
        self.members.get()
    }
}

const START: Time = Duration::from_secs(1);
const LATE: Time = Duration::from_secs(10);

fn text(replies: &Replies<Copies>) -> &str {
    std::str::from_utf8(replies.unsent()).unwrap()
}

#[test]
fn replies_keep_the_order_of_their_commands() {
    let mut replies = Replies::new();
    let (first, second) = (Rc::new(Copies::default()), Rc::new(Copies::default()));
    replies.writer().integer(1);
    replies.hold(Rc::clone(&first), LATE);
    replies.writer().integer(2);
    replies.writer().integer(3);
    replies.hold(Rc::clone(&second), LATE);
    replies.writer().integer(4);

    second.done.set(true);
    replies.open(START);
    assert_eq!(text(&replies), ":1\r\n");
    first.done.set(true);
    replies.open(START);
    assert_eq!(text(&replies), ":1\r\n:2\r\n:3\r\n:4\r\n");
    assert_eq!(replies.deadline(START), None);
}

#[test]
fn a_change_that_is_copied_already_holds_nothing() {
    let mut replies = Replies::new();
    replies.hold(Rc::new(Copies { done: Cell::new(true), ..Copies::default() }), LATE);
    replies.writer().ok();
    assert_eq!(text(&replies), "+OK\r\n");
}

#[test]
fn a_reply_is_let_go_when_its_time_is_over() {
    let mut replies = Replies::new();
    replies.hold(Rc::new(Copies::default()), LATE);
    replies.writer().ok();
    replies.open(LATE - Duration::from_nanos(1));
    assert_eq!((text(&replies), replies.deadline(START)), ("", Some(LATE)));
    replies.open(LATE);
    assert_eq!((text(&replies), replies.deadline(START)), ("+OK\r\n", None));
}

#[test]
fn wait_answers_when_enough_members_have_the_change() {
    let mut replies = Replies::new();
    let ticket = Rc::new(Copies::default());
    replies.wait(Rc::clone(&ticket), 2, LATE);
    replies.writer().ok();
    ticket.members.set(1);
    replies.open(START);
    assert_eq!(text(&replies), "");
    assert!(replies.deadline(START).is_some_and(|at| at > START && at < LATE), "it looks again by itself");
    ticket.members.set(2);
    replies.open(START);
    assert_eq!(text(&replies), ":2\r\n+OK\r\n");
}

#[test]
fn wait_answers_what_there_is_when_no_more_is_to_come() {
    for (done, now) in [(true, START), (false, LATE)] {
        let mut replies = Replies::new();
        let ticket = Rc::new(Copies { done: Cell::new(done), members: Cell::new(1) });
        replies.wait(ticket, 2, LATE);
        replies.open(now);
        assert_eq!(text(&replies), ":1\r\n");
    }
}

#[test]
fn held_replies_are_bounded_in_number_and_bytes() {
    let mut replies = Replies::new();
    let ticket = Rc::new(Copies::default());
    let mut held = 0;
    while replies.has_room() {
        replies.hold(Rc::clone(&ticket), LATE);
        replies.writer().ok();
        held += 1;
    }
    assert_eq!(held, HELD_MAX);

    let mut replies = Replies::new();
    let mut bytes = 0;
    while replies.has_room() {
        replies.hold(Rc::clone(&ticket), LATE);
        replies.writer().bulk(&[0; 100_000]);
        bytes += 100_000;
    }
    assert!(bytes < HIGH_WATER + 100_000);
    ticket.done.set(true);
    replies.open(START);
    assert!(!replies.has_room() && replies.held_bytes == 0, "let go is not sent");
    replies.advance(replies.unsent().len());
    assert!(replies.has_room() && replies.is_empty());
    assert!(replies.bytes() <= KEEP_BYTES, "an idle connection keeps no large buffer");
}

#[test]
fn bytes_sent_in_part_are_sent_once() {
    let mut replies = Replies::<Copies>::new();
    replies.writer().simple("one");
    replies.advance(3);
    replies.writer().simple("two");
    assert_eq!(text(&replies), "e\r\n+two\r\n");
}

#[test]
fn a_reply_that_grew_too_large_is_taken_back() {
    let mut replies = Replies::<Copies>::new();
    replies.writer().ok();
    replies.hold(Rc::new(Copies::default()), LATE);
    replies.writer().ok();
    let mark = replies.mark();
    replies.writer().bulk(&[0; 100]);
    assert!(replies.since(&mark) > 100);
    replies.undo(mark);
    replies.writer().integer(1);
    replies.open(LATE);
    assert_eq!(text(&replies), "+OK\r\n+OK\r\n:1\r\n");
}
