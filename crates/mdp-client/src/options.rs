//! What a [`Client`](crate::Client) and a [`Worker`](crate::Worker) can be told.

use std::{fmt, time::Duration};

use mdp_transport::{PublicKey, SecretKey};
use mdp_wire::Version;

use crate::WorkerObserver;

/// Where a broker listens when nothing else is said.
pub const DEFAULT_ENDPOINT: &str = "tcp://127.0.0.1:5555";

/// The most frames of a request, header and service included, until a broker says another number. It
/// is fixed in majordomo.
pub const REQUEST_FRAMES_MAX: usize = 1_024;

/// The most requests that one socket carries at a time ([`Correlation::Envelope`]).
pub const PIPELINED_REQUESTS_MAX: usize = 100_000;

/// The most sockets of one client, where each request has its own. A libzmq context holds 1,023
/// sockets, and a watched connection takes three of them, twice while it is replaced.
pub const CLIENT_SOCKETS_MAX: usize = 128;

/// The most connections of one worker, for the same reason.
pub const WORKER_CONCURRENCY_MAX: usize = 128;

/// The most endpoints that can be configured.
pub const ENDPOINTS_MAX: usize = 48;

/// The most endpoints that a client or worker learns by `mmi.endpoints`. More are ignored.
pub const LEARNED_ENDPOINTS_MAX: usize = 16;

/// How a client finds the request that a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Correlation {
    /// Pipelined 0.1 requests share a socket; a frame with the request's id in front of the empty
    /// delimiter comes back with the reply, because the broker restores the envelope of a request.
    /// 0.2 has no envelope, so there each request has its own socket in any case.
    #[default]
    Envelope,
    /// Each outstanding request has its own socket, for brokers that do not give envelopes back
    /// (the one of the ZeroMQ Guide, for example).
    SocketPerRequest,
}

/// What a client does and where it connects. Begin with [`Self::new`].
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The brokers, in order of preference, at most [`ENDPOINTS_MAX`]. `tcp://` may be left out.
    /// The client stays with a broker until that one fails or leaves its cluster, and goes back to
    /// a preferred one when that is there again ([`Self::return_interval`]).
    pub endpoints: Vec<String>,
    /// The version spoken, 0.1 by default.
    pub version: Version,
    /// How long one attempt waits for a reply, and for each part of a reply in 0.2.
    pub timeout: Duration,
    /// How often a request is tried in all. An attempt ends by its timeout, or at once when the
    /// connection that carried the request is lost. Endpoints that cannot be reached cost no
    /// attempt: the request never left.
    pub attempts: u32,
    /// Whether a service may work on a request twice without harm, as 7/MDP assumes (A1). If not,
    /// a request that left this process is not sent again: when its connection is lost or its time
    /// is over, the call ends with [`CallError::MayHaveBeenExecuted`](crate::CallError). A request
    /// that never left is tried like any other. Single calls can say otherwise
    /// ([`CallOptions`](crate::CallOptions)).
    pub idempotent: bool,
    /// How replies to pipelined requests are told apart.
    pub correlation: Correlation,
    /// How many requests of an async client are outstanding at a time; more wait for their turn.
    /// Where each has its own socket, it is at most [`CLIENT_SOCKETS_MAX`].
    pub in_flight_max: usize,
    /// How long a connection may take to be established before the next endpoint is tried.
    pub connect_timeout: Duration,
    /// The first pause after a round in which no endpoint could be reached; half of it is random.
    /// It doubles from round to round, up to `reconnect_max`, until one is reached.
    pub reconnect_min: Duration,
    /// The longest pause between rounds over unreachable endpoints.
    pub reconnect_max: Duration,
    /// How often a broker is asked by `mmi.endpoints` which nodes of its cluster are up and do not
    /// drain: when a connection comes up, and then, while requests are made, this often. Zero
    /// turns it off. A broker that answers `501`, or not at all, is not asked again.
    ///
    /// Endpoints that are new are appended to `endpoints`, at most [`LEARNED_ENDPOINTS_MAX`], and
    /// get requests only after a connection to them was established in the background. When the
    /// broker in use is listed no more, new requests go to another one as soon as that answers;
    /// outstanding ones stay, so that nothing is sent twice.
    pub endpoints_refresh: Duration,
    /// How often, while requests are made elsewhere, a preferred endpoint is tried in the
    /// background; if it answers (`mmi.endpoints` again), new requests go there. One that left a
    /// request unanswered which another broker answered is not tried for five minutes. Zero: the
    /// client stays where it is.
    pub return_interval: Duration,
    /// How often the system asks an idle connection whether the broker's host is there, in whole
    /// seconds; two questions without an answer end the connection. Zero: never.
    pub tcp_keepalive: Duration,
    /// How long a request is tried while this client has never reached any broker: then no broker
    /// is there, or the address is wrong, and the call fails with
    /// [`CallError::Unreachable`](crate::CallError). A client that has reached a broker goes on for
    /// all of its attempts, because its cluster may be restarting.
    pub unreachable_timeout: Duration,
    /// The largest request in bytes, as long as no broker has said what it takes: `mmi.endpoints`
    /// tells the broker's own limit, which then holds. A larger request is refused before it is
    /// sent. The default is that of `broker.max_message_bytes`.
    pub request_bytes_max: usize,
    /// The largest reply in bytes, parts included, and the largest frame that is received at all.
    pub reply_bytes_max: usize,
    /// The secret key of this client (26/CURVEZMQ). With it every connection is encrypted, both sides show
    /// their keys, and a broker that cannot do that is refused; without it connections speak NULL:
    /// neither encryption nor authentication. Needs `server_key`. [`KeyFile`](crate::KeyFile) reads the
    /// files of `majordomo keygen`, czmq and pyzmq.
    ///
    /// A broker holds a key that it does not know for some seconds before it says so: an attempt whose
    /// connection is not established waits for that, at most `connect_timeout` and 4 s.
    pub key: Option<SecretKey>,
    /// The public key of the brokers: all nodes of a cluster have the same towards clients and workers.
    pub server_key: Option<PublicKey>,
    /// The libzmq context to use, for `inproc://` endpoints and for programs with many clients.
    /// Without it each client makes its own, with one I/O thread.
    pub context: Option<zmq::Context>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoints: vec![DEFAULT_ENDPOINT.to_owned()],
            version: Version::V01,
            timeout: Duration::from_millis(2_500),
            attempts: 3,
            idempotent: true,
            correlation: Correlation::default(),
            in_flight_max: 1_000,
            connect_timeout: Duration::from_secs(1),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_millis(500),
            endpoints_refresh: Duration::from_secs(1),
            return_interval: Duration::from_secs(3),
            tcp_keepalive: Duration::from_secs(1),
            unreachable_timeout: Duration::from_secs(1),
            request_bytes_max: 16 << 20,
            reply_bytes_max: 64 << 20,
            key: None,
            server_key: None,
            context: None,
        }
    }
}

/// What one call does otherwise than its client.
///
/// ```
/// # use std::time::Duration;
/// use mdp_client::CallOptions;
///
/// let patient = CallOptions::new().timeout(Duration::from_secs(60)).attempts(1);
/// let once = CallOptions::new().idempotent(false);
/// # assert_ne!(patient, once);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    pub(crate) idempotent: Option<bool>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempts: Option<u32>,
    pub(crate) fail_fast: bool,
}

impl CallOptions {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { idempotent: None, timeout: None, attempts: None, fail_fast: false }
    }

    /// Whether this request may be worked on twice: see [`ClientOptions::idempotent`].
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// How long each attempt waits: see [`ClientOptions::timeout`].
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How often the request is tried in all, once at least: see [`ClientOptions::attempts`].
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Whether the broker is asked first, by `mmi.service`, whether any worker offers the service:
    /// if none does, the call fails at once with [`CallError::NoWorker`](crate::CallError). It
    /// costs one more round trip. Pipelines do not ask.
    #[must_use]
    pub const fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.fail_fast = fail_fast;
        self
    }

    pub(crate) fn is_idempotent(self, by_default: bool) -> bool {
        self.idempotent.unwrap_or(by_default)
    }
}

/// Methods that set the fields of these names, to be chained.
macro_rules! setters {
    ($options:ident: $($field:ident: $type:ty,)*) => {
        impl $options {
            $(
                #[doc = concat!("Sets the field `", stringify!($field), "`.")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

impl ClientOptions {
    /// A client of these brokers, otherwise by default. `tcp://` may be left out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mdp_client::ClientOptions;
    ///
    /// let options = ClientOptions::new(["broker-1:5555", "broker-2:5555"])
    ///     .timeout(Duration::from_secs(10))
    ///     .attempts(2);
    /// assert_eq!(options.endpoints, ["broker-1:5555", "broker-2:5555"]);
    /// ```
    #[must_use]
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self::default().endpoints(endpoints)
    }

    /// Sets the brokers, in order of preference.
    #[must_use]
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the secret key of this client and the public key of the brokers.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (key_file, server_key_file) = (folder.path().join("a"), folder.path().join("b"));
    /// # let (secret, server) = (
    /// #     mdp_client::SecretKey::from_bytes(&[1; 32]),
    /// #     mdp_client::SecretKey::from_bytes(&[2; 32]).public(),
    /// # );
    /// # std::fs::write(&key_file, mdp_client::KeyFile::secret_text("billing", &secret).as_bytes())?;
    /// # std::fs::write(&server_key_file, mdp_client::KeyFile::public_text("cluster", &server))?;
    /// use mdp_client::{ClientOptions, KeyFile};
    ///
    /// let own = KeyFile::parse(&std::fs::read_to_string(key_file)?)?; // billing.key_secret
    /// let server = KeyFile::parse(&std::fs::read_to_string(server_key_file)?)?; // cluster.key
    /// let options = ClientOptions::new(["broker-1:5555", "broker-2:5555"])
    ///     .keys(own.secret.ok_or("no secret key")?, server.public);
    /// # assert!(options.key.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keys(mut self, key: SecretKey, server_key: PublicKey) -> Self {
        self.key = Some(key);
        self.server_key = Some(server_key);
        self
    }

    /// Sets the libzmq context to use.
    #[must_use]
    pub fn context(mut self, context: zmq::Context) -> Self {
        self.context = Some(context);
        self
    }
}

setters! { ClientOptions:
    version: Version,
    timeout: Duration,
    attempts: u32,
    idempotent: bool,
    correlation: Correlation,
    in_flight_max: usize,
    connect_timeout: Duration,
    unreachable_timeout: Duration,
    reconnect_min: Duration,
    reconnect_max: Duration,
    endpoints_refresh: Duration,
    return_interval: Duration,
    tcp_keepalive: Duration,
    request_bytes_max: usize,
    reply_bytes_max: usize,
    key: Option<SecretKey>,
    server_key: Option<PublicKey>,
}

impl WorkerOptions {
    /// A worker of this service at [`DEFAULT_ENDPOINT`], otherwise by default.
    ///
    /// ```
    /// use mdp_client::WorkerOptions;
    ///
    /// let options = WorkerOptions::new("resize").endpoints(["broker-1:5555"]).concurrency(4);
    /// assert_eq!(options.service, b"resize");
    /// ```
    #[must_use]
    pub fn new(service: impl AsRef<[u8]>) -> Self {
        Self::default().service(service.as_ref().to_vec())
    }

    /// Sets the brokers; their order means nothing.
    #[must_use]
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Sets where other threads can see at which brokers the worker is registered.
    #[must_use]
    pub fn observer(mut self, observer: WorkerObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the secret key of this worker and the public key of the brokers.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (key_file, server_key_file) = (folder.path().join("a"), folder.path().join("b"));
    /// # let (secret, server) = (
    /// #     mdp_client::SecretKey::from_bytes(&[1; 32]),
    /// #     mdp_client::SecretKey::from_bytes(&[2; 32]).public(),
    /// # );
    /// # std::fs::write(&key_file, mdp_client::KeyFile::secret_text("billing", &secret).as_bytes())?;
    /// # std::fs::write(&server_key_file, mdp_client::KeyFile::public_text("cluster", &server))?;
    /// use mdp_client::{WorkerOptions, KeyFile};
    ///
    /// let own = KeyFile::parse(&std::fs::read_to_string(key_file)?)?; // billing.key_secret
    /// let server = KeyFile::parse(&std::fs::read_to_string(server_key_file)?)?; // cluster.key
    /// let options = WorkerOptions::new("resize").endpoints(["broker-1:5555"])
    ///     .keys(own.secret.ok_or("no secret key")?, server.public);
    /// # assert!(options.key.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keys(mut self, key: SecretKey, server_key: PublicKey) -> Self {
        self.key = Some(key);
        self.server_key = Some(server_key);
        self
    }

    /// Sets the libzmq context to use.
    #[must_use]
    pub fn context(mut self, context: zmq::Context) -> Self {
        self.context = Some(context);
        self
    }
}

setters! { WorkerOptions:
    service: Vec<u8>,
    version: Version,
    rebalances: bool,
    endpoints_refresh: Duration,
    heartbeat_interval: Duration,
    heartbeat_liveness: u32,
    reconnect_min: Duration,
    reconnect_max: Duration,
    concurrency: usize,
    connect_timeout: Duration,
    linger: Duration,
    request_bytes_max: usize,
    key: Option<SecretKey>,
    server_key: Option<PublicKey>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("endpoints", &self.endpoints)
            .field("version", &self.version)
            .field("timeout", &self.timeout)
            .field("attempts", &self.attempts)
            .field("idempotent", &self.idempotent)
            .field("correlation", &self.correlation)
            .field("server_key", &self.server_key)
            .finish_non_exhaustive()
    }
}

/// What a worker offers and where it registers. Begin with [`Self::new`]; the default
/// has no service name and is refused.
#[derive(Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// The brokers, at most [`ENDPOINTS_MAX`]. Their order means nothing: each connection begins
    /// with one at random, and a lost one is followed by another at random, brokers that failed or
    /// left last. `tcp://` may be left out.
    pub endpoints: Vec<String>,
    /// Whether a worker goes, with the probability of 1 / number of nodes, to a node that was added
    /// or has started again, so that no node is left without workers after a rolling restart. It
    /// does so while it has no request; one that the broker sends in that moment goes to another
    /// worker, or gets no reply where the broker's policy is `at-most-once` or `max_attempts` is 1.
    /// Needs `endpoints_refresh`.
    pub rebalances: bool,
    /// How often the broker is asked by `mmi.endpoints`, over the worker's own connection, which
    /// nodes of its cluster are up and do not drain: after the registration, and then this often,
    /// less up to a half of it at random. Zero turns it off. New ones are appended to `endpoints`, at most
    /// [`LEARNED_ENDPOINTS_MAX`]. A broker that answers `501`, or not at all, is not asked again.
    pub endpoints_refresh: Duration,
    /// The service offered, as bytes.
    pub service: Vec<u8>,
    /// The version spoken, 0.1 by default.
    pub version: Version,
    /// How often the worker shows that it lives, also while the handler works. Broker and worker
    /// need about the same.
    pub heartbeat_interval: Duration,
    /// How many intervals of silence make a broker dead.
    pub heartbeat_liveness: u32,
    /// The first pause after a refusal, or after a round in which no endpoint could be reached;
    /// half of it is random. It doubles up to `reconnect_max`, until a connection lasts.
    pub reconnect_min: Duration,
    /// The longest pause before a new connection.
    pub reconnect_max: Duration,
    /// How many requests are worked on at a time. Each has its own connection and, in the blocking
    /// worker, its own thread, because a 7/MDP worker has one request at a time.
    pub concurrency: usize,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// How long a closed connection may take to send what it still holds, DISCONNECT last.
    pub linger: Duration,
    /// The largest frame that is received, in bytes.
    pub request_bytes_max: usize,
    /// The secret key of this worker (26/CURVEZMQ). With it every connection is encrypted, both sides show
    /// their keys, and a broker that cannot do that is refused; without it connections speak NULL:
    /// neither encryption nor authentication. Needs `server_key`. [`KeyFile`](crate::KeyFile) reads the
    /// files of `majordomo keygen`, czmq and pyzmq.
    pub key: Option<SecretKey>,
    /// The public key of the brokers: all nodes of a cluster have the same towards clients and workers.
    pub server_key: Option<PublicKey>,
    /// Where other threads can see at which brokers the worker is registered.
    pub observer: Option<WorkerObserver>,
    /// The libzmq context to use, for `inproc://` endpoints. Without it the worker makes its own,
    /// and has flushed its DISCONNECT when it returns.
    pub context: Option<zmq::Context>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            endpoints: vec![DEFAULT_ENDPOINT.to_owned()],
            rebalances: true,
            endpoints_refresh: Duration::from_secs(5),
            service: Vec::new(),
            version: Version::V01,
            heartbeat_interval: Duration::from_millis(2_500),
            heartbeat_liveness: 3,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(10),
            concurrency: 1,
            connect_timeout: Duration::from_secs(1),
            linger: Duration::from_secs(1),
            request_bytes_max: 64 << 20,
            key: None,
            server_key: None,
            observer: None,
            context: None,
        }
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("endpoints", &self.endpoints)
            .field("service", &self.service.escape_ascii().to_string())
            .field("version", &self.version)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("heartbeat_liveness", &self.heartbeat_liveness)
            .field("concurrency", &self.concurrency)
            .field("server_key", &self.server_key)
            .finish_non_exhaustive()
    }
}
