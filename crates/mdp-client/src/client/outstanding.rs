//! One outstanding request.

use std::time::{Duration, Instant};

use mdp_wire::{ServiceName, Version, client::Request};

use crate::{
    CallError, NoReplyCause, RequestId,
    brokers::{BrokerSet, Brokers},
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
    /// On a connection that is not known to be established: if it is not idempotent, it has not
    /// left.
    Unsent(ConnectionId),
    /// On an established connection, which may have taken it to the broker.
    Sent(ConnectionId),
}

impl Place {
    pub(crate) fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Waiting => None,
            Self::Unsent(connection) | Self::Sent(connection) => Some(connection),
        }
    }
}

/// What a caller asks for.
#[derive(Debug)]
pub(crate) struct NewRequest {
    pub(crate) lane: Lane,
    pub(crate) service: ServiceName,
    pub(crate) body: Vec<Vec<u8>>,
    /// Whether it may be executed twice.
    pub(crate) is_idempotent: bool,
    /// `None`: as long as the client's.
    pub(crate) timeout: Option<Duration>,
    /// `None`: as many as the client's.
    pub(crate) attempts: Option<u32>,
}

/// Whether a request has its id in front, by which its reply is known among others.
const fn has_envelope(lane: Lane, version: Version) -> bool {
    match (lane, version) {
        (Lane::Shared, Version::V01) => true,
        (Lane::Exclusive, _) | (Lane::Shared, Version::V02) => false,
    }
}

/// Frames of a request beside its envelope and its body: the empty frame and the header of 0.1, or the
/// header and the command of 0.2; and the service.
const HEAD_FRAMES: usize = 3;

/// Bytes and frames of a request as a message: exactly those of its encoding, for brokers count them
/// all.
pub(crate) fn size(
    version: Version,
    lane: Lane,
    (service, body): (&ServiceName, &[Vec<u8>]),
) -> (usize, usize) {
    let command_bytes = match version {
        Version::V01 => 0,
        Version::V02 => 1,
    };
    let (id_bytes, id_frames) =
        if has_envelope(lane, version) { (RequestId::FRAME_BYTES, 1) } else { (0, 0) };
    let head = [id_bytes, version.client_header().len(), command_bytes, service.as_bytes().len()];
    let body_bytes = body.iter().map(Vec::len);
    let bytes = head.into_iter().chain(body_bytes).fold(0, usize::saturating_add);
    // There is a body frame even where the body is empty.
    (bytes, body.len().max(1).saturating_add(HEAD_FRAMES + id_frames))
}

#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) asked: NewRequest,
    pub(crate) submitted_at: Instant,
    pub(crate) attempt: u32,
    pub(crate) attempts_max: u32,
    /// Of each attempt.
    pub(crate) timeout: Duration,
    pub(crate) attempt_ends_at: Instant,
    /// The time of its entry in the core's timers.
    pub(crate) wakes_at: Instant,
    pub(crate) broker: usize,
    /// Where it failed in this round over the brokers.
    pub(crate) tried: BrokerSet,
    /// Where it was sent and its time ran out.
    pub(crate) unanswered: BrokerSet,
    pub(crate) place: Place,
    /// The socket at its place has it, established or not.
    pub(crate) is_given: bool,
    /// Parts of the reply that the caller has got; then the request is never sent again.
    pub(crate) partial_count: u64,
}

impl Outstanding {
    /// The message as it goes to the broker.
    pub(crate) fn encode(&self, version: Version, id: RequestId) -> Vec<Vec<u8>> {
        let id = id.to_frame();
        let envelope: Vec<&[u8]> =
            if has_envelope(self.asked.lane, version) { vec![&id] } else { Vec::new() };
        let request = Request {
            version,
            envelope,
            service: self.asked.service.clone(),
            body: self.asked.body.iter().map(Vec::as_slice).collect(),
        };
        let mut frames = Vec::with_capacity(self.asked.body.len().max(1) + HEAD_FRAMES + 1);
        let Ok(()) = request.encode(&mut frames);
        frames
    }

    /// Whether the reply is for this request: same service, and an id exactly if we sent one.
    pub(crate) fn is_answered_by(&self, answer: &Answer) -> bool {
        let expects_id = self.asked.lane == Lane::Shared;
        answer.service == self.asked.service.as_bytes() && answer.id.is_some() == expects_id
    }

    /// Whether a service may get it once more, from now on for the first time or again.
    pub(crate) fn may_be_sent_again(&self) -> bool {
        match self.place {
            Place::Waiting | Place::Unsent(_) => true,
            Place::Sent(_) => self.asked.is_idempotent && self.partial_count == 0,
        }
    }

    /// The error after the last attempt.
    pub(crate) fn give_up(
        &self,
        now: Instant,
        id: RequestId,
        cause: NoReplyCause,
        brokers: &Brokers,
    ) -> CallError {
        let (request_id, service) = (id, self.asked.service.clone());
        let (attempts, partials) = (self.attempt, self.partial_count);
        let elapsed = now.saturating_duration_since(self.submitted_at);
        let has_left = matches!(self.place, Place::Sent(_));
        if cause == NoReplyCause::Unreachable {
            let endpoints = brokers.unreachable();
            CallError::Unreachable { request_id, service, attempts, elapsed, endpoints }
        } else if partials > 0 {
            CallError::Interrupted { request_id, service, partials, cause }
        } else if has_left && !self.asked.is_idempotent {
            CallError::MayHaveBeenExecuted { request_id, service, attempts, elapsed, cause }
        } else {
            CallError::NoReply { request_id, service, attempts, elapsed, cause }
        }
    }
}
