//! The administration port, and the commands that ask it.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::Instant,
};

use rustix::process::Signal;

use crate::program::{Broker, PATIENCE, Running, majordomo, printed, printed_json, run, stderr};

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn services_and_status_come_from_the_administration_port() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);

    let services = broker.ask(&["services"]);
    let page = printed_json(&broker.ask(&["services", "--json"]));
    let status = broker.ask(&["status"]);
    let status_page = printed_json(&broker.ask(&["status", "--json"]));

    assert_eq!(
        printed(&services).lines().map(words).collect::<Vec<_>>(),
        [["SERVICE", "NODES", "WORKERS", "IDLE", "QUEUED"], ["echo", "node-1", "1", "1", "0"]]
    );
    assert_eq!(page["services"][0]["name"], "echo");
    let facts: Vec<_> = printed(&status).lines().map(words).collect();
    assert!(facts.contains(&vec!["leader", "node-1"]), "{}", printed(&status));
    assert!(facts.contains(&vec!["ready", "yes"]), "{}", printed(&status));
    assert_eq!((&status_page["ready"], &status_page["leader"]), (&true.into(), &"node-1".into()));
    assert_eq!(status_page["nodes"][0]["client_endpoint"], broker.endpoint.as_str());
}

#[test]
fn status_shows_the_addresses_of_clients_of_some_networks() {
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    let networks = "10.0.0.0/8=inside:5555,10.1.0.0/16=near:5555";
    serve.env("MAJORDOMO__BROKER__ADVERTISE_FOR", networks);
    let broker = Broker::start_with(serve);

    let status = broker.ask(&["status"]);

    let lines: Vec<_> = printed(&status).lines().map(words).collect();
    let title = ["NODE", "CLIENTS", "OF", "CLIENTS", "AT"];
    let at = lines.iter().position(|line| *line == title).unwrap();
    let near = ["node-1", "10.1.0.0/16", "tcp://near:5555"];
    let inside = ["node-1", "10.0.0.0/8", "tcp://inside:5555"];
    assert_eq!(lines[at + 1..at + 3], [near, inside]);
}

#[test]
fn service_that_requests_wait_for_is_listed_without_a_worker_and_named_when_they_are_dropped() {
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.env("MAJORDOMO__BROKER__REQUEST_TTL", "5s");
    let mut broker = Broker::start_with(serve);
    let call = ["call", "orders.create", "hi", "--endpoint", &broker.endpoint, "--timeout", "30s"];
    let _call = Running::start(majordomo(&call));

    let deadline = Instant::now() + PATIENCE;
    let services = loop {
        let services = broker.ask(&["services"]);
        if printed(&services).contains("orders.create") {
            break services;
        }
        assert!(Instant::now() < deadline, "{}", printed(&services));
    };
    let top = broker.ask(&["top", "--once", "--interval", "500ms"]);

    assert_eq!(
        printed(&services).lines().map(words).collect::<Vec<_>>(),
        [["SERVICE", "NODES", "WORKERS", "IDLE", "QUEUED"], ["orders.create", "-", "0", "0", "1"]]
    );
    let of_service = printed(&top).lines().find(|line| line.starts_with("orders.create")).unwrap();
    assert_eq!(words(of_service)[..4], ["orders.create", "1", "0", "0"], "{}", printed(&top));
    let line = broker.process.wait_for_line(|line| line.contains("messages dropped"));
    assert!(line.contains("reason=\"expired\" count=1 services=orders.create"), "{line}");
}

#[test]
fn variable_names_the_port_and_gives_way_to_what_is_typed() {
    let broker = Broker::start();
    let nowhere = "http://127.0.0.1:1";
    let ask = |admin: &str, args: &[&str]| {
        majordomo(args).env("MAJORDOMO_ADMIN", admin).output().unwrap().status.code()
    };

    assert_eq!(ask(&broker.admin, &["services"]), Some(0));
    assert_eq!(ask(nowhere, &["services", "--timeout", "1s"]), Some(3));
    assert_eq!(ask(nowhere, &["services", "--admin", &broker.admin]), Some(0));
    assert_eq!(ask(nowhere, &["services", "--endpoint", &broker.endpoint]), Some(0));
    assert_eq!(ask("nowhere", &["services"]), Some(2));
}

#[test]
fn liveness_is_an_exit_code_and_needs_no_cluster() {
    let broker = Broker::start();

    assert_eq!(printed(&broker.ask(&["status", "--live"])), "live\n");
    let nobody = run(&["status", "--live", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", stderr(&nobody));
    for nonsense in [&["--json"][..], &["--endpoint", "127.0.0.1:2"]] {
        let output = run(&[&["status", "--live"], nonsense].concat());
        assert_eq!(output.status.code(), Some(2), "{nonsense:?}: {}", stderr(&output));
    }
}

#[test]
fn frozen_node_does_not_live() {
    let broker = Broker::start();

    broker.process.signal(Signal::STOP);
    let output = broker.ask(&["status", "--live", "--timeout", "300ms"]);
    broker.process.signal(Signal::CONT);

    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(printed(&broker.ask(&["status", "--live"])), "live\n");
}

#[test]
fn nobody_at_the_port_ends_with_3_and_advice() {
    let output = run(&["status", "--admin", "http://127.0.0.1:1"]);

    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("http://127.0.0.1:1 does not answer"), "{}", stderr(&output));
    assert!(stderr(&output).contains("another node with --admin"), "{}", stderr(&output));
}

#[test]
fn wrong_addresses_and_two_ways_at_once_end_with_2() {
    for args in [
        &["status", "--admin", "https://127.0.0.1:1"][..],
        &["status", "--admin", "ftp://127.0.0.1:1"],
        &["status", "--admin", "unix:"],
        &["status", "--admin", "127.0.0.1"],
        &["status", "--admin", "http://127.0.0.1:1", "--endpoint", "127.0.0.1:2"],
        &["member", "add", "node-4", "nowhere"],
        &["recover"],
    ] {
        let output = run(args);

        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn node_without_peers_has_no_members_to_change() {
    let broker = Broker::start();

    for args in [
        &["member", "remove", "node-2"][..],
        &["member", "add", "node-2", "127.0.0.1:1"],
        &["leader", "transfer"],
        &["snapshot"],
    ] {
        let output = broker.ask(args);

        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("cluster.peers is empty"), "{}", stderr(&output));
    }
    let bad_name = broker.ask(&["member", "remove", "a b"]);
    assert_eq!(bad_name.status.code(), Some(2), "{}", stderr(&bad_name));
}

#[test]
fn port_in_use_ends_with_2_and_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);

    let output = serve.env("MAJORDOMO__ADMIN__BIND", &address).output().unwrap();

    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let reason = stderr(&output);
    assert!(reason.contains(&format!("admin.bind = \"{address}\" is in use")), "{reason}");
}

#[test]
fn port_can_be_turned_off() {
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.env("MAJORDOMO__ADMIN__BIND", "");

    let broker = Broker::start_with(serve);

    assert_eq!(broker.admin, "");
    assert_eq!(printed(&broker.run(&["call", "mmi.service", "echo"])), "404\n");
}

#[test]
fn status_shows_numbers_and_reasons_of_dropped_messages() {
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.env("MAJORDOMO__BROKER__REQUEST_TTL", "0s");
    let broker = Broker::start_with(serve);
    let call = broker.run(&["call", "orders.create", "hi", "--timeout", "200ms", "--retries", "0"]);
    assert_eq!(call.status.code(), Some(3), "{}", stderr(&call));

    let status = broker.ask(&["status"]);
    let page = printed_json(&broker.ask(&["status", "--json"]));

    let rows: Vec<_> = printed(&status).lines().map(words).collect();
    assert!(rows.contains(&vec!["requests", "1"]), "{}", printed(&status));
    assert!(rows.contains(&vec!["dropped:", "expired", "1"]), "{}", printed(&status));
    assert_eq!(page["counters"]["dropped"]["expired"], 1);
    assert_eq!(
        (&page["ready"], &page["version"]),
        (&true.into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn changes_that_are_not_made_are_logged_with_the_reason_and_not_without_end() {
    let mut broker = Broker::start();

    for _ in 0..12 {
        let output = broker.ask(&["member", "remove", "node-2"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    }

    let line = broker.process.wait_for_line(|line| line.contains("was not made"));
    for part in [" WARN ", "path=\"/api/v1/members\"", "from=127.0.0.1", "cluster.peers is empty"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    broker.process.signal(Signal::TERM);
    broker.process.wait_for_end();
    let log = broker.process.seen();
    assert_eq!(log.matches("was not made").count(), 10, "{log}");
}

#[test]
fn change_that_a_page_of_another_server_asks_for_is_logged() {
    let mut broker = Broker::start();
    let address = broker.admin.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).unwrap();

    let request = "POST /api/v1/drain HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();

    let line = broker.process.wait_for_line(|line| line.contains("was not made"));
    for part in [" WARN ", "path=\"/api/v1/drain\"", "from=127.0.0.1", "status=421", "evil.example"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}
