//! The send half of a lane, by behaviour.

use super::*;
use crate::mark::covers;
use crate::proto::op::OpPool;
use proptest::prelude::*;

const M: MemberId = MemberId(7);

fn frame(byte: u8, len: usize) -> FrameOut {
    FrameOut { parts: SmallVec::from_iter([Slice::copy_from(&vec![byte; len])]), len }
}

fn open_lane() -> Outbound<u32> {
    let mut out = Outbound::new(M);
    out.close();
    out.take_unacked();
    out.open(Vec::new());
    out
}

/// Writes at most `n` bytes and returns them.
fn write(out: &mut Outbound<u32>, n: usize, full: bool) -> Vec<u8> {
    let mut wakes = Wakes::new();
    let mut gather = Gather::default();
    if !out.begin_drain() {
        return Vec::new();
    }
    out.gather(&mut gather, usize::MAX, usize::MAX);
    let bytes: Vec<u8> = gather.parts.iter().flat_map(|p| p.as_bytes().to_vec()).collect();
    let n = n.min(bytes.len());
    out.wrote(&gather, n, full, &mut wakes);
    out.yield_drain(&gather);
    bytes[..n].to_vec()
}

fn ack(out: &mut Outbound<u32>, applied: u64) {
    out.ack(&Ack { received: applied, applied, ..Ack::default() }, &mut Wakes::new()).unwrap();
}

fn expecting(pool: &OpPool, level: AckLevel) -> Arc<Op> {
    let op = pool.take(level);
    op.expect(M);
    op.seal();
    op
}

#[test]
fn nothing_is_written_before_the_handshake() {
    let mut out: Outbound<u32> = Outbound::new(M);
    out.push([frame(1, 16)], Content::Session(1), None);
    assert!(!out.begin_drain());
}

#[test]
fn only_one_holds_the_drain() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    assert!(out.begin_drain());
    assert!(!out.begin_drain());
}

#[test]
fn a_short_write_goes_on_where_it_ended() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    out.push([frame(2, 16)], Content::Session(2), None);
    let mut got = write(&mut out, 5, true);
    assert!(!out.begin_drain(), "a full socket waits for writable");
    assert!(out.writable());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, usize::MAX);
    assert_eq!(gather.len, 27);
    got.extend(gather.parts.iter().flat_map(|p| p.as_bytes().to_vec()));
    assert_eq!(got, [vec![1; 16], vec![2; 16]].concat());
}

#[test]
fn writable_seen_during_a_full_write_is_not_lost() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    assert!(out.begin_drain());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, usize::MAX);
    assert!(!out.writable(), "somebody holds the drain");
    assert_eq!(out.wrote(&gather, 3, true, &mut Wakes::new()), Drain::More);
}

#[test]
fn an_applied_ack_confirms_in_order_and_frees_the_window() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let ops: Vec<_> = (0..3).map(|_| expecting(&pool, AckLevel::Applied)).collect();
    for op in &ops {
        out.push([frame(1, 16)], Content::Session(1), Some(op));
    }
    write(&mut out, usize::MAX, false);
    ack(&mut out, 2);
    assert_eq!(ops.iter().map(|o| o.is_done()).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(out.in_flight(), 1);
}

#[test]
fn a_received_ack_confirms_received_and_not_applied() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let received = expecting(&pool, AckLevel::Received);
    let applied = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), Some(&received));
    out.push([frame(1, 16)], Content::Session(1), Some(&applied));
    write(&mut out, usize::MAX, false);
    out.ack(&Ack { received: 2, applied: 0, ..Ack::default() }, &mut Wakes::new()).unwrap();
    assert!(received.is_done() && !applied.is_done());
    assert_eq!(out.in_flight(), 2, "what is only received is still sent again after a loss");
}

#[test]
fn handing_to_the_system_confirms_level_none_only_when_written_whole() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::None);
    out.push([frame(1, 16)], Content::Session(1), Some(&op));
    write(&mut out, 15, false);
    assert!(!op.is_done());
    write(&mut out, 1, false);
    assert!(op.is_done());
}

#[test]
fn a_refused_frame_is_no_copy_and_names_the_session() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(9), Some(&op));
    write(&mut out, usize::MAX, false);
    let refused = SmallVec::from_iter([(1, RefusedCode::Partial)]);
    let ack = Ack { received: 1, applied: 1, refused };
    let refusals = covers!(MissedAsPartial, out.ack(&ack, &mut Wakes::new())).unwrap();
    assert_eq!(refusals.as_slice(), &[(Content::Session(9), RefusedCode::Partial)]);
    assert_eq!(op.outcome().missing.as_slice(), &[(M, MissingReason::Partial)]);

    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(9), Some(&op));
    write(&mut out, usize::MAX, false);
    let refused = SmallVec::from_iter([(2, RefusedCode::Full)]);
    let ack = Ack { received: 2, applied: 2, refused };
    covers!(MissedAsRefused, out.ack(&ack, &mut Wakes::new())).unwrap();
    assert_eq!(op.outcome().missing.as_slice(), &[(M, MissingReason::Refused)]);
}

#[test]
fn an_ack_of_frames_never_written_is_refused() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    let one = Ack { received: 1, applied: 1, ..Ack::default() };
    assert_eq!(covers!(AckOfUnwritten, out.ack(&one, &mut Wakes::new())), Err(BadAck));
    write(&mut out, 7, false);
    assert_eq!(out.ack(&one, &mut Wakes::new()), Err(BadAck), "written in part is not written");
    write(&mut out, 9, false);
    for position in [0, 2, u64::MAX] {
        let refused = SmallVec::from_iter([(position, RefusedCode::Full)]);
        let ack = Ack { refused, ..one.clone() };
        assert_eq!(covers!(RefusalOfUnwritten, out.ack(&ack, &mut Wakes::new())), Err(BadAck), "{position}");
    }
}

#[test]
fn an_ack_that_overtakes_the_writers_word_settles_when_that_comes() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), Some(&op));
    assert!(out.begin_drain());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, usize::MAX);
    // The bytes are at the peer, and its ack is here, before the writing thread runs again.
    ack(&mut out, 1);
    assert!(!op.is_done());
    out.wrote(&gather, 16, false, &mut Wakes::new());
    assert!(op.is_done());
    assert!(out.is_empty());
}

#[test]
fn after_a_loss_what_was_in_flight_comes_first_and_what_was_not_follows() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), Some(&op));
    out.push([frame(2, 16)], Content::Session(2), None);
    out.push([frame(3, 16)], Content::Session(3), None);
    write(&mut out, 20, false);
    out.close();
    let unacked = out.take_unacked();
    assert_eq!(
        unacked.iter().map(|u| u.content.clone()).collect::<Vec<_>>(),
        [Content::Session(1), Content::Session(2)],
        "a frame cut in the middle starts over"
    );
    out.push([frame(4, 16)], Content::Session(4), None);
    let again = unacked.into_iter().map(|u| (SmallVec::from_iter([frame(9, 16)]), u.content, u.ops)).collect();
    out.open(again);
    assert_eq!(write(&mut out, usize::MAX, false), [vec![9; 32], vec![3; 16], vec![4; 16]].concat());
    ack(&mut out, 1);
    assert!(op.is_done(), "the op goes on with the frame that replaces its own");
}

#[test]
fn one_frame_sent_again_settles_every_change_that_it_stands_for() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let (first, second) = (expecting(&pool, AckLevel::Applied), expecting(&pool, AckLevel::Received));
    out.push([frame(1, 16)], Content::Session(1), Some(&first));
    out.push([frame(2, 16)], Content::Session(1), Some(&second));
    write(&mut out, usize::MAX, false);
    out.close();
    let ops = out.take_unacked().into_iter().flat_map(|u| u.ops).collect();
    out.open(vec![(SmallVec::from_iter([frame(9, 16)]), Content::Session(1), ops)]);
    write(&mut out, usize::MAX, false);
    ack(&mut out, 1);
    assert!(first.is_done() && second.is_done());
}

#[test]
fn a_control_message_is_sent_again_as_it_was() {
    let mut out = open_lane();
    out.push([frame(5, 16)], Content::Control, None);
    write(&mut out, usize::MAX, false);
    out.close();
    let unacked = out.take_unacked();
    assert_eq!(unacked[0].frame.as_ref().map(|f| f.to_vec()), Some(vec![5; 16]));
}

#[test]
fn a_large_frame_cut_between_its_pieces_starts_over_whole() {
    let mut out = open_lane();
    out.push([frame(1, 16), frame(2, 16), frame(3, 16)], Content::Session(1), None);
    write(&mut out, 16, false);
    out.close();
    assert_eq!(out.take_unacked().len(), 1);
    assert!(out.is_empty(), "no piece stays behind");
    assert_eq!(out.unwritten(), 0);
}

#[test]
fn a_write_to_an_old_connection_settles_nothing() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    assert!(out.begin_drain());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, usize::MAX);
    out.close();
    assert_eq!(out.wrote(&gather, 16, false, &mut Wakes::new()), Drain::Released);
    assert_eq!(out.in_flight(), 0);
    assert_eq!(out.unwritten(), 16);
}

#[test]
fn giving_up_keeps_the_frame_under_way_and_misses_the_rest() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), None);
    out.push([frame(2, 16)], Content::Session(2), Some(&op));
    out.push([frame(3, 16)], Content::Control, None);
    let mut got = write(&mut out, 4, false);
    assert_eq!(out.give_up(MissingReason::Repair, &mut Wakes::new()).bytes, 16);
    assert_eq!(op.outcome().missing.as_slice(), &[(M, MissingReason::Repair)]);
    got.extend(write(&mut out, usize::MAX, false));
    assert_eq!(got, [vec![1; 16], vec![3; 16]].concat());
}

#[test]
fn giving_up_keeps_what_a_holder_of_the_drain_is_writing() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    out.push([frame(2, 16)], Content::Session(2), None);
    assert!(out.begin_drain());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, 64);
    out.push([frame(3, 16)], Content::Session(3), None);
    assert_eq!(out.give_up(MissingReason::Repair, &mut Wakes::new()).bytes, 16);
    out.wrote(&gather, 32, false, &mut Wakes::new());
    assert_eq!((out.in_flight(), out.unwritten()), (2, 0));
}

#[test]
fn giving_up_takes_along_a_message_that_speaks_of_the_frames_before_it() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let end = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), None);
    out.push([frame(2, 16)], Content::Control, Some(&end));
    assert_eq!(out.give_up(MissingReason::Repair, &mut Wakes::new()).bytes, 32);
    assert!(end.is_done());
}

#[test]
fn giving_up_while_a_writer_writes_drops_what_was_settled_meanwhile_and_no_more() {
    let mut out = open_lane();
    out.push([frame(1, 16)], Content::Session(1), None);
    write(&mut out, usize::MAX, false);
    out.push([frame(2, 16)], Content::Session(2), None);
    assert!(out.begin_drain());
    let mut gather = Gather::default();
    out.gather(&mut gather, usize::MAX, usize::MAX);
    ack(&mut out, 1);
    out.push([frame(3, 16)], Content::Session(3), None);
    assert_eq!(out.give_up(MissingReason::Repair, &mut Wakes::new()).bytes, 16, "the third, which nobody has gathered");
    assert_eq!(out.len(), 1);
}

#[test]
fn the_end_misses_everything_and_frees_it() {
    let pool = OpPool::new(4);
    let mut out = open_lane();
    let op = expecting(&pool, AckLevel::Applied);
    out.push([frame(1, 16)], Content::Session(1), Some(&op));
    write(&mut out, usize::MAX, false);
    drop(out.end(MissingReason::Down, &mut Wakes::new()));
    assert_eq!(op.outcome().missing.as_slice(), &[(M, MissingReason::Down)]);
    assert!(out.is_empty() && out.unwritten() == 0);
}

proptest! {
    /// Whatever the sizes of writes and the moments of acks, the bytes are those pushed, in order, once.
    #[test]
    fn every_byte_goes_out_once_and_in_order(
        frames in prop::collection::vec((1_usize..5, any::<u8>()), 1..40),
        writes in prop::collection::vec(1_usize..64, 1..200),
    ) {
        let mut out = open_lane();
        let mut want = Vec::new();
        let mut got = Vec::new();
        let mut acked = 0;
        for (i, (units, byte)) in frames.iter().enumerate() {
            let len = units * 16;
            out.push([frame(*byte, len)], Content::Session(u32::try_from(i).unwrap()), None);
            want.extend(vec![*byte; len]);
        }
        for n in writes.iter().chain(std::iter::repeat_n(&1024, 64)) {
            got.extend(write(&mut out, *n, false));
            if n % 3 == 0 && out.in_flight() > 0 {
                acked += 1;
                ack(&mut out, acked);
            }
        }
        prop_assert_eq!(got, want);
        prop_assert_eq!(out.unwritten(), 0);
        prop_assert_eq!(out.in_flight() as u64 + acked, frames.len() as u64);
    }
}
