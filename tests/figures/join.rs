//! A member that joins a large state under writes, while one of those that send it is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::caller::{Caller, PREFIX};
use crate::common::{Cluster, Member, now};
use crate::record::{Ms, Row, Run, Times, ratio};

/// How long a transfer may take on a slow machine.
const LONG: Duration = Duration::from_secs(600);
/// How long writes are measured before each join.
const BEFORE: Duration = Duration::from_secs(10);
const SIZE: usize = 1024;

#[test]
fn a_joiner_is_complete_although_its_donor_dies_under_writes() {
    let Some(run) = Run::begin() else { return };
    let count = run.share(1_000_000, 2_000);
    let cluster = Cluster::new().with("--state-transfer-timeout=600s");
    let mut donor = cluster.start("a");
    long(&mut donor, &sessions("fill", count));
    let mut dying = cluster.launch("b", &[]);
    let mut transfers = vec![dying.0.wait_ready(LONG).unwrap()];

    let mut callers = [Caller::new(0, 2, count), Caller::new(1, 2, count)];
    let (mut lost, mut checked, mut before, mut joins) = (0, 0, Times::default(), Vec::new());
    for percent in [25, 50, 75] {
        before.extend(&write_for(BEFORE, [&mut donor, &mut dying], &mut callers));
        let mut joiner = cluster.launch("joiner", &[]);
        let (took, during, gone) = join(&mut joiner, [&mut donor, &mut dying], &mut callers, count * percent / 100);
        transfers.push(took);
        joins.push((percent, during, std::mem::take(&mut callers[0].bereaved), gone));
        for member in [&mut donor, &mut joiner] {
            member.wait_view(2);
            lost += missing(member, &callers, count);
        }
        checked += count + callers.iter().map(|caller| caller.acknowledged.len()).sum::<usize>();
        dying = joiner;
    }
    let how = format!(
        "{count} sessions of 1 KiB on two members, a third joins while a caller of each reads and writes by turns; one of \
         the two is killed when it has sent so much"
    );
    run.tell(
        "join",
        &Row {
            measured: lost.to_string(),
            spread: format!("{checked} looked for at the joiner and at the donor that was left"),
            reached: Some(lost == 0),
            how: how.clone(),
        },
    );
    let slower = |times: &Times| ratio(times.p99().as_secs_f64(), before.p99().as_secs_f64());
    let (mut ratios, mut said) = (Vec::new(), vec![format!("before {}", Ms(before.p99()))]);
    for (percent, during, bereaved, gone) in &joins {
        let mut all = during.clone();
        all.extend(bereaved);
        ratios.push((slower(during), slower(&all)));
        said.push(format!(
            "{percent} %: {} ({:.1} ×), longest {}; at the kill {}, the process was gone after {} (with that {:.1} ×)",
            Ms(during.p99()),
            slower(during),
            Ms(during.percentile(100)),
            Ms(bereaved.percentile(100)),
            Ms(*gone),
            slower(&all)
        ));
    }
    let most = |ratio: fn(&(f64, f64)) -> f64| ratios.iter().map(ratio).fold(0.0, f64::max);
    let (worst, with_kill) = (most(|ratio| ratio.0), most(|ratio| ratio.1));
    run.tell(
        "join-p99",
        &Row {
            measured: format!("{worst:.1} × at most; {with_kill:.1} × with the writes that waited for the killed one"),
            spread: said.join(", "),
            reached: Some(worst <= 2.0),
            how: format!(
                "{how}; before: {} s of the same before each of the three, together; a process that is killed closes its sockets when its memory is freed, and \
                 whoever waited for it waits until then: that is counted apart",
                BEFORE.as_secs()
            ),
        },
    );
    let rate = |took: &Duration| count as f64 / took.as_secs_f64();
    let rates: Vec<String> = transfers.iter().map(|took| format!("{:.0}", rate(took))).collect();
    run.tell(
        "join-rate",
        &Row {
            measured: format!("{:.0} sessions/s", rate(&transfers[0])),
            spread: format!(
                "{} s",
                transfers.iter().map(|t| format!("{:.1}", t.as_secs_f64())).collect::<Vec<_>>().join(", ")
            ),
            reached: None,
            how: format!(
                "from the start of the process until it serves; first from one member without writes, then the three \
                 joins above, whose rates are {} sessions/s",
                rates[1..].join(", ")
            ),
        },
    );
    assert_eq!(lost, 0);
}

fn sessions(word: &str, count: usize) -> Value {
    json!({ "do": word, "prefix": PREFIX, "count": count, "size": SIZE })
}

/// Asks for what takes long.
fn long(member: &mut Member, request: &Value) -> Value {
    member.send(request.clone());
    member.0.reply(LONG).unwrap().1
}

/// Both callers go on for so long; what the first one's writes took.
fn write_for(time: Duration, members: [&mut Member; 2], callers: &mut [Caller; 2]) -> Times {
    let until = now() + time;
    std::thread::scope(|scope| {
        for (member, caller) in members.into_iter().zip(callers.iter_mut()) {
            scope.spawn(move || {
                while now() < until {
                    caller.turn(member);
                }
            });
        }
    });
    std::mem::take(&mut callers[0].took)
}

/// Waits until the joiner serves, while both callers go on; the second member dies when it has sent it so many sessions.
/// How long that was, what the first one's writes took meanwhile, and how long the second one took to die.
fn join(
    joiner: &mut Member,
    [donor, dying]: [&mut Member; 2],
    callers: &mut [Caller; 2],
    sessions: usize,
) -> (Duration, Times, Duration) {
    let served = AtomicBool::new(false);
    let [of_donor, of_dying] = callers;
    let (took, gone) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !served.load(Ordering::Relaxed) {
                of_donor.turn(donor);
            }
        });
        let death = scope.spawn(|| {
            let frames = dying.stat("frames_sent");
            let mut own = 0;
            while !served.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    of_dying.turn(dying);
                    own += 1;
                }
                if dying.stat("frames_sent") - frames >= own + sessions as u64 {
                    break;
                }
            }
            assert!(!served.load(Ordering::Relaxed), "it served before its donor had sent that much");
            dying.kill().elapsed()
        });
        let took = joiner.0.wait_ready(LONG);
        served.store(true, Ordering::Relaxed);
        (took.unwrap(), death.join().expect("it was killed"))
    });
    (took, std::mem::take(&mut of_donor.took), gone)
}

/// Sessions that a member lacks, and acknowledged writes that it does not show.
fn missing(member: &mut Member, callers: &[Caller; 2], count: usize) -> usize {
    let seen = long(member, &sessions("check_fill", count));
    let mut missing = seen["missing"].as_u64().unwrap() + seen["wrong"].as_u64().unwrap();
    for caller in callers {
        let seen = long(member, &json!({ "do": "check_load", "at_least": caller.acknowledged }));
        missing +=
            ["missing", "behind"].map(|what| seen[what].as_array().map_or(0, Vec::len) as u64).iter().sum::<u64>();
    }
    usize::try_from(missing).unwrap()
}
