//! The nine steps of the story, and what each must show.

use serde_json::{Value, json};

use super::stage::Server::{A, B, C};
use super::stage::{Check, Stage, check};

/// One step.
pub(super) struct Step {
    pub(super) number: &'static str,
    /// What happens.
    pub(super) event: &'static str,
    pub(super) play: fn(&mut Stage) -> Result<Vec<Check>, String>,
}

const fn step(number: &'static str, event: &'static str, play: fn(&mut Stage) -> Result<Vec<Check>, String>) -> Step {
    Step { number, event, play }
}

/// The story; letters are what it shows beyond the nine.
pub(super) const STEPS: &[Step] = &[
    step("1", "A starts", a_starts),
    step("2", "B and C start at the same moment", others_start),
    step("3", "a request to A creates S1", session_is_created),
    step("3a", "A serves /logo.gif, which is filtered", filtered_request),
    step("3b", "B hands in all of S1 while A changes it", full_write),
    step("4", "A dies by kill -9", a_crashes),
    step("5", "the balancer turns to B with S1", survivor_serves),
    step("6", "A starts again on its port", a_returns),
    step("7", "a request to A invalidates S1", invalidation),
    step("7a", "a slow request of before ends on B", late_write),
    step("8", "a request to B creates S2", second_session),
    step("9", "S2 lies idle on A for 600 ms", idle_expiry),
];

fn a_starts(stage: &mut Stage) -> Result<Vec<Check>, String> {
    stage.start(A, None)?;
    let took = stage.wait_ready(A)?;
    let members = stage.view_of(A, 1)?["members"].clone();
    let made = stage.request(A, "S0", json!({ "create": true, "set": { "user": "early" } }))?;
    let server = stage.server(A)?;
    stage.memory.first_a = (server.id().to_owned(), server.address().to_owned());
    Ok(vec![
        check(
            format!("serves after {} ms, alone in its view", took.as_millis()),
            members.as_array().is_some_and(|m| m.len() == 1),
            members,
        ),
        check("makes S0 for nobody else", made["copies"] == 1, &made),
    ])
}

fn others_start(stage: &mut Stage) -> Result<Vec<Check>, String> {
    stage.start(B, None)?;
    stage.start(C, None)?;
    let (b, c) = (stage.wait_ready(B)?, stage.wait_ready(C)?);
    // Asked first: what a server lacks when it says that it serves, no later moment may hide.
    let state = stage.all_hold(&[B, C], "S0", "user", "early")?;
    let mut views = Vec::new();
    for server in [A, B, C] {
        views.push(stage.view_of(server, 3)?["members"].as_array().map_or(0, Vec::len));
    }
    Ok(vec![
        check(format!("serve after {} and {} ms", b.as_millis(), c.as_millis()), true, ""),
        state,
        check("all see {A, B, C}", views == [3, 3, 3], json!(views)),
    ])
}

fn session_is_created(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let made = stage.request(A, "S1", json!({ "create": true, "set": { "user": "ada", "cart": "tea" } }))?;
    Ok(vec![
        check(
            format!("3 copies in {} µs", made["took_us"]),
            made["status"] == "replicated" && made["copies"] == 3,
            &made,
        ),
        stage.all_hold(&[B, C], "S1", "user", "ada")?,
    ])
}

fn filtered_request(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let filtered = stage.request(A, "S1", json!({ "uri": "/logo.gif", "set": { "hits": "1" } }))?;
    let (at_a, at_b, at_c) =
        (stage.attribute(A, "S1", "hits")?, stage.attribute(B, "S1", "hits")?, stage.attribute(C, "S1", "hits")?);
    let next = stage.request(A, "S1", json!({ "uri": "/cart", "set": { "cart": "milk" } }))?;
    Ok(vec![
        check(
            "B and C get nothing",
            filtered["status"] == "filtered" && at_a == "1" && at_b.is_null() && at_c.is_null(),
            json!([filtered, at_a, at_b, at_c]),
        ),
        check("the next change reaches both", next["copies"] == 3, &next),
        stage.all_hold(&[B, C], "S1", "hits", "1")?.says("and brings it along"),
    ])
}

fn full_write(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let begun = stage.ask(B, &json!({ "do": "begin", "id": "S1" }))?;
    stage.request(A, "S1", json!({ "set": { "lang": "en" } }))?;
    let mut whole = begun["attributes"].clone();
    whole["cart"] = json!("bread");
    let ended = stage.ask(B, &json!({ "do": "end", "handle": begun["handle"], "replace_all": whole }))?;
    Ok(vec![
        check("3 copies", ended["copies"] == 3, &ended),
        stage.all_hold(&[A, B, C], "S1", "cart", "bread")?.says("B's cart is everywhere"),
        stage.all_hold(&[A, B, C], "S1", "lang", "en")?.says("A's language stays"),
    ])
}

fn a_crashes(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let gone = json!({ "do": "wait_view", "without": stage.memory.first_a.0, "within_ms": 5_000 });
    stage.send(B, &gone)?;
    stage.send(C, &gone)?;
    let killed = stage.server(A)?.kill()?;
    let (b, _) = stage.reply(B)?;
    let (c, _) = stage.reply(C)?;
    let ms = |at: std::time::Instant| at.saturating_duration_since(killed).as_secs_f64() * 1e3;
    Ok(vec![
        check(format!("B drops it after {:.1} ms, C after {:.1} ms", ms(b), ms(c)), true, ""),
        stage.all_hold(&[B, C], "S1", "cart", "bread")?,
    ])
}

fn survivor_serves(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let begun = stage.ask(B, &json!({ "do": "begin", "id": "S1" }))?;
    let ended = stage.ask(B, &json!({ "do": "end", "handle": begun["handle"], "set": { "cart": "paid" } }))?;
    Ok(vec![
        check("B has it", begun["exists"] == true && begun["attributes"]["user"] == "ada", &begun),
        check(
            "2 copies, nobody waits for A",
            ended["status"] == "replicated" && ended["copies"] == 2 && ended["missing"] == json!([]),
            &ended,
        ),
        stage.all_hold(&[C], "S1", "cart", "paid")?,
    ])
}

fn a_returns(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let (id, address) = stage.memory.first_a.clone();
    stage.start(A, address.rsplit(':').next())?;
    let took = stage.wait_ready(A)?;
    let state = stage.all_hold(&[A], "S1", "cart", "paid")?;
    for server in [A, B, C] {
        stage.view_of(server, 3)?;
    }
    let server = stage.server(A)?;
    Ok(vec![
        check(
            format!("serves after {} ms, as a new member", took.as_millis()),
            server.id() != id && server.address() == address,
            format!("{} at {}, was {id}", server.id(), server.address()),
        ),
        state.says("S1 came first"),
    ])
}

fn invalidation(stage: &mut Stage) -> Result<Vec<Check>, String> {
    // The slow request of the next step reads the session while it lives.
    let slow = stage.ask(B, &json!({ "do": "begin", "id": "S1" }))?;
    stage.memory.slow = slow["handle"].as_u64().unwrap_or(0);
    let ended = stage.request(A, "S1", json!({ "invalidate": true }))?;
    Ok(vec![
        check("3 copies", ended["status"] == "replicated" && ended["copies"] == 3, &ended),
        stage.none_holds(&[A, B, C], "S1")?,
    ])
}

fn late_write(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let handle = stage.memory.slow;
    let late = stage.ask(B, &json!({ "do": "end", "handle": handle, "set": { "cart": "again" } }))?;
    Ok(vec![
        check("it is told that S1 has ended", late["status"] == "ended" && late["copies"] == 0, &late),
        stage.none_holds(&[A, B, C], "S1")?,
    ])
}

fn second_session(stage: &mut Stage) -> Result<Vec<Check>, String> {
    let changes = json!({ "create": true, "set": { "user": "bob" }, "max_idle_ms": IDLE_MS });
    let made = stage.request(B, "S2", changes)?;
    Ok(vec![check("3 copies", made["copies"] == 3, &made), stage.all_hold(&[A, C], "S2", "user", "bob")?])
}

fn idle_expiry(stage: &mut Stage) -> Result<Vec<Check>, String> {
    // The last access is A's, so A is the one to end it; the others would wait for the grace on top.
    stage.request(A, "S2", json!({ "touch": true }))?;
    let expired = |stage: &mut Stage, server| -> Result<u64, String> {
        Ok(stage.ask(server, &json!({ "do": "stats" }))?["expired"].as_u64().unwrap_or(0))
    };
    let before = [expired(stage, A)?, expired(stage, B)?, expired(stage, C)?];
    let ended = json!({ "do": "wait_session", "id": "S2", "absent": true, "within_ms": IDLE_MS * 4 });
    for server in [A, B, C] {
        stage.send(server, &ended)?;
    }
    let (a, _) = stage.reply(A)?;
    let (b, _) = stage.reply(B)?;
    let (c, _) = stage.reply(C)?;
    let after = [expired(stage, A)?, expired(stage, B)?, expired(stage, C)?];
    let later = b.max(c).saturating_duration_since(a);
    Ok(vec![
        check(
            format!("A ends it, B and C {:.0} ms later", later.as_secs_f64() * 1e3),
            later.as_millis() < 500,
            format!("{later:?}"),
        ),
        check(
            "told by A, not by their clocks",
            after[0] == before[0] + 1 && after[1..] == before[1..],
            Value::from([before, after].concat()),
        ),
    ])
}

/// The idle time of S2.
const IDLE_MS: u64 = 600;
