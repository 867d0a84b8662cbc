mod management;

use std::sync::Arc;

use mdp_broker::{PeerId, WorkerActivity, WorkerStatus};
use mdp_catalog::{Boot, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeUp, Seq};
use mdp_raft::{MemberChange, MemberStatus, Role, UpgradeStatus};
use mdp_wire::{NetworkAddress, ServiceName, Version};

use super::*;
use crate::WorkerReport;

/// The version of the program in these tests.
const VERSION: &str = "0.1.0";

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn service(text: &str) -> ServiceName {
    ServiceName::try_from(text).unwrap()
}

fn up(catalog: &mut Catalog, index: u64, node: &str) -> Incarnation {
    let entry = CatalogEntry::NodeUp(NodeUp {
        node: name(node),
        node_id: NodeId(index),
        boot: Boot { process: index, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints {
            client: format!("tcp://{node}:5555"),
            cluster: format!("tcp://{node}:5556"),
            relay: String::new(),
        },
        version: "0.1.0".parse().unwrap(),
    });
    catalog.apply(index, entry).unwrap();
    Incarnation { node: name(node), epoch: Epoch(index) }
}

fn member(node: &str, id: u64, role: Role) -> MemberStatus {
    MemberStatus {
        name: name(node),
        node_id: NodeId(id),
        role,
        endpoint: format!("tcp://{node}:7777"),
        unheard_for: None,
        is_unheard: false,
    }
}

fn status() -> ClusterStatus {
    let mut heard = member("node-2", 2, Role::Voter);
    heard.unheard_for = Some(Duration::from_millis(40));
    ClusterStatus {
        name: name("node-1"),
        node_id: NodeId(1),
        cluster_id: Some("00ff".to_owned()),
        leader: Some(name("node-2")),
        term: 3,
        committed_index: 12,
        applied_index: 11,
        last_log_index: 13,
        snapshot_index: 0,
        call_formats: vec![(1, 5)],
        refused_calls: Vec::new(),
        commit_times: Default::default(),
        upgrade: UpgradeStatus::default(),
        members: vec![heard, member("node-3", 0xabc, Role::Learner)],
        member_change: None,
        unheard_voters: 0,
        not_ready: Vec::new(),
    }
}

#[test]
fn cluster_page_names_members_and_all_that_had_a_life() {
    let mut catalog = Catalog::new();
    up(&mut catalog, 1, "node-1");
    let second = up(&mut catalog, 2, "node-2");
    catalog.apply(3, CatalogEntry::NodeDraining { incarnation: second, seq: Seq(1) }).unwrap();
    let (node, status) = (name("node-1"), status());
    let links = [LinkState { node: name("node-2"), to: true, from: false, networks: None }];

    let page = cluster_page(&ClusterFacts {
        version: VERSION,
        node: &node,
        catalog: &catalog,
        applied_index: 10,
        status: Some(&status),
        links: &links,
        networks: &ClientNetworks::default(),
    });

    let former = json!({
        "name": "node-1", "raft_id": "0000000000000001", "role": null, "state": "up",
        "epoch": 1, "version": "0.1.0", "client_endpoint": "tcp://node-1:5555",
        "client_networks": [],
        "cluster_endpoint": "tcp://node-1:5556", "relay_endpoint": null,
        "relay_to": null, "relay_from": null, "unheard_ms": null,
    });
    let voter = json!({
        "name": "node-2", "raft_id": "0000000000000002", "role": "voter", "state": "draining",
        "epoch": 2, "version": "0.1.0", "client_endpoint": "tcp://node-2:5555",
        "client_networks": [],
        "cluster_endpoint": "tcp://node-2:7777", "relay_endpoint": null,
        "relay_to": true, "relay_from": false, "unheard_ms": 40,
    });
    let newcomer = json!({
        "name": "node-3", "raft_id": "0000000000000abc", "role": "learner", "state": "gone",
        "epoch": 0, "version": null, "client_endpoint": null,
        "client_networks": [],
        "cluster_endpoint": "tcp://node-3:7777", "relay_endpoint": null,
        "relay_to": false, "relay_from": false, "unheard_ms": null,
    });
    let expected = json!({
        "node": "node-1", "cluster_id": "00ff", "cluster_version": null, "leader": "node-2",
        "majority": true, "term": 3, "committed_index": 12, "applied_index": 10,
        "member_change": null, "nodes": [former, voter, newcomer],
    });
    assert_eq!(page, expected);
}

#[test]
fn change_of_members_in_progress_is_shown_without_a_leader() {
    let catalog = Catalog::new();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let change = MemberChange {
        from: names(&["node-1", "node-2", "node-3"]),
        to: names(&["node-2", "node-3"]),
        is_joint: true,
        is_committed: false,
        lasts_for: Duration::from_millis(12_300),
    };
    let status = ClusterStatus { leader: None, member_change: Some(change), ..status() };
    let node = name("node-1");

    let page = cluster_page(&ClusterFacts {
        version: VERSION,
        node: &node,
        catalog: &catalog,
        applied_index: 1,
        status: Some(&status),
        links: &[],
        networks: &ClientNetworks::default(),
    });

    let expected = json!({
        "from": ["node-1", "node-2", "node-3"], "to": ["node-2", "node-3"], "joint": true,
        "committed": false, "lasts_for_ms": 12_300,
        "text": "from the voters node-1, node-2, node-3 to node-2, node-3, for 12.3 s, not committed \
                 yet; until it is finished a majority of both is needed",
    });
    assert_eq!(page["member_change"], expected);
}

#[test]
fn members_that_are_unheard_are_not_up_and_what_is_known_without_a_leader_is_old() {
    let mut catalog = Catalog::new();
    for (index, node) in [(1, "node-1"), (2, "node-2"), (3, "node-3")] {
        up(&mut catalog, index, node);
    }
    let mut status = status();
    status.leader = None;
    status.members = [("node-1", 1), ("node-2", 2), ("node-3", 3)]
        .map(|(node, id)| member(node, id, Role::Voter))
        .into();
    status.members[1].unheard_for = Some(Duration::from_secs(34));
    status.members[1].is_unheard = true;
    status.members[2].unheard_for = Some(Duration::from_millis(300));
    let node = name("node-1");

    let page = cluster_page(&ClusterFacts {
        version: VERSION,
        node: &node,
        catalog: &catalog,
        applied_index: 3,
        status: Some(&status),
        links: &[],
        networks: &ClientNetworks::default(),
    });

    assert_eq!(page["majority"], json!(false));
    let states = ["state", "unheard_ms"].map(|key| {
        page["nodes"].as_array().unwrap().iter().map(|node| node[key].clone()).collect::<Vec<_>>()
    });
    assert_eq!(states[0], [json!("up"), json!("unheard"), json!("up")]);
    assert_eq!(states[1], [json!(null), json!(34_000), json!(300)]);
}

#[test]
fn node_alone_leads_itself() {
    let mut catalog = Catalog::new();
    up(&mut catalog, 1, "node-1");
    let node = name("node-1");

    let page = cluster_page(&ClusterFacts {
        version: VERSION,
        node: &node,
        catalog: &catalog,
        applied_index: 1,
        status: None,
        links: &[],
        networks: &ClientNetworks::default(),
    });

    assert_eq!((&page["leader"], &page["cluster_id"]), (&json!("node-1"), &Value::Null));
    assert_eq!((&page["applied_index"], &page["committed_index"]), (&json!(1), &json!(1)));
    let [only] = page["nodes"].as_array().unwrap().as_slice() else { panic!("{page}") };
    assert_eq!((&only["role"], &only["raft_id"]), (&json!("voter"), &Value::Null));
}

#[test]
fn services_page_tells_what_this_node_has_and_who_else_offers() {
    let mut catalog = Catalog::new();
    for (index, node) in [(1, "node-1"), (2, "node-2")] {
        let incarnation = up(&mut catalog, index, node);
        let services = vec![service("both"), service(node)];
        catalog.apply(index, CatalogEntry::Offer { incarnation, seq: Seq(1), services }).unwrap();
    }
    let here = [ServiceStatus { name: service("both"), workers: 3, idle: 2, queued: 1 }];

    let page = services_page(&catalog, &here);

    let entry = |name: &str, nodes: &[&str], numbers: [u64; 3]| {
        let [workers, idle, queued] = numbers;
        json!({
            "name": name, "nodes": nodes, "workers": workers, "idle": idle, "queued": queued,
        })
    };
    let expected = [
        entry("both", &["node-1", "node-2"], [3, 2, 1]),
        entry("node-1", &["node-1"], [0, 0, 0]),
        entry("node-2", &["node-2"], [0, 0, 0]),
    ];
    assert_eq!(page, json!({ "services": expected }));
}

#[test]
fn services_with_waiting_requests_are_listed_though_no_node_offers_them() {
    let mut catalog = Catalog::new();
    let incarnation = up(&mut catalog, 1, "node-1");
    let services = vec![service("echo")];
    catalog.apply(1, CatalogEntry::Offer { incarnation, seq: Seq(1), services }).unwrap();
    let status = |name: &str, workers, queued| ServiceStatus {
        name: service(name),
        workers,
        idle: 0,
        queued,
    };
    // One that is registering has a service here, but is no worker yet.
    let here = [status("billing", 0, 2), status("coming", 0, 0), status("echo", 1, 3)];

    let page = Directory::with_waiting(&catalog, &here).page(&here);

    let entry = |name: &str, nodes: &[&str], workers: u64, queued: u64| {
        json!({
            "name": name, "nodes": nodes, "workers": workers, "idle": 0, "queued": queued,
        })
    };
    let expected = [entry("billing", &[], 0, 2), entry("echo", &["node-1"], 1, 3)];
    assert_eq!(page, json!({ "services": expected }));
    // What clients ask tells of what is offered alone.
    assert_eq!(services_page(&catalog, &here), json!({ "services": expected[1..] }));
}

#[test]
fn workers_page_tells_what_each_one_does() {
    let status = WorkerStatus {
        peer: PeerId::from(1_048_576),
        service: service("echo"),
        version: Version::V01,
        activity: WorkerActivity::Busy,
        silent_for: Duration::from_millis(1_500),
    };
    let address = "10.0.0.7:51234".parse::<std::net::SocketAddr>().unwrap();
    let worker = WorkerReport { status, address: Some(address.into()) };

    let page = workers_page(&[worker], true);

    let version = Version::V01.to_string();
    let worker = json!({
        "service": "echo", "connection": 1_048_576, "address": "10.0.0.7:51234",
        "version": version, "state": "busy", "silent_ms": 1_500,
    });
    assert_eq!(page, json!({ "workers": [worker], "truncated": true }));
}

fn networks(entries: &[(&str, &str)]) -> ClientNetworks {
    let entry = |(from, address): &(&str, &str)| NetworkAddress {
        from: from.parse().unwrap(),
        address: (*address).to_owned(),
    };
    ClientNetworks::new(entries.iter().map(entry).collect()).unwrap()
}

/// What a client with this address is told of each node, by a node that tells clients of 10.0.0.0/8 the
/// address `one` and knows this of the other two.
fn told(asker: Option<[u8; 4]>, known: [Option<ClientNetworks>; 2]) -> Vec<(String, String)> {
    let mut catalog = Catalog::new();
    for (index, node) in [(1, "node-1"), (2, "node-2"), (3, "node-3")] {
        up(&mut catalog, index, node);
    }
    let state = |(node, networks): (&str, Option<ClientNetworks>)| LinkState {
        node: name(node),
        to: false,
        from: false,
        networks: networks.map(Arc::new),
    };
    let links: Vec<LinkState> = ["node-2", "node-3"].into_iter().zip(known).map(state).collect();
    let facts = ClusterFacts {
        version: VERSION,
        node: &name("node-1"),
        catalog: &catalog,
        applied_index: 3,
        status: None,
        links: &links,
        networks: &networks(&[("10.0.0.0/8", "one")]),
    };
    let page = endpoints_page(&facts, asker.map(IpAddr::from), DecodeLimits::default());
    assert_eq!(page["node"], "node-1");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let entries = page["endpoints"].as_array().unwrap().iter();
    entries.map(|entry| (text(entry, "node"), text(entry, "endpoint"))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

#[test]
fn client_is_told_the_addresses_of_all_nodes_for_its_own_network() {
    let known = || {
        [
            Some(networks(&[("10.0.0.0/8", "two"), ("10.1.0.0/16", "two-near")])),
            // One address for all, as a node of 0.1.0 has.
            Some(ClientNetworks::default()),
        ]
    };
    let [one, two, three] =
        ["node-1", "node-2", "node-3"].map(|node| (node, format!("tcp://{node}:5555")));
    for (asker, first, second) in [
        (Some([10, 2, 0, 1]), "one", "two"),
        (Some([10, 1, 0, 1]), "one", "two-near"),
        (Some([11, 0, 0, 1]), one.1.as_str(), two.1.as_str()),
        (None, &one.1, &two.1),
    ] {
        let expected = pairs(&[("node-1", first), ("node-2", second), ("node-3", &three.1)]);
        assert_eq!(told(asker, known()), expected, "{asker:?}");
    }
}

#[test]
fn node_whose_addresses_are_not_known_yet_is_told_to_clients_without_one_of_their_own_only() {
    let unknown = [None, Some(ClientNetworks::default())];
    let inside = pairs(&[("node-1", "one"), ("node-3", "tcp://node-3:5555")]);
    assert_eq!(told(Some([10, 0, 0, 1]), unknown.clone()), inside);
    let all = ["node-1", "node-2", "node-3"].map(|node| format!("tcp://{node}:5555"));
    let elsewhere: Vec<String> =
        told(Some([11, 0, 0, 1]), unknown).into_iter().map(|(_, endpoint)| endpoint).collect();
    assert_eq!(elsewhere, all);
}
