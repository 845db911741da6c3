//! Sockets as a cluster wants them: the listener, the multicast socket, the lanes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::ShellError;
use crate::config::Config;

/// Unsent bytes that the kernel takes before it says full: the rest stays in queues that are bounded and can be
/// given up. With 128 KiB, sixteen callers of 16 KiB each filled it, and a worker's wake-up was added to each round.
const NOTSENT_LOWAT: u32 = 512 << 10;
/// How long a caller that reads its own ack sleeps in one receive before it looks at its deadline.
pub(super) const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Listens on the configured port, or the next free one of `auto_bind`.
pub(super) fn listen(config: &Config) -> Result<std::net::TcpListener, ShellError> {
    let ports = if config.port == 0 { 0..=0 } else { config.port..=config.port.saturating_add(config.auto_bind) };
    let mut last = None;
    for port in ports {
        let addr = SocketAddr::new(config.bind, port);
        match listen_on(addr) {
            Ok(listener) => return Ok(listener),
            Err(e) => {
                let in_use = e.kind() == io::ErrorKind::AddrInUse;
                last = Some(ShellError::Bind(addr, e));
                if !in_use {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        ShellError::Bind(SocketAddr::new(config.bind, config.port), io::ErrorKind::AddrInUse.into())
    }))
}

fn listen_on(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// The interface that pings leave by.
fn interface(config: &Config) -> Ipv4Addr {
    match (config.interface, config.bind) {
        (Some(interface), _) => interface,
        (None, IpAddr::V4(bind)) if !bind.is_unspecified() => bind,
        // Never "any": that would leave by whatever the default route is.
        (None, _) => Ipv4Addr::LOCALHOST,
    }
}

pub(super) fn join(config: &Config) -> Result<std::net::UdpSocket, ShellError> {
    let interface = interface(config);
    multicast_socket(config.multicast, interface, config.multicast_ttl)
        .map_err(|e| ShellError::Multicast(format!("group {} on interface {interface}", config.multicast), e))
}

/// A socket that hears a group on one interface and sends to it by the same.
///
/// It is bound to the group's address, and delivers only groups that it joined itself (`IP_MULTICAST_ALL` off), so
/// that clusters on other groups of the same port are not heard. Interface, loopback and time to live are always set:
/// the system's default interface would be that of the default route.
///
/// # Errors
/// What the system says, such as no route to the group or no such interface.
pub fn multicast_socket(group: SocketAddrV4, interface: Ipv4Addr, ttl: u32) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_multicast_all_v4(false)?;
    socket.bind(&SocketAddr::V4(group).into())?;
    socket.join_multicast_v4(group.ip(), &interface)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(ttl)?;
    Ok(socket.into())
}

/// Starts to connect to a member; the socket is blocking by mode, and every later call says `MSG_DONTWAIT` itself
/// unless it means to wait.
pub(super) fn dial(addr: SocketAddr, bind: IpAddr, congestion: Option<&str>) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if bind.is_ipv4() == addr.is_ipv4() && !bind.is_unspecified() {
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    tune(&socket, congestion)?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) || e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

/// The options of every replication socket, dialled or accepted.
pub(super) fn tune_accepted(stream: &std::net::TcpStream, congestion: Option<&str>) -> io::Result<()> {
    tune(&SockRef::from(stream), congestion)
}

fn tune(socket: &Socket, congestion: Option<&str>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if let Some(name) = congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    // Older kernels lack it; the queue is then the kernel's, and larger.
    let _unsupported = socket.set_tcp_notsent_lowat(NOTSENT_LOWAT);
    Ok(())
}

/// A dialled socket is connected: from now on a receive may wait.
pub(super) fn connected(stream: &std::net::TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(RECEIVE_TIMEOUT))
}
