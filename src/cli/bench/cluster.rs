//! The measured side: nodes of this library, each in a process of its own, in a group that nobody else uses.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{AckFlag, Load, ModeFlag, STAMP, stamp_of};
use super::measure::{self, Caller};
use super::process::{ProcessArgs, Receiver, Receivers, answer};
use super::report::Figures;
use crate::config::Config;
use crate::id::NodeState;
use crate::node::{Context, Node, Status, Ticket};
use crate::stats::Stats;

/// Runs a node until standard input ends.
pub(super) fn receive(args: &ProcessArgs) -> Result<(), String> {
    let held = start(args, "receiver")?;
    let sessions = (0..args.load.session_count()).map(id).collect();
    answer(&Held { node: held.0, context: held.1, sessions }, "")
}

/// Runs a node that updates sessions, and measures.
pub(super) fn send(args: &ProcessArgs) -> Result<Figures, String> {
    let load = &args.load;
    let mut receivers = Receivers::start(args)?;
    let (node, context) = start(args, "sender")?;
    wait_for_all(&node, load.peers.get() + 1)?;

    let mut callers: Vec<Updates<'_>> =
        (0..load.threads.get()).map(|thread| Updates::new(&context, load, thread)).collect();
    // Every session is made and sent before anything is measured. The receivers' counts start here.
    receivers.settle(0)?;
    for caller in &mut callers {
        for slot in 0..caller.slots() {
            caller.make(slot)?;
        }
    }
    receivers.settle(load.session_count() as u64)?;
    let mut figures = measure::measure(load, &mut callers, &mut receivers, || syscalls(&node.stats()))?;

    let mut newest = vec![0; load.session_count()];
    for (thread, caller) in callers.iter().enumerate() {
        for (session, payload) in load.sessions_of(thread).zip(caller.memory.chunks_exact(load.size)) {
            newest[session] = stamp_of(payload);
        }
    }
    figures.lost = figures.lost.max(measure::count(receivers.stale(&newest)?));
    drop(callers);
    node.close();
    Ok(figures)
}

fn start(args: &ProcessArgs, name: &str) -> Result<(Node, Context), String> {
    let node = Node::start(config(args, name)).map_err(|e| format!("a node did not start: {e:?}"))?;
    node.wait_ready(READY).map_err(|e| format!("a node did not become ready: {e:?}"))?;
    let context = node.context("bench").map_err(|e| format!("no context: {e:?}"))?;
    Ok((node, context))
}

fn config(args: &ProcessArgs, name: &str) -> Config {
    let load = &args.load;
    let mut config = Config {
        name: String::from(name),
        cluster: String::from("bench"),
        port: 0,
        mode: load.mode.into(),
        ack: load.ack.into(),
        congestion: load.congestion().map(String::from),
        // Nobody listens here; an application that does pays for what it does then.
        session_events: false,
        ..Config::default()
    };
    config.multicast.set_ip(args.group);
    config.workers = load.workers.map_or(config.workers, |n| n.get());
    config.lanes = load.lanes.map(|n| n.get());
    config
}

/// Waits until `members` are in view, all ready and none under repair.
fn wait_for_all(node: &Node, members: usize) -> Result<(), String> {
    let deadline = Instant::now() + READY;
    loop {
        let view = node.view();
        let whole = |m: &crate::node::MemberInfo| m.state == NodeState::Ready && !m.repairing && !m.suspect;
        if view.members.len() == members && view.members.iter().all(whole) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{} of {members} members came", view.members.len()));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// As long as a caller waits by default.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than any node needs on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// A receiving node and what it can be asked.
#[derive(Debug)]
struct Held {
    node: Node,
    context: Context,
    sessions: Vec<[u8; ID]>,
}

impl Receiver for Held {
    fn applied(&self) -> u64 {
        self.node.stats().merges
    }

    fn syscalls(&self) -> u64 {
        syscalls(&self.node.stats())
    }

    fn stamps(&self) -> Vec<u64> {
        self.sessions.iter().map(|id| self.context.get(id, NAME).map_or(0, |value| stamp_of(&value))).collect()
    }
}

fn syscalls(stats: &Stats) -> u64 {
    stats.sys_send + stats.sys_recv + stats.sys_poll + stats.sys_wake + stats.sys_ctl
}

/// One thread's sessions, each with a payload of its own.
#[derive(Debug)]
struct Updates<'a> {
    context: &'a Context,
    load: &'a Load,
    ids: Vec<[u8; ID]>,
    memory: Vec<u8>,
    /// Updates that are waited for, the oldest first.
    flying: VecDeque<Ticket>,
}

impl<'a> Updates<'a> {
    fn new(context: &'a Context, load: &'a Load, thread: usize) -> Self {
        let ids: Vec<_> = load.sessions_of(thread).map(id).collect();
        let mut memory = vec![0; ids.len() * load.size];
        fastrand::fill(&mut memory);
        for payload in memory.chunks_exact_mut(load.size) {
            payload[..STAMP].fill(0);
        }
        Self { context, load, ids, memory, flying: VecDeque::new() }
    }

    fn make(&mut self, slot: usize) -> Result<(), String> {
        let payload = renew(&mut self.memory, slot, self.load.size);
        let mut request = self.context.create(&self.ids[slot]);
        request.set(NAME, payload);
        let outcome = request.end(URI).map_err(|e| format!("a session was not made: {e:?}"))?;
        if outcome.is_complete() { Ok(()) } else { Err(format!("a session was not replicated: {outcome:?}")) }
    }

    /// Waits for the oldest update in flight; whether it was sent.
    fn wait(&mut self) -> bool {
        self.flying.pop_front().is_none_or(|ticket| self.sent(&ticket.wait(PATIENCE)))
    }

    /// Whether the outcome is what this load waits for, at every member.
    fn sent(&self, outcome: &crate::node::Outcome) -> bool {
        let members = u32::try_from(self.load.peers.get()).unwrap_or(u32::MAX);
        match outcome.status {
            Status::Queued(n) => self.load.mode == ModeFlag::Asynchronous && n == members,
            Status::Replicated => {
                outcome.is_complete() && (self.load.ack == AckFlag::None || outcome.copies == members + 1)
            }
            Status::Unchanged | Status::Filtered | Status::Ended => false,
        }
    }
}

impl Caller for Updates<'_> {
    fn slots(&self) -> usize {
        self.ids.len()
    }

    fn update(&mut self, slot: usize) -> bool {
        let payload = renew(&mut self.memory, slot, self.load.size);
        let mut request = self.context.begin(&self.ids[slot]);
        request.set(NAME, payload);
        if self.load.depth.get() == 1 {
            return request.end(URI).is_ok_and(|outcome| self.sent(&outcome));
        }
        let Ok(ticket) = request.end_with_ticket(URI) else { return false };
        self.flying.push_back(ticket);
        self.flying.len() < self.load.depth.get() || self.wait()
    }

    fn finish(&mut self) -> bool {
        let mut all = true;
        while !self.flying.is_empty() {
            all &= self.wait();
        }
        all
    }
}

/// The payload of a session that has changed once more.
fn renew(memory: &mut [u8], slot: usize, size: usize) -> &[u8] {
    let payload = &mut memory[slot * size..][..size];
    let next = stamp_of(payload) + 1;
    payload[..STAMP].copy_from_slice(&next.to_le_bytes());
    payload
}

const NAME: &[u8] = b"data";
const URI: &str = "/update";

/// As long as a servlet container's session id in hexadecimal.
const ID: usize = 32;

fn id(session: usize) -> [u8; ID] {
    let mut id = [b'0'; ID];
    let digits = format!("{session:x}");
    id[ID - digits.len()..].copy_from_slice(digits.as_bytes());
    id
}
