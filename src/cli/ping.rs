//! `hotspare ping`: who pings a multicast group, and where nobody is heard, why.
//!
//! It joins the group and listens; it is no member and nobody dials it. The self-test sends one datagram to a
//! random group of its own, which no node listens to; `--probe` sends one to the group itself, in the name of
//! no cluster, which nodes count as foreign and ignore. What is kept of the pings heard is bounded.

#![expect(clippy::disallowed_methods, reason = "it measures the time between pings")]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::flags::Settings;
use super::output::Output;
use super::{Exit, Failure, progress};
use crate::config::{Config, parse_duration};
use crate::id::{MemberId, NodeState};
use crate::wire::{PING_LEN, PROTOCOL, Ping, cluster_tag, decode_ping, encode_ping};

/// Flags of `hotspare ping`.
#[derive(Debug, clap::Args)]
pub(super) struct PingArgs {
    /// How long to listen
    #[arg(long = "for", value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    duration: Duration,
    /// Send one ping of no cluster to the group as well, and see whether it comes back
    #[arg(long)]
    probe: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// Listens, prints who was heard, and says what is wrong where nobody of the cluster was.
pub(super) fn run(args: &PingArgs, out: &Output) -> Result<(), Failure> {
    let config = args.settings.load_and_warn()?.config;
    let path = Route::of(&config)?;
    let socket = path.join(config.multicast).map_err(|why| path.explain_join(config.multicast, &why))?;
    let mut heard = Heard::default();
    if args.probe {
        let probe = Probe::new(&config);
        socket.send_to(&probe.bytes, config.multicast).map_err(|why| path.explain_send(config.multicast, &why))?;
        heard.probe = Some(probe.id);
    }

    let spinner = progress::spinner(out);
    spinner.set_message(format!("listening to {} on {}", config.multicast, path.interface));
    let start = Instant::now();
    let result = listen(&socket, start, args.duration, &mut heard);
    spinner.finish_and_clear();
    result.map_err(|why| Failure::new(Exit::Start, [format!("cannot receive from {}: {why}", config.multicast)]))?;

    let tag = cluster_tag(&config.cluster);
    heard.print(tag, out);
    heard.remark();
    if heard.members.values().any(|member| member.ping.cluster == tag) {
        return Ok(());
    }
    let mut lines = vec![format!(
        "no member of cluster {:?} was heard on {} by {} in {:?}",
        config.cluster, config.multicast, path.interface, args.duration
    )];
    if heard.probe.is_some() && !heard.probe_came_back {
        lines.push(format!("the probe did not come back from {}", config.multicast));
    }
    match path.self_test(&config) {
        Ok(()) => lines.push(
            "multicast works within this machine: either nobody pings, or the network between does not carry the group \
             (look at IGMP snooping in the switch, and at membership.ttl where routers lie between)"
                .to_owned(),
        ),
        Err(failure) => lines.extend(failure.lines),
    }
    Err(Failure::new(Exit::Failed, lines))
}

/// Receives until the time is over.
fn listen(socket: &UdpSocket, start: Instant, duration: Duration, heard: &mut Heard) -> io::Result<()> {
    // One byte more than any ping, so that a longer datagram is not taken for one.
    let mut buffer = [0; PING_LEN + 1];
    while let Some(left) = duration.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => heard.note(&buffer[..len], from, start.elapsed()),
            Err(why) if is_timeout(&why) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Everything heard while listening.
#[derive(Default)]
struct Heard {
    members: BTreeMap<MemberId, Member>,
    /// The probe that was sent.
    probe: Option<MemberId>,
    probe_came_back: bool,
    /// Datagrams that were no pings, and the last sender of one.
    bad: u64,
    bad_from: Option<SocketAddr>,
    /// Pings of members beyond [`MEMBERS_MAX`].
    beyond: u64,
}

struct Member {
    /// The latest.
    ping: Ping,
    from: SocketAddr,
    pings: u32,
    first: Duration,
    last: Duration,
}

impl Heard {
    fn note(&mut self, bytes: &[u8], from: SocketAddr, at: Duration) {
        let Ok(ping) = decode_ping(bytes) else {
            self.bad += 1;
            self.bad_from = Some(from);
            return;
        };
        if Some(ping.member) == self.probe {
            self.probe_came_back = true;
        } else if let Some(member) = self.members.get_mut(&ping.member) {
            member.pings += 1;
            member.last = at;
            member.from = from;
            member.ping = ping;
        } else if self.members.len() < MEMBERS_MAX {
            self.members.insert(ping.member, Member { ping, from, pings: 1, first: at, last: at });
        } else {
            self.beyond += 1;
        }
    }

    /// Members of the cluster first, then by name.
    fn print(&self, tag: u64, out: &Output) {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_by_key(|member| (member.ping.cluster != tag, &member.ping.name, member.ping.member));
        let rows: Vec<Vec<Value>> = members.iter().map(|member| member.row(tag)).collect();
        out.table(&HEADINGS, &rows);
    }

    fn remark(&self) {
        if let Some(from) = self.bad_from {
            log::warn!("{} datagrams were no pings, the last one from {from}", self.bad);
        }
        if self.beyond > 0 {
            log::warn!("{} pings of further members were not counted", self.beyond);
        }
        if self.probe_came_back {
            log::info!("the probe came back");
        }
        for member in self.members.values() {
            // Something between rewrites addresses, or the member advertises one that others cannot reach.
            if member.ping.addr.ip() != member.from.ip() {
                log::warn!("{} pings from {} and advertises {}", member.ping.name, member.from, member.ping.addr);
            }
        }
    }
}

impl Member {
    fn row(&self, tag: u64) -> Vec<Value> {
        let ping = &self.ping;
        let whole_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let interval = (self.last - self.first).checked_div(self.pings - 1).map(whole_ms);
        vec![
            json!(ping.name),
            json!(ping.member.to_string()),
            json!(ping.addr.to_string()),
            json!(if ping.cluster == tag { "same" } else { "other" }),
            json!(ping.state.as_str()),
            json!(ping.uptime_ms / 1000),
            json!(self.pings),
            json!(interval),
        ]
    }
}

/// The interface that multicast goes by here, and how far.
struct Route {
    interface: Ipv4Addr,
    ttl: u32,
}

impl Route {
    fn of(config: &Config) -> Result<Self, Failure> {
        let interface = match (config.interface, config.bind) {
            (Some(interface), _) => interface,
            (None, IpAddr::V4(bind)) => bind,
            (None, IpAddr::V6(_)) => {
                return Err(Failure::new(Exit::Usage, ["membership.interface must be named"]));
            }
        };
        Ok(Self { interface, ttl: config.multicast_ttl })
    }

    /// A socket that hears this group and port on this interface and nothing else.
    fn join(&self, group: SocketAddrV4) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        // Without this Linux delivers groups that other processes have joined on other interfaces.
        socket.set_multicast_all_v4(false)?;
        socket.set_multicast_if_v4(&self.interface)?;
        socket.set_multicast_ttl_v4(self.ttl)?;
        socket.set_multicast_loop_v4(true)?;
        socket.bind(&SocketAddr::V4(group).into())?;
        socket.join_multicast_v4(group.ip(), &self.interface)?;
        Ok(socket.into())
    }

    /// Whether a datagram to a random group comes back to this machine.
    fn self_test(&self, config: &Config) -> Result<(), Failure> {
        let probe = Probe::new(config);
        let [.., a, b] = probe.id.0.to_le_bytes();
        // Port 0 cannot be agreed on; any port will do, as the group is ours alone.
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, a, b), config.multicast.port());
        let socket = self.join(group).map_err(|why| self.explain_join(group, &why))?;
        socket.send_to(&probe.bytes, group).map_err(|why| self.explain_send(group, &why))?;
        let mut heard = Heard { probe: Some(probe.id), ..Heard::default() };
        let start = Instant::now();
        while !heard.probe_came_back && start.elapsed() < SELF_TEST {
            let until = SELF_TEST.min(start.elapsed() + Duration::from_millis(50));
            listen(&socket, start, until, &mut heard)
                .map_err(|why| Failure::new(Exit::Start, [format!("cannot receive from {group}: {why}")]))?;
        }
        if heard.probe_came_back {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Failed,
            [format!(
                "a datagram sent to {group} by {} did not come back even to this machine: a firewall drops it (`nft list \
                 ruleset`), or it leaves by another interface (`ip route show table all type multicast`, `ip maddr show`)",
                self.interface
            )],
        ))
    }

    fn explain_join(&self, group: SocketAddrV4, why: &io::Error) -> Failure {
        let interface = self.interface;
        let line = match why.raw_os_error() {
            Some(libc::ENODEV | libc::EADDRNOTAVAIL) => {
                format!("no interface has the address {interface}: `ip -brief address show` lists them")
            }
            Some(libc::ENOBUFS) => {
                format!(
                    "cannot join {}: too many groups (`ip maddr show`, `sysctl net.ipv4.igmp_max_memberships`)",
                    group.ip()
                )
            }
            Some(libc::EADDRINUSE) => {
                format!("{group} is taken by a process that does not share it (`ss -ulpn sport = :{}`)", group.port())
            }
            _ => format!("cannot join {group} on {interface}: {why}"),
        };
        Failure::new(Exit::Start, [line])
    }

    fn explain_send(&self, group: SocketAddrV4, why: &io::Error) -> Failure {
        let interface = self.interface;
        let line = match why.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => format!(
                "there is no multicast route by {interface}: `ip route show` names none for {}; `ip route add 239.0.0.0/8 \
                 dev …` makes one",
                group.ip()
            ),
            Some(libc::EPERM | libc::EACCES) => {
                format!("a firewall forbids sending to {group}: {why} (`nft list ruleset`)")
            }
            _ => format!("cannot send to {group} by {interface}: {why}"),
        };
        Failure::new(Exit::Start, [line])
    }
}

/// A ping in the name of no cluster.
struct Probe {
    id: MemberId,
    bytes: [u8; PING_LEN],
}

impl Probe {
    fn new(config: &Config) -> Self {
        let id = MemberId(fastrand::u64(1..));
        let bytes = encode_ping(&Ping {
            versions: PROTOCOL,
            cluster: cluster_tag(&format!("probe {id}")),
            member: id,
            seq: 1,
            state: NodeState::Leaving,
            addr: SocketAddr::new(config.bind, 0),
            name: String::from("probe"),
            route: String::new(),
            view_hash: 0,
            uptime_ms: 0,
        });
        Self { id, bytes }
    }
}

fn is_timeout(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

const HEADINGS: [&str; 8] = ["name", "id", "address", "cluster", "state", "uptime_s", "pings", "interval_ms"];

/// More than a cluster has; a flood of made-up members must not fill the memory.
const MEMBERS_MAX: usize = 1024;

/// A datagram to oneself takes microseconds; a busy machine gets this long.
const SELF_TEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route { interface: Ipv4Addr::LOCALHOST, ttl: 0 }
    }

    fn ping(member: u64, cluster: &str) -> Ping {
        let bytes = Probe::new(&Config::loopback()).bytes;
        let ping = decode_ping(&bytes).unwrap();
        Ping { member: MemberId(member), cluster: cluster_tag(cluster), name: format!("n{member}"), ..ping }
    }

    const FROM: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));

    #[test]
    fn the_self_test_hears_itself_on_loopback() {
        assert_eq!(route().self_test(&Config::loopback()), Ok(()));
    }

    #[test]
    fn an_address_that_is_no_interfaces_is_named() {
        // TEST-NET-1: no machine has it.
        let route = Route { interface: Ipv4Addr::new(192, 0, 2, 1), ttl: 0 };
        let group = Config::loopback().multicast;
        let why = route.join(group).unwrap_err();
        let failure = route.explain_join(group, &why);
        assert!(failure.lines[0].starts_with("no interface has the address 192.0.2.1"), "{:?}", failure.lines);
    }

    #[test]
    fn pings_are_counted_by_member_and_their_interval_is_measured() {
        let mut heard = Heard::default();
        for (member, at) in [(2, 0), (1, 10), (2, 200), (2, 400)] {
            heard.note(&encode_ping(&ping(member, "shop")), FROM, Duration::from_millis(at));
        }
        heard.note(b"hello", FROM, Duration::ZERO);
        let row = heard.members[&MemberId(2)].row(cluster_tag("shop"));
        assert_eq!((&row[3], &row[6], &row[7]), (&json!("same"), &json!(3), &json!(200)));
        let row = heard.members[&MemberId(1)].row(cluster_tag("other"));
        assert_eq!((&row[3], &row[6], &row[7]), (&json!("other"), &json!(1), &Value::Null));
        assert_eq!((heard.bad, heard.bad_from), (1, Some(FROM)));
    }

    #[test]
    fn a_flood_of_members_is_bounded() {
        let mut heard = Heard::default();
        for member in 1..=1030 {
            heard.note(&encode_ping(&ping(member, "shop")), FROM, Duration::ZERO);
        }
        assert_eq!((heard.members.len(), heard.beyond), (MEMBERS_MAX, 6));
    }
}
