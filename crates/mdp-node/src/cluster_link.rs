//! How nodes call each other: requests and answers over ZeroMQ, on a thread of its own.
//!
//! The thread `mdp-cluster` owns a ROUTER, where the calls of other nodes arrive, and a DEALER for
//! each other node and [`Lane`]. A request is two frames, a correlation id and its bytes; its
//! answer carries the same id. An id is forgotten when the call's time is up, so that an answer
//! that comes later, or from an earlier connection, meets nobody.

mod calls;
mod counters;
mod incoming;
mod link_thread;
mod peer;

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

use mdp_raft::{BoxFuture, CallError, Lane, Transport};
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot};

pub(crate) use self::counters::LinkCounters;
pub use self::counters::LinkTotals;
use self::{
    incoming::Incoming,
    link_thread::{Command, LinkThread},
};
use crate::{
    BindError, Endpoint,
    bell::{Ringer, bell},
    zeromq::{Context, Frame, Socket, SocketOption},
};

/// How many commands may wait for the thread: calls, and answers to the calls of others.
const COMMANDS_MAX: usize = 4_096;
/// How many calls of others may be in progress. More are dropped: they would be answered too late.
const INCOMING_CALLS_MAX: usize = 256;
/// How many calls to one node on one lane may have no answer yet.
pub(crate) const CALLS_PER_PEER_MAX: usize = 128;
/// The longest request or answer.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How many messages libzmq keeps for a node that does not read: what waits long is worthless.
const SEND_MESSAGES_MAX: i32 = 256;
/// No limit to what libzmq keeps until it is read here: calls without an answer are limited. A
/// connection that is pinged, has reached such a limit and then ends can make libzmq 4.3 abort the
/// process (docs/decisions/0017).
const RECEIVE_MESSAGES_MAX: i32 = 0;
/// How often a connection is pinged.
const HEARTBEAT_MILLISECONDS: i32 = 300;
/// How long a pinged connection may be silent, on either side.
const HEARTBEAT_TIMEOUT_MILLISECONDS: i32 = 1_000;
/// How long a connection may take to introduce itself.
const HANDSHAKE_MILLISECONDS_MAX: i32 = 1_000;
/// How long making a connection may take.
const CONNECT_MILLISECONDS_MAX: i32 = 500;
/// How soon a lost connection is made anew, and how late at most.
const RECONNECT_MILLISECONDS_MIN: i32 = 50;
const RECONNECT_MILLISECONDS_MAX: i32 = 500;

/// How late the thread may be with the end of a call's time, until the caller goes on without it.
const THREAD_LAG_MAX: Duration = Duration::from_millis(50);

/// Answers a request of another node; `None`: it gets no answer.
pub(crate) type Answer = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync>;

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
        context: &Arc<Context>,
        bind: &Endpoint,
        runtime: Handle,
    ) -> Result<Self, LinkError> {
        let system = |what| move |error| LinkError::System { what, error };
        let counters = Arc::new(LinkCounters::default());
        let (ringer, bell) = bell().map_err(system("make a bell"))?;
        let (commands, queue) = sync_channel(COMMANDS_MAX);
        let caller = LinkCaller { commands, ringer };
        let incoming = Incoming::bind(context, bind).map_err(LinkError::Bind)?;
        let endpoint = incoming.endpoint().clone();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let thread = LinkThread {
            context: Arc::clone(context),
            runtime,
            caller: caller.clone(),
            queue,
            bell,
            incoming,
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
        let (caller, endpoint) = (self.clone(), endpoint.to_owned());
        Box::pin(async move {
            if request.len() > MESSAGE_BYTES_MAX {
                let bytes = request.len();
                tracing::warn!(bytes, MESSAGE_BYTES_MAX, "a request is too long for the link");
                return Err(CallError::Unreachable);
            }
            let deadline = Instant::now() + timeout;
            let (reply, answer) = oneshot::channel();
            caller.post(Command::Call { endpoint, lane, request, deadline, reply })?;
            // The thread knows why a request could not be sent, and says it when its time is up.
            match tokio::time::timeout_at((deadline + THREAD_LAG_MAX).into(), answer).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(CallError::Unreachable),
                Err(_) => Err(CallError::Timeout),
            }
        })
    }
}

/// The id that an answer has in common with its request, as a frame.
fn correlation_of(frame: &Frame) -> Option<u64> {
    Some(u64::from_le_bytes(frame.as_ref().try_into().ok()?))
}

/// The options that both kinds of sockets have.
fn configure(socket: &Socket) -> Result<(), crate::SocketError> {
    for (option, value) in [
        (SocketOption::Linger, 0),
        (SocketOption::SendHighWaterMark, SEND_MESSAGES_MAX),
        (SocketOption::ReceiveHighWaterMark, RECEIVE_MESSAGES_MAX),
        (SocketOption::HandshakeInterval, HANDSHAKE_MILLISECONDS_MAX),
    ] {
        socket.set(option, value)?;
    }
    socket.set_io_threads(crate::zeromq::IoThreads::CLUSTER)?;
    socket.set_frame_bytes_max(i64::try_from(MESSAGE_BYTES_MAX).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
