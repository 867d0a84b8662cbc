//! Which request goes to which worker, and what both see.

use std::time::Duration;

use mdp_broker::{DropReason, Effect, Outgoing};
use mdp_wire::client::{Reply, ReplyCommand};

use crate::{
    effects::{heartbeat, reply, service_up, worker_up},
    support::{BrokerTest, Cluster, body_of, peer, service, with_policy},
};

/// The order in which one worker that answers at once sees the bodies that wait.
fn served(test: &mut BrokerTest, worker: &str, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let work = test.effects().into_iter().find_map(|effect| match effect {
            Effect::Send { message: Outgoing::Worker { message, .. }, .. } => match message {
                mdp_wire::worker::FromBroker::Request { body, .. } => Some(body.concat()),
                mdp_wire::worker::FromBroker::Heartbeat
                | mdp_wire::worker::FromBroker::Disconnect => None,
            },
            Effect::Send { message: Outgoing::Client(_), .. }
            | Effect::Propose(_)
            | Effect::Lookup { .. }
            | Effect::Describe { .. }
            | Effect::ToOwner { .. }
            | Effect::ToOrigin { .. }
            | Effect::Note(_)
            | Effect::Drained(_) => None,
        });
        bodies.push(String::from_utf8(work.expect("work")).unwrap());
        test.reply(worker, "done");
    }
    bodies
}

#[test]
fn request_goes_to_the_worker_and_its_reply_to_the_client() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.request("c1", "echo", "a|b");
    let to_worker = test.effects();
    test.reply("w1", "A|B");

    assert_eq!(to_worker, [test.work("w1", "a|b")]);
    assert_eq!(test.effects(), [reply("c1", "echo", "A|B")]);
    assert_eq!((test.broker.counters().requests, test.broker.counters().replied), (1, 1));
}

#[test]
fn versions_of_client_and_worker_do_not_matter_to_each_other() {
    // AM-17: the answer is in the version of the request.
    for (client, worker) in [("c1", "w1"), ("c1", "W1"), ("C1", "w1"), ("C1", "W1")] {
        let mut test = BrokerTest::new();
        test.worker(worker, "echo");

        test.request(client, "echo", "a");
        let to_worker = test.effects();
        test.reply(worker, "b");

        assert_eq!(to_worker, [test.work(worker, "a")]);
        assert_eq!(test.effects(), [reply(client, "echo", "b")]);
    }
}

#[test]
fn frames_before_the_delimiter_are_given_back() {
    // AM-12.
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request_from("c1", &["proxy", "1234"], "echo", "a");
    test.effects();

    test.reply("w1", "b");

    let message = Outgoing::Client(Reply {
        command: ReplyCommand::Reply,
        envelope: vec![b"proxy".to_vec(), b"1234".to_vec()],
        service: service("echo"),
        body: body_of("b"),
    });
    assert_eq!(test.effects(), [Effect::Send { to: peer("c1"), message }]);
}

#[test]
fn request_waits_for_its_service() {
    // MDP7-16.
    let mut test = BrokerTest::new();
    test.request("c1", "echo", "a");
    assert_eq!(test.effects(), []);

    test.ready("w1", "echo");

    assert_eq!(
        test.effects(),
        [
            test.offer(1, "echo"),
            service_up("echo"),
            worker_up("w1", "echo"),
            heartbeat("w1"),
            test.work("w1", "a"),
        ]
    );
}

#[test]
fn request_waits_until_the_registration_is_proven() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");

    test.request("c1", "echo", "a");
    let before = test.sends();
    test.release_cluster();

    assert_eq!(before, []);
    assert_eq!(test.sends(), [heartbeat("w1"), test.work("w1", "a")]);
}

#[test]
fn worker_has_one_request_at_a_time() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");

    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    let first = test.effects();
    test.reply("w1", "A");

    let token = test.token("w1");
    assert_eq!(first.len(), 1);
    assert_eq!(test.effects(), [reply("c1", "echo", "A"), test.work("w1", "b")]);
    assert!(token.as_ref().len() == 16);
}

#[test]
fn least_recently_used_worker_is_next() {
    let mut test = BrokerTest::new();
    for name in ["w1", "w2", "w3"] {
        test.worker(name, "echo");
    }
    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.reply("w2", "B");
    test.reply("w1", "A");
    test.effects();

    test.request("c1", "echo", "c");
    let third = test.effects();
    test.request("c1", "echo", "d");
    let fourth = test.effects();
    test.request("c1", "echo", "e");

    assert_eq!(third, [test.work("w3", "c")]);
    assert_eq!(fourth, [test.work("w2", "d")]);
    assert_eq!(test.effects(), [test.work("w1", "e")]);
}

#[test]
fn heartbeats_do_not_change_whose_turn_it_is() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.worker("w2", "echo");

    test.heartbeat("w1");
    test.request("c1", "echo", "a");

    assert_eq!(test.effects(), [test.work("w1", "a")]);
}

#[test]
fn clients_of_a_service_take_turns() {
    // AM-20, MDP7-02.
    let mut test = BrokerTest::new();
    for body in ["a1", "a2", "a3", "a4"] {
        test.request("a", "echo", body);
    }
    test.request("b", "echo", "b1");
    test.request("b", "echo", "b2");
    test.request("c", "echo", "c1");
    test.ready("w1", "echo");

    let order = served(&mut test, "w1", 7);

    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
}

#[test]
fn client_that_comes_later_is_not_behind_the_whole_queue() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    for body in ["a1", "a2", "a3", "a4"] {
        test.request("a", "echo", body);
    }
    let first = served(&mut test, "w1", 2);

    test.request("b", "echo", "b1");
    let rest = served(&mut test, "w1", 3);

    assert_eq!(first, ["a1", "a2"]);
    assert_eq!(rest, ["a3", "b1", "a4"]);
}

#[test]
fn services_do_not_wait_for_each_other() {
    let mut test = BrokerTest::new();
    test.worker("w1", "slow");
    test.worker("w2", "fast");
    test.request("c1", "slow", "a");
    test.request("c1", "slow", "b");
    test.effects();

    test.request("c1", "fast", "c");

    assert_eq!(test.effects(), [test.work("w2", "c")]);
}

#[test]
fn request_that_waited_too_long_is_dropped_silently() {
    // MDP7-17, AM-10.
    let mut test = BrokerTest::new();
    test.request("c1", "echo", "a");
    test.advance(Duration::from_secs(30));
    test.request("c1", "echo", "b");
    test.advance(Duration::from_secs(30));
    assert_eq!(test.effects(), []);

    test.ready("w1", "echo");

    assert_eq!(test.sends(), [heartbeat("w1"), test.work("w1", "b")]);
    assert_eq!(test.broker.counters().dropped(DropReason::Expired), 1);
}

#[test]
fn service_without_workers_or_requests_is_forgotten() {
    let mut test = BrokerTest::new();
    for name in ["typo1", "typo2", "typo3"] {
        test.request("c1", name, "a");
    }
    assert_eq!(test.broker.gauges().services, 3);

    test.advance(Duration::from_secs(61));

    assert_eq!(test.broker.gauges(), mdp_broker::Gauges::default());
    assert_eq!(test.broker.poll_timeout(), None);
}

#[test]
fn request_that_may_not_wait_is_served_or_dropped_at_once() {
    let mut test = BrokerTest::with(with_policy(|policy| policy.request_ttl = Duration::ZERO));
    test.worker("w1", "echo");

    test.request("c1", "echo", "a");
    test.request("c1", "echo", "b");
    test.request("c1", "unknown", "c");

    assert_eq!(test.effects(), [test.work("w1", "a")]);
    assert_eq!(test.broker.counters().dropped(DropReason::Expired), 2);
    assert_eq!(test.broker.gauges().queued_requests, 0);
}

#[test]
fn registered_worker_may_also_be_a_client() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.worker("w2", "other");

    test.request("w1", "other", "a");
    test.reply("w2", "b");

    assert_eq!(test.effects(), [test.work("w2", "a"), reply("w1", "other", "b")]);
}

#[test]
fn vanished_client_leaves_nothing_waiting() {
    let mut test = BrokerTest::new();
    test.request("c1", "echo", "a");
    test.request("c1", "other", "b");
    test.request("c2", "echo", "c");

    test.lost("c1");

    assert_eq!(test.broker.counters().dropped(DropReason::ClientGone), 2);
    assert_eq!(test.broker.gauges().queued_requests, 1);
    assert_eq!(test.broker.gauges().services, 1);
}
