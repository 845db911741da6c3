//! Members that fall silent, and members that are only hard to hear.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::lab::Lab;
use crate::common::{Cluster, Member, SOON_MS, now};
use crate::record::{Row, Run, Times};

/// As on a local network: pings every 200 ms, silence over 1 s makes a suspect, two echoes of 250 ms.
pub(crate) fn lan() -> Cluster {
    Cluster::new().with("--preset=lan").with("--frequency=200ms").with("--drop-time=1s").with("--verify-timeout=250ms")
}

/// Clusters that are measured side by side: they wait most of the time.
const SIDE_BY_SIDE: usize = 4;

/// What silences a member.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// Its process, whose sockets stay open.
    Stopped,
    /// Its host.
    CutOff,
}

impl Silence {
    fn begin(self, lab: &Lab, member: &Member) -> Instant {
        let since = now();
        match self {
            Self::Stopped => member.pause(),
            Self::CutOff => lab.isolate(VICTIM),
        }
        since
    }

    fn end(self, lab: &Lab) {
        if matches!(self, Self::CutOff) {
            lab.rejoin(VICTIM);
        }
    }
}

#[test]
fn a_stopped_member_leaves_every_view() {
    removals("stop", "one of three stopped (SIGSTOP)", Silence::Stopped);
}

#[test]
fn a_silent_host_leaves_every_view() {
    removals("silent", "all packets of one of three hosts lost, both ways", Silence::CutOff);
}

/// The host whose member falls silent.
const VICTIM: usize = 2;

/// Silences a member again and again. Each time it is a new one: who was removed by mistake waits longer each time before it
/// is admitted again.
fn removals(id: &'static str, what: &str, silence: Silence) {
    let Some(run) = Run::begin() else { return };
    let rounds = run.share(50, SIDE_BY_SIDE).div_ceil(SIDE_BY_SIDE);
    let mut times = Times::default();
    std::thread::scope(|scope| {
        let clusters = [(); SIDE_BY_SIDE].map(|()| scope.spawn(move || removals_of_one(rounds, silence)));
        for cluster in clusters {
            times.extend(&cluster.join().expect("a cluster was measured"));
        }
    });
    // The machine allows no namespaces, and that was said.
    if times.len() == 0 {
        return;
    }
    let how = format!(
        "{what}; pings every 200 ms, drop time 1 s, two echoes of 250 ms; {SIDE_BY_SIDE} clusters side by side, each on hosts \
         of its own"
    );
    let (measured, spread) = (times.measured(), times.spread());
    run.tell(id, &Row { measured, spread, reached: Some(times.p99() <= Duration::from_secs(2)), how });
}

fn removals_of_one(rounds: usize, silence: Silence) -> Times {
    let mut times = Times::default();
    let Some(lab) = Lab::build_with_loss(3) else { return times };
    let cluster = lan();
    let [mut a, mut b] = lab.members(&cluster);
    for round in 0..rounds {
        let mut victim = lab.launch(&cluster, VICTIM, &[]);
        victim.wait_ready();
        for member in [&mut a, &mut b, &mut victim] {
            member.wait_view(3);
        }
        // At any moment between two pings.
        victim.wait_pings(1 + round as u64 % 3);
        let gone = json!({ "do": "wait_view", "without": victim.id(), "within_ms": SOON_MS });
        a.send(gone.clone());
        b.send(gone);
        let silent = silence.begin(&lab, &victim);
        let left = [&mut a, &mut b].map(|member| member.reply().0).into_iter().max().unwrap();
        times.push(left.saturating_duration_since(silent));
        victim.kill();
        silence.end(&lab);
    }
    times
}

#[test]
fn nobody_is_removed_although_pings_are_lost() {
    let Some(run) = Run::begin() else { return };
    let Some(lab) = Lab::build_with_loss(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&lan());
    for member in [&mut a, &mut b, &mut c] {
        member.events();
    }
    let before = a.stat("pings_sent");
    for host in 0..3 {
        lab.lose(host, &["ip daddr 224.0.0.0/4 numgen random mod 100 < 30"]);
    }
    let seconds = run.share(600, 10);
    let since = now();
    let (mut suspected, mut removed) = (0, Vec::new());
    while since.elapsed() < Duration::from_secs(seconds as u64) {
        a.wait_pings(25);
        for member in [&mut a, &mut b, &mut c] {
            for event in member.events() {
                suspected += usize::from(event["event"] == "member-suspect");
                if event["event"] == "member-down" || event["event"] == "member-left" {
                    removed.push(event);
                }
            }
        }
    }
    let lost: u64 = (0..3).map(|host| lab.lost(host)).sum();
    let sent = a.stat("pings_sent") - before;
    assert!(lost > sent / 2, "{lost} were lost, {sent} sent by each of three");
    run.tell(
        "ping-loss",
        &Row {
            measured: removed.len().to_string(),
            spread: format!("{suspected} suspected and found alive"),
            reached: Some(removed.is_empty()),
            how: format!(
                "{seconds} s of an idle cluster of three, {sent} pings of each, {lost} lost at their receivers; pings every \
                 200 ms, drop time 1 s"
            ),
        },
    );
    assert_eq!(removed, Vec::<Value>::new());
}
