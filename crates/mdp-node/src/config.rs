//! Everything that a node can be told.

use std::{path::PathBuf, time::Duration};

use mdp_broker::{Minority, Settings};
use mdp_catalog::{NodeName, SoftwareVersion};
use mdp_raft::Seed;
use mdp_replica::Consistency;
use mdp_wire::ClientNetworks;

use crate::{NodeKeyFiles, SecurityConfig};

/// Everything that a node can be told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub name: NodeName,
    /// `broker.bind`: where clients and workers connect, such as `tcp://127.0.0.1:5555` or
    /// `ipc:///run/majordomo/clients`: at least one, and at most [`BINDS_MAX`](crate::BINDS_MAX).
    pub bind: Vec<String>,
    /// `broker.advertise`: the TCP address that clients are told; empty: the port of the first one of
    /// `bind` at the host of `cluster.advertise`, or that one itself, with the machine's name instead
    /// of a wildcard; nothing if there is none.
    pub advertise: String,
    /// `broker.advertise_for`: the addresses that clients of these networks are told instead.
    pub advertise_for: ClientNetworks,
    /// What the engine can be told.
    pub settings: Settings,
    /// How many bytes may wait for one peer that does not read.
    pub max_outgoing_bytes_per_peer: usize,
    /// How many bytes may wait for all peers that do not read.
    pub max_outgoing_bytes: usize,
    /// `broker.max_connections`: how many connections clients and workers may have, as far as the limit
    /// of open files allows it: 64 of them are left for everything else.
    pub max_connections: usize,
    /// Who clients and workers have to be; `None`: nothing proves it, and all is allowed (`security.mode =
    /// "off"`).
    pub security: Option<SecurityConfig>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long a draining node goes on as before, so that a load balancer can notice.
    pub drain_announce: Duration,
    /// `security.crypto_threads`: how many threads compute handshakes; 0: one for each core less one, at least
    /// one and at most four.
    pub crypto_threads: usize,
    /// The cluster that the node belongs to; `None`: it is alone, and opens no port for others.
    pub cluster: Option<ClusterConfig>,
}

/// Everything that a node can be told about its cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `cluster.bind`: where other nodes connect, such as `tcp://*:5556`.
    pub bind: String,
    /// `cluster.advertise`: the address that other nodes are told; empty: the node's own entry in
    /// `seeds`, else that of `bind`, with the machine's name instead of a wildcard.
    pub advertise: String,
    /// `cluster.relay_bind`: where other nodes bring requests; empty: port 5557 at the host of
    /// `bind`, or any free one if that is loopback or 5557 is in use. They are told its port at the host
    /// of `advertise`.
    pub relay_bind: String,
    /// `cluster.peers`: the constant list from which the cluster begins, this node included; their
    /// endpoints with or without `tcp://`.
    pub seeds: Vec<Seed>,
    /// `cluster.security`, `cluster.key_file` and `cluster.keys_dir`; `None`: links have no keys.
    pub keys: Option<NodeKeyFiles>,
    /// `node.data_dir`.
    pub data_dir: PathBuf,
    /// `cluster.minority`: what becomes of the workers without a quorum.
    pub minority: Minority,
    /// `mmi.consistency`: how right `mmi.service` has to be.
    pub consistency: Consistency,
    /// `cluster.heartbeat_interval`.
    pub heartbeat_interval: Duration,
    /// `cluster.election_timeout_min`.
    pub election_timeout_min: Duration,
    /// `cluster.election_timeout_max`.
    pub election_timeout_max: Duration,
    /// `cluster.node_timeout`: how long a node may be unheard before its workers count as gone.
    pub node_timeout: Duration,
    /// `mmi.read_timeout`.
    pub read_timeout: Duration,
    /// `upgrade.settle`: how long all members must have run a newer version before the cluster's
    /// version rises.
    pub upgrade_settle: Duration,
    /// `upgrade.hold`: the version above which this node does not raise the cluster's.
    pub upgrade_hold: Option<SoftwareVersion>,
}

impl NodeConfig {
    /// The defaults, under a name.
    #[must_use]
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            bind: vec!["tcp://127.0.0.1:5555".to_owned()],
            advertise: String::new(),
            advertise_for: ClientNetworks::default(),
            settings: Settings::default(),
            max_outgoing_bytes_per_peer: 16 << 20,
            max_outgoing_bytes: 64 << 20,
            max_connections: 65_536,
            security: None,
            drain_timeout: Duration::from_secs(20),
            drain_announce: Duration::ZERO,
            crypto_threads: 0,
            cluster: None,
        }
    }
}

impl ClusterConfig {
    /// The defaults, with these seeds and this data directory.
    #[must_use]
    pub fn new(seeds: Vec<Seed>, data_dir: PathBuf) -> Self {
        Self {
            bind: "tcp://127.0.0.1:5556".to_owned(),
            advertise: String::new(),
            relay_bind: String::new(),
            seeds,
            keys: None,
            data_dir,
            minority: Minority::Serve,
            consistency: Consistency::Linearizable,
            heartbeat_interval: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(200),
            election_timeout_max: Duration::from_millis(400),
            node_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_millis(500),
            upgrade_settle: Duration::from_secs(600),
            upgrade_hold: None,
        }
    }
}
