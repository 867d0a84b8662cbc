//! A process that stood still blames nobody, and time never runs backwards.

use std::time::Duration;

use mdp_broker::WorkerEnd;

use crate::{
    effects::{heartbeat, paused, worker_down},
    support::{BrokerTest, EXPIRY, INTERVAL, peer},
};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn nobody_expires_for_a_pause_of_the_process() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "other", "waits");

    test.skip(HOUR);
    test.handle_timeout();

    // Both deadlines moved by the pause: the heartbeat is due now, and nothing else is.
    assert_eq!(test.effects(), [paused(HOUR - INTERVAL), heartbeat("w1")]);
    assert_eq!(test.broker.counters().pauses, 1);
    assert_eq!(test.broker.gauges().queued_requests, 1);
}

#[test]
fn deadlines_go_on_after_a_pause_where_they_stood() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.skip(HOUR);
    test.handle_timeout();
    test.effects();

    test.advance(EXPIRY - INTERVAL - Duration::from_millis(1));
    let before = test.broker.gauges().workers;
    test.advance(Duration::from_millis(1));

    assert_eq!(before, 1);
    assert!(test.effects().contains(&worker_down("w1", "echo", WorkerEnd::Expired)));
}

#[test]
fn pause_is_noticed_by_whatever_comes_first() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.skip(HOUR);
    test.heartbeat("w1");

    assert_eq!(test.effects(), [paused(HOUR - INTERVAL)]);
}

#[test]
fn timer_that_is_late_by_less_than_an_interval_is_no_pause() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.skip(INTERVAL * 2);
    test.handle_timeout();

    assert_eq!(test.effects(), [heartbeat("w1")]);
    assert_eq!(test.broker.counters().pauses, 0);
}

#[test]
fn only_the_time_since_the_last_call_is_taken_out() {
    // The process was awake two seconds after the deadline, and then stood still.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.skip(INTERVAL + Duration::from_secs(2));
    test.heartbeat("w1");
    assert_eq!(test.effects(), []);

    test.skip(HOUR);
    test.handle_timeout();
    let at_once = test.effects();
    test.advance(INTERVAL);

    assert_eq!(at_once, [paused(HOUR), heartbeat("w1")]);
    assert_eq!(test.effects(), [heartbeat("w1")]);
}

#[test]
fn idle_broker_cannot_be_paused() {
    let mut test = BrokerTest::new();

    test.skip(HOUR);
    test.ready("w1", "echo");

    assert_eq!(test.broker.counters().pauses, 0);
    assert_eq!(test.broker.gauges().workers, 1);
}

#[test]
fn earlier_time_counts_as_the_one_before() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    let earlier = test.now();
    test.advance(INTERVAL);
    let due = test.broker.poll_timeout();
    test.effects();

    test.broker.handle_timeout(earlier);
    let lost = mdp_broker::Input::PeerLost { peer: peer("nobody"), unsent: None };
    test.broker.handle_input(earlier, lost);

    assert_eq!(test.broker.poll_effect(), None);
    assert_eq!(test.broker.poll_timeout(), due);
    assert_eq!(test.elapsed(), INTERVAL);
}
