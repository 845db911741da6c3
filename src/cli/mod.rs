//! The `hotspare` command: parses flags, runs one subcommand, turns its result into an exit code.
//!
//! A subcommand is a module with an arguments struct and a `run`. It writes through [`Output`], so that
//! `--json` means the same everywhere, and never ends the process itself. Signals are handled here and
//! nowhere in the library.

pub mod alloc;
pub mod bench;
mod config;
pub mod demo;
mod flags;
mod logger;
mod node;
pub mod output;
mod ping;
pub mod progress;
#[cfg(feature = "sim")]
mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{Output, print_error};

/// Runs the command with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match flags::parse(std::env::args_os().collect()) {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(failure) => return failure.report(),
    };
    logger::install(cli.command.is_chatty());
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Replicates HTTP sessions between the servers of a cluster, so that any of them can take over from any other.
#[derive(Debug, Parser)]
#[command(name = "hotspare", version, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    /// Print JSON, one value a line, and nothing else on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node and print what happens in the cluster
    #[command(after_help = EXIT_CODES)]
    Node(node::NodeArgs),
    /// Play the story of a failing server on this machine, and check every step
    #[command(after_help = EXIT_CODES)]
    Demo(demo::DemoArgs),
    /// One server of a demonstration, started by it
    #[command(hide = true)]
    Member(demo::member::MemberArgs),
    /// List who pings a multicast group, or say why nothing is heard
    #[command(after_help = EXIT_CODES)]
    Ping(ping::PingArgs),
    /// Check a configuration, or show where each value comes from
    #[command(subcommand, after_help = EXIT_CODES)]
    Config(config::ConfigCommand),
    /// Measure what replication costs here, beside bare sockets
    #[command(after_help = EXIT_CODES)]
    Bench(bench::BenchArgs),
    /// One process of a benchmark, started by the others
    #[command(hide = true)]
    BenchProcess(bench::ProcessArgs),
    /// Run whole clusters in virtual time, one from each seed, and check what must hold
    #[cfg(feature = "sim")]
    #[command(after_help = EXIT_CODES)]
    Sim(sim::SimArgs),
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        let out = Output::new(self.json);
        match self.command {
            Command::Node(args) => node::run(args, &out),
            Command::Demo(args) => demo::run(&args, &out),
            Command::Member(args) => demo::member::run(&args),
            Command::Ping(args) => ping::run(&args, &out),
            Command::Config(command) => config::run(command, &out),
            Command::Bench(args) => bench::run(&args, &out),
            #[cfg(feature = "sim")]
            Command::Sim(args) => sim::run(&args, &out),
            Command::BenchProcess(args) => bench::run_process(&args).map_err(Failure::from),
        }
    }
}

impl Command {
    /// The settings among its flags, to tell their problems together with those of other flags.
    fn settings(&self) -> Option<&flags::Settings> {
        match self {
            Self::Node(args) => Some(&args.settings),
            Self::Member(args) => Some(&args.settings),
            Self::Ping(args) => Some(&args.settings),
            Self::Config(command) => command.settings(),
            Self::Demo(_) | Self::Bench(_) | Self::BenchProcess(_) => None,
            #[cfg(feature = "sim")]
            Self::Sim(_) => None,
        }
    }

    /// Whether it runs for long, so that its log is of interest unasked.
    fn is_chatty(&self) -> bool {
        matches!(self, Self::Node(_))
    }
}

/// What an exit code says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The check or the run failed.
    Failed = 1,
    /// The flags or the configuration are wrong; nothing was started.
    Usage = 2,
    /// The node could not start: the address is taken, there is no multicast, …
    Start = 3,
    /// A signal ended it before it was done.
    Interrupted = 130,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done; a node has left the cluster properly
  1    the check or the run failed
  2    wrong flags or configuration; nothing was started
  3    the node could not start (address taken, no multicast, no thread)
  130  interrupted before it was done; a node, by a second Ctrl-C";

/// Why a command did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, one line each; empty where the command has said so already.
    pub lines: Vec<String>,
}

impl Failure {
    /// A failure with one line for each problem.
    pub fn new(exit: Exit, lines: impl IntoIterator<Item = impl ToString>) -> Self {
        Self { exit, lines: lines.into_iter().map(|line| line.to_string()).collect() }
    }

    fn report(&self) -> ExitCode {
        for line in &self.lines {
            print_error(line);
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self::new(Exit::Failed, [line])
    }
}
