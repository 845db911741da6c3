//! Members as child processes, and their leash: whoever drops one has killed and reaped it.
//!
//! What a parent knows of a member is what the member answered. Every answer has a bound.

#![expect(clippy::disallowed_methods, reason = "a reply carries the time at which it came")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A member that runs as a process of its own.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<(Instant, String)>,
    started: Instant,
    /// What it said when it became ready.
    ready: Value,
    cancel: Option<Arc<AtomicBool>>,
}

impl Process {
    /// Starts `program member` with these flags; it is not ready yet. Variables of the environment that would configure
    /// it are taken out.
    ///
    /// # Errors
    /// What the system said.
    pub fn start(program: &Path, name: &str, flags: &[String]) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(["member", "--json", &format!("--name={name}")]).args(flags);
        Self::spawn(command, name)
    }

    /// Starts a command that ends in `hotspare member …`, say within a network namespace.
    ///
    /// # Errors
    /// What the system said.
    pub fn spawn(mut command: Command, name: &str) -> Result<Self, String> {
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("HOTSPARE_") && variable != LOG_VARIABLE {
                command.env_remove(variable);
            }
        }
        if std::env::var_os(LOG_VARIABLE).is_none() {
            // What happens to members is told by checks; their warnings about it would stand between them.
            command.env(LOG_VARIABLE, "error");
        }
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (send, lines) = mpsc::channel();
        let process = Self { name: name.to_owned(), child, stdin, lines, started, ready: Value::Null, cancel: None };
        let stdout = stdout.ok_or_else(|| format!("{name} has no output"))?;
        // The channel is bounded by the protocol: one line for each request.
        std::thread::Builder::new()
            .name(format!("replies-{name}"))
            .spawn(move || {
                let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
                let _ = lines.try_for_each(|line| send.send((Instant::now(), line)));
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(process)
    }

    /// Ends every wait soon after this flag is raised.
    #[must_use]
    pub fn cancelled_by(mut self, flag: &Arc<AtomicBool>) -> Self {
        self.cancel = Some(Arc::clone(flag));
        self
    }

    /// Waits for the line that says that it serves; how long that took from the start.
    ///
    /// # Errors
    /// It ended, or did not say so in time.
    pub fn wait_ready(&mut self, within: Duration) -> Result<Duration, String> {
        let (at, line) = self.receive(within)?;
        if line["event"] != "ready" {
            return Err(format!("{} said {line} and not that it is ready", self.name));
        }
        self.ready = line;
        Ok(at - self.started)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its member id, once ready.
    #[must_use]
    pub fn id(&self) -> &str {
        self.ready["id"].as_str().unwrap_or_default()
    }

    /// The address that it listens on, once ready.
    #[must_use]
    pub fn address(&self) -> &str {
        self.ready["address"].as_str().unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// It refused, ended, or did not answer in time.
    pub fn ask(&mut self, request: &Value) -> Result<Value, String> {
        self.send(request)?;
        self.reply(REPLY).map(|(_, reply)| reply)
    }

    /// Asks without waiting; [`Process::reply`] takes the answers in order.
    ///
    /// # Errors
    /// It ended.
    pub fn send(&mut self, request: &Value) -> Result<(), String> {
        let ended = || format!("{} has ended", self.name);
        let stdin = self.stdin.as_mut().ok_or_else(ended)?;
        // One write, so that a stopped member is not left with half a line.
        stdin.write_all(format!("{request}\n").as_bytes()).map_err(|_| ended())
    }

    /// The next answer and when it came.
    ///
    /// # Errors
    /// It refused, ended, or did not answer in time.
    pub fn reply(&mut self, within: Duration) -> Result<(Instant, Value), String> {
        let (at, reply) = self.receive(within)?;
        if reply["ok"] == Value::Bool(true) {
            return Ok((at, reply));
        }
        let error = reply["error"].as_str().unwrap_or("no reply of ours");
        Err(match (&reply["kind"], &reply["seen"]) {
            (Value::String(kind), _) => format!("{}: {kind}: {error}", self.name),
            (_, Value::Null) => format!("{}: {error}", self.name),
            (_, seen) => format!("{}: {error}; seen last: {seen}", self.name),
        })
    }

    /// Kills it with SIGKILL and reaps it; when the signal went out.
    ///
    /// # Errors
    /// What the system said.
    pub fn kill(&mut self) -> Result<Instant, String> {
        let at = Instant::now();
        self.child.kill().and_then(|()| self.child.wait()).map_err(|e| format!("cannot kill {}: {e}", self.name))?;
        Ok(at)
    }

    /// Closes its standard input and waits for its end; true when it ended with success in time.
    pub fn finish(&mut self, within: Duration) -> bool {
        drop(self.stdin.take());
        let deadline = Instant::now() + within;
        // Its output ends with the process.
        while let Ok(_late) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {}
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => std::thread::park_timeout(TURN / 10),
                Err(_) => return false,
            }
        }
        false
    }

    fn receive(&self, within: Duration) -> Result<(Instant, Value), String> {
        let deadline = Instant::now() + within;
        let (at, line) = loop {
            if self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(String::from("interrupted"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(TURN)) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} did not answer within {} ms", self.name, within.as_millis()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(format!("{} has ended", self.name)),
            }
        };
        let value = serde_json::from_str(&line).map_err(|e| format!("{} said {line:?}: {e}", self.name))?;
        Ok((at, value))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too, and one that has ended already does not mind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than any request takes that is not said to take longer.
const REPLY: Duration = Duration::from_secs(30);
/// How long a raised flag may go unnoticed.
const TURN: Duration = Duration::from_millis(20);
const LOG_VARIABLE: &str = "HOTSPARE_LOG";
