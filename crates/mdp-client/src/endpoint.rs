//! Addresses of brokers.

use crate::{EndpointError, options::ENDPOINTS_MAX};

/// Checks endpoints and completes those that are written without their transport. One that is
/// given twice counts once.
pub(crate) fn parse_all(endpoints: &[String]) -> Result<Vec<String>, EndpointError> {
    if endpoints.is_empty() {
        return Err(EndpointError::None);
    }
    let mut parsed = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let endpoint = parse(endpoint.trim())?;
        if !parsed.contains(&endpoint) {
            parsed.push(endpoint);
        }
    }
    if parsed.len() > ENDPOINTS_MAX {
        return Err(EndpointError::TooMany { got: parsed.len(), max: ENDPOINTS_MAX });
    }
    Ok(parsed)
}

/// Checks an endpoint that a broker told: only what another machine could mean is taken.
pub(crate) fn parse_learned(endpoint: &str) -> Option<String> {
    let parsed = parse(endpoint.trim()).ok()?;
    let address = parsed.strip_prefix("tcp://")?;
    // A listener's "any address" is nowhere to go.
    let is_somewhere = !["*:", "0.0.0.0:", "[::]:"].iter().any(|any| address.starts_with(any));
    is_somewhere.then_some(parsed)
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

    #[test]
    fn endpoints_are_counted_once_and_bounded() {
        let twice = ["a:1", "tcp://a:1", "b:1"].map(str::to_owned);
        assert_eq!(parse_all(&twice).unwrap(), ["tcp://a:1", "tcp://b:1"]);

        let many: Vec<_> = (1..=ENDPOINTS_MAX + 1).map(|port| format!("a:{port}")).collect();
        let (got, max) = (ENDPOINTS_MAX + 1, ENDPOINTS_MAX);
        assert_eq!(parse_all(&many), Err(EndpointError::TooMany { got, max }));
    }
}
