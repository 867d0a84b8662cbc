//! Clusters on hosts that have one version of IP alone.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Command,
};

use cluster_tests::{
    NodeProcess, PATIENCE, RawClient, RawWorker, Version, http_get, in_private_network,
    is_without_root, wait_until,
};

use crate::part_of_the_machine;

/// One interface for all nodes, each with an address of its own.
const VERSION_6_ALONE: [&str; 10] = [
    "link set lo up",
    "addr del 127.0.0.1/8 dev lo",
    "link add eth7 type veth peer name eth8",
    "addr add fd00::1/64 dev eth7 nodad",
    "addr add fd00::2/64 dev eth7 nodad",
    "addr add fd00::3/64 dev eth7 nodad",
    "addr add fe80::1/64 dev eth7 nodad",
    "addr add fe80::2/64 dev eth7 nodad",
    "link set eth8 up",
    "link set eth7 up",
];

/// A node of a cluster, by its number. `{n}` in a setting is that number.
fn start(number: u16, bind: &str, settings: &[(&str, &str)]) -> NodeProcess {
    let own = |text: &str| text.replace("{n}", &number.to_string());
    let name = format!("node-{number}");
    let settings: Vec<(&str, String)> =
        settings.iter().map(|(key, value)| (*key, own(value))).collect();
    let mut texts: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    texts.push(("node.name", &name));
    NodeProcess::start_at(&texts, &own(bind))
}

#[track_caller]
fn wait_until_ready(admin: &str) {
    let address: SocketAddr = admin.parse().unwrap();
    let is_ready = || http_get(address, "/readyz").is_ok_and(|page| page.status == 200);
    wait_until(&format!("{admin} is ready"), PATIENCE, is_ready);
}

/// A request goes from the one node to the other.
#[track_caller]
fn assert_relays(client: &str, worker: &str) {
    let worker = RawWorker::register(worker, Version::V01, "echo");
    let client = RawClient::connect(client, Version::V02);
    client.wait_for_lookup("echo", "200");
    client.request("echo", "body");
    let address = worker.expect_work_after_heartbeats("body");
    worker.answer(&address, "answer");
    client.expect_reply("echo", "answer");
}

#[test]
fn every_interface_is_that_of_version_6_where_there_is_no_other() {
    if is_without_root() {
        return;
    }
    let _machine = part_of_the_machine();
    in_private_network(&VERSION_6_ALONE, || {
        let peers = "node-1=[fd00::1]:5561,node-2=[fd00::2]:5562,node-3=[fd00::3]:5563";
        let settings = [
            ("cluster.peers", peers),
            ("cluster.bind", "tcp://*:556{n}"),
            ("cluster.relay_bind", "tcp://*:557{n}"),
            ("admin.bind", "*:558{n}"),
        ];
        let _nodes = [1, 2, 3].map(|number| start(number, "tcp://*:555{n}", &settings));
        for number in 1..=3 {
            wait_until_ready(&format!("[fd00::{number}]:558{number}"));
        }

        assert_relays("tcp://[fd00::1]:5551", "tcp://[fd00::3]:5553");

        // Clients are told the hosts that the nodes are told.
        let client = RawClient::connect("tcp://[fd00::1]:5551", Version::V01);
        client.request("mmi.endpoints", "");
        let page = client.socket.recv();
        let page = String::from_utf8_lossy(page.last().unwrap());
        assert!(page.contains("tcp://[fd00::2]:5552"), "{page}");
    });
}

#[test]
fn every_interface_is_that_of_version_4_where_there_is_no_other() {
    if is_without_root() {
        return;
    }
    let _machine = part_of_the_machine();
    in_private_network(&[], || {
        // That of this namespace alone.
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        assert!(TcpListener::bind("[::1]:0").is_err());
        let settings = [
            ("cluster.peers", "node-1=127.0.0.1:5561,node-2=127.0.0.1:5562"),
            ("cluster.bind", "tcp://*:556{n}"),
            ("cluster.relay_bind", "tcp://*:557{n}"),
            ("admin.bind", "*:558{n}"),
        ];
        let _nodes = [1, 2].map(|number| start(number, "tcp://*:555{n}", &settings));
        wait_until_ready("127.0.0.1:5581");

        assert_relays("tcp://127.0.0.1:5551", "tcp://127.0.0.1:5552");
    });
}

#[test]
fn nodes_reach_each_other_by_link_local_addresses_and_interfaces() {
    if is_without_root() {
        return;
    }
    let _machine = part_of_the_machine();
    in_private_network(&VERSION_6_ALONE, || {
        // The port for requests is the default one, at the host of the cluster port.
        let settings = [
            ("cluster.peers", "node-1=[fe80::1%eth7]:5556,node-2=[fe80::2%eth7]:5556"),
            ("cluster.bind", "[fe80::{n}%eth7]:5556"),
            ("admin.bind", "[fe80::{n}%eth7]:5580"),
        ];
        let _nodes = [1, 2].map(|number| start(number, "[fe80::{n}%eth7]:5555", &settings));

        assert_relays("tcp://[fe80::1%eth7]:5555", "tcp://[fe80::2%eth7]:5555");
    });
    let up = ["link set eth8 up", "link set eth7 up"];
    in_private_network(&[&VERSION_6_ALONE[..4], &up].concat(), || {
        let settings = [
            ("cluster.peers", "node-1=[fd00::1]:5556"),
            ("cluster.bind", "eth7:5556"),
            ("cluster.relay_bind", "eth7:5557"),
        ];
        let node = start(1, "eth7:5555", &settings);
        assert!(node.endpoint().starts_with("tcp://[fd00::1]:"), "{}", node.endpoint());
        let worker = RawWorker::register(&node, Version::V01, "echo");
        worker.disconnect();
    });
}
