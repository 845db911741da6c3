//! A member that takes in little or nothing of what is sent to it: what the others notice.

use std::time::Duration;

use serde_json::json;

use crate::caller::{Caller, PREFIX};
use crate::common::lab::Lab;
use crate::common::{Member, now};
use crate::record::{Row, Run, Times, ratio};
use crate::silence::lan;

/// The host of the member that is slow.
const SLOW: usize = 2;
/// Sessions that are written.
const SESSIONS: usize = 1000;
const SIZE: usize = 1024;
/// What one peer's queue may hold: the default of `queue_bytes_max`.
const CAP_KIB: u64 = 128 << 10;

#[test]
fn a_stopped_member_slows_nobody() {
    compare("stuck", "stuck-memory", "SIGSTOP, drop time 60 s", Slowness::Stopped);
}

#[test]
fn a_member_that_reads_slowly_slows_nobody() {
    let how = "all packets above 200 bytes to its port limited to 10 KB/s (nft), drop time 60 s";
    compare("slow", "slow-memory", how, Slowness::Limited);
}

#[derive(Clone, Copy, Debug)]
enum Slowness {
    /// Its process: it reads nothing.
    Stopped,
    /// What arrives at its port; echoes and acks are smaller than what is limited.
    Limited,
}

impl Slowness {
    fn begin(self, lab: &Lab, member: &Member) {
        match self {
            Self::Stopped => member.pause(),
            Self::Limited => {
                let large = format!("tcp dport {} ip length > 200", member.port());
                lab.lose(SLOW, &[&format!("{large} limit rate over 10 kbytes/second burst 10 kbytes")]);
            }
        }
    }

    fn end(self, lab: &Lab, member: &Member) {
        match self {
            Self::Stopped => member.resume(),
            Self::Limited => lab.heal(SLOW),
        }
    }
}

/// What the two others did in one span of time.
#[derive(Debug)]
struct Span {
    /// Changes of one that the other applied, a second.
    rate: f64,
    /// What a caller's writes took beside that.
    took: Times,
}

/// Measures by turns without and with a slow member.
fn compare(id: &'static str, memory: &'static str, what: &str, slowness: Slowness) {
    let Some(run) = Run::begin() else { return };
    let Some(lab) = Lab::build_with_loss(3) else { return };
    // Under bbr a connection that was policed stays as slow for dozens of its round trips after that.
    let cluster = lan().with("--mode=asynchronous").with("--drop-time=60s").with("--congestion=cubic");
    let [mut a, mut b, mut c] = lab.members(&cluster);
    a.ask(json!({ "do": "fill", "prefix": PREFIX, "count": SESSIONS, "size": SIZE }));
    a.ask(json!({ "do": "load_start", "threads": 2, "sessions": SESSIONS, "size": SIZE, "prefix": "w" }));
    let time = Duration::from_secs_f64(run.share(100, 20) as f64 / 10.0);
    // Until memory is what the load alone needs.
    span(&mut a, &mut b, time);
    let before = a.peak_kib().unwrap();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..run.share(5, 1) {
        without.push(span(&mut a, &mut b, time));
        slowness.begin(&lab, &c);
        with.push(span(&mut a, &mut b, time));
        slowness.end(&lab, &c);
        for member in [&mut a, &mut b, &mut c] {
            member.wait_view(3);
        }
    }
    a.ask(json!({ "do": "load_stop" }));
    let grown = a.peak_kib().unwrap().saturating_sub(before);

    let (rates, latencies) = (median(&without, &with, |span| span.rate), median(&without, &with, p99_us));
    let each = |spans: &[Span], value: fn(&Span) -> f64| {
        spans.iter().map(|span| format!("{:.0}", value(span))).collect::<Vec<_>>().join(", ")
    };
    let how = format!(
        "asynchronous, two threads write 1 KiB each as fast as they can at one of three, a caller beside them; {what}; congestion control cubic; by \
         turns without and with for {} s each, medians",
        time.as_secs_f64()
    );
    run.tell(
        id,
        &Row {
            measured: format!("{:.2} × as much, p99 {:.2} ×", rates.2, latencies.2),
            spread: format!(
                "without {} /s, with {} /s; p99 without {} µs, with {} µs",
                each(&without, |span| span.rate),
                each(&with, |span| span.rate),
                each(&without, p99_us),
                each(&with, p99_us)
            ),
            reached: Some(rates.2 >= 0.9 && latencies.2 <= 1.5),
            how,
        },
    );
    run.tell(
        memory,
        &Row {
            measured: format!("{} MiB", grown >> 10),
            spread: format!("from {} MiB (VmHWM)", before >> 10),
            reached: Some(grown <= CAP_KIB + CAP_KIB / 10),
            how: format!("the same; cap {} MiB", CAP_KIB >> 10),
        },
    );
    assert!(grown <= CAP_KIB + CAP_KIB / 10, "the sender grew by {grown} KiB");
}

/// What one does and the other applies for some time.
fn span(a: &mut Member, b: &mut Member, time: Duration) -> Span {
    let (since, before) = (now(), b.stat("merges"));
    let mut caller = Caller::new(0, 1, SESSIONS);
    while since.elapsed() < time {
        caller.turn(a);
    }
    let merged = b.stat("merges") - before;
    Span { rate: merged as f64 / since.elapsed().as_secs_f64(), took: caller.took }
}

fn p99_us(span: &Span) -> f64 {
    span.took.p99().as_secs_f64() * 1e6
}

/// The medians without and with, and how many times the first the second is.
fn median(without: &[Span], with: &[Span], value: fn(&Span) -> f64) -> (f64, f64, f64) {
    let [without, with] = [without, with].map(|spans| {
        let mut values: Vec<f64> = spans.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    });
    (without, with, ratio(with, without))
}
