//! The thread that owns the sockets of an async client.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::PARTS_WAITING_MAX;
use crate::{
    CallError, CallOptions, ClientCounters, Reply, RequestId, ServiceName,
    bell::BellListener,
    client::{
        Collected, Notice,
        driver::{Driver, Patience},
        outstanding::Lane,
    },
};

/// Names one call of an async client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(pub(super) u64);

/// A call on its way to the thread.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) service: ServiceName,
    pub(super) body: Vec<Vec<u8>>,
    pub(super) options: CallOptions,
    pub(super) sink: Sink,
    pub(super) done: oneshot::Sender<Result<Reply, CallError>>,
    /// Counts the call as outstanding until the thread has forgotten it.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Where the parts of a reply go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Into the one reply.
    Collect(Collected),
    /// To the caller, one by one.
    Channel(mpsc::Sender<Vec<Vec<u8>>>),
}

/// Somebody who waits for a reply.
#[derive(Debug)]
struct Waiter {
    call: CallId,
    service: ServiceName,
    sink: Sink,
    done: oneshot::Sender<Result<Reply, CallError>>,
    permit: OwnedSemaphorePermit,
}

impl Waiter {
    fn push(&mut self, request_id: RequestId, part: Vec<Vec<u8>>) -> Result<(), CallError> {
        match &mut self.sink {
            Sink::Collect(collected) => collected.push(request_id, &self.service, part),
            Sink::Channel(parts) => match parts.try_send(part) {
                // A caller that wants only the last part has closed it.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let service = self.service.clone();
                    let waiting_max = PARTS_WAITING_MAX;
                    Err(CallError::PartsNotTaken { request_id, service, waiting_max })
                }
            },
        }
    }

    fn finish(self, result: Result<Reply, CallError>) {
        let Self { service, sink, done, permit, call: _ } = self;
        // The caller that is woken may need it at once.
        drop(permit);
        let result = match sink {
            Sink::Collect(collected) => {
                result.and_then(|reply| collected.complete(&service, reply))
            }
            Sink::Channel(_) => result,
        };
        if done.send(result).is_err() {
            tracing::trace!(%service, "nobody waits for the reply any more");
        }
    }
}

/// State of the thread.
#[derive(Debug)]
pub(super) struct ClientThread {
    driver: Driver,
    bell: BellListener,
    lane: Lane,
    calls: mpsc::Receiver<Call>,
    abandoned: Arc<Mutex<Vec<CallId>>>,
    counters: Arc<Mutex<ClientCounters>>,
    waiter_by_request: BTreeMap<RequestId, Waiter>,
    request_by_call: BTreeMap<CallId, RequestId>,
}

/// Whether calls can still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handles {
    Some,
    None,
}

impl ClientThread {
    pub(super) fn new(
        (driver, bell): (Driver, BellListener),
        lane: Lane,
        calls: mpsc::Receiver<Call>,
        abandoned: Arc<Mutex<Vec<CallId>>>,
        counters: Arc<Mutex<ClientCounters>>,
    ) -> Self {
        let (waiter_by_request, request_by_call) = (BTreeMap::new(), BTreeMap::new());
        Self { driver, bell, lane, calls, abandoned, counters, waiter_by_request, request_by_call }
    }

    /// Runs until the last handle is gone; calls hold one, so then nobody waits.
    pub(super) fn run(mut self) {
        while self.take_calls() == Handles::Some {
            self.forget_abandoned();
            if let Err(error) = self.driver.turn(Patience::IoOrBell(&self.bell)) {
                tracing::error!(%error, "the client's thread ends");
                return self.fail_all(error);
            }
            // Before the notices: a caller that has its reply finds it counted.
            let counters = self.driver.counters();
            *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
            self.take_notices();
        }
    }

    fn take_calls(&mut self) -> Handles {
        loop {
            match self.calls.try_recv() {
                Ok(call) => self.start(call),
                Err(TryRecvError::Empty) => return Handles::Some,
                Err(TryRecvError::Disconnected) => return Handles::None,
            }
        }
    }

    fn start(&mut self, call: Call) {
        let Call { id, service, body, options, sink, done, permit } = call;
        let request = self.driver.submit(self.lane, service.clone(), body, options);
        self.request_by_call.insert(id, request);
        let waiter = Waiter { call: id, service, sink, done, permit };
        self.waiter_by_request.insert(request, waiter);
    }

    /// After the calls, for nobody abandons a call before it was sent.
    fn forget_abandoned(&mut self) {
        let mut shared = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        let abandoned = mem::take(&mut *shared);
        drop(shared);
        for call in abandoned {
            if let Some(request) = self.request_by_call.get(&call).copied() {
                self.driver.cancel(request);
                drop(self.take_waiter(request));
            }
        }
    }

    fn take_notices(&mut self) {
        while let Some(notice) = self.driver.poll_notice() {
            match notice {
                Notice::Partial { id, frames } => {
                    let Some(waiter) = self.waiter_by_request.get_mut(&id) else { continue };
                    if let Err(error) = waiter.push(id, frames) {
                        self.driver.cancel(id);
                        self.finish(id, Err(error));
                    }
                }
                Notice::Done { id, result } => self.finish(id, result),
            }
        }
    }

    fn finish(&mut self, request: RequestId, result: Result<Reply, CallError>) {
        if let Some(waiter) = self.take_waiter(request) {
            waiter.finish(result);
        }
    }

    fn take_waiter(&mut self, request: RequestId) -> Option<Waiter> {
        let waiter = self.waiter_by_request.remove(&request)?;
        self.request_by_call.remove(&waiter.call);
        Some(waiter)
    }

    fn fail_all(self, error: zmq::Error) {
        for waiter in self.waiter_by_request.into_values() {
            waiter.finish(Err(CallError::Socket(error)));
        }
    }
}
