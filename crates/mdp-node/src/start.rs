//! From a [`NodeConfig`] to a running [`Node`].

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Seed};
use mdp_catalog::{Boot, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeUp, Refusal};
use mdp_core::{
    ClientSecurity, DrainTimes, IncomingLimits, NodeCore, NodeEnding, NodeKeys, NodeParts,
    PortName, RelayLinks, RelaySettings,
};
use mdp_raft::{Consensus, ConsensusConfig, News, NewsSender, StorageError, news};
use mdp_replica::{Agreement, IsolationWatch, Membership, Replica};
use mdp_transport::{ConnectionLimits, SharedFrame, TransportLimits};
use mdp_wire::{ClientNetworks, DecodeLimits};
use thiserror::Error;
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc::Receiver,
};
use zeroize::Zeroizing;

use crate::{
    BINDS_MAX, BindError, BrokerThreadError, ClusterConfig, Endpoint, EndpointError, Node,
    NodeConfig, NodeView, SecurityError, addresses,
    bell::Ringer,
    broker_thread::BrokerThread,
    cluster_link::{ClusterLink, LinkError},
    crypto::{CryptoPool, PortKeys, RANDOM_BYTES},
    inbox::{Inbox, Postbox, inbox},
    limits::{self, OpenFiles},
    node::ClusterParts,
    node_key_files::{self, Listeners, NodeKeysError},
    poller::Poller,
    ports::{NodePort, Ports},
    resolver::Resolver,
    security::{IdentityWatch, Loaded},
    version::{CALL_FORMATS, RELAY_WIRE, VERSION},
    view::NodeFacts,
};

/// How many threads run consensus, besides those that write to the disk.
const RUNTIME_THREADS: usize = 2;
/// One in so many connections may not have introduced itself.
const STRANGERS_SHARE: usize = 4;

/// The node could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A key holds no address.
    #[error("{key}: {error}")]
    Address {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        error: EndpointError,
    },
    /// `broker.bind` holds no address, or too many.
    #[error("broker.bind has {count} addresses: give 1 to {BINDS_MAX}")]
    BindCount {
        /// How many.
        count: usize,
    },
    /// A key holds an address that nobody can connect to.
    #[error(
        "{key} = \"{address}\": nobody can connect to a wildcard or to port 0; name the host and \
         port that this node is reached at, or leave it empty"
    )]
    AdvertiseNowhere {
        /// Which.
        key: &'static str,
        /// The address.
        address: Endpoint,
    },
    /// `broker.bind`, `cluster.bind` or `cluster.relay_bind` is in use.
    #[error(transparent)]
    AddressInUse(BindError),
    /// `broker.bind`, `cluster.bind` or `cluster.relay_bind` could not be bound for another reason.
    #[error(transparent)]
    Bind(BindError),
    /// The data directory can not be used.
    #[error(transparent)]
    Storage(StorageError),
    /// The keys of nodes can not be used.
    #[error(transparent)]
    NodeKeys(#[from] NodeKeysError),
    /// The limit of open files is too low even to start.
    #[error(
        "the limit of open files is {limit}, and a node needs at least {needed} besides its \
         connections: raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of \
         docker)"
    )]
    FileLimit {
        /// What is allowed.
        limit: u64,
        /// What is needed.
        needed: u64,
    },
    /// Keys or identities of `[security]` can not be used.
    #[error(transparent)]
    Security(SecurityError),
    /// The catalog refused this node.
    #[error("the catalog refused this node: {0}")]
    Catalog(Refusal),
    /// The operating system refused something.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl StartError {
    /// Whether another configuration would help: exit code 2.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::BindCount { .. }
            | Self::AdvertiseNowhere { .. }
            | Self::Security(_)
            | Self::AddressInUse(_)
            | Self::NodeKeys(_) => true,
            Self::Bind(error) => !matches!(error, BindError::NoSocket { .. }),
            Self::Storage(_) | Self::FileLimit { .. } | Self::Catalog(_) | Self::System { .. } => {
                false
            }
        }
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::AddressInUse { .. } | BindError::SocketInUse { .. } => {
                Self::AddressInUse(error)
            }
            BindError::Forbidden { .. }
            | BindError::Unusable { .. }
            | BindError::OwnAddress { .. }
            | BindError::NoSocket { .. }
            | BindError::UnknownSocket { .. }
            | BindError::Path { .. }
            | BindError::NotASocket { .. }
            | BindError::Poller(_) => Self::Bind(error),
        }
    }
}

impl From<LinkError> for StartError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Bind(error) => error.into(),
            LinkError::System { what, error } => Self::System { what, error },
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// A thread that serves.
pub(crate) type Thread = JoinHandle<Result<NodeEnding, BrokerThreadError>>;

impl Node {
    /// Starts a node; when this returns, it accepts connections. Whether it has joined its cluster
    /// is another matter.
    ///
    /// # Errors
    /// A wrong address, or one in use; a data directory that can not be used; or the operating
    /// system does not give what is needed.
    pub fn start(mut config: NodeConfig) -> Result<Self, StartError> {
        let binds = addresses::parse_binds(&config.bind)?;
        // Before any port is open: nothing is served under keys that can not be used.
        let security = config.security.take();
        let security = security.as_ref().map(Loaded::read).transpose();
        let security = security.map_err(StartError::Security)?;
        let cluster = config.cluster.take();
        // One for all ports.
        let has_keys = cluster.as_ref().is_some_and(|cluster| cluster.keys.is_some());
        let pool =
            (security.is_some() || has_keys).then(|| CryptoPool::start(config.crypto_threads));
        let pool = pool.transpose().map_err(system("start the threads of handshakes"))?;
        let shares = limits::raise_open_files(own_files(cluster.is_some(), binds.len()))?;
        let (postbox, inbox) = inbox().map_err(system("make the inbox"))?;
        let connections = transport_limits(&config, shares.peers);
        let poller = Poller::new(inbox.bell()).map_err(BindError::Poller)?;
        let mut ports = Ports::bind(&binds, poller)?;
        let networks = Arc::new(addresses::for_networks(config.advertise_for.clone())?);
        let linked = cluster.map(|cluster| {
            let ours = (&postbox, &mut ports, pool.as_ref());
            Linked::start(&config, cluster, &networks, shares.incoming, ours)
        });
        let linked = linked.transpose()?;
        let told = linked.as_ref().map(|linked| &linked.advertised);
        let bound = addresses::to_tell(ports.clients().addresses());
        let advertised = addresses::for_clients(&config.advertise, bound, told)?;
        tracing::debug!(node = %config.name, advertised, "bound");
        let (security, files) = match security {
            None => (None, None),
            Some(loaded) => {
                let Seed(random) = seed().map_err(system("read random bytes"))?;
                let (security, files) = loaded.into_parts(random);
                if let Some(pool) = &pool {
                    ports.set_crypto(PortName::Clients, pool.port(postbox.ringer().clone()));
                }
                (Some(security), Some(files))
            }
        };
        let watch = files.map(|files| IdentityWatch::start(files, postbox.clone())).transpose();
        let watch = watch.map_err(system("start the thread that reads identities"))?;
        let mut view = NodeView::new(
            NodeFacts {
                name: config.name.clone(),
                endpoints: ports.clients().addresses().map(ToString::to_string).collect(),
                advertised,
                networks,
                cluster_endpoint: linked.as_ref().map(|linked| linked.link.endpoint().to_string()),
                relay_endpoint: linked.as_ref().map(|linked| linked.port.endpoint().to_string()),
                drain_timeout: config.drain_timeout,
                identities: watch.as_ref().map(IdentityWatch::reader),
            },
            postbox,
        );
        let Some(linked) = linked else {
            let begun = Begun { config, ports, links: None, connections, security, inbox };
            let thread = begun.spawn_alone(&view)?;
            return Ok(Self::new(view, (thread, watch), None));
        };
        let minority = linked.config.minority;
        config.settings.minority = minority;
        let (parts, (port, links), replica) = linked.join(&config.name, &mut view)?;
        ports.add_nodes(port);
        let begun = Begun { config, ports, links: Some(links), connections, security, inbox };
        let thread = begun.spawn(replica, &view)?;
        Ok(Self::new(view, (thread, watch), Some(parts)))
    }
}

/// What a node with so many addresses for clients and workers opens.
fn own_files(has_peers: bool, binds: usize) -> OpenFiles {
    let base = if has_peers { limits::OPEN_FILES_WITH_PEERS } else { limits::OPEN_FILES_ALONE };
    let more_listeners = u64::try_from(binds.saturating_sub(1)).unwrap_or(u64::MAX);
    OpenFiles { base, more_listeners }
}

/// What a node is made of, whatever the cluster.
struct Begun {
    config: NodeConfig,
    ports: Ports,
    links: Option<RelayLinks>,
    connections: TransportLimits,
    security: Option<ClientSecurity>,
    inbox: Inbox,
}

impl Begun {
    fn spawn_alone(self, view: &NodeView) -> Result<Thread, StartError> {
        let up = NodeUp {
            node: self.config.name.clone(),
            node_id: NodeId::default(),
            boot: Boot::default(),
            expected_epoch: Epoch::default(),
            endpoints: Endpoints { client: view.advertised().to_owned(), ..Endpoints::default() },
            version: VERSION.parse().unwrap_or_default(),
        };
        let replica = Replica::alone(up, Instant::now()).map_err(StartError::Catalog)?;
        self.spawn(replica, view)
    }

    fn spawn<A: Agreement + Send + 'static>(
        self,
        replica: Replica<A, SharedFrame>,
        view: &NodeView,
    ) -> Result<Thread, StartError> {
        let Self { config, ports, links, connections, security, inbox } = self;
        let seed = seed().map_err(system("read random bytes"))?;
        let now = Instant::now();
        // The engine hears of its life from the replica.
        let incarnation = Incarnation { node: config.name.clone(), epoch: Epoch(0) };
        let messages = config.settings.decode;
        let parts = NodeParts {
            broker: Broker::new(incarnation, config.settings, seed, now),
            replica,
            links,
            connections,
            security,
            messages,
            networks: view.shared_networks(),
            drain: DrainTimes {
                timeout: config.drain_timeout,
                announce: config.drain_announce.min(config.drain_timeout),
            },
            version: VERSION,
        };
        let core = NodeCore::new(now, parts);
        let broker = BrokerThread { core, ports, inbox, turns: view.turns_counter() };
        thread::Builder::new()
            .name("mdp-broker".to_owned())
            .spawn(move || broker.run())
            .map_err(system("start the broker thread"))
    }
}

/// What a node has once it takes part.
type Joined = (ClusterParts, (NodePort, RelayLinks), Replica<Consensus, SharedFrame>);

/// A node that other nodes can connect to, and that does not take part yet.
struct Linked {
    config: ClusterConfig,
    link: ClusterLink,
    port: NodePort,
    links: RelayLinks,
    /// `None`: there are none.
    keys: Option<Arc<NodeKeys>>,
    runtime: Runtime,
    advertised: Endpoint,
}

impl Linked {
    fn start(
        node: &NodeConfig,
        mut config: ClusterConfig,
        networks: &Arc<ClientNetworks>,
        incoming: IncomingLimits,
        (postbox, ports, pool): (&Postbox, &mut Ports, Option<&CryptoPool>),
    ) -> Result<Self, StartError> {
        let keys = config.keys.as_ref().map(|files| files.load(&node.name)).transpose()?;
        let keys = keys.map(Arc::new);
        let message_bytes_max = node.settings.decode.message_bytes_max;
        let node = &node.name;
        let bind = addresses::parse("cluster.bind", &config.bind)?;
        let relay_bind = match config.relay_bind.as_str() {
            "" => addresses::default_relay(&bind),
            address => addresses::parse("cluster.relay_bind", address)?,
        };
        for seed in &mut config.seeds {
            seed.endpoint = addresses::parse("cluster.peers", &seed.endpoint)?.to_string();
        }
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("mdp-raft")
            .enable_all()
            .build()
            .map_err(system("start the threads of consensus"))?;
        let Seed(random) = seed().map_err(system("read random bytes"))?;
        let random = random.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let port_keys = || port_keys(keys.as_ref(), pool);
        let of_runtime = runtime.handle().clone();
        let link = ClusterLink::start(&bind, incoming, random, of_runtime, port_keys()?)?;
        let advertised = addresses::for_nodes(node, &config, link.endpoint())?;
        let settings = RelaySettings {
            node: node.clone(),
            version: VERSION,
            wire: RELAY_WIRE,
            networks: Arc::clone(networks),
            message_bytes_max,
            visitors_max: incoming.visitors_max,
            random,
        };
        let now = Instant::now();
        let mut links = RelayLinks::new(now, settings);
        if let Some(PortKeys { keys, pool, random }) = port_keys()? {
            links.transport().seed(b"requests", &random);
            links.transport().set_jobs_outside(true);
            links.set_keys(now, keys);
            ports.set_crypto(PortName::Nodes, pool.port(postbox.ringer().clone()));
        }
        let poller = ports.poller();
        let bind_relay = |endpoint: Endpoint| {
            let resolver = Resolver::new(runtime.handle().clone(), postbox.ringer().clone());
            NodePort::bind(&endpoint, resolver, poller)
        };
        let port = match bind_relay(relay_bind.clone()) {
            Err(BindError::AddressInUse { address, .. }) if config.relay_bind.is_empty() => {
                tracing::warn!(
                    address,
                    "the port for requests of other nodes is in use, so any free one is taken; a \
                     firewall must let it pass: set cluster.relay_bind to a port of your choice"
                );
                bind_relay(relay_bind.at_port(0))
            }
            bound => bound,
        }?;
        Ok(Self { config, link, port, links, keys, runtime, advertised })
    }

    /// Opens the data directory and takes part.
    fn join(self, node: &NodeName, view: &mut NodeView) -> Result<Joined, StartError> {
        let Self { config, link, port, links, keys, runtime, advertised } = self;
        let consensus_config = ConsensusConfig {
            name: node.clone(),
            data_dir: config.data_dir.clone(),
            seeds: config.seeds.clone(),
            endpoints: Endpoints {
                client: view.advertised().to_owned(),
                cluster: advertised.to_string(),
                relay: advertised.at_port(port.endpoint().port()).to_string(),
            },
            version: VERSION.parse().unwrap_or_default(),
            formats: CALL_FORMATS,
            heartbeat_interval: config.heartbeat_interval,
            election_timeout_min: config.election_timeout_min,
            election_timeout_max: config.election_timeout_max,
            node_timeout: config.node_timeout,
            read_timeout: config.read_timeout,
            upgrade_settle: config.upgrade_settle,
            upgrade_hold: config.upgrade_hold,
        };
        let (sender, feed) = feed(view.ringer().clone());
        let starting = Consensus::start(consensus_config, Arc::new(link.caller()), sender);
        let consensus = runtime.block_on(starting).map_err(StartError::Storage)?;
        let answering = consensus.clone();
        link.serve(Arc::new(move |caller, request| {
            let consensus = answering.clone();
            Box::pin(async move {
                match caller {
                    Some(caller) => consensus.answer_node(&caller, request).await,
                    None => consensus.answer(request).await,
                }
            })
        }));
        if let Some((files, keys)) = config.keys.clone().zip(keys) {
            let (broker, counters) = (view.postbox().clone(), link.counters());
            let listeners = Listeners { link: link.caller(), broker, counters };
            node_key_files::watch(runtime.handle(), (files, node), &keys, listeners)?;
        }
        let now = Instant::now();
        let membership = Membership {
            node: node.clone(),
            process: consensus.boot_process(),
            consistency: config.consistency,
            isolation: isolation(&config, now),
        };
        view.join(consensus.clone(), runtime.handle().clone(), link.counters(), port.watch());
        let replica = Replica::new(consensus.clone(), feed, membership, now);
        Ok((ClusterParts { link, consensus, runtime }, (port, links), replica))
    }
}

/// What one port needs for CURVE, with random bytes of its own; `None`: there are no keys.
fn port_keys(
    keys: Option<&Arc<NodeKeys>>,
    pool: Option<&CryptoPool>,
) -> Result<Option<PortKeys>, StartError> {
    let Some((keys, pool)) = keys.zip(pool) else { return Ok(None) };
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    let read =
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(random.as_mut_slice()));
    read.map_err(system("read random bytes"))?;
    Ok(Some(PortKeys { keys: Arc::clone(keys), pool: pool.clone(), random }))
}

/// The limits of each connection that follow from those of the decoder.
fn connection_limits(decode: &DecodeLimits) -> ConnectionLimits {
    ConnectionLimits {
        message_bytes_max: decode.message_bytes_max,
        message_frames_max: decode.frames_max,
        ..ConnectionLimits::default()
    }
}

/// The limits of the client port.
fn transport_limits(config: &NodeConfig, open_files: usize) -> TransportLimits {
    let connections_max = config.max_connections.min(open_files);
    let defaults = TransportLimits::default();
    let message_bytes = config.settings.decode.message_bytes_max;
    TransportLimits {
        connection: connection_limits(&config.settings.decode),
        connections_max,
        // Silent connections must not keep all others out.
        strangers_max: defaults.strangers_max.min(connections_max / STRANGERS_SHARE).max(1),
        // A few of the longest messages may come at once.
        incoming_bytes_max: defaults.incoming_bytes_max.max(message_bytes.saturating_mul(4)),
        // One message may always wait, whatever its size.
        outgoing_bytes_per_peer_max: config.max_outgoing_bytes_per_peer.max(message_bytes),
        outgoing_bytes_max: config.max_outgoing_bytes.max(message_bytes.saturating_mul(4)),
        ..defaults
    }
}

/// The feed of news, which wakes the broker thread.
fn feed(ringer: Ringer) -> (NewsSender, Receiver<News>) {
    news(move || ringer.ring())
}

fn isolation(config: &ClusterConfig, now: Instant) -> Option<IsolationWatch> {
    match config.minority {
        mdp_broker::Minority::Serve => None,
        mdp_broker::Minority::Fail => {
            Some(IsolationWatch::new(config.node_timeout.max(Duration::from_millis(1)), now))
        }
    }
}

fn seed() -> io::Result<Seed> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Seed(bytes))
}
