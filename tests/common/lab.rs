//! Hosts in network namespaces on a bridge, with real multicast between them, and what may be done to their wires.
//!
//! Needs root and the `ip` command (and `nft` for loss); without them a test says SKIP, or fails where
//! `CI_REQUIRE_TOOLS=1` says that everything must run. Names are unique for each run, and everything made is taken down.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hotspare::cli::demo::process::Process;

use super::{Cluster, Member, SOON, is_able, is_root, now, ok, program, skip};

/// A bridge in a namespace of its own, and hosts with one address each beside it.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    /// Namespaces made so far.
    made: Vec<String>,
}

impl Lab {
    /// Builds it with so many hosts; `None` where the machine does not allow it.
    pub fn build(hosts: usize) -> Option<Self> {
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
        for host in 0..hosts {
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

    /// The same, where packets can be lost one by one.
    pub fn build_with_loss(hosts: usize) -> Option<Self> {
        if is_able("nft", &["--version"]) { Self::build(hosts) } else { skip("it needs the nft command") }
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
    pub fn link(&self, host: usize, state: &str) {
        ip(&["-n", &self.bridge(), "link", "set", &self.port(host), state]);
    }

    /// Loses what arrives at a host and matches, and nothing else, until [`Lab::heal`].
    pub fn lose(&self, host: usize, matching: &[&str]) {
        let rules: Vec<_> = matching.iter().map(|rule| format!("{rule} counter drop")).collect();
        self.filter(host, &rules.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn filter(&self, host: usize, rules: &[&str]) {
        let hook = "type filter hook input priority 0; policy accept;";
        let rules = rules.join("\n    ");
        self.nft(host, &format!("table inet loss {{\n  chain in {{\n    {hook}\n    {rules}\n  }}\n}}\n"));
    }

    /// Loses what one host sends to another.
    pub fn lose_from(&self, from: usize, to: usize) {
        self.lose(to, &[&format!("ip saddr {}", address(from))]);
    }

    /// Answers what arrives at a host on the connections that it has with another now with resets, until [`Lab::heal`]. Connections
    /// made later are spared. False when there are none.
    pub fn reset(&self, host: usize, other: usize) -> bool {
        let open = self.exec(host, &["ss", "-Htn", "state", "established", "dst", &address(other)]);
        let port = |end: &str| end.rsplit(':').next().unwrap_or_default().to_owned();
        let pairs: Vec<_> = open
            .lines()
            .filter_map(|line| {
                let mut ends = line.split_whitespace().skip(2);
                let (here, there) = (ends.next()?, ends.next()?);
                Some(format!("{} . {}", port(there), port(here)))
            })
            .collect();
        if pairs.is_empty() {
            return false;
        }
        let rule = format!("tcp sport . tcp dport {{ {} }} counter reject with tcp reset", pairs.join(", "));
        self.filter(host, &[&rule]);
        true
    }

    /// Ends what [`Lab::lose`] or [`Lab::reset`] began.
    pub fn heal(&self, host: usize) {
        self.nft(host, "delete table inet loss\n");
    }

    /// Loses everything between a host and the others, both ways and without a word to either, until [`Lab::rejoin`].
    pub fn isolate(&self, host: usize) {
        let (port, hook) = (self.port(host), "type filter hook forward priority 0; policy accept;");
        let drops = format!("iifname \"{port}\" drop\n    oifname \"{port}\" drop\n");
        nft(
            &self.bridge(),
            &format!("table bridge cut{host} {{\n  chain between {{\n    {hook}\n    {drops}  }}\n}}\n"),
        );
    }

    /// Ends what [`Lab::isolate`] began.
    pub fn rejoin(&self, host: usize) {
        nft(&self.bridge(), &format!("delete table bridge cut{host}\n"));
    }

    /// Gives a host's packet filter these commands.
    pub fn nft(&self, host: usize, commands: &str) {
        nft(&self.host(host), commands);
    }

    /// Packets that [`Lab::lose`] has taken at a host by its first rule.
    pub fn lost(&self, host: usize) -> u64 {
        let text = self.exec(host, &["nft", "list", "table", "inet", "loss"]);
        let count = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
        count.unwrap_or_else(|| panic!("no counter in {text}"))
    }

    /// Waits until that many packets were taken.
    pub fn wait_lost(&self, host: usize, at_least: u64) {
        let deadline = now() + SOON;
        while self.lost(host) < at_least {
            assert!(now() < deadline, "{} packets of {at_least} were taken", self.lost(host));
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Runs a command on a host; what it said.
    pub fn exec(&self, host: usize, command: &[&str]) -> String {
        let output = ok(Command::new("ip").args(["netns", "exec", &self.host(host)]).args(command).output());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A program to run on a host. `ip` becomes it: the process that is killed is the one that was started.
    pub fn command(&self, host: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host)]).arg(program);
        command
    }

    /// Starts a member on a host; it is not ready yet.
    pub fn launch(&self, cluster: &Cluster, host: usize, more: &[&str]) -> Member {
        Member(ok(self.process(cluster, host, more)))
    }

    /// The same as a mere process.
    pub fn process(&self, cluster: &Cluster, host: usize, more: &[&str]) -> Result<Process, String> {
        let name = ["a", "b", "c", "d"][host];
        let address = address(host);
        let own = [
            format!("--bind={address}"),
            format!("--interface={address}"),
            String::from("--insecure-plaintext"),
            String::from("--multicast-ttl=1"),
        ];
        let mut command = self.command(host, program());
        command.args(["member", "--json", &format!("--name={name}")]);
        let flags: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        command.args(cluster.flags(&flags));
        Process::spawn(command, name)
    }

    pub fn members<const N: usize>(&self, cluster: &Cluster) -> [Member; N] {
        let mut members: [Member; N] = std::array::from_fn(|host| self.launch(cluster, host, &[]));
        for member in &mut members {
            member.wait_ready();
        }
        for member in &mut members {
            member.wait_view(N);
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

pub fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

/// Gives the packet filter of a namespace these commands.
fn nft(namespace: &str, commands: &str) {
    let mut nft = Command::new("ip");
    nft.args(["netns", "exec", namespace, "nft", "-f", "-"]).stdin(Stdio::piped());
    let mut child = ok(nft.spawn());
    ok(child.stdin.take().expect("a pipe").write_all(commands.as_bytes()));
    assert!(child.wait().is_ok_and(|status| status.success()), "nft takes {commands}");
}
