//! The blocking worker.

mod answer;
mod core;
pub(crate) mod driver;
pub(crate) mod executor;
mod observer;
mod parting;
mod session;
mod stop;

use std::sync::{Arc, mpsc};

pub use self::{
    answer::IntoAnswer,
    observer::{Registration, WorkerObserver},
    stop::StopHandle,
};
use crate::{
    IntoFrames, PartialError, ServiceName, Version, WorkerError, WorkerOptions,
    bell::Bell,
    worker::executor::{JobEvent, JobId, ThreadExecutor},
};

/// Offers a service by way of a broker.
///
/// * It registers with READY, once per connection, and takes the first HEARTBEAT or REQUEST as the
///   acknowledgement.
/// * It sends heartbeats also while the handler works, which therefore runs on a thread of its own.
/// * A broker that is silent for interval × liveness, or whose connection is lost, is left for the
///   next endpoint, with a growing pause. The interval has to be the broker's; a broker that sends
///   no heartbeats to busy workers (the one of the ZeroMQ Guide) needs interval × liveness to be
///   longer than any request takes.
/// * DISCONNECT after an acknowledged registration: the next endpoint at once, for the node leaves
///   its cluster. DISCONNECT as the answer to READY: the next endpoint after a pause.
/// * No endpoint is preferred: among those that neither leave nor failed a short time ago each
///   connection chooses at random, so that the workers of a service spread over the nodes.
/// * It asks its broker by `mmi.endpoints` where else it could go, and prefers nodes that are listed
///   there, which are up and do not drain. When a node was added or has started again, each worker
///   goes there with the probability of 1 / number of nodes, between two requests and only if its
///   service has another worker ([`WorkerOptions::rebalances`]). Otherwise it stays where it is.
/// * A connection that was lost while the handler works is replaced when the handler returns; the
///   reply has nowhere to go and is dropped. The broker may give the request to another worker.
/// * A handler that returns an error is logged, and its request answered with one empty frame.
/// * A handler that panics makes no reply: the worker sends DISCONNECT, so that the broker can give
///   the request to another worker, and registers again after a pause. In programs built with
///   `panic = "abort"` the process ends instead, which the broker sees as a lost connection.
#[derive(Debug)]
pub struct Worker(());

impl Worker {
    /// Offers a service until `stop` is used, on the calling thread. The handler is called on
    /// [`WorkerOptions::concurrency`] threads of its own; it returns the body of the reply, or an
    /// error ([`IntoAnswer`]).
    ///
    /// ```
    /// use mdp_client::{Request, StopHandle, Worker, WorkerOptions};
    /// # let context = zmq::Context::new();
    /// # let broker = context.socket(zmq::ROUTER)?;
    /// # broker.bind("inproc://worker")?;
    /// # let stop = StopHandle::new();
    /// # let stopper = stop.clone();
    /// # let broker = std::thread::spawn(move || {
    /// #     let ready = broker.recv_multipart(0).unwrap();
    /// #     let head: [&[u8]; 6] = [&ready[0], b"", b"MDPW01", b"\x02", b"client", b""];
    /// #     broker.send_multipart(head.into_iter().chain([&b"hello"[..]]), 0).unwrap();
    /// #     let reply = broker.recv_multipart(0).unwrap();
    /// #     stopper.stop();
    /// #     reply[6].clone()
    /// # });
    ///
    /// let options = WorkerOptions::new("shout").endpoints(["inproc://worker"]); // broker-1:5555
    /// # let options = options.context(context.clone());
    /// let counters = Worker::run(
    ///     options,
    ///     |request: Request| {
    ///         let text = String::from_utf8(request.frames.concat())?;
    ///         Ok::<_, std::string::FromUtf8Error>(text.to_uppercase())
    ///     },
    ///     &stop,
    /// )?;
    /// # assert_eq!(broker.join().unwrap(), b"HELLO");
    /// assert_eq!(counters.replies, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The options cannot be used, or sockets or threads cannot be made. Brokers that cannot be
    /// reached are no error: the worker goes on trying.
    pub fn run<H, A>(
        options: WorkerOptions,
        handler: H,
        stop: &StopHandle,
    ) -> Result<WorkerCounters, WorkerError>
    where
        H: Fn(Request) -> A + Send + Sync + 'static,
        A: IntoAnswer,
    {
        let handler = Arc::new(handler);
        driver::run(options, stop, |offer, bell| {
            ThreadExecutor::start_thread(Arc::clone(&handler), offer.clone(), Arc::clone(bell))
        })
    }
}

/// One request for the handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// The service asked for, which is the worker's.
    pub service: ServiceName,
    /// The body.
    pub frames: Vec<Vec<u8>>,
    pub(crate) responder: Responder,
}

impl Request {
    /// Sends a part of the reply at once (0.2 only). Waits while the connection is full.
    ///
    /// A part for a connection that is gone is dropped, as the reply will be.
    ///
    /// # Errors
    /// The worker speaks 0.1, which has no partial replies, or has ended.
    pub fn partial(&self, frames: impl IntoFrames) -> Result<(), PartialError> {
        self.responder.send(frames.into_frames())
    }
}

/// Where the parts of one reply go.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) job: JobId,
    pub(crate) version: Version,
    pub(crate) events: mpsc::SyncSender<JobEvent>,
    pub(crate) bell: Arc<Bell>,
}

impl Responder {
    fn send(&self, body: Vec<Vec<u8>>) -> Result<(), PartialError> {
        match self.version {
            Version::V01 => Err(PartialError::NotIn01),
            Version::V02 => {
                let event = JobEvent::Partial { job: self.job, body };
                self.events.send(event).map_err(|_| PartialError::Closed)?;
                self.bell.ring();
                Ok(())
            }
        }
    }
}

/// What a worker has seen, all its connections together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Registrations that a broker acknowledged.
    pub registrations: u64,
    /// Requests received.
    pub requests: u64,
    /// Replies sent, in 0.2 final ones.
    pub replies: u64,
    /// Partial replies sent.
    pub partials: u64,
    /// Replies, or parts, of requests whose connection was gone.
    pub replies_stale: u64,
    /// Requests dropped because the broker sent too many at a time.
    pub requests_dropped: u64,
    /// Heartbeats sent.
    pub heartbeats_sent: u64,
    /// DISCONNECTs received.
    pub disconnects_received: u64,
    /// Messages ignored because no broker may send them.
    pub messages_malformed: u64,
    /// Brokers left because they were silent.
    pub brokers_silent: u64,
    /// Connections that were lost or could not be made.
    pub connections_lost: u64,
    /// Requests whose handler panicked.
    pub panics: u64,
    /// Requests whose handler returned an error; their replies are counted, too.
    pub failures: u64,
    /// Moves from a good node to one that was added or had started again.
    pub moves: u64,
}

impl WorkerCounters {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            registrations: self.registrations + other.registrations,
            requests: self.requests + other.requests,
            replies: self.replies + other.replies,
            partials: self.partials + other.partials,
            replies_stale: self.replies_stale + other.replies_stale,
            requests_dropped: self.requests_dropped + other.requests_dropped,
            heartbeats_sent: self.heartbeats_sent + other.heartbeats_sent,
            disconnects_received: self.disconnects_received + other.disconnects_received,
            messages_malformed: self.messages_malformed + other.messages_malformed,
            brokers_silent: self.brokers_silent + other.brokers_silent,
            connections_lost: self.connections_lost + other.connections_lost,
            panics: self.panics + other.panics,
            failures: self.failures + other.failures,
            moves: self.moves + other.moves,
        }
    }
}
