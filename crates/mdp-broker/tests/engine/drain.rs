//! Leaving on purpose.

use std::time::Duration;

use mdp_broker::{DropReason, WorkerEnd};
use mdp_catalog::{CatalogEntry, NodeState};

use crate::{
    effects::{disconnect, drained, lookup, reply, service_down, worker_down},
    support::{BrokerTest, Cluster, with_policy},
};

/// No heartbeat is due when it is over.
const TIME: Duration = Duration::from_secs(21);

#[test]
fn idle_broker_is_drained_at_once() {
    let mut test = BrokerTest::new();

    test.drain(TIME);

    assert_eq!(test.effects(), [test.leaves(1), drained(0, 0)]);
    assert_eq!(test.broker.poll_timeout(), None);
}

#[test]
fn idle_and_waiting_workers_are_told_at_once() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.cluster = Cluster::Withholds;
    test.ready("W2", "echo");
    test.effects();

    test.drain(TIME);

    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::Draining),
            service_down("echo"),
            disconnect("w1"),
            worker_down("W2", "echo", WorkerEnd::Draining),
            disconnect("W2"),
            test.leaves(2),
            drained(0, 0),
        ]
    );
}

#[test]
fn busy_worker_is_told_after_its_reply() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.effects();

    test.drain(TIME);
    let before = test.effects();
    test.reply("w1", "y");

    assert_eq!(before, [test.leaves(2)]);
    assert_eq!(
        test.effects(),
        [
            reply("c1", "echo", "y"),
            worker_down("w1", "echo", WorkerEnd::Draining),
            service_down("echo"),
            disconnect("w1"),
            test.withdraw(3, "echo"),
            drained(1, 0),
        ]
    );
}

#[test]
fn waiting_requests_are_finished_by_the_workers_that_are_busy() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.drain(TIME);
    test.effects();

    test.reply("w1", "A");
    let first = test.effects();
    test.reply("w1", "B");

    assert_eq!(first, [reply("c1", "echo", "A"), test.work("w1", "b")]);
    assert_eq!(test.effects().pop(), Some(drained(2, 0)));
}

#[test]
fn waiting_requests_that_nobody_serves_are_dropped_and_counted() {
    let mut test = BrokerTest::new();
    test.request("c1", "nobody", "a");
    test.request("c1", "nobody", "b");

    test.drain(TIME);

    assert_eq!(test.effects(), [test.leaves(1), drained(0, 2)]);
    assert_eq!(test.broker.counters().dropped(DropReason::Draining), 2);
    assert_eq!(test.broker.gauges().services, 0);
}

#[test]
fn waiting_requests_are_dropped_when_their_last_worker_is_lost() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.drain(TIME);
    test.effects();

    test.lost("w1");

    assert_eq!(test.effects().pop(), Some(drained(0, 2)));
    assert_eq!(test.broker.gauges().queued_bytes, 0);
}

#[test]
fn new_requests_are_dropped_and_mmi_is_still_answered() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.drain(TIME);
    test.effects();

    test.request("c2", "echo", "y");
    test.request("c2", "mmi.service", "echo");

    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c2", "mmi.service", "200")]);
    assert_eq!(test.broker.counters().dropped(DropReason::Draining), 1);
}

#[test]
fn ready_gets_disconnect_a_little_later() {
    // A reference worker comes back at once; behind a balancer it should find another node.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.drain(TIME);
    test.effects();

    test.ready("w2", "echo");
    test.effects();
    test.advance(Duration::from_millis(249));
    let before = test.effects();
    test.advance(Duration::from_millis(1));

    assert_eq!(before, []);
    assert_eq!(test.effects(), [disconnect("w2")]);
}

#[test]
fn what_is_not_finished_at_the_deadline_is_dropped() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.drain(TIME);
    test.advance(TIME - Duration::from_millis(1));
    test.effects();

    test.advance(Duration::from_millis(1));

    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::Draining),
            service_down("echo"),
            disconnect("w1"),
            test.withdraw(3, "echo"),
            drained(0, 2),
        ]
    );
    assert_eq!(test.broker.gauges(), mdp_broker::Gauges::default());
}

#[test]
fn worker_that_finds_only_expired_requests_is_told_too() {
    // The reply is read before the timer of the request that waited too long.
    let mut test = BrokerTest::with(with_policy(|policy| {
        policy.request_ttl = Duration::from_secs(1);
    }));
    test.worker("w1", "echo");
    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.drain(TIME);
    test.effects();

    test.skip(Duration::from_secs(2));
    test.reply("w1", "A");

    assert_eq!(
        test.effects(),
        [
            reply("c1", "echo", "A"),
            worker_down("w1", "echo", WorkerEnd::Draining),
            service_down("echo"),
            disconnect("w1"),
            test.withdraw(3, "echo"),
            drained(1, 1),
        ]
    );
}

#[test]
fn leaving_is_said_until_the_catalog_knows() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.cluster = Cluster::NoQuorum;
    test.effects();

    test.drain(TIME);
    let first = test.effects();
    test.advance(Duration::from_secs(1));
    let second = test.effects();
    test.cluster = Cluster::Answers;
    test.advance(Duration::from_secs(1));
    let third = test.effects();
    test.advance(Duration::from_secs(1));

    assert_eq!([first, second, third], [2, 3, 4].map(|seq| vec![test.leaves(seq)]));
    assert_eq!(test.effects().len(), 1, "a heartbeat");
    let record = test.catalog.node(&test.incarnation().node).unwrap();
    assert_eq!(record.state, NodeState::Draining);
}

#[test]
fn draining_node_whose_life_was_ended_offers_nothing_anew() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.drain(TIME);
    test.effects();

    test.apply(CatalogEntry::NodeGone { incarnation: test.incarnation() });

    assert_eq!(test.effects(), []);
}

#[test]
fn second_drain_changes_nothing() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.drain(TIME);
    test.effects();

    test.drain(Duration::ZERO);
    test.advance(Duration::from_secs(2));

    assert_eq!(test.effects(), []);
    assert_eq!(test.broker.gauges().held_requests, 1);
}
