//! What holds whatever arrives, in whatever order.

use proptest::prelude::*;

use super::graveyard::GRAVES_MAX;
use super::*;
use crate::wire;

const MEMBERS_MAX: usize = 3;

/// One call into a membership. Members are numbers of a small range, so that calls meet.
#[derive(Clone, Debug)]
enum Call {
    Wait(u64),
    Timeout,
    /// Waits for the next deadline and keeps it.
    OnTime,
    Ping(u64, u64, NodeState),
    Contact(u64),
    Hello(u64, NodeState),
    Status(u64, NodeState),
    Admitted(u64, NodeState),
    DialFailed(u64),
    Lost(u64),
    /// Answers one of the echoes asked for so far, or a made-up one.
    Verified(usize, bool),
    /// Another member answers what was asked last.
    Reached,
    State(NodeState),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let member = || 0..8_u64;
    let state =
        || prop_oneof![8 => Just(NodeState::Ready), 4 => Just(NodeState::Joining), 1 => Just(NodeState::Leaving)];
    let call = prop_oneof![
        6 => prop_oneof![0..5_u64, 0..400_u64, 0..5_000_u64].prop_map(Call::Wait),
        4 => Just(Call::Timeout),
        8 => Just(Call::OnTime),
        6 => (member(), 0..50_u64, state()).prop_map(|(m, seq, s)| Call::Ping(m, seq, s)),
        2 => member().prop_map(Call::Contact),
        4 => (member(), state()).prop_map(|(m, s)| Call::Hello(m, s)),
        1 => (member(), state()).prop_map(|(m, s)| Call::Status(m, s)),
        8 => (member(), state()).prop_map(|(m, s)| Call::Admitted(m, s)),
        2 => member().prop_map(Call::DialFailed),
        4 => member().prop_map(Call::Lost),
        8 => (0..4_usize, prop::bool::weighted(0.2)).prop_map(|(back, ok)| Call::Verified(back, ok)),
        2 => Just(Call::Reached),
        1 => prop_oneof![9 => Just(NodeState::Ready), 1 => Just(NodeState::Leaving)].prop_map(Call::State),
    ];
    prop::collection::vec(call, 0..300)
}

/// What the actions so far must add up to.
#[derive(Default)]
struct Books {
    /// In view, with whether it is suspect.
    view: BTreeMap<MemberId, bool>,
    echoes: Vec<(MemberId, u64)>,
    asked: Option<(MemberId, u64)>,
}

impl Books {
    fn enter(&mut self, action: &MembershipAction, leavers: &[MemberId]) {
        match action {
            MembershipAction::Up { member } => assert_eq!(self.view.insert(*member, false), None, "up twice"),
            MembershipAction::Suspect { member } => assert_eq!(self.view.insert(*member, true), Some(false)),
            MembershipAction::Alive { member } => assert_eq!(self.view.insert(*member, false), Some(true)),
            MembershipAction::Down { member } => {
                assert_eq!(self.view.remove(member), Some(true), "down without suspicion");
            }
            MembershipAction::Left { member } => {
                let suspect = self.view.remove(member);
                assert!(suspect == Some(true) || leavers.contains(member), "left without a word");
            }
            MembershipAction::Verify { member, token, .. } => {
                assert_eq!(self.view.get(member), Some(&true), "verified without suspicion");
                self.echoes.push((*member, *token));
            }
            MembershipAction::Forget { member } => assert!(!self.view.contains_key(member)),
            MembershipAction::Dial { member, .. } => assert!(!self.view.contains_key(member)),
            MembershipAction::AskOthers { member, token, others } => {
                assert!((2..=3).contains(&others.len()) && others.iter().all(|o| self.view.get(o) == Some(&false)));
                self.asked = Some((*member, *token));
            }
            MembershipAction::Unreachable { member } => assert_eq!(self.view.get(member), Some(&true)),
            MembershipAction::Ping(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_calls_breaks_the_books_or_the_bounds(calls in calls(), seed: u64) {
        let addr = SocketAddr::from(([127, 0, 0, 1], 4700));
        let mut m = Membership::new(Settings {
            me: MemberId(1),
            cluster: 5,
            name: String::from("me"),
            route: String::new(),
            addr,
            versions: wire::PROTOCOL,
            frequency: Time::from_millis(200),
            drop_time: Time::from_millis(1000),
            verify_timeout: Time::from_millis(250),
            members_max: MEMBERS_MAX,
        }, seed, Time::ZERO);
        let mut books = Books::default();
        let mut now = Time::ZERO;
        let mut view_id = m.view().id;
        for call in calls {
            let mut leavers = Vec::new();
            match call {
                Call::Wait(ms) => now += Time::from_millis(ms),
                Call::Timeout => {
                    m.handle_timeout(now);
                    prop_assert!(m.poll_timeout() > Some(now), "the driver would spin");
                }
                Call::OnTime => {
                    now = now.max(m.poll_timeout().expect("the ping timer runs"));
                    m.handle_timeout(now);
                }
                Call::Ping(member, seq, state) => {
                    let ping = Ping {
                        versions: wire::PROTOCOL,
                        cluster: 5,
                        member: MemberId(member),
                        seq,
                        state,
                        addr,
                        name: String::from("peer"),
                        route: String::new(),
                        view_hash: 1,
                        uptime_ms: 0,
                    };
                    m.handle_ping(now, &ping, addr.ip());
                }
                Call::Contact(member) => m.handle_contact(now, MemberId(member)),
                Call::Hello(member, state) => m.handle_hello(now, MemberId(member), "peer", addr, state),
                Call::Status(member, state) => {
                    leavers.push(MemberId(member));
                    m.handle_status(now, MemberId(member), state);
                }
                Call::Admitted(member, state) => m.handle_admitted(now, MemberId(member), "peer", state),
                Call::DialFailed(member) => m.handle_dial_failed(now, MemberId(member)),
                Call::Lost(member) => m.handle_lost(now, MemberId(member)),
                Call::Verified(back, ok) => {
                    let (member, token) = books.echoes.iter().rev().nth(back).copied().unwrap_or((MemberId(2), 7));
                    m.handle_verified(now, member, token, ok);
                }
                Call::Reached => {
                    let (member, token) = books.asked.unwrap_or((MemberId(2), 7));
                    m.handle_reached(now, member, token);
                }
                Call::State(state) => m.set_state(state, now),
            }
            while let Some(action) = m.poll_action() {
                books.enter(&action, &leavers);
            }

            let shown: BTreeMap<_, _> = m.view().members.iter().map(|v| (v.id, v.suspect)).collect();
            prop_assert_eq!(&shown, &books.view);
            prop_assert!(m.view().members.is_sorted_by_key(|v| v.id));
            prop_assert!(m.view().id >= view_id);
            view_id = m.view().id;
            prop_assert!(m.members().count() <= MEMBERS_MAX && m.candidates().count() <= MEMBERS_MAX);
            prop_assert!(m.graveyard.len() <= GRAVES_MAX);
            let places = m.known().filter(|k| k.id != m.settings.me && k.id != MemberId::NONE);
            let mut ids: Vec<_> = places.map(|k| k.id).chain(m.graveyard.ids()).collect();
            prop_assert_eq!(ids.len(), m.known().count() + m.graveyard.len(), "nobody and me are never known");
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), m.known().count() + m.graveyard.len(), "one place for each");
        }
    }
}
