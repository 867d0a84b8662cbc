//! How nodes call each other: sockets around [`ClusterLinks`], on a thread of its own.
//!
//! The thread `mdp-cluster` owns the port where the calls of other nodes arrive, and the connections to
//! theirs. It moves bytes, looks up names on the runtime, and hands outcomes to the tasks that wait for
//! them; what a call comes to is decided in `mdp-core`.

mod counters;
mod link_thread;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mdp_catalog::NodeName;
use mdp_core::{
    CALL_BYTES_MAX, Call, ClusterLinks, Connections as _, IncomingLimits, NodeKeys, PeerKey,
    PortName,
};
use mdp_raft::{BoxFuture, CallError, Lane, Transport};
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot};

pub(crate) use self::counters::LinkCounters;
pub use self::counters::LinkTotals;
use self::link_thread::{Command, LinkThread, Reply};
use crate::{
    BindAddress, BindError, Endpoint,
    bell::{Ringer, bell},
    crypto::PortKeys,
    poller::Poller,
    port::{ConnectionShare, ListenerSettings, Port},
};

/// How many commands may wait for the thread: calls, and answers to the calls of others.
const COMMANDS_MAX: usize = 4_096;
/// Each connection is read by turns, for any program can be behind one.
const NODES: (PortName, ConnectionShare) = (PortName::Nodes, ConnectionShare::OF_MANY);
const LISTENERS: ListenerSettings = ListenerSettings {
    key: "cluster.bind",
    backlog_connections: 128,
    limit: "there are more of other nodes than a cluster can have",
};

/// How late the thread may be with the end of a call's time, until the caller goes on without it.
const THREAD_LAG_MAX: Duration = Duration::from_millis(50);

/// Answers a request of another node, which is known by name if it has shown its key; `None`: it gets no
/// answer.
pub(crate) type Answer =
    Arc<dyn Fn(Option<NodeName>, Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync>;

/// The link could not start.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// `cluster.bind` could not be bound.
    #[error(transparent)]
    Bind(BindError),
    /// The operating system refused something.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

/// This node's end of all connections between nodes. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct ClusterLink {
    endpoint: Endpoint,
    caller: LinkCaller,
    counters: Arc<LinkCounters>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ClusterLink {
    /// Binds the address; when this returns, other nodes can connect. Their requests are dropped
    /// until [`serve`](Self::serve).
    pub(crate) fn start(
        bind: &Endpoint,
        limits: IncomingLimits,
        random: u64,
        runtime: Handle,
        keys: Option<PortKeys>,
    ) -> Result<Self, LinkError> {
        let system = |what| move |error| LinkError::System { what, error };
        let counters = Arc::new(LinkCounters::default());
        let (ringer, bell) = bell().map_err(system("make a bell"))?;
        let poller = Poller::new(bell.descriptor()).map_err(system("make a poller"))?;
        let (commands, queue) = sync_channel(COMMANDS_MAX);
        let caller = LinkCaller { commands, ringer };
        let addresses = [BindAddress::Tcp(bind.clone())];
        let port = Port::bind(NODES, &LISTENERS, &addresses, &poller);
        let port = port.map_err(LinkError::Bind)?;
        let bound = port.addresses().find_map(BindAddress::tcp).cloned();
        let endpoint = bound.unwrap_or_else(|| bind.clone());
        let is_stopped = Arc::new(AtomicBool::new(false));
        let now = Instant::now();
        let mut links = ClusterLinks::new(now, limits, random);
        let crypto = keys.map(|PortKeys { keys, pool, random }| {
            links.transport().seed(b"calls   ", &random);
            links.transport().set_jobs_outside(true);
            links.set_keys(now, keys);
            pool.port(caller.ringer.clone())
        });
        let thread = LinkThread {
            poller,
            port,
            links,
            crypto,
            runtime,
            caller: caller.clone(),
            queue,
            bell,
            answer: None,
            counters: Arc::clone(&counters),
            is_stopped: Arc::clone(&is_stopped),
        };
        let thread = thread::Builder::new()
            .name("mdp-cluster".to_owned())
            .spawn(move || thread.run())
            .map_err(system("start the cluster thread"))?;
        Ok(Self { endpoint, caller, counters, is_stopped, thread: Some(thread) })
    }

    /// What was bound, with the port that the system chose.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls other nodes. It keeps no connection open by itself.
    pub(crate) fn caller(&self) -> LinkCaller {
        self.caller.clone()
    }

    /// What the calls came to.
    pub(crate) fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.counters)
    }

    /// From now on, requests of other nodes are answered by this. Later ones are ignored.
    pub(crate) fn serve(&self, answer: Answer) {
        // The queue is as good as empty at the start, when this is called.
        if self.caller.post(Command::Serve(answer)).is_err() {
            tracing::warn!("the calls of other nodes cannot be answered");
        }
    }
}

impl Drop for ClusterLink {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        self.caller.ringer.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the cluster thread panicked");
        }
    }
}

/// Calls other nodes. Cheap to clone; when the link is gone, calls fail.
#[derive(Clone, Debug)]
pub(crate) struct LinkCaller {
    commands: SyncSender<Command>,
    ringer: Ringer,
}

impl LinkCaller {
    /// Tells the thread, and never waits.
    fn post(&self, command: Command) -> Result<(), CallError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Busy,
            TrySendError::Disconnected(_) => CallError::Unreachable,
        })?;
        self.ringer.ring();
        Ok(())
    }
}

impl Transport for LinkCaller {
    fn call(
        &self,
        endpoint: &str,
        lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        self.call_peer(
            PeerKey { endpoint: endpoint.to_owned(), lane, node: None },
            request,
            timeout,
        )
    }

    fn call_node(
        &self,
        (name, endpoint): (&str, &str),
        lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let (endpoint, node) = (endpoint.to_owned(), name.parse().ok());
        self.call_peer(PeerKey { endpoint, lane, node }, request, timeout)
    }
}

impl LinkCaller {
    /// From now on nodes have these keys.
    pub(crate) fn set_keys(&self, keys: Arc<NodeKeys>) -> Result<(), CallError> {
        self.post(Command::Keys(keys))
    }

    fn call_peer(
        &self,
        peer: PeerKey,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let caller = self.clone();
        Box::pin(async move {
            if request.len() > CALL_BYTES_MAX {
                let bytes = request.len();
                tracing::warn!(bytes, CALL_BYTES_MAX, "a request is too long for the link");
                return Err(CallError::Unreachable);
            }
            if !can_be_called(&peer.endpoint) {
                tracing::debug!(peer.endpoint, "no address to call");
                return Err(CallError::Unreachable);
            }
            let deadline = Instant::now() + timeout;
            let (reply, answer) = oneshot::channel();
            let call = Call { request, deadline, reply: Reply(reply) };
            caller.post(Command::Call { peer, call })?;
            // The thread knows why a request could not be sent, and says it when its time is up.
            match tokio::time::timeout_at((deadline + THREAD_LAG_MAX).into(), answer).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(CallError::Unreachable),
                Err(_) => Err(CallError::Timeout),
            }
        })
    }
}

/// Whether this is the address of a node.
fn can_be_called(endpoint: &str) -> bool {
    let endpoint = endpoint.parse::<Endpoint>();
    endpoint.is_ok_and(|endpoint| !endpoint.is_wildcard() && endpoint.port() != 0)
}

#[cfg(test)]
mod tests;
