//! A cluster of real processes on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    ClusterNode, ClusterView, Links, Network, Ports, READY_PATIENCE, RawSocket, look_for,
    wait_until,
};

/// How many nodes a cluster starts with.
pub const NODES: usize = 3;

/// How many more can be linked.
const NODES_MAX: usize = 5;

/// How long an election may take when nothing else is wrong, with a margin for busy machines.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);

/// A heartbeat interval that no soak outlives, either.
const SILENT: (&str, &str) = ("broker.heartbeat_interval", "1h");

/// A cluster; its processes are killed and its files removed when it is dropped.
#[derive(Debug)]
pub struct TestCluster {
    nodes: Vec<ClusterNode>,
    links: Option<AllLinks>,
    peers: String,
    settings: Vec<(String, String)>,
    directory: TempDir,
}

/// The taps between nodes.
#[derive(Debug)]
struct AllLinks {
    cluster: Arc<Links>,
    relay: Arc<Links>,
}

impl AllLinks {
    fn new(ports: &[Ports]) -> Self {
        let links = |of: fn(&Ports) -> u16| {
            Arc::new(Links::new(&ports.iter().map(of).collect::<Vec<u16>>()))
        };
        Self { cluster: links(|ports| ports.cluster), relay: links(|ports| ports.relay) }
    }
}

impl TestCluster {
    /// Three nodes, ready. Workers need not send heartbeats unless a setting says so.
    #[must_use]
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::unstarted(settings).started()
    }

    /// The same with a tap on each connection between nodes.
    #[must_use]
    #[track_caller]
    pub fn start_linked(settings: &[(&str, &str)]) -> Self {
        Self::new(settings, true).started()
    }

    /// Three nodes that do not run yet.
    #[must_use]
    pub fn unstarted(settings: &[(&str, &str)]) -> Self {
        Self::new(settings, false)
    }

    /// Three nodes that do not run yet, each at its place of this network.
    pub(crate) fn unstarted_in(network: &Network, settings: &[(&str, &str)]) -> Self {
        let ports: Vec<Ports> = (0..NODES).map(|_| Ports::free()).collect();
        let told = ports.iter().enumerate();
        let told: Vec<SocketAddr> =
            told.map(|(node, ports)| (network.host(node), ports.cluster).into()).collect();
        let mut cluster = Self::empty(settings, &told, None);
        for (index, ports) in ports.iter().enumerate() {
            let mut node = cluster.new_node_at(network.host(index), &name(index), *ports, index);
            node.launch_by(network.launcher(index));
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Three nodes that do not run yet, with a tap on each connection between them.
    #[must_use]
    pub fn unstarted_linked(settings: &[(&str, &str)]) -> Self {
        Self::new(settings, true)
    }

    fn new(settings: &[(&str, &str)], is_linked: bool) -> Self {
        let ports: Vec<Ports> = (0..NODES_MAX).map(|_| Ports::free()).collect();
        let links = is_linked.then(|| AllLinks::new(&ports));
        let told = |index: usize, ports: &Ports| {
            let own = SocketAddr::from(([127, 0, 0, 1], ports.cluster));
            links.as_ref().map_or(own, |links| links.cluster.door(index))
        };
        let told: Vec<SocketAddr> =
            ports.iter().enumerate().take(NODES).map(|(node, ports)| told(node, ports)).collect();
        let mut cluster = Self::empty(settings, &told, links);
        for (index, ports) in ports.iter().enumerate().take(NODES) {
            let node = cluster.new_node(&name(index), *ports, index);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// A cluster whose nodes come later; they tell each other these addresses.
    fn empty(settings: &[(&str, &str)], told: &[SocketAddr], links: Option<AllLinks>) -> Self {
        let peers = told.iter().enumerate().map(|(node, told)| format!("{}={told}", name(node)));
        let given = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            nodes: Vec::new(),
            peers: peers.collect::<Vec<_>>().join(","),
            settings: [(SILENT.0.to_owned(), SILENT.1.to_owned())]
                .into_iter()
                .chain(given)
                .collect(),
            directory: tempfile::tempdir().unwrap(),
            links,
        }
    }

    /// Starts all nodes and waits until they are ready.
    #[must_use]
    #[track_caller]
    pub fn started(mut self) -> Self {
        self.nodes.iter_mut().for_each(ClusterNode::start);
        self.wait_until_ready();
        self
    }

    fn new_node(&self, name: &str, ports: Ports, index: usize) -> ClusterNode {
        self.new_node_at(Ipv4Addr::LOCALHOST, name, ports, index)
    }

    fn new_node_at(&self, host: Ipv4Addr, name: &str, ports: Ports, index: usize) -> ClusterNode {
        let count = std::fs::read_dir(self.directory.path()).unwrap().count();
        let directory = self.directory.path().join(format!("{name}.{count}"));
        let mut node = ClusterNode::at(name, host, ports, directory);
        self.settings.iter().for_each(|(key, value)| node.set(key, value));
        node.set("cluster.peers", &self.peers);
        node.set("cluster.expect", &NODES.to_string());
        if let Some(links) = &self.links {
            node.linked(&links.cluster, index);
            node.linked(&links.relay, index);
        }
        node
    }

    /// A node with the same seeds and this name, on ports and with files of its own; it does not
    /// run yet. If the name is no seed's, the node tells the others its own address.
    #[must_use]
    pub fn another_node(&self, name: &str) -> ClusterNode {
        assert!(self.links.is_none(), "another node would have no door");
        let ports = Ports::free();
        let mut node = self.new_node(name, ports, NODES);
        if !self.nodes.iter().any(|other| other.name() == name) {
            node.set("cluster.advertise", &format!("127.0.0.1:{}", ports.cluster));
        }
        node
    }

    /// Waits until every node is ready, and all name the same leader.
    #[track_caller]
    pub fn wait_until_ready(&self) -> Duration {
        let what = "all nodes are ready and agree on a leader";
        let took = look_for_views(self, READY_PATIENCE, |views| {
            views.len() == self.nodes.len() && agreed_leader(views).is_some()
        });
        let Some(took) = took else {
            let said: Vec<_> =
                self.nodes.iter().map(|node| (node.readiness(), node.view())).collect();
            panic!("not within {READY_PATIENCE:?}: {what}; they say {said:#?}");
        };
        self.nodes.iter().for_each(|node| {
            node.wait_until_ready();
        });
        took
    }

    /// The leader that all nodes which run and answer agree on, except for these.
    #[must_use]
    #[track_caller]
    pub fn leader_without(&self, excluded: &[usize]) -> usize {
        let look = || {
            let views: Vec<ClusterView> = self
                .others(excluded)
                .filter_map(|index| self.nodes.get(index).and_then(ClusterNode::view))
                .collect();
            let leader = agreed_leader(&views)?;
            let index = self.nodes.iter().position(|node| node.name() == leader)?;
            (!excluded.contains(&index)).then_some(index)
        };
        look_for(LEADER_PATIENCE, look).unwrap_or_else(|| panic!("no leader that all agree on"))
    }

    /// The leader that all running nodes agree on.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> usize {
        self.leader_without(&[])
    }

    /// A follower: the first node that does not lead.
    #[must_use]
    #[track_caller]
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        self.others(&[leader]).next().unwrap()
    }

    /// The indexes of all nodes but these.
    pub fn others(&self, excluded: &[usize]) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|index| !excluded.contains(index))
    }

    /// A node.
    #[must_use]
    #[track_caller]
    pub fn node(&self, index: usize) -> &ClusterNode {
        self.nodes.get(index).unwrap()
    }

    /// A node, to start or kill it.
    #[must_use]
    #[track_caller]
    pub fn node_mut(&mut self, index: usize) -> &mut ClusterNode {
        self.nodes.get_mut(index).unwrap()
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[ClusterNode] {
        &self.nodes
    }

    /// All nodes, to start or kill them.
    #[must_use]
    pub fn nodes_mut(&mut self) -> &mut [ClusterNode] {
        &mut self.nodes
    }

    /// Kills all nodes at the same moment, as far as there is one.
    pub fn kill_all(&mut self) {
        for node in &self.nodes {
            node.signal(rustix::process::Signal::KILL);
        }
        self.nodes.iter_mut().for_each(ClusterNode::kill);
    }

    /// The taps of the cluster ports, by which nodes agree.
    #[must_use]
    #[track_caller]
    pub fn links(&self) -> &Links {
        &self.all_links().cluster
    }

    /// The taps of the relay ports, by which requests cross nodes.
    #[must_use]
    #[track_caller]
    pub fn relays(&self) -> &Links {
        &self.all_links().relay
    }

    /// Cuts a node off from all others, on all ports and in both directions.
    #[track_caller]
    pub fn cut_off(&self, node: usize) {
        self.links().cut_off(node);
        self.relays().cut_off(node);
    }

    /// Opens every tap.
    #[track_caller]
    pub fn heal(&self) {
        self.links().heal();
        self.relays().heal();
    }

    #[track_caller]
    fn all_links(&self) -> &AllLinks {
        self.links.as_ref().unwrap_or_else(|| panic!("start the cluster with links"))
    }

    /// The value of `cluster.peers`.
    #[must_use]
    pub fn peers(&self) -> &str {
        &self.peers
    }

    /// The highest term that a running node knows.
    #[must_use]
    pub fn term(&self) -> u64 {
        let views = self.nodes.iter().filter_map(ClusterNode::view);
        views.map(|view| view.term).max().unwrap_or_default()
    }

    /// Waits until every node has applied what any of them knows to be committed.
    #[track_caller]
    pub fn wait_until_level(&self) {
        wait_until("all nodes have applied the same", LEADER_PATIENCE, || {
            let views: Vec<ClusterView> = self.nodes.iter().filter_map(ClusterNode::view).collect();
            let first = views.iter().map(|view| view.committed_index).max().unwrap_or_default();
            views.len() == self.nodes.len() && views.iter().all(|view| view.applied_index == first)
        });
    }

    /// A client's or worker's connection to a node, in a context that others share.
    #[must_use]
    pub fn dealer_in(&self, context: &zmq::Context, index: usize) -> RawSocket {
        RawSocket::connect(self.node(index), context, zmq::DEALER, |_| Ok(()))
    }
}

fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

fn look_for_views(
    cluster: &TestCluster,
    patience: Duration,
    mut holds: impl FnMut(&[ClusterView]) -> bool,
) -> Option<Duration> {
    let started_at = std::time::Instant::now();
    let look = || {
        let views: Vec<ClusterView> = cluster.nodes.iter().filter_map(ClusterNode::view).collect();
        holds(&views).then_some(())
    };
    look_for(patience, look).map(|()| started_at.elapsed())
}

/// The leader of views that name the same one in the same term.
fn agreed_leader(views: &[ClusterView]) -> Option<&str> {
    let first = views.first()?;
    let agrees = |view: &ClusterView| view.leader == first.leader && view.term == first.term;
    views.iter().all(agrees).then_some(())?;
    first.leader.as_deref()
}
