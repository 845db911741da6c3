//! What the story is played on: the three servers, a group and a cluster of their own, and the checks.

#![expect(clippy::disallowed_methods, reason = "every wait ends before the demonstration must")]

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Process;

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    /// The fact, as it reads when it holds.
    pub(super) what: String,
    pub(super) held: bool,
    /// What was seen.
    pub(super) seen: String,
}

impl Check {
    /// The same in other words.
    pub(super) fn says(mut self, words: &str) -> Self {
        words.clone_into(&mut self.what);
        self
    }
}

/// A check that `held`, or did not; `seen` is told then.
pub(super) fn check(what: impl Into<String>, held: bool, seen: impl Display) -> Check {
    Check { what: what.into(), held, seen: seen.to_string() }
}

/// The servers of the story, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Server {
    A,
    B,
    C,
}

use Server::{A, B, C};

/// The stage; its drop kills and reaps what runs on it.
#[derive(Debug)]
pub(super) struct Stage {
    program: PathBuf,
    cluster: String,
    group: String,
    deadline: Instant,
    cancel: Arc<AtomicBool>,
    servers: [Option<Process>; 3],
    /// Facts that a later step needs: a member's id, an address, a handle.
    pub(super) memory: Memory,
}

/// What a later step needs of an earlier one. No session is among it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// A's id and address before the crash.
    pub(super) first_a: (String, String),
    /// The slow request that B holds.
    pub(super) slow: u64,
}

impl Stage {
    pub(super) fn new(deadline: Instant, cancel: Arc<AtomicBool>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let draw = getrandom::u64().map_err(|e| format!("no randomness: {e}"))?.to_le_bytes();
        let [x, y, port, offset, ..] = draw;
        let port = 30_000 + u16::from(port) * 100 + u16::from(offset) % 100;
        Ok(Self {
            program,
            cluster: format!("demo-{:08x}", u32::from_le_bytes([draw[4], draw[5], draw[6], draw[7]])),
            group: format!("239.255.{x}.{y}:{port}"),
            deadline,
            cancel,
            servers: [None, None, None],
            memory: Memory::default(),
        })
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Starts a server; it is not ready yet. Where it lived before, it comes back on the same port.
    pub(super) fn start(&mut self, server: Server, port: Option<&str>) -> Result<(), String> {
        let flags = [
            String::from("--preset=loopback"),
            format!("--cluster={}", self.cluster),
            format!("--multicast={}", self.group),
            format!("--filter={FILTER}"),
            format!("--port={}", port.unwrap_or("0")),
        ];
        let process = Process::start(&self.program, server.name(), &flags)?.cancelled_by(&self.cancel);
        self.servers[server as usize] = Some(process);
        Ok(())
    }

    /// How long a server took from its start until it served.
    pub(super) fn wait_ready(&mut self, server: Server) -> Result<Duration, String> {
        let left = self.left();
        self.server(server)?.wait_ready(left)
    }

    pub(super) fn server(&mut self, server: Server) -> Result<&mut Process, String> {
        self.servers[server as usize].as_mut().ok_or_else(|| format!("{} does not run", server.name()))
    }

    /// Asks a server over its pipe.
    pub(super) fn ask(&mut self, server: Server, request: &Value) -> Result<Value, String> {
        self.send(server, request)?;
        self.reply(server).map(|(_, reply)| reply)
    }

    pub(super) fn send(&mut self, server: Server, request: &Value) -> Result<(), String> {
        self.server(server)?.send(request)
    }

    pub(super) fn reply(&mut self, server: Server) -> Result<(Instant, Value), String> {
        let left = self.left();
        self.server(server)?.reply(left)
    }

    /// A whole request, as the load balancer sends it.
    pub(super) fn request(&mut self, server: Server, id: &str, changes: Value) -> Result<Value, String> {
        let mut request = json!({ "do": "request", "id": id });
        if let (Some(all), Value::Object(changes)) = (request.as_object_mut(), changes) {
            all.extend(changes);
        }
        self.ask(server, &request)
    }

    /// An attribute as the server sees it now; null where there is none.
    pub(super) fn attribute(&mut self, server: Server, id: &str, name: &str) -> Result<Value, String> {
        Ok(self.ask(server, &json!({ "do": "get", "id": id }))?["attributes"][name].clone())
    }

    pub(super) fn exists(&mut self, server: Server, id: &str) -> Result<bool, String> {
        Ok(self.ask(server, &json!({ "do": "get", "id": id }))?["exists"] == json!(true))
    }

    /// Checks that each server holds the attribute, now and without waiting.
    pub(super) fn all_hold(&mut self, servers: &[Server], id: &str, name: &str, value: &str) -> Result<Check, String> {
        let mut seen = Vec::new();
        for server in servers {
            seen.push(self.attribute(*server, id, name)?);
        }
        let held = seen.iter().all(|v| v == value);
        Ok(check(format!("{} {id}.{name} = {value}", names(servers, "holds", "hold")), held, json!(seen)))
    }

    /// Checks that no server has the session, now and without waiting.
    pub(super) fn none_holds(&mut self, servers: &[Server], id: &str) -> Result<Check, String> {
        let mut holders = Vec::new();
        for server in servers {
            if self.exists(*server, id)? {
                holders.push(server.name());
            }
        }
        let held = holders.is_empty();
        Ok(check(format!("{id} is gone on {}", list(servers)), held, format!("still on {}", holders.join(", "))))
    }

    /// Waits until the server sees so many members, all of them ready; then checks the view.
    pub(super) fn view_of(&mut self, server: Server, members: usize) -> Result<Value, String> {
        self.ask(server, &json!({ "do": "wait_view", "members": members, "settled": true, "within_ms": PATIENCE_MS }))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            A => "A",
            B => "B",
            C => "C",
        }
    }
}

/// `A`, `A and B`, `A, B and C`.
fn list(servers: &[Server]) -> String {
    let all: Vec<&str> = servers.iter().map(|server| server.name()).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

fn names(servers: &[Server], one: &str, many: &str) -> String {
    format!("{} {}", list(servers), if servers.len() == 1 { one } else { many })
}

/// The requests that send nothing.
const FILTER: &str = r".*\.gif;.*\.css";
/// How long a member waits for what should come at once.
const PATIENCE_MS: u64 = 8_000;
