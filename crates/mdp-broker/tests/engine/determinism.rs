//! The same inputs have the same effects.

use std::time::Duration;

use mdp_broker::Settings;

use crate::support::{BrokerTest, Cluster, Effects};

/// A little of everything.
fn story(seed: u8) -> Effects {
    let mut test = BrokerTest::with_seed(Settings::default(), seed);
    for (worker, name) in [("w1", "echo"), ("W2", "echo"), ("w3", "other"), ("w4", "mmi.x")] {
        test.ready(worker, name);
    }
    for client in ["c1", "C2", "c3"] {
        for body in ["a", "b", "c"] {
            test.request(client, "echo", body);
            test.request(client, "nobody", body);
        }
    }
    test.partial("W2", "part");
    test.reply("w1", "done");
    test.cluster = Cluster::NoQuorum;
    test.request("c1", "mmi.service", "echo");
    test.advance(Duration::from_secs(3));
    test.cluster = Cluster::Answers;
    test.lost("W2");
    test.advance(Duration::from_secs(61));
    test.ready("w5", "echo");
    test.skip(Duration::from_secs(600));
    test.handle_timeout();
    test.drain(Duration::from_secs(5));
    test.advance(Duration::from_secs(6));
    test.effects()
}

#[test]
fn same_inputs_have_the_same_effects() {
    let (first, second) = (story(1), story(1));

    assert_eq!(first, second);
    assert!(first.len() > 40, "the story has something to compare: {}", first.len());
}

#[test]
fn another_seed_changes_the_tokens_only() {
    let (first, second) = (story(1), story(2));

    assert_ne!(first, second);
    assert_eq!(first.len(), second.len());
}
