//! The processes of a benchmark: a sender and its receivers, started from this very binary.
//!
//! The command starts one sender for each measurement; a sender starts its receivers and talks to them in lines
//! over their standard input and output. A receiver ends when its input does, so none outlives its sender.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::load::Load;
use super::report::Figures;
use super::{cluster, limit};
use crate::cli::alloc;
use crate::runtime::affinity;

/// Flags of the hidden command that is one process of a benchmark.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct ProcessArgs {
    /// What this process does.
    #[arg(long, value_enum)]
    pub(super) role: Role,
    /// What is measured.
    #[arg(long, value_enum)]
    pub(super) row: Row,
    /// Core of the sender.
    #[arg(long)]
    pub(super) sender_core: usize,
    /// Core of the receivers.
    #[arg(long)]
    pub(super) receiver_core: usize,
    /// Multicast group of the nodes.
    #[arg(long, default_value = "239.255.0.1")]
    pub(super) group: Ipv4Addr,
    /// The workload.
    #[command(flatten)]
    pub(super) load: Load,
}

/// The two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Starts receivers, updates sessions, prints figures.
    Sender,
    /// Holds the newest bytes of every session.
    Receiver,
}

/// What carries the updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Row {
    /// Nodes of this library.
    Hotspare,
    /// Bare sockets: one per thread, each update answered.
    PerThread,
    /// Bare sockets: one shared by all threads, updates gathered, each answered.
    Multiplexed,
    /// Bare sockets: one per thread, gathered to 64 KiB, unanswered.
    Gathered,
    /// Bare sockets: one per thread, one write for each update, unanswered.
    Single,
}

impl Row {
    /// The word of the flag.
    fn as_str(self) -> &'static str {
        match self {
            Self::Hotspare => "hotspare",
            Self::PerThread => "per-thread",
            Self::Multiplexed => "multiplexed",
            Self::Gathered => "gathered",
            Self::Single => "single",
        }
    }
}

impl ProcessArgs {
    fn to_flags(&self) -> Vec<String> {
        let role = match self.role {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        };
        let mut flags = vec![
            String::from(COMMAND),
            format!("--role={role}"),
            format!("--row={}", self.row.as_str()),
            format!("--sender-core={}", self.sender_core),
            format!("--receiver-core={}", self.receiver_core),
            format!("--group={}", self.group),
        ];
        flags.extend(self.load.to_flags());
        flags
    }

    fn start(&self) -> Result<Child, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        Command::new(program)
            .args(self.to_flags())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start a process: {e}"))
    }

    /// Runs a sender process to its end and reads its figures.
    pub(super) fn measure(&self) -> Result<Figures, String> {
        let sender = Handle::start(self)?;
        // An open loop may take ten times its length to send what was due.
        let text = sender.read(REPLY + self.load.seconds * 12);
        text.ok()
            .and_then(|text| Figures::from_json(&text))
            .ok_or_else(|| format!("the sender of {} gave no figures; what it said stands above", self.row.as_str()))
    }
}

/// Name of the hidden command.
pub(super) const COMMAND: &str = "bench-process";

/// The hidden command: one process of a benchmark.
///
/// # Errors
///
/// What kept it from measuring, in words.
pub(in crate::cli) fn run(args: &ProcessArgs) -> Result<(), String> {
    let core = match args.role {
        Role::Sender => args.sender_core,
        Role::Receiver => args.receiver_core,
    };
    affinity::pin(core).map_err(|e| format!("cannot run on core {core}: {e}"))?;
    match (args.role, args.row) {
        (Role::Receiver, Row::Hotspare) => cluster::receive(args),
        (Role::Receiver, _) => limit::receive(args),
        (Role::Sender, row) => {
            // Threads started from here inherit it. Without it a sleep until a due time ends 50 µs late; where it
            // cannot be set, figures of an open loop are only worse for it.
            let _ = std::fs::write("/proc/self/timerslack_ns", "1");
            alloc::count(true);
            let figures = if row == Row::Hotspare { cluster::send(args)? } else { limit::send(args)? };
            println!("{}", serde_json::Value::Object(figures.to_json()));
            Ok(())
        }
    }
}

/// What a receiver process can be asked.
pub(super) trait Receiver {
    /// Updates applied so far.
    fn applied(&self) -> u64;
    /// System calls on sockets so far.
    fn syscalls(&self) -> u64;
    /// For every session the stamp of the bytes held, 0 where there are none.
    fn stamps(&self) -> Vec<u64>;
}

/// Says `ready` with `word`, then answers until standard input ends.
pub(super) fn answer(receiver: &impl Receiver, word: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready {word}").map_err(|e| e.to_string())?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let reply = match line.split_once(' ') {
            Some(("applied", target)) => {
                let target = target.parse().map_err(|_| format!("not a count: {target}"))?;
                wait_applied(receiver, target).to_string()
            }
            _ if line == "totals" => format!("{} {}", affinity::process_cpu().as_nanos(), receiver.syscalls()),
            _ if line == "stamps" => receiver.stamps().iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
            _ => return Err(format!("asked for {line:?}")),
        };
        writeln!(out, "{reply}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Waits until `target` updates are applied, or none was for [`STALL`]; returns how many are.
fn wait_applied(receiver: &impl Receiver, target: u64) -> u64 {
    let (mut seen, mut since) = (receiver.applied(), Instant::now());
    while seen < target && since.elapsed() < STALL {
        thread::sleep(LOOK);
        let now = receiver.applied();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// A receiver that applied nothing for so long will not catch up.
const STALL: Duration = Duration::from_secs(5);
/// Short beside a measurement, long beside an update.
const LOOK: Duration = Duration::from_micros(200);

/// The receivers that a sender started.
#[derive(Debug)]
pub(super) struct Receivers {
    all: Vec<Handle>,
}

/// A process that was started, ended when dropped.
#[derive(Debug)]
struct Handle {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// What it said when it became ready.
    word: String,
    /// Updates applied when it was last asked.
    applied: u64,
}

/// What all receivers used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) cpu: Duration,
    pub(super) syscalls: u64,
}

impl Receivers {
    /// Starts them all and waits until each is ready.
    pub(super) fn start(args: &ProcessArgs) -> Result<Self, String> {
        let args = ProcessArgs { role: Role::Receiver, ..args.clone() };
        let mut all = Vec::new();
        for _ in 0..args.load.peers.get() {
            all.push(Handle::start(&args)?);
        }
        for handle in &mut all {
            let line = handle.read(REPLY)?;
            line.strip_prefix("ready ").unwrap_or_default().clone_into(&mut handle.word);
        }
        Ok(Self { all })
    }

    /// What each said when it became ready.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|handle| handle.word.as_str())
    }

    /// Waits until every receiver has applied `updates` more than at the last call; returns how many are missing.
    pub(super) fn settle(&mut self, updates: u64) -> Result<u64, String> {
        for handle in &mut self.all {
            let target = handle.applied + updates;
            handle.write(&format!("applied {target}"))?;
        }
        let mut missing = 0;
        for handle in &mut self.all {
            let target = handle.applied + updates;
            handle.applied = parse(&handle.read(REPLY)?)?;
            missing += target.saturating_sub(handle.applied);
        }
        Ok(missing)
    }

    /// What they used so far.
    pub(super) fn totals(&mut self) -> Result<Totals, String> {
        let mut totals = Totals::default();
        for line in self.ask("totals")? {
            let (cpu, syscalls) = line.split_once(' ').unwrap_or_default();
            totals.cpu += Duration::from_nanos(parse(cpu)?);
            totals.syscalls += parse(syscalls)?;
        }
        Ok(totals)
    }

    /// Sessions whose newest bytes some receiver lacks, over all receivers, and still lacks after [`STALL`]: repair
    /// brings present states too, so that a count of what was applied does not say that the last update was.
    pub(super) fn stale(&mut self, newest: &[u64]) -> Result<u64, String> {
        let since = Instant::now();
        loop {
            let stale = self.stale_now(newest)?;
            if stale == 0 || since.elapsed() > STALL {
                return Ok(stale);
            }
            thread::sleep(LOOK);
        }
    }

    fn stale_now(&mut self, newest: &[u64]) -> Result<u64, String> {
        let mut stale = 0;
        for line in self.ask("stamps")? {
            let held: Vec<u64> = line.split(' ').map(parse).collect::<Result<_, _>>()?;
            if held.len() != newest.len() {
                return Err(format!("a receiver holds {} sessions of {}", held.len(), newest.len()));
            }
            stale += held.iter().zip(newest).map(|(held, newest)| u64::from(held != newest)).sum::<u64>();
        }
        Ok(stale)
    }

    fn ask(&mut self, request: &str) -> Result<Vec<String>, String> {
        for handle in &mut self.all {
            handle.write(request)?;
        }
        self.all.iter_mut().map(|handle| handle.read(REPLY)).collect()
    }
}

impl Handle {
    fn start(args: &ProcessArgs) -> Result<Self, String> {
        let mut child = args.start()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a process without output")?;
        let (send, lines) = mpsc::channel();
        // Bounded by the protocol: a receiver says one line for each request.
        thread::Builder::new()
            .name(String::from("lines"))
            .spawn(move || {
                let _ = BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line));
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Self { child, stdin, lines, word: String::new(), applied: 0 })
    }

    fn write(&mut self, request: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("a receiver without input")?;
        writeln!(stdin, "{request}").map_err(|e| format!("a receiver has ended: {e}"))
    }

    fn read(&self, patience: Duration) -> Result<String, String> {
        self.lines.recv_timeout(patience).map_err(|_| String::from("a receiver did not answer"))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A healthy receiver ends with its input; one that does not answers to the signal.
        let ended = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(10));
            matches!(self.child.try_wait(), Ok(Some(_)))
        });
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Longer than a node may take to become ready, and than [`STALL`].
const REPLY: Duration = Duration::from_secs(90);

fn parse(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a receiver answered {text:?}"))
}
