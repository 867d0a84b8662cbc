//! A cluster of real processes, each with a network namespace of its own. Clients and workers are in
//! this process, on the same switch.

use std::ops::{Deref, DerefMut};

use crate::{ClusterNode, Disturbance, Lost, LostWrites, NODES, Network, TestCluster, Trouble};

/// A cluster and its network; both are gone when it is dropped.
#[derive(Debug)]
pub struct NetworkedCluster {
    /// Before the network: processes end before their places do.
    cluster: TestCluster,
    network: Network,
    writes: Vec<LostWrites>,
}

impl NetworkedCluster {
    /// Three nodes, ready.
    #[must_use]
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let mut cluster = Self::unstarted(settings);
        cluster.cluster = cluster.cluster.started();
        cluster
    }

    /// Three nodes that do not run yet.
    #[must_use]
    #[track_caller]
    pub fn unstarted(settings: &[(&str, &str)]) -> Self {
        let network = Network::new(NODES).unwrap_or_else(|error| panic!("no network: {error}"));
        let cluster = TestCluster::unstarted_in(&network, settings);
        Self { cluster, network, writes: Vec::new() }
    }

    /// Starts all nodes and waits until they are ready.
    #[must_use]
    #[track_caller]
    pub fn started(mut self) -> Self {
        self.cluster = self.cluster.started();
        self
    }

    /// Remembers from the next start on what the nodes write, so that it can be lost.
    pub fn remember_writes(&mut self) {
        let writes = |node: &mut ClusterNode| {
            let scratch = node.directory().join("lost-writes");
            let writes = LostWrites::new(&node.data_dir(), &scratch);
            let writes = writes.unwrap_or_else(|error| panic!("writes are not lost: {error}"));
            node.set_environment(writes.environment());
            writes
        };
        self.writes = self.cluster.nodes_mut().iter_mut().map(writes).collect();
    }

    /// Starts a node that was killed; what it had written is safe now.
    #[track_caller]
    pub fn start_again(&mut self, node: usize) {
        if let Some(writes) = self.writes.get(node) {
            writes.keep_all();
        }
        self.cluster.node_mut(node).start();
    }

    /// Kills a node, and loses what it had not synchronised: all of it or some. How many writes.
    #[track_caller]
    pub fn lose_power(&mut self, node: usize, lost: Lost<'_>) -> usize {
        self.cluster.node_mut(node).kill();
        let writes = self.writes.get(node);
        writes.unwrap_or_else(|| panic!("nobody remembers what was written")).lose(lost)
    }

    /// Lets this happen to packets between nodes, and nothing else, from now on.
    #[track_caller]
    pub fn disturb(&self, disturbances: &[Disturbance]) {
        self.network.disturb(disturbances).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lets every packet pass again.
    #[track_caller]
    pub fn heal_network(&self) {
        self.disturb(&[]);
    }

    /// The same trouble in both directions between a node and each of these.
    #[must_use]
    pub fn both_ways(node: usize, others: &[usize], trouble: Trouble) -> Vec<Disturbance> {
        let ways = others.iter().flat_map(|&other| [(node, other), (other, node)]);
        ways.map(|(from, to)| Disturbance { from, to, trouble }).collect()
    }

    /// Cuts a node off from all others. Clients still reach it.
    #[track_caller]
    pub fn partition(&self, node: usize) {
        let others: Vec<usize> = self.cluster.others(&[node]).collect();
        self.disturb(&Self::both_ways(node, &others, Trouble::Cut));
    }

    /// Cuts one direction: a node that is still heard hears nobody any more; one that is not heard
    /// still hears all.
    #[track_caller]
    pub fn cut_one_way(&self, node: usize, is_heard: bool) {
        let others: Vec<usize> = self.cluster.others(&[node]).collect();
        let mut cuts = Self::both_ways(node, &others, Trouble::Cut);
        cuts.retain(|cut| (cut.to == node) == is_heard);
        self.disturb(&cuts);
    }
}

impl Deref for NetworkedCluster {
    type Target = TestCluster;

    fn deref(&self) -> &TestCluster {
        &self.cluster
    }
}

impl DerefMut for NetworkedCluster {
    fn deref_mut(&mut self) -> &mut TestCluster {
        &mut self.cluster
    }
}
