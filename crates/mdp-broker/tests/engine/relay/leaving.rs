//! Nodes that drain beside others.

use std::time::Duration;

use mdp_broker::{DropReason, Effect, Receipt, Settings};

use super::{A, B, dropped, served_elsewhere};
use crate::{
    effects::{disconnect, reply},
    mesh::Mesh,
};

fn receipt_of(effects: &[Effect<Vec<u8>>]) -> Option<Receipt> {
    effects.iter().find_map(|effect| match effect {
        Effect::Drained(receipt) => Some(*receipt),
        Effect::Send { .. }
        | Effect::ToOwner { .. }
        | Effect::ToOrigin { .. }
        | Effect::Propose(_)
        | Effect::Lookup { .. }
        | Effect::Describe { .. }
        | Effect::Note(_) => None,
    })
}

#[test]
fn owner_that_drains_returns_what_waits_and_finishes_what_has_begun() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.settle();
    mesh.at(B, |node| node.drain(Duration::from_secs(20)));
    assert_eq!(mesh.nodes[A].broker.gauges().queued_requests, 1);
    assert_eq!(receipt_of(&mesh.effects(B)), None);

    mesh.at(B, |node| node.reply("w", "done"));
    mesh.advance(Duration::from_millis(200));
    let effects = mesh.effects(B);
    assert!(effects.contains(&disconnect("w")), "after its reply");
    let receipt = Receipt { finished: 1, handed_over: 1, dropped: 0 };
    assert_eq!(receipt_of(&effects), Some(receipt));
    assert_eq!(mesh.sends(A), [reply("c", "echo", "done")]);
}

#[test]
fn origin_that_drains_hands_over_what_its_clients_have_waiting_and_still_ask() {
    let mut mesh = Mesh::new(2);
    mesh.worker(A, "a");
    for body in ["1", "2"] {
        mesh.at(A, |node| node.request("c", "echo", body));
    }
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.worker(B, "b");
    mesh.settle();
    let work = mesh.nodes[B].work("b", "2");
    assert!(mesh.effects(B).contains(&work));

    mesh.at(A, |node| node.reply("a", "one"));
    assert!(mesh.effects(A).contains(&disconnect("a")));
    mesh.at(A, |node| node.request("d", "echo", "3"));
    mesh.at(B, |node| node.reply("b", "two"));
    mesh.at(B, |node| node.reply("b", "three"));
    mesh.advance(Duration::from_millis(200));
    let receipt = Receipt { finished: 1, handed_over: 2, dropped: 0 };
    assert_eq!(receipt_of(&mesh.effects(A)), Some(receipt));
}

#[test]
fn node_that_drains_waits_a_moment_for_its_workers_to_serve_elsewhere() {
    let mut mesh = Mesh::new(2);
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.advance(Duration::from_millis(300));
    mesh.worker(B, "w");
    mesh.settle();
    mesh.at(B, |node| node.reply("w", "done"));
    assert!(mesh.sends(A).contains(&reply("c", "echo", "done")));

    let mut mesh = Mesh::new(2);
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.advance(Duration::from_millis(1_100));
    let receipt = Receipt { finished: 0, handed_over: 0, dropped: 1 };
    assert_eq!(receipt_of(&mesh.effects(A)), Some(receipt));
}

/// Whom a node has sent away since this was asked last.
fn sent_away(mesh: &mut Mesh, node: usize) -> Vec<&'static str> {
    let effects = mesh.effects(node);
    ["v", "w"].into_iter().filter(|worker| effects.contains(&disconnect(worker))).collect()
}

#[test]
fn last_worker_of_a_draining_node_stays_until_the_others_serve_elsewhere() {
    let mut mesh = Mesh::new(2);
    for worker in ["v", "w"] {
        mesh.worker(A, worker);
    }
    mesh.effects(A);
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.advance(Duration::from_millis(300));
    assert_eq!(sent_away(&mut mesh, A), ["v"]);
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(A, |node| node.reply("w", "done"));
    assert!(mesh.sends(A).contains(&reply("c", "echo", "done")), "it works meanwhile");

    mesh.worker(B, "v");
    mesh.settle();
    assert_eq!(sent_away(&mut mesh, A), ["w"]);
    mesh.advance(Duration::from_millis(200));
    assert!(receipt_of(&mesh.effects(A)).is_some());
}

#[test]
fn last_worker_of_a_draining_node_goes_at_once_when_it_is_alone_and_else_within_a_second() {
    let mut mesh = Mesh::new(2);
    mesh.worker(A, "w");
    mesh.effects(A);
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    assert_eq!(sent_away(&mut mesh, A), ["w"]);

    let mut mesh = Mesh::new(2);
    for worker in ["v", "w"] {
        mesh.worker(A, worker);
    }
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.effects(A);
    mesh.advance(Duration::from_millis(999));
    assert_eq!(sent_away(&mut mesh, A), Vec::<&str>::new());
    mesh.advance(Duration::from_millis(1));
    assert_eq!(sent_away(&mut mesh, A), ["w"]);
}

#[test]
fn last_worker_goes_within_a_second_also_when_another_node_is_found_in_the_middle_of_a_drain() {
    let mut mesh = Mesh::new(2);
    for (origin, owner) in [(A, B), (B, A)] {
        mesh.cut(origin, owner, Vec::new());
    }
    for worker in ["v", "w"] {
        mesh.worker(A, worker);
    }
    mesh.at(A, |node| node.request("c", "echo", "1"));
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.effects(A);
    mesh.connect(A, B);
    mesh.at(A, |node| node.reply("v", "done"));
    assert_eq!(sent_away(&mut mesh, A), Vec::<&str>::new());

    mesh.advance(Duration::from_secs(1));
    assert_eq!(sent_away(&mut mesh, A), ["v"]);
    assert_eq!(mesh.nodes[A].broker.gauges().workers, 0);
}

#[test]
fn node_that_drains_gives_its_clients_time_to_leave_but_not_for_ever() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    let mut waited = Duration::ZERO;
    while receipt_of(&mesh.effects(A)).is_none() {
        mesh.at(A, |node| node.request("c", "echo", "1"));
        mesh.at(B, |node| node.reply("w", "done"));
        mesh.advance(Duration::from_millis(20));
        waited += Duration::from_millis(20);
        assert!(waited < Duration::from_secs(3));
    }
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    mesh.assert_idle();
}

#[test]
fn node_that_has_drained_takes_nothing_more() {
    let mut mesh = served_elsewhere(&["w"], &Settings::default());
    mesh.at(A, |node| node.drain(Duration::from_secs(20)));
    mesh.advance(Duration::from_millis(200));
    assert!(receipt_of(&mesh.effects(A)).is_some());

    mesh.at(A, |node| node.request("c", "echo", "too late"));
    assert_eq!(mesh.forwarded_bodies(), Vec::<String>::new());
    assert_eq!(dropped(&mesh, A, DropReason::Draining), 1);
}
