//! A configuration of 0.1.0 starts this version unchanged, and means what it meant.

use std::{net::TcpListener, path::Path, process::Command};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{Running, majordomo, printed_json};

/// A file, and the variables that stood beside it.
struct Deployed {
    file: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Where clients connect, by that file.
    bind: &'static str,
    is_in_cluster: bool,
}

const COMPOSE: &[(&str, &str)] = &[
    ("MAJORDOMO__NODE__NAME", "node-1"),
    ("MAJORDOMO__BROKER__ADVERTISE", "tcp://node-1:5555"),
    ("MAJORDOMO__CLUSTER__PEERS", "node-1=node-1:5556,node-2=node-2:5556,node-3=node-3:5556"),
    ("MAJORDOMO__CLUSTER__EXPECT", "3"),
    ("MAJORDOMO__LOG__FORMAT", "text"),
];
const STATEFUL_SET: &[(&str, &str)] = &[
    ("MAJORDOMO__NODE__NAME", "majordomo-0"),
    ("MAJORDOMO__BROKER__ADVERTISE", "tcp://majordomo-0.mdp-peers.mdp.svc.cluster.local:5555"),
    ("MAJORDOMO__CLUSTER__ADVERTISE", "majordomo-0.mdp-peers.mdp.svc.cluster.local:5556"),
    (
        "MAJORDOMO__CLUSTER__PEERS",
        "majordomo-0=majordomo-0.mdp-peers.mdp.svc.cluster.local:5556,\
         majordomo-1=majordomo-1.mdp-peers.mdp.svc.cluster.local:5556,\
         majordomo-2=majordomo-2.mdp-peers.mdp.svc.cluster.local:5556",
    ),
    ("MAJORDOMO__BROKER__MAX_QUEUED_BYTES", "1GiB"),
    ("MAJORDOMO__DRAIN__ANNOUNCE", "0s"),
];

const DEPLOYED: [Deployed; 7] = [
    alone("majordomo.toml", "tcp://127.0.0.1:5555"),
    member("node-1.toml", &[], "tcp://127.0.0.1:5551"),
    member("node-2.toml", &[], "tcp://127.0.0.1:5552"),
    member("node-3.toml", &[], "tcp://127.0.0.1:5553"),
    alone("docker.toml", "tcp://*:5555"),
    member("docker.toml", COMPOSE, "tcp://*:5555"),
    member("kubernetes.toml", STATEFUL_SET, "tcp://*:5555"),
];

const fn alone(file: &'static str, bind: &'static str) -> Deployed {
    Deployed { file, variables: &[], bind, is_in_cluster: false }
}

const fn member(
    file: &'static str,
    variables: &'static [(&'static str, &'static str)],
    bind: &'static str,
) -> Deployed {
    Deployed { file, variables, bind, is_in_cluster: true }
}

impl Deployed {
    fn command(&self, args: &[&str]) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files-of-0.1.0");
        let path = path.join(self.file);
        let mut command = majordomo(args);
        command.arg("--config").arg(path).envs(self.variables.iter().copied());
        command
    }

    /// The same, at ports that are free.
    fn start(&self, directory: &Path) -> Running {
        let mut command = self.command(&["serve"]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = self.bind.trim_start_matches("tcp://").split(':').next().unwrap();
        command.env("MAJORDOMO__BROKER__BIND", format!("tcp://{host}:0"));
        command.env("MAJORDOMO__CLUSTER__BIND", format!("tcp://{host}:{port}"));
        command.env("MAJORDOMO__CLUSTER__RELAY_BIND", "127.0.0.1:0");
        command.env("MAJORDOMO__NODE__DATA_DIR", directory.join("data"));
        command.env("MAJORDOMO__LOG__FORMAT", "text");
        Running::start(command)
    }
}

#[test]
fn each_file_of_0_1_0_starts_this_version_and_stops_it_in_order() {
    for deployed in &DEPLOYED {
        let directory = tempdir().unwrap();

        let mut node = deployed.start(directory.path());

        let file = deployed.file;
        node.wait_for_line(|line| line.contains("listening on tcp://"));
        node.signal(Signal::TERM);
        assert_eq!(node.wait_for_end().code(), Some(0), "{file}:\n{}", node.seen());
        let is_warned = node.seen().contains("nothing proves yet who a peer is");
        assert_eq!(is_warned, deployed.bind.contains('*'), "{file}:\n{}", node.seen());
    }
}

/// A value that stands in a file counts, and for a key that is newer than the file its default.
#[test]
fn each_file_of_0_1_0_means_what_it_meant() {
    for deployed in &DEPLOYED {
        let output = deployed.command(&["serve", "--check", "--json"]).output().unwrap();

        let settings = printed_json(&output);

        assert_eq!(settings["broker"]["bind"], deployed.bind, "{}", deployed.file);
        let peers = settings["cluster"]["peers"].as_array().map_or(0, Vec::len);
        assert_eq!(peers, if deployed.is_in_cluster { 3 } else { 0 }, "{}", deployed.file);
        assert_eq!(settings["security"]["insecure"], Value::Bool(false), "{}", deployed.file);
        assert_eq!(settings["admin"]["hosts"], serde_json::json!([]), "{}", deployed.file);
    }
}

#[test]
fn check_that_is_strict_refuses_ports_that_are_open_by_mistake() {
    let open = &DEPLOYED[4];

    let strict = open.command(&["serve", "--check", "--strict"]).output().unwrap();
    let mut meant = open.command(&["serve", "--check", "--strict"]);
    let meant = meant.env("MAJORDOMO__SECURITY__INSECURE", "true").output().unwrap();

    assert_eq!(strict.status.code(), Some(2));
    assert_eq!(strict.stdout, b"");
    let stderr = String::from_utf8(strict.stderr).unwrap();
    assert!(stderr.contains("whatever reaches tcp://*:5555 can call"), "{stderr}");
    assert_eq!(meant.status.code(), Some(0));
}
