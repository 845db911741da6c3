//! The log: lines on standard error, from the level that `HOTSPARE_LOG` names.
//!
//! A library must not install a logger; its command may.

#![expect(clippy::disallowed_methods, reason = "a line of the log carries the time since the start")]

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record};

/// Sends the log to standard error; `chatty` commands show `info` unasked.
pub(super) fn install(chatty: bool) {
    let unasked = if chatty { LevelFilter::Info } else { LevelFilter::Warn };
    let asked = std::env::var(VARIABLE).ok();
    let level: Option<LevelFilter> = asked.as_deref().map_or(Some(unasked), |word| word.parse().ok());
    let logger = LOGGER.get_or_init(|| Stderr { start: Instant::now() });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level.unwrap_or(unasked));
    }
    if level.is_none() {
        log::warn!("{VARIABLE} is none of off, error, warn, info, debug, trace");
    }
}

struct Stderr {
    start: Instant,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let at = self.start.elapsed();
            // One write for each line, so that lines of several threads do not mix.
            let line = format!("{:>4}.{:03} {level:<5} {}\n", at.as_secs(), at.subsec_millis(), record.args());
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

static LOGGER: OnceLock<Stderr> = OnceLock::new();

const VARIABLE: &str = "HOTSPARE_LOG";
