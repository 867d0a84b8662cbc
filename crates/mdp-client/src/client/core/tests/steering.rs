//! Which broker fresh requests go to, in virtual time.

use super::*;
use crate::brokers::LISTING_RETRIED_AFTER;

/// A client of these endpoints whose first request is sent to "a" and not answered.
fn connected(endpoints: &[&str]) -> (CoreTest, ConnectionId) {
    let mut test = CoreTest::new(Version::V01, endpoints);
    test.submit(Lane::Shared);
    let connection = test.up("a");
    (test, connection)
}

#[test]
fn endpoints_are_asked_when_a_connection_comes_up_and_then_while_requests_are_made() {
    let (mut test, connection) = connected(&["a"]);
    assert_eq!(test.asked, [connection]);
    test.list(connection, &["a"]);

    test.advance(REFRESH - Duration::from_millis(1));
    test.submit(Lane::Shared);
    assert_eq!(test.asked.len(), 1, "it is not yet time");
    test.advance(Duration::from_millis(1));
    assert_eq!(test.asked.len(), 1, "no request is made");
    test.submit(Lane::Shared);

    assert_eq!(test.asked, [connection; 2]);
}

#[test]
fn broker_without_endpoints_is_left_alone_for_a_while() {
    let (mut test, connection) = connected(&["a"]);
    test.answer_listing(connection, &["501"]);

    test.advance(REFRESH * 2);
    test.submit(Lane::Shared);
    test.down("a");
    test.up("a");

    assert_eq!(test.asked.len(), 1);
    assert_eq!(test.sent.len(), 4);
    test.advance(LISTING_RETRIED_AFTER);
    test.submit(Lane::Shared);
    test.up("a");
    assert_eq!(test.asked.len(), 2, "it may have been replaced by one that has them");
}

#[test]
fn broker_that_answers_only_requests_is_left_alone_for_a_while() {
    let (mut test, connection) = connected(&["a"]);
    test.answer(connection, test.sent[0].1.clone());

    test.advance(REFRESH);
    test.submit(Lane::Shared);
    test.down("a");
    test.up("a");

    assert_eq!(test.asked.len(), 1);
    test.advance(LISTING_RETRIED_AFTER);
    test.submit(Lane::Shared);
    test.up("a");
    assert_eq!(test.asked.len(), 2, "the question may have been lost");
}

#[test]
fn question_that_was_not_answered_is_asked_again_on_the_same_connection() {
    let (mut test, connection) = connected(&["a"]);
    test.answer(connection, test.sent[0].1.clone());
    test.advance(REFRESH);
    test.submit(Lane::Shared);
    assert_eq!(test.asked, [connection]);
    test.answer(connection, test.sent[1].1.clone());

    test.advance(LISTING_RETRIED_AFTER);
    test.submit(Lane::Shared);

    assert_eq!(test.asked, [connection; 2]);
}

#[test]
fn learning_can_be_turned_off() {
    let off = CoreSettings {
        endpoints_refresh: Duration::ZERO,
        return_interval: Duration::ZERO,
        ..settings(Version::V01, &["a"])
    };
    let mut test = CoreTest::with(off);
    test.submit(Lane::Exclusive);
    test.up("a");
    test.advance(TIMEOUT * 10);
    test.submit(Lane::Exclusive);

    assert!(test.asked.is_empty());
}

#[test]
fn own_call_of_mmi_endpoints_gets_its_answer() {
    let mut test = CoreTest::new(Version::V01, &["a"]);
    let service = ServiceName::try_from("mmi.endpoints").unwrap();
    let (lane, body, is_idempotent) = (Lane::Exclusive, vec![b"".to_vec()], true);
    test.core.submit(
        test.now,
        NewRequest { lane, service, body, is_idempotent, timeout: None, attempts: None },
    );
    test.run_effects();
    let connection = test.up("a");

    test.list(connection, &["a"]);
    assert!(test.done.is_empty(), "the first answer is that to the client's own question");
    test.list(connection, &["a"]);

    assert!(test.done[0].1.is_ok());
}

#[test]
fn client_leaves_a_broker_that_leaves_without_sending_anything_twice() {
    let (mut test, old) = connected(&["a", "b", "c"]);
    test.list(old, &["b", "c"]);
    assert_eq!(test.hosts(), ["a", "b"], "a scout");
    test.submit(Lane::Shared);
    assert_eq!(test.sent[1].0, old, "not before another broker answers");

    let new = test.up("b");
    test.list(new, &["b", "c"]);
    test.submit(Lane::Shared);

    assert_eq!(test.sent[2].0, new);
    let outstanding: Vec<_> = test.sent[..2].iter().map(|(_, frames)| frames.clone()).collect();
    for request in outstanding {
        assert!(test.open.contains_key(&old));
        test.answer(old, request);
    }
    assert!(!test.open.contains_key(&old), "the broker need not wait for us");
    let counters = test.core.counters();
    assert_eq!((counters.moves, counters.retries, counters.requests_sent), (1, 0, 3));
}

#[test]
fn client_leaves_a_node_that_leaves_though_no_list_has_its_address() {
    let (mut test, old) = connected(&["a"]);
    test.list_as(old, "n1", &["n1", "n2"]);
    assert_eq!(test.hosts(), ["a"], "it stays at an address that only we use");

    test.advance(REFRESH);
    test.submit(Lane::Shared);
    test.list_as(old, "n1", &["n2"]);
    let new = test.up("n2");
    test.list_as(new, "n2", &["n2"]);
    test.submit(Lane::Shared);

    assert_eq!(test.sent.last().unwrap().0, new);
    assert_eq!((test.core.counters().moves, test.core.counters().retries), (1, 0));
}

#[test]
fn client_goes_back_to_an_address_that_leads_to_another_node_now() {
    let (mut test, old) = connected(&["a"]);
    test.answer(old, test.sent[0].1.clone());
    test.list_as(old, "n1", &["n2"]);
    let elsewhere = test.up("n2");
    test.list_as(elsewhere, "n2", &["n2", "n3"]);
    assert_eq!(test.hosts(), ["n2"]);

    test.advance(RETURN);
    test.submit(Lane::Shared);
    let back = test.up("a");
    test.list_as(back, "n3", &["n2", "n3"]);
    test.submit(Lane::Shared);

    assert_eq!(test.sent.last().unwrap().0, back);
}

#[test]
fn idle_connection_to_a_broker_that_leaves_is_closed_at_once() {
    let (mut test, old) = connected(&["a", "b"]);
    test.answer(old, test.sent[0].1.clone());

    test.list(old, &["b"]);
    let new = test.up("b");
    test.list(new, &["b"]);

    assert_eq!(test.hosts(), ["b"]);
    assert_eq!(test.core.poll_timeout(), None);
}

#[test]
fn broker_that_leaves_too_is_not_moved_to() {
    let (mut test, old) = connected(&["a", "b", "c"]);
    test.list(old, &["b", "c"]);

    let second = test.up("b");
    test.list(second, &["c"]);
    assert_eq!(test.hosts(), ["a", "c"]);
    let third = test.up("c");
    test.list(third, &["c"]);

    test.call("c");
}

#[test]
fn next_scout_starts_beside_one_that_takes_long() {
    let (mut test, old) = connected(&["a"]);
    test.list(old, &["x", "y", "a"]);
    assert_eq!(test.hosts(), ["a"], "no reason to go there");
    test.advance(REFRESH);
    test.submit(Lane::Shared);
    test.list(old, &["x", "y"]);
    assert_eq!(test.hosts(), ["a", "x"]);

    test.advance(Duration::from_millis(250));
    assert_eq!(test.hosts(), ["a", "x", "y"]);
    let new = test.up("y");
    test.list(new, &["x", "y"]);

    assert_eq!(test.hosts(), ["a", "y"], "the old one has a request");
    test.call("y");
}

#[test]
fn unreachable_learned_endpoint_costs_no_request_anything() {
    let (mut test, connection) = connected(&["a"]);
    test.list(connection, &["x", "a"]);

    // "a" restarts.
    test.down("a");
    assert_eq!(test.hosts(), ["a"], "the request stays with what was configured");
    test.down("a");
    assert_eq!(test.hosts(), ["x"], "a scout");
    let pause = test.core.poll_timeout().unwrap() - test.now;
    assert!(pause <= PAUSE, "{pause:?}");
    test.advance(pause);
    assert_eq!(test.hosts(), ["x", "a"]);
    test.up("a");

    assert_eq!((test.hosts(), test.core.counters().requests_sent), (vec!["a"], 2));
    test.call("a");
}

#[test]
fn learned_endpoint_takes_over_when_no_configured_one_is_there() {
    let (mut test, connection) = connected(&["a"]);
    test.list(connection, &["a", "b"]);

    test.down("a");
    test.down("a");
    test.up("b");

    assert_eq!(test.hosts(), ["b"]);
    let counters = test.core.counters();
    assert_eq!((counters.requests_sent, counters.retries), (2, 1), "the lost one went there");
    test.call("b");
}

#[test]
fn request_need_not_wait_for_a_broker_that_does_not_answer_the_connection() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.submit(Lane::Exclusive);
    assert_eq!(test.hosts(), ["a"]);

    test.advance(Duration::from_millis(250));
    assert_eq!(test.hosts(), ["a", "b"]);
    test.up("b");

    assert_eq!((test.hosts(), test.core.counters().requests_sent), (vec!["b"], 1));
}

#[test]
fn client_goes_back_to_a_preferred_broker_that_answers() {
    let (mut test, _) = connected(&["a", "b"]);
    test.down("a");
    let second = test.up("b");
    test.list(second, &["a", "b"]);
    test.advance(RETURN - Duration::from_millis(1));
    test.submit(Lane::Shared);
    assert_eq!(test.hosts(), ["b"], "it is not yet time");

    test.advance(Duration::from_millis(1));
    test.submit(Lane::Shared);
    let first = test.up("a");
    test.submit(Lane::Shared);
    assert_eq!(test.sent.last().unwrap().0, second, "it has not answered");
    test.list(first, &["a", "b"]);

    test.call("a");
    assert_eq!(test.hosts(), ["b", "a"], "what was sent is still awaited");
}

#[test]
fn preferred_broker_that_is_not_back_is_tried_now_and_then() {
    let (mut test, _) = connected(&["a", "b"]);
    test.down("a");
    let second = test.up("b");
    test.answer(second, test.sent[1].1.clone());
    test.list(second, &["a", "b"]);

    let mut tries = 0;
    for _ in 0..100 {
        test.advance(RETURN / 10);
        test.call("b");
        if test.hosts().contains(&"a") {
            tries += 1;
            test.down("a");
        }
    }

    assert!((9..=10).contains(&tries), "{tries}");
    assert_eq!(test.core.counters().moves, 1);
}

#[test]
fn preferred_broker_that_drains_or_is_silent_is_not_gone_back_to() {
    let (mut test, _) = connected(&["a", "b"]);
    test.down("a");
    let second = test.up("b");
    test.answer(second, test.sent[1].1.clone());
    test.list(second, &["b"]);
    test.advance(RETURN);
    test.call("b");
    let scout = test.up("a");
    test.list(scout, &["b"]);
    assert_eq!(test.hosts(), ["b"], "it does not list itself");

    test.advance(RETURN);
    test.call("b");
    test.up("a");
    test.advance(Duration::from_secs(2));

    assert_eq!(test.hosts(), ["b"], "it does not answer");
    test.call("b");
    assert_eq!(test.core.counters().moves, 1);
}

#[test]
fn broker_that_left_a_request_unanswered_is_not_gone_back_to_soon() {
    let (mut test, first) = connected(&["a", "b"]);
    test.list(first, &["a"]);
    test.advance(TIMEOUT);
    let second = test.up("b");
    test.answer(second, test.sent[1].1.clone());
    assert_eq!(test.hosts(), ["b"]);
    // Another broker, not of a cluster with the first one.
    test.list(second, &["b"]);

    test.advance(RETURN * 2);
    test.call("b");
    assert_eq!(test.hosts(), ["b"]);
    test.advance(Duration::from_secs(300));
    test.call("b");

    assert_eq!(test.hosts(), ["b", "a"], "it is tried after some minutes");
}

#[test]
fn preferred_broker_of_another_cluster_is_gone_back_to() {
    let (mut test, first) = connected(&["a", "b"]);
    test.list(first, &["a"]);
    test.down("a");
    let second = test.up("b");
    test.answer(second, test.sent[1].1.clone());
    test.list(second, &["b"]);

    test.advance(RETURN);
    test.call("b");
    let back = test.up("a");
    test.list(back, &["a"]);

    test.call("a");
}

#[test]
fn late_reply_of_the_old_broker_does_not_turn_the_client_back() {
    let (mut test, old) = connected(&["a", "b"]);
    test.list(old, &["b"]);
    let new = test.up("b");
    test.list(new, &["b"]);

    test.answer(old, test.sent[0].1.clone());

    test.call("b");
}
