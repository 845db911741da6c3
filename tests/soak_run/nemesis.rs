//! What happens to the cluster: one fault after the other, each healed before the next, and one member that stays.
//!
//! Faults begin only when every member sees every other with nothing under repair. So what is acknowledged during one
//! is at the member that stays, whatever becomes of the two others.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::{Node, Run, pass};
use crate::common::{SOON, now, signal};
use crate::history::{NODES, Wrong};
use serde_json::json;

/// How long the cluster may take to be whole again after a fault was healed.
const HEAL: Duration = Duration::from_secs(30);
/// The longest stop of a process, where faults come every ten seconds.
const STOP: Duration = Duration::from_secs(5);
/// The longest absence of a process, likewise.
const ABSENCE: Duration = Duration::from_secs(3);

/// Plays faults until the time is over.
#[derive(Debug)]
pub struct Nemesis {
    pub rng: fastrand::Rng,
    /// Never killed, and never asked to leave.
    pub stays: usize,
    /// From one fault to the next.
    pub interval: Duration,
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
        match self.rng.u32(..100) {
            0..30 => {
                run.count("fault: kill -9");
                let port = self.kill(run, victim);
                self.absence(run);
                victim.start(run, port)
            }
            30..60 => {
                run.count("fault: stop");
                let any = &run.nodes[self.rng.usize(..NODES)];
                self.stop(any);
                self.stopped(run);
                resume(any);
                Ok(())
            }
            60..75 => {
                run.count("fault: leave");
                leave(run, victim)?;
                self.absence(run);
                victim.start(run, None)
            }
            75..80 => {
                run.count("fault: no clients");
                let _quiet = run.gate.write().unwrap_or_else(PoisonError::into_inner);
                self.stopped(run);
                Ok(())
            }
            80..90 => {
                run.count("fault: kill -9 of two");
                let ports = [victim, other].map(|node| self.kill(run, node));
                self.absence(run);
                victim.start(run, ports[0])?;
                other.start(run, ports[1])
            }
            _ => {
                run.count("fault: stop of one, kill -9 of another");
                self.stop(other);
                let port = self.kill(run, victim);
                self.stopped(run);
                resume(other);
                victim.start(run, port)
            }
        }
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

    /// Of the longest time, shorter where faults come faster.
    fn share(&mut self) -> f64 {
        self.rng.f64() * (self.interval.as_secs_f64() / 10.0).min(1.0)
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
