//! A node without a quorum for long: `cluster.minority`.

use mdp_broker::{DropReason, Input, Minority, Settings, WorkerEnd};

use crate::{
    effects::{disconnect, service_down, worker_down},
    support::{BrokerTest, Cluster, with_rule},
};

fn failing() -> BrokerTest {
    BrokerTest::with(Settings { minority: Minority::Fail, ..Settings::default() })
}

#[test]
fn isolated_node_serves_on_by_default() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.input(Input::Isolated);

    assert_eq!(test.effects(), []);
    assert_eq!(test.broker.gauges().idle_workers, 1);
}

#[test]
fn isolated_node_that_is_to_fail_sends_every_worker_away() {
    let mut test = failing();
    test.worker("w1", "echo");
    test.cluster = Cluster::NoQuorum;
    test.ready("W2", "echo");
    test.effects();

    test.input(Input::Isolated);

    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::Isolated),
            service_down("echo"),
            disconnect("w1"),
            worker_down("W2", "echo", WorkerEnd::Isolated),
            disconnect("W2"),
            test.withdraw(2, "echo"),
        ]
    );
    assert_eq!(test.broker.gauges().workers, 0);
}

#[test]
fn request_of_a_worker_sent_away_waits_for_the_next_one() {
    let mut test = failing();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.worker("w2", "echo");
    test.effects();

    test.input(Input::Isolated);
    let gauges = test.broker.gauges();
    test.effects();
    test.worker("w3", "echo");

    // Not handed to the idle worker, which goes too: that would have used up an attempt.
    assert_eq!((gauges.queued_requests, gauges.held_requests), (1, 0));
    assert_eq!(test.broker.gauges().held_requests, 1);
    assert_eq!(test.broker.counters().dispatched, 2);
}

#[test]
fn request_that_may_be_done_only_once_is_dropped_with_its_worker() {
    let settings = with_rule("once", |policy| {
        policy.delivery = mdp_broker::Delivery::AtMostOnce;
    });
    let mut test = BrokerTest::with(Settings { minority: Minority::Fail, ..settings });
    test.worker("w1", "once");
    test.request("c1", "once", "x");

    test.input(Input::Isolated);

    assert_eq!(test.broker.counters().dropped(DropReason::OutcomeUnknown), 1);
}

#[test]
fn ready_of_an_isolated_node_stays_unacknowledged() {
    let mut test = failing();
    test.cluster = Cluster::NoQuorum;
    test.input(Input::Isolated);

    test.ready("w1", "echo");

    assert_eq!(test.sends(), []);
    test.cluster = Cluster::Answers;
    test.advance(std::time::Duration::from_secs(1));
    assert_eq!(test.sends(), [crate::effects::heartbeat("w1")]);
}
