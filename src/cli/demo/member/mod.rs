//! `hotspare member`: a node that does what it is told, one line of JSON for each request and one for each reply.
//!
//! The first line on standard output is the one of `hotspare node`. Then every request `{"do":…}` gets exactly one reply,
//! `{"ok":true,…}` or `{"ok":false,"error":…}`, in order; what must be held meanwhile is held under a handle, and load runs
//! beside. Replies speak of what this process sees, nothing else, and every wait is bounded. The member ends, as in a
//! crash, when standard input does.

mod events;
mod load;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use self::events::EventLog;
use self::load::Load;
use self::words::{outcome_fields, refusal, view_fields};
use crate::cli::flags::Settings;
use crate::cli::node::{not_started, ready_fields};
use crate::cli::output::Output;
use crate::cli::{Exit, Failure};
use crate::id::NodeState;
use crate::node::{Context, EndError, Node, Request, Ticket};

/// Flags of `hotspare member`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MemberArgs {
    #[command(flatten)]
    pub(in crate::cli) settings: Settings,
    /// Make these mistakes
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = crate::mutant::Mutant::named)]
    mutant: Vec<crate::mutant::Mutant>,
}

/// Runs the member until standard input ends.
pub(in crate::cli) fn run(args: &MemberArgs) -> Result<(), Failure> {
    #[cfg(feature = "mutants")]
    args.mutant.iter().copied().for_each(crate::mutant::plant_everywhere);
    let config = args.settings.load_and_warn()?.config;
    let node = Node::start(config).map_err(|why| not_started(&why))?;
    let result = serve(&node);
    node.close();
    result
}

fn serve(node: &Node) -> Result<(), Failure> {
    let out = Output::new(true);
    let started = |why: io::Error| Failure::new(Exit::Start, [format!("no thread: {why}")]);
    let events = EventLog::start(node).map_err(started)?;
    let lines = requests().map_err(started)?;

    // What is asked meanwhile waits; only the end of the input is looked for.
    let mut early = VecDeque::new();
    while node.wait_ready(TURN).is_err() {
        match lines.try_recv() {
            Ok(line) => early.push_back(line),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
    out.record("ready", &ready_fields(node));

    let mut script = Script { node, events, held: BTreeMap::new(), handles: 0, load: None };
    while let Some(line) = early.pop_front().or_else(|| lines.recv().ok()) {
        out.line(&told(script.play_line(&line)).to_string());
    }
    Ok(())
}

/// Lines of standard input; the channel closes when it ends.
fn requests() -> io::Result<mpsc::Receiver<String>> {
    let (send, lines) = mpsc::sync_channel(REQUESTS_MAX);
    std::thread::Builder::new().name(String::from("member-in")).spawn(move || {
        let _ = io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| send.send(line));
    })?;
    Ok(lines)
}

/// A reply's fields; the error's where something was refused.
type Reply = Result<Map<String, Value>, Map<String, Value>>;

/// The reply, which says whether it is one.
fn told(reply: Reply) -> Value {
    let ok = reply.is_ok();
    let mut fields = reply.unwrap_or_else(|refused| refused);
    fields.insert(String::from("ok"), Value::Bool(ok));
    Value::Object(fields)
}

/// The member's state between requests.
struct Script<'a> {
    node: &'a Node,
    events: Arc<EventLog>,
    /// Requests begun and not yet ended.
    held: BTreeMap<u64, Request>,
    handles: u64,
    load: Option<Load>,
}

impl Script<'_> {
    fn play_line(&mut self, line: &str) -> Reply {
        let request = serde_json::from_str(line).map_err(|e| refusal(&format!("no JSON: {e}")))?;
        self.play(&Ask(&request))
    }

    fn play(&mut self, ask: &Ask<'_>) -> Reply {
        match ask.text("do")? {
            "request" => {
                let request = self.begun(ask)?;
                ask.end(request)
            }
            "begin" => {
                let request = self.begun(ask)?;
                if self.held.len() >= HELD_MAX {
                    return Err(refusal("too many requests are held"));
                }
                let mut fields = session_fields(&request);
                self.handles += 1;
                self.held.insert(self.handles, request);
                fields.insert(String::from("handle"), json!(self.handles));
                Ok(fields)
            }
            "end" => {
                let handle = ask.number("handle")?;
                let request = self.held.remove(&handle).ok_or_else(|| refusal("no such handle"))?;
                ask.end(request)
            }
            // One line for several, which are played in order.
            "many" => {
                let all = ask.0["all"].as_array().filter(|all| all.len() <= MANY_MAX);
                let all = all.ok_or_else(|| refusal("all is no list, or too long"))?;
                let replies = if ask.flag("together") {
                    self.end_together(all)
                } else {
                    all.iter().map(|one| told(self.play(&Ask(one)))).collect()
                };
                Ok(fields([("all", Value::Array(replies))]))
            }
            "get" => Ok(session_fields(&self.context(ask)?.begin(ask.text("id")?.as_bytes()))),
            "view" => Ok(view_fields(self.node)),
            "stats" => Ok(fields(self.node.stats().fields().into_iter().map(|(k, v)| (k, json!(v))))),
            "events" => Ok(fields([("events", Value::Array(self.events.take()))])),
            "wait_view" => self.wait_view(ask),
            "wait_session" => self.wait_session(ask),
            "wait_stat" => self.wait_stat(ask),
            "wait_event" => self.wait_event(ask),
            "fill" => load::fill(&self.context(ask)?, &ask.filling()?),
            "check_fill" => Ok(load::check_fill(&self.context(ask)?, &ask.filling()?)),
            "check_load" => load::check(&self.context(ask)?, ask.0),
            "load_start" => {
                if self.load.is_some() {
                    return Err(refusal("load runs already"));
                }
                let plan = load::Plan {
                    threads: ask.size_or("threads", 1)?,
                    sessions: ask.size_or("sessions", 16)?,
                    size: ask.size_or("size", 64)?,
                    prefix: ask.text("prefix")?.to_owned(),
                    log: ask.0["log"].as_str().map(Into::into),
                };
                self.load = Some(Load::start(&self.context(ask)?, &plan).map_err(|e| refusal(&e.to_string()))?);
                Ok(Map::new())
            }
            "load_stop" => Ok(self.load.take().ok_or_else(|| refusal("no load runs"))?.stop()),
            "leave" => {
                self.node.leave(LEAVE_TIMEOUT);
                Ok(Map::new())
            }
            other => Err(refusal(&format!("no such request: {other}"))),
        }
    }

    /// Ends requests that are held, one after the other, and waits for the copies of all of them at the end.
    fn end_together(&mut self, all: &[Value]) -> Vec<Value> {
        type Ended = Result<(Instant, Result<Ticket, EndError>), Map<String, Value>>;
        let mut end = |one| -> Ended {
            let ask = Ask(one);
            let handle = ask.number("handle")?;
            let request = self.held.remove(&handle).ok_or_else(|| refusal("no such handle"))?;
            let start = now();
            Ok((start, ask.changed(request).end_with_ticket(ask.uri())))
        };
        let ended: Vec<Ended> = all.iter().map(&mut end).collect();
        let limit = now() + self.node.config().ack_timeout;
        let outcome = |(start, ticket): (Instant, Result<Ticket, EndError>)| {
            let result = ticket.map(|ticket| ticket.wait(limit.saturating_duration_since(now())));
            outcome_fields(&result, now() - start)
        };
        ended.into_iter().map(|one| told(one.and_then(outcome))).collect()
    }

    fn context(&self, ask: &Ask<'_>) -> Result<Context, Map<String, Value>> {
        let name = ask.0["context"].as_str().unwrap_or(CONTEXT);
        self.node.context(name).map_err(|e| refusal(&e.to_string()))
    }

    fn begun(&self, ask: &Ask<'_>) -> Result<Request, Map<String, Value>> {
        let (context, id) = (self.context(ask)?, ask.text("id")?.as_bytes());
        Ok(if ask.flag("create") { context.create(id) } else { context.begin(id) })
    }

    fn wait_view(&self, ask: &Ask<'_>) -> Reply {
        let (members, with, without) = (ask.0["members"].as_u64(), ask.0["with"].as_str(), ask.0["without"].as_str());
        let settled = ask.flag("settled");
        self.wait(ask, || {
            let view = self.node.view();
            let has = |id: &str| view.members.iter().any(|m| m.id.to_string() == id);
            let is_settled = || view.members.iter().all(|m| m.state == NodeState::Ready && !m.suspect && !m.repairing);
            let holds = members.is_none_or(|n| view.members.len() as u64 == n)
                && with.is_none_or(has)
                && !without.is_some_and(has)
                && (!settled || is_settled());
            holds.then(|| view_fields(self.node)).ok_or_else(|| Value::Object(view_fields(self.node)))
        })
    }

    fn wait_session(&self, ask: &Ask<'_>) -> Reply {
        let (context, id) = (self.context(ask)?, ask.text("id")?);
        self.wait(ask, || {
            let seen = session_fields(&context.begin(id.as_bytes()));
            let wanted = |(name, value): (&String, &Value)| match value {
                Value::Null => seen["attributes"].get(name).is_none(),
                value => seen["attributes"].get(name) == Some(value),
            };
            let holds = if ask.flag("absent") {
                seen["exists"] == json!(false)
            } else {
                seen["exists"] == json!(true)
                    && ask.0["attributes"].as_object().is_none_or(|all| all.iter().all(wanted))
            };
            if holds { Ok(seen) } else { Err(Value::Object(seen)) }
        })
    }

    fn wait_stat(&self, ask: &Ask<'_>) -> Reply {
        let (name, at_least) = (ask.text("name")?, ask.number("at_least")?);
        self.wait(ask, || {
            let value = self.node.stats().fields().into_iter().find(|(n, _)| *n == name).map(|(_, value)| value);
            match value {
                Some(value) if value >= at_least => Ok(fields([("value", json!(value))])),
                value => Err(json!(value)),
            }
        })
    }

    /// Waits for an event of a member among those not yet taken.
    fn wait_event(&self, ask: &Ask<'_>) -> Reply {
        let (event, name) = (ask.text("event")?, ask.text("name")?);
        self.wait(ask, || match self.events.find(event, name) {
            Some(found) => Ok(fields([("event", found)])),
            None => Err(Value::Null),
        })
    }

    /// Waits until `look` succeeds, at most `within_ms`; the error says what was seen last.
    fn wait(&self, ask: &Ask<'_>, mut look: impl FnMut() -> Result<Map<String, Value>, Value>) -> Reply {
        let within = Duration::from_millis(ask.number("within_ms").unwrap_or(WITHIN_MS));
        let start = now();
        loop {
            let heard = self.events.count();
            match look() {
                Ok(mut fields) => {
                    fields.insert(String::from("waited_us"), micros(start.elapsed()));
                    return Ok(fields);
                }
                Err(seen) if start.elapsed() >= within => {
                    let mut fields = refusal(&format!("not within {} ms", within.as_millis()));
                    fields.insert(String::from("seen"), seen);
                    return Err(fields);
                }
                // Not every change makes an event.
                Err(_) => self.events.wait(heard, LOOK),
            }
        }
    }
}

/// A request's fields.
struct Ask<'a>(&'a Value);

impl<'a> Ask<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Map<String, Value>> {
        self.0[name].as_str().ok_or_else(|| refusal(&format!("{name} is missing")))
    }

    fn number(&self, name: &str) -> Result<u64, Map<String, Value>> {
        self.0[name].as_u64().ok_or_else(|| refusal(&format!("{name} is missing")))
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize, Map<String, Value>> {
        match &self.0[name] {
            Value::Null => Ok(default),
            value => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| refusal(&format!("{name} is no size"))),
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name] == json!(true)
    }

    fn filling(&self) -> Result<load::Filling, Map<String, Value>> {
        Ok(load::Filling {
            prefix: self.text("prefix")?.to_owned(),
            count: self.size_or("count", 1)?,
            size: self.size_or("size", 64)?,
        })
    }

    fn uri(&self) -> &'a str {
        self.0["uri"].as_str().unwrap_or("/")
    }

    /// Applies the changes that are asked for and ends the request.
    fn end(&self, request: Request) -> Reply {
        let request = self.changed(request);
        let start = now();
        let result = request.end(self.uri());
        outcome_fields(&result, start.elapsed())
    }

    /// The request with the changes that are asked for.
    fn changed(&self, mut request: Request) -> Request {
        let pairs = |name: &str| self.0[name].as_object().into_iter().flatten();
        let bytes = |value: &'a Value| value.as_str().unwrap_or_default().as_bytes();
        if let Some(all) = self.0["replace_all"].as_object() {
            request.replace_all(all.iter().map(|(name, value)| (name.as_bytes(), bytes(value))));
        }
        for (name, value) in pairs("set") {
            request.set(name.as_bytes(), bytes(value));
        }
        for name in self.0["remove"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            request.remove(name.as_bytes());
        }
        if self.flag("touch") {
            request.touch();
        }
        if let Some(ms) = self.0["max_idle_ms"].as_u64() {
            request.set_max_idle(Duration::from_millis(ms));
        }
        if let Some(id) = self.0["change_id"].as_str() {
            request.change_id(id.as_bytes());
        }
        if self.flag("invalidate") {
            request.invalidate();
        }
        request
    }
}

/// A session as this process sees it. Bytes that are no UTF-8 are replaced: scripts write text.
fn session_fields(request: &Request) -> Map<String, Value> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let attributes: Map<String, Value> =
        request.attributes().into_iter().map(|(name, _, value)| (text(name), json!(text(value)))).collect();
    fields([
        ("exists", json!(request.exists())),
        ("attributes", Value::Object(attributes)),
        ("max_idle_ms", json!(request.max_idle().map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)))),
    ])
}

fn fields(all: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn micros(time: Duration) -> Value {
    json!(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "a script measures how long things take")]
fn now() -> Instant {
    Instant::now()
}

/// The context where a request names none.
const CONTEXT: &str = "demo";
/// How long a wait lasts that names no bound.
const WITHIN_MS: u64 = 10_000;
/// How often a wait looks when it hears no event.
const LOOK: Duration = Duration::from_millis(2);
/// How often a starting member looks whether its input has ended.
const TURN: Duration = Duration::from_millis(20);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that may wait in line.
const REQUESTS_MAX: usize = 64;
/// Requests in one line.
const MANY_MAX: usize = 256;
/// Requests that may be held at a time.
const HELD_MAX: usize = 1024;
