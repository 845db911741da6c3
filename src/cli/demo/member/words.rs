//! What a node says, as the words of the script's replies.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Reply, fields, micros};
use crate::node::{CommitError, EndError, MissingReason, Node, Outcome, Status};

/// A reply that something was refused.
pub(super) fn refusal(error: &str) -> Map<String, Value> {
    fields([("error", json!(error))])
}

/// How a request ended.
pub(super) fn outcome_fields(result: &Result<Outcome, EndError>, took: Duration) -> Reply {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            return Err(fields([("error", json!(error.to_string())), ("kind", json!(error_word(error)))]));
        }
    };
    let mut reply = fields([
        ("status", json!(status_word(outcome.status))),
        ("copies", json!(outcome.copies)),
        ("took_us", micros(took)),
    ]);
    let missing = outcome.missing.iter().map(|m| json!({ "name": m.name, "reason": reason_word(m.reason) }));
    reply.insert(String::from("missing"), missing.collect());
    if let Status::Queued(members) = outcome.status {
        reply.insert(String::from("queued"), json!(members));
    }
    Ok(reply)
}

/// The view as this node sees it.
pub(super) fn view_fields(node: &Node) -> Map<String, Value> {
    let view = node.view();
    let members = view.members.iter().map(|m| {
        json!({
            "id": m.id.to_string(),
            "name": m.name,
            "address": m.addr.to_string(),
            "state": m.state.as_str(),
            "suspect": m.suspect,
            "repairing": m.repairing,
        })
    });
    fields([("view", json!(view.id.0)), ("members", members.collect())])
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Replicated => "replicated",
        Status::Queued(_) => "queued",
        Status::Unchanged => "unchanged",
        Status::Filtered => "filtered",
        Status::Ended => "ended",
    }
}

fn reason_word(reason: MissingReason) -> &'static str {
    match reason {
        MissingReason::Timeout => "timeout",
        MissingReason::Down => "down",
        MissingReason::Repair => "repair",
        MissingReason::Joining => "joining",
        MissingReason::Suspect => "suspect",
        MissingReason::Partial => "partial",
        MissingReason::Refused => "refused",
    }
}

fn error_word(error: &EndError) -> &'static str {
    match error {
        EndError::Commit(CommitError::ValueTooLarge(..)) => "value-too-large",
        EndError::Commit(CommitError::SessionTooLarge(..)) => "session-too-large",
        EndError::Commit(CommitError::NameTooLong(..)) => "name-too-long",
        EndError::Commit(CommitError::IdEmpty) => "id-empty",
        EndError::Commit(CommitError::StoreFull(..)) => "store-full",
        EndError::NoSession => "no-session",
        EndError::NotServing => "not-serving",
        EndError::Forked => "forked",
    }
}
