//! What can go wrong, one type per operation.

use std::{io, time::Duration};

use mdp_wire::{ServiceName, ServiceNameError};
use thiserror::Error;

use crate::{
    Availability, KeysError, RequestId,
    failure::{self, UnreachableEndpoint},
};

/// A list of endpoints that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// There has to be one at least.
    #[error("no endpoint given")]
    None,
    /// The text is no address.
    #[error(
        "`{endpoint}` is not an endpoint: expected tcp://HOST:PORT, HOST:PORT, ipc:///PATH or, within \
         a process, inproc://NAME"
    )]
    Invalid {
        /// What was given.
        endpoint: String,
    },
    /// There are more than can be kept.
    #[error("{got} endpoints are given, at most {max} are possible")]
    TooMany {
        /// How many were given.
        got: usize,
        /// The most.
        max: usize,
    },
}

/// A client that could not be made. Whether a broker is there shows in the first call.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoints cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No attempt at all is allowed by the options.
    #[error("a client needs at least one attempt")]
    NoAttempts,
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The thread of an async client could not be started.
    #[error("the client's thread could not be started")]
    Thread(#[source] io::Error),
}

/// Why the last attempt of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoReplyCause {
    /// A broker had the request, and no reply came in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection that carried the request was lost.
    #[error("the connection was lost")]
    ConnectionLost,
    /// No reply came in time, and the broker says that no worker offers the service.
    #[error("no worker offers it")]
    NoWorker,
    /// No reply came in time, though a worker offers the service: it works for longer, or others
    /// are served before.
    #[error("no answer in time, though a worker is there: raise the time-out")]
    WorkerSlow,
    /// No reply came in time, and the node does not know whether any worker offers the service: it
    /// is cut off from the majority of its cluster.
    #[error("no answer in time; the node is cut off from the majority of its cluster")]
    NoMajority,
    /// No reply came in time, and the broker says that this client may not call the service.
    #[error("this client is not allowed to call it")]
    NotAllowed,
    /// No endpoint could be reached.
    #[error("no endpoint could be reached")]
    Unreachable,
}

/// A call without a reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// Every attempt ended without a reply. If the request is not idempotent
    /// ([`ClientOptions::idempotent`](crate::ClientOptions)), it never left this process.
    #[error(
        "no reply from service `{service}` after {attempts} attempts in {elapsed:?}: {cause} \
         (request {request_id})"
    )]
    NoReply {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// How often it was asked.
        attempts: u32,
        /// How long all attempts took.
        elapsed: Duration,
        /// Why the last attempt ended.
        cause: NoReplyCause,
    },
    /// No broker could be reached, so the request never left this process.
    #[error(
        "no reply from service `{service}`: no broker could be reached, after {attempts} attempts \
         in {elapsed:?}: {} (request {request_id})",
        failure::in_one_line(.endpoints)
    )]
    Unreachable {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// The attempt that was the last one, counted from 1.
        attempts: u32,
        /// The time since the request was made.
        elapsed: Duration,
        /// The configured endpoints, each with the reason.
        endpoints: Vec<UnreachableEndpoint>,
    },
    /// The request was not sent, because no worker offers the service
    /// ([`CallOptions::fail_fast`](crate::CallOptions::fail_fast)).
    #[error("no worker offers service `{service}`")]
    NoWorker {
        /// The service.
        service: ServiceName,
    },
    /// The broker says that this client may not call the service, and drops its requests for it.
    #[error(
        "not allowed: the identity of this client may not call service `{service}`; its file has to name it \
         (`call = [..]`)"
    )]
    NotAllowed {
        /// The request; `None`: it was not sent, because the broker was asked first
        /// ([`CallOptions::fail_fast`](crate::CallOptions::fail_fast)).
        request_id: Option<RequestId>,
        /// The service.
        service: ServiceName,
    },
    /// The request was not sent, because brokers take nothing that large.
    #[error(
        "the request has {bytes} bytes in {frames} frames: a broker takes at most {bytes_max} bytes \
         (`broker.max_message_bytes`) in {frames_max} frames"
    )]
    RequestTooLarge {
        /// Bytes of the message, its head included.
        bytes: usize,
        /// Frames of the message, its head included.
        frames: usize,
        /// The limit, in bytes.
        bytes_max: usize,
        /// The limit, in frames.
        frames_max: usize,
    },
    /// A request that is not idempotent left this process and got no reply. Whether a worker has
    /// executed it is unknown, so it is not sent again.
    #[error(
        "no reply from service `{service}`: {cause}; the request may have been executed, and is \
         not sent again because it is not idempotent (request {request_id})"
    )]
    MayHaveBeenExecuted {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// The attempt that sent it, counted from 1.
        attempts: u32,
        /// The time since the request was made.
        elapsed: Duration,
        /// Why it will get no reply.
        cause: NoReplyCause,
    },
    /// Parts of the reply came, but not its end. The request is not sent again, because its first
    /// parts would come twice.
    #[error(
        "the reply from service `{service}` broke off after {partials} parts: {cause} \
         (request {request_id})"
    )]
    Interrupted {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// How many parts came.
        partials: u64,
        /// What ended it.
        cause: NoReplyCause,
    },
    /// The reply is larger than `reply_bytes_max`.
    #[error(
        "the reply from service `{service}` is larger than {bytes_max} bytes (request {request_id})"
    )]
    ReplyTooLarge {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The parts of the reply came faster than the caller took them.
    #[error(
        "the parts from service `{service}` are not taken: {waiting_max} are waiting \
         (request {request_id})"
    )]
    PartsNotTaken {
        /// The request.
        request_id: RequestId,
        /// The service asked.
        service: ServiceName,
        /// The limit, in parts.
        waiting_max: usize,
    },
    /// The name is no service name.
    #[error(transparent)]
    InvalidService(#[from] ServiceNameError),
    /// libzmq refused to work.
    #[error("the client's sockets failed")]
    Socket(#[from] zmq::Error),
    /// The thread of the async client is gone.
    #[error("the client is closed")]
    Closed,
}

impl CallError {
    /// What is known before a request is sent, by the broker's word on its service.
    pub(crate) fn foreseen(
        service: &ServiceName,
        availability: Option<&Availability>,
    ) -> Result<(), Self> {
        let service = || service.clone();
        match availability {
            Some(Availability::NotOffered) => Err(Self::NoWorker { service: service() }),
            Some(Availability::NotAllowed) => {
                Err(Self::NotAllowed { request_id: None, service: service() })
            }
            Some(Availability::Offered | Availability::Unknown(_)) | None => Ok(()),
        }
    }

    /// Whether it helps to know if the service has a worker.
    pub(crate) const fn needs_availability(&self) -> bool {
        matches!(
            self,
            Self::NoReply { cause: NoReplyCause::Timeout, .. }
                | Self::MayHaveBeenExecuted { cause: NoReplyCause::Timeout, .. }
        )
    }

    /// The same with what the broker says about the service.
    pub(crate) fn explained_by(mut self, availability: Option<Availability>) -> Self {
        let explained = match availability {
            Some(Availability::Offered) => NoReplyCause::WorkerSlow,
            Some(Availability::NotOffered) => NoReplyCause::NoWorker,
            Some(Availability::NotAllowed) => NoReplyCause::NotAllowed,
            Some(Availability::Unknown(code)) if code == "503" => NoReplyCause::NoMajority,
            Some(Availability::Unknown(_)) | None => NoReplyCause::Timeout,
        };
        if let Self::NoReply { request_id, service, .. } = &self
            && explained == NoReplyCause::NotAllowed
        {
            return Self::NotAllowed { request_id: Some(*request_id), service: service.clone() };
        }
        // Not so if it may have been executed: the grant may have been taken back behind it.
        if let Self::NoReply { cause, .. } | Self::MayHaveBeenExecuted { cause, .. } = &mut self {
            *cause = explained;
        }
        self
    }

    /// The request that has no reply, if there is one.
    #[must_use]
    pub const fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::NoReply { request_id, .. }
            | Self::Unreachable { request_id, .. }
            | Self::MayHaveBeenExecuted { request_id, .. }
            | Self::Interrupted { request_id, .. }
            | Self::ReplyTooLarge { request_id, .. }
            | Self::PartsNotTaken { request_id, .. } => Some(*request_id),
            Self::NotAllowed { request_id, .. } => *request_id,
            Self::NoWorker { .. }
            | Self::RequestTooLarge { .. }
            | Self::InvalidService(_)
            | Self::Socket(_)
            | Self::Closed => None,
        }
    }
}

/// A request that a pipeline did not take.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// As many requests are outstanding, or finished and not taken, as the limit allows.
    #[error("the pipeline is full: {limit} requests")]
    Full {
        /// The pipeline's limit.
        limit: usize,
    },
    /// The limit asked for is zero or too high.
    #[error("a pipeline of {limit} requests is not possible, at most {max} are")]
    LimitOutOfRange {
        /// What was asked for.
        limit: usize,
        /// The most that is possible in this version and correlation.
        max: usize,
    },
    /// The name is no service name.
    #[error(transparent)]
    InvalidService(#[from] ServiceNameError),
    /// libzmq refused to work.
    #[error("the client's sockets failed")]
    Socket(#[from] zmq::Error),
}

/// A worker that could not start, or had to end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The endpoints cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The name is no service name.
    #[error(transparent)]
    InvalidService(#[from] ServiceNameError),
    /// Names that begin with `mmi.` belong to the broker, which refuses such workers (MMI8-03).
    #[error("`{service}` cannot be offered: names that begin with `mmi.` belong to the broker")]
    ReservedService {
        /// The name.
        service: ServiceName,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// More or fewer connections than possible.
    #[error("concurrency {got} is not possible, 1 to {max} is")]
    ConcurrencyOutOfRange {
        /// What was asked for.
        got: usize,
        /// The most.
        max: usize,
    },
    /// Interval and liveness may not be zero.
    #[error("heartbeat interval and liveness may not be zero")]
    NoHeartbeat,
    /// libzmq refused to work.
    #[error("the worker's sockets failed")]
    Socket(#[from] zmq::Error),
    /// A thread or its wake-up could not be made.
    #[error("the worker's threads could not be started")]
    Thread(#[source] io::Error),
    /// The protocol's thread ended without a result, which only a panic there can cause.
    #[error("the worker's thread panicked")]
    Panicked,
}

/// A part of a reply that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartialError {
    /// 7/MDP has no partial replies.
    #[error("7/MDP (0.1) has no partial replies")]
    NotIn01,
    /// The worker has ended.
    #[error("the worker has ended")]
    Closed,
}
