//! TCP addresses as people write them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use thiserror::Error;

/// The longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// The longest name of an interface (IFNAMSIZ without its zero).
const ZONE_BYTES_MAX: usize = 15;
/// The longest path of a Unix socket (`sun_path` without its zero).
pub(crate) const PATH_BYTES_MAX: usize = 107;

/// `host:port`, with or without `tcp://` in front; IPv6 addresses in brackets, link-local ones with
/// their zone as in `[fe80::1%eth0]`.
///
/// To bind to, `*` stands for every address of this machine, `0.0.0.0` for those of IPv4, and port `*`
/// or `0` for any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Every address, of both versions.
    Any,
    Address(IpAddr),
    /// A link-local address and the interface that leads to its link, as in `fe80::1%eth0`.
    Zoned {
        address: Ipv6Addr,
        text: String,
    },
    /// A name of a host, or of a network interface to bind to.
    Name(String),
}

impl Endpoint {
    /// Whether it means every interface, which is nowhere to connect to.
    #[must_use]
    pub const fn is_wildcard(&self) -> bool {
        match &self.host {
            Host::Any => true,
            Host::Address(address) => address.is_unspecified(),
            Host::Zoned { .. } | Host::Name(_) => false,
        }
    }

    /// A link-local address behind an interface.
    pub(crate) fn in_zone(address: Ipv6Addr, interface: &str, port: u16) -> Self {
        Self { host: Host::Zoned { address, text: format!("{address}%{interface}") }, port }
    }

    /// Whether it means every address, of IPv6 and of IPv4.
    pub(crate) const fn is_any(&self) -> bool {
        matches!(self.host, Host::Any)
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.is_loopback(),
            Host::Any | Host::Zoned { .. } | Host::Name(_) => false,
        }
    }

    /// Whether only one of both can be bound at a time.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.port != 0
            && (self.host == other.host || self.includes(other) || other.includes(self))
    }

    /// Whether this host stands for the other one, too.
    const fn includes(&self, other: &Self) -> bool {
        match &self.host {
            Host::Any => true,
            // Programs on Linux that listen at [::] listen at all addresses of version 4, too.
            Host::Address(IpAddr::V6(address)) => address.is_unspecified(),
            // An interface has an address of version 4 in general.
            Host::Address(IpAddr::V4(address)) => address.is_unspecified() && !other.is_ipv6(),
            Host::Zoned { .. } | Host::Name(_) => false,
        }
    }

    /// Whether its host is an address of version 6.
    const fn is_ipv6(&self) -> bool {
        matches!(self.host, Host::Address(IpAddr::V6(_)) | Host::Zoned { .. })
    }

    /// The port; zero stands for any free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is one that needs no look at names or interfaces.
    #[must_use]
    pub const fn socket_address(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Address(address) => Some(SocketAddr::new(*address, self.port)),
            Host::Any | Host::Zoned { .. } | Host::Name(_) => None,
        }
    }

    /// The host, if the system has to look up what it stands for: a name, or an address with the name
    /// of an interface.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) | Host::Zoned { text: name, .. } => Some(name),
            Host::Any | Host::Address(_) => None,
        }
    }

    /// A link-local address, and the name or number of its interface.
    pub(crate) fn zoned(&self) -> Option<(Ipv6Addr, &str)> {
        match &self.host {
            Host::Zoned { address, text } => Some((*address, text.split_once('%')?.1)),
            Host::Any | Host::Address(_) | Host::Name(_) => None,
        }
    }

    /// The same host with another port.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// The same port at another host.
    ///
    /// # Errors
    /// The host is neither a name nor an address.
    pub fn at_host(&self, host: &str) -> Result<Self, EndpointError> {
        Ok(Self { host: parse_host(host).map_err(|p| p.of(host))?, port: self.port })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                let text = format!("{}%{}", v6.ip(), v6.scope_id());
                Host::Zoned { address: *v6.ip(), text }
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => Host::Address(address.ip()),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map_err(|problem| problem.of(text))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, "tcp://*:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "tcp://{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "tcp://[{address}]:{}", self.port),
            Host::Zoned { text, .. } => write!(f, "tcp://[{text}]:{}", self.port),
            Host::Name(name) => write!(f, "tcp://{name}:{}", self.port),
        }
    }
}

/// Text that is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not an address: {problem}; write for example \"tcp://127.0.0.1:5555\"")]
pub struct EndpointError {
    text: String,
    problem: Problem,
}

impl EndpointError {
    /// What is wrong with the text.
    #[must_use]
    pub fn reason(&self) -> String {
        self.problem.to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Problem {
    #[error("a Unix socket (ipc://) is for programs on this machine only; it needs tcp://")]
    Ipc,
    #[error("only tcp:// is supported")]
    NotTcp,
    #[error("only tcp:// and ipc:// are supported")]
    NotTcpOrIpc,
    #[error("it is one address, not a list")]
    IsList,
    #[error("the port is missing")]
    NoPort,
    #[error("the port must be a number from 0 to 65535, or *")]
    BadPort,
    #[error("the host is missing")]
    NoHost,
    #[error("the host is neither a name nor an address (IPv6 addresses need brackets)")]
    BadHost,
    #[error(
        "a zone is the name or number of an interface behind a link-local address, as in \
         [fe80::1%eth0]"
    )]
    BadZone,
    #[error(
        "what follows ipc:// is the absolute path of a file, of at most {PATH_BYTES_MAX} bytes, as in \
         ipc:///run/majordomo/clients"
    )]
    BadPath,
}

impl Problem {
    pub(crate) fn of(self, text: &str) -> EndpointError {
        EndpointError { text: text.to_owned(), problem: self }
    }
}

fn parse(text: &str) -> Result<Endpoint, Problem> {
    let rest = match text.split_once("://") {
        None => text,
        Some(("tcp", rest)) => rest,
        Some(("ipc", _)) => return Err(Problem::Ipc),
        Some(_) => return Err(Problem::NotTcp),
    };
    if rest.contains(',') {
        return Err(Problem::IsList);
    }
    // An IPv6 address ends with a bracket, whatever colons are in it.
    if rest.ends_with(']') {
        return Err(Problem::NoPort);
    }
    let (host, port) = rest.rsplit_once(':').ok_or(Problem::NoPort)?;
    let port = match port {
        "*" => 0,
        "" => return Err(Problem::NoPort),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| Problem::BadPort)?
        }
        _ => return Err(Problem::BadPort),
    };
    Ok(Endpoint { host: parse_host(host)?, port })
}

fn parse_host(host: &str) -> Result<Host, Problem> {
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        if let Some((address, zone)) = inside.split_once('%') {
            return parse_zoned(address, zone);
        }
        let address: Ipv6Addr = inside.parse().map_err(|_| Problem::BadHost)?;
        // An address of version 4 may be written as one of version 6.
        return Ok(Host::Address(address.to_canonical()));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    match host {
        "" => Err(Problem::NoHost),
        "*" => Ok(Host::Any),
        // A name to bind to is that of an interface, and there is no such interface.
        "localhost" => Ok(Host::Address(Ipv4Addr::LOCALHOST.into())),
        name if name.len() <= HOST_BYTES_MAX && name.bytes().all(is_allowed) => {
            Ok(Host::Name(name.to_owned()))
        }
        _ => Err(Problem::BadHost),
    }
}

fn parse_zoned(address: &str, zone: &str) -> Result<Host, Problem> {
    let address: Ipv6Addr = address.parse().map_err(|_| Problem::BadHost)?;
    let is_zone = (1..=ZONE_BYTES_MAX).contains(&zone.len()) && zone.bytes().all(is_allowed);
    if !is_zone || !address.is_unicast_link_local() {
        return Err(Problem::BadZone);
    }
    Ok(Host::Zoned { address, text: format!("{address}%{zone}") })
}

/// What names of hosts and interfaces are made of.
const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_is_optional_and_comes_back() {
        for (text, full) in [
            ("127.0.0.1:5555", "tcp://127.0.0.1:5555"),
            ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
            ("localhost:5555", "tcp://127.0.0.1:5555"),
            ("tcp://*:5555", "tcp://*:5555"),
            ("0.0.0.0:*", "tcp://0.0.0.0:0"),
            ("[fe80::1%eth0.7]:1", "tcp://[fe80::1%eth0.7]:1"),
            ("[fe80:0::1%2]:1", "tcp://[fe80::1%2]:1"),
            ("[::1]:1", "tcp://[::1]:1"),
            ("[::ffff:10.0.0.7]:1", "tcp://10.0.0.7:1"),
            ("node-1.mdp.svc:65535", "tcp://node-1.mdp.svc:65535"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("ipc:///tmp/x", "programs on this machine only"),
            ("udp://a:1", "only tcp://"),
            ("a:1,b:1", "not a list"),
            ("[fe80::1%]:1", "interface behind a link-local"),
            ("[fe80::1%a b]:1", "interface behind a link-local"),
            ("[fd00::1%eth0]:1", "interface behind a link-local"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:", "port is missing"),
            ("[::1]", "port is missing"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("127.0.0.1:+1", "0 to 65535"),
            (":5555", "host is missing"),
            ("::1:5555", "brackets"),
            ("a b:5555", "neither a name nor"),
            ("a\0b:5555", "neither a name nor"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn wildcards_and_loopback_are_told_apart() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        for text in ["*:1", "0.0.0.0:1", "[::]:1"] {
            assert!(endpoint(text).is_wildcard() && !endpoint(text).is_loopback(), "{text}");
        }
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
            assert!(endpoint(text).is_loopback() && !endpoint(text).is_wildcard(), "{text}");
        }
    }

    #[test]
    fn addresses_that_only_one_can_bind_collide() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        for (a, b, collide) in [
            ("*:1", "[::1]:1", true),
            ("*:1", "eth0:1", true),
            ("*:1", "[fe80::1%2]:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("[fe80::1%2]:1", "[fe80::1%3]:1", false),
            ("*:1", "*:2", false),
            ("*:0", "*:0", false),
        ] {
            assert_eq!(endpoint(a).collides_with(&endpoint(b)), collide, "{a} {b}");
            assert_eq!(endpoint(b).collides_with(&endpoint(a)), collide, "{b} {a}");
        }
    }

    #[test]
    fn zone_stays_with_its_address() {
        let address = "[fe80::1%2]:5".parse::<SocketAddr>().unwrap();
        let endpoint = Endpoint::from(address);

        assert_eq!(endpoint.to_string(), "tcp://[fe80::1%2]:5");
        assert_eq!(endpoint.zoned(), Some(("fe80::1".parse().unwrap(), "2")));
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}
