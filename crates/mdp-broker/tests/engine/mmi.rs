//! 8/MMI: what the broker answers itself.

use std::time::Duration;

use mdp_broker::{Effect, Extensions, Input, OnNoQuorum, Page, QueryId, Settings, Subject};
use mdp_catalog::{CatalogEntry, Epoch, Incarnation, NodeName, Seq};

use crate::{
    effects::{lookup, reply},
    support::{BrokerTest, Cluster, node_up, peer, service},
};

fn describe(query: u64, page: Page, asker: &str) -> Effect<Vec<u8>> {
    Effect::Describe {
        query: QueryId(query),
        page,
        asker: peer(asker),
        subject: Subject::Unrestricted,
    }
}

#[test]
fn service_is_200_while_a_worker_is_registered_idle_or_busy() {
    // MMI8-04, AM-05, AM-19.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.request("c1", "mmi.service", "echo");
    let idle = test.effects();
    test.request("c2", "echo", "x");
    test.effects();
    test.request("C1", "mmi.service", "echo");

    assert_eq!(idle, [lookup(1, "echo"), reply("c1", "mmi.service", "200")]);
    assert_eq!(test.effects(), [lookup(2, "echo"), reply("C1", "mmi.service", "200")]);
}

#[test]
fn service_is_404_before_the_first_and_after_the_last_worker() {
    let mut test = BrokerTest::new();

    test.request("c1", "mmi.service", "echo");
    let before = test.effects();
    test.worker("w1", "echo");
    test.disconnect("w1");
    test.effects();
    test.request("c1", "mmi.service", "echo");

    assert_eq!(before, [lookup(1, "echo"), reply("c1", "mmi.service", "404")]);
    assert_eq!(test.effects(), [lookup(2, "echo"), reply("c1", "mmi.service", "404")]);
    assert_eq!(test.broker.gauges().services, 0);
}

#[test]
fn requests_that_wait_do_not_make_a_service() {
    let mut test = BrokerTest::new();
    test.request("c1", "echo", "x");

    test.request("c1", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "404")]);
}

#[test]
fn service_of_another_node_is_200() {
    let mut test = BrokerTest::new();
    let node: NodeName = "node-2".parse().unwrap();
    test.apply(node_up(&node, Epoch(0)));
    let incarnation = Incarnation { node, epoch: Epoch(2) };
    test.apply(CatalogEntry::Offer { incarnation, seq: Seq(1), services: vec![service("far")] });

    test.request("c1", "mmi.service", "far");

    assert_eq!(test.effects(), [lookup(1, "far"), reply("c1", "mmi.service", "200")]);
}

#[test]
fn last_body_frame_is_the_name() {
    // AM-04.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.request("c1", "mmi.service", "other|echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "200")]);
}

#[test]
fn name_that_nobody_can_register_is_404_at_once() {
    // AM-06.
    let mut test = BrokerTest::new();
    test.cluster = Cluster::NoQuorum;
    let long = "x".repeat(256);

    for name in ["mmi.service", "mmi.", "", &long] {
        test.request("c1", "mmi.service", name);
        assert_eq!(test.effects(), [reply("c1", "mmi.service", "404")]);
    }

    assert_eq!(test.broker.counters().mmi_requests, 4);
}

#[test]
fn every_other_name_is_501_without_a_quorum() {
    // MMI8-05, AM-07.
    let mut test = BrokerTest::new();
    test.cluster = Cluster::NoQuorum;

    for name in ["mmi.", "mmi.services", "mmi.Service", "mmi.service ", "mmi.x"] {
        test.request("C1", name, "echo");
        assert_eq!(test.effects(), [reply("C1", name, "501")]);
    }

    assert_eq!(test.broker.gauges().services, 0);
    assert_eq!(test.broker.poll_timeout(), None);
}

#[test]
fn mmi_name_is_no_service_of_a_worker() {
    let mut test = BrokerTest::new();

    test.request("c1", "MMI.service", "echo");
    test.request("c1", "mmi", "echo");

    assert_eq!(test.effects(), []);
    assert_eq!(test.broker.gauges().queued_requests, 2);
}

#[test]
fn without_quorum_service_is_503() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.cluster = Cluster::NoQuorum;

    test.request("c1", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "503")]);
}

#[test]
fn without_an_answer_in_time_service_is_503_and_the_late_answer_is_ignored() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.request("c1", "mmi.service", "echo");
    test.advance(Duration::from_millis(250));
    test.request("c2", "mmi.service", "echo");
    assert_eq!(test.effects(), [lookup(1, "echo"), lookup(2, "echo")]);

    test.advance(Duration::from_millis(250));
    let first = test.effects();
    test.advance(Duration::from_millis(250));
    let second = test.effects();
    test.release_cluster();

    assert_eq!(first, [reply("c1", "mmi.service", "503")]);
    assert_eq!(second, [reply("c2", "mmi.service", "503")]);
    assert_eq!(test.effects(), []);
}

#[test]
fn silence_can_be_chosen_instead_of_503() {
    let mut test =
        BrokerTest::with(Settings { on_no_quorum: OnNoQuorum::Silent, ..Settings::default() });
    test.cluster = Cluster::NoQuorum;

    test.request("c1", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo")]);
}

#[test]
fn answers_do_not_wait_behind_requests() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    for _ in 0..100 {
        test.request("c1", "echo", "x");
    }
    test.effects();

    test.request("c1", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "200")]);
}

#[test]
fn echo_returns_the_body() {
    let mut test = BrokerTest::new();

    test.request("c1", "mmi.echo", "a||b");

    assert_eq!(test.effects(), [reply("c1", "mmi.echo", "a||b")]);
}

#[test]
fn pages_are_200_and_json() {
    let pages = [
        ("mmi.directory", Page::Directory),
        ("mmi.endpoints", Page::Endpoints),
        ("mmi.status", Page::Status),
    ];
    for (name, page) in pages {
        let mut test = BrokerTest::new();

        test.request("C1", name, "");

        assert_eq!(test.effects(), [describe(1, page, "C1"), reply("C1", name, "200|{}")]);
    }
}

#[test]
fn page_that_is_not_written_in_time_is_503() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.request("c1", "mmi.status", "");
    assert_eq!(test.effects(), [describe(1, Page::Status, "c1")]);

    test.advance(Duration::from_millis(499));
    assert_eq!(test.effects(), []);
    test.advance(Duration::from_millis(1));
    test.input(Input::Described { query: QueryId(1), json: b"{}".to_vec() });

    assert_eq!(test.effects(), [reply("c1", "mmi.status", "503")]);
}

#[test]
fn extensions_can_be_turned_off() {
    let settings = Settings { extensions: Extensions::Off, ..Settings::default() };
    let mut test = BrokerTest::with(settings);

    for name in ["mmi.directory", "mmi.endpoints", "mmi.status", "mmi.echo"] {
        test.request("c1", name, "x");
        assert_eq!(test.effects(), [reply("c1", name, "501")]);
    }
    test.request("c1", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "404")]);
}

/// Titanic (9/TSP) gives up after a second, and Java's ends then: the answer must come well before.
#[test]
fn service_query_that_the_cluster_does_not_answer_is_503_after_half_a_second() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.request("c1", "mmi.service", "echo");
    assert_eq!(test.effects(), [lookup(1, "echo")]);

    test.advance(Duration::from_millis(499));
    assert_eq!(test.effects(), []);
    test.advance(Duration::from_millis(1));

    assert_eq!(test.effects(), [reply("c1", "mmi.service", "503")]);
}
