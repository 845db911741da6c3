//! Three hosts in network namespaces on a bridge, with real multicast between them: discovery, partition, loss.
//!
//! Needs root and the `ip` command (and `nft` for loss); without them a test says SKIP, or fails where
//! `CI_REQUIRE_TOOLS=1` says that everything must run. Names are unique for each run, and everything made is taken down.
#![cfg(feature = "cli")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Cluster, Member, SOON_MS, ok, program};
use hotspare::cli::demo::process::Process;
use serde_json::{Value, json};

const HOSTS: usize = 3;

/// A bridge in a namespace of its own, and hosts with one address each beside it.
struct Lab {
    tag: String,
    /// Namespaces made so far.
    made: Vec<String>,
}

impl Lab {
    /// Builds it; `None` where the machine does not allow it.
    fn build() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !is_able("ip", &["-V"]) || !is_root() {
            return skip("it needs root and the ip command");
        }
        // Interface names have 15 characters at most.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self { tag: format!("{}x{number}", std::process::id()), made: Vec::new() };
        let bridge = lab.bridge();
        if !lab.make(&bridge) {
            return skip("network namespaces are not allowed here");
        }
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "br0", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        for host in 0..HOSTS {
            let (name, own, port) = (lab.host(host), "eth0", lab.port(host));
            assert!(lab.make(&name), "a namespace for {name}");
            ip(&["link", "add", own, "netns", &name, "type", "veth", "peer", "name", &port, "netns", &bridge]);
            ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(host)), "dev", own]);
            ip(&["-n", &name, "link", "set", own, "up"]);
            ip(&["-n", &name, "link", "set", "lo", "up"]);
            ip(&["-n", &name, "route", "add", "224.0.0.0/4", "dev", own]);
        }
        Some(lab)
    }

    fn make(&mut self, name: &str) -> bool {
        let made = Command::new("ip").args(["netns", "add", name]).stderr(Stdio::null()).status();
        let ok = made.is_ok_and(|status| status.success());
        if ok {
            self.made.push(name.to_owned());
        }
        ok
    }

    fn bridge(&self) -> String {
        format!("hs{}-br", self.tag)
    }

    fn host(&self, host: usize) -> String {
        format!("hs{}-{host}", self.tag)
    }

    fn port(&self, host: usize) -> String {
        format!("p{host}")
    }

    /// Pulls a host's cable, or plugs it in.
    fn link(&self, host: usize, state: &str) {
        ip(&["-n", &self.bridge(), "link", "set", &self.port(host), state]);
    }

    /// Loses all multicast that arrives at a host, and nothing else.
    fn lose_multicast(&self, host: usize) {
        let rules = "table inet loss {\n  chain in {\n    type filter hook input priority 0; policy accept;\n    \
                     ip daddr 224.0.0.0/4 counter drop\n  }\n}\n";
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.host(host), "nft", "-f", "-"]).stdin(Stdio::piped());
        let mut child = nft.spawn().expect("ip runs");
        child.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("nft reads");
        assert!(child.wait().is_ok_and(|status| status.success()), "nft takes {rules}");
    }

    /// Datagrams that [`Lab::lose_multicast`] has taken at a host.
    fn lost(&self, host: usize) -> u64 {
        let list = ["netns", "exec", &self.host(host), "nft", "list", "table", "inet", "loss"].map(str::to_owned);
        let output = Command::new("ip").args(list).output().expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
        count.unwrap_or_else(|| panic!("no counter in {text}"))
    }

    /// Starts a member on a host; it is not ready yet.
    fn launch(&self, cluster: &Cluster, host: usize) -> Member {
        let name = ["a", "b", "c"][host];
        let address = address(host);
        let own = [
            format!("--bind={address}"),
            format!("--interface={address}"),
            String::from("--insecure-plaintext"),
            String::from("--multicast-ttl=1"),
        ];
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host)]).arg(program());
        command.args(["member", "--json", &format!("--name={name}")]);
        command.args(cluster.flags(&own.each_ref().map(String::as_str)));
        // `ip` becomes the member: the process that is killed is the one that was started.
        Member(ok(Process::spawn(command, name)))
    }

    fn members(&self, cluster: &Cluster) -> [Member; HOSTS] {
        let mut members: [Member; HOSTS] = std::array::from_fn(|host| self.launch(cluster, host));
        for member in &mut members {
            member.wait_ready();
        }
        for member in &mut members {
            member.wait_view(HOSTS);
        }
        members
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Interfaces go with their namespaces.
        for name in &self.made {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Real, effective, saved and file system user.
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

fn is_able(command: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(command).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Says why a test did nothing, or fails where nothing may be left out.
fn skip(why: &str) -> Option<Lab> {
    let must_run = std::env::var("CI_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!must_run, "CI_REQUIRE_TOOLS=1, but {why}");
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
    None
}

#[test]
fn hosts_find_each_other_by_multicast_and_replicate() {
    let Some(lab) = Lab::build() else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    a.make("S", json!({ "k": "v" }), 3);
    for member in [&mut b, &mut c] {
        assert_eq!(member.get("S"), json!({ "k": "v" }));
    }
    c.request("S", json!({ "invalidate": true }));
    assert_eq!(a.get("S"), Value::Null);
}

#[test]
fn both_sides_of_a_partition_go_on_and_converge_when_it_heals() {
    let Some(lab) = Lab::build() else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    a.make("S", json!({ "base": "1" }), 3);
    a.make("ended", json!({ "k": "v" }), 3);
    lab.link(2, "down");
    for member in [&mut a, &mut b] {
        member.ask(json!({ "do": "wait_view", "without": c.id(), "within_ms": SOON_MS }));
    }
    c.ask(json!({ "do": "wait_view", "members": 1, "within_ms": SOON_MS }));

    assert_eq!(a.request("S", json!({ "set": { "ours": "a" } }))["copies"], 2);
    assert_eq!(b.request("ended", json!({ "invalidate": true }))["copies"], 2);
    a.make("left", json!({ "k": "a" }), 2);
    assert_eq!(c.request("S", json!({ "set": { "theirs": "c" } }))["copies"], 1);
    assert_eq!(c.request("ended", json!({ "set": { "k": "late" } }))["copies"], 1);
    c.make("right", json!({ "k": "c" }), 1);

    lab.link(2, "up");
    for member in [&mut a, &mut b, &mut c] {
        member.wait_view(3);
        member.wait_session("S", json!({ "base": "1", "ours": "a", "theirs": "c" }));
        member.wait_session("left", json!({ "k": "a" }));
        member.wait_session("right", json!({ "k": "c" }));
        member.wait_gone("ended");
    }
    assert_eq!(c.request("S", json!({ "set": { "again": "c" } }))["copies"], 3);
}

#[test]
fn lost_multicast_alone_removes_nobody() {
    let Some(lab) = Lab::build() else { return };
    if !is_able("nft", &["--version"]) {
        skip("it needs the nft command");
        return;
    }
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    for host in 0..HOSTS {
        lab.lose_multicast(host);
    }
    // Far beyond the drop time of one second: counted in the pings that each member sends meanwhile.
    let sent = [&mut a, &mut b, &mut c].map(|member| member.stat("pings_sent"));
    for (member, sent) in [&mut a, &mut b, &mut c].into_iter().zip(sent) {
        member.wait_stat("pings_sent", sent + 40);
    }
    assert!((0..HOSTS).all(|host| lab.lost(host) >= 40), "pings were lost");
    for member in [&mut a, &mut b, &mut c] {
        let events = member.ask(json!({ "do": "events" }));
        let words: Vec<&str> =
            events["events"].as_array().unwrap().iter().filter_map(|e| e["event"].as_str()).collect();
        assert!(words.contains(&"member-suspect"), "silence was noticed: {words:?}");
        assert!(!words.contains(&"member-down"), "but an echo over TCP answered: {words:?}");
    }
    a.make("S", json!({ "k": "v" }), 3);
    assert_eq!(c.get("S"), json!({ "k": "v" }));
}
