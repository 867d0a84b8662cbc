//! Where handlers run: not on the protocol's thread, so that heartbeats go out while they work.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use crate::{IntoAnswer, Request, ServiceName, Version, bell::Bell, worker::Responder};

/// Parts and replies that wait for the protocol's thread, per connection. A handler that is faster
/// than the network waits here.
pub(crate) const JOB_EVENTS_MAX: usize = 16;

/// Names one run of the handler; never reused by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobId(pub(crate) u64);

/// What a handler made.
#[derive(Debug)]
pub(crate) enum JobEvent {
    Partial {
        job: JobId,
        body: Vec<Vec<u8>>,
    },
    Final {
        job: JobId,
        body: Vec<Vec<u8>>,
    },
    Panicked {
        job: JobId,
    },
    /// It returned an error.
    Failed {
        job: JobId,
        reason: String,
    },
}

impl JobEvent {
    /// What a handler that returned has made.
    pub(crate) fn returned(job: JobId, answer: impl IntoAnswer) -> Self {
        match answer.into_answer() {
            Ok(body) => Self::Final { job, body },
            Err(reason) => Self::Failed { job, reason },
        }
    }
}

/// What every request of a worker has in common.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) service: ServiceName,
    pub(crate) version: Version,
}

/// Runs the handler for one connection, one job at a time.
pub(crate) trait Executor {
    /// Starts a job and returns at once.
    fn start(&mut self, job: JobId, body: Vec<Vec<u8>>);

    /// What the handler has made, in order. The bell rings when there is something new.
    fn poll_event(&mut self) -> Option<JobEvent>;

    /// Waits until the handler has returned.
    fn join(self);
}

/// A thread of its own for the handler of each connection.
#[derive(Debug)]
pub(crate) struct ThreadExecutor {
    jobs: mpsc::SyncSender<(JobId, Vec<Vec<u8>>)>,
    events: mpsc::Receiver<JobEvent>,
    thread: JoinHandle<()>,
}

impl ThreadExecutor {
    pub(crate) fn start_thread<H, A>(
        handler: Arc<H>,
        offer: Offer,
        bell: Arc<Bell>,
    ) -> io::Result<Self>
    where
        H: Fn(Request) -> A + Send + Sync + 'static,
        A: IntoAnswer,
    {
        // A connection's handler is idle when a job is started, so there is room.
        let (jobs, next_job) = mpsc::sync_channel::<(JobId, Vec<Vec<u8>>)>(1);
        let (event_sender, events) = mpsc::sync_channel(JOB_EVENTS_MAX);
        let thread = thread::Builder::new().name("mdp-handler".to_owned()).spawn(move || {
            for (job, body) in next_job {
                let request = Request {
                    service: offer.service.clone(),
                    frames: body,
                    responder: Responder {
                        job,
                        version: offer.version,
                        events: event_sender.clone(),
                        bell: Arc::clone(&bell),
                    },
                };
                let run = || JobEvent::returned(job, handler(request));
                let made = panic::catch_unwind(AssertUnwindSafe(run));
                let event = made.unwrap_or(JobEvent::Panicked { job });
                if event_sender.send(event).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Self { jobs, events, thread })
    }
}

impl Executor for ThreadExecutor {
    fn start(&mut self, job: JobId, body: Vec<Vec<u8>>) {
        if self.jobs.try_send((job, body)).is_err() {
            tracing::error!("handler thread is gone");
        }
    }

    fn poll_event(&mut self) -> Option<JobEvent> {
        self.events.try_recv().ok()
    }

    fn join(self) {
        drop((self.jobs, self.events));
        if self.thread.join().is_err() {
            tracing::error!("handler thread panicked");
        }
    }
}
