//! Where clients and workers connect: what is bound, and how connections are taken.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use mdp_transport::PeerAddress;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::{BindError, Endpoint};

/// The key of the address.
const KEY: &str = "broker.bind";
/// How long what was sent may go unanswered by the peer's machine.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// How long a connection is idle before TCP looks whether it lives, and how often, and how long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 4;
/// How many connections may wait to be accepted: after a restart, all peers come at once.
const BACKLOG_CONNECTIONS: i32 = 4_096;
/// How long no connection is taken when there is no room for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    endpoint: Endpoint,
    /// Whether connections may wait.
    may_wait: bool,
    /// Until then none is taken.
    paused_until: Option<Instant>,
}

/// One attempt to take a connection.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(TcpStream, PeerAddress),
    Nothing,
    /// The system has no room for another one.
    NoRoom(io::Error),
}

impl Listener {
    pub(super) fn bind(endpoint: &Endpoint) -> Result<Self, BindError> {
        let address = endpoint.to_string();
        let socket = listen(endpoint).map_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::AddrInUse {
                BindError::AddressInUse { key: KEY, address }
            } else if kind == io::ErrorKind::PermissionDenied {
                BindError::Forbidden { key: KEY, address }
            } else {
                BindError::Unusable { key: KEY, address, error }
            }
        })?;
        let system = |error| BindError::Unusable { key: KEY, address: endpoint.to_string(), error };
        let bound = socket.local_addr().map_err(system)?;
        let endpoint = match endpoint.host_name() {
            Some(_) => Endpoint::from(bound),
            None => endpoint.at_port(bound.port()),
        };
        Ok(Self {
            socket: TcpListener::from_std(socket),
            endpoint,
            may_wait: true,
            paused_until: None,
        })
    }

    /// What was bound, with the real port.
    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) const fn source(&mut self) -> &mut TcpListener {
        &mut self.socket
    }

    /// The poller has news.
    pub(super) const fn wake(&mut self) {
        self.may_wait = true;
    }

    /// Whether a connection may be taken now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.may_wait && self.paused_until.is_none()
    }

    /// Whether a connection may wait that the poller does not tell of again.
    pub(super) const fn has_more(&self) -> bool {
        self.may_wait && self.paused_until.is_none()
    }

    /// When there is something to do that the poller does not tell.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.paused_until.filter(|_| self.may_wait)
    }

    /// Takes none for a while; they wait in the kernel.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + PAUSE);
    }

    pub(super) fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept() {
                Ok((stream, address)) => {
                    return Accepted::Connection(stream, PeerAddress::from(address));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_wait = false;
                    return Accepted::Nothing;
                }
                // That one connection is gone again, or its network is (accept(2)).
                Err(error) if is_of_one(&error) => {}
                Err(error) => return Accepted::NoRoom(error),
            }
        }
    }
}

/// Whether an error is that of the one connection that was to be taken. After any other one, trying again
/// at once would not help.
fn is_of_one(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ]
    .iter()
    .any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}

fn listen(endpoint: &Endpoint) -> io::Result<std::net::TcpListener> {
    let port = endpoint.port();
    if let Some(address) = endpoint.socket_address() {
        return listen_at(address);
    }
    if let Some(name) = endpoint.host_name() {
        return listen_at(interface_address(name, port)?);
    }
    // Every interface, of both versions; a machine without version 6 has those of version 4.
    match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if is_without_ipv6(&error) => listen_at((Ipv4Addr::UNSPECIFIED, port).into()),
        bound => bound,
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT]
        .iter()
        .any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

/// Accepted connections inherit the options.
fn listen_at(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG_CONNECTIONS)?;
    Ok(socket.into())
}

/// The address of a network interface: one of version 4 if it has one.
fn interface_address(name: &str, port: u16) -> io::Result<SocketAddr> {
    let addresses = nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == name)
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), port)));
            let v6 = address.as_sockaddr_in6().map(|v6| {
                // The scope says which link a local address belongs to.
                let scope = v6.scope_id();
                SocketAddr::V6(std::net::SocketAddrV6::new(v6.ip(), port, 0, scope))
            });
            v4.or(v6)
        });
    let is_local = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    addresses
        .min_by_key(|address| (address.is_ipv6(), is_local(address)))
        .ok_or_else(|| io::Error::other("there is no interface of this name with an address"))
}
