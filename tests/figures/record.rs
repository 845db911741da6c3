//! What was asked, what came out, and the page of both.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One line of the page, before it is measured.
struct Wanted {
    id: &'static str,
    what: &'static str,
    asked: &'static str,
}

const fn wanted(id: &'static str, what: &'static str, asked: &'static str) -> Wanted {
    Wanted { id, what, asked }
}

const WANTED: [Wanted; 15] = [
    wanted("kill", "kill -9: removal from every survivor's view", "p50 ≤ 20 ms, p99 ≤ 100 ms"),
    wanted("kill-read", "kill -9: first correct read of its session elsewhere", "p50 ≤ 20 ms, p99 ≤ 100 ms"),
    wanted("stop", "SIGSTOP: removal from every view", "p99 ≤ 2.0 s"),
    wanted("silent", "silent host: removal from every view", "p99 ≤ 2.0 s"),
    wanted("ping-loss", "30 % of pings lost: members removed", "0"),
    wanted("heal", "heal after a partition: equal contents at all", "p99 ≤ 2 s"),
    wanted("heal-view", "of that, until all are in every view", "–"),
    wanted("heal-bytes", "heal: bytes sent by all, of what each lacked", "≤ 3 ×"),
    wanted("join", "join under writes, its donor killed at 25, 50, 75 %: sessions and acknowledged writes lost", "0"),
    wanted("join-p99", "join: p99 of the other donor's writes during it, of that before", "≤ 2 ×"),
    wanted("join-rate", "join: rate of the transfer", "–"),
    wanted("stuck", "one member stopped: what the others do in a second and their p99, of that without", "holds"),
    wanted("stuck-memory", "one member stopped: what the sender's memory grew", "≤ cap + 10 %"),
    wanted("slow", "one member reads 10 KB/s: what the others do in a second and their p99, of that without", "holds"),
    wanted("slow-memory", "one member reads 10 KB/s: what the sender's memory grew", "≤ cap + 10 %"),
];

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) measured: String,
    pub(crate) spread: String,
    /// None where nothing was asked.
    pub(crate) reached: Option<bool>,
    pub(crate) how: String,
}

/// One measurement at one size.
#[derive(Debug)]
pub(crate) struct Run {
    share: f64,
    load: String,
}

impl Run {
    /// Begins, if the figures are asked for.
    pub(crate) fn begin() -> Option<Self> {
        let share = std::env::var("HOTSPARE_FIGURES").ok().and_then(|share| share.parse().ok());
        let Some(share) = share.filter(|share| *share > 0.0) else {
            say("SKIP: figures are measured by hand, with HOTSPARE_FIGURES=1");
            return None;
        };
        Some(Self { share, load: load() })
    }

    /// So many of this, at this run's size.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    pub(crate) fn share(&self, full: usize, least: usize) -> usize {
        ((full as f64 * self.share).round() as usize).max(least)
    }

    /// Says what came out, and writes the page when all was measured at its full size.
    pub(crate) fn tell(&self, id: &'static str, row: &Row) {
        let wanted = WANTED.iter().find(|wanted| wanted.id == id).unwrap_or_else(|| panic!("nobody asked for {id}"));
        let reached = row.reached.map_or("", |reached| if reached { "reached" } else { "**not reached**" });
        let Row { measured, spread, how, .. } = row;
        let (begun, ended) = (&self.load, load());
        let line = format!(
            "{} {} | {measured} | {spread} | {reached} | {how} | {begun} to {ended} |",
            head(wanted),
            wanted.asked
        );
        say(&line);
        let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(id, line);
        if (self.share - 1.0).abs() < f64::EPSILON {
            let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "FIGURES.md"].iter().collect();
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, page(&rows, &before)).unwrap();
        }
    }
}

static ROWS: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

fn head(wanted: &Wanted) -> String {
    format!("| {} |", wanted.what)
}

/// The page: what this process measured, and what stood there of the rest.
fn page(rows: &BTreeMap<&'static str, String>, before: &str) -> String {
    let mut text = String::from(HEAD);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let _ = writeln!(text, "The last run: {cores} cores, {build} build.\n");
    text.push_str("| what | asked | measured | spread | | how | load |\n|---|---|---|---|---|---|---|\n");
    for wanted in &WANTED {
        let head = head(wanted);
        let stood = || before.lines().find(|line| line.starts_with(&head)).map(str::to_owned);
        let line = rows.get(wanted.id).cloned().or_else(stood);
        let line = line.unwrap_or_else(|| format!("{head} {} | did not run | | | | |", wanted.asked));
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Processes that ran or waited to run, as the kernel averages them over a minute.
fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or_default().to_owned()
}

/// To the real standard error: what a test prints is caught.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// How long something took, each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Notes what one caller waited, who could not ask again meanwhile, as if requests had come at this period: those that came
    /// while the first one waited waited too.
    pub(crate) fn push_waited(&mut self, took: Duration, period: Duration) {
        let mut left = Some(took);
        while let Some(waited) = left {
            self.push(waited);
            left = waited.checked_sub(period).filter(|waited| !waited.is_zero());
        }
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least time that so many of a hundred did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    /// The two that are asked for.
    pub(crate) fn measured(&self) -> String {
        format!("p50 {}, p99 {}", Ms(self.percentile(50)), Ms(self.p99()))
    }

    /// The extremes and how many there were.
    pub(crate) fn spread(&self) -> String {
        format!("{} … {}, n = {}", Ms(self.percentile(0)), Ms(self.percentile(100)), self.len())
    }
}

/// A time in the unit of all figures.
pub(crate) struct Ms(pub(crate) Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_secs_f64() * 1000.0;
        let digits = if ms < 10.0 { 2 } else { 0 };
        write!(f, "{ms:.digits$} ms")
    }
}

/// How many times the second the first is.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { f64::INFINITY } else { a / b }
}

const HEAD: &str = "# Figures\n
Written by the run itself, with real processes; as root, with `ip` and `nft`:\n
    HOTSPARE_FIGURES=1 cargo test --release --test figures -- --test-threads=1\n
Each row is measured by one test of `tests/figures/`; one that did not run keeps its last row. A percentile is the least
time that so many of a hundred did not exceed: of fewer than a hundred, p99 is the longest. *Load* is the kernel's average
over a minute, from the test's begin to its end: the test's own processes are part of it. Lost, removed, bytes and memory
are asserted; times depend on what else runs. A write that waited is
counted once more for each millisecond that it waited, as requests would have come that do not wait for each other.\n
";

#[test]
fn percentiles_are_the_least_time_that_so_many_did_not_exceed() {
    let mut times = Times::default();
    (1..=200).rev().for_each(|ms| times.push(Duration::from_millis(ms)));
    assert_eq!([0, 50, 99, 100].map(|p| times.percentile(p).as_millis()), [1, 100, 198, 200]);
}

#[test]
fn a_request_that_waits_stands_for_those_behind_it() {
    let (mut times, ms) = (Times::default(), Duration::from_millis);
    times.push_waited(ms(3), ms(1));
    times.push_waited(ms(1), ms(1));
    assert_eq!(times.0, [ms(3), ms(2), ms(1), ms(1)]);
}

#[test]
fn a_row_that_did_not_run_keeps_what_stood_there() {
    let line = |wanted: &Wanted, measured: &str| format!("{} {} | {measured} | | | | |", head(wanted), wanted.asked);
    let first = page(&BTreeMap::from([("kill", line(&WANTED[0], "1 ms"))]), "");
    let second = page(&BTreeMap::from([("stop", line(&WANTED[2], "2 s"))]), &first);
    assert!(second.contains("| 1 ms |") && second.contains("| 2 s |"), "{second}");
    assert_eq!(second.matches("did not run |").count(), WANTED.len() - 2, "{second}");
}
