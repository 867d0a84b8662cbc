//! `majordomo serve --dev`, and a second broker on one machine.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    program::{Broker, Running, majordomo, printed, printed_json, run, stderr},
    signals::wait_until,
    work::is_running,
};

/// Nodes of one command.
const NODES: u16 = 3;

/// How far the cluster ports and the administration ports are from those for clients.
const OTHER_PORTS: [u16; 2] = [10, 30];

/// How often other ports are tried, if another program takes one in the moment before the start.
const TRIES_MAX: usize = 20;

/// The first of ports that are free at this moment. Below those that systems hand out by themselves, so
/// that only a program that was told to takes them.
fn free_ports() -> u16 {
    let random = || 10_000 + u16::try_from(RandomState::new().hash_one(0) % 20_000).unwrap();
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let are_free = |first: &u16| {
        let of_node = |node: u16| [0, OTHER_PORTS[0], OTHER_PORTS[1]].map(|to| first + node + to);
        (0..NODES).flat_map(of_node).all(is_free)
    };
    std::iter::repeat_with(random).take(1_000).find(are_free).expect("ports that are free")
}

fn dev(count: &str, first_port: u16) -> Command {
    let mut command = majordomo(&["serve", "--dev", count, "--dev-port", &first_port.to_string()]);
    command.env_remove("MAJORDOMO__ADMIN__BIND");
    command
}

/// Nodes of one command on ports that no other program has, and the first of these ports.
fn start(count: &str) -> (Running, u16) {
    for _ in 0..TRIES_MAX {
        let first_port = free_ports();
        let mut cluster = Running::start(dev(count, first_port));
        let line = cluster
            .wait_for_line(|line| line.contains(" nodes; use") || line.contains("needs port"));
        if !line.contains("needs port") {
            return (cluster, first_port);
        }
    }
    panic!("other programs took the ports {TRIES_MAX} times");
}

/// The processes of the nodes, by what they were started with.
fn nodes_of(parent: u32) -> Vec<(String, Pid)> {
    let flag = format!("--ends-with\0{parent}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut nodes: Vec<(String, Pid)> = processes
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let typed = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let name = typed.split_once("--name\0")?.1.split('\0').next()?.to_owned();
            typed.contains(&flag).then_some((name, pid))
        })
        .collect();
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    nodes
}

#[test]
fn three_nodes_of_one_command_are_a_cluster_that_survives_one_and_ends_together() {
    let (mut cluster, first_port) = start("3");
    let endpoint = |node: u16| format!("127.0.0.1:{}", first_port + node - 1);
    let ready = |log: &str, name: &str| {
        log.lines().any(|line| {
            line.starts_with(&format!("{name} | ")) && line.contains("ready: this node")
        })
    };
    for name in ["node-1", "node-2", "node-3"] {
        if !ready(&cluster.seen(), name) {
            cluster.wait_for_line(|line| ready(line, name));
        }
    }

    let endpoints = format!("{},{}", endpoint(1), endpoint(3));
    let worker = ["work", "echo", "--echo", "--endpoint", &endpoints];
    let _worker = Running::start(majordomo(&worker));
    let third = endpoint(3);
    let call = ["call", "echo", "hi", "--endpoint", &third, "--timeout", "20s"];
    assert_eq!(printed(&run(&call)), "hi\n");
    let nodes = nodes_of(cluster.pid());
    let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);

    // One is killed, and can be started again by the command that the log shows.
    kill_process(nodes[1].1, Signal::KILL).unwrap();
    let line = cluster.wait_for_line(|line| line.contains("node-2 was killed"));
    let starts = format!("majordomo serve --name node-2 --bind {}", endpoint(2));
    assert!(line.contains(&starts), "{line}");
    assert_eq!(printed(&run(&call)), "hi\n");
    let (_, command) = line.split_once("another terminal: ").unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    let (variable, value) = words[0].split_once('=').unwrap();
    let mut again = majordomo(&words[2..]);
    let mut again = Running::start({
        again.env_remove("MAJORDOMO__ADMIN__BIND").env(variable, value);
        again
    });
    again.wait_for_line(|line| line.contains("ready: this node"));

    again.signal(Signal::TERM);
    assert_eq!(again.wait_for_end().code(), Some(0), "{}", again.seen());
    cluster.signal(Signal::INT);
    // One of its nodes was killed.
    assert_eq!(cluster.wait_for_end().code(), Some(1), "{}", cluster.seen());
    let log = cluster.seen();
    for name in ["node-1", "node-3"] {
        let is_receipt =
            |line: &&str| line.starts_with(name) && line.contains("\"event\":\"drained\"");
        assert_eq!(log.lines().filter(is_receipt).count(), 1, "{log}");
    }
    let data = std::env::temp_dir().join(format!("majordomo-dev-{}", cluster.pid()));
    assert!(!data.exists(), "{}", data.display());
}

#[test]
fn nodes_of_a_command_that_is_killed_drain_by_themselves() {
    let (mut cluster, _) = start("1");
    cluster.wait_for_line(|line| line.contains("ready: this node"));
    let nodes = nodes_of(cluster.pid());
    assert_eq!(nodes.len(), 1);

    cluster.signal(Signal::KILL);

    wait_until("the node ended", || !is_running(nodes[0].1));
    fs::remove_dir_all(std::env::temp_dir().join(format!("majordomo-dev-{}", cluster.pid()))).ok();
}

#[test]
fn port_in_use_is_said_before_any_node_starts() {
    let (taken, first_port) = loop {
        let first_port = free_ports();
        if let Ok(taken) = TcpListener::bind(("127.0.0.1", first_port + 1)) {
            break (taken, first_port);
        }
    };

    let refused = dev("3", first_port).output().unwrap();

    let port = taken.local_addr().unwrap().port();
    let said = format!("--dev needs port {port} of 127.0.0.1");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains(&said), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--dev-port"), "{}", stderr(&refused));
}

#[test]
fn ports_of_a_cluster_to_try_things_out_are_those_of_the_files() {
    for (number, port) in [(1, 5551), (2, 5552), (3, 5553)] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/three-node");
        let file = format!("{folder}/node-{number}.toml");
        let mut check = majordomo(&["serve", "--check", "--json", "--config", &file]);
        let settings = printed_json(&check.env_remove("MAJORDOMO__ADMIN__BIND").output().unwrap());
        let [to_cluster, to_admin] = OTHER_PORTS;
        for (key, to) in [("broker", 0), ("cluster", to_cluster), ("admin", to_admin)] {
            let bind = settings[key]["bind"].as_str().unwrap();
            assert!(bind.ends_with(&format!(":{}", port + to)), "{key}: {bind}");
        }
    }
    let help = printed(&run(&["serve", "--help"])).to_owned();
    assert!(help.contains("--dev-port <PORT>") && help.contains("[default: 5551]"), "{help}");
}

#[test]
fn flags_set_what_a_second_node_on_a_machine_needs() {
    let check = [
        "serve",
        "--check",
        "--json",
        "--name",
        "b",
        "--bind",
        "127.0.0.1:5655",
        "--admin",
        "127.0.0.1:5680",
        "--data-dir",
        "/tmp/b",
        "--peers",
        "a=127.0.0.1:1,b=127.0.0.1:5556",
    ];
    let settings = printed_json(&run(&check));
    assert_eq!(settings["admin"]["bind"], "127.0.0.1:5680");
    assert_eq!(settings["node"]["data_dir"], "/tmp/b");
    assert_eq!(
        settings["cluster"]["peers"],
        serde_json::json!(["a=127.0.0.1:1", "b=127.0.0.1:5556"])
    );

    let first = Broker::start();
    let admin = first.admin.strip_prefix("http://").unwrap();
    let refused = run(&["serve", "--bind", "127.0.0.1:0", "--admin", admin]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--admin HOST:PORT"), "{}", stderr(&refused));
    let second = Broker::start_with(majordomo(&[
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]));
    assert_ne!(second.admin, first.admin);
}
