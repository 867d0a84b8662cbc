//! What an [`Endpoint`] to listen at means on this machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Endpoint;

/// The address to bind. Every interface is `[::]`, which takes connections of IPv4, too.
pub(crate) fn bind_address(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let port = endpoint.port();
    if let Some(address) = endpoint.socket_address() {
        return if is_link_local(&address) {
            Err(io::Error::other("a link-local address needs its interface, as in [fe80::1%eth0]"))
        } else {
            Ok(address)
        };
    }
    if let Some((address, zone)) = endpoint.zoned() {
        return Ok(SocketAddrV6::new(address, port, 0, zone_number(zone)?).into());
    }
    if let Some(name) = endpoint.host_name() {
        return interface_address(name, port);
    }
    Ok((Ipv6Addr::UNSPECIFIED, port).into())
}

/// What others can be told of an endpoint that was bound to this address: the address of an interface
/// instead of its name. A number of an interface would mean nothing to other machines.
pub(crate) fn bound_endpoint(endpoint: &Endpoint, bound: SocketAddr) -> Endpoint {
    let is_interface = endpoint.host_name().is_some() && endpoint.zoned().is_none();
    match (bound, endpoint.host_name().filter(|_| is_interface)) {
        (SocketAddr::V6(v6), Some(name)) if is_link_local(&bound) => {
            Endpoint::in_zone(*v6.ip(), name, v6.port())
        }
        (_, Some(_)) => Endpoint::from(bound),
        (_, None) => endpoint.at_port(bound.port()),
    }
}

/// A socket that listens. Accepted connections inherit what `configure` sets.
pub(crate) fn listen(
    endpoint: &Endpoint,
    backlog: i32,
    configure: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let address = bind_address(endpoint)?;
    match listen_at(address, backlog, &configure) {
        // A machine without version 6 has the interfaces of version 4.
        Err(error) if endpoint.is_any() && is_without_ipv6(&error) => {
            let address = (Ipv4Addr::UNSPECIFIED, endpoint.port()).into();
            listen_at(address, backlog, &configure)
        }
        bound => bound,
    }
}

fn listen_at(
    address: SocketAddr,
    backlog: i32,
    configure: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    configure(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT]
        .iter()
        .any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

const fn is_link_local(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The number of an interface by its name, or by its number.
fn zone_number(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    nix::net::if_::if_nametoindex(zone)
        .map_err(|_| io::Error::other(format!("there is no interface {zone}")))
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
                SocketAddr::V6(SocketAddrV6::new(v6.ip(), port, 0, v6.scope_id()))
            });
            v4.or(v6)
        });
    addresses
        .min_by_key(|address| (address.is_ipv6(), is_link_local(address)))
        .ok_or_else(|| io::Error::other("there is no interface of this name with an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an endpoint means here, or why it means nothing.
    fn address_of(text: &str) -> String {
        match bind_address(&text.parse().unwrap()) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_interface_is_that_of_both_versions() {
        assert_eq!(address_of("*:5"), "[::]:5");
        assert_eq!(address_of("0.0.0.0:5"), "0.0.0.0:5");
    }

    #[test]
    fn zone_is_the_name_or_the_number_of_an_interface() {
        let number = nix::net::if_::if_nametoindex("lo").unwrap();
        for zone in ["lo".to_owned(), number.to_string()] {
            assert_eq!(address_of(&format!("[fe80::1%{zone}]:5")), format!("[fe80::1%{number}]:5"));
        }
        assert!(address_of("[fe80::1%nosuch]:5").contains("no interface nosuch"));
        assert!(address_of("[fe80::1]:5").contains("needs its interface"));
    }

    #[test]
    fn interface_stands_for_its_address() {
        assert_eq!(address_of("lo:5"), "127.0.0.1:5");
        assert!(address_of("nosuch:5").contains("no interface of this name"));

        let told = |text: &str, bound: &str| {
            bound_endpoint(&text.parse().unwrap(), bound.parse().unwrap()).to_string()
        };
        assert_eq!(told("lo:0", "127.0.0.1:7"), "tcp://127.0.0.1:7");
        assert_eq!(told("eth0:0", "[fe80::1%2]:7"), "tcp://[fe80::1%eth0]:7");
        assert_eq!(told("[fe80::1%eth0]:0", "[fe80::1%2]:7"), "tcp://[fe80::1%eth0]:7");
        assert_eq!(told("*:0", "[::]:7"), "tcp://*:7");
    }
}
