//! `majordomo drain`: what is asked, what is told, and when the command ends.

use std::{fs, net::TcpStream, path::Path, time::Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    program::{Broker, PATIENCE, Running, majordomo, printed, printed_json, run, stderr, stdout},
    work::HeldCommand,
};

/// A broker with a worker that is at work.
struct Busy {
    broker: Broker,
    command: HeldCommand,
    worker: Running,
    _client: Running,
}

impl Busy {
    fn start() -> Self {
        let broker = Broker::start();
        let command = HeldCommand::new();
        let worker = broker.work("slow", &["--exec", &command.exec()]);
        let call = ["call", "slow", "--timeout", "60s", "--endpoint", &broker.endpoint];
        let client = Running::start(majordomo(&call));
        command.wait_until_begun();
        Self { broker, command, worker, _client: client }
    }
}

#[test]
fn drain_without_wait_returns_once_it_is_accepted() {
    let mut busy = Busy::start();

    let first = busy.broker.ask(&["drain"]);
    let again = busy.broker.ask(&["drain", "node-1", "--json"]);

    assert_eq!(printed(&first), "node-1 drains\n");
    let again = printed_json(&again);
    assert_eq!((&again["draining"], &again["again"]), (&true.into(), &true.into()));
    assert_eq!(printed(&busy.broker.ask(&["drain"])), "node-1 was draining already\n");
    busy.command.let_go();
    assert_eq!(busy.broker.process.wait_for_end().code(), Some(0));
}

#[test]
fn drain_with_wait_ends_with_the_receipt_when_the_node_is_gone() {
    let mut busy = Busy::start();
    let address = busy.broker.admin.trim_start_matches("http://").to_owned();
    let mut waiting = majordomo(&["drain", "node-1", "--wait", "--json", "--admin"]);
    waiting.arg(&busy.broker.admin);
    let waiting = std::thread::spawn(move || waiting.output().unwrap());
    // The worker owes a reply, so nothing ends before it is released.
    busy.broker.process.wait_for_line(|line| line.contains("a drain is asked for"));
    busy.command.let_go();

    let output = waiting.join().unwrap();

    let receipt: Value = serde_json::from_str(printed(&output)).unwrap();
    assert!(printed(&output).starts_with(r#"{"event":"drained","finished":1,"handed_over":0,"#));
    assert_eq!((&receipt["dropped"], &receipt["leader_moved"]), (&0.into(), &false.into()));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(busy.broker.process.wait_for_end().code(), Some(0));
    // The log has the same receipt.
    let logged = busy.broker.process.seen();
    assert!(logged.contains(printed(&output).trim_end()), "{logged}");
    drop(busy.worker);
}

#[test]
fn receipt_is_a_sentence_for_people() {
    let mut broker = Broker::start();

    let output = broker.ask(&["drain", "--wait"]);

    let receipt = printed(&output);
    let wanted = "node-1 is drained: 0 requests finished, 0 handed over, 0 dropped, in ";
    assert!(receipt.starts_with(wanted), "{receipt}");
    assert_eq!(broker.process.wait_for_end().code(), Some(0));
}

#[test]
fn who_does_not_want_to_wait_for_longer_is_told_so_and_the_drain_goes_on() {
    let mut busy = Busy::start();

    let output = busy.broker.ask(&["drain", "--wait", "--timeout", "500ms"]);

    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("node-1 still drains after 500ms"), "{}", stderr(&output));
    busy.command.let_go();
    assert_eq!(busy.broker.process.wait_for_end().code(), Some(0));
}

#[test]
fn node_that_is_ended_by_a_second_signal_leaves_no_receipt() {
    let mut busy = Busy::start();
    let mut waiting = majordomo(&["drain", "--wait", "--admin", &busy.broker.admin]);
    let waiting = std::thread::spawn(move || waiting.output().unwrap());
    busy.broker.process.wait_for_line(|line| line.contains("a drain is asked for"));
    // Whoever asked before this one has been told that the node drains.
    let told = busy.broker.ask(&["drain", "--wait", "--timeout", "500ms"]);
    assert!(stderr(&told).contains("still drains"), "{}", stderr(&told));

    busy.broker.process.signal(Signal::TERM);
    busy.broker.process.wait_for_line(|line| line.contains("stopping"));
    busy.broker.process.signal(Signal::TERM);

    assert_eq!(busy.broker.process.wait_for_end().code(), Some(1));
    let output = waiting.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ended without a receipt"), "{}", stderr(&output));
}

#[test]
fn drain_of_another_node_or_of_nobody_is_refused() {
    let broker = Broker::start();

    for wait in [&[][..], &["--wait"]] {
        let output = broker.ask(&[&["drain", "node-2"], wait].concat());
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        let wanted = "this is node-1, which knows no node named node-2";
        assert!(stderr(&output).contains(wanted), "{}", stderr(&output));

        let nobody = ["drain", "--admin", "http://127.0.0.1:1", "--timeout", "5s"];
        let output = run(&[&nobody, wait].concat());
        assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
        assert!(stderr(&output).contains("does not answer"), "{}", stderr(&output));
    }
    let ready = broker.ask(&["status", "--json"]);
    assert_eq!(printed_json(&ready)["ready"], true);
}

#[test]
fn data_directory_is_free_when_the_command_ends() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = |directory: &Path| {
        let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
        serve.current_dir(directory);
        serve.env("MAJORDOMO__CLUSTER__BIND", address.to_string());
        serve.env("MAJORDOMO__CLUSTER__PEERS", format!("node-1={address}"));
        let mut node = Broker::start_with(serve);
        node.process.wait_for_line(|line| line.contains("takes part in its cluster"));
        node
    };
    let node = start(directory.path());
    let begun = Instant::now();

    let receipt = printed_json(&node.ask(&["drain", "--wait", "--json"]));

    assert_eq!(receipt["event"], "drained");
    assert!(begun.elapsed() < PATIENCE);
    assert!(fs::exists(directory.path().join("majordomo-data")).unwrap());
    let again = start(directory.path());
    assert!(!again.endpoint.is_empty());
}
