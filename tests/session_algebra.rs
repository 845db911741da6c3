//! Merging is a join: over states that members really reach, exchanging the frames that they really send.
//!
//! Members run random operations and lose, repeat and reorder each other's frames. Their states, as present states on the
//! wire, must then merge commutatively, associatively and idempotently, and any order of all frames must give one result.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on should stop")]

mod stores;

use std::collections::BTreeMap;

use hotspare::id::{Time, Uid, Version};
use hotspare::session::{AttrDump, Changes, Handle};
use hotspare::wire::FrameOut;
use proptest::prelude::*;
use stores::*;

const MEMBERS: usize = 3;
const IDS: [&str; 3] = ["s", "t", "u"];
const NAMES: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Debug)]
enum Op {
    Begin {
        member: usize,
        id: usize,
    },
    /// Ends the request begun last on the member, or one begun and ended now.
    Set {
        member: usize,
        id: usize,
        name: usize,
        held: bool,
    },
    Remove {
        member: usize,
        id: usize,
        name: usize,
    },
    Full {
        member: usize,
        id: usize,
        keep: usize,
    },
    Touch {
        member: usize,
        id: usize,
    },
    Idle {
        member: usize,
        id: usize,
        seconds: u64,
    },
    Rename {
        member: usize,
        id: usize,
        to: usize,
    },
    Kill {
        member: usize,
        id: usize,
    },
    Expire {
        member: usize,
        whole: bool,
    },
    Rescue {
        member: usize,
    },
    Deliver {
        frame: usize,
        member: usize,
    },
    Snapshot {
        from: usize,
        to: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (member, id, name) = (0..MEMBERS, 0..IDS.len(), 0..NAMES.len());
    let who = (member.clone(), id.clone());
    prop_oneof![
        2 => who.clone().prop_map(|(member, id)| Op::Begin { member, id }),
        6 => (who.clone(), name.clone(), any::<bool>())
            .prop_map(|((member, id), name, held)| Op::Set { member, id, name, held }),
        2 => (who.clone(), name.clone()).prop_map(|((member, id), name)| Op::Remove { member, id, name }),
        2 => (who.clone(), name).prop_map(|((member, id), keep)| Op::Full { member, id, keep }),
        2 => who.clone().prop_map(|(member, id)| Op::Touch { member, id }),
        1 => (who.clone(), 20u64..40).prop_map(|((member, id), seconds)| Op::Idle { member, id, seconds }),
        2 => (who.clone(), id).prop_map(|((member, id), to)| Op::Rename { member, id, to }),
        2 => who.prop_map(|(member, id)| Op::Kill { member, id }),
        1 => (member.clone(), any::<bool>()).prop_map(|(member, whole)| Op::Expire { member, whole }),
        1 => member.clone().prop_map(|member| Op::Rescue { member }),
        12 => (any::<usize>(), member.clone()).prop_map(|(frame, member)| Op::Deliver { frame, member }),
        1 => (member.clone(), member).prop_map(|(from, to)| Op::Snapshot { from, to }),
    ]
}

/// Members, what they sent so far, and the requests that they have open.
struct World {
    members: Vec<Member>,
    frames: Vec<FrameOut>,
    open: Vec<Option<Handle>>,
    now: Time,
}

impl World {
    fn run(ops: &[Op]) -> Self {
        let members = (1..).take(MEMBERS).map(Member::new).collect();
        let mut world = Self { members, frames: Vec::new(), open: vec![None; MEMBERS], now: at(0) };
        for op in ops {
            world.step(op);
        }
        assert!(world.now < HORIZON, "ages stay below the horizon: forgetting is no part of the lattice");
        world
    }

    fn step(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Begin { member, id } => {
                let mut handle = self.members[member].begin(IDS[id], now);
                self.members[member].context.create(&mut handle);
                self.open[member] = Some(handle);
            }
            Op::Set { member, id, name, held } => {
                let handle = self.open[member].take().filter(|_| held);
                let handle = handle.unwrap_or_else(|| self.members[member].create(IDS[id], now));
                let value = format!("{member}.{}", self.frames.len());
                self.end(member, &handle, &write(NAMES[name], Some(&value)));
            }
            Op::Remove { member, id, name } => self.request(member, id, &write(NAMES[name], None)),
            Op::Full { member, id, keep } => {
                let value = format!("{member}.{}", self.frames.len());
                self.request(member, id, &full(&[(NAMES[keep], &value)]));
            }
            Op::Touch { member, id } => self.request(member, id, &touch_now()),
            Op::Idle { member, id, seconds } => {
                self.request(member, id, &Changes { max_idle: Some(at(seconds)), ..Changes::default() });
            }
            Op::Rename { member, id, to } => {
                self.request(member, id, &Changes { new_id: Some(slice(IDS[to])), ..Changes::default() });
            }
            Op::Kill { member, id } => {
                let killed = self.members[member].kill(IDS[id], now);
                self.frames.extend(killed);
            }
            Op::Expire { member, whole } => {
                // Not further than the horizon allows: sums of ages must stay below it.
                if self.now + IDLE + GRACE < HORIZON / 2 {
                    self.now += IDLE + GRACE;
                }
                let expired = self.members[member].sweep(self.now, whole.then_some(GRACE));
                self.frames.extend(expired);
            }
            Op::Rescue { member } => {
                for (uid, _) in self.members[member].dump() {
                    self.members[member].context.rescue(uid, now, &mut |e| self.frames.push(e.frame));
                }
            }
            Op::Deliver { frame, member } => {
                if !self.frames.is_empty() {
                    self.members[member].merge(&self.frames[frame % self.frames.len()], now);
                }
            }
            Op::Snapshot { from, to } => self.members[to].merge_all(&self.members[from].snapshot(now), now),
        }
        self.now += at(1);
    }

    fn request(&mut self, member: usize, id: usize, changes: &Changes) {
        let handle = self.members[member].begin(IDS[id], self.now);
        self.end(member, &handle, changes);
    }

    fn end(&mut self, member: usize, handle: &Handle, changes: &Changes) {
        let frames = self.members[member].commit(handle, changes, self.now).1;
        self.frames.extend(frames);
    }

    /// A new member that merged these lists, one after the other.
    fn join(&self, lists: &[&[FrameOut]]) -> Member {
        let member = Member::new(99);
        for list in lists {
            member.merge_all(list, self.now);
        }
        member
    }
}

type Lattice = BTreeMap<Uid, (bool, Version, Version, Vec<AttrDump>)>;

/// What merging decides, without what is local (being partial, ages).
fn lattice(member: &Member) -> Lattice {
    member.dump().into_iter().map(|(uid, d)| (uid, (d.dead, d.top, d.exp, d.attrs))).collect()
}

fn shuffled(frames: &[FrameOut], seed: u64) -> Vec<FrameOut> {
    let mut frames = frames.to_vec();
    fastrand::Rng::with_seed(seed).shuffle(&mut frames);
    frames
}

proptest! {
    #[test]
    fn states_merge_as_a_join(ops in prop::collection::vec(op(), 1..80)) {
        let world = World::run(&ops);
        let now = world.now;
        let states: Vec<_> = world.members.iter().map(|m| m.snapshot(now)).collect();
        let [a, b, c] = [&states[0][..], &states[1][..], &states[2][..]];

        prop_assert_eq!(lattice(&world.join(&[a])), lattice(&world.members[0]), "a present state says all");
        prop_assert_eq!(world.join(&[a, a]).dump(), world.join(&[a]).dump(), "idempotent");
        prop_assert_eq!(lattice(&world.join(&[a, b])), lattice(&world.join(&[b, a])), "commutative");
        let (ab, bc) = (world.join(&[a, b]).snapshot(now), world.join(&[b, c]).snapshot(now));
        prop_assert_eq!(lattice(&world.join(&[&ab, c])), lattice(&world.join(&[a, &bc])), "associative");
    }

    #[test]
    fn every_order_of_all_frames_gives_one_result(ops in prop::collection::vec(op(), 1..80), seed: u64) {
        let world = World::run(&ops);
        let (one, other) = (shuffled(&world.frames, seed), shuffled(&world.frames, !seed));
        let once = world.join(&[&one]);
        prop_assert_eq!(lattice(&once), lattice(&world.join(&[&other])));
        prop_assert_eq!(lattice(&once), lattice(&world.join(&[&one, &other])), "repeated");
        // No member knows anything that its frames did not say: with a present state on top nothing changes.
        for member in &world.members {
            once.merge_all(&member.snapshot(world.now), world.now);
        }
        prop_assert_eq!(lattice(&once), lattice(&world.join(&[&one])));
    }

    #[test]
    fn members_that_exchange_all_they_hold_agree_and_read_alike(ops in prop::collection::vec(op(), 1..80)) {
        let world = World::run(&ops);
        for _ in 0..2 {
            for from in &world.members {
                let state = from.snapshot(world.now);
                for to in &world.members {
                    to.merge_all(&state, world.now);
                }
            }
        }
        let first = &world.members[0];
        for member in &world.members {
            prop_assert_eq!(lattice(member), lattice(first));
            prop_assert_eq!(member.store.tombstones(), first.store.tombstones());
            // Whoever is whole has all that there is, so all who show a session show the same.
            for id in IDS {
                let (mine, others) = (member.begin(id, world.now), first.begin(id, world.now));
                if mine.uids() == others.uids() {
                    prop_assert_eq!(member.all(id, world.now), first.all(id, world.now));
                }
            }
        }
    }

    #[test]
    fn nothing_dead_is_ever_read_again(ops in prop::collection::vec(op(), 1..80)) {
        let world = World::run(&ops);
        let dead: Vec<Uid> = world.members[0].dump().into_iter().filter(|(_, d)| d.dead).map(|(uid, _)| uid).collect();
        for frame in &world.frames {
            world.members[0].merge(frame, world.now);
        }
        for id in IDS {
            let handle = world.members[0].begin(id, world.now);
            prop_assert!(handle.uids().iter().all(|uid| !dead.contains(uid)));
        }
    }
}
