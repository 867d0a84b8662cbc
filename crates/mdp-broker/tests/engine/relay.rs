//! Requests that are executed at another node than the one that they entered at.

mod leaving;

use std::time::Duration;

use mdp_broker::{Delivery, DropReason, LinkRole, Settings};
use mdp_wire::relay::{ReturnCause, ToOrigin, ToOwner};

use crate::{
    effects::{partial, reply},
    mesh::{Mesh, OnWire},
    support::with_policy,
};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Two nodes, and workers of `echo` at the second.
fn served_elsewhere(workers: &[&str], settings: &Settings) -> Mesh {
    let mut mesh = Mesh::with(2, settings);
    for worker in workers {
        mesh.worker(B, worker);
    }
    mesh.settle();
    mesh
}

fn at_most_once() -> Settings {
    with_policy(|policy| policy.delivery = Delivery::AtMostOnce)
}

fn dropped(mesh: &Mesh, node: usize, reason: DropReason) -> u64 {
    mesh.nodes[node].broker.counters().dropped(reason)
}

#[test]
fn request_that_enters_here_is_executed_there_and_looks_the_same() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());

    mesh.at(A, |node| node.request("c", "echo", "hello"));
    let work = mesh.nodes[B].work("w", "hello");
    assert!(mesh.sends(B).contains(&work), "the frames of CL-01");

    mesh.at(B, |node| node.reply("w", "world"));
    assert_eq!(mesh.sends(A), [reply("c", "echo", "world")]);
    mesh.assert_idle();
    assert_eq!(mesh.nodes[A].broker.counters().replied, 1);
    assert_eq!(mesh.nodes[B].broker.counters().forwards_replied, 1);
}

#[test]
fn idle_worker_of_this_node_is_preferred() {
    let mut mesh = served_elsewhere(&["there"], &Settings::default());
    mesh.worker(A, "here");

    mesh.at(A, |node| node.request("c", "echo", "1"));
    assert_eq!(mesh.forwarded_bodies(), Vec::<String>::new());

    mesh.at(A, |node| node.request("c", "echo", "2"));
    assert_eq!(mesh.forwarded_bodies(), ["2"], "this node's worker is busy, the other's is not");
}

#[test]
fn most_idle_node_is_preferred() {
    let mut mesh = Mesh::new(3);
    mesh.worker(B, "b");
    for worker in ["c1", "c2", "c3"] {
        mesh.worker(C, worker);
    }
    mesh.settle();

    for body in ["1", "2", "3", "4"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    let held = |node: usize| mesh.nodes[node].broker.gauges().held_requests;
    assert_eq!((held(B), held(C)), (1, 3));
}

#[test]
fn waiting_request_goes_to_the_first_worker_anywhere() {
    let mut mesh = Mesh::new(3);
    mesh.at(A, |node| node.request("c", "echo", "1"));
    assert_eq!(mesh.nodes[A].broker.gauges().queued_requests, 1);

    mesh.worker(C, "w");
    mesh.settle();
    assert_eq!(mesh.nodes[C].broker.gauges().held_requests, 1);
}

#[test]
fn as_many_wait_at_the_owner_as_it_has_workers_and_the_rest_at_the_origin() {
    let mut mesh = served_elsewhere(&["w1", "w2"], &Settings::default());
    for body in 0..10 {
        mesh.at(A, |node| node.request("c", "echo", &body.to_string()));
    }
    mesh.settle();

    let (origin, owner) = (mesh.nodes[A].broker.gauges(), mesh.nodes[B].broker.gauges());
    assert_eq!((owner.held_requests, owner.queued_requests), (2, 2));
    assert_eq!((origin.forwarded_requests, origin.queued_requests), (4, 6));
}

#[test]
fn under_at_most_once_nothing_is_sent_ahead_of_an_idle_worker() {
    let mut mesh = served_elsewhere(&["w"], &at_most_once());
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.settle();
    assert_eq!(mesh.forwarded_bodies(), ["1"]);

    mesh.at(B, |node| node.reply("w", "done"));
    assert_eq!(mesh.forwarded_bodies(), ["1", "2"]);
}

#[test]
fn requests_of_one_client_are_handed_over_in_their_order() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.delivers = false;
    for body in 0..50 {
        mesh.at(A, |node| node.request("c", "echo", &body.to_string()));
    }
    mesh.delivers = true;
    mesh.run();
    for body in 0..50 {
        let work = mesh.nodes[B].work("w", &body.to_string());
        assert!(mesh.effects(B).contains(&work), "{body}");
        mesh.at(B, |node| node.reply("w", &body.to_string()));
        mesh.settle();
        assert_eq!(mesh.sends(A), [reply("c", "echo", &body.to_string())]);
    }
}

#[test]
fn forwarded_request_is_never_forwarded_again() {
    let mut mesh = Mesh::new(3);
    mesh.worker(B, "b");
    mesh.cut(A, C, Vec::new());
    mesh.settle();
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(A, |node| node.request("c", "echo", "2"));
    mesh.worker(C, "c");
    mesh.settle();

    assert_eq!(mesh.forwarded_bodies(), ["1", "2"]);
    assert_eq!(mesh.nodes[B].broker.gauges().queued_requests, 1, "it waits where it is");
    assert_eq!(mesh.nodes[C].broker.counters().forwards_received, 0);
}

#[test]
fn waiting_request_is_asked_back_when_a_worker_elsewhere_is_idle() {
    let mut mesh = Mesh::new(3);
    mesh.worker(B, "b");
    mesh.settle();
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.settle();
    assert_eq!(mesh.nodes[B].broker.gauges().queued_requests, 1);

    mesh.worker(C, "c");
    mesh.settle();
    let work = mesh.nodes[C].work("c", "2");
    assert!(mesh.effects(C).contains(&work));
    assert_eq!(mesh.nodes[A].broker.counters().recalled, 1);

    mesh.at(A, |node| node.request("c", "echo", "3"));
    mesh.settle();
    assert_eq!(mesh.nodes[A].broker.gauges().forwarded_requests, 3);
    mesh.worker(A, "a");
    mesh.settle();
    let work = mesh.nodes[A].work("a", "3");
    assert!(mesh.effects(A).contains(&work), "this node's own worker takes it back, too");
    assert_eq!(mesh.nodes[A].broker.counters().redispatched, 0);
}

#[test]
fn request_of_a_lost_link_goes_to_another_node() {
    let mut mesh = Mesh::new(3);
    mesh.worker(B, "b");
    mesh.settle();
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.worker(C, "c");
    mesh.settle();

    mesh.cut(A, B, Vec::new());
    let work = mesh.nodes[C].work("c", "1");
    assert!(mesh.effects(C).contains(&work));
    assert_eq!(mesh.nodes[A].broker.counters().redispatched, 1);

    mesh.at(C, |node| node.reply("c", "second"));
    assert_eq!(mesh.sends(A), [reply("c", "echo", "second")]);
    mesh.at(B, |node| node.reply("b", "first"));
    assert_eq!(mesh.sends(A), [], "nothing of a lost link survives");
    assert_eq!(dropped(&mesh, B, DropReason::OriginGone), 1);
    mesh.assert_idle();
}

#[test]
fn under_at_most_once_the_request_of_a_lost_link_is_given_up() {
    let mut mesh = served_elsewhere(&["w"], &at_most_once());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.cut(A, B, Vec::new());
    mesh.connect(A, B);
    mesh.at(B, |node| node.reply("w", "late"));
    mesh.settle();

    assert_eq!(mesh.forwarded_bodies(), ["1"]);
    assert_eq!(dropped(&mesh, A, DropReason::OutcomeUnknown), 1);
    mesh.assert_idle();
}

#[test]
fn request_that_certainly_never_left_is_sent_again_even_at_most_once() {
    let mut mesh = served_elsewhere(&["w"], &at_most_once());
    mesh.delivers = false;
    mesh.at(A, |node| node.request("c", "echo", "1"));
    let unsent = mesh.on_the_way(A, B);
    assert_eq!(unsent.len(), 1);

    mesh.delivers = true;
    mesh.cut(A, B, unsent);
    mesh.connect(A, B);
    mesh.settle();
    assert_eq!(mesh.forwarded_bodies(), ["1", "1"]);
    mesh.at(B, |node| node.reply("w", "once"));
    assert_eq!(mesh.sends(A), [reply("c", "echo", "once")]);
}

#[test]
fn all_requests_of_a_lost_link_are_accounted_for_when_the_first_of_them_is_too_old() {
    let ttl = Duration::from_secs(1);
    let settings = with_policy(|policy| policy.request_ttl = ttl);
    let mut mesh = served_elsewhere(&["w1", "w2"], &settings);
    mesh.delivers = false;
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    let unsent = mesh.on_the_way(A, B);
    assert_eq!(unsent.len(), 2);
    mesh.nodes[A].skip(2 * ttl);

    mesh.cut(A, B, unsent);

    let gauges = mesh.nodes[A].broker.gauges();
    assert_eq!((gauges.services, gauges.queued_bytes, gauges.forwarded_requests), (0, 0, 0));
    assert_eq!(dropped(&mesh, A, DropReason::Expired), 2);
}

#[test]
fn attempts_are_counted_over_all_nodes() {
    let mut mesh = served_elsewhere(&["w1", "w2", "w3", "w4"], &Settings::default());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    for _ in 0..3 {
        mesh.cut(A, B, Vec::new());
        mesh.connect(A, B);
        mesh.settle();
    }
    assert_eq!(mesh.forwarded_bodies(), ["1", "1", "1"]);
    assert_eq!(dropped(&mesh, A, DropReason::AttemptsExhausted), 1);
}

#[test]
fn origin_decides_about_the_request_of_a_lost_worker() {
    let mut mesh = served_elsewhere(&["w1", "w2"], &Settings::default());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(B, |node| node.lost("w1"));

    let work = mesh.nodes[B].work("w2", "1");
    assert!(mesh.effects(B).contains(&work));
    assert_eq!(mesh.forwarded_bodies(), ["1", "1"]);
    assert_eq!(mesh.nodes[B].broker.counters().redispatched, 0);
    assert_eq!(mesh.nodes[A].broker.counters().redispatched, 1);

    let mut mesh = served_elsewhere(&["w1", "w2"], &at_most_once());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(B, |node| node.lost("w1"));
    assert_eq!(dropped(&mesh, A, DropReason::OutcomeUnknown), 1);
}

#[test]
fn hand_over_that_failed_at_the_owner_is_no_attempt() {
    let mut mesh = served_elsewhere(&["w1", "w2"], &at_most_once());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(B, |node| node.lost_unsent("w1"));

    let work = mesh.nodes[B].work("w2", "1");
    assert!(mesh.effects(B).contains(&work), "the owner itself may give it to another");
}

#[test]
fn requests_that_wait_are_returned_when_the_last_worker_goes() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.at(B, |node| node.disconnect("w"));
    mesh.settle();

    assert_eq!(mesh.nodes[A].broker.gauges().queued_requests, 2);
    assert_eq!(mesh.nodes[A].broker.gauges().forwarded_requests, 0);
    mesh.worker(A, "a");
    let work = mesh.nodes[A].work("a", "1");
    assert!(mesh.effects(A).contains(&work), "in the order of their arrival");
}

#[test]
fn parts_of_a_reply_stream_through_in_the_version_of_the_client() {
    let mut mesh = served_elsewhere(&["W"], &Settings::default());
    mesh.at(A, |node| node.request("C", "echo", "1"));
    mesh.at(B, |node| node.partial("W", "one"));
    assert_eq!(mesh.sends(A), [partial("C", "echo", "one")]);
    mesh.at(B, |node| node.reply("W", "two"));
    assert_eq!(mesh.sends(A), [reply("C", "echo", "two")]);

    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(B, |node| node.partial("W", "one"));
    assert_eq!(mesh.sends(A), [], "a 0.1 client knows one reply");
    mesh.at(B, |node| node.reply("W", "two"));
    assert_eq!(mesh.sends(A).len(), 1);
    mesh.assert_idle();
}

#[test]
fn request_that_is_answered_in_part_is_given_to_nobody_else() {
    let mut mesh = served_elsewhere(&["W", "X"], &Settings::default());
    mesh.at(A, |node| node.request("C", "echo", "1"));
    mesh.at(B, |node| node.partial("W", "one"));
    mesh.cut(A, B, Vec::new());
    mesh.connect(A, B);
    mesh.settle();
    assert_eq!(mesh.forwarded_bodies(), ["1"]);
    assert_eq!(dropped(&mesh, A, DropReason::PartiallyAnswered), 1);
}

#[test]
fn request_that_waits_too_long_at_its_owner_is_dropped_by_its_origin() {
    let settings = with_policy(|policy| policy.request_ttl = Duration::from_secs(1));
    let mut mesh = served_elsewhere(&["w"], &settings);
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.advance(Duration::from_millis(1_200));

    assert_eq!(dropped(&mesh, A, DropReason::Expired), 1);
    assert_eq!(mesh.nodes[A].broker.counters().returned, 1);
    mesh.at(B, |node| node.reply("w", "slow"));
    assert_eq!(mesh.sends(A), [reply("c", "echo", "slow")]);
    mesh.assert_idle();
}

#[test]
fn what_waits_for_a_lost_origin_is_dropped_and_what_has_begun_is_finished_for_nobody() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.cut(A, B, Vec::new());
    assert_eq!(dropped(&mesh, B, DropReason::OriginGone), 1);

    mesh.at(B, |node| node.reply("w", "late"));
    assert_eq!(dropped(&mesh, B, DropReason::OriginGone), 2);
    assert_eq!(mesh.nodes[B].broker.gauges().idle_workers, 1);
    assert_eq!(mesh.nodes[B].broker.gauges().queued_bytes, 0);
}

#[test]
fn clients_of_other_nodes_take_turns_with_those_of_this_one() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    for body in 0..20 {
        mesh.at(B, |node| node.request("greedy", "echo", &format!("greedy {body}")));
    }
    mesh.at(A, |node| node.request("polite", "echo", "polite"));
    mesh.settle();

    let mut turns = 0;
    while !mesh.sends(A).contains(&reply("polite", "echo", "done")) {
        mesh.at(B, |node| node.reply("w", "done"));
        turns += 1;
        assert!(turns < 4, "the polite client waits for one turn");
    }
}

#[test]
fn owner_without_room_returns_the_request_and_it_waits_at_its_origin() {
    let settings = with_policy(|policy| policy.max_queued_requests = 1);
    let mut mesh = served_elsewhere(&["w"], &settings);
    mesh.at(B, |node| node.request("b", "echo", "1"));
    mesh.at(B, |node| node.request("b", "echo", "2"));
    mesh.at(A, |node| node.request("a", "echo", "3"));
    mesh.settle();

    let returns = mesh.seen.iter().filter(|(_, message)| {
        matches!(message, OnWire::ToOrigin(ToOrigin::Return { cause: ReturnCause::NoRoom, .. }))
    });
    assert!(returns.count() >= 1);
    assert_eq!(mesh.nodes[A].broker.gauges().queued_requests, 1);
    for _ in 0..3 {
        mesh.at(B, |node| node.reply("w", "done"));
        mesh.settle();
    }
    mesh.assert_idle();
}

#[test]
fn use_of_a_service_by_one_origin_alone_needs_no_word_of_its_owner() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.seen.clear();
    for body in 0..100 {
        mesh.at(A, |node| node.request("c", "echo", &body.to_string()));
        mesh.at(B, |node| node.reply("w", "done"));
        mesh.settle();
    }
    let is_load = |message: &OnWire| matches!(message, OnWire::ToOrigin(ToOrigin::Load(_)));
    assert_eq!(mesh.seen.iter().filter(|(_, message)| is_load(message)).count(), 0);
}

#[test]
fn origins_are_told_of_changes_at_most_once_in_a_millisecond() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.seen.clear();
    for _ in 0..100 {
        mesh.at(B, |node| node.request("c", "echo", "local"));
        mesh.at(B, |node| node.reply("w", "done"));
    }
    let is_load = |message: &OnWire| matches!(message, OnWire::ToOrigin(ToOrigin::Load(_)));
    assert!(mesh.seen.iter().filter(|(_, message)| is_load(message)).count() <= 1);
}

#[test]
fn late_word_of_an_owner_changes_nothing() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    let link = mesh.link(A, B).unwrap();
    for message in [
        ToOrigin::Reply {
            id: mdp_wire::relay::ForwardId(99),
            is_last: true,
            body: [vec![1]].into(),
        },
        ToOrigin::Return { id: mdp_wire::relay::ForwardId(99), cause: ReturnCause::WorkerLost },
    ] {
        mesh.at(A, |node| node.input(mdp_broker::Input::FromOwner { link, message }));
    }
    assert_eq!(mesh.sends(A), []);
    assert_eq!(dropped(&mesh, A, DropReason::LateReply), 2);
}

#[test]
fn repeated_request_of_a_link_is_executed_once() {
    let mut mesh = served_elsewhere(&["w1", "w2"], &Settings::default());
    mesh.at(A, |node| node.request("c", "echo", "1"));
    let (link, message) = mesh.seen.last().unwrap().clone();
    let OnWire::ToOwner(ToOwner::Forward(forward)) = message else { panic!("{message:?}") };
    let service = mdp_wire::ServiceFrame::try_new(b"echo".to_vec()).unwrap();
    let again = mdp_wire::relay::Forward {
        id: forward.id,
        client: forward.client,
        ttl: forward.ttl,
        service,
        body: forward.body,
    };
    let message = ToOwner::Forward(again);
    mesh.at(B, |node| node.input(mdp_broker::Input::FromOrigin { link, message }));

    assert_eq!(mesh.nodes[B].broker.gauges().held_requests, 1);
    assert_eq!(dropped(&mesh, B, DropReason::RepeatedForward), 1);
}

#[test]
fn every_link_counts_down_to_nothing() {
    let mut mesh = Mesh::new(3);
    mesh.worker(B, "w");
    mesh.settle();
    mesh.at(B, |node| node.disconnect("w"));
    mesh.settle();
    for node in 0..3 {
        assert_eq!(mesh.nodes[node].broker.gauges().services, 0, "node {node} forgets the service");
    }
    assert_eq!(mesh.origins_of(B).len(), 2);
    assert!(!mesh.deliver_one(mesh.links()[0], LinkRole::Owner));
}
