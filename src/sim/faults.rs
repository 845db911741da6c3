//! What goes wrong, and how it ends.

use std::time::Duration;

use super::load::exponential;
use super::net::{Death, HostId};
use super::swarm::{Fault, Kind};
use super::world::{DRAIN, Event, Phase, World};
use crate::id::Time;

/// How long a node that said goodbye still runs.
const GOODBYE: Duration = Duration::from_millis(300);

impl World {
    /// Lets one fault strike, and plans the next.
    pub(super) fn fault(&mut self) {
        if self.phase != Phase::Storm {
            return;
        }
        let faults = self.profile.faults();
        if !faults.is_empty() {
            let fault = faults[self.sched.rng.usize(..faults.len())];
            self.report.strikes += 1;
            if self.profile.suppress.strikes(self.report.strikes, self.sched.now()) && self.strike(fault) {
                *self.report.faults.entry(fault.name()).or_default() += 1;
            }
        }
        match self.profile.kind {
            Kind::Swarm(_) => {
                let delay = exponential(&mut self.sched, self.profile.fault_every_ms);
                self.sched.after(delay, Event::Fault);
            }
            Kind::Calm | Kind::Single(_) => {}
        }
    }

    fn strike(&mut self, fault: Fault) -> bool {
        let host = self.sched.rng.usize(..self.profile.nodes);
        let outage = self.sched.millis(20, self.profile.outage_ms);
        match fault {
            Fault::Kill | Fault::PowerLoss => {
                if !self.may_lose(host) {
                    return false;
                }
                let death = if fault == Fault::Kill { Death::Killed } else { Death::PowerLoss };
                self.bury(host, death);
                self.sched.after(outage, Event::Start(host));
            }
            Fault::Leave => {
                if !self.may_lose(host) || !self.leaving.insert(host) {
                    return false;
                }
                let number = self.starts[host];
                self.sched.trace(|| format!("n{host}.{number} is to leave"));
                let since = self.sched.now();
                self.sched.after(Duration::from_millis(1), Event::Leave(host, number, since));
            }
            Fault::Pause => self.pause(host, outage),
            Fault::Isolate => self.isolate(host, outage),
            Fault::OneWay => {
                let other = self.another(host);
                self.cut(vec![(host, other)], outage);
            }
            Fault::Partial => {
                let other = self.another(host);
                self.cut(vec![(host, other), (other, host)], outage);
            }
            Fault::Halves => {
                let side: Vec<bool> = (0..self.profile.nodes).map(|_| self.sched.rng.bool()).collect();
                self.part(&side, outage);
            }
            Fault::Torn => return self.tear(host),
            Fault::Ring => return self.ring(outage),
            Fault::Clog => self.clog(host, outage),
            Fault::Shift => {
                let shapes = self.sched.rng.u32(2..=4);
                self.shift(shapes, outage / shapes);
            }
            Fault::Jump => return self.jump(host, outage),
            Fault::Absent => self.absent(host),
            Fault::Apart => {
                if self.profile.nodes < 4 {
                    return false;
                }
                let host = self.sched.rng.usize(..self.profile.nodes);
                let first = self.sched.rng.usize(2..=self.profile.nodes - 2);
                let side: Vec<bool> = (0..self.profile.nodes)
                    .map(|h| (h + self.profile.nodes - host) % self.profile.nodes < first)
                    .collect();
                let outage = self.profile.absence();
                self.part(&side, outage);
            }
            Fault::Reset => {
                for _ in 0..self.sched.rng.usize(1..=4) {
                    let reset = self.net.reset_any(&mut self.sched);
                    self.sched.trace(|| format!("connection {reset:?} is reset"));
                }
            }
        }
        true
    }

    fn pause(&mut self, host: HostId, outage: Duration) {
        self.sched.trace(|| format!("n{host} pauses for {outage:?}"));
        let (now, host) = (self.sched.now(), &mut self.net.hosts[host]);
        if host.paused_until <= now {
            host.paused_from = now;
        }
        // One pause does not end another.
        host.paused_until = host.paused_until.max(now + outage);
    }

    fn isolate(&mut self, host: HostId, outage: Duration) {
        let others = (0..self.profile.nodes).filter(|h| *h != host);
        let ways = others.flat_map(|h| [(host, h), (h, host)]).collect();
        self.cut(ways, outage);
    }

    /// Cuts all ways between the two sides.
    fn part(&mut self, side: &[bool], outage: Duration) {
        let all = (0..side.len()).flat_map(|a| (0..side.len()).map(move |b| (a, b)));
        let ways = all.filter(|(a, b)| side[*a] != side[*b]).collect();
        self.cut(ways, outage);
    }

    /// Each host sees its neighbours in a ring alone; three hosts make no ring, but a line.
    fn ring(&mut self, outage: Duration) -> bool {
        let nodes = self.profile.nodes;
        if nodes < 3 {
            return false;
        }
        let mut order: Vec<HostId> = (0..nodes).collect();
        self.sched.rng.shuffle(&mut order);
        let closed = nodes > 3;
        let far = |a: usize, b: usize| {
            let apart = a.abs_diff(b);
            apart > 1 && !(closed && apart == nodes - 1)
        };
        let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
        let ways = all.filter(|(a, b)| far(*a, *b)).map(|(a, b)| (order[a], order[b])).collect();
        self.cut(ways, outage);
        true
    }

    /// One way, or all to and from a host, each for a time of its own, hold back what goes on them.
    fn clog(&mut self, host: HostId, longest: Duration) {
        let other = self.another(host);
        let others = (0..self.profile.nodes).filter(|h| *h != host);
        let ways: Vec<_> = match self.sched.rng.bool() {
            true => vec![(host, other)],
            false => others.flat_map(|h| [(host, h), (h, host)]).collect(),
        };
        for (from, to) in ways {
            let until = self.sched.now() + longest.mul_f64(self.sched.rng.f64());
            self.sched.trace(|| format!("the way from n{from} to n{to} is clogged until {until:?}"));
            self.net.clog(from, to, until);
        }
    }

    /// The cluster falls into two parts, and a moment later into others.
    pub(super) fn shift(&mut self, shapes: u32, each: Duration) {
        if self.phase != Phase::Storm || shapes == 0 {
            return;
        }
        let side: Vec<bool> = (0..self.profile.nodes).map(|_| self.sched.rng.bool()).collect();
        self.part(&side, each);
        self.sched.after(each, Event::Shift(shapes - 1, each));
    }

    /// A node's clock jumps. Where sessions expire that alone would make some idle, so there it does not.
    fn jump(&mut self, host: HostId, ahead: Duration) -> bool {
        let most = Duration::from_millis(self.profile.outage_ms);
        let Some(process) = self.processes[host].as_mut().filter(|_| !self.profile.sessions_expire()) else {
            return false;
        };
        let jumped = process.jump(ahead, most);
        if jumped {
            self.sched.trace(|| format!("the clock of n{host} jumps by {ahead:?}"));
            self.net.plan_turn(&mut self.sched, host);
        }
        jumped
    }

    /// One host stands still or is cut off, or each is cut from all others, for longer than tombstones live.
    fn absent(&mut self, host: HostId) {
        let outage = self.profile.absence();
        match self.sched.rng.u8(..5) {
            0 | 1 => self.pause(host, outage),
            2 | 3 => self.isolate(host, outage),
            _ => {
                let all = (0..self.profile.nodes).flat_map(|a| (0..self.profile.nodes).map(move |b| (a, b)));
                self.cut(all.filter(|(a, b)| a != b).collect(), outage);
            }
        }
    }

    /// What a node writes reaches one other alone, which the rest hears and cannot ask; then they die.
    fn tear(&mut self, host: HostId) -> bool {
        let other = self.another(host);
        if !self.may_lose(host) || self.profile.nodes < 3 {
            return false;
        }
        let rest = (0..self.profile.nodes).filter(|h| ![host, other].contains(h));
        let ways = rest.flat_map(|h| [(host, h), (h, other)]).collect();
        let time = self.sched.millis(20, 700);
        self.cut(ways, time + Duration::from_millis(50));
        let both = self.sched.chance(0.6);
        for host in [Some(host), both.then_some(other)].into_iter().flatten() {
            self.sched.after(time, Event::Kill(host, self.starts[host]));
        }
        true
    }

    /// A process is killed that was to die for some time.
    pub(super) fn kill(&mut self, host: HostId, number: u32) {
        if self.phase == Phase::Storm && self.is(host, number) && self.may_lose(host) {
            let outage = self.sched.millis(20, self.profile.outage_ms);
            self.bury(host, Death::Killed);
            self.sched.after(outage, Event::Start(host));
        }
    }

    fn another(&mut self, host: HostId) -> HostId {
        (host + self.sched.rng.usize(1..self.profile.nodes)) % self.profile.nodes
    }

    fn cut(&mut self, ways: Vec<(HostId, HostId)>, outage: Duration) {
        self.sched.trace(|| format!("{ways:?} are cut for {outage:?}"));
        for (from, to) in &ways {
            self.net.cut(*from, *to);
        }
        self.sched.after(outage, Event::Mend(ways));
    }

    /// A process may die while another lives: the death of all excuses everything and shows nothing.
    fn may_lose(&self, host: HostId) -> bool {
        let others = (0..self.profile.nodes).filter(|h| *h != host);
        self.processes[host].is_some()
            && !self.leaving.contains(&host)
            && others.filter(|h| self.processes[*h].is_some() && !self.leaving.contains(h)).count() > 0
    }

    /// A process ends at once.
    pub(super) fn bury(&mut self, host: HostId, death: Death) {
        if let Some(process) = self.processes[host].take() {
            self.sched.trace(|| format!("n{host}.{} dies: {death:?}", process.number));
            self.oracle.died(process.member, self.sched.now());
            self.net.die(&mut self.sched, host, death);
        }
        self.leaving.remove(&host);
    }

    /// A node on its way out: once it has handed over what is queued, it says goodbye and goes.
    pub(super) fn leave(&mut self, host: HostId, number: u32, since: Time) {
        let Some(process) = self.processes[host].as_mut().filter(|p| p.number == number) else { return };
        if self.net.hosts[host].paused_until > self.sched.now() {
            self.sched.at(self.net.hosts[host].paused_until, Event::Leave(host, number, since));
            return;
        }
        if !process.core.is_drained() && self.sched.now() < since + DRAIN {
            self.sched.after(Duration::from_millis(5), Event::Leave(host, number, since));
            return;
        }
        let now = process.clock(self.sched.now());
        process.control.leave(now, &mut process.fx);
        process.settle(&mut self.net, &mut self.sched);
        process.plan_timer(&mut self.sched);
        self.sched.trace(|| format!("n{host}.{number} says goodbye"));
        let outage = self.sched.millis(20, self.profile.outage_ms);
        self.sched.after(GOODBYE, Event::Gone(host, number));
        self.sched.after(GOODBYE + outage, Event::Start(host));
    }
}
