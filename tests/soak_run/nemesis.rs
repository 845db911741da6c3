//! What happens to the cluster: one fault after the other, each healed before the next, and one member that stays.
//!
//! Faults begin only when every member sees every other with nothing under repair. So what is acknowledged during one
//! is at the member that stays, or comes to it, whatever becomes of the two others.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::{MemberKind, Node, Run, pass};
use crate::common::lab::{Lab, address};
use crate::common::{SOON, now, signal};
use crate::history::{NODES, Wrong};
use serde_json::json;

/// How long the cluster may take to be whole again after a fault was healed.
const HEAL: Duration = Duration::from_secs(45);
/// The longest stop of a process and the longest cut, where faults come every ten seconds.
const STOP: Duration = Duration::from_secs(5);
/// The longest absence of a process, likewise.
const ABSENCE: Duration = Duration::from_secs(3);
/// From one reset of all connections to the next.
const RESETS: Duration = Duration::from_millis(200);
/// How long what arrives is answered with resets each time.
const RESET: Duration = Duration::from_millis(20);

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    KillTwo,
    Stop,
    StopAndKill,
    Leave,
    NoClients,
    Isolate,
    OneWay,
    Pair,
    NoMulticast,
    Reset,
}

/// What happens to processes, and how often of a hundred.
const PROCESSES: [(Fault, u32); 6] = [
    (Fault::Kill, 30),
    (Fault::KillTwo, 10),
    (Fault::Stop, 25),
    (Fault::StopAndKill, 10),
    (Fault::Leave, 15),
    (Fault::NoClients, 10),
];

/// What happens on the wires between hosts.
const WIRES: [(Fault, u32); 5] =
    [(Fault::Isolate, 20), (Fault::OneWay, 15), (Fault::Pair, 15), (Fault::NoMulticast, 20), (Fault::Reset, 30)];

/// Plays faults until the time is over.
#[derive(Debug)]
pub struct Nemesis {
    pub rng: fastrand::Rng,
    /// Never killed, and never asked to leave.
    pub stays: usize,
    /// From one fault to the next.
    pub interval: Duration,
    /// How long stops and cuts last, of the longest.
    pub share: f64,
}

impl Nemesis {
    /// Plays until `end` on the clock of the run.
    pub fn run(mut self, run: &Run, end: Duration) {
        while !run.is_over() {
            let next = run.at() + self.interval;
            if let Err(why) = self.fault(run) {
                run.violation(Wrong::Member, &why, None);
                return;
            }
            if let Err(seen) = run.settle(HEAL) {
                run.violation(Wrong::Member, &format!("not whole {HEAL:?} after a fault: {seen}"), None);
                return;
            }
            for node in &run.nodes {
                node.healthy.store(true, Ordering::SeqCst);
            }
            run.examine();
            if run.at().max(next) >= end {
                break;
            }
            pass(run, next.saturating_sub(run.at()));
        }
        pass(run, end.saturating_sub(run.at()));
    }

    fn fault(&mut self, run: &Run) -> Result<(), String> {
        let victims: Vec<&Node> = run.nodes.iter().filter(|node| node.index != self.stays).collect();
        let at = self.rng.usize(..victims.len());
        let (victim, other) = (victims[at], victims[1 - at]);
        match (self.draw(run.lab.is_some()), &run.lab) {
            (Fault::Kill, _) => {
                run.count("fault: kill -9");
                let port = self.kill(run, victim);
                self.absence(run);
                self.start(run, victim, port)
            }
            (Fault::Stop, _) => {
                run.count("fault: stop");
                let any = &run.nodes[self.rng.usize(..NODES)];
                self.stop(any);
                self.stopped(run);
                resume(any);
                Ok(())
            }
            (Fault::Leave, _) => {
                run.count("fault: leave");
                leave(run, victim)?;
                self.absence(run);
                self.start(run, victim, None)
            }
            (Fault::KillTwo, _) => {
                run.count("fault: kill -9 of two");
                let ports = [victim, other].map(|node| self.kill(run, node));
                self.absence(run);
                self.start(run, victim, ports[0])?;
                self.start(run, other, ports[1])
            }
            (Fault::StopAndKill, _) => {
                run.count("fault: stop of one, kill -9 of another");
                self.stop(other);
                let port = self.kill(run, victim);
                self.stopped(run);
                resume(other);
                self.start(run, victim, port)
            }
            (wire, Some(lab)) => {
                self.wires(run, lab, wire);
                Ok(())
            }
            (_, None) => {
                run.count("fault: no clients");
                let _quiet = run.gate.write().unwrap_or_else(PoisonError::into_inner);
                self.stopped(run);
                Ok(())
            }
        }
    }

    /// One of the faults that there can be.
    fn draw(&mut self, wires: bool) -> Fault {
        let table: &[(Fault, u32)] = if wires && self.rng.bool() { &WIRES } else { &PROCESSES };
        let mut left = self.rng.u32(..100);
        for (fault, share) in table {
            if left < *share {
                return *fault;
            }
            left -= share;
        }
        Fault::NoClients
    }

    /// Loses packets, or connections. Clients stay where they are, for nobody tells them.
    fn wires(&mut self, run: &Run, lab: &Lab, fault: Fault) {
        for node in &run.nodes {
            node.healthy.store(false, Ordering::SeqCst);
        }
        let one = self.rng.usize(..NODES);
        let [two, three] = [1, 2].map(|n| (one + n) % NODES);
        let from = |host| format!("ip saddr {}", address(host));
        let lost: Vec<(usize, Vec<String>)> = match fault {
            Fault::Isolate => {
                run.count("fault: one cut off");
                vec![(one, vec![from(two), from(three)]), (two, vec![from(one)]), (three, vec![from(one)])]
            }
            Fault::OneWay => {
                run.count("fault: loss one way");
                vec![(one, vec![from(two)])]
            }
            Fault::Pair => {
                run.count("fault: two cut from each other");
                vec![(one, vec![from(two)]), (two, vec![from(one)])]
            }
            Fault::NoMulticast => {
                run.count("fault: no multicast");
                (0..NODES).map(|host| (host, vec![String::from("ip daddr 224.0.0.0/4")])).collect()
            }
            _ => {
                run.count("fault: resets");
                let end = run.at() + STOP.mul_f64(self.share()) / 3;
                while run.at() < end && !run.is_over() {
                    if lab.reset(one, two) {
                        pass(run, RESET);
                        lab.heal(one);
                    }
                    pass(run, RESETS);
                }
                return;
            }
        };
        for (host, rules) in &lost {
            lab.lose(*host, &rules.iter().map(String::as_str).collect::<Vec<_>>());
        }
        self.stopped(run);
        for (host, _) in lost {
            lab.heal(host);
        }
    }

    fn start(&mut self, run: &Run, node: &Node, port: Option<u16>) -> Result<(), String> {
        node.start(run, port, MemberKind::any(&mut self.rng))
    }

    /// SIGKILL in the middle of whatever it does; its port, where the next process is to have the same.
    fn kill(&mut self, run: &Run, node: &Node) -> Option<u16> {
        node.healthy.store(false, Ordering::SeqCst);
        node.doomed.store(true, Ordering::SeqCst);
        // Not yet waited for, so that the number is still its own.
        signal(node.pid.load(Ordering::SeqCst), "KILL");
        let process = node.take()?;
        let port = process.address().rsplit(':').next().and_then(|port| port.parse().ok());
        run.count("processes killed");
        port.filter(|_| self.rng.bool())
    }

    fn stop(&self, node: &Node) {
        node.healthy.store(false, Ordering::SeqCst);
        signal(node.pid.load(Ordering::SeqCst), "STOP");
    }

    fn stopped(&mut self, run: &Run) {
        pass(run, STOP.mul_f64(self.share()));
    }

    fn absence(&mut self, run: &Run) {
        pass(run, ABSENCE.mul_f64(self.share()));
    }

    fn share(&mut self) -> f64 {
        self.rng.f64() * self.share
    }
}

fn resume(node: &Node) {
    signal(node.pid.load(Ordering::SeqCst), "CONT");
}

/// Leaves on purpose, and ends.
fn leave(run: &Run, node: &Node) -> Result<(), String> {
    node.healthy.store(false, Ordering::SeqCst);
    node.doomed.store(true, Ordering::SeqCst);
    let left = node.ask(run, None, &json!({ "do": "leave" }));
    let Some(mut process) = node.take() else { return Err(format!("{} had gone before it left", node.name())) };
    left.map_err(|why| format!("{} did not leave: {why:?}", node.name()))?;
    let asked = now();
    if process.finish(SOON) {
        Ok(())
    } else {
        Err(format!("{} left and did not end within {:?}", node.name(), asked.elapsed()))
    }
}
