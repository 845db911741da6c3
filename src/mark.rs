//! Coverage marks: an error branch has a name, and a test that has been there.
//!
//! `hit!(Name => value)` stands in a branch and is `value`. In a test `covers!(Name, …)` runs something and fails unless that
//! took the branch, on its own thread. Outside the crate's unit tests nothing is left of this but the value.
//!
//! Invariant, checked below: in `wire`, `session` and `proto` every typed error is made under a mark, every mark names one
//! branch, and every mark is covered by a test.

/// The value, for which its branch was taken.
#[cfg(test)]
macro_rules! hit {
    ($name:ident => $value:expr) => {{
        $crate::mark::note($crate::mark::Mark::$name);
        $value
    }};
}

/// The value, for which its branch was taken.
#[cfg(not(test))]
macro_rules! hit {
    ($name:ident => $value:expr) => {{
        $crate::mark::pass();
        $value
    }};
}

/// What a mark is where no test looks: nothing. That it is a call keeps values in closures, where tests need them.
#[cfg(not(test))]
pub(crate) const fn pass() {}

/// Runs something that must take the branch; what it gave.
#[cfg(test)]
macro_rules! covers {
    ($name:ident, $run:expr) => {{
        let before = $crate::mark::Mark::$name.hits();
        let value = $run;
        assert!($crate::mark::Mark::$name.hits() > before, "{} was not hit", stringify!($name));
        value
    }};
}

#[cfg(test)]
pub(crate) use covers;
pub(crate) use hit;

#[cfg(test)]
pub(crate) use self::on::{Mark, note};

#[cfg(test)]
mod on {
    use std::cell::Cell;
    use std::fs;
    use std::path::Path;

    macro_rules! marks {
        ($(#[doc = $about:literal] $name:ident,)*) => {
            /// One branch.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) enum Mark {
                $(#[doc = $about] $name,)*
            }

            impl Mark {
                const ALL: &[Self] = &[$(Self::$name,)*];
            }
        };
    }

    marks! {
        /// A datagram ends within the magic.
        PingCutInMagic,
        /// A datagram that is no ping.
        PingMagic,
        /// A ping without its end.
        PingCut,
        /// A ping with something behind it.
        PingTooLong,
        /// A damaged ping.
        PingChecksum,
        /// A ping whose lowest version is above its highest.
        PingVersions,
        /// A ping of a state that there is not.
        PingState,

        /// A frame shorter than a header.
        FrameWithoutHeader,
        /// Bytes that are no frame.
        FrameMagic,
        /// A frame of another wire version.
        FrameVersion,
        /// A damaged header.
        FrameChecksum,
        /// A header with a flag, a schema or a reserved byte that is not ours.
        FrameReserved,
        /// A frame of a kind that there is not.
        FrameKind,
        /// A header whose lengths contradict each other.
        FrameLengths,
        /// A frame over the cap.
        FrameTooLarge,
        /// A received frame without its end.
        FrameIsCut,
        /// Read as another kind than it is.
        BodyOfAnotherKind,
        /// A payload where there is none.
        BodyWithPayload,
        /// A fixed body of another length.
        BodyLength,
        /// The same of a frame that has a payload.
        BodyLengthBesidePayload,
        /// A part before the handshake.
        PartOfAStranger,
        /// The head of a part is longer than a head.
        PartHeadLong,
        /// The head of a part is shorter than a head.
        PartHeadShort,
        /// A part of a frame over the cap.
        PartTooLarge,
        /// A part that is not the next one.
        PartOutOfPlace,
        /// Parts that join to something else than the frame announced.
        PartsJoinToNoFrame,

        /// An ack without its counts.
        AckCut,
        /// An ack whose refusals are cut.
        AckRefusalCut,
        /// An ack whose counts contradict each other, with too many refusals, or with a payload.
        AckCounts,
        /// An ack that refuses for a reason that there is not.
        AckRefusalCode,
        /// A status of a state that there is not.
        StatusState,
        /// A listing with flags that mean nothing.
        ListingFlags,
        /// A listing that ends within its context's name.
        ListingContext,
        /// A listing that ends within an entry.
        ListingCut,
        /// A listing of a version that no clock reaches.
        ListingTop,
        /// A question about nobody.
        ReachOfNobody,
        /// Another kind read as a control message.
        ControlKind,
        /// An address of a family that there is not.
        AddressFamily,
        /// A text longer than its field.
        TextLength,
        /// A text that is no UTF-8.
        TextEncoding,
        /// A uid whose counter is over its 48 bits.
        UidCounter,
        /// A hello that is neither a probe's nor a lane's.
        HelloProbe,
        /// A hello whose lowest version is above its highest.
        HelloVersions,
        /// A hello of a state that there is not.
        HelloState,
        /// A welcome of a state that there is not.
        WelcomeState,
        /// A refusal for a reason that there is not.
        RefuseReasonUnknown,
        /// A session's archive with a pointer or a length out of bounds.
        SessionArchive,
        /// A session's table that says what cannot be.
        SessionTable,

        /// Another member answers than the one dialled.
        WelcomeOfAnother,
        /// The other end refuses the handshake.
        HandshakeRefused,
        /// A dialler gets what no acceptor sends.
        DiallerGetsOther,
        /// A connection that does not begin with a hello.
        NoHelloFirst,
        /// An acceptor gets what no dialler sends.
        AcceptorGetsOther,
        /// This end refuses the handshake.
        HelloRefused,
        /// A hello of another cluster.
        HelloCluster,
        /// A hello with no version in common.
        HelloNoVersion,
        /// A hello for another member, or of this one.
        HelloNotMe,
        /// A hello to a node that leaves.
        HelloToLeaver,
        /// An ack of what was not written.
        AckOfUnwritten,
        /// An ack that refuses what was not written.
        RefusalOfUnwritten,
        /// A member has the session in part only.
        MissedAsPartial,
        /// A member refused the frame.
        MissedAsRefused,
        /// No answer in time.
        MissedInTime,

        /// A ping of another cluster.
        PingOfAnotherCluster,
        /// A ping with no version in common.
        PingOfNoCommonVersion,
        /// This node's own ping.
        PingOfOurOwn,
        /// A ping of a member in view, not newer than the last.
        PingHeardBefore,
        /// The same of a candidate.
        PingOfCandidateHeardBefore,
        /// A ping of no member, or of one that cannot be dialled.
        PingOfNobody,
        /// A ping of one that left, or not newer than its last before it went.
        PingOfTheGone,
        /// A ping of one that was removed a moment ago.
        PingTooSoon,
        /// A ping of a newcomer for whom there is no room.
        PingWithoutRoom,
        /// A lane opened to one for whom the view has no room.
        ViewIsFull,
        /// A lane opened to one that is no candidate any more.
        AdmittedUnknown,
        /// A lane opened to one that leaves.
        AdmittedLeaver,
        /// A hello of one that left.
        LeftForGood,

        /// The name of a context is too long.
        ContextNameTooLong,
        /// There are as many contexts as may be.
        ContextsFull,
        /// The name of an attribute is too long.
        AttributeNameTooLong,
        /// A value is too large.
        ValueTooLarge,
        /// An id is empty.
        IdEmpty,
        /// An id is too long.
        IdTooLong,
        /// A new session is too large.
        CreateTooLarge,
        /// A new session finds the store full.
        CreateIntoFullStore,
        /// A session grows too large.
        SessionTooLarge,
        /// A session that grows finds the store full.
        StoreFull,
        /// A write through a handle that found nothing.
        WriteToNothing,
        /// An invalidate of what has ended.
        KillOfTheDead,
        /// A create whose name was killed before its commit.
        KilledBeforeCommit,
        /// A write to what is no longer held.
        HandleOfTheGone,
        /// A write to what expired and lost its content.
        HandleOfTheShed,
        /// A member says that it does not know what it was asked for.
        AskedForTheUnknown,
        /// A change of a session that is dead here.
        WriteToTheDead,
        /// A change of a session that expired long ago and is not held.
        LongExpired,
        /// A create that ends others finds the store full.
        CreateOverIntoFullStore,
        /// A change that arrives finds the store full.
        MergeIntoFullStore,
        /// A name or value that arrives is too large.
        MergedAttributeTooLarge,
        /// A session becomes too large by what arrives.
        MergedSessionTooLarge,
    }

    thread_local! {
        static HITS: [Cell<u32>; Mark::ALL.len()] = const { [const { Cell::new(0) }; Mark::ALL.len()] };
    }

    /// This branch was taken.
    pub(crate) fn note(mark: Mark) {
        HITS.with(|hits| hits[mark as usize].set(mark.hits() + 1));
    }

    impl Mark {
        /// How often this thread took its branch.
        pub(crate) fn hits(self) -> u32 {
            HITS.with(|hits| hits[self as usize].get())
        }
    }

    /// The code of these rooms, without white space; what is here is left out.
    fn code(rooms: &[&str]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for room in rooms {
            collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut found);
        }
        found
    }

    fn collect(place: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else {
                let code = fs::read_to_string(&path).unwrap().replace(char::is_whitespace, "");
                found.push((path.display().to_string(), code));
            }
        }
    }

    const ROOMS: [&str; 3] = ["wire", "session", "proto"];

    #[test]
    fn every_mark_names_one_branch_and_is_covered_by_a_test() {
        let all: String = code(&ROOMS).into_iter().map(|(_, code)| code).collect();
        let count = |text: String| all.matches(&text).count();
        let wrong: Vec<_> = Mark::ALL
            .iter()
            .map(|mark| (mark, count(format!("hit!({mark:?}=>")), count(format!("covers!({mark:?},"))))
            .filter(|(_, places, tests)| *places != 1 || *tests == 0)
            .collect();
        assert!(wrong.is_empty(), "mark, branches, tests: {wrong:?}");
    }

    #[test]
    fn no_typed_error_is_made_without_a_mark() {
        let before = ["Err(", "ok_or(", "|_|", "||"];
        let errors = ["FrameError::", "LinkError::", "CommitError::", "StoreError::", "RefusedCode::", "BadAck"];
        for (path, code) in code(&ROOMS) {
            if path.ends_with("tests.rs") {
                continue;
            }
            let code = code.split("#[cfg(test)]modtests{").next().unwrap_or_default();
            for made in before.iter().flat_map(|before| errors.iter().map(move |error| format!("{before}{error}"))) {
                assert!(!code.contains(&made), "{path}: {made} without a mark");
            }
        }
    }

    #[test]
    #[should_panic(expected = "PingCut was not hit")]
    fn a_branch_that_is_not_taken_is_told() {
        covers!(PingCut, ());
    }
}
