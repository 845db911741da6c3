//! `hotspare config`: checks a file, shows where each value comes from, lists what can be set.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::flags::Settings;
use super::output::Output;
use super::{EXIT_CODES, Exit, Failure};
use crate::config::{Config, KEYS, Layers, Origin, Problem};

/// The subcommands of `hotspare config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a file: print OK, or every problem with its line
    #[command(after_help = EXIT_CODES)]
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the settings as TOML, with where each value comes from
    #[command(after_help = EXIT_CODES)]
    Dump {
        /// The layers to put on top of each other
        #[command(flatten)]
        settings: Settings,
    },
    /// List every setting: its key, variable, flag, default and meaning
    #[command(after_help = EXIT_CODES)]
    Keys,
}

impl ConfigCommand {
    pub(super) fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Dump { settings } => Some(settings),
            Self::Check { .. } | Self::Keys => None,
        }
    }
}

/// Runs one of them.
pub(super) fn run(command: ConfigCommand, out: &Output) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => check(Layers::new().file(&file), out),
        ConfigCommand::Dump { settings } => dump(&settings, out),
        ConfigCommand::Keys => {
            keys(out);
            Ok(())
        }
    }
}

/// Problems are this command's result, so they go to standard output.
fn check(layers: Layers, out: &Output) -> Result<(), Failure> {
    let (ok, problems) = match layers.load() {
        Ok(loaded) => (true, loaded.warnings),
        Err(problems) => (false, problems),
    };
    if out.is_json() {
        let problems: Vec<Value> = problems.iter().map(problem_json).collect();
        out.line(&json!({ "ok": ok, "problems": problems }).to_string());
    } else {
        for problem in &problems {
            out.line(&problem.to_string());
        }
        if ok {
            out.line("OK");
        }
    }
    if ok { Ok(()) } else { Err(Failure { exit: Exit::Usage, lines: Vec::new() }) }
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "severity": if problem.is_error() { "error" } else { "warning" },
        "keys": problem.keys,
        "at": problem.origins.iter().map(Origin::to_string).collect::<Vec<_>>(),
        "message": problem.message,
    })
}

fn dump(settings: &Settings, out: &Output) -> Result<(), Failure> {
    let loaded = settings.load_and_warn()?;
    if out.is_json() {
        let rows: Vec<_> = loaded
            .entries()
            .map(|(key, origin)| vec![json!(key.path), json!(key.get(&loaded.config)), json!(origin.to_string())])
            .collect();
        out.table(&["key", "value", "origin"], &rows);
    } else {
        out.line(loaded.to_toml().trim_end());
    }
    Ok(())
}

fn keys(out: &Output) {
    let defaults = Config::default();
    let row = |key: &'static crate::config::Key| {
        [key.path.to_owned(), format!("--{}", key.flag()), key.env(), key.get(&defaults), key.doc.to_owned()]
            .map(Value::from)
            .to_vec()
    };
    let rows: Vec<_> = KEYS.iter().map(row).collect();
    out.table(&["key", "flag", "variable", "default", "meaning"], &rows);
}
