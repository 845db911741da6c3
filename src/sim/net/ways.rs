//! The ways between hosts, and the hosts at their ends: latency, cuts, clogs, deaths.

use std::time::Duration;

use super::{ConnId, Death, HostId, Net, NetEvent, Piece, Socket, side_byte};
use crate::id::Time;
use crate::sim::Sched;
use crate::sim::world::Event;

impl Net {
    pub(in crate::sim) fn boot(&mut self, sched: &mut Sched, host: HostId, process: u32) {
        let h = &mut self.hosts[host];
        h.process = Some(process);
        h.ready.clear();
        h.datagrams = 0;
        h.paused_until = sched.now();
        if !std::mem::replace(&mut h.up, true) {
            // What waited for the old kernel meets a new one, which knows nothing of it.
            self.release(sched, None);
        }
    }

    pub(in crate::sim) fn die(&mut self, sched: &mut Sched, host: HostId, death: Death) {
        self.hosts[host].process = None;
        self.hosts[host].ready.clear();
        self.hosts[host].datagrams = 0;
        self.hosts[host].up = death == Death::Killed;
        let alive: Vec<ConnId> = self.alive.iter().copied().collect();
        for id in alive {
            for side in 0..2 {
                if self.conns[id as usize].ends[side].host != host {
                    continue;
                }
                match death {
                    Death::Killed if sched.chance(0.5) => self.abort(sched, id, side),
                    Death::Killed => self.close(sched, id, side),
                    Death::PowerLoss => {
                        self.conns[id as usize].ends[side].socket = Socket::Gone;
                        Self::half_open(sched, id, 1 - side);
                        self.forget_if_over(id);
                    }
                }
            }
        }
    }

    /// Resets one random connection between live processes.
    pub(in crate::sim) fn reset_any(&mut self, sched: &mut Sched) -> Option<ConnId> {
        let open: Vec<ConnId> = self
            .alive
            .iter()
            .copied()
            .filter(|id| self.conns[*id as usize].ends.iter().all(|e| e.socket == Socket::Open))
            .collect();
        if open.is_empty() {
            return None;
        }
        let id = open[sched.rng.usize(..open.len())];
        for side in 0..2 {
            // Of what is under way the first bytes still arrive: the rest of a frame may be missing from any byte on.
            // But not where others were destroyed before.
            let conn = &mut self.conns[id as usize];
            let pipe = &mut conn.pipes[side];
            if let Some(Piece::Data(n)) = pipe.pieces.front().copied().filter(|_| !conn.doomed) {
                pipe.arrived += sched.rng.usize(0..=n);
                self.wake_end(sched, id, 1 - side);
            }
        }
        // Something between the two resets both.
        self.cancel(id);
        for side in 0..2 {
            self.send_abort(sched, id, side);
        }
        Some(id)
    }

    pub(in crate::sim) fn cut(&mut self, from: HostId, to: HostId) {
        self.cuts[from][to] += 1;
    }

    pub(in crate::sim) fn mend(&mut self, sched: &mut Sched, from: HostId, to: HostId) {
        self.cuts[from][to] = self.cuts[from][to].saturating_sub(1);
        if self.cuts[from][to] == 0 {
            self.release(sched, Some((from, to)));
        }
    }

    pub(in crate::sim) fn mend_all(&mut self, sched: &mut Sched) {
        for row in &mut self.cuts {
            row.fill(0);
        }
        for row in &mut self.clogs {
            row.fill(Time::ZERO);
        }
        self.release(sched, None);
    }

    /// Holds back until then what goes from one host to another from now on.
    pub(in crate::sim) fn clog(&mut self, from: HostId, to: HostId, until: Time) {
        let clog = &mut self.clogs[from][to];
        *clog = until.max(*clog);
    }

    /// Until when something that goes to a host may be held back.
    pub(in crate::sim) fn clogged_until(&self, host: HostId) -> Time {
        self.clogs.iter().map(|row| row[host]).max().unwrap_or_default()
    }

    /// Whether packets pass in both directions.
    pub(in crate::sim) fn connected(&self, a: HostId, b: HostId) -> bool {
        self.cuts[a][b] == 0 && self.cuts[b][a] == 0
    }

    pub(in crate::sim) fn latency(&self, sched: &mut Sched) -> Duration {
        let base = sched.micros(self.weather.latency.0, self.weather.latency.1);
        if sched.chance(self.weather.tail) {
            return base + sched.micros(0, self.weather.tail_micros);
        }
        base
    }

    /// From which host to which the bytes of an end go.
    pub(in crate::sim) fn way(&self, id: ConnId, side: usize) -> (HostId, HostId) {
        let ends = &self.conns[id as usize].ends;
        (ends[side].host, ends[1 - side].host)
    }

    /// What waited for a way (or for any) goes on, as late as a retransmission may be.
    pub(in crate::sim) fn release(&mut self, sched: &mut Sched, way: Option<(HostId, HostId)>) {
        let alive: Vec<ConnId> = self.alive.iter().copied().collect();
        for id in alive {
            for side in 0..2 {
                let (from, to) = self.way(id, side);
                if way.is_some_and(|w| w != (from, to) && w != (to, from)) {
                    continue;
                }
                let stalled = std::mem::take(&mut self.conns[id as usize].pipes[side].stalled);
                if stalled > 0 {
                    let at = sched.now() + sched.millis(0, 400);
                    for _ in 0..stalled {
                        sched.at(at, Event::Net(NetEvent::Arrive(id, side_byte(side))));
                    }
                    let pipe = &mut self.conns[id as usize].pipes[side];
                    pipe.last_at = pipe.last_at.max(at);
                }
                if self.cuts[to][from] == 0 && std::mem::take(&mut self.conns[id as usize].pipes[side].unannounced) > 0
                {
                    let delay = sched.millis(0, 400);
                    sched.after(delay, Event::Net(NetEvent::Room(id, side_byte(side))));
                }
            }
        }
    }
}
