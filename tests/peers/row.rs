//! What came out for one fault and one system, and the page made of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Member, now};
use crate::system::{JVM, Java, System};

/// One line of the page, and what it takes to fill it.
#[derive(Debug, Default)]
pub(crate) struct Row {
    fault: &'static str,
    system: &'static str,
    /// What each session must hold.
    sessions: BTreeMap<String, Value>,
    /// Sessions that must not be there.
    ended: BTreeSet<String>,
    /// From the fault to the last view without the member, once for each time it was made.
    detected: Vec<Option<Duration>>,
    longest_wait: Option<Duration>,
    checked: u64,
    lost: u64,
    resurrected: u64,
    largest_kib: u64,
    /// Copies of a load's sessions that are behind, and all that there are.
    copies: (u64, u64),
    said: Vec<String>,
}

impl Row {
    pub(crate) fn new(system: System, fault: &'static str) -> Self {
        let _ = writeln!(std::io::stderr(), "{}: {fault}", system.name());
        Self { fault, system: system.name(), ..Self::default() }
    }

    pub(crate) fn say(&mut self, what: impl Into<String>) {
        self.said.push(what.into());
    }

    /// Makes or changes a session; once answered it must be everywhere. How long the change took.
    pub(crate) fn write(&mut self, member: &mut Member, id: &str, attributes: Value) -> Duration {
        if !self.sessions.contains_key(id) {
            create(member, id);
        }
        let start = now();
        let ended = member.request(id, json!({ "set": attributes }));
        let took = start.elapsed();
        if ended["status"] != "ended" {
            self.expect(id, &attributes);
        }
        took
    }

    pub(crate) fn expect(&mut self, id: &str, attributes: &Value) {
        let session = self.sessions.entry(id.to_owned()).or_insert_with(|| json!({}));
        for (name, value) in attributes.as_object().into_iter().flatten() {
            session[name] = value.clone();
        }
    }

    /// What follows is looked for in another cluster.
    pub(crate) fn forget(&mut self) {
        self.sessions.clear();
        self.ended.clear();
    }

    pub(crate) fn must_stay_gone(&mut self, id: &str) {
        self.sessions.remove(id);
        self.ended.insert(id.to_owned());
    }

    /// Looks for all of it at these members, once it has had time to get there.
    pub(crate) fn check(&mut self, members: &mut [&mut Member]) {
        let (sessions, ended) = (&self.sessions, &self.ended);
        let (lost, resurrected) = until_still(|| {
            let (mut lost, mut resurrected) = (0, 0);
            for member in &mut *members {
                for (id, attributes) in sessions {
                    let seen = member.get(id);
                    // Each attribute is a change of its own.
                    let wrong =
                        attributes.as_object().into_iter().flatten().filter(|(name, value)| seen[name] != **value);
                    lost += wrong.count() as u64;
                }
                resurrected += ended.iter().filter(|id| !member.get(id).is_null()).count() as u64;
            }
            (lost, resurrected)
        });
        let changes = self.sessions.values().filter_map(|session| Some(session.as_object()?.len())).sum::<usize>();
        self.count((changes * members.len()) as u64, lost, resurrected);
    }

    /// Looks for the last number of each session of a load, once it has had time to get there. Every number of a session
    /// was a change, and its last one holds those before.
    pub(crate) fn check_load(&mut self, members: &mut [&mut Member], last: &BTreeMap<String, u64>) {
        let (lost, behind) = until_still(|| {
            let (mut lost, mut behind) = (0, 0);
            for member in &mut *members {
                let seen = member.ask(json!({ "do": "check_load", "at_least": last }));
                let all = |name: &str| seen[name].as_array().cloned().unwrap_or_default();
                let short = |entry: &Value| Some(entry[2].as_u64()? - entry[1].as_u64()?);
                lost += all("missing").iter().filter_map(|id| last.get(id.as_str()?)).sum::<u64>();
                lost += all("behind").iter().filter_map(short).sum::<u64>();
                behind += (all("missing").len() + all("behind").len()) as u64;
            }
            (lost, behind)
        });
        self.count(last.values().sum::<u64>() * members.len() as u64, lost, 0);
        self.copies.0 += behind;
        self.copies.1 += (last.len() * members.len()) as u64;
    }

    /// Looks for all of a filling.
    pub(crate) fn check_fill(&mut self, member: &mut Member, filling: &Value) {
        let mut ask = filling.clone();
        ask["do"] = json!("check_fill");
        let seen = member.ask(ask);
        self.checked += filling["count"].as_u64().unwrap_or(0);
        self.lost += seen["missing"].as_u64().unwrap_or(0) + seen["wrong"].as_u64().unwrap_or(0);
    }

    /// Counts what should not be there, or should and is not.
    pub(crate) fn count(&mut self, checked: u64, lost: u64, resurrected: u64) {
        self.checked += checked;
        self.lost += lost;
        self.resurrected += resurrected;
    }

    /// Notes how long it took after the fault.
    pub(crate) fn detected(&mut self, took: Option<Duration>) {
        self.detected.push(took);
    }

    pub(crate) fn waited(&mut self, took: Duration) {
        self.longest_wait = self.longest_wait.max(Some(took));
    }

    /// From here on the most memory counts that a member has.
    pub(crate) fn begin_to_weigh<'a>(members: impl IntoIterator<Item = &'a Member>) {
        for member in members {
            // Resets `VmHWM`.
            let _ = std::fs::write(format!("/proc/{}/clear_refs", member.0.pid()), "5");
        }
    }

    pub(crate) fn weigh<'a>(&mut self, members: impl IntoIterator<Item = &'a Member>) {
        let largest = members.into_iter().filter_map(Member::peak_kib).max();
        self.largest_kib = self.largest_kib.max(largest.unwrap_or(0));
    }

    /// Half of the times were shorter; none where that half includes one that did not happen.
    fn half_detected(&self) -> Option<Duration> {
        let mut took: Vec<Duration> = self.detected.iter().map(|took| took.unwrap_or(Duration::MAX)).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().filter(|half| *half < Duration::MAX)
    }

    fn line(&self) -> String {
        let Self { fault, system, .. } = self;
        let times = || self.detected.iter().flatten();
        let detected = match (self.half_detected(), times().min(), times().max()) {
            (Some(half), Some(least), Some(most)) if self.detected.len() > 1 => {
                format!("{} ({} to {})", millis(half), least.as_millis(), most.as_millis())
            }
            (Some(only), ..) => millis(only),
            _ if self.detected.is_empty() => String::new(),
            _ => format!("**not in {} s**", BOUND.as_secs()),
        };
        let lost = match (self.checked, self.lost) {
            (0, _) => String::new(),
            (checked, 0) => format!("0 of {checked}"),
            (checked, lost) => format!("**{lost}** of {checked}"),
        };
        let resurrected = if self.resurrected == 0 { String::from("0") } else { format!("**{}**", self.resurrected) };
        let waited = self.longest_wait.map(millis).unwrap_or_default();
        let mut said = self.said.clone();
        if self.copies.0 > 0 {
            said.push(format!("{} of {} copies behind for good", self.copies.0, self.copies.1));
        }
        let (said, largest) = (said.join("; "), self.largest_kib.div_ceil(1024));
        format!("| {fault} | {system} | {detected} | {waited} | {lost} | {resurrected} | {largest} MiB | {said} |")
    }

    /// In what this one did as well as the other, or better.
    fn as_good_as(&self, other: &Self) -> Vec<&'static str> {
        let detected = self.half_detected().zip(other.half_detected()).is_some_and(|(own, other)| own <= other);
        let waited = self.longest_wait.zip(other.longest_wait).is_some_and(|(own, other)| own <= other);
        let wrong = |row: &Self| row.lost + row.resurrected;
        let all =
            [("removed after", detected), ("longest wait", waited), ("lost, came back", wrong(self) <= wrong(other))];
        all.into_iter().filter_map(|(name, holds)| holds.then_some(name)).collect()
    }
}

fn millis(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

/// Writes the page.
pub(crate) fn publish(rows: &[Row], java: &Java, took: Duration) {
    let mut text = String::from(HEAD);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let _ = writeln!(
        text,
        "This run: {cores} cores, {} s. hotspare {}, {build} build; {}, `{}`.\n",
        took.as_secs(),
        env!("CARGO_PKG_VERSION"),
        java.version,
        JVM.join(" ")
    );
    text.push_str("| fault | system | removed after | longest wait | lost | came back | largest | what came out |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---|\n");
    let mut faults: Vec<&str> = Vec::new();
    for row in rows {
        if !faults.contains(&row.fault) {
            faults.push(row.fault);
        }
    }
    for fault in &faults {
        for row in rows.iter().filter(|row| row.fault == *fault) {
            let _ = writeln!(text, "{}", row.line());
        }
    }
    text.push_str(EQUALS);
    for fault in &faults {
        let mut of_fault = rows.iter().filter(|row| row.fault == *fault);
        let own = of_fault.clone().find(|row| row.system == System::Hotspare.name());
        let others = of_fault.by_ref().filter(|row| row.system != System::Hotspare.name());
        for (own, other) in others.filter_map(|other| Some((own?, other))) {
            let columns = other.as_good_as(own);
            if !columns.is_empty() {
                let _ = writeln!(text, "- {fault}: {}: {}", other.system, columns.join("; "));
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/PEERS.md");
    std::fs::write(path, text).expect("the page can be written");
}

/// A session that has had time to be known elsewhere: what is made and changed in one request is a row of its own.
pub(crate) fn create(member: &mut Member, id: &str) {
    member.request(id, json!({ "create": true }));
    pass(Duration::from_millis(50), || {});
}

/// Lets time pass, and looks meanwhile.
pub(crate) fn pass(time: Duration, mut look: impl FnMut()) {
    let start = now();
    while start.elapsed() < time {
        look();
        std::thread::park_timeout(LOOK);
    }
}

/// Counts until nothing is wrong any more, or for some time nothing gets better.
pub(crate) fn until_still(mut wrong: impl FnMut() -> (u64, u64)) -> (u64, u64) {
    let (mut least, mut since) = (u64::MAX, now());
    loop {
        let seen = wrong();
        if seen.0 + seen.1 < least {
            (least, since) = (seen.0 + seen.1, now());
        }
        if least == 0 || since.elapsed() > SETTLE {
            return seen;
        }
        std::thread::park_timeout(LOOK * 10);
    }
}

/// How long a member may stay in a view before it counts as never removed.
pub(crate) const BOUND: Duration = Duration::from_secs(15);
/// What is answered has this long to get everywhere once the members see each other.
const SETTLE: Duration = Duration::from_secs(3);
pub(crate) const LOOK: Duration = Duration::from_millis(5);

const HEAD: &str = "# The same faults, Tomcat's own cluster beside\n
Written by the run itself; as root, with `ip`, `nft`, a JDK and Tomcat 10 (`default-jdk-headless`, `libtomcat10-java`):\n
    HOTSPARE_PEERS=1 cargo test --release --test peers -- --nocapture\n
Members are processes in network namespaces on one bridge. The same code makes the fault, asks and looks, over each
member's pipe. A request to Tomcat runs through the engine's valves, ReplicationValve among them, to a servlet that changes
the session (`tests/peers/`); only the HTTP connector is left out, for both. It has been answered when the valves return,
later than an HTTP client would see it.\n
- **hotspare**: the defaults of the command; nothing is set but addresses.
- **Tomcat**: SimpleTcpCluster and DeltaManager with nothing set but addresses (`server-default.xml`): a change is queued
  (`channelSendOptions` 8), a ping every 500 ms, silence after 3 s.
- **Tomcat, tuned**: `server-tuned.xml`: every change acknowledged after it was applied (`channelSendOptions` 6) with a
  `timeout` of 1 s, pings and silence as hotspare has them (200 ms, 1 s), TcpPingInterceptor every 500 ms,
  `performReadTest` with 500 ms, `heartbeatSleeptime` 500 ms, `stateTransferTimeout` 10 s.\n
*Removed after* is the time from the fault to the last view that lost the member: the median, and the range where it was
done more than once. *Longest wait* is the longest time for which one caller stood still. *Lost* counts changes that were
answered and then not at a member that should have had them, once the members saw each other again and nothing had become
better for three seconds. Tomcat's `send` returns nothing, so *answered* is all that its caller knows; of hotspare a change
counts as answered too whose outcome names a member as missing, but for what a member that is killed had acknowledged.
*Came back* counts ended sessions that were there. *Largest* is the most memory that any one member had during the row
(`VmHWM`; a JVM does not give back what rows before have used). Each member was under load for three seconds before the
first row. Loads write as fast as they are answered. Times until a member is ready begin with its process. A donor dies as
soon as it has the joiner in view (hotspare) or has got its request for the state (Tomcat).\n
";

const EQUALS: &str = "
Where Tomcat did as well as hotspare in this run, or better:\n
";
