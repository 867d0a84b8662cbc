//! One outstanding request.

use std::time::Instant;

use mdp_wire::{ServiceName, Version, client::Request};

use crate::{
    CallError, NoReplyCause, RequestId,
    client::{connections::ConnectionId, replies::Answer},
};

/// Which requests may use the same connection at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// None: the frames are those of a plain synchronous client (MDP7-11), and the reply is the
    /// one that comes.
    Exclusive,
    /// Any number: each has its id as envelope (0.1 only, AM-12).
    Shared,
}

/// What a retired connection still carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    Requests,
    /// It can be closed.
    Nothing,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: no endpoint can be reached at the moment.
    Waiting,
    On(ConnectionId),
}

#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) service: ServiceName,
    pub(crate) body: Vec<Vec<u8>>,
    pub(crate) lane: Lane,
    pub(crate) submitted_at: Instant,
    pub(crate) attempt: u32,
    pub(crate) attempt_ends_at: Instant,
    /// The time of its entry in the core's timers.
    pub(crate) wakes_at: Instant,
    pub(crate) endpoint: usize,
    /// Endpoints found unreachable since the last connection, over all rounds.
    pub(crate) unreachable_in_row: usize,
    pub(crate) place: Place,
    /// Parts of the reply that the caller has got; then the request is never sent again.
    pub(crate) partial_count: u64,
}

impl Outstanding {
    /// The message as it goes to the broker.
    pub(crate) fn encode(&self, version: Version, id: RequestId) -> Vec<Vec<u8>> {
        let id = id.to_frame();
        let envelope: Vec<&[u8]> = match (self.lane, version) {
            (Lane::Shared, Version::V01) => vec![&id],
            (Lane::Exclusive, _) | (Lane::Shared, Version::V02) => Vec::new(),
        };
        let request = Request {
            version,
            envelope,
            service: self.service.clone(),
            body: self.body.iter().map(Vec::as_slice).collect(),
        };
        let mut frames = Vec::with_capacity(self.body.len() + 4);
        let Ok(()) = request.encode(&mut frames);
        frames
    }

    /// Whether the reply is for this request: same service, and an id exactly if we sent one.
    pub(crate) fn is_answered_by(&self, answer: &Answer) -> bool {
        let expects_id = self.lane == Lane::Shared;
        answer.service == self.service.as_bytes() && answer.id.is_some() == expects_id
    }

    pub(crate) fn give_up(&self, now: Instant, cause: NoReplyCause) -> CallError {
        let service = self.service.clone();
        if self.partial_count > 0 {
            return CallError::Interrupted { service, partials: self.partial_count, cause };
        }
        CallError::NoReply {
            service,
            attempts: self.attempt,
            elapsed: now.saturating_duration_since(self.submitted_at),
            cause,
        }
    }
}
