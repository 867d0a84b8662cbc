//! Addresses of brokers.

use crate::EndpointError;

/// Checks endpoints and completes those that are written without their transport.
pub(crate) fn parse_all(endpoints: &[String]) -> Result<Vec<String>, EndpointError> {
    if endpoints.is_empty() {
        return Err(EndpointError::None);
    }
    endpoints.iter().map(|endpoint| parse(endpoint.trim())).collect()
}

fn parse(endpoint: &str) -> Result<String, EndpointError> {
    let invalid = || EndpointError::Invalid { endpoint: endpoint.to_owned() };
    // libzmq takes C strings; a NUL would end the address early.
    if endpoint.contains('\0') {
        return Err(invalid());
    }
    let (transport, address) = endpoint.split_once("://").unwrap_or(("tcp", endpoint));
    let usable = match transport {
        "tcp" => is_host_and_port(address),
        "ipc" | "inproc" => !address.is_empty(),
        _ => false,
    };
    if usable { Ok(format!("{transport}://{address}")) } else { Err(invalid()) }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_may_be_left_out() {
        let endpoints = ["broker-1:5555", " tcp://[::1]:1 ", "ipc:///run/m", "inproc://x"];

        let parsed = parse_all(&endpoints.map(str::to_owned));

        assert_eq!(
            parsed.unwrap(),
            ["tcp://broker-1:5555", "tcp://[::1]:1", "ipc:///run/m", "inproc://x"]
        );
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for endpoint in ["", "host", "host:", ":5555", "host:0", "host:65536", "udp://a:1", "a:\0"]
        {
            let refused = parse_all(&[endpoint.to_owned()]);
            assert_eq!(refused, Err(EndpointError::Invalid { endpoint: endpoint.to_owned() }));
        }
        assert_eq!(parse_all(&[]), Err(EndpointError::None));
    }
}
