//! Addresses: `tcp://` is optional, and addresses that mean "everywhere" are never published.

use mdp_node::Endpoint;

/// What is right for [`bind`].
pub(crate) const BIND_WANTED: &str = "tcp://HOST:PORT, where HOST is an address, a network interface or * for all, and PORT is 0 or \
     * for any free one";
/// What is right for [`advertise`].
pub(crate) const ADVERTISE_WANTED: &str =
    "tcp://HOST:PORT that others can connect to (not *, 0.0.0.0, [::] or port 0)";
/// What is right for [`host_port`].
pub(crate) const HOST_PORT_WANTED: &str = "HOST:PORT, or \"\" to turn it off";

/// An address to listen at, in its canonical form.
pub(crate) fn bind(text: &str) -> Result<String, String> {
    let endpoint: Endpoint = text.parse().map_err(|_| BIND_WANTED)?;
    Ok(endpoint.to_string())
}

/// An address to connect to, in its canonical form.
pub(crate) fn advertise(text: &str) -> Result<String, String> {
    let endpoint: Option<Endpoint> = text.parse().ok();
    let endpoint = endpoint.filter(|endpoint| !endpoint.is_wildcard() && endpoint.port() != 0);
    Ok(endpoint.ok_or(ADVERTISE_WANTED)?.to_string())
}

/// An address to listen at, without a scheme.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let endpoint: Endpoint = text.parse().map_err(|_| HOST_PORT_WANTED)?;
    Ok(endpoint.to_string().trim_start_matches("tcp://").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_optional() {
        assert_eq!(bind("127.0.0.1:5555").unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(bind("tcp://*:*").unwrap(), "tcp://0.0.0.0:0");
        assert_eq!(host_port("127.0.0.1:5580").unwrap(), "127.0.0.1:5580");
        assert_eq!(bind("ipc:///x").unwrap_err(), BIND_WANTED);
        assert_eq!(host_port("5580").unwrap_err(), HOST_PORT_WANTED);
    }

    #[test]
    fn an_address_for_others_is_a_real_one() {
        assert_eq!(advertise("broker.example:5555").unwrap(), "tcp://broker.example:5555");
        for bad in ["*:5555", "0.0.0.0:5555", "[::]:5555", "host:0", "host:*"] {
            assert_eq!(advertise(bad).unwrap_err(), ADVERTISE_WANTED, "{bad}");
        }
    }
}
