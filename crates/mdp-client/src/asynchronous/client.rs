//! The async client: handles on one side, a thread with the sockets on the other.

mod thread;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread as std_thread,
};

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::thread::{Call, CallId, ClientThread, Sink};
use crate::{
    Availability, CallError, CallOptions, ClientCounters, ClientOptions, ConnectError, IntoFrames,
    Reply, ServiceName,
    bell::{self, Bell},
    client::{
        Collected, MMI_SERVICE, QUESTION,
        driver::{self, Driver},
    },
};

/// Calls on their way to the thread; more wait in their futures.
const CALLS_QUEUED_MAX: usize = 256;

/// Parts of one reply that wait to be taken; when one more comes, the call fails. The thread
/// serves all calls and cannot wait for one of them.
pub const PARTS_WAITING_MAX: usize = 1_024;

/// Asks services from async code. Clones share sockets and limits; calls run side by side, up to
/// [`ClientOptions::in_flight_max`].
///
/// With [`Correlation::Envelope`](crate::Correlation::Envelope) in 0.1 all calls share a socket,
/// which needs a broker that gives envelopes back.
///
/// ```
/// # let context = zmq::Context::new();
/// # let broker = context.socket(zmq::ROUTER)?;
/// # broker.bind("inproc://async-call")?;
/// # let broker = std::thread::spawn(move || {
/// #     for _ in 0..2 {
/// #         let request = broker.recv_multipart(0).unwrap();
/// #         broker.send_multipart(request, 0).unwrap();
/// #     }
/// # });
/// use mdp_client::{ClientOptions, asynchronous::Client};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let options = ClientOptions::new(["inproc://async-call"]); // "broker-1:5555", ...
/// # let options = options.context(context.clone());
/// let client = Client::connect(options)?;
/// let (first, second) = tokio::join!(client.call("echo", "a"), client.call("echo", "b"));
/// assert_eq!((first?.frames, second?.frames), (vec![b"a".to_vec()], vec![b"b".to_vec()]));
/// # broker.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    // Before the bell: the thread that wakes by the end of the bell sees that no call can come.
    calls: mpsc::Sender<Call>,
    bell: Bell,
    abandoned: Arc<Mutex<Vec<CallId>>>,
    counters: Arc<Mutex<ClientCounters>>,
    in_flight: Arc<Semaphore>,
    last_call: AtomicU64,
    reply_bytes_max: usize,
}

impl Client {
    /// Makes a client and its thread. The connection is made with the first request.
    ///
    /// # Errors
    /// The options cannot be used, or the thread could not be started.
    pub fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        let (lane, in_flight_max) = driver::pipeline_lane(options.version, options.correlation);
        let in_flight_max = options.in_flight_max.clamp(1, in_flight_max);
        let reply_bytes_max = options.reply_bytes_max;
        let driver = Driver::new(options)?;
        let (bell, listener) = bell::bell().map_err(ConnectError::Thread)?;
        let (calls, queued) = mpsc::channel(CALLS_QUEUED_MAX);
        let abandoned = Arc::new(Mutex::new(Vec::new()));
        let counters = Arc::new(Mutex::new(ClientCounters::default()));
        let thread = ClientThread::new(
            (driver, listener),
            lane,
            queued,
            Arc::clone(&abandoned),
            Arc::clone(&counters),
        );
        let name = "mdp-client".to_owned();
        let started = std_thread::Builder::new().name(name).spawn(move || thread.run());
        // It ends with the last handle.
        drop(started.map_err(ConnectError::Thread)?);
        Ok(Self(Arc::new(Shared {
            calls,
            bell,
            abandoned,
            counters,
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            last_call: AtomicU64::new(0),
            reply_bytes_max,
        })))
    }

    /// Asks a service and waits for the whole reply, as [`crate::Client::call`] does. Dropping the
    /// future gives the request up.
    ///
    /// # Errors
    /// No reply came, or it is too large.
    pub async fn call(
        &self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
    ) -> Result<Reply, CallError> {
        self.call_with_options(service, body, CallOptions::new()).await
    }

    /// As [`Self::call`], with something else than the client's options.
    ///
    /// # Errors
    /// No reply came, or it is too large.
    pub async fn call_with_options(
        &self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        options: CallOptions,
    ) -> Result<Reply, CallError> {
        let service = ServiceName::try_from(service.as_ref())?;
        self.check_worker(&service, options).await?;
        let sink = Sink::Collect(Collected::new(self.0.reply_bytes_max));
        let asked = (service.clone(), body.into_frames(), options);
        let pending = self.start(self.turn().await?, asked, sink).await?;
        self.explained(&service, pending.wait().await).await
    }

    /// Asks a service and gives each partial reply (0.2) to `on_partial` as it comes, as
    /// [`crate::Client::call_with`] does.
    ///
    /// # Errors
    /// No reply came, or it broke off.
    pub async fn call_with(
        &self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        mut on_partial: impl FnMut(Vec<Vec<u8>>),
    ) -> Result<Reply, CallError> {
        let mut replies = self.stream(service, body).await?;
        while let Some(part) = replies.next_part().await {
            on_partial(part);
        }
        replies.finish().await
    }

    /// Asks a service and returns the reply part by part (0.2).
    ///
    /// # Errors
    /// The name is no service name, or the client is closed.
    pub async fn stream(
        &self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
    ) -> Result<ReplyStream, CallError> {
        self.stream_with_options(service, body, CallOptions::new()).await
    }

    /// As [`Self::stream`], with something else than the client's options.
    ///
    /// # Errors
    /// The name is no service name, the client is closed, or [`CallOptions::fail_fast`] is set and
    /// no worker offers the service.
    pub async fn stream_with_options(
        &self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        options: CallOptions,
    ) -> Result<ReplyStream, CallError> {
        let service = ServiceName::try_from(service.as_ref())?;
        self.check_worker(&service, options).await?;
        let (sink, parts) = mpsc::channel(PARTS_WAITING_MAX);
        let asked = (service.clone(), body.into_frames(), options);
        let pending = self.start(self.turn().await?, asked, Sink::Channel(sink)).await?;
        Ok(ReplyStream { parts, pending, service })
    }

    /// Asks the broker whether any worker offers a service (8/MMI, `mmi.service`).
    ///
    /// # Errors
    /// No reply came.
    pub async fn mmi_service(&self, service: impl AsRef<[u8]>) -> Result<Availability, CallError> {
        let reply = self.call(MMI_SERVICE, service.as_ref()).await?;
        Ok(Availability::from_reply(&reply))
    }

    /// What the client and its clones have seen.
    #[must_use]
    pub fn counters(&self) -> ClientCounters {
        *self.0.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check_worker(
        &self,
        service: &ServiceName,
        options: CallOptions,
    ) -> Result<(), CallError> {
        if !options.fail_fast {
            return Ok(());
        }
        // In its turn, as the call that may follow.
        let availability = self.availability(self.turn().await?, service).await;
        CallError::foreseen(service, availability.as_ref())
    }

    async fn explained(
        &self,
        service: &ServiceName,
        result: Result<Reply, CallError>,
    ) -> Result<Reply, CallError> {
        match result {
            Err(error) if error.needs_availability() => {
                // The call is over, and its caller does not wait for another turn to learn why: without
                // one the error is as it is when the broker does not answer the question.
                let availability = match Arc::clone(&self.0.in_flight).try_acquire_owned() {
                    Ok(turn) => self.availability(turn, service).await,
                    Err(_) => None,
                };
                Err(error.explained_by(availability))
            }
            Ok(_) | Err(_) => result,
        }
    }

    /// What the broker says about the service, if it says something soon.
    async fn availability(
        &self,
        turn: OwnedSemaphorePermit,
        service: &ServiceName,
    ) -> Option<Availability> {
        if service.is_reserved() {
            return None;
        }
        let question = ServiceName::try_from(MMI_SERVICE).ok()?;
        let asked = (question, vec![service.as_bytes().to_vec()], QUESTION);
        let sink = Sink::Collect(Collected::new(self.0.reply_bytes_max));
        let reply = self.start(turn, asked, sink).await.ok()?.wait().await.ok()?;
        Some(Availability::from_reply(&reply))
    }

    /// Waits until fewer calls are outstanding than may be.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let turn = Arc::clone(&self.0.in_flight).acquire_owned().await;
        turn.map_err(|_| CallError::Closed)
    }

    async fn start(
        &self,
        permit: OwnedSemaphorePermit,
        (service, body, options): (ServiceName, Vec<Vec<u8>>, CallOptions),
        sink: Sink,
    ) -> Result<Pending, CallError> {
        let (done, result) = oneshot::channel();
        let id = CallId(self.0.last_call.fetch_add(1, Ordering::Relaxed));
        let call = Call { id, service, body, options, sink, done, permit };
        self.0.calls.send(call).await.map_err(|_| CallError::Closed)?;
        self.0.bell.ring();
        Ok(Pending { id, result, shared: Arc::clone(&self.0), is_over: false })
    }
}

/// The parts of one reply. Dropping it gives the request up.
///
/// It is a [`Stream`]: of the partial replies, then of the final one, or of the error in its place.
/// Or take the parts by [`Self::next_part`] and the end by [`Self::finish`].
#[derive(Debug)]
pub struct ReplyStream {
    parts: mpsc::Receiver<Vec<Vec<u8>>>,
    pending: Pending,
    service: ServiceName,
}

impl ReplyStream {
    /// The next partial reply; `None` when no more can come.
    pub async fn next_part(&mut self) -> Option<Vec<Vec<u8>>> {
        self.parts.recv().await
    }

    /// The final reply. Parts that were not taken are dropped.
    ///
    /// # Errors
    /// No reply came, it broke off, or its parts were not taken.
    pub async fn finish(mut self) -> Result<Reply, CallError> {
        self.parts.close();
        let client = Client(Arc::clone(&self.pending.shared));
        client.explained(&self.service, self.pending.wait().await).await
    }
}

impl Stream for ReplyStream {
    type Item = Result<Vec<Vec<u8>>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pending.is_over {
            return Poll::Ready(None);
        }
        match self.parts.poll_recv(context) {
            Poll::Ready(Some(part)) => return Poll::Ready(Some(Ok(part))),
            // The thread drops its end after the last part, with the result.
            Poll::Ready(None) => {}
            Poll::Pending => return Poll::Pending,
        }
        let Poll::Ready(result) = Pin::new(&mut self.pending.result).poll(context) else {
            return Poll::Pending;
        };
        self.pending.is_over = true;
        let result = result.unwrap_or(Err(CallError::Closed));
        Poll::Ready(Some(result.map(|reply| reply.frames)))
    }
}

/// A call that the thread has, or will have.
#[derive(Debug)]
struct Pending {
    id: CallId,
    result: oneshot::Receiver<Result<Reply, CallError>>,
    shared: Arc<Shared>,
    is_over: bool,
}

impl Pending {
    async fn wait(mut self) -> Result<Reply, CallError> {
        let result = (&mut self.result).await;
        self.is_over = true;
        result.unwrap_or(Err(CallError::Closed))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over {
            // At most one entry per permit.
            let mut abandoned =
                self.shared.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
            abandoned.push(self.id);
            drop(abandoned);
            self.shared.bell.ring();
        }
    }
}
