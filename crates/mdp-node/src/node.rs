//! [`Node`]: built, started, drained, waited for.

use std::{
    fs::File,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Seed, Settings};
use mdp_catalog::{NodeName, Refusal};
use serde::Serialize;
use thiserror::Error;

use crate::{
    BindError, BrokerThreadError, Endpoint, EndpointError, SocketError,
    broker_thread::{BrokerThread, DrainTimes, Ending},
    inbox::{Inbox, Message, Postbox, inbox},
    limits,
    local_cluster::LocalCluster,
    outgoing::{OutgoingBuffers, OutgoingLimits},
    router::Router,
    zeromq::{Context, library_has_curve, library_version},
};

/// Everything that a node can be told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub name: NodeName,
    /// `broker.bind`: where clients and workers connect, such as `tcp://127.0.0.1:5555`.
    pub bind: String,
    /// `broker.advertise`: the address that clients are told; empty: that of `bind`, with the
    /// machine's name instead of a wildcard.
    pub advertise: String,
    /// What the engine can be told.
    pub settings: Settings,
    /// How many bytes may wait for one peer that does not read.
    pub max_outgoing_bytes_per_peer: usize,
    /// How many bytes may wait for all peers that do not read.
    pub max_outgoing_bytes: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long a draining node goes on as before, so that a load balancer can notice.
    pub drain_announce: Duration,
    /// How many threads libzmq uses for I/O.
    pub io_threads: u8,
}

impl NodeConfig {
    /// The defaults, under a name.
    #[must_use]
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            bind: "tcp://127.0.0.1:5555".to_owned(),
            advertise: String::new(),
            settings: Settings::default(),
            max_outgoing_bytes_per_peer: 16 << 20,
            max_outgoing_bytes: 64 << 20,
            drain_timeout: Duration::from_secs(20),
            drain_announce: Duration::ZERO,
            io_threads: 1,
        }
    }
}

/// The node could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// `broker.bind` is no address.
    #[error("broker.bind: {0}")]
    BindAddress(EndpointError),
    /// `broker.advertise` is no address.
    #[error("broker.advertise: {0}")]
    AdvertiseAddress(EndpointError),
    /// `broker.advertise` is an address that nobody can connect to.
    #[error(
        "broker.advertise = \"{address}\": nobody can connect to a wildcard or to port 0; name the \
         host and port that clients reach this node at, or leave it empty"
    )]
    AdvertiseNowhere {
        /// The address.
        address: Endpoint,
    },
    /// `broker.bind` is in use.
    #[error(transparent)]
    AddressInUse(BindError),
    /// `broker.bind` could not be bound for another reason.
    #[error(transparent)]
    Bind(BindError),
    /// libzmq could not be set up.
    #[error("cannot set up libzmq: {0}")]
    Context(SocketError),
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
            Self::BindAddress(_)
            | Self::AdvertiseAddress(_)
            | Self::AdvertiseNowhere { .. }
            | Self::AddressInUse(_)
            | Self::Bind(_) => true,
            Self::Context(_) | Self::Catalog(_) | Self::System { .. } => false,
        }
    }
}

/// A started node ended otherwise than by a drain.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The broker thread could not go on.
    #[error(transparent)]
    BrokerThread(BrokerThreadError),
    /// The broker thread panicked.
    #[error("the broker thread panicked")]
    Panicked,
    /// The node was told to stop without a drain.
    #[error("stopped without a drain")]
    Stopped,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "drained")]
pub struct DrainReceipt {
    /// Requests answered since the drain began.
    pub finished: u64,
    /// Requests given to other nodes.
    pub handed_over: u64,
    /// Requests dropped because nobody could serve them in time.
    pub dropped: u64,
    /// Whether the cluster has another leader because of it.
    pub leader_moved: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Asks a node to drain, from any thread.
#[derive(Clone, Debug)]
pub struct Drainer {
    postbox: Postbox,
    is_asked: Arc<AtomicBool>,
}

impl Drainer {
    /// Asks the node to take no new work, finish the old and end. It never waits, and asking again
    /// changes nothing.
    pub fn drain(&self) {
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        // A full inbox is tried again by whoever asks again.
        let is_posted = self.postbox.post(Message::Drain).is_ok();
        self.is_asked.store(is_posted, Ordering::Relaxed);
    }
}

/// A node that serves.
///
/// Dropping it stops it at once, without a drain.
#[derive(Debug)]
pub struct Node {
    endpoint: String,
    advertised: String,
    drainer: Drainer,
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Ending, BrokerThreadError>>>,
}

impl Node {
    /// Starts a node; when this returns, it accepts connections.
    ///
    /// # Errors
    /// A wrong address, or one in use; or the operating system does not give what is needed.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let bind: Endpoint = config.bind.parse().map_err(StartError::BindAddress)?;
        limits::raise_open_files();
        let context = Context::new(i32::from(config.io_threads)).map_err(StartError::Context)?;
        let router =
            Router::bind(&Arc::new(context), &bind, config.settings.decode).map_err(|error| {
                match error {
                    BindError::AddressInUse { .. } => StartError::AddressInUse(error),
                    BindError::Refused { .. } | BindError::Socket(_) => StartError::Bind(error),
                }
            })?;
        let advertised = advertised(&config.advertise, router.endpoint())?;
        log_start(&config.name, router.endpoint(), &advertised);
        let (postbox, inbox) =
            inbox().map_err(|error| StartError::System { what: "make the inbox", error })?;
        let mut node = Self {
            endpoint: router.endpoint().to_string(),
            advertised,
            drainer: Drainer { postbox, is_asked: Arc::default() },
            turns: Arc::default(),
            thread: None,
        };
        node.thread = Some(node.spawn(config, router, inbox)?);
        Ok(node)
    }

    fn spawn(
        &self,
        config: NodeConfig,
        router: Router,
        inbox: Inbox,
    ) -> Result<JoinHandle<Result<Ending, BrokerThreadError>>, StartError> {
        let seed =
            seed().map_err(|error| StartError::System { what: "read random bytes", error })?;
        let now = Instant::now();
        let cluster = LocalCluster::new(config.name, self.advertised.clone(), now)
            .map_err(StartError::Catalog)?;
        let limits = config.settings.decode;
        let broker = BrokerThread {
            broker: Broker::new(cluster.incarnation().clone(), config.settings, seed, now),
            router,
            cluster,
            inbox,
            outgoing: OutgoingBuffers::new(OutgoingLimits {
                peer_bytes_max: config.max_outgoing_bytes_per_peer,
                bytes_max: config.max_outgoing_bytes,
            }),
            limits,
            drain: DrainTimes {
                timeout: config.drain_timeout,
                announce: config.drain_announce.min(config.drain_timeout),
            },
            turns: Arc::clone(&self.turns),
        };
        thread::Builder::new()
            .name("mdp-broker".to_owned())
            .spawn(move || broker.run())
            .map_err(|error| StartError::System { what: "start the broker thread", error })
    }

    /// What was really bound, with the port that the system chose.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address that clients are told; empty if there is none.
    #[must_use]
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Asks the node to drain: see [`Drainer::drain`].
    pub fn drain(&self) {
        self.drainer.drain();
    }

    /// For asking the node to drain from another thread.
    #[must_use]
    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }

    /// A number that rises at least once in a second while the broker thread works.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Waits until the node ends, which it does once it has drained.
    ///
    /// # Errors
    /// It ended otherwise.
    pub fn wait(mut self) -> Result<DrainReceipt, NodeError> {
        let Some(thread) = self.thread.take() else { return Err(NodeError::Stopped) };
        match thread.join() {
            Ok(Ok(Ending::Drained { receipt, took })) => Ok(DrainReceipt {
                finished: receipt.finished,
                handed_over: receipt.handed_over,
                dropped: receipt.dropped,
                leader_moved: false,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
            Ok(Ok(Ending::Stopped)) => Err(NodeError::Stopped),
            Ok(Err(error)) => Err(NodeError::BrokerThread(error)),
            Err(_) => Err(NodeError::Panicked),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.drainer.postbox.post(Message::Stop).is_ok() && thread.join().is_err() {
            tracing::error!("the broker thread panicked");
        }
    }
}

/// The address for clients. A wildcard is never published: the machine's name stands for it.
fn advertised(advertise: &str, bound: &Endpoint) -> Result<String, StartError> {
    if !advertise.is_empty() {
        let address: Endpoint = advertise.parse().map_err(StartError::AdvertiseAddress)?;
        if address.is_wildcard() || address.port() == 0 {
            return Err(StartError::AdvertiseNowhere { address });
        }
        return Ok(address.to_string());
    }
    if !bound.is_wildcard() {
        return Ok(bound.to_string());
    }
    let system = rustix::system::uname();
    let host = system.nodename().to_str().unwrap_or_default();
    if let Ok(address) = bound.at_host(host) {
        return Ok(address.to_string());
    }
    tracing::warn!(host, "this machine's name is no host name; set broker.advertise");
    Ok(String::new())
}

fn log_start(name: &NodeName, bound: &Endpoint, advertised: &str) {
    let (major, minor, patch) = library_version();
    let curve = library_has_curve();
    tracing::debug!(node = %name, endpoint = %bound, advertised, "bound");
    tracing::debug!(major, minor, patch, curve, "libzmq");
    if !bound.is_loopback() {
        tracing::warn!(
            endpoint = %bound,
            "other machines can connect, and there is no transport security yet: use it in trusted \
             networks only"
        );
    }
}

fn seed() -> io::Result<Seed> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Seed(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn wildcard_is_never_published() {
        for wildcard in ["0.0.0.0:5555", "*:5555", "[::]:5555"] {
            let published = advertised("", &bound(wildcard)).unwrap();
            assert!(published.is_empty() || !bound(&published).is_wildcard(), "{published}");
            assert!(matches!(
                advertised(wildcard, &bound("127.0.0.1:5555")),
                Err(StartError::AdvertiseNowhere { .. })
            ));
        }
    }

    #[test]
    fn advertised_address_goes_before_the_bound_one() {
        let bound = bound("127.0.0.1:5555");

        assert_eq!(advertised("", &bound).unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(advertised("node-1:5555", &bound).unwrap(), "tcp://node-1:5555");
    }

    #[test]
    fn receipt_is_the_documented_json() {
        let receipt = DrainReceipt {
            finished: 1,
            handed_over: 2,
            dropped: 3,
            leader_moved: false,
            took_ms: 4,
        };

        assert_eq!(
            serde_json::to_string(&receipt).unwrap(),
            r#"{"event":"drained","finished":1,"handed_over":2,"dropped":3,"leader_moved":false,"took_ms":4}"#
        );
    }
}
