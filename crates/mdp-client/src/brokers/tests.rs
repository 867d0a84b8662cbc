//! Which brokers are known, and which of them is chosen.

use std::time::Duration;

use super::*;
use crate::listing::ListedNode;

const UNUSED: fn(usize) -> bool = |_| false;

fn strings(endpoints: &[&str]) -> Vec<String> {
    endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect()
}

fn nodes(endpoints: &[String], epoch: Option<u64>) -> Nodes {
    let listed = endpoints.iter().map(|endpoint| {
        let endpoint = endpoint.clone();
        ListedNode { endpoint, epoch }
    });
    Nodes { listed: listed.collect(), has_answering: None, limits: None }
}

fn list(endpoints: &[&str]) -> Nodes {
    nodes(&strings(endpoints), None)
}

/// From a node that says its name, whether in the list or not.
fn named_list(endpoints: &[&str], has_answering: bool) -> Nodes {
    Nodes { has_answering: Some(has_answering), ..list(endpoints) }
}

fn brokers(configured: &[&str]) -> Brokers {
    Brokers::new(strings(configured))
}

fn leaving(brokers: &Brokers) -> Vec<usize> {
    (0..brokers.len()).filter(|broker| brokers.is_leaving(*broker)).collect()
}

#[test]
fn learned_endpoints_come_behind_the_configured_ones() {
    let mut brokers = brokers(&["tcp://b:1"]);

    brokers.learn(0, &list(&["tcp://a:1", "b:1", "c:1"]), UNUSED);

    let endpoints: Vec<_> = (0..brokers.len()).map(|b| brokers.endpoint(b)).collect();
    assert_eq!(endpoints, ["tcp://b:1", "tcp://a:1", "tcp://c:1"]);
    assert!(brokers.is_trusted(0) && !brokers.is_trusted(1));
    brokers.on_up(1);
    assert!(brokers.is_trusted(1));
}

#[test]
fn addresses_that_are_none_are_ignored() {
    let mut brokers = brokers(&["tcp://a:1"]);

    brokers.learn(0, &list(&["", "x", "tcp://*:5", "inproc://x", "ipc:///x", "a:1"]), UNUSED);

    assert_eq!((brokers.len(), leaving(&brokers)), (1, vec![]));
}

#[test]
fn endpoint_that_is_listed_no_more_leaves() {
    let mut brokers = brokers(&["tcp://a:1"]);
    brokers.learn(0, &list(&["a:1", "b:1"]), UNUSED);
    assert_eq!(leaving(&brokers), [0; 0]);

    brokers.learn(0, &list(&["b:1"]), UNUSED);
    assert_eq!(leaving(&brokers), [0]);

    brokers.learn(0, &list(&["a:1", "b:1"]), UNUSED);
    assert_eq!(leaving(&brokers), [0; 0]);
}

#[test]
fn endpoint_under_a_name_of_ours_does_not_leave() {
    let mut brokers = brokers(&["tcp://balancer:1"]);

    brokers.learn(0, &list(&["a:1", "b:1"]), UNUSED);

    assert_eq!(leaving(&brokers), [0; 0]);
}

#[test]
fn node_under_a_name_of_ours_leaves_when_it_says_so() {
    let mut brokers = brokers(&["tcp://balancer:1"]);

    brokers.learn(0, &named_list(&["a:1", "b:1"], true), UNUSED);
    assert_eq!(leaving(&brokers), [0; 0]);
    brokers.learn(0, &named_list(&["b:1"], false), UNUSED);
    assert_eq!(leaving(&brokers), [0, 1]);

    // What another node says does not tell who is reached there.
    brokers.learn(2, &named_list(&["b:1"], true), UNUSED);
    assert_eq!(leaving(&brokers), [0, 1]);
    brokers.learn(0, &named_list(&["b:1"], true), UNUSED);
    assert_eq!(leaving(&brokers), [1]);
}

#[test]
fn name_of_ours_may_lead_to_another_node_when_the_connection_is_lost() {
    let mut brokers = brokers(&["tcp://balancer:1"]);
    brokers.learn(0, &named_list(&["b:1"], false), UNUSED);
    assert_eq!(leaving(&brokers), [0]);

    brokers.on_failed(Instant::now(), 0);

    assert_eq!(leaving(&brokers), [0; 0]);
}

#[test]
fn node_that_lists_itself_does_not_leave_whatever_its_address() {
    let mut brokers = brokers(&["tcp://balancer:1", "tcp://b:1"]);

    brokers.learn(0, &named_list(&["a:1", "b:1"], true), UNUSED);

    assert_eq!(leaving(&brokers), [0; 0]);
}

#[test]
fn list_with_one_configured_endpoint_says_that_the_others_leave() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);

    brokers.learn(0, &list(&["b:1"]), UNUSED);

    assert_eq!(leaving(&brokers), [0]);
}

#[test]
fn empty_list_says_nothing() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);
    brokers.learn(0, &list(&["a:1", "b:1"]), UNUSED);

    brokers.learn(0, &list(&[]), UNUSED);

    assert_eq!(leaving(&brokers), [0; 0]);
}

#[test]
fn learned_endpoints_are_bounded_and_give_way_when_gone() {
    let mut brokers = brokers(&["tcp://a:1"]);
    let many =
        |host: &str| nodes(&(1..100).map(|n| format!("{host}:{n}")).collect::<Vec<_>>(), None);

    brokers.learn(0, &many("old"), UNUSED);
    assert_eq!(brokers.len(), 1 + LEARNED_ENDPOINTS_MAX);
    brokers.learn(0, &list(&["a:1"]), UNUSED);
    brokers.learn(0, &many("new"), |broker| broker == 2);

    assert_eq!(brokers.len(), 1 + LEARNED_ENDPOINTS_MAX);
    assert_eq!(brokers.endpoint(1), "tcp://new:1");
    assert_eq!(brokers.endpoint(2), "tcp://old:2", "in use");
}

#[test]
fn best_is_the_first_that_neither_leaves_nor_failed() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1", "tcp://c:1"]);
    let now = Instant::now();
    assert_eq!(brokers.best(0..3), Some(0));

    brokers.on_failed(now, 0);
    assert_eq!(brokers.best(0..3), Some(1));
    brokers.learn(0, &list(&["a:1", "c:1"]), UNUSED);
    assert_eq!(brokers.best(0..3), Some(2));
    brokers.on_failed(now + Duration::from_secs(1), 2);
    assert_eq!(brokers.best(0..3), Some(0), "it failed longer ago");
    assert_eq!(brokers.best(1..2), Some(1), "better than none");
    assert_eq!(brokers.best(0..0), None);
}

/// How often each of the brokers is chosen.
fn choices(brokers: &Brokers, now: Instant) -> Vec<usize> {
    let mut counts = vec![0; brokers.len()];
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        counts[brokers.choose(now, &mut rng, 0..brokers.len()).unwrap()] += 1;
    }
    counts
}

#[test]
fn brokers_of_equal_rank_are_chosen_equally_often() {
    let brokers = brokers(&["tcp://a:1", "tcp://b:1", "tcp://c:1"]);

    let counts = choices(&brokers, Instant::now());

    // The seed is fixed; five standard deviations are 129.
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 129), "{counts:?}");
}

#[test]
fn failed_broker_is_chosen_again_when_it_is_listed_or_after_a_time() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);
    let now = Instant::now();
    brokers.on_failed(now, 0);
    assert_eq!(choices(&brokers, now), [0, 3_000]);
    assert!(choices(&brokers, now + FAILURE_MEMORY)[0] > 1_000);

    brokers.learn(1, &list(&["a:1", "b:1"]), UNUSED);

    assert!(choices(&brokers, now)[0] > 1_000);
}

#[test]
fn broker_that_leaves_comes_last() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);
    brokers.learn(0, &list(&["b:1"]), UNUSED);

    assert_eq!(choices(&brokers, Instant::now()), [0, 3_000]);
}

#[test]
fn newcomers_are_added_back_or_started_again() {
    let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);
    let only = |broker| {
        let mut set = BrokerSet::default();
        set.insert(broker);
        set
    };
    let with_epochs = |epochs: [u64; 2]| {
        let mut nodes = list(&["a:1", "b:1"]);
        for (node, epoch) in nodes.listed.iter_mut().zip(epochs) {
            node.epoch = Some(epoch);
        }
        nodes
    };

    assert!(brokers.learn(0, &with_epochs([1, 2]), UNUSED).is_empty(), "the first list");
    assert!(brokers.learn(0, &with_epochs([1, 2]), UNUSED).is_empty());
    assert_eq!(brokers.learn(0, &with_epochs([1, 5]), UNUSED), only(1), "started again");
    let mut gone = with_epochs([1, 5]);
    gone.listed.pop();
    assert!(brokers.learn(0, &gone, UNUSED).is_empty());
    assert_eq!(brokers.learn(0, &with_epochs([1, 5]), UNUSED), only(1), "back");
    let mut added = with_epochs([1, 5]);
    added.listed.push(ListedNode { endpoint: "c:1".to_owned(), epoch: Some(9) });
    assert_eq!(brokers.learn(0, &added, UNUSED), only(2), "added");
}
