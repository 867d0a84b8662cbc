//! Checks that need more than one key.

use mdp_node::{BindAddress, Endpoint};

use super::{Settings, admin, peer::Peer, problem::Problem};

/// What is wrong although every value alone is right.
pub(crate) fn across_keys(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(expected_peers(settings));
    problems.extend(own_address(settings));
    problems.extend(address_of_another(settings));
    problems.extend(port_for_others(settings));
    problems.extend(shared_ports(settings));
    problems.extend(cluster_times(settings));
    problems.extend(settings.security_problems());
    problems.extend(settings.missing_node_keys());
    problems.extend(admin::file_problems(settings));
    problems
}

/// What can work and is most likely not meant; for the log.
pub(crate) fn advice(settings: &Settings) -> Vec<String> {
    let mut advice =
        vec![open_ports(settings), settings.idle_node_keys(), admin::port_advice(settings)];
    if !settings.peers().is_empty() {
        advice.extend([even_peers(settings), unreachable_bind(settings), no_address(settings)]);
    }
    advice.into_iter().flatten().collect()
}

/// What strangers can do at the ports that other machines reach.
fn open_ports(settings: &Settings) -> Option<String> {
    let open = settings.open_ports();
    let of = |is_wanted: fn(&str) -> bool| {
        let addresses = open.iter().filter(|(key, _)| is_wanted(key)).map(|(_, address)| *address);
        addresses.collect::<Vec<_>>().join(", ")
    };
    let (clients, nodes) = (of(|key| key == "broker.bind"), of(|key| key != "broker.bind"));
    let at_clients = "can call and register every service";
    let at_nodes = "controls the cluster";
    let what = match (clients.is_empty(), nodes.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("whatever reaches {clients} {at_clients}"),
        (true, false) => format!("whatever reaches {nodes} {at_nodes}"),
        (false, false) => {
            format!(
                "whatever reaches {clients} {at_clients}, and whatever reaches {nodes} {at_nodes}"
            )
        }
    };
    Some(format!(
        "nothing proves yet who a peer is: {what}; let only trusted peers reach them, and say so with \
         security.insecure = true"
    ))
}

/// Clients learn the addresses of all nodes from any of them.
fn no_address(settings: &Settings) -> Option<String> {
    let binds = settings.addresses("broker.bind");
    let is_local = binds.iter().all(|address| address.starts_with("ipc://"));
    let is_told = !settings.text("broker.advertise").is_empty();
    (is_local && !is_told).then(|| {
        format!(
            "broker.bind = {} is for this machine only, so that clients are not told of this node; add \
             a tcp:// address, or set broker.advertise to one that leads here",
            binds.join(", ")
        )
    })
}

fn even_peers(settings: &Settings) -> Option<String> {
    let count = settings.peers().len();
    count.is_multiple_of(2).then(|| {
        format!(
            "cluster.peers has {count} nodes: an even number survives the loss of no more nodes \
             than one less would; use 3 or 5"
        )
    })
}

/// Nodes on other machines cannot connect to loopback.
fn unreachable_bind(settings: &Settings) -> Option<String> {
    let bind = settings.text("cluster.bind");
    let is_here = |endpoint: &str| {
        endpoint.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.is_loopback())
            || endpoint.starts_with("tcp://localhost:")
    };
    let name = settings.text("node.name");
    let mut others = settings.peers().iter().filter(|peer| peer.name.as_str() != name);
    let other = others.find(|peer| !is_here(&peer.endpoint)).filter(|_| is_here(bind))?;
    Some(format!(
        "cluster.bind = \"{bind}\" is for this machine only, and {other} is elsewhere; use \
         \"tcp://*:PORT\" or an address of this machine"
    ))
}

/// A lost variable must not make a smaller cluster, least of all one of a single node.
fn expected_peers(settings: &Settings) -> Option<Problem> {
    let (expected, count) = (settings.number("cluster.expect"), settings.peers().len());
    let is_enough = u64::try_from(count).is_ok_and(|count| count >= expected);
    let known = settings.values.get("cluster.expect").filter(|_| !is_enough)?;
    let reason = format!(
        "cluster.peers has {count} {}, and with fewer than expected this node would start a cluster \
         of its own; set cluster.peers to all nodes, or cluster.expect to 0",
        if count == 1 { "node" } else { "nodes" }
    );
    Some(Problem::refused("cluster.expect", &known.raw, &reason))
}

/// The others reach a node at its entry in `cluster.peers`, or at `cluster.advertise`.
fn own_address(settings: &Settings) -> Option<Problem> {
    let (peers, name) = (settings.peers(), settings.text("node.name"));
    let is_known = peers.is_empty()
        || peers.iter().any(|peer| peer.name.as_str() == name)
        || !settings.text("cluster.advertise").is_empty();
    let known = settings.values.get("node.name").filter(|_| !is_known)?;
    let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    let reason = format!(
        "it is none of cluster.peers ({}); use one of these, or, for a node that joins them, set \
         cluster.advertise to the HOST:PORT that they reach it at",
        names.join(", ")
    );
    Some(Problem::refused("node.name", &known.raw, &reason))
}

/// Two nodes at one address would take each other's calls.
fn address_of_another(settings: &Settings) -> Option<Problem> {
    let (name, address) = (settings.text("node.name"), settings.text("cluster.advertise"));
    let is_other = |peer: &&Peer| peer.endpoint == address && peer.name.as_str() != name;
    let other = settings.peers().iter().find(is_other)?;
    let known = settings.values.get("cluster.advertise")?;
    let reason = format!(
        "cluster.peers gives this address to {}; use the address of this node, {name}",
        other.name
    );
    Some(Problem::refused("cluster.advertise", &known.raw, &reason))
}

/// The others connect to a port that stands in their configuration.
fn port_for_others(settings: &Settings) -> Option<Problem> {
    let bind: Endpoint = settings.text("cluster.bind").parse().ok()?;
    let is_any = bind.port() == 0 && !settings.peers().is_empty();
    let known = settings.values.get("cluster.bind").filter(|_| is_any)?;
    let reason = "the other nodes could not know which port was free; use the port of this node's \
                  entry in cluster.peers";
    Some(Problem::refused("cluster.bind", &known.raw, reason))
}

/// One port is for one purpose: the second to be bound would be told that another program has it.
fn shared_ports(settings: &Settings) -> Vec<Problem> {
    let is_alone = settings.peers().is_empty();
    let of_clients = settings.addresses("broker.bind").iter();
    let in_use = of_clients
        .map(|address| ("broker.bind", address.as_str()))
        .chain(
            ["cluster.bind", "cluster.relay_bind", "admin.bind"]
                .into_iter()
                // A node without peers binds nothing for them.
                .filter(|key| !(is_alone && key.starts_with("cluster.")))
                .map(|key| (key, settings.text(key))),
        )
        .filter_map(|(key, text)| Some((key, text.parse::<BindAddress>().ok()?)));
    let in_use: Vec<(&str, BindAddress)> = in_use.collect();
    let mut problems = Vec::new();
    for (index, (key, endpoint)) in in_use.iter().enumerate() {
        let others = in_use.iter().take(index);
        let other = others.into_iter().find(|(_, other)| endpoint.collides_with(other));
        if let (Some((other, address)), Some(known)) = (other, settings.values.get(key)) {
            let reason = format!("{other} = \"{address}\" has the same port; give each its own");
            problems.push(Problem::refused(key, &known.raw, &reason));
        }
    }
    problems
}

/// Raft needs several heartbeats in an election timeout, and a spread of timeouts.
fn cluster_times(settings: &Settings) -> Vec<Problem> {
    let order = [
        ("cluster.heartbeat_interval", "cluster.election_timeout_min"),
        ("cluster.election_timeout_min", "cluster.election_timeout_max"),
        ("cluster.election_timeout_max", "cluster.node_timeout"),
    ];
    let is_wrong =
        |(shorter, longer): &(&str, &str)| settings.duration(shorter) >= settings.duration(longer);
    order
        .into_iter()
        .filter(is_wrong)
        .filter_map(|(shorter, longer)| {
            let known = settings.values.get(shorter)?;
            let longer_text = settings.setting(longer)?;
            let reason = format!("it must be shorter than {longer} = {longer_text}");
            Some(Problem::refused(shorter, &known.raw, &reason))
        })
        .collect()
}
