//! `majordomo serve --dev`, and a second broker on one machine.

use std::{fs, net::TcpListener, process::Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    program::{Broker, Running, majordomo, printed, printed_json, run, stderr},
    signals::wait_until,
    work::is_running,
};

/// The ports that `--dev` uses cannot be chosen: one test at a time has them, here by being one test,
/// and in other processes by this file. What else listens there is no fault of ours.
fn dev(count: &str) -> Command {
    let mut command = majordomo(&["serve", "--dev", count]);
    command.env_remove("MAJORDOMO__ADMIN__BIND");
    command
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
    let mut cluster = Running::start(dev("3"));
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

    let worker = ["work", "echo", "--echo", "--endpoint", "127.0.0.1:5551,127.0.0.1:5553"];
    let _worker = Running::start(majordomo(&worker));
    let call = ["call", "echo", "hi", "--endpoint", "127.0.0.1:5553", "--timeout", "20s"];
    assert_eq!(printed(&run(&call)), "hi\n");
    let nodes = nodes_of(cluster.pid());
    let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);

    // One is killed, and can be started again by the command that the log shows.
    kill_process(nodes[1].1, Signal::KILL).unwrap();
    let line = cluster.wait_for_line(|line| line.contains("node-2 was killed"));
    assert!(line.contains("majordomo serve --name node-2 --bind 127.0.0.1:5552"), "{line}");
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

    // Killed without a chance to say so: its nodes drain by themselves.
    let mut cluster = Running::start(dev("1"));
    cluster.wait_for_line(|line| line.contains("ready: this node"));
    let nodes = nodes_of(cluster.pid());
    assert_eq!(nodes.len(), 1);
    cluster.signal(Signal::KILL);
    wait_until("the node ended", || !is_running(nodes[0].1));

    // A port in use is said before anything starts.
    let _other = TcpListener::bind("127.0.0.1:5552").unwrap();
    let refused = dev("3").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("--dev needs port 5552 of 127.0.0.1"),
        "{}",
        stderr(&refused)
    );
    fs::remove_dir_all(std::env::temp_dir().join(format!("majordomo-dev-{}", cluster.pid()))).ok();
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
