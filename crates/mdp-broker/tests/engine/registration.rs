//! READY, its proof, its refusals, and the end of a registration.

use std::time::Duration;

use mdp_broker::{DropReason, REFUSAL_BURST, RegistrationRefusal, Settings, WorkerEnd};
use mdp_catalog::{CatalogEntry, Epoch, Seq};
use mdp_wire::{DecodeError, Defect, Version, worker::ToBroker};

use crate::{
    effects::{
        disconnect, heartbeat, lookup, proof, refused, reply, service_down, service_up,
        worker_down, worker_up,
    },
    support::{BrokerTest, Cluster, EXPIRY, body_of, node_up, service},
};

/// A test with one registered worker, `w1` for `echo`.
fn with_worker() -> BrokerTest {
    let mut test = BrokerTest::new();
    test.worker("w1", "echo");
    test
}

#[test]
fn first_worker_is_acknowledged_when_the_offer_is_applied() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");
    assert_eq!(test.effects(), [test.offer(1, "echo")]);

    test.release_cluster();

    assert_eq!(test.effects(), [service_up("echo"), worker_up("w1", "echo"), heartbeat("w1")]);
    assert_eq!(test.broker.counters().registrations, 1);
}

#[test]
fn further_worker_is_acknowledged_by_a_look_up_begun_after_its_ready() {
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.ready("W2", "echo");
    test.ready("w3", "echo");
    assert_eq!(test.effects(), [proof(1, "echo")]);

    test.release_cluster();
    let first = test.effects();
    test.release_cluster();

    assert_eq!(first, [worker_up("W2", "echo"), heartbeat("W2"), proof(2, "echo")]);
    assert_eq!(test.effects(), [worker_up("w3", "echo"), heartbeat("w3")]);
}

#[test]
fn ready_after_the_proposal_is_not_proven_by_it() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");
    test.ready("w2", "echo");
    assert_eq!(test.effects(), [test.offer(1, "echo")]);

    test.release_cluster();

    let acknowledged = [service_up("echo"), worker_up("w1", "echo"), heartbeat("w1")];
    assert_eq!(test.effects(), [acknowledged.as_slice(), &[proof(1, "echo")]].concat());
}

#[test]
fn many_services_share_one_proposal() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    for (worker, name) in [("w1", "a"), ("w2", "b"), ("w3", "c")] {
        test.ready(worker, name);
    }
    assert_eq!(test.effects(), [test.offer(1, "a")]);

    test.release_cluster();

    let services = vec![service("b"), service("c")];
    let next = CatalogEntry::Offer { incarnation: test.incarnation(), seq: Seq(2), services };
    assert_eq!(
        test.effects(),
        [service_up("a"), worker_up("w1", "a"), heartbeat("w1"), mdp_broker::Effect::Propose(next),]
    );
}

#[test]
fn lost_proposal_is_made_again_and_the_old_one_proves_nothing() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");
    test.advance(Duration::from_secs(1));
    assert_eq!(test.effects(), [test.offer(1, "echo"), test.offer(2, "echo")]);

    let old = CatalogEntry::Offer {
        incarnation: test.incarnation(),
        seq: Seq(1),
        services: vec![service("echo")],
    };
    test.apply(old);
    let after_the_old_one = test.effects();
    test.release_cluster();

    assert_eq!(after_the_old_one, []);
    assert_eq!(test.effects(), [service_up("echo"), worker_up("w1", "echo"), heartbeat("w1")]);
}

#[test]
fn offer_that_the_cluster_has_forgotten_is_made_again_before_anybody_is_acknowledged() {
    let mut test = with_worker();
    let (incarnation, services) = (test.incarnation(), vec![service("echo")]);
    let forgotten = CatalogEntry::Withdraw { incarnation, seq: Seq(1_000), services };
    test.catalog.apply(1_000, forgotten).unwrap();
    test.cluster = Cluster::Withholds;

    test.ready("w2", "echo");
    test.release_cluster();

    assert_eq!(test.effects(), [proof(1, "echo"), test.offer(2, "echo")]);
}

#[test]
fn without_quorum_nobody_is_acknowledged_until_there_is_one() {
    let mut test = with_worker();
    test.cluster = Cluster::NoQuorum;
    test.ready("w2", "echo");
    test.ready("w3", "other");
    assert_eq!(test.effects(), [proof(1, "echo"), test.offer(2, "other")]);
    test.advance(Duration::from_millis(100));
    assert_eq!(test.effects(), [proof(2, "echo")]);

    test.cluster = Cluster::Answers;
    test.advance(Duration::from_millis(100));
    let first = test.effects();
    test.advance(Duration::from_millis(800));

    assert_eq!(first, [proof(3, "echo"), worker_up("w2", "echo"), heartbeat("w2")]);
    assert_eq!(
        test.effects(),
        [test.offer(3, "other"), service_up("other"), worker_up("w3", "other"), heartbeat("w3")]
    );
}

#[test]
fn unanswered_look_up_is_asked_again() {
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.ready("w2", "echo");
    assert_eq!(test.effects(), [proof(1, "echo")]);

    test.advance(Duration::from_millis(1_100));

    assert_eq!(test.effects(), [proof(2, "echo")]);
}

/// `mmi.read_timeout` is for who asks `mmi.service`.
#[test]
fn proof_waits_for_a_second_however_long_mmi_service_may() {
    for read_timeout in [Duration::from_millis(1), Duration::from_secs(3_600)] {
        let mut test = BrokerTest::with(Settings { read_timeout, ..Settings::default() });
        test.worker("w1", "echo");
        test.cluster = Cluster::Withholds;
        test.ready("w2", "echo");
        assert_eq!(test.effects(), [proof(1, "echo")]);

        test.advance(Duration::from_millis(1_099));
        let before = test.effects();
        test.advance(Duration::from_millis(1));

        assert_eq!(before, [], "{read_timeout:?}");
        assert_eq!(test.effects(), [proof(2, "echo")], "{read_timeout:?}");
    }
}

#[test]
fn question_that_is_due_before_an_older_proof_is_answered_in_time() {
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.ready("w2", "echo");
    test.request("c1", "mmi.service", "echo");
    assert_eq!(test.effects(), [proof(1, "echo"), lookup(2, "echo")]);

    test.advance(Duration::from_millis(500));
    let question = test.effects();
    test.advance(Duration::from_millis(600));

    assert_eq!(question, [reply("c1", "mmi.service", "503")]);
    assert_eq!(test.effects(), [proof(3, "echo")]);
}

#[test]
fn proof_that_is_due_before_an_older_question_is_asked_for_again_in_time() {
    let settings = Settings { read_timeout: Duration::from_secs(5), ..Settings::default() };
    let mut test = BrokerTest::with(settings);
    test.worker("w1", "echo");
    test.cluster = Cluster::Withholds;
    test.request("c1", "mmi.service", "echo");
    test.ready("w2", "echo");
    assert_eq!(test.effects(), [lookup(1, "echo"), proof(2, "echo")]);

    test.advance(Duration::from_millis(1_100));

    assert_eq!(test.effects(), [proof(3, "echo")]);
}

#[test]
fn heartbeats_keep_a_worker_that_waits_for_its_proof() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::NoQuorum;
    test.ready("w1", "echo");
    test.advance(EXPIRY - Duration::from_millis(1));
    test.heartbeat("w1");
    test.advance(EXPIRY - Duration::from_millis(1));
    assert_eq!(test.sends(), []);

    test.advance(Duration::from_millis(1));

    assert_eq!(test.sends(), [disconnect("w1")]);
    assert_eq!(test.broker.gauges().workers, 0);
}

#[test]
fn second_ready_before_the_proof_ends_the_registration() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");
    test.effects();

    test.ready("w1", "echo");
    let at_once = test.effects();
    test.release_cluster();

    assert_eq!(at_once, [worker_down("w1", "echo", WorkerEnd::ProtocolError), disconnect("w1")]);
    assert_eq!(test.effects(), [test.withdraw(2, "echo")]);
}

#[test]
fn disconnect_before_the_proof_cancels_the_registration() {
    let mut test = BrokerTest::new();
    test.cluster = Cluster::Withholds;
    test.ready("w1", "echo");
    test.effects();

    test.disconnect("w1");
    test.release_cluster();

    assert_eq!(
        test.effects(),
        [worker_down("w1", "echo", WorkerEnd::Left), test.withdraw(2, "echo")]
    );
}

#[test]
fn worker_that_comes_while_its_service_is_withdrawn_gets_a_new_offer() {
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.disconnect("w1");
    test.ready("w2", "echo");
    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::Left),
            service_down("echo"),
            test.withdraw(2, "echo"),
        ]
    );

    test.release_cluster();
    let after_withdrawal = test.effects();
    test.release_cluster();

    assert_eq!(after_withdrawal, [test.offer(3, "echo")]);
    assert_eq!(test.effects(), [service_up("echo"), worker_up("w2", "echo"), heartbeat("w2")]);
}

#[test]
fn withdrawal_of_unknown_outcome_is_trusted_by_nobody() {
    // It may still be applied, so only an offer after it can prove anything.
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.disconnect("w1");
    test.ready("w2", "echo");
    test.effects();

    test.advance(Duration::from_secs(1));

    assert_eq!(test.effects(), [test.offer(3, "echo")]);
    test.release_cluster();
    assert!(test.catalog.is_offered(b"echo"));
    assert_eq!(test.broker.gauges().idle_workers, 1);
}

#[test]
fn service_is_withdrawn_when_its_last_worker_leaves() {
    let mut test = with_worker();
    test.worker("w2", "echo");

    test.disconnect("w1");
    let after_first = test.effects();
    test.disconnect("w2");

    assert_eq!(after_first, [worker_down("w1", "echo", WorkerEnd::Left)]);
    assert_eq!(
        test.effects(),
        [
            worker_down("w2", "echo", WorkerEnd::Left),
            service_down("echo"),
            test.withdraw(2, "echo"),
        ]
    );
    assert_eq!(test.broker.gauges().services, 0);
}

#[test]
fn second_ready_disconnects_and_a_third_registers_anew() {
    // MDP7-28, AM-15; after any "forget" the same socket is new.
    let mut test = with_worker();

    test.ready("w1", "echo");
    let second = test.effects();
    test.ready("w1", "echo");

    assert_eq!(
        second,
        [
            worker_down("w1", "echo", WorkerEnd::ProtocolError),
            service_down("echo"),
            disconnect("w1"),
            test.withdraw(2, "echo"),
        ]
    );
    assert_eq!(
        test.effects(),
        [test.offer(3, "echo"), service_up("echo"), worker_up("w1", "echo"), heartbeat("w1")]
    );
}

#[test]
fn command_in_another_version_ends_the_registration_in_the_version_of_its_ready() {
    let mut test = with_worker();

    test.say_in(Version::V02, "w1", ToBroker::Heartbeat);

    assert_eq!(test.sends(), [disconnect("w1")]);
    assert_eq!(test.broker.gauges().workers, 0);
}

#[test]
fn request_from_a_worker_ends_its_registration() {
    let mut test = with_worker();

    test.say("w1", ToBroker::Request);

    assert_eq!(test.sends(), [disconnect("w1")]);
}

#[test]
fn command_of_an_unregistered_worker_is_answered_by_disconnect_in_its_version() {
    let answer = || (b"any".to_vec(), body_of("x"));
    for name in ["w1", "W1"] {
        let mut test = BrokerTest::new();

        test.heartbeat(name);
        let (client, body) = answer();
        test.say(name, ToBroker::Final { client, body });
        let (client, body) = answer();
        test.say(name, ToBroker::Partial { client, body });
        test.say(name, ToBroker::Request);

        let four = [disconnect(name), disconnect(name), disconnect(name), disconnect(name)];
        assert_eq!(test.effects(), four);
        assert_eq!(test.broker.counters().dropped(DropReason::NotRegistered), 4);
    }
}

#[test]
fn disconnect_of_an_unregistered_worker_is_legal_and_unanswered() {
    // MDP7-31.
    let mut test = BrokerTest::new();

    test.disconnect("w1");

    assert_eq!(test.effects(), []);
}

#[test]
fn worker_that_left_hears_nothing_more() {
    // MDP7-32.
    let mut test = with_worker();
    test.disconnect("w1");
    test.effects();

    test.advance(EXPIRY * 2);

    assert_eq!(test.effects(), []);
}

#[test]
fn lost_connection_ends_the_registration_silently() {
    let mut test = with_worker();

    test.lost("w1");

    assert_eq!(
        test.effects(),
        [
            worker_down("w1", "echo", WorkerEnd::ConnectionLost),
            service_down("echo"),
            test.withdraw(2, "echo"),
        ]
    );
}

#[test]
fn reserved_name_is_refused_at_once_without_a_quorum() {
    // MMI8-03, CL-07.
    let mut test = BrokerTest::new();
    test.cluster = Cluster::NoQuorum;

    for name in ["mmi.service", "mmi.", "mmi.anything"] {
        test.ready("W1", name);
        let refusal = RegistrationRefusal::ReservedName;
        assert_eq!(test.effects(), [refused("W1", Some(name), refusal), disconnect("W1")]);
    }

    assert_eq!(test.broker.gauges().services, 0);
    assert_eq!(test.broker.counters().refused_registrations, 3);
}

#[test]
fn names_that_only_look_reserved_are_ordinary() {
    // AM-07.
    let mut test = BrokerTest::new();

    test.worker("w1", "mmi");
    test.worker("w2", "MMI.service");
    test.worker("w3", "xmmi.service");

    assert_eq!(test.broker.gauges().idle_workers, 3);
}

#[test]
fn ready_that_can_never_register_is_answered_in_its_version() {
    let mut test = BrokerTest::new();
    let bad = |version| DecodeError::BadReady { version, defect: Defect::EmptyServiceName };

    test.malformed("w1", bad(Version::V01));
    test.malformed("W2", bad(Version::V02));

    let refusal = RegistrationRefusal::BadReady;
    assert_eq!(test.effects(), [refused("w1", None, refusal), disconnect("w1"), disconnect("W2")]);
    let reason = DropReason::Malformed(Defect::EmptyServiceName);
    assert_eq!(test.broker.counters().dropped(reason), 2);
}

#[test]
fn malformed_message_ends_a_registration_and_is_ignored_from_anybody_else() {
    // AM-01.
    let mut test = with_worker();

    test.malformed("stranger", Defect::UnknownHeader);
    let from_stranger = test.effects();
    test.malformed("w1", Defect::UnknownHeader);

    assert_eq!(from_stranger, []);
    assert_eq!(test.sends(), [disconnect("w1")]);
    assert_eq!(test.broker.counters().dropped(DropReason::Malformed(Defect::UnknownHeader)), 2);
}

#[test]
fn refusals_beyond_the_burst_are_held_back() {
    // protocol.md 6.7: a reference worker comes back at once, for ever.
    let mut test = BrokerTest::new();
    for _ in 0..REFUSAL_BURST {
        test.ready("w1", "mmi.x");
    }
    assert_eq!(test.sends().len(), usize::try_from(REFUSAL_BURST).unwrap());

    test.ready("w1", "mmi.x");
    let at_once = test.effects();
    test.advance(Duration::from_millis(249));
    let before = test.effects();
    test.advance(Duration::from_millis(1));

    assert_eq!((at_once, before), (vec![], vec![]));
    assert_eq!(test.effects(), [disconnect("w1")]);
}

#[test]
fn refusal_held_back_does_not_reach_a_worker_that_has_registered_since() {
    let mut test = BrokerTest::new();
    for _ in 0..=REFUSAL_BURST {
        test.ready("w1", "mmi.x");
    }
    test.worker("w1", "echo");

    test.advance(Duration::from_secs(1));

    assert_eq!(test.effects(), []);
}

#[test]
fn no_more_than_max_workers_register() {
    let mut test = BrokerTest::with(Settings { max_workers: 1, ..Settings::default() });
    test.worker("w1", "echo");

    test.ready("w2", "echo");

    let refusal = RegistrationRefusal::TooManyWorkers;
    assert_eq!(test.effects(), [refused("w2", Some("echo"), refusal), disconnect("w2")]);
}

#[test]
fn no_more_than_max_services_are_known() {
    let mut test = BrokerTest::with(Settings { max_services: 1, ..Settings::default() });
    test.worker("w1", "echo");

    test.ready("w2", "other");

    let refusal = RegistrationRefusal::TooManyServices;
    assert_eq!(test.effects(), [refused("w2", Some("other"), refusal), disconnect("w2")]);
    test.worker("w3", "echo");
}

#[test]
fn requests_to_unknown_names_keep_no_worker_out() {
    let mut test = BrokerTest::with(Settings { max_services: 2, ..Settings::default() });
    test.request("c1", "nobody-1", "x");
    test.request("c1", "nobody-2", "x");

    test.worker("w1", "echo");
    test.worker("w2", "other");

    assert_eq!(test.broker.gauges().services, 4);
}

#[test]
fn refusals_of_one_offender_are_noted_once_until_it_kept_quiet() {
    let mut test = BrokerTest::new();
    let note = refused("w1", Some("mmi.x"), RegistrationRefusal::ReservedName);
    test.ready("w1", "mmi.x");
    test.ready("w1", "mmi.x");
    assert_eq!(test.effects(), [note.clone(), disconnect("w1"), disconnect("w1")]);

    test.advance(Duration::from_secs(2));
    test.ready("w1", "mmi.x");

    assert_eq!(test.effects(), [note, disconnect("w1")]);
}

#[test]
fn new_life_of_this_node_offers_everything_anew_and_workers_notice_nothing() {
    let mut test = with_worker();

    test.apply(node_up(&test.incarnation().node, Epoch(1)));

    let incarnation = mdp_catalog::Incarnation { epoch: Epoch(3), ..test.incarnation() };
    let services = vec![service("echo")];
    let offer = CatalogEntry::Offer { incarnation: incarnation.clone(), seq: Seq(1), services };
    assert_eq!(test.effects(), [mdp_broker::Effect::Propose(offer)]);
    assert!(test.catalog.is_offered_by(&incarnation, b"echo"));
}

#[test]
fn withdrawal_does_not_wait_for_ever_while_offers_keep_coming() {
    let mut test = with_worker();
    test.cluster = Cluster::Withholds;
    test.ready("w2", "second");
    test.disconnect("w1");
    test.ready("w3", "third");
    test.effects();

    test.release_cluster();

    assert!(test.effects().contains(&test.withdraw(3, "echo")));
}
