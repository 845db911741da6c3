//! `hotspare demo`: the story of two servers behind a load balancer, played by real processes, and checked.
//!
//! Three members run as child processes on loopback, in a multicast group and a cluster drawn at random. The parent is the
//! load balancer and the executioner; it holds no session, and every check asks a process over its pipe. It ends within
//! its limit and leaves no process behind.

#![expect(clippy::disallowed_methods, reason = "it tells how long each step took")]

pub(super) mod member;
pub mod process;
mod stage;
mod story;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::stage::{Check, Stage};
use self::story::STEPS;
use super::output::Output;
use super::{Exit, Failure};

/// Flags of `hotspare demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {}

/// Plays the story; fails when a check did not hold.
pub(super) fn run(_args: &DemoArgs, out: &Output) -> Result<(), Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&cancel))
            .map_err(|why| Failure::new(Exit::Start, [format!("no signal handler: {why}")]))?;
    }
    let start = Instant::now();
    let mut stage = Stage::new(start + LIMIT, Arc::clone(&cancel)).map_err(|why| Failure::new(Exit::Start, [why]))?;
    if out.is_json() {
        out.record("stage", &[("cluster", json!(stage.cluster())), ("group", json!(stage.group()))]);
    } else {
        out.line(&format!(
            "Three servers, A, B and C, each a process of its own on 127.0.0.1 (cluster {}, group {}).\n\
             A load balancer sends a user's requests to one of them, and to another when that one dies.\n",
            stage.cluster(),
            stage.group(),
        ));
    }
    let mut held = 0;
    for step in STEPS {
        let began = Instant::now();
        let (checks, trouble) = match (step.play)(&mut stage) {
            Ok(checks) => (checks, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        if cancel.load(Ordering::Relaxed) {
            drop(stage);
            return Err(Failure::new(Exit::Interrupted, ["interrupted; the servers are gone"]));
        }
        let ok = trouble.is_none() && checks.iter().all(|check| check.held);
        held += usize::from(ok);
        report(out, step.number, step.event, &checks, trouble.as_deref(), began.elapsed());
        // What follows stands on what came before.
        if trouble.is_some() {
            break;
        }
    }
    drop(stage);
    summary(out, held, start.elapsed());
    if held == STEPS.len() { Ok(()) } else { Err(Failure { exit: Exit::Failed, lines: Vec::new() }) }
}

/// One step in one line: mark, number, what happened, how long it took, what was found; what did not hold stands below.
fn report(out: &Output, number: &str, event: &str, checks: &[Check], trouble: Option<&str>, took: Duration) {
    let ok = trouble.is_none() && checks.iter().all(|check| check.held);
    if out.is_json() {
        let checks: Vec<Value> =
            checks.iter().map(|check| json!({ "check": check.what, "ok": check.held, "seen": check.seen })).collect();
        out.record(
            "step",
            &[
                ("step", json!(number)),
                ("ok", json!(ok)),
                ("what", json!(event)),
                ("checks", json!(checks)),
                ("trouble", json!(trouble)),
                ("ms", json!(millis(took))),
            ],
        );
        return;
    }
    let facts: Vec<&str> = checks.iter().filter(|check| check.held).map(|check| check.what.as_str()).collect();
    let facts = if facts.is_empty() { String::from("-") } else { facts.join("; ") };
    out.line(&format!("{} {number:<2} {event:<40} {:>5.0} ms   {facts}", mark(ok), millis(took)));
    for check in checks.iter().filter(|check| !check.held) {
        out.line(&format!("      ✗ {} — seen: {}", check.what, check.seen));
    }
    if let Some(trouble) = trouble {
        out.line(&format!("      ✗ {trouble}"));
    }
}

fn summary(out: &Output, held: usize, took: Duration) {
    let steps = STEPS.len();
    if out.is_json() {
        let fields =
            [("ok", json!(held == steps)), ("steps", json!(steps)), ("held", json!(held)), ("ms", json!(millis(took)))];
        out.record("summary", &fields);
    } else if held == steps {
        out.line(&format!("\nAll {steps} steps held, in {:.1} s. The servers are gone.", took.as_secs_f64()));
    } else {
        out.line(&format!("\n{held} of {steps} steps held, in {:.1} s. The servers are gone.", took.as_secs_f64()));
    }
}

fn mark(ok: bool) -> char {
    if ok { '✓' } else { '✗' }
}

/// Milliseconds with three digits after the point.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The demonstration ends within this time, whatever happens.
const LIMIT: Duration = Duration::from_secs(40);
