//! Behaviour of one node's membership, driven by hand.

use super::candidates::DIALS_PER_PERIOD;
use super::graveyard::GRAVES_MAX;
use super::*;
use crate::mark::covers;
use crate::wire;

pub(super) const FREQUENCY: Time = ms(200);
pub(super) const DROP: Time = ms(1000);
pub(super) const VERIFY: Time = ms(250);
const MEMBERS_MAX: usize = 8;
const CLUSTER: u64 = 77;

pub(super) const fn ms(n: u64) -> Time {
    Time::from_millis(n)
}

pub(super) fn id(n: u64) -> MemberId {
    MemberId(n)
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(4700 + n).unwrap()))
}

pub(super) fn local() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

pub(super) fn settings(n: u64) -> Settings {
    Settings {
        me: id(n),
        cluster: CLUSTER,
        name: format!("n{n}"),
        route: String::new(),
        addr: addr(n),
        versions: wire::PROTOCOL,
        frequency: FREQUENCY,
        drop_time: DROP,
        verify_timeout: VERIFY,
        members_max: MEMBERS_MAX,
    }
}

fn ping_of(n: u64, seq: u64) -> Ping {
    Ping {
        versions: wire::PROTOCOL,
        cluster: CLUSTER,
        member: id(n),
        seq,
        state: NodeState::Ready,
        addr: addr(n),
        name: format!("n{n}"),
        route: String::new(),
        view_hash: 0,
        uptime_ms: 0,
    }
}

pub(super) fn drain(m: &mut Membership) -> Vec<MembershipAction> {
    std::iter::from_fn(|| m.poll_action()).collect()
}

/// What is left when pings, which come all the time, are taken out.
fn news(m: &mut Membership) -> Vec<MembershipAction> {
    drain(m).into_iter().filter(|a| !matches!(a, MembershipAction::Ping(_))).collect()
}

fn pings(m: &mut Membership) -> usize {
    drain(m).iter().filter(|a| matches!(a, MembershipAction::Ping(_))).count()
}

/// Calls each timeout on time until `end`, and collects what happened with its time.
fn run(m: &mut Membership, end: Time) -> Vec<(Time, MembershipAction)> {
    let mut happened = Vec::new();
    while let Some(now) = m.poll_timeout().filter(|due| *due <= end) {
        m.handle_timeout(now);
        happened.extend(news(m).into_iter().map(|action| (now, action)));
    }
    happened
}

/// Calls each timeout on time until something happens.
fn next_news(m: &mut Membership) -> (Time, MembershipAction) {
    loop {
        let due = m.poll_timeout().expect("the ping timer runs");
        if let [(at, action), ..] = &run(m, due)[..] {
            return (*at, action.clone());
        }
    }
}

/// A node 1 that has pinged once and knows nobody.
fn alone() -> Membership {
    let mut m = Membership::new(settings(1), 42, Time::ZERO);
    m.handle_timeout(Time::ZERO);
    drain(&mut m);
    m
}

/// A node 1 with the members 2 and up in view at time zero.
fn node_with(others: std::ops::RangeInclusive<u64>) -> Membership {
    let mut m = alone();
    for n in others {
        m.handle_ping(Time::ZERO, &ping_of(n, 1), local());
        m.handle_admitted(Time::ZERO, id(n), &format!("n{n}"), NodeState::Ready);
    }
    drain(&mut m);
    m
}

fn token_in(actions: &[MembershipAction]) -> u64 {
    actions
        .iter()
        .find_map(|a| match a {
            MembershipAction::Verify { token, .. } => Some(*token),
            _ => None,
        })
        .expect("a verification was asked for")
}

/// Loses member 2 and refuses both echoes, as a killed process does.
fn kill_2(m: &mut Membership, now: Time) -> Vec<MembershipAction> {
    m.handle_lost(now, id(2));
    let mut all = news(m);
    for _ in 0..2 {
        let token = token_in(&all[all.len() - 1..]);
        m.handle_verified(now, id(2), token, false);
        all.extend(news(m));
    }
    all
}

#[test]
fn the_first_ping_is_due_at_once_and_the_rest_each_period() {
    let mut m = Membership::new(settings(1), 42, ms(7));
    assert_eq!(m.poll_timeout(), Some(ms(7)));
    m.handle_timeout(ms(7));
    let [MembershipAction::Ping(first)] = &drain(&mut m)[..] else { panic!("one ping") };
    assert_eq!((first.member, first.seq, first.state, first.addr), (id(1), 1, NodeState::Joining, addr(1)));
    assert_eq!(m.poll_timeout(), Some(ms(7) + FREQUENCY));
}

#[test]
fn a_change_of_state_pings_at_once() {
    let mut m = node_with(2..=2);
    m.set_state(NodeState::Ready, ms(1));
    let [MembershipAction::Ping(ping)] = &drain(&mut m)[..] else { panic!("one ping") };
    assert_eq!(ping.state, NodeState::Ready);
    m.set_state(NodeState::Ready, ms(2));
    assert_eq!(drain(&mut m), []);
}

#[test]
fn a_ping_makes_a_candidate_and_only_the_handshake_admits_it() {
    let mut m = alone();
    assert_eq!(m.handle_ping(ms(1), &ping_of(2, 5), local()), PingVerdict::Fresh);
    assert_eq!(news(&mut m), [MembershipAction::Dial { member: id(2), addr: addr(2), name: "n2".into() }]);
    assert!(m.view().members.is_empty());
    let known: Vec<_> = m.known().map(|k| (k.id, k.state, k.in_view)).collect();
    assert_eq!(known, [(id(2), NodeState::Ready, false)]);

    let before = m.view().id;
    m.handle_admitted(ms(2), id(2), "two", NodeState::Joining);
    assert_eq!(news(&mut m), [MembershipAction::Up { member: id(2) }]);
    let two = m.view().get(id(2)).unwrap();
    // The handshake began before the ping that said ready: a state never goes back.
    assert_eq!((two.name.as_str(), two.addr, two.state), ("two", addr(2), NodeState::Ready));
    assert_eq!(m.view().id.0, before.0 + 1);
}

#[test]
fn a_stranger_hears_of_us_at_once_but_not_more_than_four_times_a_period() {
    let mut m = alone();
    m.handle_ping(ms(100), &ping_of(2, 1), local());
    assert_eq!(pings(&mut m), 1);
    for n in 3..=6 {
        m.handle_ping(ms(101), &ping_of(n, 1), local());
    }
    assert_eq!(pings(&mut m), 0);
    assert_eq!(m.poll_timeout(), Some(ms(150)));
    m.handle_timeout(ms(150));
    assert_eq!(pings(&mut m), 1);
}

#[test]
fn a_wildcard_address_is_replaced_by_the_senders() {
    let mut m = alone();
    let mut ping = ping_of(2, 1);
    ping.addr = SocketAddr::from(([0, 0, 0, 0], 4711));
    m.handle_ping(ms(1), &ping, IpAddr::from([10, 0, 0, 9]));
    let dial =
        MembershipAction::Dial { member: id(2), addr: SocketAddr::from(([10, 0, 0, 9], 4711)), name: "n2".into() };
    assert!(news(&mut m).contains(&dial));
}

#[test]
fn foreign_and_own_pings_change_nothing() {
    let mut m = alone();
    let cluster = Ping { cluster: CLUSTER + 1, ..ping_of(2, 1) };
    let newer = Ping { versions: (wire::PROTOCOL.1 + 1, wire::PROTOCOL.1 + 3), ..ping_of(2, 1) };
    let foreign = PingVerdict::Foreign;
    assert_eq!(covers!(PingOfAnotherCluster, m.handle_ping(ms(1), &cluster, local())), foreign);
    assert_eq!(covers!(PingOfNoCommonVersion, m.handle_ping(ms(1), &newer, local())), foreign);
    assert_eq!(covers!(PingOfOurOwn, m.handle_ping(ms(1), &ping_of(1, 99), local())), PingVerdict::Own);
    let nowhere = Ping { addr: SocketAddr::from(([127, 0, 0, 1], 0)), ..ping_of(2, 1) };
    for nobody in [nowhere, Ping { member: MemberId::NONE, ..ping_of(2, 1) }] {
        assert_eq!(covers!(PingOfNobody, m.handle_ping(ms(1), &nobody, local())), PingVerdict::Stale);
    }
    assert_eq!(m.known().count(), 0);
    assert_eq!(drain(&mut m), []);
    let older = Ping { versions: (0, wire::PROTOCOL.0), ..ping_of(2, 1) };
    assert_eq!(m.handle_ping(ms(1), &older, local()), PingVerdict::Fresh);
}

#[test]
fn a_killed_member_is_down_as_soon_as_both_echoes_are_refused() {
    let mut m = node_with(2..=3);
    let happened = kill_2(&mut m, ms(10));
    let [suspect, verify, again, down] = &happened[..] else { panic!("{happened:?}") };
    assert_eq!(*suspect, MembershipAction::Suspect { member: id(2) });
    assert!(matches!(verify, MembershipAction::Verify { member, addr: a, .. } if *member == id(2) && *a == addr(2)));
    assert_ne!(token_in(std::slice::from_ref(verify)), token_in(std::slice::from_ref(again)));
    assert_eq!(*down, MembershipAction::Down { member: id(2) });
    assert_eq!(m.view().members.iter().map(|v| v.id).collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn the_view_shows_a_suspect_while_it_is_one() {
    let mut m = node_with(2..=2);
    m.handle_lost(ms(10), id(2));
    assert!(m.view().get(id(2)).unwrap().suspect);
    let token = token_in(&news(&mut m));
    m.handle_verified(ms(11), id(2), token, true);
    assert_eq!(news(&mut m), [MembershipAction::Alive { member: id(2) }]);
    assert!(!m.view().get(id(2)).unwrap().suspect);
}

#[test]
fn a_silent_member_is_suspect_after_drop_time_and_down_after_two_unanswered_echoes() {
    let mut m = node_with(2..=2);
    let happened = run(&mut m, ms(5000));
    let times: Vec<_> = happened.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [DROP, DROP, DROP + VERIFY, DROP + 2 * VERIFY]);
    assert_eq!(happened[0].1, MembershipAction::Suspect { member: id(2) });
    assert_eq!(happened[3].1, MembershipAction::Down { member: id(2) });
}

#[test]
fn a_member_whose_view_stays_another_is_verified_once_for_each_view() {
    let mut m = node_with(2..=3);
    let ours = m.view().hash();
    let mut seq = 1;
    let mut hear = |m: &mut Membership, from: u64, until: u64, view_hash: u64| {
        let mut verified = 0;
        for at in (from..until).step_by(200) {
            seq += 1;
            for member in [2, 3] {
                let view_hash = if member == 2 { view_hash } else { ours };
                m.handle_ping(ms(at), &Ping { view_hash, ..ping_of(member, seq) }, local());
            }
            let happened = news(m);
            if happened.iter().any(|a| matches!(a, MembershipAction::Verify { .. })) {
                verified += 1;
                m.handle_verified(ms(at), id(2), token_in(&happened), true);
                assert_eq!(news(m), [MembershipAction::Alive { member: id(2) }]);
            }
        }
        verified
    };
    assert_eq!(hear(&mut m, 100, 3000, ours), 0, "it agrees");
    assert_eq!(hear(&mut m, 3100, 3900, 5), 0, "it differs for a moment");
    assert_eq!(hear(&mut m, 4100, 4900, 6), 0, "and for another");
    assert_eq!(hear(&mut m, 5100, 9000, 7), 1, "it stays another");
    assert_eq!(hear(&mut m, 9100, 12_000, 8), 1, "and so does the next");
}

#[test]
fn any_authenticated_frame_keeps_a_member_without_multicast() {
    let mut m = node_with(2..=2);
    for n in 1..20 {
        assert_eq!(run(&mut m, ms(n * 900)), []);
        m.handle_contact(ms(n * 900), id(2));
    }
    assert!(m.view().contains(id(2)));
}

#[test]
fn words_clear_a_silent_suspect_but_not_one_whose_socket_closed() {
    let mut m = node_with(2..=3);
    run(&mut m, ms(990));
    m.handle_ping(ms(990), &ping_of(3, 2), local());
    run(&mut m, DROP);
    m.handle_lost(DROP, id(3));
    drain(&mut m);
    m.handle_ping(ms(1010), &ping_of(2, 2), local());
    m.handle_ping(ms(1010), &ping_of(3, 3), local());
    m.handle_contact(ms(1010), id(3));
    assert_eq!(news(&mut m), [MembershipAction::Alive { member: id(2) }]);
    let happened = run(&mut m, ms(1800));
    assert!(happened.contains(&(DROP + 2 * VERIFY, MembershipAction::Down { member: id(3) })), "{happened:?}");
}

#[test]
fn words_no_longer_clear_a_silent_suspect_whose_socket_closed_since() {
    let mut m = node_with(2..=2);
    run(&mut m, DROP);
    m.handle_lost(DROP + ms(1), id(2));
    m.handle_ping(DROP + ms(2), &ping_of(2, 2), local());
    assert_eq!(news(&mut m), []);
    assert!(m.view().get(id(2)).unwrap().suspect);
}

#[test]
fn a_lane_that_opens_again_clears_a_lost_suspect() {
    let mut m = node_with(2..=2);
    m.handle_lost(ms(10), id(2));
    drain(&mut m);
    m.handle_admitted(ms(20), id(2), "n2", NodeState::Ready);
    assert_eq!(news(&mut m), [MembershipAction::Alive { member: id(2) }]);
}

#[test]
fn an_answer_to_the_first_echo_counts_while_the_second_runs() {
    let mut m = node_with(2..=2);
    let happened = run(&mut m, DROP + VERIFY);
    let first = token_in(&happened.iter().map(|(_, a)| a.clone()).collect::<Vec<_>>());
    m.handle_verified(DROP + VERIFY + ms(1), id(2), first, false);
    assert_eq!(news(&mut m), [], "its time was up already");
    m.handle_verified(DROP + VERIFY + ms(2), id(2), first, true);
    assert_eq!(news(&mut m), [MembershipAction::Alive { member: id(2) }]);
}

#[test]
fn answers_to_an_earlier_suspicion_mean_nothing() {
    let mut m = node_with(2..=2);
    m.handle_lost(ms(10), id(2));
    let old = token_in(&news(&mut m));
    m.handle_verified(ms(11), id(2), old, true);
    m.handle_lost(ms(12), id(2));
    drain(&mut m);
    m.handle_verified(ms(13), id(2), old, true);
    m.handle_verified(ms(13), id(2), old, false);
    assert_eq!(news(&mut m), []);
    assert!(m.view().get(id(2)).unwrap().suspect);
}

#[test]
fn duplicate_late_and_replayed_pings_are_no_sign_of_life() {
    let mut m = node_with(2..=2);
    run(&mut m, ms(100));
    assert_eq!(m.handle_ping(ms(100), &ping_of(2, 7), local()), PingVerdict::Fresh);
    run(&mut m, ms(1000));
    for seq in [7, 6, 1] {
        let verdict = covers!(PingHeardBefore, m.handle_ping(ms(1000), &ping_of(2, seq), local()));
        assert_eq!(verdict, PingVerdict::Stale);
    }
    let happened = run(&mut m, ms(20_000));
    assert_eq!(happened[0], (ms(1100), MembershipAction::Suspect { member: id(2) }));
    let verdict = covers!(PingOfTheGone, m.handle_ping(ms(20_000), &ping_of(2, 7), local()));
    assert_eq!(verdict, PingVerdict::Stale);
    assert_eq!(m.known().count(), 0);
}

#[test]
fn lost_pings_with_answered_echoes_remove_nobody() {
    let mut m = node_with(2..=4);
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut seq, mut suspected) = (1, 0);
    for tick in 1..50_000_u32 {
        let now = tick * FREQUENCY;
        m.handle_timeout(now);
        seq += 1;
        for n in (2..=4).filter(|_| rng.f64() >= 0.3) {
            m.handle_ping(now, &ping_of(n, seq), local());
        }
        for action in news(&mut m) {
            match action {
                MembershipAction::Verify { member, token, .. } => m.handle_verified(now + ms(1), member, token, true),
                MembershipAction::Suspect { .. } => suspected += 1,
                MembershipAction::Alive { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(suspected > 0, "the loss was never high enough to matter");
    assert_eq!(m.view().members.len(), 3);
}

#[test]
fn a_node_that_was_paused_judges_nobody_until_it_has_heard_again() {
    let mut m = node_with(2..=3);
    let now = ms(30_000);
    m.handle_timeout(now);
    assert_eq!(news(&mut m), []);
    assert_eq!(run(&mut m, now + DROP - ms(1)), []);
    m.handle_ping(now + DROP - ms(1), &ping_of(2, 150), local());
    let happened = run(&mut m, now + DROP);
    assert_eq!(happened.first(), Some(&(now + DROP, MembershipAction::Suspect { member: id(3) })));
    assert!(!m.view().get(id(2)).unwrap().suspect);
}

#[test]
fn a_pause_in_the_middle_of_a_verification_does_not_remove_the_suspect() {
    let mut m = node_with(2..=2);
    m.handle_lost(ms(10), id(2));
    let first = token_in(&news(&mut m));
    m.handle_verified(ms(11), id(2), first, false);
    let second = token_in(&news(&mut m));
    let now = ms(10_000);
    m.handle_verified(now, id(2), second, false);
    assert_eq!(news(&mut m), [], "the echo may have timed out because we slept");
    let happened = run(&mut m, now + DROP);
    let third = token_in(&happened.iter().map(|(_, a)| a.clone()).collect::<Vec<_>>());
    m.handle_verified(now + DROP + ms(1), id(2), third, true);
    assert_eq!(news(&mut m), [MembershipAction::Alive { member: id(2) }]);
}

#[test]
fn a_late_call_extends_the_silence_allowed_by_the_lateness() {
    let mut m = node_with(2..=2);
    run(&mut m, ms(600));
    assert_eq!(m.poll_timeout(), Some(ms(650)));
    m.handle_timeout(ms(1100));
    assert_eq!(news(&mut m), [], "450 ms late: a silence of 1100 ms counts for 650 ms");
    let happened = run(&mut m, ms(2000));
    assert_eq!(happened[0], (ms(1450), MembershipAction::Suspect { member: id(2) }));
}

#[test]
fn a_late_call_judges_nobody_before_the_sockets_were_read() {
    let mut m = node_with(2..=2);
    run(&mut m, ms(999));
    m.handle_timeout(ms(1300));
    assert_eq!(news(&mut m), [], "the silence allowed ends now, unless a ping lies unread");
    m.handle_ping(ms(1301), &ping_of(2, 2), local());
    assert_eq!(run(&mut m, ms(2000)), []);
}

#[test]
fn lateness_is_made_good_once_however_much_arrives_with_it() {
    let mut m = node_with(2..=3);
    m.handle_lost(ms(10), id(2));
    run(&mut m, ms(50));
    assert_eq!(m.poll_timeout(), Some(ms(250)));
    for _ in 0..5 {
        m.handle_contact(ms(600), id(3));
    }
    let down = ms(10) + ms(350) + 2 * VERIFY;
    assert_eq!(run(&mut m, ms(1500)).last(), Some(&(down, MembershipAction::Down { member: id(2) })));
}

#[test]
fn own_lateness_does_not_forget_a_candidate() {
    let mut m = alone();
    m.handle_ping(ms(10), &ping_of(2, 1), local());
    run(&mut m, ms(650));
    m.handle_timeout(ms(1250));
    run(&mut m, ms(1300));
    assert_eq!(m.candidates().count(), 1);
}

#[test]
fn a_node_that_is_always_late_still_removes_the_dead() {
    let mut m = node_with(2..=2);
    let mut now = Time::ZERO;
    for _ in 0..200 {
        now = m.poll_timeout().unwrap() + 2 * FREQUENCY;
        m.handle_timeout(now);
    }
    assert!(m.view().members.is_empty(), "not judged until {now:?}");
}

#[test]
fn a_leaver_is_out_at_once_and_its_incarnation_for_good() {
    let mut m = node_with(2..=2);
    m.handle_status(ms(10), id(2), NodeState::Leaving);
    assert_eq!(news(&mut m), [MembershipAction::Left { member: id(2) }]);
    assert!(m.view().members.is_empty());
    m.handle_lost(ms(11), id(2));
    covers!(LeftForGood, m.handle_hello(ms(12), id(2), "n2", addr(2), NodeState::Ready));
    assert_eq!(m.handle_ping(ms(60_000), &ping_of(2, 900), local()), PingVerdict::Stale);
    assert_eq!(news(&mut m), []);
}

#[test]
fn a_leaver_comes_back_at_once_as_a_new_member() {
    let mut m = node_with(2..=2);
    m.handle_status(ms(10), id(2), NodeState::Leaving);
    drain(&mut m);
    let rejoin = Ping { addr: addr(2), ..ping_of(9, 1) };
    m.handle_ping(ms(11), &rejoin, local());
    m.handle_admitted(ms(12), id(9), "n2", NodeState::Joining);
    m.handle_ping(ms(13), &Ping { state: NodeState::Leaving, ..ping_of(2, 50) }, local());
    run(&mut m, ms(900));
    assert_eq!(m.view().members.iter().map(|v| v.id).collect::<Vec<_>>(), [id(9)]);
}

#[test]
fn a_goodbye_by_ping_alone_removes_nobody_but_names_the_removal() {
    let mut m = node_with(2..=2);
    m.handle_ping(ms(5), &Ping { state: NodeState::Leaving, ..ping_of(2, 2) }, local());
    assert_eq!(news(&mut m), []);
    assert_eq!(m.view().get(id(2)).unwrap().state, NodeState::Ready);
    assert_eq!(kill_2(&mut m, ms(10)).last(), Some(&MembershipAction::Left { member: id(2) }));
}

#[test]
fn a_restart_on_the_same_address_is_a_new_member_beside_the_suspect_old_one() {
    let mut m = node_with(2..=2);
    m.handle_lost(ms(10), id(2));
    let first = token_in(&news(&mut m));
    m.handle_hello(ms(12), id(9), "n2", addr(2), NodeState::Joining);
    assert_eq!(news(&mut m), [MembershipAction::Dial { member: id(9), addr: addr(2), name: "n2".into() }]);
    m.handle_admitted(ms(13), id(9), "n2", NodeState::Joining);
    m.handle_contact(ms(13), id(9));
    drain(&mut m);
    m.handle_verified(ms(14), id(2), first, false);
    let second = token_in(&news(&mut m));
    m.handle_verified(ms(15), id(2), second, false);
    assert_eq!(news(&mut m), [MembershipAction::Down { member: id(2) }]);
    assert!(m.view().contains(id(9)));
}

#[test]
fn a_member_removed_by_mistake_returns_by_a_handshake_at_once_and_then_after_the_back_off() {
    let mut m = node_with(2..=2);
    kill_2(&mut m, ms(10));
    m.handle_contact(ms(20), id(2));
    assert_eq!(news(&mut m), [], "what is left on an old connection is no return");
    m.handle_hello(ms(20), id(2), "n2", addr(2), NodeState::Ready);
    assert!(matches!(news(&mut m)[..], [MembershipAction::Dial { .. }]));
    m.handle_admitted(ms(20), id(2), "n2", NodeState::Ready);
    drain(&mut m);

    kill_2(&mut m, ms(30));
    assert_eq!(covers!(PingTooSoon, m.handle_ping(ms(40), &ping_of(2, 2), local())), PingVerdict::Stale);
    m.handle_hello(ms(50), id(2), "n2", addr(2), NodeState::Ready);
    assert_eq!(news(&mut m), []);
    let (at, dial) = next_news(&mut m);
    assert!(matches!(dial, MembershipAction::Dial { member, .. } if member == id(2)), "{dial:?}");
    assert!(at >= ms(30) + RETRY_FIRST && at <= ms(30) + 2 * RETRY_FIRST);
    m.handle_admitted(at, id(2), "n2", NodeState::Ready);
    assert!(m.view().contains(id(2)));
}

#[test]
fn a_member_removed_by_mistake_is_dialled_again_at_once_on_a_newer_ping() {
    let mut m = node_with(2..=2);
    kill_2(&mut m, ms(10));
    assert_eq!(m.handle_ping(ms(20), &ping_of(2, 1), local()), PingVerdict::Stale);
    assert_eq!(m.handle_ping(ms(20), &ping_of(2, 2), local()), PingVerdict::Fresh);
    assert!(matches!(news(&mut m)[..], [MembershipAction::Dial { .. }]));
}

#[test]
fn a_flapping_member_waits_longer_each_time_and_a_stable_one_does_not() {
    let mut m = node_with(2..=2);
    let mut now = ms(10);
    let mut waits = Vec::new();
    for _ in 0..7 {
        kill_2(&mut m, now);
        m.handle_hello(now, id(2), "n2", addr(2), NodeState::Ready);
        let at = next_news(&mut m).0;
        waits.push(at - now);
        m.handle_admitted(at, id(2), "n2", NodeState::Ready);
        drain(&mut m);
        now = at + ms(10);
    }
    assert!(waits[3] >= 4 * RETRY_FIRST && waits[6] >= RETRY_MAX / 2, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= RETRY_MAX));

    while now < Time::from_secs(500) {
        now += FREQUENCY;
        m.handle_timeout(now);
        m.handle_contact(now, id(2));
    }
    kill_2(&mut m, now);
    m.handle_hello(now, id(2), "n2", addr(2), NodeState::Ready);
    assert!(next_news(&mut m).0 - now <= RETRY_FIRST);
}

#[test]
fn a_candidate_that_refuses_is_dialled_again_and_forgotten_when_it_goes_quiet() {
    let mut m = alone();
    m.handle_ping(ms(10), &ping_of(2, 1), local());
    drain(&mut m);
    m.handle_dial_failed(ms(11), id(2));
    let mut dials = 0;
    for seq in 2..=10 {
        let now = ms(seq * 200);
        dials += run(&mut m, now).len();
        m.handle_ping(now, &ping_of(2, seq), local());
    }
    assert_eq!(dials, 1);
    let happened = run(&mut m, ms(9000));
    assert_eq!(happened, [(ms(2000) + DROP, MembershipAction::Forget { member: id(2) })]);
    assert_eq!(m.known().count(), 0);
}

#[test]
fn replayed_pings_do_not_keep_a_candidate() {
    let mut m = alone();
    assert_eq!(m.handle_ping(ms(0), &ping_of(2, 1), local()), PingVerdict::Fresh);
    assert_eq!(covers!(PingOfCandidateHeardBefore, m.handle_ping(ms(0), &ping_of(2, 1), local())), PingVerdict::Stale);
    for n in 1..10 {
        run(&mut m, ms(n * 200));
        assert_eq!(m.handle_ping(ms(n * 200), &ping_of(2, 1), local()), PingVerdict::Stale);
    }
    assert_eq!(m.known().count(), 0);
}

#[test]
fn the_memory_of_those_that_left_is_bounded() {
    let mut m = alone();
    for n in 2..2 * GRAVES_MAX as u64 {
        m.handle_ping(ms(n), &Ping { addr: addr(2), ..ping_of(n, 1) }, local());
        m.handle_admitted(ms(n), id(n), "short-lived", NodeState::Ready);
        m.handle_status(ms(n), id(n), NodeState::Leaving);
    }
    assert_eq!(m.graveyard.len(), GRAVES_MAX);
    let last = 2 * GRAVES_MAX as u64 - 1;
    assert_eq!(m.handle_ping(ms(last), &ping_of(last % 100, 2), local()), PingVerdict::Fresh, "the oldest went");
}

#[test]
fn a_lane_to_somebody_unknown_is_to_be_forgotten() {
    let mut m = alone();
    covers!(AdmittedUnknown, m.handle_admitted(ms(1), id(5), "n5", NodeState::Ready));
    assert_eq!(news(&mut m), [MembershipAction::Forget { member: id(5) }]);
    assert!(m.view().members.is_empty());
}

#[test]
fn a_lane_to_one_that_leaves_admits_nobody() {
    let mut m = alone();
    m.handle_ping(ms(1), &ping_of(5, 1), local());
    drain(&mut m);
    covers!(AdmittedLeaver, m.handle_admitted(ms(2), id(5), "n5", NodeState::Leaving));
    assert_eq!(news(&mut m), [MembershipAction::Forget { member: id(5) }]);
    assert_eq!(m.handle_ping(ms(3), &ping_of(5, 2), local()), PingVerdict::Stale);
    assert!(m.view().members.is_empty());
}

#[test]
fn a_flood_of_forged_pings_is_bounded_in_memory_and_dials_and_keeps_nobody_out() {
    let mut m = Membership::new(Settings { members_max: 100, ..settings(1) }, 42, Time::ZERO);
    m.handle_timeout(Time::ZERO);
    drain(&mut m);
    for n in 2..5000 {
        m.handle_ping(ms(1), &Ping { addr: addr(2), ..ping_of(n, 1) }, local());
    }
    assert_eq!(m.known().count(), 100);
    let dials =
        |happened: &[MembershipAction]| happened.iter().filter(|a| matches!(a, MembershipAction::Dial { .. })).count();
    assert_eq!(dials(&news(&mut m)), DIALS_PER_PERIOD as usize);

    m.handle_hello(ms(2), id(9000), "real", addr(9), NodeState::Ready);
    assert_eq!(m.known().count(), 100);
    let happened: Vec<_> = run(&mut m, FREQUENCY + ms(1)).into_iter().map(|(_, a)| a).collect();
    assert_eq!(dials(&happened), DIALS_PER_PERIOD as usize);
    let first = happened.iter().find(|a| matches!(a, MembershipAction::Dial { .. })).unwrap();
    assert!(matches!(first, MembershipAction::Dial { member, .. } if *member == id(9000)), "met before strangers");
}

#[test]
fn a_full_view_admits_nobody_more() {
    let mut m = node_with(2..=9);
    assert_eq!(m.view().members.len(), MEMBERS_MAX);
    m.handle_ping(ms(1), &ping_of(20, 1), local());
    drain(&mut m);
    covers!(ViewIsFull, m.handle_admitted(ms(2), id(20), "n20", NodeState::Ready));
    assert_eq!(news(&mut m), [MembershipAction::Forget { member: id(20) }]);
    assert!(!m.view().contains(id(20)));
}

#[test]
fn a_leaving_node_dials_nobody() {
    let mut m = node_with(2..=2);
    m.set_state(NodeState::Leaving, ms(1));
    covers!(PingWithoutRoom, m.handle_ping(ms(2), &ping_of(3, 1), local()));
    m.handle_hello(ms(2), id(4), "n4", addr(4), NodeState::Ready);
    assert_eq!(news(&mut m), []);
}

#[test]
fn a_ping_turns_a_joiner_in_view_ready_but_never_a_ready_member_back() {
    let mut m = alone();
    m.handle_ping(ms(1), &Ping { state: NodeState::Joining, ..ping_of(2, 1) }, local());
    m.handle_admitted(ms(1), id(2), "n2", NodeState::Joining);
    assert_eq!(m.view().get(id(2)).unwrap().state, NodeState::Joining);
    m.handle_ping(ms(2), &ping_of(2, 2), local());
    assert_eq!(m.view().get(id(2)).unwrap().state, NodeState::Ready);
    m.handle_ping(ms(3), &Ping { state: NodeState::Joining, ..ping_of(2, 3) }, local());
    assert_eq!(m.view().get(id(2)).unwrap().state, NodeState::Ready);
}

#[test]
fn a_handshake_that_is_read_late_takes_no_ready_member_back() {
    let mut m = node_with(2..=2);
    m.handle_admitted(ms(11), id(2), "n2", NodeState::Joining);
    m.handle_hello(ms(12), id(2), "n2", addr(2), NodeState::Joining);
    assert_eq!(m.view().get(id(2)).unwrap().state, NodeState::Ready);
}
