//! The addresses that others are told.

use mdp_catalog::NodeName;
use mdp_wire::ClientNetworks;

use crate::{BINDS_MAX, BindAddress, ClusterConfig, Endpoint, StartError};

/// The port for requests of other nodes, if none is configured and other machines can come.
const RELAY_PORT: u16 = 5557;

/// Parses the address of a key.
pub(crate) fn parse(key: &'static str, text: &str) -> Result<Endpoint, StartError> {
    text.parse().map_err(|error| StartError::Address { key, error })
}

/// Parses `broker.bind`.
pub(crate) fn parse_binds(texts: &[String]) -> Result<Vec<BindAddress>, StartError> {
    if !(1..=BINDS_MAX).contains(&texts.len()) {
        return Err(StartError::BindCount { count: texts.len() });
    }
    let parse = |text: &String| {
        text.parse().map_err(|error| StartError::Address { key: "broker.bind", error })
    };
    texts.iter().map(parse).collect()
}

/// An address that others can connect to.
fn parse_reachable(key: &'static str, text: &str) -> Result<Endpoint, StartError> {
    let address = parse(key, text)?;
    if address.is_wildcard() || address.port() == 0 {
        return Err(StartError::AdvertiseNowhere { key, address });
    }
    Ok(address)
}

/// Of what was bound, the address to tell clients of: the first one of TCP that is not loopback, else the
/// first one of TCP.
pub(crate) fn to_tell<'a>(bound: impl Iterator<Item = &'a BindAddress>) -> Option<&'a Endpoint> {
    // The first one of several that are alike.
    bound.filter_map(BindAddress::tcp).min_by_key(|endpoint| endpoint.is_loopback())
}

/// The address for clients. In a cluster the host that other nodes are told stands for every host but
/// loopback, as in 0.1.0. A wildcard is never published: without a cluster, this machine's name stands
/// for it. A node that is reached by Unix sockets only has no address, unless one is configured.
pub(crate) fn for_clients(
    advertise: &str,
    bound: Option<&Endpoint>,
    cluster: Option<&Endpoint>,
) -> Result<String, StartError> {
    if !advertise.is_empty() {
        return Ok(parse_reachable("broker.advertise", advertise)?.to_string());
    }
    let Some(bound) = bound else { return Ok(String::new()) };
    // Loopback stays loopback: nobody else could connect, whatever the name.
    if let Some(cluster) = cluster.filter(|_| !bound.is_loopback()) {
        return Ok(cluster.at_port(bound.port()).to_string());
    }
    Ok(at_this_machine(bound, "broker.advertise").map(|a| a.to_string()).unwrap_or_default())
}

/// The addresses for clients of some networks.
pub(crate) fn for_networks(networks: ClientNetworks) -> Result<ClientNetworks, StartError> {
    networks.try_map(|address| Ok(parse_reachable("broker.advertise_for", address)?.to_string()))
}

/// The address for other nodes: `cluster.advertise`, or this node's own entry in the list of seeds,
/// or what was bound.
pub(crate) fn for_nodes(
    node: &NodeName,
    config: &ClusterConfig,
    bound: &Endpoint,
) -> Result<Endpoint, StartError> {
    if !config.advertise.is_empty() {
        return parse_reachable("cluster.advertise", &config.advertise);
    }
    if let Some(own) = config.seeds.iter().find(|seed| seed.name == *node) {
        return parse_reachable("cluster.peers", &own.endpoint);
    }
    at_this_machine(bound, "cluster.advertise").ok_or_else(|| StartError::AdvertiseNowhere {
        key: "cluster.advertise",
        address: bound.clone(),
    })
}

/// Where requests of other nodes come if nothing else is said: a port that a firewall can know, or any
/// free one if no other machine can come anyway, for several nodes may share this one.
pub(crate) fn default_relay(cluster_bind: &Endpoint) -> Endpoint {
    let is_here = cluster_bind.is_loopback() || cluster_bind.host_name() == Some("localhost");
    cluster_bind.at_port(if is_here { 0 } else { RELAY_PORT })
}

/// The name of this machine; empty if it is no text.
#[must_use]
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_str().unwrap_or_default().to_owned()
}

/// The address with this machine's name instead of a wildcard.
fn at_this_machine(bound: &Endpoint, key: &'static str) -> Option<Endpoint> {
    if !bound.is_wildcard() {
        return Some(bound.clone());
    }
    let host = machine_name();
    let address = bound.at_host(&host).ok();
    if address.is_none() {
        tracing::warn!(host, "this machine's name is no host name; set {key}");
    }
    address
}

#[cfg(test)]
mod tests {
    use mdp_raft::Seed;

    use super::*;

    fn bound(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn wildcard_is_never_published() {
        for wildcard in ["0.0.0.0:5555", "*:5555", "[::]:5555"] {
            let published = for_clients("", Some(&bound(wildcard)), None).unwrap();
            assert!(published.is_empty() || !bound(&published).is_wildcard(), "{published}");
            assert!(matches!(
                for_clients(wildcard, Some(&bound("127.0.0.1:5555")), None),
                Err(StartError::AdvertiseNowhere { key: "broker.advertise", .. })
            ));
        }
    }

    #[test]
    fn advertised_address_goes_before_the_bound_one() {
        let bound = Some(&bound("127.0.0.1:5555"));

        assert_eq!(for_clients("", bound, None).unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(for_clients("node-1:5555", bound, None).unwrap(), "tcp://node-1:5555");
        assert_eq!(for_clients("node-1:5555", None, None).unwrap(), "tcp://node-1:5555");
        assert_eq!(for_clients("", None, Some(&self::bound("h:1"))).unwrap(), "");
    }

    #[test]
    fn address_that_is_not_loopback_is_told_first() {
        for (binds, told) in [
            (&["127.0.0.1:1", "10.0.0.7:2", "*:3"][..], Some("10.0.0.7:2")),
            (&["[::1]:1", "ipc:///x", "*:3"], Some("*:3")),
            (&["ipc:///x", "[::1]:1", "127.0.0.1:2"], Some("[::1]:1")),
            (&["ipc:///x"], None),
        ] {
            let binds: Vec<BindAddress> = binds.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(to_tell(binds.iter()), told.map(bound).as_ref(), "{binds:?}");
        }
    }

    #[test]
    fn clients_are_told_the_host_that_nodes_are_told() {
        let cluster = bound("node-1.mdp:5556");

        let told = for_clients("", Some(&bound("*:7")), Some(&cluster)).unwrap();
        assert_eq!(told, "tcp://node-1.mdp:7");
        let loopback = for_clients("", Some(&bound("127.0.0.1:7")), Some(&cluster)).unwrap();
        assert_eq!(loopback, "tcp://127.0.0.1:7");
    }

    #[test]
    fn nodes_are_told_the_own_entry_unless_it_is_said_otherwise() {
        let name: NodeName = "node-1".parse().unwrap();
        let seed = Seed { name: name.clone(), endpoint: "node-1:5556".to_owned() };
        let mut config = ClusterConfig::new(vec![seed], "data".into());
        let bound = bound("127.0.0.1:7");
        assert_eq!(for_nodes(&name, &config, &bound).unwrap().to_string(), "tcp://node-1:5556");

        config.advertise = "other:1".to_owned();
        assert_eq!(for_nodes(&name, &config, &bound).unwrap().to_string(), "tcp://other:1");

        config.advertise = String::new();
        let stranger = "node-9".parse().unwrap();
        assert_eq!(for_nodes(&stranger, &config, &bound).unwrap(), bound);
    }

    #[test]
    fn other_machines_find_requests_at_a_known_port() {
        let relay = |cluster: &str| default_relay(&bound(cluster)).to_string();

        assert_eq!(relay("*:5556"), "tcp://*:5557");
        assert_eq!(relay("10.0.0.7:5556"), "tcp://10.0.0.7:5557");
        assert_eq!(relay("[fd00::7]:5556"), "tcp://[fd00::7]:5557");
        assert_eq!(relay("eth0:5556"), "tcp://eth0:5557");
        for (here, address) in
            [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("localhost", "127.0.0.1")]
        {
            assert_eq!(relay(&format!("{here}:5556")), format!("tcp://{address}:0"));
        }
    }
}
