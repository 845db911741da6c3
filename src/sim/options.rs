//! What of a run is to be otherwise than its seed says.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::lean::Lean;
use super::swarm::{Fault, Kind, Profile};
use crate::id::Time;

/// What of a run is to be otherwise than its seed says: by default nothing. As text it is the flags that say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Lean to this, whatever the seed leans to.
    pub lean: Option<Lean>,
    /// What is left out of what the seed stands for.
    pub suppress: Suppress,
    /// Write what happens to standard output, a line an event.
    pub trace: bool,
}

/// What is left out of a run. With less of one thing the others happen otherwise too, for one random source decides all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suppress {
    /// Classes of faults and of weather that do not occur: of [`Suppress::classes`].
    pub classes: BTreeSet<&'static str>,
    /// Not more hosts than these, and not more users.
    pub nodes: Option<usize>,
    /// See `nodes`.
    pub users: Option<usize>,
    /// Load and faults last no longer.
    pub length: Option<Duration>,
    /// No fault strikes later.
    pub faults_until: Option<Duration>,
    /// Faults that do not strike, the first being 1.
    pub faults: BTreeSet<u64>,
}

/// A class of weather, and how it is turned off.
type Class = (&'static str, fn(&mut Profile));

const WEATHER: [Class; 10] = [
    ("slow-net", |p| p.weather.latency = (20, 400)),
    ("tail", |p| p.weather.tail = 0.0),
    ("short-writes", |p| (p.weather.short_write, p.weather.piece_max) = (0.0, 0)),
    ("window", |p| p.weather.window = 256 << 10),
    ("ping-loss", |p| (p.weather.loss, p.weather.double) = (0.0, 0.0)),
    ("flips", |p| p.weather.flip = 0.0),
    ("lost-dials", |p| p.weather.lost_dial = 0.0),
    ("lag", |p| p.weather.lag = (0, 100)),
    ("drift", |p| p.drift_ppm = 0),
    ("mixed-versions", |p| p.mixed = false),
];

impl Suppress {
    /// Whether the fault of that number may strike at that time.
    pub(super) fn strikes(&self, number: u64, now: Time) -> bool {
        self.faults_until.is_none_or(|until| now <= until) && !self.faults.contains(&number)
    }

    /// The classes that can be left out.
    pub fn classes() -> impl Iterator<Item = &'static str> {
        Fault::every().map(Fault::name).chain(WEATHER.iter().map(|(name, _)| *name))
    }
}

impl Profile {
    /// The classes of faults and weather that occur.
    pub(super) fn classes(&self) -> Vec<&'static str> {
        let weather = |turn_off: fn(&mut Self)| {
            let mut without = self.clone();
            turn_off(&mut without);
            format!("{without:?}") != format!("{self:?}")
        };
        let faults = Fault::every().filter(|fault| self.faults().contains(fault)).map(Fault::name);
        faults.chain(WEATHER.iter().filter(|(_, off)| weather(*off)).map(|(name, _)| *name)).collect()
    }

    /// Leaves out what is to be left out. What has no fault any more is no calm: the rules of that are stricter.
    pub(super) fn suppress(&mut self, suppress: &Suppress) {
        let classes = &suppress.classes;
        match &mut self.kind {
            Kind::Calm => {}
            Kind::Single(fault) => {
                if classes.contains(fault.name()) {
                    self.kind = Kind::Swarm(Vec::new());
                }
            }
            Kind::Swarm(faults) => faults.retain(|fault| !classes.contains(fault.name())),
        }
        for (_, turn_off) in WEATHER.iter().filter(|(name, _)| classes.contains(name)) {
            turn_off(self);
        }
        self.nodes = self.nodes.min(suppress.nodes.unwrap_or(usize::MAX)).max(2);
        self.load.users = self.load.users.min(suppress.users.unwrap_or(usize::MAX)).max(1);
        self.length = self.length.min(suppress.length.unwrap_or(Duration::MAX));
        self.suppress = suppress.clone();
    }
}

/// A time in seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> String {
    let text = format!("{}.{:03}", time.as_secs(), time.subsec_millis());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Suppress { classes, nodes, users, length, faults_until, faults } = &self.suppress;
        if let Some(lean) = self.lean {
            write!(f, " --lean {}", lean.name())?;
        }
        if !classes.is_empty() {
            write!(f, " --without {}", classes.iter().copied().collect::<Vec<_>>().join(","))?;
        }
        for (flag, most) in [("nodes", nodes), ("users", users)] {
            if let Some(most) = most {
                write!(f, " --{flag} {most}")?;
            }
        }
        for (flag, most) in [("length", length), ("faults-until", faults_until)] {
            if let Some(most) = most {
                write!(f, " --{flag} {}", seconds(*most))?;
            }
        }
        if !faults.is_empty() {
            write!(f, " --without-fault {}", faults.iter().map(u64::to_string).collect::<Vec<_>>().join(","))?;
        }
        if self.trace { f.write_str(" --trace") } else { Ok(()) }
    }
}
