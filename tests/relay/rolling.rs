//! All nodes are restarted, one after the other, while clients call.

use std::time::{Duration, Instant};

use cluster_tests::{Code, Reachable, Sighting, TestCluster, Watch};
use rustix::process::Signal;

use crate::crew::{Callers, Crew, HEARTBEATS};

/// How often a client of each node asks `mmi.service`.
const PERIOD: Duration = Duration::from_millis(10);

/// How long a node may take to leave under load.
const LEFT_WITHIN: Duration = Duration::from_secs(20);

/// CL-19: all nodes are restarted in turn under load; with retries no call fails, and no answer of
/// `mmi.service` is wrong.
#[test]
fn rolling_restart_fails_no_call() {
    let mut cluster = TestCluster::start(&[HEARTBEATS]);
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let from = |first: usize| [&endpoints[first..], &endpoints[..first]].concat();
    let mut crew = Crew::new("echo");
    // Two at each node: whenever one leaves, another one has workers.
    (0..6).for_each(|worker| crew.hire(&from(worker % 3)));
    crew.wait_until_registered(6);
    let watches: Vec<Watch> =
        cluster.nodes().iter().map(|node| Watch::start(node, &["echo"], PERIOD)).collect();
    let callers = Callers::start("echo", &[endpoints.clone(), endpoints.clone()].concat());
    let started_at = Instant::now();
    // From the last to the first, as Kubernetes does it. In the other order, clients whose timeout is as
    // long as a restart would follow it from node to node.
    for node in (0..3).rev() {
        cluster.node(node).signal(Signal::TERM);
        let code = cluster.node_mut(node).wait_for_exit(LEFT_WITHIN);
        assert_eq!(code, Some(0), "{}", cluster.node(node).log());
        cluster.node_mut(node).start();
        cluster.wait_until_ready();
        crew.wait_until_registered(6);
        // Workers that had to leave do not come back by themselves.
        crew = relieved(crew, from);
    }

    let calls = callers.finish();
    println!(
        "{} calls in {:?}, {} of them repeated",
        calls.answered,
        started_at.elapsed(),
        calls.retried
    );
    assert_eq!(calls.failed, Vec::<String>::new(), "of {}", calls.answered);
    assert!(calls.answered > 100, "{calls:?}");
    for watch in watches {
        let (sightings, _) = watch.finish();
        let wrong: Vec<&Sighting> =
            sightings.iter().filter(|seen| seen.code == Code::NotFound).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    drop(crew);
}

/// Six new workers, two at each node; the old ones leave once they are there.
fn relieved(old: Crew, from: impl Fn(usize) -> Vec<String>) -> Crew {
    let mut new = Crew::new("echo");
    (0..6).for_each(|worker| new.hire(&from(worker % 3)));
    new.wait_until_registered(6);
    assert!(!old.leave().is_empty(), "nobody worked");
    new
}
