//! Many requests at a time from one thread.

use std::collections::{BTreeMap, VecDeque};

use mdp_wire::ServiceName;

use crate::{
    CallError, CallOptions, IntoFrames, PipelineError, Reply, RequestId,
    client::{
        Collected, Notice,
        driver::{Driver, Patience},
        outstanding::Lane,
    },
};

/// Pipelined requests of a [`Client`](crate::Client). Dropping it gives up what is outstanding.
///
/// Replies come in any order; a [`Completion`] names the request. Timeouts, attempts and fail-over
/// hold for each request by itself.
#[derive(Debug)]
pub struct Pipeline<'a> {
    driver: &'a mut Driver,
    lane: Lane,
    limit: usize,
    reply_bytes_max: usize,
    outstanding: BTreeMap<RequestId, (ServiceName, Collected)>,
    completed: VecDeque<Completion>,
}

/// A request of a pipeline that is over.
#[derive(Debug)]
pub struct Completion {
    /// Which request.
    pub id: RequestId,
    /// How it ended. In 0.2 the frames of all parts are in the reply.
    pub result: Result<Reply, CallError>,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(
        driver: &'a mut Driver,
        lane: Lane,
        limit: usize,
        reply_bytes_max: usize,
    ) -> Self {
        let (outstanding, completed) = (BTreeMap::new(), VecDeque::new());
        Self { driver, lane, limit, reply_bytes_max, outstanding, completed }
    }

    /// Sends a request and does not wait.
    ///
    /// # Errors
    /// The pipeline is full; take a completion first.
    pub fn send(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
    ) -> Result<RequestId, PipelineError> {
        self.send_with_options(service, body, CallOptions::new())
    }

    /// As [`Self::send`], with something else than the client's options.
    ///
    /// # Errors
    /// The pipeline is full; take a completion first.
    pub fn send_with_options(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        options: CallOptions,
    ) -> Result<RequestId, PipelineError> {
        let service = ServiceName::try_from(service.as_ref())?;
        if self.len() >= self.limit {
            return Err(PipelineError::Full { limit: self.limit });
        }
        if self.lane == Lane::Exclusive {
            // As for a single call: a reply that came unasked is no answer to this request.
            self.driver.discard_unasked()?;
            self.take_notices();
        }
        let id = self.driver.submit(self.lane, service.clone(), body.into_frames(), options);
        self.outstanding.insert(id, (service, Collected::new(self.reply_bytes_max)));
        Ok(id)
    }

    /// Waits for the next request that is over; `None` when there is none to wait for.
    pub fn recv(&mut self) -> Option<Completion> {
        loop {
            self.take_notices();
            if let Some(completion) = self.completed.pop_front() {
                return Some(completion);
            }
            let (&first, _) = self.outstanding.first_key_value()?;
            if let Err(error) = self.driver.turn(Patience::Io) {
                self.outstanding.remove(&first);
                self.driver.cancel(first);
                return Some(Completion { id: first, result: Err(error.into()) });
            }
        }
    }

    /// Takes a request that is over already, without waiting.
    ///
    /// # Errors
    /// libzmq refused to work.
    pub fn try_recv(&mut self) -> Result<Option<Completion>, PipelineError> {
        if self.completed.is_empty() {
            self.driver.turn(Patience::None)?;
            self.take_notices();
        }
        Ok(self.completed.pop_front())
    }

    /// Requests that are outstanding, or over and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outstanding.len() + self.completed.len()
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most requests at a time.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn take_notices(&mut self) {
        while let Some(notice) = self.driver.poll_notice() {
            match notice {
                Notice::Partial { id, frames } => self.on_partial(id, frames),
                Notice::Done { id, result } => {
                    let Some((service, collected)) = self.outstanding.remove(&id) else { continue };
                    let result = result.and_then(|reply| collected.complete(&service, reply));
                    self.completed.push_back(Completion { id, result });
                }
            }
        }
    }

    fn on_partial(&mut self, id: RequestId, frames: Vec<Vec<u8>>) {
        let Some((service, collected)) = self.outstanding.get_mut(&id) else { return };
        let Err(error) = collected.push(id, service, frames) else { return };
        self.outstanding.remove(&id);
        self.driver.cancel(id);
        self.completed.push_back(Completion { id, result: Err(error) });
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        for id in self.outstanding.keys() {
            self.driver.cancel(*id);
        }
    }
}
