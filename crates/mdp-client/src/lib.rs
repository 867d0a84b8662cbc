//! Clients and workers for Majordomo brokers, 7/MDP (0.1) and 18/MDP (0.2), with fail-over over
//! several brokers.
//!
//! | | blocking | async (tokio) |
//! |---|---|---|
//! | ask a service | [`Client`], [`Pipeline`] | [`asynchronous::Client`] |
//! | offer a service | [`Worker`] | [`asynchronous::Worker`] |
//!
//! The async ones are there with the feature `tokio`, which is on by default.
//!
//! # Fail-over
//! Both know several endpoints and learn more of a cluster by `mmi.endpoints`. A client sees a dead
//! connection by the socket's monitor and sends again elsewhere at once, leaves a node that drains
//! without sending anything twice, and goes back to its preferred broker when that is there again.
//! A worker that is sent away by a node that leaves is at the next one at once.
//!
//! Requests are taken to be idempotent, as 7/MDP does; [`ClientOptions::idempotent`] and
//! [`CallOptions`] say otherwise. Every request has a [`RequestId`] for logs.
//!
//! Both faces stand on the same two state machines, which know neither sockets nor clocks; a thin
//! shell runs them on ZeroMQ sockets, one new socket per connection.
//!
//! # Keys
//! With a key of its own and the broker's public key ([`ClientOptions::keys`], [`WorkerOptions::keys`]) a
//! client or worker speaks CURVE: encrypted, and both sides know each other. A broker that refuses is named
//! in the error ([`ConnectFailure::NotAdmitted`], [`ConnectFailure::WrongMechanism`],
//! [`ConnectFailure::WrongServerKey`]) and asked again after 1 s, then after twice that, up to 30 s. A service
//! that the key's identity may not call is [`CallError::NotAllowed`].
//!
//! # Limits
//! * Requests of one socket at a time: [`PIPELINED_REQUESTS_MAX`]; sockets of a client:
//!   [`CLIENT_SOCKETS_MAX`]; connections of a worker: [`WORKER_CONCURRENCY_MAX`].
//! * A request: what the broker takes, [`ClientOptions::request_bytes_max`] and
//!   [`REQUEST_FRAMES_MAX`] until it has said that. A reply: [`ClientOptions::reply_bytes_max`]; parts that wait for an async caller:
//!   [`asynchronous::PARTS_WAITING_MAX`].
//! * Endpoints: [`ENDPOINTS_MAX`] configured, [`LEARNED_ENDPOINTS_MAX`] learned.
//! * A service name: 255 bytes. Frames and bodies are opaque.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "tokio"),
    expect(dead_code, reason = "some parts serve the async client and worker alone")
)]

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod backoff;
mod bell;
mod brokers;
mod client;
mod dialer;
mod endpoint;
mod error;
mod failure;
mod frames;
mod keys;
mod listing;
mod options;
mod request_id;
mod socket;
mod warnings;
mod worker;

pub use client::{Availability, Client, ClientCounters, Completion, Pipeline, Reply};
pub use error::{
    CallError, ConnectError, EndpointError, NoReplyCause, PartialError, PipelineError, WorkerError,
};
pub use failure::{ConnectFailure, UnreachableEndpoint};
pub use frames::IntoFrames;
pub use keys::KeysError;
pub use mdp_transport::{KeyFile, KeyFileError, Mechanism, NotAKey, PublicKey, SecretKey};
pub use mdp_wire::{RequestId, ServiceName, ServiceNameError, Version};
pub use options::{
    CLIENT_SOCKETS_MAX, CallOptions, ClientOptions, Correlation, DEFAULT_ENDPOINT, ENDPOINTS_MAX,
    LEARNED_ENDPOINTS_MAX, PIPELINED_REQUESTS_MAX, REQUEST_FRAMES_MAX, WORKER_CONCURRENCY_MAX,
    WorkerOptions,
};
/// The ZeroMQ crate that this one is built on: [`ClientOptions::context`], [`WorkerOptions::context`]
/// and some errors have its types.
pub use zmq;

pub use worker::{
    IntoAnswer, Registration, Request, StopHandle, Worker, WorkerCounters, WorkerObserver,
};
