#![cfg(test)]
//! Two versions in one cluster: this one, and a build with `test-next`, which stands in for the next
//! one and speaks one more format of calls and one more wire version of relayed requests.

mod formats;
mod last;
mod networks;
mod node_keys;
mod rolling;
mod storm;
mod upgrade;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster_tests::{ClusterNode, TestCluster, last_program, next_program, program, wait_until};

/// One test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

/// How long nodes may take to speak as they should.
const SPEAK_WITHIN: Duration = Duration::from_secs(10);

/// So many calls in one format, and none in the other, are enough to believe it.
const CALLS: u64 = 100;

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A version of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    This,
    Next,
    /// The last one that is written down.
    Last,
}

impl Release {
    /// From its next start on, the node runs this version.
    fn install(self, node: &mut ClusterNode) {
        node.set_program(match self {
            Self::This => program(),
            Self::Next => next_program(),
            Self::Last => last_program().unwrap(),
        });
    }

    const fn version(self) -> &'static str {
        match self {
            // Nobody asks what the last one is called.
            Self::This | Self::Last => env!("CARGO_PKG_VERSION"),
            Self::Next => "0.2.0",
        }
    }
}

/// A cluster of these versions, not started yet.
fn cluster_of(releases: [Release; 3]) -> TestCluster {
    let mut cluster = TestCluster::unstarted(&[]);
    for (node, release) in cluster.nodes_mut().iter_mut().zip(releases) {
        release.install(node);
    }
    cluster
}

fn sent_calls(node: &ClusterNode, format: u16) -> u64 {
    node.metric(&format!("raft_sent_calls_total{{format=\"{format}\"}}"))
}

fn made_links(node: &ClusterNode, wire: u16) -> u64 {
    node.metric(&format!("relay_made_links_total{{wire=\"{wire}\"}}"))
}

/// Waits until these nodes send calls in this format and in no other.
#[track_caller]
fn wait_until_all_speak(cluster: &TestCluster, nodes: &[usize], format: u16) {
    let all =
        |format| nodes.iter().map(|node| sent_calls(cluster.node(*node), format)).sum::<u64>();
    let mut since = (all(format), all(3 - format));
    wait_until(&format!("all calls are in format {format}"), SPEAK_WITHIN, || {
        let now = (all(format), all(3 - format));
        if now.1 != since.1 {
            since = now;
        }
        now.0 >= since.0 + CALLS
    });
}
