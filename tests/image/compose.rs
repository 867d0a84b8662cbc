//! `deploy/docker/compose.yaml`: three nodes, a worker and a client.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use cluster_tests::{RawClient, Receipt, Version, http_get, wait_until};

use crate::{
    PATIENCE,
    docker::{Container, docker},
    image, machine, unique_name,
};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// A project of Compose; taken down when it is dropped.
struct Project {
    name: String,
    image: String,
}

impl Project {
    #[track_caller]
    fn up() -> Self {
        let project = Self { name: unique_name(), image: image() };
        project.compose(&["up", "--detach"]);
        project
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/docker/compose.yaml");
        let mut compose = compose_program();
        compose.arg("--file").arg(file).args(["--project-name", &self.name]).args(arguments);
        compose.env("MAJORDOMO_IMAGE", &self.image).env_remove("COMPOSE_PROFILES");
        for node in 1..=NODES.len() {
            // Any free port of loopback: nothing here goes there.
            compose.env(format!("NODE_{node}_PORT"), "0");
            compose.env(format!("NODE_{node}_ADMIN_PORT"), "0");
        }
        compose
    }

    #[track_caller]
    fn compose(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "compose {arguments:?}: {said}");
        output
    }

    /// The container of a service, also one that has ended.
    #[track_caller]
    fn container(&self, service: &str) -> Container {
        let own = self.label();
        let service = format!("label=com.docker.compose.service={service}");
        let filters = ["--filter", &own, "--filter", &service];
        let id = docker(&[&["ps", "--all", "--quiet"][..], &filters].concat());
        assert_eq!(id.lines().count(), 1, "containers of {service}: {id:?}");
        Container(id)
    }

    fn nodes(&self) -> Vec<Container> {
        NODES.iter().map(|name| self.container(name)).collect()
    }

    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }

    /// Containers, networks and volumes.
    fn what_is_left(&self) -> String {
        let own = ["--quiet", "--filter", &self.label()].map(str::to_owned);
        let list = |kind: &[&str]| {
            let own = own.iter().map(String::as_str);
            docker(&kind.iter().copied().chain(own).collect::<Vec<_>>())
        };
        [list(&["ps", "--all"]), list(&["network", "ls"]), list(&["volume", "ls"])].concat()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let mut down = self.command(&["down", "--volumes"]);
        drop(down.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// The plugin of newer engines, else the program of older ones.
fn compose_program() -> Command {
    let mut plugin = Command::new("docker");
    let asked = plugin.args(["compose", "version"]).output();
    if asked.is_ok_and(|output| output.status.success()) {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        return docker;
    }
    Command::new("docker-compose")
}

fn clients_of(nodes: &[Container]) -> Vec<RawClient> {
    nodes.iter().map(|node| RawClient::connect(node, Version::V01)).collect()
}

/// The number of workers that a node has.
fn workers_of(node: &Container) -> u64 {
    let page = http_get(node.admin(), "/metrics").unwrap().body;
    let line = page.lines().find(|line| line.starts_with("majordomo_broker_workers"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{page}"))
}

#[test]
fn three_nodes_agree_and_one_of_them_can_go_and_come_back() {
    let Some(_machine) = machine() else { return };
    let project = Project::up();
    let nodes = project.nodes();
    nodes.iter().for_each(Container::wait_until_ready);

    let client = project.container("client");
    client.wait_until("the client ends", |client| client.exit_code() == "exited 0");
    assert!(client.log().contains("hello, three nodes"), "{}", client.log());

    for at_node in clients_of(&nodes) {
        at_node.wait_for_lookup("echo", "200");
        assert_eq!(at_node.lookup("tea"), "404");
        // The one worker is at one node: the calls at the two others cross.
        at_node.request("echo", "across");
        at_node.expect_reply("echo", "across");
    }
    assert_eq!(nodes.iter().map(workers_of).sum::<u64>(), 1);

    go_and_come_back(&nodes);
    assert_ne!(project.what_is_left(), "");
    project.compose(&["down", "--volumes"]);
    wait_until("nothing is left", PATIENCE, || project.what_is_left().is_empty());
}

/// The node that goes is the one with the worker.
fn go_and_come_back(nodes: &[Container]) {
    let (gone, stay): (Vec<_>, Vec<_>) =
        nodes.iter().cloned().partition(|node| workers_of(node) == 1);
    let gone = gone.first().unwrap();

    // As long as compose.yaml grants, which `docker stop` does not know.
    docker(&["stop", "--time", "30", &gone.0]);
    assert_eq!(gone.exit_code(), "exited 0", "{}", gone.log());
    assert_eq!(Receipt::read_all(&gone.log()).len(), 1, "{}", gone.log());
    for at_node in clients_of(&stay) {
        at_node.request("echo", "still");
        at_node.expect_reply("echo", "still");
        at_node.wait_for_lookup("echo", "200");
    }

    docker(&["start", &gone.0]);
    gone.wait_until_ready();
    for at_node in clients_of(std::slice::from_ref(gone)) {
        at_node.request("echo", "again");
        at_node.expect_reply("echo", "again");
    }
}
