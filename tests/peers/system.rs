//! The systems under comparison, and how a member of each is started on a host.
//!
//! Both kinds of member understand the same words (`hotspare member`), so whatever asks them is the same code.

use std::path::{Path, PathBuf};
use std::process::Command;

use hotspare::cli::demo::process::Process;

use crate::common::lab::{Lab, address};
use crate::common::{Cluster, Member, is_able, ok, skip};

/// One system with one set of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Hotspare,
    TomcatDefault,
    TomcatTuned,
}

impl System {
    pub(crate) const ALL: [Self; 3] = [Self::Hotspare, Self::TomcatDefault, Self::TomcatTuned];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hotspare => "hotspare",
            Self::TomcatDefault => "Tomcat",
            Self::TomcatTuned => "Tomcat, tuned",
        }
    }

    fn server_xml(self) -> &'static str {
        if self == Self::TomcatTuned { "server-tuned.xml" } else { "server-default.xml" }
    }
}

/// The compiled driver of Tomcat, and what it runs with.
#[derive(Debug)]
pub(crate) struct Java {
    classes: tempfile::TempDir,
    path: String,
    /// What it says of itself.
    pub(crate) version: String,
}

impl Java {
    /// Compiles the driver; `None` where something that it needs is missing.
    pub(crate) fn compile() -> Option<Self> {
        if !is_able("javac", &["-version"]) || !is_able("java", &["-version"]) {
            return skip("it needs a JDK (default-jdk-headless)");
        }
        let jars: Vec<String> = ok(std::fs::read_dir(JARS))
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("tomcat10-") && name.ends_with(".jar") && !name.contains("-10."))
            .map(|name| format!("{JARS}/{name}"))
            .collect();
        if !jars.iter().any(|jar| jar.ends_with("tomcat10-catalina-ha.jar")) {
            return skip("it needs Tomcat 10 (libtomcat10-java)");
        }
        let classes = ok(tempfile::tempdir());
        let path = format!("{}:{}", classes.path().display(), jars.join(":"));
        let sources = ["Requests.java", "Peer.java"].map(|name| here().join(name));
        let compiled = Command::new("javac").arg("-d").arg(classes.path()).args(["-cp", &path]).args(sources).status();
        assert!(compiled.is_ok_and(|status| status.success()), "the driver compiles");
        let info = Command::new("java").args(["-cp", &path, "org.apache.catalina.util.ServerInfo"]).output();
        let info = String::from_utf8_lossy(&ok(info).stdout).into_owned();
        let of = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim);
        let version = format!("{}, JVM {}", of("Server version:"), of("JVM Version:"));
        Some(Self { classes, path, version })
    }
}

/// Hosts, and the system whose members run there.
#[derive(Debug)]
pub(crate) struct Rig<'a> {
    pub(crate) system: System,
    java: &'a Java,
    pub(crate) lab: Lab,
    cluster: Cluster,
}

impl<'a> Rig<'a> {
    /// So many hosts on a network of their own.
    pub(crate) fn build(system: System, java: &'a Java, hosts: usize) -> Self {
        let lab = Lab::build_with_loss(hosts).expect("it was possible before");
        // As the command has it when nothing is set: what the tests' own clusters set is set back.
        let defaults = ["--preset=lan", "--frequency=200ms", "--drop-time=1s", "--verify-timeout=250ms"];
        let cluster = defaults.into_iter().fold(Cluster::new(), Cluster::with);
        Self { system, java, lab, cluster }
    }

    /// Starts a member on a host; it is not ready yet.
    pub(crate) fn launch(&self, host: usize) -> Member {
        if self.system == System::Hotspare {
            return self.lab.launch(&self.cluster, host, &[]);
        }
        let (group, port) = self.cluster.group.split_once(':').expect("a group has a port");
        let mut command = self.lab.command(host, "java");
        command.args(JVM).args(["-cp", &self.java.path]);
        command.arg(format!("-Dpeer.address={}", address(host)));
        command.arg(format!("-Dpeer.group={group}")).arg(format!("-Dpeer.port={port}"));
        command.arg("Peer").arg(self.java.classes.path()).arg(here().join(self.system.server_xml()));
        Member(ok(Process::spawn(command, ["a", "b", "c"][host])))
    }

    pub(crate) fn start(&self, host: usize) -> Member {
        let mut member = self.launch(host);
        member.wait_ready();
        member
    }

    /// So many members, started one after the other, that all see each other.
    pub(crate) fn members<const N: usize>(&self) -> [Member; N] {
        let mut members: [Member; N] = std::array::from_fn(|host| self.start(host));
        for member in &mut members {
            member.wait_view(N);
        }
        members
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// Where Debian keeps them.
const JARS: &str = "/usr/share/java";

/// A heap that the tests do not fill, and the one family of addresses that there is.
pub(crate) const JVM: [&str; 3] = ["-Xms64m", "-Xmx1g", "-Djava.net.preferIPv4Stack=true"];
