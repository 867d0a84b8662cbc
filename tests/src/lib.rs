//! Harness of the black-box tests: a real `majordomo serve` process, raw ZeroMQ and TCP peers, and
//! frames written byte by byte, so that a mistake of our own encoder cannot hide.
//!
//! Everything waits for something that can be seen, with a deadline ([`PATIENCE`]); the only
//! waiting for time to pass is waiting for silence, where a clause asks for silence.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness stops at the first surprise"
)]

mod client;
mod frames;
mod node_process;
mod program;
mod raw_socket;
mod soak;
mod worker;
mod zmtp;

use std::time::Duration;

pub use client::{RawClient, ReqClient};
pub use frames::{Message, Version};
pub use node_process::{NodeProcess, QUIET};
pub use program::{is_release, program};
pub use raw_socket::RawSocket;
pub use soak::{Scale, raise_file_limit, scale};
pub use worker::RawWorker;
pub use zmtp::{RawTcp, zmtp_frame};

/// How long an event that must come may take. Far beyond what it takes, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing may come where a clause asks for silence.
pub const SILENCE: Duration = Duration::from_millis(300);
