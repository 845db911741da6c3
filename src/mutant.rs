//! Planted mistakes: each is one that somebody could make, switched on for a simulated run to see that the run finds it.
//!
//! A place that can be wrong asks `planted!`. Without the feature `mutants` the answer is a constant, and nothing of this
//! is compiled. With it a thread has at most one mistake at a time: the simulator plants them in its own threads, and a member
//! of a soak has them for the whole process.

/// Whether this mistake is to be made here.
#[cfg(feature = "mutants")]
macro_rules! planted {
    ($name:ident) => {
        $crate::mutant::is($crate::mutant::Mutant::$name)
    };
}

/// Whether this mistake is to be made here: never.
#[cfg(not(feature = "mutants"))]
macro_rules! planted {
    ($name:ident) => {
        $crate::mutant::never()
    };
}

pub(crate) use planted;

/// What [`planted!`] is in a build that has no mistakes to plant.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use self::on::{Mutant, Planting, plant, plant_everywhere};

#[cfg(feature = "mutants")]
pub(crate) use self::on::is;

#[cfg(feature = "mutants")]
mod on {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    macro_rules! mutants {
        ($(#[doc = $about:literal] $name:ident,)*) => {
            /// One mistake.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[non_exhaustive]
            pub enum Mutant {
                $(#[doc = $about] $name,)*
            }

            impl Mutant {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)*];

                /// Its name.
                #[must_use]
                pub fn name(self) -> &'static str {
                    match self {
                        $(Self::$name => stringify!($name),)*
                    }
                }

                /// The mistake of that name.
                ///
                /// # Errors
                /// The names that there are.
                pub fn named(name: &str) -> Result<Self, String> {
                    let names = || Self::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
                    Self::ALL.iter().copied().find(|m| m.name() == name).ok_or_else(|| format!("one of {}", names()))
                }

                /// What it stands for.
                #[must_use]
                pub fn about(self) -> &'static str {
                    match self {
                        $(Self::$name => $about.trim_ascii(),)*
                    }
                }
            }
        };
    }

    mutants! {
        /// A change is acknowledged when it is read, and merged when the next one comes.
        AckBeforeApply,
        /// A change is acknowledged although it left the record partial.
        AckWhilePartial,
        /// What the operating system took counts as applied.
        WrittenIsApplied,
        /// Tombstones live for half a second.
        TombstoneDroppedEarly,
        /// A complete present state replaces what is held, newer or not.
        SnapshotOverwrites,
        /// Donations leave tombstones out.
        SnapshotWithoutTombstones,
        /// A present state says that it is complete, whatever its holder misses.
        AlwaysComplete,
        /// A present state never says that it is complete.
        NeverComplete,
        /// A write goes to whatever its name leads to by then.
        WriteFollowsName,
        /// A write through a handle whose session is forgotten makes it anew.
        HandleRecreates,
        /// A create that was killed before its commit comes to life all the same.
        KilledCreateRises,
        /// A full write is compared with what is held, not with what the request read.
        FullComparedWithHeld,
        /// A removal reaches the first session of a union only.
        RemovalNotOverUnion,
        /// An invalidate kills the first session of a union only.
        KillNotOverUnion,
        /// A change of id leaves the old name in place.
        ChangeIdKeepsOldName,
        /// A create does not list the expired sessions under its name.
        CreateForgetsExpired,
        /// What a create lists as over lives on where the create is merged.
        OverNotApplied,
        /// Who has a tombstone does not tell those who write to the dead.
        DeathNotTold,
        /// The clock does not follow what arrives.
        ClockNotMerged,
        /// A gap before a delta goes unnoticed.
        BaseIgnored,
        /// Partial records are served.
        PartialServed,
        /// What a record misses is asked for once.
        PullOnce,
        /// What nobody can complete is served although it never was whole.
        LiftNeverWhole,
        /// An expiry that arrives expires the record, whatever access is newer.
        ExpiryUnconditional,
        /// A session in use that another member expired is not rescued.
        NoRescue,
        /// An access is announced only when the request asks for it.
        TouchNotAnnounced,
        /// Expired records lose their content while members are away.
        ShedWhileCutOff,
        /// After a reconnect nothing is sent again.
        NotResent,
        /// After a reconnect the first delta in flight is sent again, for all that its session had in flight.
        ResendOldDelta,
        /// A member whose queue was given up is not repaired.
        GiveUpWithoutRepair,
        /// A member that returns from a partition is not repaired.
        ReturnWithoutRepair,
        /// A member under repair is a copy.
        RepairedTooEarly,
        /// A member that still joins is a copy.
        JoinerIsCopy,
        /// A joiner is sent what is held before it is live for new changes.
        DonationBeforeAdmission,
        /// What changes beside a donation is left to it, and not brought by it.
        OwedForgotten,
        /// A joiner opens when the first of several donors is done.
        OpensAfterFirstDonor,
        /// A donor is believed to be done although a lane is still behind.
        DoneBeforeAllLanes,
        /// A ping alone admits.
        PingAdmits,
        /// A suspect is cleared by an echo of whoever has its address.
        EchoOfAnother,
        /// A suspect is cleared though no echo came.
        EchoNotNeeded,
        /// A lane to a member that restarted takes the acks of the one that came after it.
        AcksOfAnother,
        /// A caller whose last copy is missed is not woken.
        MissWakesNobody,
        /// Members never compare what they show.
        NoDigest,
        /// What only a later version of the protocol has is sent to whoever is there.
        DialectNotNegotiated,
    }

    /// One bit for each mistake.
    static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

    const _: () = assert!(Mutant::ALL.len() <= 64);

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// While it lives, its thread makes the mistake.
    #[derive(Debug)]
    pub struct Planting(Option<Mutant>);

    /// Makes this thread make a mistake.
    #[must_use]
    pub fn plant(mutant: Mutant) -> Planting {
        Planting(PLANTED.replace(Some(mutant)))
    }

    /// Makes every thread of this process make a mistake, beside others, for as long as it lives.
    pub fn plant_everywhere(mutant: Mutant) {
        EVERYWHERE.fetch_or(1 << mutant as u64, Ordering::Relaxed);
    }

    impl Drop for Planting {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant) || EVERYWHERE.load(Ordering::Relaxed) & (1 << mutant as u64) != 0
    }
}
