//! Addresses: `tcp://` is optional, and addresses that mean "everywhere" are never published.

use mdp_node::{BINDS_MAX, BindAddress, Endpoint, EndpointError};

/// What is right for [`bind`].
pub(crate) const BIND_WANTED: &str = "one tcp://HOST:PORT, where HOST is an address, a network interface or * for all, and PORT is 0 \
     or * for any free one";
/// What is right for [`binds`].
pub(crate) const BINDS_WANTED: &str = "tcp://HOST:PORT, where HOST is an address, a network interface or * for all, and PORT is 0 or * \
     for any free one, or ipc:///PATH, or a list of these";
/// What is right for [`advertise`].
pub(crate) const ADVERTISE_WANTED: &str =
    "tcp://HOST:PORT that others can connect to (not *, 0.0.0.0, [::] or port 0)";
/// What is right for [`client`].
const CLIENT_WANTED: &str = "HOST:PORT, tcp://HOST:PORT or ipc:///PATH";
/// What is right for [`host_port`].
pub(crate) const HOST_PORT_WANTED: &str = "HOST:PORT, or \"\" to turn it off";

/// What is right for [`host_name`].
pub(crate) const HOST_NAMES_WANTED: &str =
    "names of hosts without ports, such as \"broker-1.example.org\", or a list of these";

/// The longest name of a host, in bytes (RFC 1035, 2.3.4).
const HOST_NAME_BYTES_MAX: usize = 253;

/// The name of a host, in lower case and without the dot that may end it.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((1..=HOST_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_right)).then_some(name)
}

/// An address to listen at, in its canonical form.
pub(crate) fn bind(text: &str) -> Result<String, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| but(BIND_WANTED, &error))?;
    Ok(endpoint.to_string())
}

/// Addresses to listen at, in their canonical form.
pub(crate) fn binds(texts: &[String]) -> Result<Vec<String>, String> {
    if !(1..=BINDS_MAX).contains(&texts.len()) {
        return Err(format!("{BINDS_WANTED}; 1 to {BINDS_MAX} of them"));
    }
    let mut addresses: Vec<BindAddress> = Vec::with_capacity(texts.len());
    for text in texts {
        let address = text.parse().map_err(|error| but(BINDS_WANTED, &error))?;
        if let Some(other) = addresses.iter().find(|other| other.collides_with(&address)) {
            return Err(format!(
                "{BINDS_WANTED}; \"{other}\" and \"{address}\" cannot both be bound: leave one out"
            ));
        }
        addresses.push(address);
    }
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// An address to connect to, in its canonical form.
pub(crate) fn advertise(text: &str) -> Result<String, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| but(ADVERTISE_WANTED, &error))?;
    if endpoint.is_wildcard() || endpoint.port() == 0 {
        return Err(ADVERTISE_WANTED.to_owned());
    }
    Ok(endpoint.to_string())
}

/// An address of a broker for its clients, in its canonical form. Of Unix sockets it is all that libzmq
/// takes, relative paths and abstract names (`@NAME`) as well: the broker may be another one.
pub(crate) fn client(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("ipc://") {
        let is_some = !path.is_empty() && !path.contains('\0');
        return if is_some { Ok(text.to_owned()) } else { Err(CLIENT_WANTED.to_owned()) };
    }
    match text.parse() {
        Ok(BindAddress::Tcp(_) | BindAddress::Ipc(_)) => advertise(text),
        Err(error) => Err(but(CLIENT_WANTED, &error)),
    }
}

/// An address to listen at, without a scheme.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| but(HOST_PORT_WANTED, &error))?;
    Ok(endpoint.to_string().trim_start_matches("tcp://").to_owned())
}

/// What is right, and what is wrong with this one.
fn but(wanted: &str, error: &EndpointError) -> String {
    format!("{wanted}; {}", error.reason())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_optional() {
        assert_eq!(bind("127.0.0.1:5555").unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(bind("tcp://*:*").unwrap(), "tcp://*:0");
        assert_eq!(host_port("127.0.0.1:5580").unwrap(), "127.0.0.1:5580");
        assert_eq!(client("h:1").unwrap(), "tcp://h:1");
    }

    #[test]
    fn clients_take_every_unix_socket_that_libzmq_takes() {
        for text in ["ipc:///run/x", "ipc://relative", "ipc://@abstract"] {
            assert_eq!(client(text).unwrap(), text);
        }
    }

    #[test]
    fn host_names_have_neither_port_nor_scheme() {
        assert_eq!(host_name("Broker-1.example.org.").as_deref(), Some("broker-1.example.org"));
        for wrong in ["", ".", "h:1", "http://h", "a b", &"x".repeat(254)] {
            assert_eq!(host_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (error, reason) in [
            (bind("ipc:///x"), "; a Unix socket (ipc://) is for programs on this machine only"),
            (bind("a:1,b:1"), "; it is one address, not a list"),
            (host_port("5580"), "; the port is missing"),
            (client("udp://a:1"), "; only tcp:// and ipc:// are supported"),
            (client("ipc://"), "or ipc:///PATH"),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn addresses_to_listen_at_are_a_few_that_go_together() {
        let read = |texts: &[&str]| {
            binds(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            read(&["127.0.0.1:1", "[::1]:1", "ipc:///run/x"]).unwrap(),
            ["tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///run/x"]
        );
        for (texts, reason) in [
            (&["*:1", "[::1]:1"][..], "\"tcp://*:1\" and \"tcp://[::1]:1\" cannot both be bound"),
            (&["ipc:///x", "ipc:///x"], "cannot both be bound"),
            (&[], "1 to 16 of them"),
            (&["a:1"; 17], "1 to 16 of them"),
            (&["a:1", "b"], "the port is missing"),
        ] {
            let error = read(texts).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_address_for_others_is_a_real_one() {
        assert_eq!(advertise("broker.example:5555").unwrap(), "tcp://broker.example:5555");
        for bad in ["*:5555", "0.0.0.0:5555", "[::]:5555", "host:0", "host:*"] {
            assert_eq!(advertise(bad).unwrap_err(), ADVERTISE_WANTED, "{bad}");
        }
    }
}
