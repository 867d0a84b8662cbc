//! What happens to a request whose worker is lost, and which replies count.

use std::time::Duration;

use mdp_broker::{Delivery, DropReason, Effect, HeldRequest, Note, Settings, WorkerEnd};
use mdp_wire::{Body, DecodeError, DecodeLimits, Defect, RequestId, Token, worker::ToBroker};

use crate::{
    effects::{disconnect, partial, reply, service_down, worker_down, worker_down_with},
    support::{BrokerTest, peer, service, with_policy},
};

/// A way to lose the worker `w1`, what the log says of it, and whether the worker is told.
type Loss = (fn(&mut BrokerTest), WorkerEnd, bool);

/// Workers `w1` and `w2` for `echo`, and `w1` has the request `x` of `c1`.
fn with_request(settings: Settings) -> BrokerTest {
    let mut test = BrokerTest::with(settings);
    test.worker("w1", "echo");
    test.worker("w2", "echo");
    test.request("c1", "echo", "x");
    assert_eq!(test.effects(), [test.work("w1", "x")]);
    test
}

fn at_most_once() -> Settings {
    with_policy(|policy| policy.delivery = Delivery::AtMostOnce)
}

#[test]
fn request_of_a_lost_worker_goes_to_another() {
    // AM-09, for each way to lose a worker.
    let ends: [Loss; 4] = [
        (|test| test.lost("w1"), WorkerEnd::ConnectionLost, false),
        (|test| test.disconnect("w1"), WorkerEnd::Left, false),
        (|test| test.malformed("w1", Defect::TooFewFrames), WorkerEnd::ProtocolError, true),
        (|test| test.ready("w1", "echo"), WorkerEnd::ProtocolError, true),
    ];
    for (end_it, end, is_told) in ends {
        let mut test = with_request(Settings::default());

        end_it(&mut test);

        let mut expected = vec![worker_down_with(("w1", "echo"), end, ("c1", 1))];
        expected.extend(is_told.then(|| disconnect("w1")));
        expected.push(test.work("w2", "x"));
        assert_eq!(test.effects(), expected);
        assert_eq!(test.broker.counters().redispatched, 1);
    }
}

#[test]
fn request_that_is_given_again_has_another_token_and_one_reply() {
    let mut test = with_request(Settings::default());
    let first_token = test.token("w1");
    test.lost("w1");
    test.effects();

    test.reply("w2", "y");

    assert_ne!(test.token("w2"), first_token);
    assert_eq!(test.effects(), [reply("c1", "echo", "y")]);
}

#[test]
fn requests_of_lost_workers_keep_the_order_of_their_arrival() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.worker("w2", "echo");
    for body in ["a", "b", "c"] {
        test.request("c1", "echo", body);
    }

    test.lost("w1");
    test.lost("w2");
    test.effects();

    for (worker, body) in [("w3", "a"), ("w4", "b"), ("w5", "c")] {
        test.ready(worker, "echo");
        assert_eq!(test.sends().pop(), Some(test.work(worker, body)));
    }
}

#[test]
fn request_of_a_lost_worker_waits_in_its_old_place() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    for body in ["a", "b", "c"] {
        test.request("c1", "echo", body);
    }
    test.lost("w1");
    test.effects();

    test.ready("w2", "echo");

    assert_eq!(test.sends().pop(), Some(test.work("w2", "a")));
    assert_eq!(test.broker.gauges().queued_requests, 2);
}

#[test]
fn request_is_given_to_no_more_workers_than_allowed() {
    let mut test = BrokerTest::new();
    test.request("c1", "echo", "x");
    for worker in ["w1", "w2", "w3"] {
        test.ready(worker, "echo");
        assert_eq!(test.sends().pop(), Some(test.work(worker, "x")));
        test.lost(worker);
    }

    test.worker("w4", "echo");

    assert_eq!(test.broker.gauges().queued_requests, 0);
    assert_eq!(test.broker.gauges().queued_bytes, 0);
    assert_eq!(test.broker.counters().dropped(DropReason::AttemptsExhausted), 1);
}

#[test]
fn request_of_a_lost_worker_is_dropped_when_its_time_is_over() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.advance(Duration::from_secs(61));
    test.effects();

    test.lost("w1");

    assert_eq!(
        test.effects(),
        [
            worker_down_with(("w1", "echo"), WorkerEnd::ConnectionLost, ("c1", 1)),
            service_down("echo"),
            test.withdraw(2, "echo"),
        ]
    );
    assert_eq!(test.broker.counters().dropped(DropReason::Expired), 1);
}

#[test]
fn request_of_a_lost_worker_is_not_given_again_when_its_time_is_over() {
    let mut test = with_request(Settings::default());
    for _ in 0..10 {
        test.advance(Duration::from_secs(6));
        test.heartbeat("w2");
    }
    test.effects();

    test.lost("w1");

    assert_eq!(
        test.effects(),
        [worker_down_with(("w1", "echo"), WorkerEnd::ConnectionLost, ("c1", 1))]
    );
    assert_eq!(test.broker.counters().dropped(DropReason::Expired), 1);
}

#[test]
fn at_most_once_is_never_given_twice() {
    let mut test = with_request(at_most_once());

    test.lost("w1");

    assert_eq!(
        test.effects(),
        [worker_down_with(("w1", "echo"), WorkerEnd::ConnectionLost, ("c1", 1))]
    );
    assert_eq!(test.broker.counters().dropped(DropReason::OutcomeUnknown), 1);
    assert_eq!(test.broker.gauges().queued_bytes, 0);
}

#[test]
fn at_most_once_is_given_again_if_it_was_never_handed_over() {
    let mut test = with_request(at_most_once());

    test.lost_unsent("w1");

    assert_eq!(
        test.effects(),
        [worker_down("w1", "echo", WorkerEnd::ConnectionLost), test.work("w2", "x")]
    );
}

#[test]
fn hand_over_that_failed_is_no_attempt() {
    let mut test = BrokerTest::with(with_policy(|policy| policy.max_attempts = 1));
    test.request("c1", "echo", "x");
    test.worker_with_work("w1");
    test.lost_unsent("w1");
    test.worker_with_work("w2");

    test.lost("w2");

    assert_eq!(test.broker.counters().dropped(DropReason::AttemptsExhausted), 1);
    assert_eq!(test.broker.counters().dispatched, 2);
}

#[test]
fn forged_reply_reaches_nobody_and_ends_the_registration() {
    // AM-13.
    let mut test = with_request(Settings::default());

    test.reply_to("w2", test.token("w1"), "forged");
    let forged = test.effects();
    test.reply("w1", "real");

    assert_eq!(forged, [worker_down("w2", "echo", WorkerEnd::ProtocolError), disconnect("w2")]);
    assert_eq!(test.effects(), [reply("c1", "echo", "real")]);
    assert_eq!(test.broker.counters().dropped(DropReason::UnknownToken), 1);
}

#[test]
fn second_reply_reaches_nobody_and_ends_the_registration() {
    let mut test = with_request(Settings::default());
    let token = test.token("w1");
    test.reply("w1", "first");
    test.effects();

    test.reply_to("w1", token, "second");

    assert_eq!(
        test.effects(),
        [worker_down("w1", "echo", WorkerEnd::ProtocolError), disconnect("w1")]
    );
}

#[test]
fn reply_with_an_old_token_gives_the_new_request_to_another_worker() {
    let mut test = with_request(Settings::default());
    let old = test.token("w1");
    test.reply("w1", "first");
    test.request("c2", "echo", "kept by w2");
    test.request("c3", "echo", "y");
    test.request("c4", "echo", "z");
    test.effects();

    test.reply_to("w1", old, "late");
    let late = test.effects();
    test.reply("w2", "done");

    assert_eq!(
        late,
        [worker_down_with(("w1", "echo"), WorkerEnd::ProtocolError, ("c3", 1)), disconnect("w1")]
    );
    assert_eq!(test.effects(), [reply("c2", "echo", "done"), test.work("w2", "y")]);
}

#[test]
fn token_of_another_life_of_the_broker_counts_nothing() {
    // CL-16: the same peers, the same order, another seed.
    let mut before = BrokerTest::with_seed(Settings::default(), 1);
    before.worker("w1", "echo");
    before.request("c1", "echo", "x");
    let old: Token = before.token("w1");
    let mut test = BrokerTest::with_seed(Settings::default(), 2);
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    test.effects();

    test.reply_to("w1", old, "late");

    assert_eq!(test.sends(), [disconnect("w1")]);
}

#[test]
fn partial_replies_go_to_a_02_client_at_once() {
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.request("C1", "echo", "x");
    test.effects();

    test.partial("W1", "a");
    let first = test.effects();
    test.partial("W1", "b|c");
    let second = test.effects();
    test.reply("W1", "d");

    assert_eq!(first, [partial("C1", "echo", "a")]);
    assert_eq!(second, [partial("C1", "echo", "b|c")]);
    assert_eq!(test.effects(), [reply("C1", "echo", "d")]);
    assert_eq!(test.broker.counters().partials, 2);
}

#[test]
fn partial_does_not_free_the_worker() {
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.request("C1", "echo", "x");
    test.request("C2", "echo", "y");
    test.effects();

    test.partial("W1", "a");

    assert_eq!(test.effects(), [partial("C1", "echo", "a")]);
}

#[test]
fn partial_replies_come_to_a_01_client_in_one_reply() {
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.request("c1", "echo", "x");
    test.effects();

    test.partial("W1", "a");
    test.partial("W1", "b|c");
    let before = test.effects();
    test.reply("W1", "d");

    assert_eq!(before, []);
    assert_eq!(test.effects(), [reply("c1", "echo", "a|b|c|d")]);
}

#[test]
fn request_is_not_given_again_once_a_part_has_reached_the_client() {
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.worker("W2", "echo");
    test.request("C1", "echo", "x");
    test.partial("W1", "a");
    test.effects();

    test.lost("W1");

    assert_eq!(
        test.effects(),
        [worker_down_with(("W1", "echo"), WorkerEnd::ConnectionLost, ("C1", 1))]
    );
    assert_eq!(test.broker.counters().dropped(DropReason::PartiallyAnswered), 1);
}

#[test]
fn parts_kept_for_a_01_client_are_forgotten_with_their_worker() {
    let mut test = BrokerTest::new();
    test.worker("W1", "echo");
    test.worker("W2", "echo");
    test.request("c1", "echo", "x");
    test.partial("W1", "of W1");
    test.lost("W1");
    test.effects();

    test.partial("W2", "of W2");
    test.reply("W2", "end");

    assert_eq!(test.effects(), [reply("c1", "echo", "of W2|end")]);
}

#[test]
fn parts_kept_for_a_01_client_are_limited() {
    let decode = DecodeLimits { message_bytes_max: 10, ..DecodeLimits::default() };
    let mut test = BrokerTest::with(Settings { decode, ..Settings::default() });
    test.worker("W1", "echo");
    test.worker("W2", "echo");
    test.request("c1", "echo", "x");
    test.effects();

    test.partial("W1", "0123456789");
    let within = test.effects();
    test.partial("W1", "x");

    assert_eq!(within, []);
    assert_eq!(
        test.effects(),
        [worker_down("W1", "echo", WorkerEnd::ProtocolError), disconnect("W1")]
    );
    assert_eq!(test.broker.counters().dropped(DropReason::PartialsTooLarge), 1);
    assert_eq!(test.broker.gauges().queued_bytes, 0);
}

#[test]
fn reply_for_a_vanished_client_frees_its_worker() {
    let mut test = with_request(Settings::default());
    test.lost("c1");
    test.effects();

    test.reply("w1", "y");

    assert_eq!(test.broker.gauges().idle_workers, 2);
    assert_eq!(test.broker.gauges().queued_bytes, 0);
}

impl BrokerTest {
    /// Registers a worker for `echo` that is given the request `x` at once.
    fn worker_with_work(&mut self, worker: &str) {
        self.ready(worker, "echo");
        let last = self.sends().pop();
        assert_eq!(last, Some(self.work(worker, "x")));
    }
}

/// Workers `w1` and `w2` for `echo`; `w1` answers without the empty frame behind the address.
fn undelimited(body: &[&str]) -> (BrokerTest, Vec<Effect<Vec<u8>>>) {
    let mut test = with_request(Settings::default());
    let client = test.token("w1").as_ref().to_vec();
    let body: Body<Vec<u8>> = body.iter().map(|frame| frame.as_bytes().to_vec()).collect();
    test.say("w1", ToBroker::Undelimited { client, body });
    let effects = test.effects();
    (test, effects)
}

#[test]
fn reply_without_delimiter_is_the_reply_and_its_worker_stays() {
    // AM-21.
    let (mut test, effects) = undelimited(&["y"]);
    let note = Note::UndelimitedReply { peer: peer("w1"), service: service("echo") };
    assert_eq!(effects, [Effect::Note(note), reply("c1", "echo", "y")]);

    test.request("c1", "echo", "again");
    assert_eq!(test.effects(), [test.work("w2", "again")]);
    test.request("c1", "echo", "a third");
    assert_eq!(test.effects(), [test.work("w1", "a third")]);
    let client = test.token("w1").as_ref().to_vec();
    test.say("w1", ToBroker::Undelimited { client, body: Body::new() });

    // The note is made once for each registration; a reply without a body has an empty one.
    assert_eq!(test.effects(), [reply("c1", "echo", "")]);
    let counters = test.broker.counters();
    assert_eq!((counters.undelimited_replies, counters.replied), (2, 2));
    assert_eq!((counters.redispatched, counters.dropped.len()), (0, 0));
}

#[test]
fn reply_without_delimiter_to_another_token_reaches_nobody() {
    let mut test = with_request(Settings::default());
    let client = Token::from_bytes([9; 16]).as_ref().to_vec();

    test.say("w1", ToBroker::Undelimited { client, body: Body::new() });

    let down = worker_down_with(("w1", "echo"), WorkerEnd::ProtocolError, ("c1", 1));
    assert_eq!(test.effects(), [down, disconnect("w1"), test.work("w2", "x")]);
    assert_eq!(test.broker.counters().dropped(DropReason::UnknownToken), 1);
}

#[test]
fn request_that_was_answered_by_what_cannot_be_read_is_not_given_again() {
    // AM-21: whatever is wrong with the answer.
    for defect in Defect::ALL {
        let mut test = with_request(Settings::default());
        let address = test.token("w1");

        test.malformed("w1", DecodeError::BadAnswer { address, defect });

        let held = Some(HeldRequest { client: Some(peer("c1")), id: None, attempt: 1 });
        let note = Note::BadAnswer { peer: peer("w1"), service: service("echo"), defect, held };
        let down = worker_down("w1", "echo", WorkerEnd::ProtocolError);
        assert_eq!(test.effects(), [Effect::Note(note), down, disconnect("w1")]);
        let counters = test.broker.counters();
        assert_eq!(counters.dropped(DropReason::BadAnswer), 1);
        assert_eq!(counters.dropped(DropReason::Malformed(defect)), 1);
        assert_eq!((counters.redispatched, test.broker.gauges().held_requests), (0, 0));
    }
}

#[test]
fn bad_answer_to_the_request_of_another_worker_is_only_malformed() {
    let mut test = with_request(Settings::default());
    let address = test.token("w1");

    test.malformed("w2", DecodeError::BadAnswer { address, defect: Defect::TooLarge });

    let down = worker_down("w2", "echo", WorkerEnd::ProtocolError);
    assert_eq!(test.effects(), [down, disconnect("w2")]);
    test.reply("w1", "y");
    assert_eq!(test.effects(), [reply("c1", "echo", "y")]);
}

#[test]
fn log_can_name_the_request_that_a_lost_worker_had() {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test.request_from("c1", &["8 octets"], "echo", "x");

    test.lost("w1");

    let id = RequestId::from_frame(b"8 octets");
    let held = Some(HeldRequest { client: Some(peer("c1")), id, attempt: 1 });
    let end = WorkerEnd::ConnectionLost;
    let note = Note::WorkerDown { peer: peer("w1"), service: service("echo"), end, held };
    assert!(test.effects().contains(&Effect::Note(note)));
}
