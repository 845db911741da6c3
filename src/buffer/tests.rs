//! What buffers and slices promise: sharing without copies, exact sizes, and disjoint views of one block.

use std::collections::HashMap;

use super::{Buf, Slice};

#[test]
fn empty_slice_allocates_nothing() {
    let empty = Slice::empty();
    assert_eq!(empty.as_bytes(), b"");
    let copy = empty.clone();
    assert_eq!((empty.allocated(), copy.allocated()), (0, 0));
    assert_eq!(Slice::copy_from(b"").allocated(), 0);
    assert_eq!(Slice::from_vec(Vec::new()).allocated(), 0);
    assert_eq!(Buf::new().freeze().allocated(), 0);
}

#[test]
fn copy_is_exactly_sized_and_aligned() {
    for len in [1, 15, 16, 17, 1000] {
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        let slice = Slice::copy_from(&bytes);
        assert_eq!(slice.as_bytes(), bytes);
        assert_eq!(slice.allocated(), 16 + len);
        assert_eq!(slice.as_ptr() as usize % 16, 0);
    }
}

#[test]
fn vector_is_taken_over_without_a_copy() {
    let vec = b"a vector of the application".to_vec();
    let address = vec.as_ptr();
    let slice = Slice::from_vec(vec);
    assert_eq!(slice.as_ptr(), address);
    assert_eq!(&slice[2..8], b"vector");
    let part = slice.slice(2..8);
    drop(slice);
    assert_eq!(part.as_bytes(), b"vector");
}

#[test]
fn parts_share_the_allocation() {
    let whole = Slice::copy_from(b"0123456789");
    let part = whole.slice(2..7).slice(1..3);
    assert_eq!(part.as_bytes(), b"34");
    assert_eq!(part.as_ptr(), whole[3..].as_ptr());
    assert_eq!(part.allocated(), whole.allocated());
    assert_eq!(whole.slice(4..4).allocated(), 0);
}

#[test]
#[should_panic(expected = "range 3..11 of a slice of 10 bytes")]
fn part_beyond_the_end_panics() {
    let _ = Slice::copy_from(b"0123456789").slice(3..11);
}

#[test]
fn slices_compare_and_hash_as_bytes() {
    let mut map = HashMap::new();
    map.insert(Slice::copy_from(b"key"), 1);
    assert_eq!(map.get(b"key".as_slice()), Some(&1));
    assert!(Slice::copy_from(b"a") < Slice::from_vec(b"b".to_vec()));
    assert_eq!(format!("{:?}", Slice::copy_from(&[b'x'; 40])), format!("b\"{}\"..40 bytes", "x".repeat(32)));
}

#[test]
fn buffer_grows_and_keeps_its_bytes() {
    let mut buf = Buf::with_capacity(10);
    let mut model = Vec::new();
    for i in 0..200u16 {
        let bytes = [i.to_le_bytes(); 8].concat();
        buf.extend_from_slice(&bytes);
        model.extend_from_slice(&bytes);
    }
    assert_eq!(buf.as_bytes(), model);
    assert_eq!(buf.as_bytes().as_ptr() as usize % 16, 0);
    buf.as_mut_bytes()[0] = 9;
    model[0] = 9;
    assert_eq!(buf.freeze().as_bytes(), model);
}

#[test]
fn resize_zeroes_what_is_new_in_a_used_block() {
    let mut buf = Buf::with_capacity(100);
    buf.extend_from_slice(&[7; 100]);
    buf.resize(3);
    buf.resize(50);
    assert_eq!(&buf.as_bytes()[..5], &[7, 7, 7, 0, 0]);
    assert!(buf.as_bytes()[3..].iter().all(|b| *b == 0));
}

#[test]
fn split_slices_live_beside_the_writer() {
    let mut buf = Buf::with_capacity(64);
    buf.extend_from_slice(b"firstsecond");
    let first = buf.split_to(5);
    buf.extend_from_slice(b" and more");
    let second = buf.split_to(6);
    buf.spare()[0] = b'!';
    buf.advance(1);
    assert_eq!(first.as_bytes(), b"first");
    assert_eq!(second.as_bytes(), b"second");
    assert_eq!(buf.as_bytes(), b" and more!");
    assert_eq!(second.as_ptr(), first.as_ptr().wrapping_add(5));
    buf.consume(5);
    assert_eq!(buf.freeze().as_bytes(), b"more!");
}

#[test]
fn block_is_reclaimed_only_when_nobody_reads_it() {
    let mut buf = Buf::with_capacity(64);
    let capacity = buf.capacity();
    buf.extend_from_slice(b"frame-rest");
    let frame = buf.split_to(6);
    assert!(!buf.reclaim());
    assert_eq!(buf.capacity(), capacity - 6);
    drop(frame);
    assert!(buf.reclaim());
    assert_eq!(buf.capacity(), capacity);
    assert_eq!(buf.as_bytes(), b"rest");
}

#[test]
fn empty_buffer_is_never_reclaimed_but_grows() {
    let mut buf = Buf::new();
    assert!(!buf.reclaim());
    assert_eq!((buf.capacity(), buf.spare().len()), (0, 0));
    buf.extend_from_slice(b"x");
    assert_eq!(buf.as_bytes(), b"x");
}

#[test]
fn copies_of_any_length_are_equal_and_waste_little() {
    for len in [0, 1, 17, 1007, 1008, 1009, 1024, 1135, 1136, 1137, 4079, 4080, 4081] {
        let bytes: Vec<u8> = (0..len).map(|i: usize| i.to_le_bytes()[0]).collect();
        let copy = Slice::copy_from(&bytes);
        assert_eq!(copy.as_bytes(), bytes);
        assert!(copy.allocated() < 16 + len + 128, "{len} bytes in {}", copy.allocated());
    }
}

#[test]
fn exact_buffer_is_exact() {
    for capacity in [0, 77, 300_000] {
        assert_eq!(Buf::exact(capacity).capacity(), capacity);
    }
    let mut buf = Buf::exact(77);
    buf.resize(77);
    assert_eq!(buf.freeze().allocated(), 16 + 77);
}

#[test]
fn slices_may_be_dropped_on_other_threads() {
    let mut buf = Buf::with_capacity(1 << 10);
    buf.resize(1 << 10);
    let slices: Vec<Slice> = (0..4).map(|_| buf.split_to(256)).collect();
    drop(buf);
    std::thread::scope(|scope| {
        for slice in slices {
            scope.spawn(move || {
                let copies: Vec<Slice> = (0..50).map(|i| slice.slice(i..256)).collect();
                assert_eq!(copies.iter().map(|s| s.len()).sum::<usize>(), (207..=256).sum::<usize>());
            });
        }
    });
}

#[test]
fn composed_slices_hold_what_was_written_each_aligned_and_apart() {
    let sizes = [0, 1, 15, 16, 17, 300, 2000, 5000, 3, 1999];
    let slices: Vec<Slice> = (0..60_usize)
        .map(|n| {
            let len = sizes[n % sizes.len()];
            Buf::compose(len + 32, |spare| {
                assert!(spare.len() >= len + 32);
                spare[..len].fill(u8::try_from(n).unwrap());
                len
            })
        })
        .collect();
    for (n, slice) in slices.iter().enumerate() {
        assert_eq!(slice.len(), sizes[n % sizes.len()]);
        assert!(slice.is_empty() || slice.as_ptr().addr() % 16 == 0);
        assert!(slice.iter().all(|b| usize::from(*b) == n));
    }
}

#[test]
fn a_value_that_replaces_another_takes_its_block_on_the_same_thread() {
    let first = Slice::copy_from(&[1; 2000]);
    let place = first.as_ptr();
    drop(first);
    assert_eq!(Slice::copy_from(&[2; 2000]).as_ptr(), place);
}
