//! Identities, grants and quotas at work.

use std::{sync::Arc, time::Duration};

use mdp_broker::{
    Access, Denial, DropReason, Effect, Enforcement, Grants, Identity, IdentityKey, Input, Note,
    Page, Quotas, RegistrationRefusal, Subject, WorkerEnd,
};

use crate::{
    effects::{disconnect, heartbeat, lookup, refused, reply, worker_down},
    support::{BrokerTest, Effects, peer, service},
};

/// What an identity may call, and register.
type Allowed<'a> = (&'a str, &'a str);

fn identity(name: &str, (call, register): Allowed<'_>, quotas: Quotas) -> Identity {
    let key = name.bytes().next().unwrap();
    Identity {
        name: name.parse().unwrap(),
        keys: vec![IdentityKey([key; 32])],
        grants: Grants {
            call: call.split_whitespace().collect(),
            register: register.split_whitespace().collect(),
            ..Grants::default()
        },
        quotas,
        not_after: None,
    }
}

/// Identities named `client` and `worker`, each with one connection of a name that begins with its first letter.
struct Secured {
    test: BrokerTest,
    access: Access,
}

impl Secured {
    fn new(client: Allowed<'_>, worker: Allowed<'_>, quotas: Quotas) -> Self {
        let mut secured = Self { test: BrokerTest::new(), access: Access::default() };
        secured.set(Enforcement::Enforce, client, worker, quotas);
        secured
    }

    /// Other grants count from now on.
    fn set(
        &mut self,
        enforcement: Enforcement,
        client: Allowed<'_>,
        worker: Allowed<'_>,
        quotas: Quotas,
    ) {
        let identities =
            vec![identity("client", client, quotas), identity("worker", worker, quotas)];
        self.access = Access::new(&self.access, identities, None, enforcement).unwrap();
        for (name, key) in [("c1", b'c'), ("c2", b'c'), ("w1", b'w'), ("w2", b'w')] {
            let id = self.access.identity_of(&IdentityKey([key; 32])).unwrap();
            self.test.is(name, Subject::Identity(id));
        }
        self.test.is("n1", Subject::Anonymous);
        self.test.input(Input::Access(Arc::new(self.access.clone())));
    }
}

fn denied(name: &str, identity: Option<&str>, denial: Denial, of: Option<&str>) -> Effect<Vec<u8>> {
    let identity = identity.map(|name| name.parse().unwrap());
    let note = Note::Denied {
        peer: peer(name),
        identity,
        denial,
        service: of.map(service),
        is_done: false,
    };
    Effect::Note(note)
}

fn sends(effects: &Effects) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count()
}

const NO_QUOTAS: Quotas = Quotas {
    max_in_flight: None,
    max_requests_per_second: None,
    max_queued_bytes: None,
    max_workers: None,
    max_connections: None,
};

#[test]
fn request_needs_a_grant_to_call_and_a_worker_one_to_register() {
    let mut secured = Secured::new(("echo", ""), ("", "echo"), NO_QUOTAS);
    let test = &mut secured.test;
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    assert_eq!(test.effects(), [test.work("w1", "x")]);

    test.request("c1", "other", "x");
    test.request("w1", "other", "x");
    test.request("n1", "echo", "x");
    let expected = [
        denied("c1", Some("client"), Denial::Call, Some("other")),
        denied("w1", Some("worker"), Denial::Call, Some("other")),
        denied("n1", None, Denial::Call, Some("echo")),
    ];
    assert_eq!(test.effects(), expected);
    assert_eq!(test.broker.counters().dropped(DropReason::NotAllowed), 3);
    assert_eq!(test.broker.counters().denials[&Denial::Call], 3);
    assert_eq!(test.broker.gauges().queued_requests, 0);
}

#[test]
fn worker_that_may_not_register_is_disconnected_at_the_pace_of_refusals() {
    let mut secured = Secured::new(("", ""), ("", "echo"), NO_QUOTAS);
    let test = &mut secured.test;
    test.ready("w2", "other");
    let refusal = refused("w2", Some("other"), RegistrationRefusal::NotAllowed);
    let note = denied("w2", Some("worker"), Denial::Register, Some("other"));
    assert_eq!(test.effects(), [note, refusal, disconnect("w2")]);

    (0..100).for_each(|_| test.ready("w2", "other"));
    assert!(sends(&test.effects()) < 12, "the rest is held back");
    assert_eq!(test.broker.gauges().workers, 0);
}

#[test]
fn denials_of_an_identity_are_noted_once_in_ten_seconds_and_all_are_counted() {
    let mut secured = Secured::new(("", ""), ("", ""), NO_QUOTAS);
    let test = &mut secured.test;
    let mut notes = || {
        (0..10).for_each(|_| test.request("c1", "echo", "x"));
        test.advance(Duration::from_secs(5));
        test.effects().len()
    };
    assert_eq!([notes(), notes(), notes()], [1, 0, 1]);
    assert_eq!(test.broker.counters().denials[&Denial::Call], 30);
}

#[test]
fn service_that_may_neither_be_called_nor_registered_is_403_and_not_looked_up() {
    let mut secured = Secured::new(("echo", ""), ("", "sum"), NO_QUOTAS);
    let test = &mut secured.test;
    test.request("c1", "mmi.service", "echo");
    assert_eq!(test.effects(), [lookup(1, "echo"), reply("c1", "mmi.service", "404")]);
    test.request("w1", "mmi.service", "sum");
    assert_eq!(test.effects(), [lookup(2, "sum"), reply("w1", "mmi.service", "404")]);

    for (asker, name) in [("c1", "sum"), ("w1", "echo"), ("n1", "echo")] {
        test.request(asker, "mmi.service", name);
        assert_eq!(test.sends(), [reply(asker, "mmi.service", "403")]);
    }
    // What the broker does not answer it does not answer to anyone.
    test.request("c1", "mmi.none", "x");
    assert_eq!(test.effects(), [reply("c1", "mmi.none", "501")]);
}

#[test]
fn pages_need_grants_but_for_what_every_client_needs() {
    let mut secured = Secured::new(("echo", ""), ("", ""), NO_QUOTAS);
    let test = &mut secured.test;
    let mut page_of = |name: &str| {
        test.request("c1", name, "");
        test.effects().into_iter().find_map(|effect| {
            let Effect::Describe { page, .. } = effect else { return None };
            Some(page)
        })
    };
    assert_eq!(page_of("mmi.directory"), None);
    assert_eq!(page_of("mmi.endpoints"), Some(Page::Endpoints));
    assert_eq!(page_of("mmi.status"), Some(Page::StatusInBrief));
    assert_eq!(test.broker.counters().denials[&Denial::Question], 1);
}

#[test]
fn what_is_waiting_and_registered_ends_with_its_grant() {
    let mut secured = Secured::new(("echo", ""), ("", "echo"), NO_QUOTAS);
    secured.test.request("c1", "echo", "x");
    secured.test.request("n1", "echo", "x");
    secured.test.effects();

    secured.set(Enforcement::Enforce, ("", ""), ("", "echo"), NO_QUOTAS);
    assert_eq!(secured.test.broker.gauges().queued_requests, 0);
    assert_eq!(secured.test.broker.counters().dropped(DropReason::NotAllowed), 2);

    secured.set(Enforcement::Enforce, ("echo", ""), ("", "echo"), NO_QUOTAS);
    secured.test.worker("w1", "echo");
    secured.test.request("c1", "echo", "y");
    secured.test.effects();
    secured.set(Enforcement::Enforce, ("echo", ""), ("", ""), NO_QUOTAS);
    let effects = secured.test.effects();
    assert!(effects.contains(&disconnect("w1")), "{effects:?}");
    // Its request waits for another worker, and is not lost.
    assert_eq!(secured.test.broker.gauges().queued_requests, 1);
    assert_eq!(secured.test.broker.gauges().workers, 0);
}

#[test]
fn request_of_a_worker_whose_grant_is_gone_goes_to_no_other_one_without_a_grant() {
    let mut secured = Secured::new(("echo", ""), ("", "echo"), NO_QUOTAS);
    secured.test.worker("w1", "echo");
    secured.test.request("c1", "echo", "x");
    secured.test.worker("w2", "echo");
    secured.test.effects();

    secured.set(Enforcement::Enforce, ("echo", ""), ("", ""), NO_QUOTAS);

    assert_eq!(secured.test.sends(), [disconnect("w2"), disconnect("w1")]);
    assert_eq!(secured.test.broker.gauges().queued_requests, 1, "with all its attempts");
    // A worker that may takes it.
    secured.set(Enforcement::Enforce, ("echo", ""), ("", "echo"), NO_QUOTAS);
    secured.test.worker("w1", "echo");
    assert_eq!(secured.test.broker.gauges().queued_requests, 0);
}

#[test]
fn questions_to_the_broker_count_in_the_rate() {
    let quotas = Quotas { max_requests_per_second: Some(2), ..NO_QUOTAS };
    let mut secured = Secured::new(("echo", ""), ("", ""), quotas);
    (0..5).for_each(|_| secured.test.request("c1", "mmi.endpoints", ""));
    assert_eq!(secured.test.sends().len(), 2);
    assert_eq!(secured.test.broker.counters().denials[&Denial::Quota], 3);
}

#[test]
fn with_report_quotas_are_counted_only() {
    let quotas = Quotas { max_in_flight: Some(0), max_workers: Some(0), ..NO_QUOTAS };
    let mut secured = Secured::new(("echo", ""), ("", "echo"), quotas);
    secured.set(Enforcement::Report, ("echo", ""), ("", "echo"), quotas);
    let test = &mut secured.test;
    test.worker("w1", "echo");
    test.request("c1", "echo", "x");
    assert_eq!(test.broker.gauges().held_requests, 1);
    assert_eq!(test.broker.counters().reported_denials[&Denial::Quota], 2);
}

#[test]
fn request_of_a_lost_worker_goes_to_no_other_once_its_grant_is_gone() {
    let mut secured = Secured::new(("echo", ""), ("", "echo"), NO_QUOTAS);
    secured.test.worker("w1", "echo");
    secured.test.request("c1", "echo", "x");
    secured.test.worker("w2", "echo");
    secured.set(Enforcement::Enforce, ("", ""), ("", "echo"), NO_QUOTAS);
    secured.test.effects();

    secured.test.lost("w1");
    let effects = secured.test.sends();
    assert_eq!(effects, []);
    assert_eq!(secured.test.broker.counters().dropped(DropReason::NotAllowed), 1);
}

#[test]
fn with_report_everything_is_done_and_counted() {
    let mut secured = Secured::new(("", ""), ("", ""), NO_QUOTAS);
    secured.set(Enforcement::Report, ("", ""), ("", ""), NO_QUOTAS);
    let test = &mut secured.test;
    test.ready("w1", "echo");
    assert!(test.effects().contains(&heartbeat("w1")));
    test.request("c1", "echo", "x");
    assert_eq!(test.sends(), [test.work("w1", "x")]);
    let counters = test.broker.counters();
    assert!(counters.denials.is_empty());
    assert_eq!(counters.reported_denials[&Denial::Call], 1);
    assert_eq!(counters.reported_denials[&Denial::Register], 1);
}

#[test]
fn quotas_count_all_connections_of_an_identity_together() {
    let quotas = Quotas { max_in_flight: Some(2), max_workers: Some(1), ..NO_QUOTAS };
    let mut secured = Secured::new(("echo", ""), ("", "echo"), quotas);
    let test = &mut secured.test;
    test.worker("w1", "echo");
    test.ready("w2", "echo");
    let refusal = refused("w2", Some("echo"), RegistrationRefusal::OverQuota);
    let note = denied("w2", Some("worker"), Denial::Quota, Some("echo"));
    assert_eq!(test.effects(), [note, refusal, disconnect("w2")]);

    test.request("c1", "echo", "a");
    test.request("c2", "echo", "b");
    test.request("c1", "echo", "c");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
    // An answer makes room.
    test.reply("w1", "A");
    test.request("c1", "echo", "d");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
    test.disconnect("w1");
    test.effects();
    test.ready("w2", "echo");
    assert!(test.effects().contains(&heartbeat("w2")));
    let down = worker_down("w1", "echo", WorkerEnd::Left);
    assert!(!test.effects().contains(&down));
}

#[test]
fn quota_of_waiting_bytes_is_used_by_what_waits_only() {
    let quotas = Quotas { max_queued_bytes: Some(1_000), ..NO_QUOTAS };
    let mut secured = Secured::new(("echo", ""), ("", "echo"), quotas);
    let test = &mut secured.test;
    // A request counts its frames and what it costs besides.
    test.request("c1", "echo", "a");
    test.request("c2", "echo", "b");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
    test.worker("w1", "echo");
    test.request("c2", "echo", "b");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
}

#[test]
fn quota_of_requests_a_second_is_of_the_identity() {
    let quotas = Quotas { max_requests_per_second: Some(4), ..NO_QUOTAS };
    let mut secured = Secured::new(("echo", ""), ("", ""), quotas);
    let test = &mut secured.test;
    (0..4).for_each(|_| test.request("c1", "echo", "a"));
    test.request("c2", "echo", "a");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
    test.advance(Duration::from_millis(250));
    test.request("c2", "echo", "a");
    assert_eq!(test.broker.counters().dropped(DropReason::OverQuota), 1);
}
