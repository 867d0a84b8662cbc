//! What to measure, and why it could not be measured.

use std::{io, time::Duration};

use mdp_transport::{PublicKey, SecretKey};
use mdp_wire::Version;
use thiserror::Error;

use crate::peers::PeerKind;

/// Every body begins with the number of its request, so that each reply finds its request.
pub const BODY_BYTES_MIN: usize = size_of::<u64>();

/// The keys of all clients and workers.
#[derive(Clone, Debug)]
pub struct PeerKeys {
    /// Their own.
    pub own: SecretKey,
    /// The broker's.
    pub server: PublicKey,
}

/// The load, and how long to measure it.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Where the broker listens, for clients and, unless said otherwise, for workers.
    pub endpoint: String,
    /// Where workers connect, if that is another node of the same cluster.
    pub worker_endpoint: Option<String>,
    /// What clients and workers are made of.
    pub peers: PeerKind,
    /// With keys they speak CURVE, which only those of libzmq can; without, NULL.
    pub keys: Option<PeerKeys>,
    /// The version that clients and workers speak.
    pub protocol: Version,
    /// The name of the service; with a number behind it if there are several.
    pub service: String,
    /// How many services; requests go to one after the other.
    pub services: usize,
    /// How many workers over all services, spread evenly.
    pub workers: usize,
    /// How long a worker waits before it replies, without using a processor; zero: it replies at
    /// once.
    pub job: Duration,
    /// How many client connections share the window.
    pub clients: usize,
    /// How many requests are outstanding at any time.
    pub window: usize,
    /// The length of each body in bytes, at least [`BODY_BYTES_MIN`].
    pub body_bytes: usize,
    /// How long to load the broker before anything counts. Extended until a whole window of
    /// requests has been answered.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// A request without a reply for so long counts as timed out.
    pub request_timeout: Duration,
    /// How often a worker that has nothing to say sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// The broker's process on this machine, whose processor time and memory are then reported.
    pub pid: Option<u32>,
    /// Processes of other nodes on this machine that may take part, reported in the same way.
    pub peer_pids: Vec<u32>,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            endpoint: String::from("tcp://127.0.0.1:5555"),
            worker_endpoint: None,
            peers: PeerKind::Raw,
            keys: None,
            protocol: Version::V01,
            service: String::from("echo"),
            services: 1,
            workers: 32,
            job: Duration::ZERO,
            clients: 1,
            window: 64,
            body_bytes: 64,
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_millis(2_500),
            pid: None,
            peer_pids: Vec::new(),
        }
    }
}

impl BenchOptions {
    /// All processes to report, the broker's first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pid.iter().chain(&self.peer_pids).copied().collect()
    }

    /// Where workers connect.
    pub(crate) fn worker_endpoint(&self) -> &str {
        self.worker_endpoint.as_deref().unwrap_or(&self.endpoint)
    }

    /// Refuses options that no run could satisfy.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let counts = [
            ("services", self.services),
            ("workers", self.workers),
            ("clients", self.clients),
            ("window", self.window),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(BenchError::Zero { name });
        }
        if self.workers < self.services {
            let (workers, services) = (self.workers, self.services);
            return Err(BenchError::TooFewWorkers { workers, services });
        }
        if self.body_bytes < BODY_BYTES_MIN {
            return Err(BenchError::BodyTooShort { body_bytes: self.body_bytes });
        }
        if self.keys.is_some() && self.peers != PeerKind::Libzmq {
            return Err(BenchError::KeysWithoutLibzmq);
        }
        if self.job >= self.request_timeout {
            let (job, request_timeout) = (self.job, self.request_timeout);
            return Err(BenchError::JobTooLong { job, request_timeout });
        }
        if u32::try_from(self.window.max(self.services)).is_err() {
            return Err(BenchError::WindowTooLarge);
        }
        Ok(())
    }
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Nothing can be measured with none of it.
    #[error("there must be at least one of: {name}")]
    Zero {
        /// The option.
        name: &'static str,
    },
    /// Some service would have no worker.
    #[error("{workers} workers cannot serve {services} services: each needs at least one")]
    TooFewWorkers {
        /// How many workers were asked for.
        workers: usize,
        /// How many services.
        services: usize,
    },
    /// The body has no room for the number of its request.
    #[error("a body of {body_bytes} bytes is too short: at least {BODY_BYTES_MIN} are needed")]
    BodyTooShort {
        /// The length asked for.
        body_bytes: usize,
    },
    /// Peers of this kind have no CURVE.
    #[error("keys need peers of libzmq")]
    KeysWithoutLibzmq,
    /// No reply could come in time.
    #[error("a job of {job:?} takes longer than the {request_timeout:?} that a reply may take")]
    JobTooLong {
        /// How long a worker waits.
        job: Duration,
        /// How long a client waits.
        request_timeout: Duration,
    },
    /// More requests than can be numbered.
    #[error("the window is too large: at most {} requests can be outstanding", u32::MAX)]
    WindowTooLarge,
    /// The process may not open enough files.
    #[error("this needs {needed} open files, but the limit is {limit}: raise it with `ulimit -n`")]
    FileLimit {
        /// How many files the sockets need.
        needed: u64,
        /// How many the system allows.
        limit: u64,
    },
    /// No program listens there.
    #[error("{endpoint}: {reason}; is a broker running there?")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the system says.
        reason: String,
    },
    /// The broker answered too few of the first requests, one for each service.
    #[error(
        "only {answered} of {services} services answered within {waited:?}: is a broker at \
         {endpoint}? It disconnected {disconnected} workers"
    )]
    NotServing {
        /// Where.
        endpoint: String,
        /// How many services answered.
        answered: usize,
        /// How many were asked.
        services: usize,
        /// For how long.
        waited: Duration,
        /// How many workers got a DISCONNECT.
        disconnected: u64,
    },
    /// No request was answered while measuring.
    #[error("no request was answered within {duration:?}")]
    NothingMeasured {
        /// How long was measured.
        duration: Duration,
    },
    /// The broker was lost while it was measured.
    #[error("{endpoint}: the broker was lost ({reason})")]
    Lost {
        /// Where.
        endpoint: String,
        /// What the system says.
        reason: String,
    },
    /// A socket failed.
    #[error("socket: {0}")]
    Socket(#[from] zmq::Error),
    /// Waiting for sockets failed.
    #[error("waiting for sockets: {0}")]
    Poll(io::Error),
    /// The broker's process cannot be observed.
    #[error("process {pid} cannot be observed: {error}")]
    Process {
        /// Which process.
        pid: u32,
        /// Why.
        error: io::Error,
    },
    /// The thread of the workers panicked, which is a defect of this crate.
    #[error("the workers' thread ended unexpectedly")]
    WorkersGone,
}
