//! The users: whose session, at which node, doing what.

use std::time::Duration;

use super::Sched;
use super::net::HostId;
use super::swarm::Load;
use crate::buffer::Slice;
use crate::session::{Changes, Handle, Name};

/// Size of a value that does not fit one frame.
const HUGE: usize = 300 << 10;

/// Somebody with a cookie.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// What its cookie carries.
    pub(super) id: Vec<u8>,
    /// The node that its requests go to while it serves.
    pub(super) home: HostId,
    /// Logins so far, so that ids differ.
    logins: u32,
}

/// What a request is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Delta,
    Full,
    Remove,
    Touch,
    Invalidate,
    ChangeId,
    MaxIdle,
}

const PLANS: [Plan; 7] =
    [Plan::Delta, Plan::Full, Plan::Remove, Plan::Touch, Plan::Invalidate, Plan::ChangeId, Plan::MaxIdle];

#[derive(Debug)]
pub(super) struct Users {
    pub(super) all: Vec<User>,
    load: Load,
    /// Numbers values, so that no two writes write the same.
    serial: u64,
}

impl Users {
    pub(super) fn new(load: &Load, hosts: usize, sched: &mut Sched) -> Self {
        let all: Vec<User> = (0..load.users)
            .map(|u| {
                // Hot sessions are shared by a handful of users.
                let shared = sched.chance(load.hot);
                let number = if shared { u % 3 } else { u + 3 };
                User { id: format!("s{number}").into_bytes(), home: sched.rng.usize(..hosts), logins: 0 }
            })
            .collect();
        Self { all, load: load.clone(), serial: 0 }
    }

    /// One more user, who has that session there.
    pub(super) fn add(&mut self, id: Vec<u8>, home: HostId) -> usize {
        self.all.push(User { id, home, logins: 0 });
        self.all.len() - 1
    }

    /// Time until this user's next request.
    pub(super) fn think(&self, sched: &mut Sched) -> Duration {
        // Somebody who goes away for about the idle time comes back around the moment at which the session expires.
        if let Some(idle_ms) = self.load.away_ms
            && sched.chance(self.load.away)
        {
            return sched.millis(idle_ms * 4 / 5, idle_ms * 8 / 5);
        }
        exponential(sched, self.load.think_ms)
    }

    /// How long a request runs.
    pub(super) fn hold(&self, sched: &mut Sched) -> Duration {
        if sched.chance(self.load.slow) {
            return sched.millis(100, 1000);
        }
        sched.micros(0, self.load.hold_ms * 1000)
    }

    pub(super) fn plan(&self, sched: &mut Sched) -> Plan {
        let total: u32 = self.load.weights.iter().sum();
        let mut draw = sched.rng.u32(..total.max(1));
        for (weight, plan) in self.load.weights.iter().zip(PLANS) {
            if draw < *weight {
                return plan;
            }
            draw -= *weight;
        }
        Plan::Delta
    }

    /// The user logs in again.
    pub(super) fn login(&mut self, user: usize, sched: &mut Sched) {
        if sched.chance(self.load.fresh_id) {
            self.all[user].id = self.fresh_id(user);
        }
    }

    pub(super) fn fresh_id(&mut self, user: usize) -> Vec<u8> {
        self.all[user].logins += 1;
        format!("s{}.{}", user + 3, self.all[user].logins).into_bytes()
    }

    /// What the request hands to its commit.
    pub(super) fn changes(
        &mut self,
        user: usize,
        plan: Plan,
        handle: &Handle,
        idle: Duration,
        sched: &mut Sched,
    ) -> Changes {
        let mut changes = Changes { touch: sched.chance(0.9), touch_now: sched.chance(0.1), ..Changes::default() };
        match plan {
            Plan::Delta => {
                for _ in 0..sched.rng.usize(1..=3) {
                    let name = self.a_name(sched);
                    changes.writes.push((name, Some(self.a_value(sched))));
                }
            }
            Plan::Full => {
                changes.full = true;
                let read: Vec<(Name, Slice)> =
                    handle.attributes().map(|(name, _, value)| (Name::from_slice(name), value.clone())).collect();
                for (name, value) in read {
                    match sched.rng.u8(..10) {
                        0 => {}
                        1 | 2 => changes.writes.push((name, Some(self.a_value(sched)))),
                        // The application's own copy of what it read.
                        _ => changes.writes.push((name, Some(Slice::copy_from(&value)))),
                    }
                }
                if sched.rng.bool() {
                    let name = self.a_name(sched);
                    changes.writes.push((name, Some(self.a_value(sched))));
                }
            }
            Plan::Remove => {
                let name = self.a_name(sched);
                changes.writes.push((name, None));
            }
            Plan::Touch => {
                changes.touch = true;
                changes.touch_now = sched.rng.bool();
            }
            Plan::Invalidate => changes.invalidate = true,
            Plan::ChangeId => changes.new_id = Some(Slice::from_vec(self.fresh_id(user))),
            Plan::MaxIdle => changes.max_idle = Some(idle + sched.millis(0, 5000)),
        }
        changes
    }

    fn a_name(&self, sched: &mut Sched) -> Name {
        Name::from_vec(format!("a{}", sched.rng.usize(..self.load.names)).into_bytes())
    }

    fn a_value(&mut self, sched: &mut Sched) -> Slice {
        self.serial += 1;
        let usual = self.load.value;
        let len = if sched.chance(self.load.huge) {
            HUGE
        } else if sched.chance(self.load.tail) {
            sched.rng.usize(0..=usual * 16)
        } else {
            sched.rng.usize(0..=usual)
        };
        // The serial number again and again: any byte out of place shows.
        let mut value = self.serial.to_le_bytes().repeat(len.div_ceil(8));
        value.truncate(len);
        Slice::from_vec(value)
    }
}

/// A time with this mean, in milliseconds.
pub(super) fn exponential(sched: &mut Sched, mean_ms: f64) -> Duration {
    let draw = -(1.0 - sched.rng.f64()).ln();
    Duration::from_secs_f64((draw * mean_ms / 1e3).clamp(0.0, 3600.0))
}
