//! Our rules where the documents are open: AM-01 to AM-20.

use std::time::{Duration, Instant};

use cluster_tests::{
    NodeProcess, QUIET, RawClient, RawSocket, RawWorker, ReqClient, Version, frames,
};

use Version::{V01, V02};

/// Interval × liveness is 300 ms; the node adds 250 ms of grace.
const FAST: [(&str, &str); 2] =
    [("broker.heartbeat_interval", "100ms"), ("broker.heartbeat_liveness", "3")];

#[test]
fn am_01_command_of_the_other_version_is_out_of_place() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for (version, other) in [(V01, V02), (V02, V01)] {
        for message in [other.heartbeat(), other.ready("echo"), other.answer(b"x", &[b"y"])] {
            let worker = RawWorker::register(&node, version, "echo");

            worker.socket.send(&message);

            worker.expect_disconnect();
            assert_eq!(client.lookup("echo"), "404");
        }
    }
}

#[test]
fn am_01_forgotten_worker_may_register_on_the_same_socket() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        worker.ready("echo");
        worker.expect_disconnect();

        worker.ready("echo");

        worker.expect_heartbeat();
        worker.disconnect();
    }
}

#[test]
fn am_01_stranger_is_answered_in_the_version_of_its_command() {
    let node = NodeProcess::start(&[QUIET]);
    let peer = RawSocket::dealer(&node);

    for version in [V01, V02, V01] {
        peer.send(&version.heartbeat());
        peer.expect(&version.disconnect());
    }
}

#[test]
fn am_02_request_without_body_is_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, version);

        client.socket.send(&version.request("echo", &[]));
        client.socket.send(&version.request("mmi.service", &[]));

        client.settle();
        worker.settle();
        worker.disconnect();
    }
}

#[test]
fn am_03_reply_without_body_is_an_empty_reply_in_0_1_and_ends_the_registration_in_0_2() {
    let node = NodeProcess::start(&[QUIET]);
    let old = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = old.expect_work("hello");

    old.socket.send(&V01.answer(&address, &[]));

    client.expect_reply("echo", "");
    old.settle();
    old.disconnect();
    old.settle();
    let new = RawWorker::register(&node, V02, "echo");
    client.request("echo", "hello");
    let address = new.expect_work("hello");

    new.socket.send(&V02.answer(&address, &[]));

    new.expect_disconnect();
    // AM-21: the request was executed, so no other worker gets it.
    let another = RawWorker::register(&node, V02, "echo");
    another.settle();
    client.settle();
}

#[test]
fn am_04_last_body_frame_is_the_name_and_nothing_is_echoed() {
    let node = NodeProcess::start(&[QUIET]);
    let _worker = RawWorker::register(&node, V01, "echo");
    let client = RawSocket::dealer(&node);
    for version in Version::BOTH {
        client.send(&version.request("mmi.service", &[b"other", b"", b"echo"]));
        client.expect(&version.reply("mmi.service", &[b"200"]));

        client.send(&version.request("mmi.service", &[b"echo", b"other"]));
        client.expect(&version.reply("mmi.service", &[b"404"]));
    }
}

#[test]
fn am_05_busy_workers_count_as_registered() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, V01);
        client.request("echo", "hello");
        let address = worker.expect_work("hello");

        assert_eq!(client.lookup("echo"), "200");

        worker.answer(&address, "world");
        client.expect_reply("echo", "world");
        worker.disconnect();
    }
}

#[test]
fn am_06_reserved_names_are_404() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);

    for name in ["mmi.service", "mmi.echo", "mmi.", "mmi.nothing"] {
        assert_eq!(client.lookup(name), "404", "{name}");
    }
}

#[test]
fn am_07_prefix_is_exact() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for name in ["mmi", "MMI.x", "Mmi.service", "mmI.service", "mm", "m", ".mmi.", "xmmi.service"] {
        let worker = RawWorker::register(&node, V01, name);

        client.request(name, "hello");

        worker.serve("hello", "world");
        client.expect_reply(name, "world");
        assert_eq!(client.lookup(name), "200");
    }
    assert_eq!(client.ask("mmi.", "x"), "501");
}

#[test]
fn am_08_silence_of_a_busy_worker_is_not_its_death() {
    let node = NodeProcess::start(&FAST);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, V01);
        client.request("echo", "long job");
        let address = worker.expect_work_after_heartbeats("long job");

        // Three times as long as an idle worker may be silent.
        client.socket.expect_silence(Duration::from_millis(1_650));

        worker.answer(&address, "done");
        client.expect_reply("echo", "done");
        worker.heartbeat();
        assert_eq!(client.lookup("echo"), "200");
        worker.disconnect();
        client.wait_for_lookup("echo", "404");
    }
}

#[test]
fn am_08_worker_that_heartbeats_while_busy_is_held_to_it() {
    let node = NodeProcess::start(&FAST);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "job");
    let _held = worker.expect_work_after_heartbeats("job");

    // The first heartbeat after the hand-over may have crossed the request; later ones tell.
    for _ in 0..3 {
        worker.expect_heartbeat();
        worker.heartbeat();
    }
    let last_heard = Instant::now();

    worker.expect_disconnect_after_heartbeats();
    let lived = last_heard.elapsed();
    assert!(lived >= Duration::from_millis(300), "it expired after {lived:?}");
    assert_eq!(client.lookup("echo"), "404");
}

#[test]
fn am_08_busy_timeout_ends_a_silent_worker() {
    let node = NodeProcess::start(&[FAST[0], ("broker.busy_timeout", "300ms")]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "job");
    let _held = worker.expect_work_after_heartbeats("job");

    worker.expect_disconnect_after_heartbeats();

    assert_eq!(client.lookup("echo"), "404");
}

#[test]
fn am_08_busy_timeout_counts_from_the_hand_over() {
    let settings =
        [FAST[0], ("broker.heartbeat_liveness", "100"), ("broker.busy_timeout", "600ms")];
    let node = NodeProcess::start(&settings);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    // An idle worker may be silent for ten seconds here.
    client.socket.expect_silence(Duration::from_millis(500));
    let handed_over = Instant::now();
    client.request("echo", "job");

    let _held = worker.expect_work_after_heartbeats("job");
    worker.expect_disconnect_after_heartbeats();

    let worked = handed_over.elapsed();
    assert!(worked >= Duration::from_millis(600), "it expired after {worked:?}");
}

#[test]
fn am_09_request_is_tried_at_most_max_attempts_times() {
    let node = NodeProcess::start(&[QUIET, ("broker.max_attempts", "2")]);
    let client = RawClient::connect(&node, V01);
    client.request("echo", "poison");
    for _ in 0..2 {
        let victim = RawWorker::register(&node, V01, "echo");
        let _held = victim.expect_work("poison");
        victim.disconnect();
        victim.settle();
    }

    RawWorker::register(&node, V01, "echo").settle();

    client.settle();
}

#[test]
fn am_09_at_most_once_is_never_tried_again() {
    let file = "[[service]]\npattern = \"pay.*\"\ndelivery = \"at-most-once\"\n";
    let node = NodeProcess::start_with_file(&[QUIET], file);
    let client = RawClient::connect(&node, V01);
    let lost = RawWorker::register(&node, V01, "pay.card");
    client.request("pay.card", "100");
    let _held = lost.expect_work("100");

    lost.disconnect();
    lost.settle();

    RawWorker::register(&node, V01, "pay.card").settle();
    client.settle();
}

#[test]
fn am_10_client_hears_nothing_of_an_expired_request() {
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "50ms")]);
    for version in Version::BOTH {
        let client = RawClient::connect(&node, version);

        client.request("echo", "hello");

        client.expect_silence();
    }
}

#[test]
fn am_11_names_are_one_to_255_bytes() {
    let node = NodeProcess::start(&[QUIET]);
    let (longest, too_long) = (vec![b'n'; 255], vec![b'n'; 256]);
    for version in Version::BOTH {
        let client = RawClient::connect(&node, version);
        for name in [b"".as_slice(), &too_long] {
            let worker = RawWorker::connect(&node, version);
            worker.ready(name);
            worker.expect_disconnect();
            worker.settle();
            client.request(name, "dropped");
            assert_eq!(client.lookup(name), "404");
        }
        for name in [longest.as_slice(), b"\0", b"\xff\xfe", b" ", "dienst-\u{fc}".as_bytes()] {
            let worker = RawWorker::register(&node, version, name);
            client.request(name, "hello");
            worker.serve("hello", "world");
            client.expect_reply(name, "world");
            worker.disconnect();
        }
    }
}

#[test]
fn am_12_envelope_stack_is_restored() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = ReqClient::correlated(&node);

    for body in ["first", "second"] {
        client.request("echo", body);
        worker.serve(body, body);
        client.expect_reply("echo", body);
    }
}

#[test]
fn am_12_envelope_of_eight_frames_is_the_deepest() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    let with_envelope = |depth: u8| {
        let mut message: Vec<Vec<u8>> = (1..=depth).map(|hop| vec![hop]).collect();
        message.extend(frames![b"", b"MDPC01", b"echo", [depth]]);
        message
    };

    for depth in 1..=8 {
        client.socket.send(&with_envelope(depth));
        worker.serve([depth], [depth]);
        client.socket.expect(&with_envelope(depth));
    }
    client.socket.send(&with_envelope(9));

    client.settle();
    worker.settle();
}

#[test]
fn am_13_worker_may_answer_only_the_token_it_holds() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let honest = RawWorker::register(&node, version, "echo");
        let forger = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, version);
        client.request("echo", "1");
        let address = honest.expect_work("1");
        client.request("echo", "2");
        let own = forger.expect_work("2");
        assert_ne!(address, own);

        forger.answer(&address, "forged");

        forger.expect_disconnect();
        client.settle();
        honest.answer(&address, "honest");
        client.expect_reply("echo", "honest");
        // The forger's own request was given back.
        honest.serve("2", "served");
        client.expect_reply("echo", "served");
        honest.disconnect();
        honest.settle();
    }
}

#[test]
fn am_13_altered_address_is_refused() {
    for (kept, added) in [(0, ""), (15, ""), (16, "x")] {
        let node = NodeProcess::start(&[QUIET]);
        let (worker, client) =
            (RawWorker::register(&node, V01, "echo"), RawClient::connect(&node, V01));
        client.request("echo", "hello");
        let address = worker.expect_work("hello");

        worker.answer(&[&address[..kept], added.as_bytes()].concat(), "world");

        worker.expect_disconnect();
        client.settle();
    }
}

#[test]
fn am_14_expired_worker_is_told() {
    let node = NodeProcess::start(&FAST);
    for version in Version::BOTH {
        RawWorker::register(&node, version, "echo").expect_disconnect_after_heartbeats();
    }
}

#[test]
fn am_15_ready_from_a_registered_connection_is_a_second_ready() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect_as(&node, V01, b"fixed");
    worker.ready("echo");
    worker.expect_heartbeat();

    worker.ready("echo");

    worker.expect_disconnect();
    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "404");
}

#[test]
fn am_15_worker_that_comes_back_under_its_routing_id_is_a_new_worker_at_once() {
    let node = NodeProcess::start(&[QUIET]);
    let before = RawWorker::connect_as(&node, V01, b"fixed");
    before.ready("echo");
    before.expect_heartbeat();
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let held = before.expect_work("hello");

    // The node has not noticed anything of the first connection, and needs not.
    let after = RawWorker::connect_as(&node, V01, b"fixed");
    after.ready("echo");
    after.expect_heartbeat();
    client.request("echo", "to the new one");
    after.serve("to the new one", "from the new one");
    client.expect_reply("echo", "from the new one");

    // Two connections are two workers, whatever they call themselves.
    before.answer(&held, "from the old one");
    client.expect_reply("echo", "from the old one");
    drop(before);
    after.settle();
    assert_eq!(client.lookup("echo"), "200");
}

#[test]
fn am_16_heartbeat_and_disconnect_tolerate_extra_frames() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let longer = |mut message: Vec<Vec<u8>>| {
            message.extend(frames![b"extra", b""]);
            message
        };

        worker.socket.send(&longer(version.heartbeat()));
        worker.settle();
        assert_eq!(client.lookup("echo"), "200");
        worker.socket.send(&longer(version.disconnect()));

        worker.settle();
        assert_eq!(client.lookup("echo"), "404");
    }
}

#[test]
fn am_17_answer_is_in_the_version_of_the_request() {
    let node = NodeProcess::start(&[QUIET]);
    for (client_version, worker_version) in [(V01, V01), (V01, V02), (V02, V01), (V02, V02)] {
        let worker = RawWorker::register(&node, worker_version, "echo");
        let client = RawClient::connect(&node, client_version);

        client.request("echo", "hello");
        worker.serve("hello", "world");

        client.expect_reply("echo", "world");
        worker.disconnect();
        worker.settle();
    }
}

#[test]
fn am_17_one_connection_may_use_both_versions() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawSocket::dealer(&node);

    for version in [V01, V02, V01] {
        client.send(&version.request("echo", &[b"hello"]));
        worker.serve("hello", "world");
        client.expect(&version.reply("echo", &[b"world"]));
    }
}

#[test]
fn am_17_partials_for_an_old_client_become_one_reply() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");

    worker.socket.send(&V02.partial(&address, &[b"1", b"2"]));
    worker.partial(&address, "3");
    worker.settle();
    client.settle();
    worker.answer(&address, "4");

    client.socket.expect(&V01.reply("echo", &[b"1", b"2", b"3", b"4"]));
}

#[test]
fn am_18_old_worker_answers_a_new_client_with_one_final() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "hello");

    worker.serve("hello", "world");

    client.socket.expect(&frames![b"MDPC02", b"\x03", b"echo", b"world"]);
    client.settle();
}

#[test]
fn am_19_mmi_answer_in_02_is_one_final() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawSocket::dealer(&node);
    for (name, code) in [("mmi.service", "404"), ("mmi.nothing", "501")] {
        client.send(&frames![b"MDPC02", b"\x01", name, b"echo"]);

        client.expect(&frames![b"MDPC02", b"\x03", name, code]);
    }
}

#[test]
fn am_20_requests_of_one_client_keep_their_order() {
    let node = NodeProcess::start(&[QUIET]);
    let (one, two) = (RawClient::connect(&node, V01), RawClient::connect(&node, V02));
    for number in 0..50_u8 {
        one.request("echo", [1, number]);
        two.request("echo", [2, number]);
    }
    one.settle();
    two.settle();

    let worker = RawWorker::register(&node, V01, "echo");

    let mut next = [0, 0, 0];
    for _ in 0..100 {
        let work = worker.socket.recv();
        let [client, number] = work[5][..] else { panic!("{work:?}") };
        assert_eq!(number, next[usize::from(client)]);
        next[usize::from(client)] += 1;
        assert!(next[1].abs_diff(next[2]) <= 1, "round robin: {next:?}");
        worker.answer(&work[3], [client, number]);
    }
    for number in 0..50_u8 {
        one.expect_reply("echo", [1, number]);
        two.expect_reply("echo", [2, number]);
    }
}
