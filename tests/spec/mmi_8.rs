//! 8/MMI.

use cluster_tests::{
    NodeProcess, QUIET, RawClient, RawSocket, RawWorker, ReqClient, Version, frames,
};

use Version::V01;

#[test]
fn mmi8_01_default_service_is_provided() {
    let node = NodeProcess::start(&[QUIET]);

    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "404");
}

#[test]
fn mmi8_02_broker_answers_its_namespace_itself() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::connect(&node, version);
        worker.ready("mmi.settle");
        worker.expect_disconnect();

        // `settle` asks the service that the worker wanted.
        RawClient::connect(&node, version).settle();

        worker.expect_silence();
    }
}

#[test]
fn mmi8_03_reserved_registration_is_disconnected() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        for name in ["mmi.", "mmi.service", "mmi.echo", "mmi.mine", "mmi.\0", "mmi.service.x"] {
            let worker = RawWorker::connect(&node, version);

            worker.ready(name);

            worker.expect_disconnect();
            assert_eq!(client.lookup(name), "404");
        }
    }
}

#[test]
fn mmi8_03_refused_worker_may_register_another_name() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, V01);
    worker.ready("mmi.mine");
    worker.expect_disconnect();

    worker.ready("mine");

    worker.expect_heartbeat();
}

#[test]
fn mmi8_04_service_is_200_while_a_worker_is_registered() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let client = RawClient::connect(&node, version);
        assert_eq!(client.lookup("echo"), "404");

        let first = RawWorker::register(&node, version, "echo");
        assert_eq!(client.lookup("echo"), "200");
        let second = RawWorker::register(&node, version, "echo");
        first.disconnect();
        first.settle();
        assert_eq!(client.lookup("echo"), "200");

        second.disconnect();
        second.settle();
        assert_eq!(client.lookup("echo"), "404");
    }
}

#[test]
fn mmi8_04_other_names_stay_404() {
    let node = NodeProcess::start(&[QUIET]);
    let _worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    for name in ["ech", "echo2", "Echo", "echo\0", " echo", ""] {
        assert_eq!(client.lookup(name), "404", "{name:?}");
    }
}

#[test]
fn mmi8_04_waiting_requests_register_nothing() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");

    assert_eq!(client.lookup("echo"), "404");
}

#[test]
fn mmi8_05_names_not_implemented_get_501() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let client = RawClient::connect(&node, version);
        for name in
            ["mmi.x", "mmi.", "mmi.Service", "mmi.service ", "mmi.services", "mmi.\0", "mmi.mmi."]
        {
            assert_eq!(client.ask(name, "echo"), "501", "{name:?}");
        }
    }
}

#[test]
fn mmi8_05_extensions_turned_off_get_501() {
    let node = NodeProcess::start(&[QUIET, ("mmi.extensions", "false")]);
    let client = RawClient::connect(&node, V01);

    for name in ["mmi.directory", "mmi.endpoints", "mmi.status", "mmi.echo"] {
        assert_eq!(client.ask(name, "-"), "501", "{name}");
    }
    assert_eq!(client.lookup("echo"), "404");
}

#[test]
fn mmi8_06_answer_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawSocket::dealer(&node);

    client.send(&frames![b"", b"MDPC01", b"mmi.service", b"echo"]);
    client.expect(&frames![b"", b"MDPC01", b"mmi.service", b"404"]);
    client.send(&frames![b"", b"MDPC01", b"mmi.nothing", b"echo"]);
    client.expect(&frames![b"", b"MDPC01", b"mmi.nothing", b"501"]);
}

#[test]
fn mmi8_06_req_client_asks_as_for_any_service() {
    let node = NodeProcess::start(&[QUIET]);
    for client in [ReqClient::connect(&node), ReqClient::correlated(&node)] {
        client.request("mmi.service", "echo");

        client.expect_reply("mmi.service", "404");
    }
}

#[test]
fn mmi_extension_echo_returns_the_body() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let client = RawSocket::dealer(&node);

        client.send(&version.request("mmi.echo", &[b"a", b"", b"b"]));

        client.expect(&version.reply("mmi.echo", &[b"a", b"", b"b"]));
    }
}

#[test]
fn mmi_extension_pages_are_a_code_and_json() {
    let node = NodeProcess::start(&[QUIET, ("node.name", "node-7")]);
    let _worker = RawWorker::register(&node, V01, "echo");
    let client = RawSocket::dealer(&node);

    for (name, part) in [
        ("mmi.directory", "\"echo\""),
        ("mmi.endpoints", node.endpoint().as_str()),
        ("mmi.status", "\"node-7\""),
    ] {
        client.send(&V01.request(name, &[b""]));

        let answer = client.recv();
        assert_eq!(answer[..4], frames![b"", b"MDPC01", name, b"200"]);
        let json = answer[4].escape_ascii().to_string().replace("\\\"", "\"");
        assert_eq!(answer.len(), 5);
        assert!(json.starts_with(['{', '[']) && json.contains(part), "{name}: {json}");
    }
}
