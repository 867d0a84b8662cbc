//! Three nodes on three hosts, on a network of function calls that writes down what it carries.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use mdp_catalog::{Endpoints, Incarnation, NodeName, SoftwareVersion};
use mdp_raft::{
    BoxFuture, CallError, ClusterStatus, ConsensusConfig, FORMATS, Lane, News, RaftView, Seed,
    Transport, news,
};
use openraft_rt::AsyncRuntime as _;
use tokio::time::Instant;

use super::{
    super::{Consensus, Host, next_number, runtime::HostRuntime},
    volume::MemoryVolume,
};
use crate::shared::Shared;

/// How long anything may take, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Carries calls, each way within some milliseconds.
#[derive(Debug)]
struct Network {
    begin: Instant,
    seed: Shared<u64>,
    listeners: Shared<BTreeMap<String, (Host, Consensus)>>,
    events: Shared<Vec<String>>,
    calls: Shared<BTreeMap<String, usize>>,
}

impl Network {
    fn write_down(&self, event: &str) {
        self.events.lock().push(format!("{:?} {event}", self.begin.elapsed()));
    }

    /// The network's time is true.
    async fn delay(&self) {
        let milliseconds = next_number(&mut self.seed.lock()) % 5;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

#[derive(Debug)]
struct Port {
    network: Arc<Network>,
    from: String,
}

impl Transport for Port {
    fn call(
        &self,
        to: &str,
        _lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let (network, to) = (Arc::clone(&self.network), to.to_owned());
        let from = self.from.clone();
        Box::pin(async move {
            *network.calls.lock().entry(from.clone()).or_default() += 1;
            let answer = async {
                network.delay().await;
                let listener = network.listeners.lock().get(&to).cloned();
                let (host, listener) = listener.ok_or(CallError::Unreachable)?;
                network.write_down(&format!("{from} calls {to}: {request:?}"));
                // Whatever becomes of the caller, who is called goes on.
                let answering = host.run(async move { listener.answer(request).await });
                let answer = tokio::spawn(answering).await.unwrap().ok_or(CallError::Timeout)?;
                network.delay().await;
                network.write_down(&format!("{to} answers {from}: {answer:?}"));
                Ok(answer)
            };
            let answered = HostRuntime::timeout(timeout, answer).await;
            answered.unwrap_or(Err(CallError::Timeout))
        })
    }
}

struct SimNode {
    host: Host,
    volume: MemoryVolume,
    consensus: Consensus,
}

pub(super) struct SimCluster {
    network: Arc<Network>,
    nodes: Vec<SimNode>,
}

fn endpoint(node: usize) -> String {
    format!("tcp://n{node}:5556")
}

fn name(node: usize) -> NodeName {
    format!("n{node}").parse().unwrap()
}

impl SimCluster {
    pub(super) async fn start(seed: u64) -> Self {
        let network = Arc::new(Network {
            begin: Instant::now(),
            seed: Shared::new(seed),
            listeners: Shared::default(),
            events: Shared::default(),
            calls: Shared::default(),
        });
        let mut cluster = Self { network, nodes: Vec::new() };
        for node in 0..3 {
            let host = Host::new(seed.wrapping_mul(3) + node as u64);
            let volume = MemoryVolume::default();
            let consensus = cluster.run(node, &host, &volume).await;
            cluster.nodes.push(SimNode { host, volume, consensus });
        }
        cluster
    }

    async fn run(&self, node: usize, host: &Host, volume: &MemoryVolume) -> Consensus {
        let seed = |node| Seed { name: name(node), endpoint: endpoint(node) };
        let config = ConsensusConfig {
            name: name(node),
            data_dir: PathBuf::from("memory"),
            seeds: (0..3).map(seed).collect(),
            endpoints: Endpoints {
                cluster: endpoint(node),
                relay: format!("tcp://n{node}:5557"),
                ..Endpoints::default()
            },
            version: SoftwareVersion { major: 0, minor: 1, patch: 0 },
            formats: FORMATS,
            // Whole milliseconds, too, by a clock that is fast by a tenth: timers have no parts.
            heartbeat_interval: Duration::from_millis(110),
            election_timeout_min: Duration::from_millis(400),
            election_timeout_max: Duration::from_millis(800),
            node_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_millis(500),
            upgrade_settle: Duration::from_secs(1),
            upgrade_hold: None,
        };
        let port = Port { network: Arc::clone(&self.network), from: endpoint(node) };
        let (sender, mut receiver) = news(|| {});
        let network = Arc::clone(&self.network);
        tokio::spawn(async move {
            while let Some(news) = receiver.recv().await {
                assert!(!matches!(news, News::Stopped(_)), "n{node}: {news:?}");
                network.write_down(&format!("n{node} hears {news:?}"));
            }
        });
        let started = Consensus::start_on(config, Arc::new(port), sender, Arc::new(volume.clone()));
        let consensus = host.run(started).await.unwrap();
        self.network.listeners.lock().insert(endpoint(node), (host.clone(), consensus.clone()));
        consensus
    }

    pub(super) fn kill(&self, node: usize) {
        self.network.listeners.lock().remove(&endpoint(node));
        self.nodes[node].host.kill();
    }

    /// Starts a node that was killed on the volume that it had.
    pub(super) async fn restart(&mut self, node: usize, seed: u64) {
        let host = Host::new(seed);
        let volume = self.nodes[node].volume.clone();
        let consensus = self.run(node, &host, &volume).await;
        self.nodes[node] = SimNode { host, volume, consensus };
    }

    pub(super) fn host(&self, node: usize) -> &Host {
        &self.nodes[node].host
    }

    pub(super) fn volume(&self, node: usize) -> &MemoryVolume {
        &self.nodes[node].volume
    }

    pub(super) fn consensus(&self, node: usize) -> &Consensus {
        &self.nodes[node].consensus
    }

    pub(super) fn status(&self, node: usize) -> ClusterStatus {
        self.host(node).look(|| self.consensus(node).status())
    }

    pub(super) fn inspect(&self, node: usize) -> RaftView {
        self.host(node).look(|| self.consensus(node).inspect())
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.network.events.lock().clone()
    }

    pub(super) fn calls_of(&self, node: usize) -> usize {
        self.network.calls.lock().get(&endpoint(node)).copied().unwrap_or(0)
    }

    pub(super) fn leader(&self) -> usize {
        self.leader_but(usize::MAX).unwrap()
    }

    /// The leader if it is another one than this.
    pub(super) fn leader_but(&self, but: usize) -> Option<usize> {
        let mut others = (0..self.nodes.len()).filter(|node| *node != but);
        others.find(|node| !self.host(*node).machine.is_killed() && self.status(*node).is_leader())
    }

    /// Whether a node has applied that the service of these tests is offered.
    pub(super) fn offers(&self, node: usize) -> bool {
        self.consensus(node).with_catalog(|catalog| catalog.is_offered(b"tea"))
    }

    /// A node's life as its own catalog has it.
    pub(super) fn incarnation(&self, node: usize) -> Incarnation {
        let name = name(node);
        let epoch = self.consensus(node).with_catalog(|catalog| catalog.node(&name).unwrap().epoch);
        Incarnation { node: name, epoch }
    }

    pub(super) async fn wait(&self, is_met: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_met(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub(super) async fn wait_ready(&self, nodes: &[usize]) {
        self.wait(|cluster| {
            let mut nodes = nodes.iter();
            nodes.all(|node| cluster.status(*node).not_ready.is_empty())
        })
        .await;
    }
}
