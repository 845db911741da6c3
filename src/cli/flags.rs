//! Flags: the settings as `clap` arguments made from the one table, and parsing that reports every mistake.
//!
//! Settings arrive here as text and are judged by [`Layers`], together with the file and the environment.
//! `clap` stops at its first mistake; [`parse`] takes the blamed argument out and asks again until nothing is
//! left to blame.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};

use super::output::{Output, print_error};
use super::{Cli, Exit, Failure};
use crate::config::{Config, KEYS, Key, Layers, Loaded, Problem, Shape};

/// `--config`, `--preset` and one flag for each setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    file: Option<PathBuf>,
    /// Flag and text, as given.
    given: Vec<(String, String)>,
}

impl Settings {
    /// The settings of all layers: file, environment, flags.
    ///
    /// # Errors
    /// All problems at once.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        self.layers().load().map_err(|problems| Failure::new(Exit::Usage, problems))
    }

    /// The same; warnings go to standard error.
    pub(super) fn load_and_warn(&self) -> Result<Loaded, Failure> {
        let loaded = self.load()?;
        for warning in &loaded.warnings {
            print_error(&warning.to_string());
        }
        Ok(loaded)
    }

    fn layers(&self) -> Layers {
        let mut layers = Layers::new();
        let from_env = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = self.file.clone().or_else(from_env) {
            layers = layers.file(&path);
        }
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        layers
            .env(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))))
            .flags(self.given.iter().map(|(flag, text)| (flag, text)))
    }
}

impl clap::Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("settings in TOML")
            .long_help(format!("settings in TOML [env: {CONFIG_VARIABLE}]"));
        let preset = Arg::new("preset")
            .long("preset")
            .value_name("lan|loopback|tomcat")
            .help("what is not set comes from here")
            .long_help("what is not set comes from here [default: lan] [env: HOTSPARE_PRESET]");
        let defaults = Config::default();
        command.args([file, preset]).args(KEYS.iter().map(|key| argument(key, &defaults)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

fn argument(key: &'static Key, defaults: &Config) -> Arg {
    let hint = match key.shape {
        Shape::Text => "TEXT".to_owned(),
        Shape::Switch => "true|false".to_owned(),
        Shape::Count => "N".to_owned(),
        Shape::Duration => "DURATION".to_owned(),
        Shape::Size => "SIZE".to_owned(),
        Shape::Address => "IP".to_owned(),
        Shape::Group => "ADDR:PORT".to_owned(),
        Shape::Choice(words) => words.join("|"),
    };
    let default = key.get(defaults);
    let argument = Arg::new(key.path)
        .long(key.flag())
        .value_name(hint)
        .action(ArgAction::Set)
        // A wrong number is the layers' to report, beside the others.
        .allow_negative_numbers(true)
        .help_heading(format!("Settings of [{}]", key.section()))
        .help(key.doc)
        .long_help(format!("{} [default: {default}] [env: {}]", key.doc, key.env()));
    if key.shape == Shape::Switch {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let text = |id: &str| matches.get_one::<String>(id).cloned();
        let settings = KEYS.iter().filter_map(|key| Some((key.flag(), text(key.path)?)));
        let preset = text("preset").map(|text| ("preset".to_owned(), text));
        Ok(Self { file: matches.get_one("config").cloned(), given: preset.into_iter().chain(settings).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Parses the arguments of the process; `None` where they asked for help or the version, which is printed.
///
/// # Errors
/// All mistakes at once: unknown flags, wrong values, and what is wrong with the settings.
pub(super) fn parse(mut arguments: Vec<OsString>) -> Result<Option<Cli>, Failure> {
    let mut mistakes: Vec<String> = Vec::new();
    loop {
        let error = match Cli::try_parse_from(&arguments) {
            Ok(cli) if mistakes.is_empty() => return Ok(Some(cli)),
            Ok(cli) => {
                let problems = cli.command.settings().map(|settings| settings.layers().load());
                if let Some(Err(problems)) = problems {
                    mistakes.extend(problems.iter().filter(|problem| problem.is_error()).map(Problem::to_string));
                }
                return Err(Failure::new(Exit::Usage, mistakes));
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Output::new(false).line(error.render().to_string().trim_end());
                return Ok(None);
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                eprint!("{}", error.render());
                return Err(Failure { exit: Exit::Usage, lines: Vec::new() });
            }
            _ => mistakes.push(in_one_line(&error)),
        }
        let Some(range) = blamed(&error, &arguments) else {
            return Err(Failure::new(Exit::Usage, mistakes));
        };
        arguments.drain(range);
    }
}

/// The arguments that a mistake is about, where taking them out lets the rest be judged.
fn blamed(error: &clap::Error, arguments: &[OsString]) -> Option<Range<usize>> {
    let has_value = match error.kind() {
        ErrorKind::UnknownArgument => false,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => true,
        _ => return None,
    };
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // A known flag is called by its usage: `--for <DURATION>`.
    let name = if has_value { name.split_whitespace().next()? } else { name };
    let text = |at: usize| arguments.get(at).map_or(Cow::Borrowed(""), |argument| argument.to_string_lossy());
    let at = (1..arguments.len())
        .find(|at| text(*at).strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))?;
    let next = text(at + 1);
    let is_command = Cli::command().find_subcommand(&*next).is_some();
    let takes_next = name.starts_with('-')
        && text(at) == name
        && at + 1 < arguments.len()
        && (has_value || !next.starts_with('-') && !is_command);
    Some(at..at + 1 + usize::from(takes_next))
}

/// What `clap` says, without its layout and its usage.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = said.collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Names the file of settings where `--config` does not.
const CONFIG_VARIABLE: &str = "HOTSPARE_CONFIG";

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(arguments: &[&str]) -> Vec<String> {
        let arguments = std::iter::once("hotspare").chain(arguments.iter().copied());
        let failure = parse(arguments.map(OsString::from).collect()).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        failure.lines
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_of_a_node() {
        for key in KEYS {
            let value = key.get(&Config::loopback());
            let argument = format!("--{}={value}", key.flag());
            let cli = parse(["hotspare", "node", &argument].map(OsString::from).to_vec()).unwrap().unwrap();
            assert_eq!(cli.command.settings().unwrap().given, [(key.flag(), value)]);
        }
    }

    #[test]
    fn all_wrong_flags_are_told_at_once() {
        let found = mistakes(&[
            "--jsn",
            "ping",
            "--frequncy",
            "200ms",
            "--for",
            "soon",
            "--multicats=x",
            "extra",
            "--workers",
            "0",
            "--ttl",
        ]);
        for expected in ["'--jsn'", "'--frequncy'", "'soon'", "'--multicats'", "'extra'", "'--ttl'", "workers is 0"] {
            assert_eq!(found.iter().filter(|line| line.contains(expected)).count(), 1, "{expected}: {found:#?}");
        }
        assert_eq!(found.len(), 7, "{found:#?}");
    }

    #[test]
    fn wrong_values_of_settings_reach_the_layers_as_text() {
        let arguments =
            ["hotspare", "node", "--port", "-1", "--mode", "poled", "--insecure-plaintext", "--bind=10.0.0.1"];
        let cli = parse(arguments.map(OsString::from).to_vec()).unwrap().unwrap();
        let failure = cli.command.settings().unwrap().load().unwrap_err();
        assert_eq!(failure.lines.len(), 2, "{:#?}", failure.lines);
        assert!(failure.lines[0].starts_with("--port: ") && failure.lines[1].starts_with("--mode: "));
    }
}
