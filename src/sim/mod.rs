//! A whole cluster in one thread, from one seed.
//!
//! Every node is the real thing: an [`engine::Core`](crate::engine::Core) with its store and its
//! [`Control`](crate::engine::Control), fed real wire bytes over simulated streams in virtual time. One random source
//! decides everything, so a seed is a run, and a failure is a number. The shell is as thin as the one of `runtime`: what a
//! run proves of the engine holds there.
//!
//! | part | job |
//! |---|---|
//! | `sched` | virtual time: a heap by (time, sequence) |
//! | `net` | streams, datagrams, cuts, the kernels of hosts |
//! | `process` | the shell around one node |
//! | `swarm`, `lean`, `options` | what a seed stands for, leans to, and is told besides |
//! | `load` | users and their requests |
//! | `faults` | what goes wrong |
//! | `commit` | what a commit does, restated |
//! | `oracle`, `absence`, `look` | what must be true, what excuses, and when that is looked at |
//! | `world`, `requests` | the loop; what users ask and are told |
//! | `shrink` | a failing run made smaller |
//! | `membership` | membership alone, for a very long time |
//!
//! A run has four phases: nodes start; load and faults; everything heals, load goes on; quiet.
//!
//! # What is checked
//!
//! A *change* is what one commit did to one session (one uid). Its *holders* are the writer and every member that confirmed
//! it to the caller. A holder is *live* while the same incarnation runs; a state is *at or after* a change when the session
//! is dead there, or `top` and each attribute that the change wrote have at least its version. A session is *readable* when it is
//! neither dead nor partial and `top > exp`. It was *idle* when, among the accesses that a live member holds, two neighbours
//! (or the last and now) lie at least the idle time apart, less what coalescing and drift may take.
//!
//! - **I1, durability.** While one of its holders is live, a change is not lost: when all is quiet every node is at or after
//!   it as far as a reader can see (`top` excepted) and reads the session, unless somebody ended the session, a create under
//!   its name listed it as over, or it was idle. Nothing is dead that nobody ended.
//! - **I2, no ack before apply.** When a caller is told, each member that it counts as an applied copy and that is live in
//!   the same incarnation is at or after the change, and has had everything up to it.
//! - **Copies.** A member that joins, is under repair, or is dead when a change is committed is no copy of it. A member that is one for the
//!   first time is at or after every change of the writer's that nobody is waited for any more and that is not under way.
//! - **Return.** A member that a node lost, and that is a copy for it again, is at or after every change that the node held
//!   acked when it came back.
//! - **I3, one content.** Each (uid, attribute, version) has one content wherever it is seen, the one that was committed.
//! - **I4, no way back.** On one incarnation the version of an attribute of a readable uid never falls.
//! - **I5, convergence.** Within a bound after everything has healed and load has ended, every node is ready, has every other in
//!   view as a copy, has nothing unacknowledged, and all read the same sessions.
//! - **I6, no resurrection.** A uid that is dead on a node never lives there again; one whose end has a live holder is
//!   readable nowhere when all is quiet.
//! - **Served.** What a request is given is readable. What is readable has a name.
//! - **Over.** A request is never given a login together with one that the login's create listed as over, expired or
//!   ended on its node before.
//! - **Union.** A removal leaves the attribute in none of the sessions that its request saw.
//! - **Killed.** A create whose id was invalidated on its node before its commit says `ended`.
//! - **Touch.** Where nothing is late, an access later than the touch interval after all others is announced.
//! - **Told.** Where nothing is late, a node that writes to a session which is dead at another member soon serves it no more.
//! - **Expiry.** A session that a request of a node used within the idle time is not expired there, nor is one where the node
//!   knows of such a use elsewhere.
//! - **Kept.** An expired session's content is not dropped while a member that the node lost has not come back.
//! - **I7, complete joins.** A node that opens (not by time-out) is at or after every change that all in view had acked
//!   before it and a holder had each other in view, if the holder is ready, as the joiner has heard, reachable, and still at or after it,
//!   readably. It may hold nothing of a session that ended since: what it was brought in part, and nobody completed, it dropped.
//! - **I10, accuracy.** Without faults nobody is lost from a view and no copy is ever missing. That lost pings alone remove nobody is shown
//!   by runs of membership alone, over a thousand hours.
//! - **Admission.** Nobody is in view with whom no handshake was complete.
//! - **I9, removal.** (`down`) A process that died is soon in no view.
//! - **Outcomes.** The copies that a caller is told of are the members not named missing; an op that is done has woken its
//!   caller; when all is quiet every op is done; `ended` is said only of what does not live.
//! - **I13, I14, wire.** A ping of which bits were flipped is refused, or says what was sent. No node refuses a frame of another, also where some
//!   speak a later version of the protocol besides: two speak the highest that both know, and all of this holds. What strangers may do is
//!   left to the fuzz targets and to tests of malformed bytes.
//! - **Full.** A commit that a full store refuses changes nothing; a member that refuses a frame is no copy. Once sessions have ended and
//!   there is room again, all of the above holds.
//! - **I8, bounds.** No queue is above its cap, no store above its limit, tombstones apart; no honest member's bytes are refused; nothing panics.
//! - **I12, isolation.** That one slow member costs the others neither throughput nor more than one acknowledgement timeout is a matter of
//!   real time: it is shown with processes, in the catalogue of faults.
//!
//! Counted, not forbidden: reads that show a change without all that its writer had seen. `base` makes them rare; one number
//! for each session cannot rule them out.
//!
//! A member is *away* while it stands still or reaches at most half of the hosts. Where that lasts for longer than tombstones live
//! (only in runs that lean to it), I1 does not ask for a session that nobody else is known to hold and that was made before, nor I6
//! for an end that nobody else holds, or of a session that somebody who was away wrote to meanwhile; where all were away, I1 holds for each.
//!
//! A change is *excused* from I1 when every holder died; excuses are counted, and where there was at most one fault there may
//! be none.

mod absence;
mod commit;
mod faults;
mod hash;
mod lean;
mod load;
mod look;
mod membership;
mod net;
mod options;
mod oracle;
mod process;
mod requests;
mod sched;
mod shrink;
mod swarm;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use lean::Lean;
pub use membership::{Endurance, endure};
#[cfg(feature = "cli")]
pub(crate) use options::seconds;
pub use options::{Options, Suppress};
pub use shrink::{Smallest, shrink};

use crate::id::Time;

type Sched = sched::Sched<world::Event>;

/// What a run of one seed showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events that happened.
    pub events: u64,
    /// Identity of the run: equal for two runs of a seed, or the simulator is at fault.
    pub hash: u64,
    /// Virtual time at the end.
    pub time: Time,
    /// Changes committed.
    pub updates: u64,
    /// Changes whose caller was told that every member in view has them.
    pub acked: u64,
    /// Callers whose patience ended first.
    pub timeouts: u64,
    /// Commits that a full store refused.
    pub refused: u64,
    /// Requests that found their session ended.
    pub ended: u64,
    /// Joins that opened because time was up: not judged.
    pub timed_out_joins: u64,
    /// Changes that were checked at the end.
    pub checked: u64,
    /// Acked changes that were lost with all their holders.
    pub excused: u64,
    /// Changes and ends not asked for because all who held them were away for longer than tombstones live.
    pub beyond_horizon: u64,
    /// Changes not asked for at the end because their session was ended, over, or idle.
    pub gone: [u64; 3],
    /// Copies looked at when their ack was told.
    pub acks_checked: u64,
    /// Changes looked for at joins.
    pub joins_checked: u64,
    /// Reads of one session, and how many showed a change without all that its writer had seen: rare, not never.
    pub reads: u64,
    /// See `reads`.
    pub gaps: u64,
    /// How long the cluster took to come to rest.
    pub convergence: Duration,
    /// Hosts and users, and how long load and faults lasted.
    pub size: (usize, usize, Duration),
    /// Faults that were to strike.
    pub strikes: u64,
    /// Faults by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was violated.
    pub violation: Option<Violation>,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one: a word of the [module docs](self).
    pub rule: &'static str,
    /// What was seen.
    pub text: String,
    /// When, in virtual time.
    pub at: Time,
}

impl Violation {
    fn new(rule: &'static str, text: String) -> Self {
        Self { rule, text, at: Time::ZERO }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated at {:.3} s: {}", self.rule, self.at.as_secs_f64(), self.text)
    }
}

impl std::error::Error for Violation {}

/// Runs one seed. A panic of the code under test is a violation like any other.
#[must_use]
pub fn run(seed: u64) -> Report {
    run_with(seed, &Options::default())
}

/// Runs one seed with a planted mistake.
#[cfg(feature = "mutants")]
#[must_use]
pub fn run_mutant(seed: u64, mutant: crate::mutant::Mutant) -> Report {
    let _planting = crate::mutant::plant(mutant);
    run(seed)
}

/// Runs one seed, but for the options.
#[must_use]
pub fn run_with(seed: u64, options: &Options) -> Report {
    catch_unwind(AssertUnwindSafe(|| world::World::new(seed, options).run())).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| String::from("(no message)"));
        Report { seed, violation: Some(Violation::new("panic", text)), ..Report::default() }
    })
}
