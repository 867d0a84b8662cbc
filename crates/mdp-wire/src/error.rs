//! Why a message was rejected.

use thiserror::Error;

use crate::{Token, Version};

/// A message that is not one of 7/MDP or 18/MDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message is dropped; a registered worker that sent it is disconnected (AM-01).
    #[error("malformed message: {0}")]
    Malformed(#[from] Defect),
    /// A READY that can never register. It is always answered by DISCONNECT, whoever sent it.
    #[error("READY ({version}) that cannot register: {defect}")]
    BadReady {
        /// The version of the READY, in which the DISCONNECT is sent.
        version: Version,
        /// What is wrong with it.
        defect: Defect,
    },
    /// A worker's answer that cannot be read, under an address that may be the token of a request:
    /// that request was executed (AM-21).
    #[error("answer of a worker that cannot be read: {defect}")]
    BadAnswer {
        /// The client address.
        address: Token,
        /// What is wrong with it.
        defect: Defect,
    },
}

impl DecodeError {
    /// What is wrong with the message.
    #[must_use]
    pub const fn defect(&self) -> Defect {
        match self {
            Self::Malformed(defect)
            | Self::BadReady { defect, .. }
            | Self::BadAnswer { defect, .. } => *defect,
        }
    }
}

/// What is wrong with a message; each has its own counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Defect {
    /// Fewer frames than the command's layout has.
    #[error("too few frames")]
    TooFewFrames,
    /// More frames than the command's layout allows, or than `frames_max`.
    #[error("too many frames")]
    TooManyFrames,
    /// The frames together are larger than `message_bytes_max`.
    #[error("message too large")]
    TooLarge,
    /// No empty delimiter frame within the limit of envelope frames.
    #[error("no empty delimiter frame")]
    NoDelimiter,
    /// A worker's message may have no envelope before its delimiter (MDP7-24).
    #[error("envelope in front of a worker command")]
    WorkerEnvelope,
    /// The header is none of the four known ones.
    #[error("unknown header")]
    UnknownHeader,
    /// The command is not one byte, or not one of this header's.
    #[error("unknown command")]
    UnknownCommand,
    /// The frame after the client address is not empty (MDP7-39, MDP18-14).
    #[error("no empty frame after the client address")]
    NoAddressDelimiter,
    /// The service name is empty.
    #[error("empty service name")]
    EmptyServiceName,
    /// The service name is longer than the limit.
    #[error("service name too long")]
    ServiceNameTooLong,
}

impl Defect {
    /// Every defect, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::TooFewFrames,
        Self::TooManyFrames,
        Self::TooLarge,
        Self::NoDelimiter,
        Self::WorkerEnvelope,
        Self::UnknownHeader,
        Self::UnknownCommand,
        Self::NoAddressDelimiter,
        Self::EmptyServiceName,
        Self::ServiceNameTooLong,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooFewFrames => "too_few_frames",
            Self::TooManyFrames => "too_many_frames",
            Self::TooLarge => "too_large",
            Self::NoDelimiter => "no_delimiter",
            Self::WorkerEnvelope => "worker_envelope",
            Self::UnknownHeader => "unknown_header",
            Self::UnknownCommand => "unknown_command",
            Self::NoAddressDelimiter => "no_address_delimiter",
            Self::EmptyServiceName => "empty_service_name",
            Self::ServiceNameTooLong => "service_name_too_long",
        }
    }
}

/// A message that cannot be expressed in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError<E> {
    /// 7/MDP has no partial replies.
    #[error("7/MDP (0.1) has no PARTIAL")]
    PartialIn01,
    /// The sink refused a frame.
    #[error("the frame sink failed")]
    Sink(E),
}

/// Bytes that are not a service name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ServiceNameError {
    /// A service name has at least one byte.
    #[error("a service name may not be empty")]
    Empty,
    /// A service name has at most [`SERVICE_NAME_BYTES_MAX`](crate::SERVICE_NAME_BYTES_MAX) bytes.
    #[error("a service name may have at most 255 bytes, this one has {got}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
}

impl From<ServiceNameError> for Defect {
    fn from(error: ServiceNameError) -> Self {
        match error {
            ServiceNameError::Empty => Self::EmptyServiceName,
            ServiceNameError::TooLong { .. } => Self::ServiceNameTooLong,
        }
    }
}
