//! What cannot work is said before it fails, with what would be right.

use std::{fs, process::Command};

use tempfile::tempdir;

use crate::program::{Broker, Running, majordomo, printed, run, stderr, stdout};

#[test]
fn two_keys_with_one_port_are_found_by_the_check() {
    for (pairs, refused) in [
        (
            &[("BROKER__BIND", "127.0.0.1:7001"), ("ADMIN__BIND", "127.0.0.1:7001")][..],
            "admin.bind",
        ),
        (&[("BROKER__BIND", "*:7001"), ("ADMIN__BIND", "127.0.0.1:7001")], "admin.bind"),
        (&[("BROKER__BIND", "localhost:7001"), ("ADMIN__BIND", "0.0.0.0:7001")], "admin.bind"),
        (&[("BROKER__BIND", "127.0.0.1:5556"), ("CLUSTER__PEERS", "node-1=h:1")], "cluster.bind"),
        (
            &[("CLUSTER__RELAY_BIND", "[::]:5556"), ("CLUSTER__PEERS", "node-1=h:1")],
            "cluster.relay_bind",
        ),
    ] {
        let mut check = majordomo(&["serve", "--check"]);
        for (key, value) in pairs {
            check.env(format!("MAJORDOMO__{key}"), value);
        }

        let output = check.output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{pairs:?}: {}", stderr(&output));
        let reason = stderr(&output);
        let starts_right = reason.starts_with(&format!("majordomo: {refused} = "));
        assert!(starts_right && reason.contains("has the same port"), "{pairs:?}: {reason}");
    }
    for pairs in [
        &[("BROKER__BIND", "127.0.0.1:0"), ("ADMIN__BIND", "127.0.0.1:0")][..],
        &[("BROKER__BIND", "127.0.0.1:7001"), ("ADMIN__BIND", "127.0.0.2:7001")],
        // Nothing is bound for other nodes, for there are none.
        &[("BROKER__BIND", "127.0.0.1:5556")],
    ] {
        let mut check = majordomo(&["serve", "--check"]);
        for (key, value) in pairs {
            check.env(format!("MAJORDOMO__{key}"), value);
        }
        printed(&check.output().unwrap());
    }
}

/// The program with these words, under a limit of the shell.
fn limited(limit: &str, words: &[&str]) -> Command {
    let program = majordomo(words);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limit}; exec \"$@\"")).arg("sh");
    shell.arg(program.get_program()).args(program.get_args());
    shell.env("MAJORDOMO__ADMIN__BIND", "127.0.0.1:0");
    shell
}

#[test]
fn too_few_open_files_are_a_message_and_no_abort() {
    let broker = Broker::start();
    let serve = ["serve", "--bind", "127.0.0.1:0"];
    for words in [
        &serve[..],
        &["call", "echo", "hi", "--endpoint", &broker.endpoint],
        &["work", "echo", "--echo", "--endpoint", &broker.endpoint],
        &["services", "--endpoint", &broker.endpoint],
    ] {
        let output = limited("-n 13", words).output().unwrap();

        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", stderr(&output));
        let reason = stderr(&output);
        assert!(reason.contains("the limit of open files is 13"), "{words:?}: {reason}");
    }
    // With what is asked for they start, and serve one another.
    let broker = Broker::start_with(limited("-n 24", &serve));
    let _worker = broker.work("echo", &["--echo"]);
    let call = ["call", "echo", "hi", "--endpoint", &broker.endpoint];
    assert_eq!(printed(&limited("-n 48", &call).output().unwrap()), "hi\n");
}

#[test]
fn limit_of_file_sizes_ends_a_node_with_4() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let serve = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
        "--peers",
        "node-1=127.0.0.1:1",
    ];
    // Blocks of 512 bytes.
    let mut command = limited("-f 64", &serve);
    command.env("MAJORDOMO__CLUSTER__BIND", free_loopback());
    let mut node = Running::start(command);

    let ended = node.wait_for_end();

    assert_eq!(ended.code(), Some(4), "{ended}: {}", node.seen());
    assert!(node.seen().contains("File too large"), "{}", node.seen());
}

fn free_loopback() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn port_that_needs_a_capability_is_said_to() {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let is_allowed =
        first_free.is_ok_and(|port| port.trim().parse::<u16>().is_ok_and(|port| port <= 80));
    for keys in [["--bind", "127.0.0.1:80"], ["--admin", "127.0.0.1:80"]] {
        let mut words = vec!["serve", "--bind", "127.0.0.1:0"];
        if keys[0] == "--bind" {
            words.truncate(1);
        }
        words.extend(keys);
        let program = majordomo(&words);
        // All capabilities dropped, which root has.
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        if rustix::process::geteuid().is_root() {
            setpriv.args(["--reuid=65534", "--clear-groups"]);
        }
        setpriv.arg(program.get_program()).args(program.get_args());
        setpriv.env("MAJORDOMO__ADMIN__BIND", "127.0.0.1:0");
        if is_allowed {
            continue;
        }

        let output = setpriv.output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let reason = stderr(&output);
        assert!(reason.contains("ports below 1024 need a capability"), "{reason}");
    }
}

#[test]
fn variables_that_are_nearly_keys_are_warned_of() {
    let mut check = majordomo(&["serve", "--check"]);
    check.env("MAJORDOMO_BROKER_BIND", "*:1").env("majordomo__cluster__peers", "a=h:1");
    check.env("MAJORDOMO__CLUSTER__PEERS", "").env("MAJORDOMO_SERVICE_HOST", "10.0.0.1");
    check.env("MAJORDOMO_PORT_5555_TCP", "tcp://10.0.0.1:5555");
    let output = check.output().unwrap();

    let warnings: Vec<&str> = stderr(&output).lines().collect();
    printed(&output);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[0]
            .contains("MAJORDOMO_BROKER_BIND is ignored: did you mean MAJORDOMO__BROKER__BIND")
    );
    assert!(warnings[1].contains("majordomo__cluster__peers is ignored"), "{warnings:?}");
    assert!(warnings[2].contains("MAJORDOMO__CLUSTER__PEERS is empty"), "{warnings:?}");

    // Also when it starts.
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.env("MAJORDOMO_BROKER_BIND", "*:1");
    let broker = Broker::start_with(serve);
    let log = broker.process.seen();
    assert!(log.contains("WARN") && log.contains("MAJORDOMO_BROKER_BIND is ignored"), "{log}");
}

#[test]
fn endpoint_of_the_environment_that_is_none_is_named() {
    for value in ["", "nowhere", "127.0.0.1:5555,"] {
        for command in [&["call", "x"][..], &["work", "x", "--echo"], &["bench"]] {
            let mut program = majordomo(command);
            let output = program.env("MAJORDOMO_ENDPOINT", value).output().unwrap();

            assert_eq!(output.status.code(), Some(2), "{command:?}: {}", stderr(&output));
            let reason = stderr(&output);
            assert!(reason.contains("environment variable MAJORDOMO_ENDPOINT"), "{reason}");
            assert_eq!(stdout(&output), "");
        }
    }
}

#[test]
fn files_of_three_machines_differ_in_the_name_alone() {
    let document =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md"));
    let document = document.unwrap();
    let (_, after) = document.split_once("this file differs in `node.name` alone:").unwrap();
    let file = after.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempdir().unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        let path = directory.path().join(name);
        fs::write(&path, file.replace("name = \"node-1\"", &format!("name = \"{name}\""))).unwrap();

        let mut check = majordomo(&["serve", "--check", "--config", path.to_str().unwrap()]);
        let output = check.env_remove("MAJORDOMO__ADMIN__BIND").output().unwrap();

        assert!(printed(&output).contains(&format!("name = \"{name}\"")), "{}", printed(&output));
        assert_eq!(stderr(&output), "");
    }
    assert_eq!(run(&["serve", "--check"]).status.code(), Some(0));
}

#[test]
fn node_takes_another_port_for_requests_of_others_when_the_known_one_is_in_use() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    // If another program has it already, that is as good.
    let _other = std::net::TcpListener::bind("0.0.0.0:5557").ok();
    let port = free_loopback().rsplit_once(':').unwrap().1.to_owned();
    let peers = format!("node-1=127.0.0.1:{port}");
    let words = ["serve", "--bind", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), "--peers"];
    let mut serve = majordomo(&[&words[..], &[&peers]].concat());
    serve.env("MAJORDOMO__CLUSTER__BIND", format!("*:{port}"));

    let broker = Broker::start_with(serve);

    let log = broker.process.seen();
    let warning =
        log.lines().find(|line| line.contains("the port for requests of other nodes is in use"));
    let warning = warning.unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN") && warning.contains("tcp://*:5557"), "{warning}");
    assert!(warning.contains("set cluster.relay_bind"), "{warning}");
}
