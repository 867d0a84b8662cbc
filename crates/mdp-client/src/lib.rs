//! Clients and workers for Majordomo brokers, 7/MDP (0.1) and 18/MDP (0.2), with fail-over over
//! several brokers.
//!
//! | | blocking | async (tokio) |
//! |---|---|---|
//! | ask a service | [`Client`], [`Pipeline`] | [`asynchronous::Client`] |
//! | offer a service | [`Worker`] | [`asynchronous::Worker`] |
//!
//! Both faces stand on the same two state machines, which know neither sockets nor clocks; a thin
//! shell runs them on ZeroMQ sockets, one new socket per connection.
//!
//! # Limits
//! * Requests of one socket at a time: [`PIPELINED_REQUESTS_MAX`]; sockets of a client:
//!   [`CLIENT_SOCKETS_MAX`]; connections of a worker: [`WORKER_CONCURRENCY_MAX`].
//! * A reply: [`ClientOptions::reply_bytes_max`]; parts that wait for an async caller:
//!   [`asynchronous::PARTS_WAITING_MAX`].
//! * A service name: 255 bytes. Frames and bodies are opaque.

pub mod asynchronous;
mod bell;
mod client;
mod endpoint;
mod error;
mod frames;
mod options;
mod socket;
mod worker;

pub use client::{Availability, Client, ClientCounters, Completion, Pipeline, Reply, RequestId};
pub use error::{
    CallError, ConnectError, EndpointError, NoReplyCause, PartialError, PipelineError, WorkerError,
};
pub use frames::IntoFrames;
pub use mdp_wire::{ServiceName, ServiceNameError, Version};
pub use options::{
    CLIENT_SOCKETS_MAX, ClientOptions, Correlation, DEFAULT_ENDPOINT, PIPELINED_REQUESTS_MAX,
    WORKER_CONCURRENCY_MAX, WorkerOptions,
};
pub use worker::{Request, StopHandle, Worker, WorkerCounters};
