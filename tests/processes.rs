//! Real processes over loopback: the story as a whole, and what holds while nothing goes wrong. What may go wrong is in
//! `tests/faults/`.
//!
//! What is asserted about a member is what that member answered over its pipe.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![cfg(feature = "cli")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use common::{Cluster, program, signal, wait_no_process};
use serde_json::{Value, json};

#[test]
fn the_demo_holds_every_step_and_leaves_no_process() {
    let output = Command::new(program()).args(["demo", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(output.status.success(), "{text}");
    let steps: Vec<&Value> = lines.iter().filter(|line| line["event"] == "step").collect();
    for number in 1..=9 {
        let step = steps.iter().find(|step| step["step"].as_str() == Some(&number.to_string()));
        let step = step.unwrap_or_else(|| panic!("step {number} was not played:\n{text}"));
        assert!(step["ok"] == true && step["checks"].as_array().is_some_and(|all| !all.is_empty()), "{step}");
    }
    let summary = lines.last().unwrap();
    assert!(summary["event"] == "summary" && summary["ok"] == true && summary["steps"] == steps.len(), "{summary}");
    wait_no_process(lines[0]["cluster"].as_str().unwrap());
}

#[test]
fn an_interrupted_demo_says_so_and_leaves_no_process() {
    let mut command = Command::new(program());
    let mut demo = command.args(["demo", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let stage: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let _first_step = lines.next().unwrap().unwrap();
    signal(demo.id(), "INT");
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    wait_no_process(stage["cluster"].as_str().unwrap());
}

#[test]
fn a_change_is_readable_everywhere_when_its_request_returns() {
    let [mut a, mut b, mut c] = Cluster::new().members();
    a.make("S", json!({ "k": "0" }), 3);
    for round in 0..50 {
        let value = round.to_string();
        let ended = a.request("S", json!({ "set": { "k": value } }));
        assert_eq!((&ended["copies"], &ended["missing"]), (&json!(3), &json!([])), "{ended}");
        assert_eq!(b.get("S")["k"], json!(value));
        assert_eq!(c.get("S")["k"], json!(value));
    }
}

#[test]
fn a_change_of_id_moves_the_session_on_every_member() {
    let [mut a, mut b] = Cluster::new().members();
    a.make("guest", json!({ "cart": "tea" }), 2);
    assert_eq!(b.request("guest", json!({ "change_id": "login" }))["copies"], 2);
    for member in [&mut a, &mut b] {
        assert_eq!(member.get("guest"), Value::Null);
        assert_eq!(member.get("login"), json!({ "cart": "tea" }));
    }
}
