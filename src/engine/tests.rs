//! What the control loop does with inputs, seen in its actions and in the queues.

use std::sync::Arc;

use super::*;
use crate::buffer::Slice;
use crate::engine::peer::Reach;
use crate::id::{AckLevel, MemberId, NodeState, Time, Uid, Version};
use crate::proto::link::Identity;
use crate::proto::op::MissingReason;
use crate::proto::outbound::{Drain, Gather};
use crate::session::{BUCKETS, Changes, Digest, Limits, Settings};
use crate::wire::{self, Decoder, Kind, Listing};

mod absence;
mod compare;
mod donation;
mod pressure;
mod suspects;

const MS: Time = Time::from_millis(1);
const OTHER: MemberId = MemberId(2);

struct Node {
    core: Arc<Core<()>>,
    control: Control<()>,
    fx: Effects<()>,
    now: Time,
    /// Frames on the lane that the other member has answered for.
    acked: u64,
    /// How long others remember their dead.
    remembers_ms: u64,
}

fn addr(n: u8) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, n], 4700))
}

impl Node {
    fn new(lanes: usize) -> Self {
        Self::patient(lanes, Time::from_secs(3600))
    }

    /// A node with this drop time.
    fn patient(lanes: usize, drop_time: Time) -> Self {
        Self::with(lanes, drop_time, 4, 1000 * MS)
    }

    fn with(lanes: usize, drop_time: Time, contexts_max: usize, queue_wait: Time) -> Self {
        let identity = Identity {
            member: MemberId(1),
            cluster: wire::cluster_tag("t"),
            name: String::from("one"),
            addr: addr(1),
            versions: wire::PROTOCOL,
        };
        let core = Arc::new(Core::new(CoreSettings {
            identity,
            lanes,
            limits: Limits {
                value_bytes_max: 1 << 16,
                session_bytes_max: 1 << 16,
                store_bytes_max: 1 << 24,
                tombstones_max: 100,
                contexts_max,
            },
            sessions: Settings {
                max_idle: Time::from_secs(1800),
                idle_grace: Time::from_secs(60),
                touch_interval: Time::from_secs(5),
                horizon: Time::from_secs(3600),
            },
            high_water: 1 << 20,
            low_water: 1 << 19,
            queue_bytes_max: 1 << 21,
            event_queue: 64,
            session_events: false,
            seed: 1,
        }));
        let settings = ControlSettings {
            frequency: 100 * MS,
            drop_time,
            verify_timeout: 100 * MS,
            state_transfer_timeout: Time::from_secs(60),
            partition_max: Time::from_secs(1800),
            queue_wait,
            members_max: 8,
            seed: 1,
        };
        let control = Control::new(Arc::clone(&core), settings, Box::new(|_, _| ()), Time::ZERO);
        Self { core, control, fx: Effects::default(), now: Time::ZERO, acked: 0, remembers_ms: 10_000 }
    }

    fn post(&mut self, input: Input) -> &mut Self {
        self.core.inputs().post(input);
        self.control.handle_inputs(self.now, &mut self.fx);
        self
    }

    fn wait(&mut self, ms: u32) -> &mut Self {
        self.now += ms * MS;
        self.control.handle_timeout(self.now, &mut self.fx);
        self
    }

    /// It has nothing to do at once.
    fn is_idle(&mut self) {
        self.control.handle_inputs(self.now, &mut self.fx);
        self.wait(0).wait(0);
        assert!(self.control.poll_timeout().is_none_or(|due| due > self.now), "it would turn and turn");
    }

    fn hello(&mut self, state: NodeState) -> &mut Self {
        self.post(Input::Hello { member: OTHER, name: String::from("two"), addr: addr(2), state })
    }

    fn open(&mut self, lane: usize, state: NodeState) -> &mut Self {
        if let Some(peer) = self.core.peer(OTHER) {
            peer.set_state(state);
        }
        self.post(Input::LaneOpen { member: OTHER, name: String::from("two"), state, lane })
    }

    /// A list of nothing in all buckets.
    fn listing(&self) -> Listing {
        Listing {
            context: b"app".to_vec(),
            round: self.core.rounds(),
            answer: false,
            last: true,
            differ: 1,
            remembers_ms: self.remembers_ms,
            met: u64::MAX,
            buckets: [u64::MAX; BUCKETS / 64],
            entries: Vec::new(),
        }
    }

    /// The other member lists that it holds nothing.
    fn lists_nothing(&mut self) -> &mut Self {
        let listing = self.listing();
        self.post(Input::Listing(OTHER, Box::new(listing)))
    }

    /// Lanes that the shell is told to dial.
    fn dials(&mut self) -> Vec<usize> {
        std::iter::from_fn(|| self.control.poll_action())
            .filter_map(|action| match action {
                Action::Dial(lane) => Some(lane.lane),
                Action::Ping(_) | Action::Probe { .. } | Action::Cut(_) | Action::Close(_) => None,
            })
            .collect()
    }

    /// Kinds of the frames queued to the other member.
    fn queued(&mut self, lane: usize) -> Vec<Kind> {
        let peer = self.core.peer(OTHER).unwrap();
        let mut gather = Gather::default();
        let mut decoder = Decoder::new(1 << 20);
        decoder.authenticated();
        peer.with_lane(lane, |out| {
            out.close();
            let _in_flight = out.take_unacked();
            out.open(Vec::new());
            if out.begin_drain() {
                out.gather(&mut gather, usize::MAX, 1000);
                let _drain = out.wrote(&gather, gather.len, false, &mut self.fx.wakes);
            }
        });
        for part in &gather.parts {
            decoder.feed(part);
        }
        std::iter::from_fn(|| decoder.next().unwrap()).map(|frame| frame.kind).collect()
    }

    fn commit(&mut self, id: &[u8]) {
        self.write(id, b"");
    }

    /// A change that a caller waits for.
    fn ask(&mut self, id: &[u8]) -> Arc<crate::proto::op::Op> {
        self.end(id, b"", Send::Acked(AckLevel::Applied)).unwrap()
    }

    /// Writes what is queued to the other member, which answers for all that it was sent.
    fn settle(&mut self) -> &mut Self {
        let peer = self.core.peer(OTHER).unwrap();
        self.flush();
        peer.with_lane(0, |out| {
            let settled = self.acked + out.in_flight() as u64;
            let ack = wire::Ack { received: settled, applied: settled, ..wire::Ack::default() };
            out.ack(&ack, &mut self.fx.wakes).unwrap();
            self.acked = settled;
        });
        self
    }

    /// The connection takes so much.
    fn takes(&mut self, bytes: usize) {
        let peer = self.core.peer(OTHER).unwrap();
        let mut gather = Gather::default();
        let taken = peer.with_lane(0, |out| {
            if !out.begin_drain() {
                return 0;
            }
            out.gather(&mut gather, bytes, 1000);
            let taken = gather.len.min(bytes);
            if out.wrote(&gather, taken, false, &mut self.fx.wakes) == Drain::More {
                out.yield_drain(&gather);
            }
            taken
        });
        if peer.note_taken(taken) {
            self.post(Input::Pressed(OTHER));
        }
    }

    /// Writes what is queued to the other member.
    fn flush(&mut self) {
        let mut gather = Gather::default();
        self.core.peer(OTHER).unwrap().with_lane(0, |out| {
            if out.begin_drain() {
                out.gather(&mut gather, usize::MAX, 1000);
                let _drain = out.wrote(&gather, gather.len, false, &mut self.fx.wakes);
            }
        });
    }

    fn write(&mut self, id: &[u8], value: &[u8]) {
        self.end(id, value, Send::Queued);
    }

    fn end(&mut self, id: &[u8], value: &[u8], send: Send) -> Option<Arc<crate::proto::op::Op>> {
        let context = self.core.store().context(b"app").unwrap();
        let mut handle = context.begin(id, self.now);
        context.create(&mut handle);
        let mut changes = Changes { touch: true, ..Changes::default() };
        changes.writes.push((b"value".as_slice().into(), Some(Slice::copy_from(value))));
        self.core.commit(&context, &mut handle, &changes, send, self.now, &mut self.fx).unwrap().op
    }
}

/// Ids that the node holds.
fn held(node: &Node) -> Vec<&'static str> {
    let context = node.core.store().context(b"app").unwrap();
    let there = |id: &&str| context.begin(id.as_bytes(), node.now).exists();
    ["before", "used", "since"].into_iter().filter(there).collect()
}
