//! Nodes by name, on a network of function calls that can be cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mdp_catalog::{CatalogEntry, Endpoints, Incarnation, SoftwareVersion};
use mdp_wire::relay::WireRange;
use tempfile::TempDir;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    BoxFuture, CallError, Consensus, ConsensusConfig, FORMATS, Lane, News, Role, RoundId, Seed,
    Stop, Transport, news,
    types::{Membership, Payload, Vote},
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a condition holds.
pub(super) async fn patient(mut is_met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_met() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

pub(super) fn seed_list(names: &[&str]) -> Vec<Seed> {
    let seed = |name: &&str| Seed { name: name.parse().unwrap(), endpoint: endpoint(name) };
    names.iter().map(seed).collect()
}

fn endpoint(name: &str) -> String {
    format!("tcp://{name}:5556")
}

/// Who can be called, and who not.
#[derive(Debug, Default)]
pub(super) struct Network {
    listeners: Mutex<HashMap<String, Consensus>>,
    cut_off: Mutex<BTreeSet<String>>,
    /// Calls from the first to the second come to nothing.
    cut_calls: Mutex<BTreeSet<(String, String)>>,
}

impl Network {
    /// One node does not reach another one: it cannot resolve the name, say. The other one reaches it.
    pub(super) fn cut_calls(&self, from: &str, to: &str) {
        lock(&self.cut_calls).insert((endpoint(from), endpoint(to)));
    }

    /// Nobody hears this node, nor does it hear anybody.
    pub(super) fn cut_off(&self, name: &str) {
        lock(&self.cut_off).insert(endpoint(name));
    }

    pub(super) fn heal(&self) {
        lock(&self.cut_off).clear();
        lock(&self.cut_calls).clear();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        let cut_off = lock(&self.cut_off);
        cut_off.contains(from) || cut_off.contains(to)
    }

    fn has_cut_calls(&self, from: &str, to: &str) -> bool {
        lock(&self.cut_calls).contains(&(from.to_owned(), to.to_owned()))
    }
}

/// One node's access to the network.
#[derive(Debug)]
struct Port {
    network: Arc<Network>,
    endpoint: String,
}

impl Transport for Port {
    fn call(
        &self,
        to: &str,
        _lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let (network, from, to) = (Arc::clone(&self.network), self.endpoint.clone(), to.to_owned());
        Box::pin(async move {
            let answer = async {
                let listener = lock(&network.listeners).get(&to).cloned();
                let listener = listener.ok_or(CallError::Unreachable)?;
                if network.is_cut(&from, &to) || network.has_cut_calls(&from, &to) {
                    std::future::pending::<()>().await;
                }
                let answer = listener.answer(request).await.ok_or(CallError::Timeout)?;
                if network.is_cut(&from, &to) {
                    std::future::pending::<()>().await;
                }
                Ok(answer)
            };
            tokio::time::timeout(timeout, answer).await.unwrap_or(Err(CallError::Timeout))
        })
    }
}

/// What a node was told.
#[derive(Debug, Default)]
struct Told {
    reads: BTreeMap<RoundId, oneshot::Sender<Option<u64>>>,
    stopped: Option<Stop>,
}

impl Told {
    fn hear(&mut self, news: News) {
        match news {
            News::Read { round, index } => {
                let waiter = self.reads.remove(&round).expect("a round that was begun");
                waiter.send(index).expect("somebody who waits for the round");
            }
            News::Stopped(stop) => self.stopped = Some(stop),
            News::Applied { .. } | News::Replaced { .. } => {}
        }
    }
}

/// A running node.
#[derive(Debug)]
pub(super) struct TestNode {
    consensus: Consensus,
    name: String,
    told: Arc<Mutex<Told>>,
}

impl Deref for TestNode {
    type Target = Consensus;

    fn deref(&self) -> &Consensus {
        &self.consensus
    }
}

impl TestNode {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a round of reads to its end.
    pub(super) async fn read(&self, round: RoundId) -> Option<u64> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.told).reads.insert(round, sender);
        self.consensus.read(round);
        tokio::time::timeout(PATIENCE, receiver).await.unwrap().unwrap()
    }

    /// The vote that the node has on disk.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.consensus.hub.log.vote()
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        lock(&self.told).stopped.clone()
    }

    /// This node's life as its own catalog has it.
    pub(super) fn incarnation(&self) -> Incarnation {
        let node = self.name.parse().unwrap();
        let epoch = self.with_catalog(|catalog| catalog.node(&node).unwrap().epoch);
        Incarnation { node, epoch }
    }

    /// Begins to remove a voter as the leader, without asking who answers, and does not wait.
    pub(super) async fn begin_to_remove(&self, id: u64) {
        let change = openraft::ChangeMembers::RemoveVoters([id].into());
        let change = self.consensus.hub.raft.change_membership(change, false);
        drop(tokio::time::timeout(Duration::from_millis(100), change).await);
    }

    /// Makes the first step of removing a voter as the leader, and never the second.
    pub(super) async fn begin_first_step(&self, id: u64) {
        let now = self.consensus.hub.membership();
        let before: BTreeSet<u64> = now.voter_ids().collect();
        let after = before.iter().copied().filter(|voter| *voter != id).collect();
        let nodes = now.nodes().map(|(id, member)| (*id, member.clone()));
        let joint =
            Membership::new(vec![before, after], nodes.collect::<BTreeMap<_, _>>()).unwrap();
        self.consensus.hub.raft.append_membership(joint, Payload::Blank, []).await.unwrap();
    }

    /// How long ago a member called this node, or answered it.
    pub(super) fn silence_of(&self, id: u64) -> Option<Duration> {
        self.consensus.hub.peers.silence_of(id)
    }

    /// As if this leader had waited for longer for learners that never answered.
    pub(super) fn age_learners(&self, time: Duration) {
        self.consensus.hub.state.unanswered.age(time);
    }

    /// Writes as the leader.
    pub(super) async fn write(&self, entry: CatalogEntry) -> bool {
        self.consensus.hub.write(entry).await.is_ok()
    }
}

/// Some nodes on one network.
#[derive(Debug)]
pub(super) struct TestCluster {
    network: Arc<Network>,
    nodes: BTreeMap<String, TestNode>,
    volumes: BTreeMap<String, TempDir>,
    seeds: BTreeMap<String, Vec<Seed>>,
    /// Of those that do not speak what this version does.
    formats: BTreeMap<String, WireRange>,
    /// Of those that do not run 0.1.0.
    versions: BTreeMap<String, SoftwareVersion>,
}

impl TestCluster {
    pub(super) fn empty() -> Self {
        Self {
            network: Arc::default(),
            nodes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            seeds: BTreeMap::new(),
            formats: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    /// Starts `n1`, `n2` and so on, all of them seeds.
    pub(super) async fn start(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut cluster = Self::empty();
        for name in &names {
            cluster.add(name, seed_list(&names)).await;
        }
        cluster
    }

    /// From its next start on, a node speaks these formats.
    pub(super) fn set_formats(&mut self, name: &str, formats: WireRange) {
        self.formats.insert(name.to_owned(), formats);
    }

    /// From its next start on, a node runs this version.
    pub(super) fn set_version(&mut self, name: &str, version: SoftwareVersion) {
        self.versions.insert(name.to_owned(), version);
    }

    /// From its next start on, a node has this list of seeds.
    pub(super) fn set_seeds(&mut self, name: &str, seeds: Vec<Seed>) {
        self.seeds.insert(name.to_owned(), seeds);
    }

    /// Starts a node with an empty volume.
    pub(super) async fn add(&mut self, name: &str, seeds: Vec<Seed>) {
        self.volumes.insert(name.to_owned(), TempDir::new().unwrap());
        self.seeds.insert(name.to_owned(), seeds);
        self.restart(name).await;
    }

    /// Starts a node on the volume that it had.
    pub(super) async fn restart(&mut self, name: &str) {
        self.restart_at(name, name).await;
    }

    /// Starts a node on the volume that it had, at another address.
    pub(super) async fn restart_at(&mut self, name: &str, place: &str) {
        let volume = self.volumes[name].path().to_owned();
        let node = self.run(name, &endpoint(place), volume).await;
        self.nodes.insert(name.to_owned(), node);
    }

    /// Starts a second node under a name, on an empty volume and at another address.
    pub(super) async fn start_twin(&mut self, name: &str) -> TestNode {
        self.start_twin_on(name, TempDir::new().unwrap()).await
    }

    /// Starts a second node under a name, on this volume and at another address.
    pub(super) async fn start_twin_on(&mut self, name: &str, volume: TempDir) -> TestNode {
        let path = volume.path().to_owned();
        self.volumes.insert(format!("{name} twin"), volume);
        self.run(name, &endpoint("twin"), path).await
    }

    /// A copy of a stopped node's volume.
    pub(super) fn copy_volume(&self, name: &str) -> TempDir {
        let copy = TempDir::new().unwrap();
        for file in std::fs::read_dir(self.volumes[name].path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }

    async fn run(&self, name: &str, endpoint: &str, data_dir: PathBuf) -> TestNode {
        let this_version = SoftwareVersion { major: 0, minor: 1, patch: 0 };
        let config = ConsensusConfig {
            name: name.parse().unwrap(),
            data_dir,
            seeds: self.seeds[name].clone(),
            endpoints: Endpoints {
                cluster: endpoint.to_owned(),
                relay: format!("tcp://{name}:5557"),
                ..Endpoints::default()
            },
            version: self.versions.get(name).copied().unwrap_or(this_version),
            formats: self.formats.get(name).copied().unwrap_or(FORMATS),
            heartbeat_interval: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(200),
            election_timeout_max: Duration::from_millis(400),
            node_timeout: Duration::from_millis(1_500),
            read_timeout: Duration::from_millis(500),
            upgrade_settle: Duration::from_secs(1),
            upgrade_hold: None,
        };
        let port = Port { network: Arc::clone(&self.network), endpoint: endpoint.to_owned() };
        let (sender, mut receiver) = news(|| {});
        let consensus = Consensus::start(config, Arc::new(port), sender).await.unwrap();
        lock(&self.network.listeners).insert(endpoint.to_owned(), consensus.clone());
        let told = Arc::new(Mutex::new(Told::default()));
        let listener = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(news) = receiver.recv().await {
                lock(&listener).hear(news);
            }
        });
        TestNode { consensus, name: name.to_owned(), told }
    }

    /// Ends a node without a word to the others.
    pub(super) async fn kill(&mut self, name: &str) {
        lock(&self.network.listeners).remove(&endpoint(name));
        self.nodes.remove(name).unwrap().shutdown().await;
    }

    /// Takes a stopped node's volume away and gives it an empty one.
    pub(super) fn lose_volume(&mut self, name: &str) -> TempDir {
        self.volumes.insert(name.to_owned(), TempDir::new().unwrap()).unwrap()
    }

    pub(super) fn give_volume(&mut self, name: &str, volume: TempDir) {
        self.volumes.insert(name.to_owned(), volume);
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.values()
    }

    pub(super) fn node(&self, name: &str) -> &TestNode {
        &self.nodes[name]
    }

    pub(super) fn leader(&self) -> String {
        let leads = |node: &&TestNode| node.status().is_leader();
        self.nodes().find(leads).unwrap().name().to_owned()
    }

    pub(super) fn a_follower(&self) -> &TestNode {
        self.nodes().find(|node| !node.status().is_leader()).unwrap()
    }

    pub(super) fn voters(&self, seen_by: &str) -> usize {
        let status = self.node(seen_by).status();
        status.members.iter().filter(|member| member.role == Role::Voter).count()
    }

    pub(super) fn cluster_id(&self) -> u128 {
        let id = self.nodes().next().unwrap().status().cluster_id.unwrap();
        u128::from_str_radix(&id, 16).unwrap()
    }

    pub(super) async fn wait_ready(&self, names: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting: Vec<_> = names
                .iter()
                .map(|name| (name, self.node(name).status().not_ready))
                .filter(|(_, reasons)| !reasons.is_empty())
                .collect();
            if waiting.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {waiting:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
