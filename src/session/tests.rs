//! What only the inside shows: exact accounting, the expiry queue, caps, races.

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;

use super::context::Context;
use super::*;
use crate::buffer::Slice;
use crate::id::{MemberId, Time, Uid};
use crate::mark::covers;
use crate::wire::{self, Decoder, FrameOut, RefusedCode};

const IDLE: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits {
        value_bytes_max: 1 << 16,
        session_bytes_max: 1 << 18,
        store_bytes_max: 1 << 30,
        tombstones_max: 1 << 16,
        contexts_max: 2,
    }
}

fn settings() -> Settings {
    Settings {
        max_idle: IDLE,
        idle_grace: Duration::from_secs(10),
        touch_interval: Duration::from_secs(5),
        horizon: Duration::from_secs(600),
    }
}

/// How often, and how often where an interpreter looks at every access to memory.
fn less<T>(often: T, miri: T) -> T {
    if cfg!(miri) { miri } else { often }
}

fn store(me: u64, limits: Limits) -> (Store, Arc<Context>) {
    let store = Store::new(MemberId(me), limits, settings(), 7);
    let context = store.context(b"app").unwrap();
    (store, context)
}

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn write(name: &str, value: &[u8]) -> Changes {
    let value = Some(Slice::copy_from(value));
    Changes { writes: smallvec![(name.as_bytes().into(), value)], touch: true, ..Changes::default() }
}

fn set(context: &Arc<Context>, id: &str, name: &str, value: &[u8], now: Time) -> Result<Vec<FrameOut>, CommitError> {
    let mut handle = context.begin(id.as_bytes(), now);
    context.create(&mut handle);
    let mut frames = Vec::new();
    context.commit(&mut handle, &write(name, value), now, &mut |e| frames.push(e.frame))?;
    Ok(frames)
}

fn merge(context: &Context, frame: &FrameOut, now: Time) -> Result<Merged, RefusedCode> {
    let mut decoder = Decoder::new(8 << 20);
    decoder.authenticated();
    decoder.feed(&frame.to_vec());
    let frame = decoder.next().unwrap().unwrap();
    context.merge(&frame.session().unwrap(), now)
}

/// Counts everything again and compares it with the running sums.
fn assert_exact(store: &Store) {
    let (mut bytes, mut sessions, mut tombstones) = (0, 0, 0);
    for context in store.contexts() {
        let before = sessions;
        for cell in &context.cells {
            let shard = cell.lock.read();
            for (_, record) in shard.records.iter() {
                assert_eq!(record.bytes(), record.recount());
                bytes += record.recount();
                sessions += usize::from(!record.is_expired());
            }
            bytes += shard.graves.iter().map(|(_, grave)| grave.bytes()).sum::<usize>();
            tombstones += shard.graves.len();
        }
        assert_eq!(context.deaths.lock().len(), tombstones, "every tombstone waits for its burial");
        bytes += context.names.recount();
        assert_eq!(context.sessions(), sessions - before);
    }
    assert_eq!((store.bytes(), store.sessions(), store.tombstones()), (bytes, sessions, tombstones));
}

#[test]
fn sums_equal_a_recount_after_random_operations() {
    let mut rng = fastrand::Rng::with_seed(1);
    let (one, a) = store(1, limits());
    let (other, b) = store(2, limits());
    let mut frames = Vec::new();
    let mut now = at(0);
    for step in 0..less(4000, 150) {
        let (context, id, name) =
            ([&a, &b][rng.usize(..2)], format!("s{}", rng.usize(..12)), format!("x{}", rng.usize(..5)));
        let value = vec![1; rng.usize(..6000)];
        match rng.usize(..12) {
            0..5 => frames.extend(set(context, &id, &name, &value, now).unwrap()),
            5 => _ = context.invalidate(id.as_bytes(), now, &mut |e| frames.push(e.present())),
            6 => {
                let new_id = Some(Slice::copy_from(format!("s{}", rng.usize(..12)).as_bytes()));
                let mut handle = context.begin(id.as_bytes(), now);
                let changes = Changes { new_id, max_idle: Some(at(rng.u64(10..90))), ..Changes::default() };
                context.commit(&mut handle, &changes, now, &mut |e| frames.push(e.frame)).unwrap();
            }
            7 => {
                let whole = rng.bool().then_some(at(100));
                context.sweep(now, whole, true, rng.usize(..20), &mut |e| frames.push(e.frame));
            }
            8 => {
                let mut handle = context.begin(id.as_bytes(), now);
                context.create(&mut handle);
            }
            _ if frames.is_empty() => {}
            9 => {
                let at = rng.usize(..frames.len());
                frames.swap_remove(at);
            }
            _ => _ = merge(context, &frames[rng.usize(..frames.len())], now).unwrap(),
        }
        now += Duration::from_millis(rng.u64(..3000));
        if step % 50 == 0 {
            assert_exact(&one);
            assert_exact(&other);
        }
    }
    // Everything expires, is forgotten, is buried: nothing is left.
    for _ in 0..4 {
        now += at(2000);
        for context in [&a, &b] {
            while context.sweep(now, Some(at(2000)), true, 100, &mut |_| {}).more {}
        }
    }
    for store in [&one, &other] {
        assert_exact(store);
        assert_eq!((store.bytes(), store.sessions(), store.tombstones()), (0, 0, 0));
    }
    assert_eq!(a.next_due(), None);
}

#[test]
fn an_access_leaves_the_expiry_queue_alone() {
    let (_store, context) = store(1, limits());
    for second in 0..50 {
        set(&context, "s", "x", b"1", at(second)).unwrap();
    }
    assert_eq!(context.next_due(), Some(IDLE), "the tick of the first access still stands");
    let queued = |context: &Context| context.cells.iter().map(|c| c.lock.read().queue.len()).sum::<usize>();
    assert_eq!(queued(&context), 1);
    assert_eq!(context.sweep(IDLE, None, true, 100, &mut |_| {}).expired, 0);
    assert_eq!(context.next_due(), Some(at(49) + IDLE));
    assert_eq!(context.sweep(at(49) + IDLE, None, true, 100, &mut |_| {}).expired, 1);
}

#[test]
fn a_shorter_idle_time_expires_a_session_sooner() {
    let (_store, context) = store(1, limits());
    set(&context, "s", "x", b"1", at(0)).unwrap();
    let mut handle = context.begin(b"s", at(1));
    let changes = Changes { max_idle: Some(at(5)), ..Changes::default() };
    context.commit(&mut handle, &changes, at(1), &mut |_| {}).unwrap();
    assert_eq!(context.next_due(), Some(at(6)));
    let swept = context.sweep(at(6), None, true, 100, &mut |_| {});
    assert_eq!((swept.expired, swept.ended), (1, vec![Key::new(key::NAME, b"s")]));
}

#[test]
fn an_endless_idle_time_never_expires() {
    let (_store, context) = store(1, limits());
    let mut handle = context.begin(b"s", at(0));
    context.create(&mut handle);
    let changes = Changes { max_idle: Some(Duration::MAX), ..write("x", b"1") };
    context.commit(&mut handle, &changes, at(0), &mut |_| {}).unwrap();
    let far = at(100 * 365 * 86_400);
    context.sweep(far, None, true, 100, &mut |_| {});
    assert!(context.read(b"s", b"x", far).is_some());
}

#[test]
fn a_small_budget_reaches_every_session_in_turn() {
    let (store, context) = store(1, limits());
    let count = less(500, 60);
    for n in 0..count {
        set(&context, &format!("s{n}"), "x", b"1", at(0)).unwrap();
    }
    let (mut turns, mut expired) = (0, 0);
    loop {
        let swept = context.sweep(IDLE, None, true, 7, &mut |_| {});
        turns += 1;
        expired += swept.expired;
        assert!(swept.expired <= 7);
        if !swept.more {
            break;
        }
    }
    assert_eq!((expired, store.sessions()), (count, 0));
    assert!(turns <= count / 7 + SHARDS);
}

#[test]
fn the_oldest_tombstones_go_above_the_cap() {
    let (store, context) = store(1, Limits { tombstones_max: 3, ..limits() });
    let mut dead = Vec::new();
    for n in 0..10 {
        let id = format!("s{n}");
        set(&context, &id, "x", b"1", at(n)).unwrap();
        dead.push(context.begin(id.as_bytes(), at(n)).uids()[0]);
        context.invalidate(id.as_bytes(), at(n), &mut |_| {});
    }
    let held: Vec<Uid> = context.dump().into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(held, dead[7..]);
    assert_exact(&store);
}

#[test]
fn one_value_with_the_empty_name_may_fill_the_session() {
    let (_store, context) = store(1, Limits { session_bytes_max: 100, value_bytes_max: 100, ..limits() });
    set(&context, "an id is not counted", "", &[1; 100], at(0)).unwrap();
    set(&context, "an id is not counted", "", &[2; 100], at(1)).unwrap();
}

#[test]
fn a_commit_over_a_limit_changes_nothing() {
    let (store, context) = store(1, Limits { session_bytes_max: 100, value_bytes_max: 80, ..limits() });
    set(&context, "s", "x", &[1; 60], at(0)).unwrap();
    let before = (context.dump(), store.bytes());
    let set = |id: &str, name: &str, len| set(&context, id, name, &vec![1; len], at(0)).err();
    assert_eq!(covers!(ValueTooLarge, set("s", "y", 81)), Some(CommitError::ValueTooLarge(80, 81)));
    assert_eq!(covers!(SessionTooLarge, set("s", "y", 60)), Some(CommitError::SessionTooLarge(100, 122)));
    let long = "n".repeat(5000);
    assert_eq!(covers!(AttributeNameTooLong, set("s", &long, 0)), Some(CommitError::NameTooLong(4096, 5000)));
    assert_eq!(covers!(IdTooLong, set(&long, "x", 0)), Some(CommitError::NameTooLong(4096, 5000)));
    assert_eq!(covers!(CreateTooLarge, set("u", &long[..50], 60)), Some(CommitError::SessionTooLarge(100, 110)));
    assert_eq!(set("t", "x", 80), None);
    assert_eq!(covers!(IdEmpty, set("", "x", 1)), Some(CommitError::IdEmpty));
    context.invalidate(b"t", at(0), &mut |_| {});
    let after = context.dump().into_iter().find(|(uid, _)| *uid == before.0[0].0);
    assert_eq!(after.as_ref(), before.0.first());
    assert_exact(&store);
}

#[test]
fn a_full_store_refuses_growth_but_not_shrinking() {
    let (store, context) = store(1, Limits { store_bytes_max: 20_000, ..limits() });
    let (_, other) = second();
    let mut full = None;
    for n in 0..100 {
        if let Err(error) = set(&context, &format!("s{n}"), "x", &[1; 1000], at(0)) {
            full = Some(error);
            break;
        }
    }
    assert_eq!(full, Some(CommitError::StoreFull(20_000)));
    let create = || set(&context, "another", "x", &[1; 1000], at(0)).err();
    assert_eq!(covers!(CreateIntoFullStore, create()), full);
    assert_eq!(covers!(StoreFull, set(&context, "s0", "y", &[1; 5000], at(0))).err(), full);
    assert!(store.bytes() <= 20_000);
    let (dump, bytes) = (context.dump(), store.bytes());
    let frame = &set(&other, "t", "x", &[1; 1000], at(0)).unwrap()[0];
    assert_eq!(covers!(MergeIntoFullStore, merge(&context, frame, at(0))), Err(RefusedCode::Full));
    other.invalidate(b"t", at(1), &mut |_| {});
    let over = &set(&other, "t", "x", &[1; 1000], at(1)).unwrap()[0];
    assert_eq!(covers!(CreateOverIntoFullStore, merge(&context, over, at(1))), Err(RefusedCode::Full));
    assert_eq!((context.dump(), store.bytes()), (dump, bytes));
    assert_exact(&store);
    assert!(set(&context, "s0", "x", &[1; 10], at(0)).is_ok());
    assert_eq!(context.invalidate(b"s1", at(0), &mut |_| {}), 1);
    assert!(merge(&context, frame, at(0)).is_ok(), "there is room again");
}

#[test]
fn a_merge_over_a_limit_is_refused_and_changes_nothing() {
    let (store, context) = store(1, Limits { session_bytes_max: 100, value_bytes_max: 80, ..limits() });
    let (_, other) = second();
    let frame = set(&other, "s", "x", &[1; 81], at(0)).unwrap();
    assert_eq!(covers!(MergedAttributeTooLarge, merge(&context, &frame[0], at(0))), Err(RefusedCode::TooLarge));
    assert!(context.dump().is_empty());
    for (name, result) in [("x", Ok(())), ("y", Err(RefusedCode::TooLarge))] {
        let frame = set(&other, "t", name, &[1; 60], at(0)).unwrap();
        let merged = || merge(&context, &frame[0], at(0)).map(drop);
        assert_eq!(if result.is_ok() { merged() } else { covers!(MergedSessionTooLarge, merged()) }, result);
    }
    assert!(context.clock() >= 2, "a refused frame moves the clock");
    assert_exact(&store);
}

#[test]
fn contexts_are_capped_and_apart() {
    let (store, app) = store(1, limits());
    let shop = store.context(b"shop").unwrap();
    assert_eq!(covers!(ContextsFull, store.context(b"third")).unwrap_err(), StoreError::TooManyContexts(2));
    let long = covers!(ContextNameTooLong, store.context(&[b'n'; 256]));
    assert_eq!(long.unwrap_err(), StoreError::NameTooLong(256));
    set(&app, "s", "x", b"1", at(0)).unwrap();
    assert!(shop.read(b"s", b"x", at(0)).is_none());
    assert!(Arc::ptr_eq(&store.context(b"app").unwrap(), &app));
}

#[test]
fn a_handle_that_is_dropped_leaves_no_trace() {
    let (store, context) = store(1, limits());
    let mut handle = context.begin(b"s", at(0));
    context.create(&mut handle);
    let mut copy = handle.clone();
    drop(handle);
    assert!(context.commit(&mut copy, &write("x", b"1"), at(0), &mut |_| {}).unwrap().status == CommitStatus::Changed);
    context.invalidate(b"s", at(0), &mut |_| {});
    drop(copy);
    context.create(&mut context.begin(b"t", at(0)));
    context.sweep(at(1000), None, true, 100, &mut |_| {});
    assert_eq!(store.bytes(), 0);
}

#[test]
fn a_small_part_of_a_large_buffer_is_copied_not_pinned() {
    let (store, context) = store(1, limits());
    let large = Slice::copy_from(&[7; 50_000]);
    let mut handle = context.begin(b"s", at(0));
    context.create(&mut handle);
    let writes = smallvec![(b"x"[..].into(), Some(large.slice(0..10)))];
    context.commit(&mut handle, &Changes { writes, ..Changes::default() }, at(0), &mut |_| {}).unwrap();
    assert!(store.bytes() < 10_000);
}

#[test]
fn over_lists_the_newest_when_a_name_is_used_again_and_again() {
    let (_store, a) = store(1, limits());
    let (_, b) = second();
    let mut last = Vec::new();
    for n in 0..100 {
        last = set(&a, "s", "x", b"1", at(n)).unwrap();
        a.invalidate(b"s", at(n), &mut |_| {});
    }
    assert!(last[0].len < 2048, "bounded, not a hundred uids");
    merge(&b, &last[0], at(100)).unwrap();
    let dead = b.dump().iter().filter(|(_, d)| d.dead).count();
    assert_eq!(dead, record::OVER_MAX);
}

#[test]
fn a_write_to_what_is_gone_ends_and_makes_nothing() {
    let (store, context) = store(1, limits());
    let commit = |handle: &mut Handle, changes: &Changes, now| {
        context.commit(handle, changes, now, &mut |_| panic!("nothing is told")).unwrap().status
    };
    let (ended, kill) = (CommitStatus::Ended, Changes { invalidate: true, ..Changes::default() });
    let mut nothing = context.begin(b"s", at(0));
    assert_eq!(covers!(WriteToNothing, commit(&mut nothing, &write("x", b"1"), at(0))), ended);

    let mut pending = context.begin(b"s", at(0));
    context.create(&mut pending);
    context.invalidate(b"s", at(0), &mut |_| {});
    assert_eq!(covers!(KilledBeforeCommit, commit(&mut pending, &write("x", b"1"), at(0))), ended);

    set(&context, "s", "x", b"1", at(0)).unwrap();
    let mut late = context.begin(b"s", at(0));
    context.invalidate(b"s", at(0), &mut |_| {});
    assert_eq!(covers!(HandleOfTheGone, commit(&mut late, &write("x", b"2"), at(0))), ended);
    assert_eq!(covers!(KillOfTheDead, commit(&mut late, &kill, at(0))), ended);

    set(&context, "t", "x", b"1", at(0)).unwrap();
    let mut late = context.begin(b"t", at(0));
    // It expires, and a grace later, with all members there, its content goes.
    for seconds in [61, 100] {
        context.sweep(at(seconds), Some(at(100)), true, 100, &mut |_| {});
    }
    assert_eq!(covers!(HandleOfTheShed, commit(&mut late, &write("x", b"2"), at(100))), ended);
    assert_eq!(store.sessions(), 0);
    assert_exact(&store);
}

#[test]
fn a_change_of_what_is_dead_or_long_expired_makes_nothing() {
    let (store, context) = store(1, limits());
    let (_, other) = second();
    let created = &set(&other, "s", "x", b"1", at(0)).unwrap()[0];
    merge(&context, created, at(0)).unwrap();
    context.invalidate(b"s", at(0), &mut |_| {});
    assert!(covers!(WriteToTheDead, merge(&context, created, at(1))).unwrap().dead);

    set(&other, "t", "x", b"1", at(0)).unwrap();
    let uid = other.begin(b"t", at(0)).uids()[0];
    other.sweep(at(61), None, true, 100, &mut |_| {});
    let present = other.present(uid, 0, at(5000)).unwrap();
    assert_eq!(covers!(LongExpired, merge(&context, &present, at(5000))).unwrap(), Merged::default());
    assert_eq!(store.sessions(), 0);

    let nobody = Uid { counter: 5, member: MemberId(9) };
    let merged = covers!(AskedForTheUnknown, merge(&context, &other.unknown(nobody), at(0)));
    assert_eq!(merged.unwrap(), Merged::default());
}

fn second() -> (Store, Arc<Context>) {
    store(2, limits())
}

#[test]
fn a_scan_emits_what_was_held_when_it_began_while_tables_grow() {
    let (_store, context) = store(1, limits());
    let mut wanted = std::collections::BTreeSet::new();
    let first = less(300, 60);
    for n in 0..first {
        set(&context, &format!("s{n}"), "x", b"1", at(0)).unwrap();
    }
    wanted.extend(context.dump().into_iter().map(|(uid, _)| uid));
    let (mut cursor, mut n) = (Cursor::default(), 1000);
    loop {
        let done = context.scan(&mut cursor, 1000, at(0), &mut |uid, _| _ = wanted.remove(&uid));
        for _ in 0..less(50, 10) {
            n += 1;
            set(&context, &format!("s{n}"), "x", b"1", at(0)).unwrap();
        }
        context.invalidate(format!("s{}", n % first).as_bytes(), at(0), &mut |_| {});
        if done {
            break;
        }
    }
    assert!(wanted.is_empty());
}

#[test]
fn touches_are_announced_once_per_interval() {
    let (_store, context) = store(1, limits());
    set(&context, "s", "x", b"1", at(0)).unwrap();
    let touched = |second| {
        let mut handle = context.begin(b"s", at(second));
        let touch = Changes { touch: true, ..Changes::default() };
        context.commit(&mut handle, &touch, at(second), &mut |_| {}).unwrap().status == CommitStatus::Changed
    };
    assert_eq!((1..=11).filter(|s| touched(*s)).collect::<Vec<_>>(), [5, 10]);
    assert!(context.begin(b"s", at(11) + IDLE).exists(), "accesses count that were not announced");
}

#[test]
fn the_writer_hides_an_idle_session_at_once_and_others_after_the_grace() {
    let (_store, a) = store(1, limits());
    let (_, b) = second();
    merge(&b, &set(&a, "s", "x", b"1", at(0)).unwrap()[0], at(0)).unwrap();
    let late = IDLE + Duration::from_millis(1);
    assert!(a.read(b"s", b"x", IDLE).is_some() && a.read(b"s", b"x", late).is_none());
    assert!(b.read(b"s", b"x", late + at(9)).is_some() && b.read(b"s", b"x", late + at(10)).is_none());
}

#[test]
fn threads_that_race_on_one_name_leave_a_store_in_order() {
    let (store, context) = store(1, limits());
    let (other_store, other) = second();
    let all: Vec<FrameOut> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker: u64| {
                let context = &context;
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(worker);
                    let mut frames = Vec::new();
                    for n in 0..less(2000, 40) {
                        let id = ["s", "t"][rng.usize(..2)];
                        let now = at(n / 100);
                        match rng.usize(..8) {
                            0 => {
                                context.invalidate(id.as_bytes(), now, &mut |e| frames.push(e.frame));
                            }
                            1 => {
                                let mut handle = context.begin(id.as_bytes(), now);
                                let new_id = Some(Slice::copy_from(["s", "t", "u"][rng.usize(..3)].as_bytes()));
                                let changes = Changes { new_id, ..Changes::default() };
                                context.commit(&mut handle, &changes, now, &mut |e| frames.push(e.frame)).unwrap();
                            }
                            2 => _ = context.read(id.as_bytes(), b"x", now),
                            _ => frames.extend(set(context, id, "x", &[1; 40], now).unwrap()),
                        }
                    }
                    frames
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    assert_exact(&store);
    for frame in &all {
        merge(&other, frame, at(20)).unwrap();
    }
    assert_exact(&other_store);
    let lattice = |context: &Context| {
        context.dump().into_iter().map(|(uid, d)| (uid, d.dead, d.top, d.exp, d.attrs)).collect::<Vec<_>>()
    };
    assert_eq!(lattice(&context), lattice(&other), "what was emitted says all that was done");
    for id in [b"s", b"t", b"u"] {
        for uid in context.names.uids(id) {
            assert!(context.holds(uid), "the index leads to what is held");
        }
    }
}

#[test]
fn a_create_and_a_kill_by_name_racing_never_leave_both() {
    for round in 0..less(300, 6) {
        let (_store, context) = store(round + 1, limits());
        let mut handle = context.begin(b"s", at(0));
        context.create(&mut handle);
        let barrier = std::sync::Barrier::new(2);
        let (status, killed) = std::thread::scope(|scope| {
            let commit = scope.spawn(|| {
                barrier.wait();
                context.commit(&mut handle, &write("x", b"1"), at(0), &mut |_| {}).unwrap().status
            });
            barrier.wait();
            let killed = context.invalidate(b"s", at(0), &mut |_| {});
            (commit.join().unwrap(), killed)
        });
        assert_eq!(killed, 1, "pending or live, the kill finds it");
        assert!(!context.begin(b"s", at(0)).exists(), "whoever was first, after {status:?} it is gone");
    }
}

#[test]
fn digests_agree_exactly_where_readers_see_the_same() {
    let (_one, a) = store(1, limits());
    let (_other, b) = store(2, limits());
    let frames: Vec<FrameOut> = (0..50).flat_map(|i| set(&a, &format!("s{i}"), "x", &[i], at(0)).unwrap()).collect();
    for frame in frames.iter().rev() {
        merge(&b, frame, at(0)).unwrap();
    }
    assert_eq!(a.digest(), b.digest(), "order and tables do not matter");

    set(&a, "s7", "x", b"new", at(1)).unwrap();
    let buckets = a.digest().differs(&b.digest());
    let [uid] = *a.begin(b"s7", at(1)).uids() else { panic!("one session") };
    assert_eq!(buckets.len(), 1);
    assert!(buckets.contains(uid));
}

/// Every session that two stores bring each other until each was told what it lacks, by the rule of comparisons: one lists
/// what it holds of the buckets that differ, the other in what it differs.
fn compare(a: &Arc<Context>, b: &Arc<Context>, now: Time) -> Vec<Uid> {
    let buckets = a.digest().differs(&b.digest());
    let mut list: Vec<_> =
        (0..SHARDS).filter_map(|shard| b.list(shard, &buckets, usize::MAX)).flat_map(|(_, list)| list).collect();
    let (mut sent, mut waiting) = (Vec::new(), Vec::new());
    for (from, to, all) in [(a, b, true), (b, a, false)] {
        let (mut uids, mut answer) = (Vec::new(), Vec::new());
        from.differing(&buckets, std::mem::take(&mut list), all, |differs| match differs {
            Differs::Dead(uid) => uids.push(uid),
            Differs::Here(mine) | Differs::First(mine) => {
                uids.push(mine.uid);
                answer.push(mine);
            }
            Differs::Later(mine, theirs) => {
                assert_eq!(from.lacks(&theirs), None, "it is told first");
                waiting.push((from, to, theirs));
                answer.push(mine);
            }
            Differs::There(theirs) => answer.push(wire::Entry { top: 0, fingerprint: 0, ..theirs }),
        });
        list = answer;
        for uid in uids {
            sent.push((from, to, uid));
        }
    }
    for (from, to, uid) in &sent {
        merge(to, &from.present(*uid, 0, now).unwrap(), now).unwrap();
    }
    for (from, to, theirs) in waiting {
        if from.lacks(&theirs).unwrap() {
            sent.push((from, to, theirs.uid));
            merge(to, &from.present(theirs.uid, 0, now).unwrap(), now).unwrap();
        }
    }
    sent.into_iter().map(|(_, _, uid)| uid).collect()
}

#[test]
fn comparing_brings_what_differs_both_ways_and_nothing_else() {
    let (_one, a) = store(1, limits());
    let (_other, b) = store(2, limits());
    for i in 0..200 {
        for frame in set(&a, &format!("s{i}"), "x", b"1", at(0)).unwrap() {
            merge(&b, &frame, at(0)).unwrap();
        }
    }
    let uid = |context: &Arc<Context>, id: &str| context.begin(id.as_bytes(), at(1)).uids()[0];
    // Written on one side; on the other; on both, each something else; made on one side; ended on one side.
    set(&a, "s1", "x", b"2", at(1)).unwrap();
    set(&b, "s2", "x", b"2", at(1)).unwrap();
    set(&a, "s3", "left", b"2", at(1)).unwrap();
    set(&b, "s3", "right", b"2", at(1)).unwrap();
    set(&b, "s3", "right", b"3", at(1)).unwrap();
    set(&b, "new", "x", b"2", at(1)).unwrap();
    let touch = Changes { touch: true, touch_now: true, ..Changes::default() };
    a.commit(&mut a.begin(b"s5", at(1)), &touch, at(1), &mut |_| {}).unwrap();
    let dead = uid(&a, "s4");
    assert_eq!(a.invalidate(b"s4", at(1), &mut |_| {}), 1);

    let mut sent = compare(&a, &b, at(2));
    sent.sort_unstable();
    // The side with the later version of what both wrote speaks first, and is answered.
    let mut expected =
        vec![uid(&a, "s1"), uid(&b, "s2"), uid(&a, "s3"), uid(&a, "s3"), uid(&b, "new"), dead, uid(&a, "s5")];
    expected.sort_unstable();
    assert_eq!(sent, expected);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.dump(), b.dump());
    for context in [&a, &b] {
        assert_eq!(context.digest(), context.digest_again());
        assert_eq!(context.read(b"s3", b"left", at(2)).unwrap().1.as_bytes(), b"2");
        assert_eq!(context.read(b"s3", b"right", at(2)).unwrap().1.as_bytes(), b"3");
    }
    assert_eq!(compare(&a, &b, at(3)), []);
}

#[test]
fn a_list_in_pieces_is_of_all_its_buckets() {
    let (_one, a) = store(1, limits());
    for i in 0..3000 {
        set(&a, &format!("s{i}"), "x", b"1", at(0)).unwrap();
    }
    let all = Buckets::new([u64::MAX; BUCKETS / 64]);
    let (mut rest, mut listed) = (all, Vec::new());
    for shard in 0..SHARDS {
        while let Some((covered, mut list)) = a.list(shard, &rest, 10) {
            assert!(!covered.is_empty() && list.iter().all(|entry| covered.contains(entry.uid)));
            rest = rest.without(&covered);
            listed.append(&mut list);
        }
    }
    assert!(rest.is_empty());
    listed.sort_unstable_by_key(|entry| entry.uid);
    listed.dedup_by_key(|entry| entry.uid);
    assert_eq!(listed.len(), 3000);
}

#[test]
fn what_is_remembered_of_the_dead_ends_where_a_tombstone_was_forgotten() {
    let (_one, a) = store(1, Limits { tombstones_max: 2, ..limits() });
    let horizon = Duration::from_millis(u64::try_from(a.spans.horizon).unwrap());
    assert_eq!(a.remembers(horizon * 2), horizon);
    for (i, id) in ["s1", "s2", "s3"].into_iter().enumerate() {
        set(&a, id, "x", b"1", at(0)).unwrap();
        a.invalidate(id.as_bytes(), at(100 * (i as u64 + 1)), &mut |_| {});
    }
    assert_eq!(a.remembers(at(400)), at(300), "the first one is not known any more");
    assert_eq!(a.dead().len(), 2);
}

#[test]
fn a_record_that_is_served_again_says_so_with_a_version() {
    let (_one, a) = store(1, limits());
    let (_other, b) = store(2, limits());
    let created = set(&a, "s", "x", b"1", at(0)).unwrap();
    merge(&b, &created[0], at(0)).unwrap();
    set(&a, "s", "x", b"lost on the way", at(1)).unwrap();
    let last = set(&a, "s", "y", b"2", at(2)).unwrap();
    assert!(merge(&b, &last[0], at(2)).unwrap().partial);
    let [(uid, before)] = &b.dump()[..] else { panic!("one session") };
    assert!(b.lift(*uid, at(3)));
    let after = b.dump_of(*uid).unwrap();
    assert!(!after.partial);
    assert!(after.top > before.top);
}

#[test]
fn only_a_record_that_another_request_reads_is_copied_for_a_write() {
    let (_store, context) = store(1, limits());
    set(&context, "s", "x", b"1", at(0)).unwrap();
    let place = |uid| Arc::as_ptr(context.cell(uid).lock.read().records.get(uid).unwrap());
    let mut alone = context.begin(b"s", at(1));
    let uid = alone.uids()[0];
    let before = place(uid);
    context.commit(&mut alone, &write("x", b"2"), at(1), &mut |_| {}).unwrap();
    assert_eq!(place(uid), before);

    let reader = context.begin(b"s", at(2));
    let mut writer = context.begin(b"s", at(2));
    context.commit(&mut writer, &write("x", b"3"), at(2), &mut |_| {}).unwrap();
    assert_ne!(place(uid), before);
    assert_eq!(reader.get(b"x").unwrap().as_bytes(), b"2");
    assert_eq!(context.read(b"s", b"x", at(2)).unwrap().1.as_bytes(), b"3");
}
