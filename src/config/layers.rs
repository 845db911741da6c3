//! Layered settings: a preset, a TOML file, the environment, flags; later layers win and every value keeps
//! its origin.
//!
//! Nothing here stops at the first mistake: wrong values of every layer and broken rules between values come
//! back in one list, each with the file and line, variable or flag that holds it. The library reads no
//! environment of its own accord; the caller hands the variables in.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::keys::{ENV_PREFIX, KEYS, Key};
use super::toml;
use super::value::Shape;
use super::{Config, Problem};

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// The preset of this name: nobody set it.
    Preset(&'static str),
    /// A file and a line in it, counted from 1; line 0 is the file as a whole.
    File(Arc<str>, usize),
    /// An environment variable.
    Env(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(name) => write!(f, "default ({name})"),
            Self::File(name, 0) => f.write_str(name),
            Self::File(name, line) => write!(f, "{name}:{line}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Where a problem is met first by whoever goes through the layers: files as they were added, each by line, the
/// environment, flags.
fn place(files: &[String], problem: &Problem) -> (u8, usize, usize) {
    let places = problem.origins.iter().map(|origin| match origin {
        Origin::File(name, line) => (0, files.iter().position(|f| **f == **name).unwrap_or(files.len()), *line),
        Origin::Env(_) => (1, 0, 0),
        Origin::Flag(_) => (2, 0, 0),
        Origin::Preset(_) => (3, 0, 0),
    });
    places.min().unwrap_or((3, 0, 0))
}

/// Collects layers, lowest first, and loads them.
///
/// ```
/// use hotspare::config::Layers;
///
/// let loaded = Layers::new()
///     .toml("site.toml", "[membership]\nfrequency = \"500ms\"\ndrop_time = \"3s\"\n")
///     .env([("HOTSPARE_NODE_NAME", "a")])
///     .flags([("port", "4800")])
///     .load()
///     .expect("these settings agree");
/// assert_eq!(loaded.config.port, 4800);
/// assert_eq!(loaded.origin("membership.drop_time").map(ToString::to_string), Some("site.toml:3".into()));
///
/// let problems = Layers::new().toml("site.toml", "[membership]\nfrequenzy = 1\n").load().expect_err("a typo");
/// assert_eq!(
///     problems[0].to_string(),
///     "site.toml:2: unknown setting membership.frequenzy; did you mean membership.frequency?"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Names of the files, lowest first.
    files: Vec<String>,
    presets: Vec<Given<()>>,
    given: Vec<Given<&'static Key>>,
    /// Settings whose value had the wrong type; their rules are not looked at.
    unreadable: Vec<&'static str>,
    problems: Vec<Problem>,
}

/// One value as some layer gave it.
#[derive(Clone, Debug)]
struct Given<K> {
    key: K,
    text: String,
    origin: Origin,
}

impl Layers {
    /// No layer: the default preset alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a TOML file; one that cannot be read is a problem of [`Layers::load`].
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        let name = path.display().to_string();
        match read_bounded(path) {
            Ok(text) => self.toml(&name, &text),
            Err(why) => {
                let at = Origin::File(name.clone().into(), 0);
                self.files.push(name);
                self.problems.push(Problem::error(why, &[]).at(at));
                self
            }
        }
    }

    /// Adds TOML text; `name` is what problems call it.
    #[must_use]
    pub fn toml(mut self, name: &str, text: &str) -> Self {
        self.files.push(name.to_owned());
        toml::read(name, text, &mut self);
        self
    }

    /// Adds those of the variables that begin with `HOTSPARE_`.
    ///
    /// A name that is no setting's is an error within one of our sections and a warning elsewhere: an
    /// orchestrator may put variables of its own (`HOTSPARE_SERVICE_HOST`) beside ours.
    #[must_use]
    pub fn env<N: AsRef<str>, V: AsRef<str>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in variables {
            let (name, value) = (name.as_ref(), value.as_ref());
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let origin = Origin::Env(name.to_owned());
            if let Some(key) = Key::by_env(name) {
                self.push(key, value, origin);
            } else if rest == "PRESET" {
                self.push_preset(value, origin);
            } else if !ENV_OTHERS.contains(&rest) {
                let ours = |key: &Key| rest.starts_with(&format!("{}_", key.section().to_ascii_uppercase()));
                let near = nearest(name, KEYS.iter().map(Key::env));
                let message = format!("unknown setting{near}");
                let problem =
                    if KEYS.iter().any(ours) { Problem::error(message, &[]) } else { Problem::warning(message, &[]) };
                self.problems.push(problem.at(origin));
            }
        }
        self
    }

    /// Adds flags, with or without their dashes.
    #[must_use]
    pub fn flags<N: AsRef<str>, V: AsRef<str>>(mut self, flags: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in flags {
            let name = name.as_ref().trim_start_matches('-');
            let origin = Origin::Flag(name.to_owned());
            if let Some(key) = Key::by_flag(name) {
                self.push(key, value.as_ref(), origin);
            } else if name == PRESET {
                self.push_preset(value.as_ref(), origin);
            } else {
                let near = nearest(name, KEYS.iter().map(Key::flag));
                self.problems.push(Problem::error(format!("unknown setting{near}"), &[]).at(origin));
            }
        }
        self
    }

    /// Puts the layers on top of each other and checks the result.
    ///
    /// # Errors
    /// Every problem of every layer and every broken rule, warnings among them, where at least one is an error. A rule
    /// is not looked at where one of its settings was not readable.
    pub fn load(self) -> Result<Loaded, Vec<Problem>> {
        let Self { files, presets, given, mut unreadable, mut problems } = self;
        let mut preset = PRESETS[0];
        for Given { text, origin, .. } in presets {
            match PRESETS.iter().find(|(name, _)| *name == text) {
                Some(found) => preset = *found,
                None => {
                    let names = PRESETS.map(|(name, _)| name).join(", ");
                    problems.push(Problem::error(format!("preset {text:?} is none of {names}"), &[]).at(origin));
                }
            }
        }

        let mut config = (preset.1)();
        let mut origins = vec![Origin::Preset(preset.0); KEYS.len()];
        for Given { key, text, origin } in given {
            match key.set(&mut config, &text) {
                Ok(()) => {
                    if let Some(slot) = KEYS.iter().position(|k| std::ptr::eq(k, key)) {
                        origins[slot] = origin;
                    }
                }
                Err(why) => {
                    unreadable.push(key.path);
                    problems.push(Problem::unreadable(key.path, &why).at(origin));
                }
            }
        }

        let mut loaded = Loaded { config, preset: preset.0, origins, warnings: Vec::new() };
        for mut problem in loaded.config.problems() {
            if problem.keys.iter().any(|path| unreadable.contains(path)) {
                continue;
            }
            let set = |path: &&'static str| loaded.origin(path).filter(|o| !matches!(o, Origin::Preset(_))).cloned();
            problem.origins = problem.keys.iter().filter_map(set).collect();
            problems.push(problem);
        }
        problems.sort_by_key(|problem| place(&files, problem));
        if problems.iter().any(Problem::is_error) {
            return Err(problems);
        }
        loaded.warnings = problems;
        Ok(loaded)
    }

    pub(super) fn push(&mut self, key: &'static Key, text: &str, origin: Origin) {
        self.given.push(Given { key, text: text.to_owned(), origin });
    }

    pub(super) fn push_preset(&mut self, text: &str, origin: Origin) {
        self.presets.push(Given { key: (), text: text.to_owned(), origin });
    }

    pub(super) fn push_unreadable(&mut self, key: &'static Key, why: &str, origin: Origin) {
        self.unreadable.push(key.path);
        self.problems.push(Problem::unreadable(key.path, why).at(origin));
    }

    pub(super) fn push_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// A checked configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
    preset: &'static str,
    /// Beside [`KEYS`].
    origins: Vec<Origin>,
}

impl Loaded {
    /// Where the value of this key path came from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.entries().find(|(key, _)| key.path == path).map(|(_, origin)| origin)
    }

    /// Every setting with the origin of its value.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, &Origin)> {
        KEYS.iter().zip(&self.origins)
    }

    /// The settings as a TOML file that loads into the same configuration, with each value's origin behind it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut lines = vec![(format!("{PRESET} = {}", toml::quote(self.preset)), String::new())];
        let mut section = "";
        for (key, origin) in self.entries() {
            if key.section() != section {
                section = key.section();
                lines.push((String::new(), String::new()));
                lines.push((format!("[{section}]"), String::new()));
            }
            let text = key.get(&self.config);
            let bare = matches!(key.shape, Shape::Count | Shape::Switch) && text != super::value::AUTO;
            let value = if bare { text } else { toml::quote(&text) };
            lines.push((format!("{} = {value}", key.name()), origin.to_string()));
        }
        let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or(0).min(COMMENT_COLUMN_MAX);
        let mut out = String::new();
        for (left, comment) in lines {
            let _ =
                if comment.is_empty() { writeln!(out, "{left}") } else { writeln!(out, "{left:width$}  # {comment}") };
        }
        out
    }
}

/// `; did you mean …?` with the known name nearest to `name`, if one is near at all.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, &candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= (name.len() / 5).max(2))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate}?"))
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|why| format!("cannot be read: {why}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|why| format!("cannot be read: {why}"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The key above all sections that names the preset; also its flag.
pub(super) const PRESET: &str = "preset";

/// A preset's name and how it is made.
type Preset = (&'static str, fn() -> Config);

/// The presets, the default first.
const PRESETS: [Preset; 3] = [("lan", Config::lan), ("loopback", Config::loopback), ("tomcat", Config::tomcat)];

/// Variables that the command reads itself: its file, and what it logs.
const ENV_OTHERS: [&str; 2] = ["CONFIG", "LOG"];

/// Hundreds of times a complete dump.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longer lines do not push everybody's comment to the right.
const COMMENT_COLUMN_MAX: usize = 44;
