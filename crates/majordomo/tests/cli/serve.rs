//! `majordomo serve` and what every command has in common.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::{
    program::{Broker, Running, majordomo, printed, printed_json, run, stderr, stdout},
    work::HeldCommand,
};

#[test]
fn without_configuration_it_would_listen_on_loopback() {
    let mut command = majordomo(&["serve", "--check", "--json"]);
    let settings = printed_json(&command.env_remove("MAJORDOMO__ADMIN__BIND").output().unwrap());

    assert_eq!(settings["broker"]["bind"], "tcp://127.0.0.1:5555");
    assert_eq!(settings["admin"]["bind"], "127.0.0.1:5580");
    assert_eq!(settings["cluster"]["peers"], serde_json::json!([]));
    assert_eq!(settings["node"]["name"], "node-1");
    assert_eq!(settings["broker"]["max_workers"], 20_000);
    assert_eq!(settings["service"], serde_json::json!([]));
}

#[test]
fn check_prints_what_counts_and_where_it_came_from() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("m.toml");
    fs::write(&file, "[node]\nname = 'a'\n[broker]\nmax_workers = 5\n").unwrap();
    let file = file.to_str().unwrap();

    let mut command = majordomo(&["serve", "--check", "--config", file, "--name", "b"]);
    let output = command.env("MAJORDOMO__BROKER__REQUEST_TTL", "5s").output().unwrap();

    let line = |key: &str| {
        let line = printed(&output).lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("name"), "name = \"b\" # flag --name");
    assert_eq!(line("max_workers"), format!("max_workers = 5 # file {file}"));
    assert_eq!(
        line("request_ttl"),
        "request_ttl = \"5s\" # environment variable MAJORDOMO__BROKER__REQUEST_TTL"
    );
    assert_eq!(line("max_attempts"), "max_attempts = 3 # default");
}

#[test]
fn wrong_configuration_ends_with_2_and_a_reason() {
    for (args, reason) in [
        (
            &["serve", "--bind", "nowhere"][..],
            "majordomo: broker.bind = \"nowhere\" (flag --bind) is not valid: use tcp://HOST:PORT",
        ),
        (
            &["serve", "--check", "--config", "no-such-file.toml"],
            "majordomo: file no-such-file.toml cannot be opened (flag --config): No such file",
        ),
        (&["serve", "--colour"], "unexpected argument '--colour'"),
        (&["serv"], "unrecognized subcommand 'serv'"),
        (&["call"], "<SERVICE>"),
        (&["call", "x", "--timeout", "5"], "use a time with its unit"),
        (&["call", "x", "--endpoint", "nowhere"], "`nowhere` is not an endpoint"),
        (&["call", ""], "service name"),
        (&["call", "x", "-", "-"], "stdin (-) can be one frame only"),
        (&["work", "x"], "--echo"),
        (&["work", "mmi.x", "--echo"], "`mmi.x` cannot be offered"),
        (&["bench", "--workers", "0"], "at least one of: workers"),
    ] {
        let output = run(args);

        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn unknown_variable_is_refused_with_the_one_that_was_meant() {
    let mut command = majordomo(&["serve"]);

    let output = command.env("MAJORDOMO__BROKER__HARTBEAT_INTERVAL", "1s").output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "majordomo: broker.hartbeat_interval = \"1s\" (environment variable \
         MAJORDOMO__BROKER__HARTBEAT_INTERVAL) cannot be used: there is no such key; did you mean \
         MAJORDOMO__BROKER__HEARTBEAT_INTERVAL?\n"
    );
}

#[test]
fn keys_of_a_cluster_that_do_not_fit_together_end_with_2() {
    let mut command = majordomo(&["serve"]);
    command.env("MAJORDOMO__CLUSTER__PEERS", "a=h:1,b=h:2");

    let output = command.env("MAJORDOMO__CLUSTER__EXPECT", "3").output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    let reasons = stderr(&output);
    assert!(reasons.contains("cluster.expect") && reasons.contains("node.name"), "{reasons}");
}

#[test]
fn check_accepts_the_files_of_three_nodes_and_advises_against_two() {
    for number in 1..=3 {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/three-node");
        let file = format!("{directory}/node-{number}.toml");

        let output = run(&["serve", "--check", "--config", &file]);

        assert!(printed(&output).contains("expect = 3"), "{}", printed(&output));
        assert_eq!(stderr(&output), "");
    }
    let mut two = majordomo(&["serve", "--check"]);
    two.env("MAJORDOMO__CLUSTER__PEERS", "node-1=127.0.0.1:1,node-2=127.0.0.1:2");
    let output = two.output().unwrap();
    assert!(printed(&output).contains("peers = "), "{}", printed(&output));
    assert!(stderr(&output).contains("warning: cluster.peers has 2 nodes"), "{}", stderr(&output));
}

#[test]
fn node_without_peers_writes_nothing() {
    let directory = tempdir().unwrap();
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.current_dir(directory.path());
    let mut broker = Broker::start_with(serve);

    broker.process.signal(Signal::TERM);
    broker.process.wait_for_end();

    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn address_in_use_ends_with_2() {
    let broker = Broker::start();

    for log_level in ["info", "off"] {
        let output = run(&["serve", "--bind", &broker.endpoint, "--log-level", log_level]);

        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
        assert!(stderr(&output).contains(&broker.endpoint), "{}", stderr(&output));
    }
}

#[test]
fn signal_drains_and_ends_with_0_and_a_receipt() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start();

        broker.process.signal(signal);

        assert_eq!(broker.process.wait_for_end().code(), Some(0));
        let log = broker.process.seen();
        let receipt = log.lines().find_map(|line| line.find('{').and_then(|at| line.get(at..)));
        let receipt: serde_json::Value = serde_json::from_str(receipt.unwrap()).unwrap();
        assert_eq!(receipt["event"], "drained");
        assert_eq!((&receipt["finished"], &receipt["dropped"]), (&0.into(), &0.into()));
    }
}

#[test]
fn second_signal_ends_at_once_with_1() {
    let mut broker = Broker::start();
    let command = HeldCommand::new();
    let _worker = broker.work("slow", &["--exec", &command.exec()]);
    let call = ["call", "slow", "--timeout", "60s", "--endpoint", &broker.endpoint];
    let _client = Running::start(majordomo(&call));
    command.wait_until_begun();

    broker.process.signal(Signal::TERM);
    broker.process.wait_for_line(|line| line.contains("stopping"));
    broker.process.signal(Signal::TERM);

    assert_eq!(broker.process.wait_for_end().code(), Some(1), "{}", broker.process.seen());
}

#[test]
fn json_log_has_one_object_a_line() {
    let mut command = majordomo(&["serve", "--bind", "tcp://127.0.0.1:*", "--log-format", "json"]);
    command.args(["--name", "node-7"]);
    let mut broker = Broker::start_with(command);
    broker.process.signal(Signal::TERM);
    broker.process.wait_for_end();

    let log = broker.process.seen();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["endpoint"] == *broker.endpoint), "{log}");
    assert!(lines.iter().all(|line| line["node"] == "node-7"), "{log}");
    let receipt = lines.iter().find(|line| line["event"] == "drained").unwrap();
    assert_eq!(receipt["leader_moved"], false);
    assert!(receipt["took_ms"].is_u64(), "{receipt}");
}

#[test]
fn every_command_explains_itself() {
    for command in [
        "serve",
        "call",
        "work",
        "services",
        "status",
        "connections",
        "top",
        "upgrade",
        "member",
        "leader",
        "drain",
        "snapshot",
        "recover",
        "bench",
        "completions",
    ] {
        let help = run(&[command, "--help"]);

        assert!(printed(&help).contains("Examples:"), "{command}");
        assert!(printed(&help).lines().all(|line| line.chars().count() <= 100), "{command}");
    }
    assert!(printed(&run(&["--help"])).contains("Exit codes:"));
    assert_eq!(
        printed(&run(&["--version"])),
        concat!("majordomo ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&run(&["completions", shell])).contains("endpoint"), "{shell}");
    }
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);

    let output = majordomo(&["completions", "bash"]).stdout(writer).output().unwrap();

    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn log_that_nobody_reads_does_not_stop_the_broker() {
    let mut command = majordomo(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug"]);
    let mut broker = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(broker.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on tcp://") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let endpoint = line.split_whitespace().find(|word| word.starts_with("tcp://")).unwrap();

    // Two lines when each worker comes, two when it goes: twice what a pipe holds.
    let load = ["--services", "400", "--workers", "400", "--seconds", "1", "--json"];
    let output = run(&[&["bench", "--endpoint", endpoint], &load[..]].concat());
    let again = run(&["call", "mmi.service", "nobody", "--endpoint", endpoint]);

    broker.kill().unwrap();
    broker.wait().unwrap();
    assert_eq!(printed_json(&output)["timeouts"], 0);
    assert_eq!(printed(&again), "404\n");
}

#[test]
fn first_line_says_what_runs_and_every_line_who_says_it() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("m.toml");
    fs::write(&file, "[node]\nname = 'node-7'\n").unwrap();
    let serve = ["serve", "--bind", "127.0.0.1:0", "--config", file.to_str().unwrap()];

    for (format, node) in [("text", "Z node-7 "), ("json", "{\"node\":\"node-7\",")] {
        let args = [&serve[..], &["--log-format", format]].concat();
        let broker = Broker::start_with(majordomo(&args));

        let log = broker.process.seen();
        let first = log.lines().next().unwrap();
        for part in ["majordomo starts", env!("CARGO_PKG_VERSION"), "m.toml"] {
            assert!(first.contains(part), "{part}: {first}");
        }
        assert!(log.lines().all(|line| line.contains(node)), "{log}");
    }
    let log = Broker::start().process.seen();
    assert!(log.lines().next().unwrap().contains("config=none"), "{log}");
}
