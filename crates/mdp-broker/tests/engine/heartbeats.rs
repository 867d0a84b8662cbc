//! Signs of life in both directions, idle and busy.

use std::time::Duration;

use mdp_broker::WorkerEnd;

use crate::{
    effects::{disconnect, heartbeat, service_down, worker_down, worker_down_with},
    support::{BrokerTest, EXPIRY, INTERVAL, with_policy, with_rule},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const BUSY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

#[test]
fn idle_worker_gets_a_heartbeat_every_interval() {
    // MDP7-44.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.advance(INTERVAL - MILLISECOND);
    assert_eq!(test.effects(), []);

    test.advance(MILLISECOND);
    let first = test.effects();
    test.advance(INTERVAL);

    assert_eq!(first, [heartbeat("w1")]);
    assert_eq!(test.effects(), [heartbeat("w1")]);
}

#[test]
fn no_heartbeat_is_sent_while_requests_flow() {
    // MDP7-43.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    for _ in 0..10 {
        test.advance(Duration::from_secs(1));
        test.request("c1", "echo", "x");
        test.reply("w1", "y");
    }
    let is_heartbeat = |effect: &_| *effect == heartbeat("w1");
    assert!(!test.effects().iter().any(is_heartbeat));

    test.advance(INTERVAL);

    assert_eq!(test.effects(), [heartbeat("w1")]);
}

#[test]
fn busy_worker_gets_heartbeats_too() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.advance(Duration::from_secs(1));
    test.request("c1", "echo", "x");
    test.effects();

    test.advance(INTERVAL * 3);

    assert_eq!(test.effects(), [heartbeat("w1"), heartbeat("w1"), heartbeat("w1")]);
}

#[test]
fn each_version_gets_its_own_heartbeat() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.worker("W2", "echo");

    test.advance(INTERVAL);

    assert_eq!(test.effects(), [heartbeat("w1"), heartbeat("W2")]);
}

#[test]
fn silent_idle_worker_expires_and_is_told() {
    // MDP7-45, AM-14.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.advance(EXPIRY - MILLISECOND);
    test.effects();

    test.advance(MILLISECOND);

    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::Expired),
            service_down("echo"),
            disconnect("w1"),
            test.withdraw(2, "echo"),
        ]
    );
    assert_eq!(test.broker.counters().expired_workers, 1);
}

#[test]
fn silent_worker_expires_whoever_registered_before_it() {
    // protocol.md section 7: a purge that stops at the first live worker.
    let mut test = BrokerTest::new();
    for name in ["w1", "w2", "w3"] {
        test.worker(name, "echo");
    }
    test.advance(INTERVAL * 2);
    test.heartbeat("w1");
    test.heartbeat("w3");
    test.effects();

    test.advance(EXPIRY - INTERVAL * 2);

    assert!(test.effects().contains(&worker_down("w2", "echo", WorkerEnd::Expired)));
    assert_eq!(test.broker.gauges().idle_workers, 2);
}

#[test]
fn every_command_is_a_sign_of_life() {
    // MDP7-42.
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.advance(Duration::from_secs(7));
    test.request("C1", "echo", "x");
    test.partial("W1", "a");
    test.reply("W1", "b");

    test.advance(Duration::from_secs(7));

    assert_eq!(test.broker.gauges().idle_workers, 1);
}

#[test]
fn busy_worker_may_be_silent_until_the_busy_timeout() {
    // AM-08: reference workers do not heartbeat while they work.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");

    test.advance(BUSY_TIMEOUT);
    let still_there = test.broker.gauges().held_requests;
    test.advance(Duration::from_millis(250));

    assert_eq!(still_there, 1);
    assert!(test.effects().contains(&worker_down_with(
        ("w1", "echo"),
        WorkerEnd::Expired,
        ("c1", 1)
    )));
}

#[test]
fn busy_timeout_counts_from_the_hand_over() {
    let mut test = BrokerTest::with(with_policy(|policy| {
        policy.busy_timeout = Duration::from_secs(1);
    }));
    test.worker("w1", "echo");
    test.advance(Duration::from_millis(2_400));
    test.request("c1", "echo", "x");

    test.advance(Duration::from_millis(1_000));
    let still_there = test.broker.gauges().held_requests;
    test.advance(INTERVAL);

    assert_eq!(still_there, 1);
    assert_eq!(test.broker.gauges().held_requests, 0);
}

#[test]
fn busy_worker_that_heartbeats_is_held_to_it() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.advance(INTERVAL);
    test.heartbeat("w1");

    test.advance(EXPIRY - MILLISECOND);
    let still_there = test.broker.gauges().held_requests;
    test.advance(MILLISECOND);

    assert_eq!(still_there, 1);
    assert!(test.effects().contains(&worker_down_with(
        ("w1", "echo"),
        WorkerEnd::Expired,
        ("c1", 1)
    )));
}

#[test]
fn heartbeat_that_crossed_the_request_holds_nobody_to_anything() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.advance(INTERVAL - MILLISECOND);
    test.heartbeat("w1");

    test.advance(Duration::from_secs(60));

    assert_eq!(test.broker.gauges().held_requests, 1);
}

#[test]
fn worker_that_was_busy_for_long_expires_only_after_its_reply() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.advance(Duration::from_secs(60));
    test.reply("w1", "y");

    test.advance(EXPIRY - MILLISECOND);
    let idle = test.broker.gauges().idle_workers;
    test.advance(MILLISECOND);

    assert_eq!(idle, 1);
    assert_eq!(test.broker.gauges().workers, 0);
}

#[test]
fn service_can_have_its_own_interval() {
    let mut test = BrokerTest::with(with_rule("slow.*", |policy| {
        policy.heartbeat_interval = Duration::from_secs(10);
    }));
    test.worker("w1", "slow.job");

    test.advance(Duration::from_secs(9));
    let before = test.effects();
    test.advance(Duration::from_secs(1));

    assert_eq!(before, []);
    assert_eq!(test.effects(), [heartbeat("w1")]);
    assert_eq!(test.broker.gauges().idle_workers, 1);
}

#[test]
fn broker_without_peers_has_nothing_to_wait_for() {
    let mut test = BrokerTest::new();
    assert_eq!(test.broker.poll_timeout(), None);
    test.worker("w1", "echo");
    assert!(test.broker.poll_timeout().is_some());

    test.disconnect("w1");
    test.advance(Duration::from_secs(5));

    assert_eq!(test.broker.poll_timeout(), None);
}
