//! What may wait, and who gives way when it is too much.

use std::{collections::BTreeSet, time::Duration};

use mdp_broker::{DropReason, Settings};
use mdp_wire::ServiceName;

use crate::{
    effects::{heartbeat, reply},
    support::{BrokerTest, with_policy},
};

/// What each request counts besides its envelope and body, as the engine documents it, with the name of
/// its service.
const OVERHEAD_BYTES: usize = 512 + "echo".len();

fn body(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[test]
fn waiting_requests_of_one_client_are_limited() {
    let mut test =
        BrokerTest::with(Settings { max_queued_requests_per_client: 2, ..Settings::default() });
    for name in ["one", "two", "three"] {
        test.request("c1", name, "a");
    }
    test.request("c2", "one", "b");

    let dropped = test.broker.counters().dropped(DropReason::ClientQueueFull);

    assert_eq!(dropped, 1);
    assert_eq!(test.broker.gauges().queued_requests, 3);
    assert_eq!(test.broker.gauges().services, 2);
}

#[test]
fn services_with_waiting_requests_are_found_and_those_of_dropped_ones_are_named() {
    let mut test = BrokerTest::with(with_policy(|policy| policy.max_queued_requests = 2));
    test.worker("w1", "served");
    for service in ["served", "one", "two", "two", "two"] {
        test.request("c1", service, "a");
    }

    let waiting = |test: &BrokerTest, max| -> Vec<(String, usize, usize)> {
        let of = |status: mdp_broker::ServiceStatus| {
            (status.name.to_string(), status.workers, status.queued)
        };
        test.broker.waiting_services(max).into_iter().map(of).collect()
    };
    assert_eq!(waiting(&test, 9), [("two".to_owned(), 0, 2), ("one".to_owned(), 0, 1)]);
    assert_eq!(waiting(&test, 1), [("two".to_owned(), 0, 2)]);
    let name = |text: &str| ServiceName::try_from(text).unwrap();
    let dropped = test.broker.take_dropped_services();
    assert_eq!(dropped, [(DropReason::ServiceQueueFull, vec![name("two")])].into());

    test.advance(Duration::from_secs(61));

    let mut dropped = test.broker.take_dropped_services();
    let expired = dropped.remove(&DropReason::Expired).unwrap();
    assert_eq!(BTreeSet::from_iter(expired), [name("one"), name("two")].into());
    assert!(waiting(&test, 9).is_empty());
}

#[test]
fn waiting_requests_of_one_service_are_limited() {
    let mut test = BrokerTest::with(with_policy(|policy| policy.max_queued_requests = 2));
    for client in ["c1", "c2", "c3"] {
        test.request(client, "echo", "a");
    }

    test.request("c3", "other", "b");

    assert_eq!(test.broker.counters().dropped(DropReason::ServiceQueueFull), 1);
    assert_eq!(test.broker.gauges().queued_requests, 3);
}

#[test]
fn idle_worker_is_given_a_request_whatever_waits_elsewhere() {
    let mut test = BrokerTest::with(Settings { max_queued_requests: 1, ..Settings::default() });
    test.worker("w1", "echo");
    test.request("c1", "other", "a");

    test.request("c1", "echo", "b");

    assert_eq!(test.effects(), [test.work("w1", "b")]);
}

#[test]
fn newest_request_of_the_greediest_client_gives_way() {
    let mut test = BrokerTest::with(Settings { max_queued_requests: 4, ..Settings::default() });
    for text in ["g1", "g2", "g3", "g4"] {
        test.request("greedy", "echo", text);
    }

    test.request("polite", "echo", "p1");
    test.request("greedy", "echo", "g5");
    test.ready("w1", "echo");

    let mut bodies = Vec::new();
    for text in ["g1", "p1", "g2", "g3"] {
        bodies.push(test.work("w1", text));
        let last = test.sends().pop();
        assert_eq!(last, Some(test.work("w1", text)));
        test.reply("w1", "done");
    }
    assert_eq!(test.broker.counters().dropped(DropReason::Shed), 1);
    assert_eq!(test.broker.counters().dropped(DropReason::QueueFull), 1);
    assert_eq!(test.broker.gauges().queued_requests, 0);
}

#[test]
fn bytes_of_waiting_and_held_requests_are_counted_exactly() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.request_from("c1", &["id"], "echo", "abc|de");
    test.request("C2", "echo", "f");
    let both = test.broker.gauges();
    test.reply("w1", "done");
    let one = test.broker.gauges().queued_bytes;
    test.reply("w1", "done");

    assert_eq!(both.queued_bytes, 2 * OVERHEAD_BYTES + 2 + 5 + 1);
    assert_eq!((both.held_requests, both.queued_requests), (1, 1));
    assert_eq!(one, OVERHEAD_BYTES + 1);
    assert_eq!(test.broker.gauges().queued_bytes, 0);
}

#[test]
fn byte_budget_is_kept_by_shedding_the_greediest() {
    let max_queued_bytes = 20_000;
    let mut test = BrokerTest::with(Settings { max_queued_bytes, ..Settings::default() });
    for _ in 0..3 {
        test.request("greedy", "echo", &body(5_000));
    }

    test.request("polite", "echo", &body(5_000));

    assert_eq!(test.broker.counters().dropped(DropReason::Shed), 1);
    assert_eq!(test.broker.gauges().queued_bytes, 3 * (5_000 + OVERHEAD_BYTES));
}

#[test]
fn request_gets_the_place_that_was_made_for_it_in_its_own_service() {
    // The service is left without requests for a moment, and must not be forgotten in it.
    let max_queued_bytes = 20_000;
    let mut test = BrokerTest::with(Settings { max_queued_bytes, ..Settings::default() });
    test.request("greedy", "echo", &body(18_000));

    test.request("polite", "echo", &body(2_000));
    test.ready("w1", "echo");

    assert_eq!(test.sends(), [heartbeat("w1"), test.work("w1", &body(2_000))]);
    assert_eq!(test.broker.counters().dropped(DropReason::Shed), 1);
    assert_eq!(test.broker.counters().dropped(DropReason::Expired), 0);
}

#[test]
fn client_that_would_be_the_greediest_itself_gets_no_room() {
    let max_queued_bytes = 20_000;
    let mut test = BrokerTest::with(Settings { max_queued_bytes, ..Settings::default() });
    test.request("small", "echo", &body(1_000));
    test.request("large", "echo", &body(15_000));

    test.request("larger", "echo", &body(16_000));

    assert_eq!(test.broker.counters().dropped(DropReason::Shed), 1);
    assert_eq!(test.broker.gauges().queued_bytes, 1_000 + 15_000 + 2 * OVERHEAD_BYTES);
}

#[test]
fn requests_for_too_many_services_are_dropped() {
    let mut test = BrokerTest::with(Settings { max_services: 2, ..Settings::default() });
    for name in ["one", "two", "three"] {
        test.request("c1", name, "a");
    }

    test.request("c1", "mmi.echo", "still answered");

    assert_eq!(test.effects(), [reply("c1", "mmi.echo", "still answered")]);
    assert_eq!(test.broker.counters().dropped(DropReason::TooManyServices), 1);
    assert_eq!(test.broker.gauges().services, 2);
}
