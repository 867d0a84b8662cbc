//! `majordomo top`, in a terminal as a person has one.

use std::{
    process::{Command, Output},
    time::Duration,
};

use cluster_tests::{RawClient, RawWorker, TestCluster, Version, program, wait_until};
use serde_json::Value;

use crate::part_of_the_machine;

/// How long a screen may take to show what it should.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// A terminal of its own; gone when it is dropped.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn run(command: &str, (columns, rows): (&str, &str)) -> Self {
        let socket = format!("majordomo-test-{}-{columns}", std::process::id());
        let terminal = Self { socket };
        terminal.tmux(&["new-session", "-d", "-x", columns, "-y", rows, command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        // Its own server, which takes no configuration.
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket, "-f", "/dev/null"]).args(arguments).output().unwrap()
    }

    fn shows(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn is_over(&self) -> bool {
        !self.tmux(&["has-session"]).status.success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_nodes_and_services_and_gives_the_terminal_back() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let worker = RawWorker::connect(cluster.node(1), Version::V01);
    worker.ready("echo");
    worker.expect_heartbeat();
    let client = RawClient::connect(cluster.node(0), Version::V01);
    client.request("echo", "hello");
    worker.serve("hello", "hello");
    client.expect_reply("echo", "hello");
    let admin: Vec<String> = cluster.nodes().iter().map(|node| node.admin_url()).collect();
    let top = format!("{} top --interval 300ms --admin {}", program().display(), admin.join(","));

    let terminal =
        Terminal::run(&format!("{top}; echo ended with $?; read -r line"), ("180", "40"));
    let leader = cluster.leader();
    wait_until("all is shown", SHOWN_WITHIN, || {
        let shown = terminal.shows();
        let has_node = |node: usize| {
            let mark = if node == leader { "*" } else { " " };
            shown.lines().any(|line| {
                let is_its_line = line.starts_with(&format!("{}{mark}", cluster.node(node).name()));
                is_its_line && line.contains(" up ") && line.contains(" MiB")
            })
        };
        let service = shown.lines().find(|line| line.starts_with("echo "));
        (0..3).all(has_node) && service.is_some_and(|line| line.ends_with("node-2"))
    });

    // A node that does not answer is said so, and the others stay.
    cluster.node_mut(2).kill();
    wait_until("one is missed", SHOWN_WITHIN, || {
        let shown = terminal.shows();
        shown.contains("does not answer") && shown.contains("node-1")
    });

    terminal.press("q");
    wait_until("it ends", SHOWN_WITHIN, || terminal.shows().contains("ended with 0"));
    assert!(!terminal.shows().contains("does not answer"), "the screen is not given back");
    terminal.press("Enter");
    wait_until("the terminal is closed", SHOWN_WITHIN, || terminal.is_over());
}

#[test]
fn top_fits_a_small_terminal_with_trouble_first() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let long = format!("a.{}.z", "service-with-a-long-name.".repeat(4));
    let names = (0..45).map(|number| format!("service-{number:02}"));
    let workers: Vec<RawWorker> = names
        .chain([long])
        .map(|name| RawWorker::register(cluster.node(1), Version::V01, name))
        .collect();
    let client = RawClient::connect(cluster.node(0), Version::V01);
    client.request("without-a-worker", "hello");
    let absent = "http://127.0.0.1:1".to_owned();
    let admin: Vec<String> = cluster.nodes().iter().map(|node| node.admin_url()).collect();
    cluster.node_mut(2).kill();
    let admin = [&admin[..], &[absent]].concat().join(",");
    let top = format!("{} top --interval 300ms --admin {admin}", program().display());

    let terminal = Terminal::run(&top, ("80", "24"));

    wait_until("trouble is shown, and all that fits", SHOWN_WITHIN, || {
        let shown = terminal.shows();
        let lines: Vec<&str> = shown.lines().collect();
        let at = |words: &str| lines.iter().position(|line| line.contains(words));
        let missed = [at("127.0.0.1:1 does not answer"), at(&cluster.node(2).admin_url())];
        let node = |name: &str| {
            lines.iter().find(|line| line.starts_with(name)).copied().unwrap_or_default()
        };
        let first_service = at("SERVICE").and_then(|at| lines.get(at + 1)).copied();
        missed.iter().all(|at| at.is_some_and(|at| at < 5))
            && at("NODE")
                .is_some_and(|at| lines[at].ends_with("MEM") && lines[at + 1].contains("gone"))
            && node("node-1").contains(" up ")
            && node("node-2").ends_with("MiB")
            && first_service.is_some_and(|line| line.starts_with("without-a-worker "))
            && lines.iter().any(|line| line.starts_with("and ") && line.ends_with(" more"))
            && lines.iter().any(|line| line.starts_with("a.service") && line.contains("\u{2026}"))
            && lines.len() <= 24
    });
    drop(workers);
}

#[test]
fn top_for_scripts_prints_one_look() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let top = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(["top", "--interval", "200ms", "--admin"]).args(arguments).output().unwrap()
    };

    let Output { status, stdout, .. } = top(&[&cluster.node(0).admin_url(), "--json"]);
    assert!(status.success());
    let told: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(told["nodes"][0]["node"], "node-1");
    assert!(told["nodes"][0]["requests_per_second"].is_number(), "{told}");

    let Output { status, stdout, .. } = top(&[&cluster.node(0).admin_url()]);
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success() && text.contains("NODE") && !text.contains('\u{1b}'), "{text}");

    let Output { status, stderr, .. } = top(&["http://127.0.0.1:1", "--once"]);
    let text = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(3) && text.contains("does not answer"), "{text}");
}
