//! The async worker: handlers are tasks, the protocol has its thread.

use std::{io, sync::Arc, thread};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use crate::{
    IntoAnswer, IntoFrames, PartialError, ServiceName, StopHandle, Version, WorkerCounters,
    WorkerError, WorkerOptions,
    bell::Bell,
    worker::{
        driver,
        executor::{Executor, JOB_EVENTS_MAX, JobEvent, JobId, Offer},
    },
};

/// Offers a service with an async handler. It behaves as the blocking [`Worker`](crate::Worker);
/// each of its connections runs one handler task at a time.
#[derive(Debug)]
pub struct Worker(());

impl Worker {
    /// Offers a service until `stop` is used or the future is dropped. In the second case the
    /// worker leaves in the background, after the reply that it works on.
    ///
    /// ```
    /// use mdp_client::{StopHandle, WorkerOptions, asynchronous::{Request, Worker}};
    /// # let context = zmq::Context::new();
    /// # let broker = context.socket(zmq::ROUTER)?;
    /// # broker.bind("inproc://async-worker")?;
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
    /// let options = WorkerOptions::new("echo").endpoints(["inproc://async-worker"]);
    /// # let options = options.context(context.clone());
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let counters = runtime.block_on(async {
    /// let counters = Worker::run(options, |request: Request| async { request.frames }, &stop).await?;
    /// # Ok::<_, mdp_client::WorkerError>(counters) })?;
    /// assert_eq!(counters.replies, 1);
    /// # assert_eq!(broker.join().unwrap(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::Worker::run`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn run<H, F, A>(
        options: WorkerOptions,
        handler: H,
        stop: &StopHandle,
    ) -> Result<WorkerCounters, WorkerError>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = A> + Send + 'static,
        A: IntoAnswer + Send + 'static,
    {
        let stop = stop.child();
        let leave_when_dropped = LeaveWhenDropped(stop.clone());
        let runtime = Handle::current();
        let handler = Arc::new(handler);
        let (done, result) = oneshot::channel();
        let started = thread::Builder::new().name("mdp-worker".to_owned()).spawn(move || {
            let result = driver::run(options, &stop, |offer, bell| {
                Ok::<_, io::Error>(TaskExecutor::new(&runtime, &handler, offer, bell))
            });
            if done.send(result).is_err() {
                tracing::debug!("no caller waits for the worker any more");
            }
        });
        drop(started.map_err(WorkerError::Thread)?);
        let result = result.await;
        drop(leave_when_dropped);
        result.unwrap_or(Err(WorkerError::Panicked))
    }
}

/// One request for an async handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// The service asked for, which is the worker's.
    pub service: ServiceName,
    /// The body.
    pub frames: Vec<Vec<u8>>,
    job: JobId,
    version: Version,
    events: mpsc::Sender<JobEvent>,
    bell: Arc<Bell>,
}

impl Request {
    /// Sends a part of the reply at once (0.2 only). Waits while the connection is full.
    ///
    /// # Errors
    /// The worker speaks 0.1, which has no partial replies, or has ended.
    pub async fn partial(&self, frames: impl IntoFrames) -> Result<(), PartialError> {
        match self.version {
            Version::V01 => Err(PartialError::NotIn01),
            Version::V02 => {
                let event = JobEvent::Partial { job: self.job, body: frames.into_frames() };
                self.events.send(event).await.map_err(|_| PartialError::Closed)?;
                self.bell.ring();
                Ok(())
            }
        }
    }
}

/// Runs the handlers of one connection as tasks.
struct TaskExecutor<H> {
    runtime: Handle,
    handler: Arc<H>,
    offer: Offer,
    bell: Arc<Bell>,
    sender: mpsc::Sender<JobEvent>,
    events: mpsc::Receiver<JobEvent>,
}

impl<H> TaskExecutor<H> {
    fn new(runtime: &Handle, handler: &Arc<H>, offer: &Offer, bell: &Arc<Bell>) -> Self {
        let (sender, events) = mpsc::channel(JOB_EVENTS_MAX);
        Self {
            runtime: runtime.clone(),
            handler: Arc::clone(handler),
            offer: offer.clone(),
            bell: Arc::clone(bell),
            sender,
            events,
        }
    }
}

impl<H, F, A> Executor for TaskExecutor<H>
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = A> + Send + 'static,
    A: IntoAnswer + Send + 'static,
{
    fn start(&mut self, job: JobId, frames: Vec<Vec<u8>>) {
        let handler = Arc::clone(&self.handler);
        let sender = self.sender.clone();
        let bell = Arc::clone(&self.bell);
        let request = Request {
            service: self.offer.service.clone(),
            frames,
            job,
            version: self.offer.version,
            events: sender.clone(),
            bell: Arc::clone(&bell),
        };
        let runtime = self.runtime.clone();
        drop(self.runtime.spawn(async move {
            // A task of its own, so that a panic, also of the closure, ends here.
            let made = runtime.spawn(async move { handler(request).await }).await;
            let event = match made {
                Ok(answer) => JobEvent::returned(job, answer),
                Err(_) => JobEvent::Panicked { job },
            };
            if sender.send(event).await.is_ok() {
                bell.ring();
            }
        }));
    }

    fn poll_event(&mut self) -> Option<JobEvent> {
        self.events.try_recv().ok()
    }

    /// Tasks end by themselves, with the runtime at the latest.
    fn join(self) {}
}

struct LeaveWhenDropped(StopHandle);

impl Drop for LeaveWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}
