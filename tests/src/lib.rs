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

mod accounting;
mod asker;
mod at_end;
mod client;
mod clock;
mod cluster;
mod cluster_node;
mod daemon;
mod damages;
mod endpoints;
mod figures;
mod frames;
mod http;
mod links;
mod lost_writes;
mod means;
mod nemesis;
mod network;
mod networked_cluster;
mod node_keys;
mod node_process;
mod ports;
mod private_network;
mod process;
mod program;
mod raw_socket;
mod receipt;
mod recorded_worker;
mod registration_log;
mod soak;
mod view;
mod wait;
mod watch;
mod worker;
mod zmtp;

use std::time::Duration;

pub use accounting::{
    Account, Delivery, Dropped, Drops, Execution, Explanation, Fault, FaultKind, History, Outcome,
    Parting, Rules, Stray, Submission, SubmissionId, Violation, Wrong, account,
};
pub use asker::{ASK_PATIENCE, Answer, Asker, Code, Ticket};
pub use at_end::AtEnd;
pub use client::{RawClient, ReqClient};
pub use clock::now_ns;
pub use cluster::{NODES, TestCluster};
pub use cluster_node::{ClusterNode, Ports, READY_PATIENCE};
pub use daemon::Daemon;
pub use damages::{Damage, Damages, Happened};
pub use endpoints::{endpoints_told, has_ipv6};
pub use figures::Durations;
pub use frames::{Message, Version};
pub use http::{Page, http_get, http_get_within};
pub use links::{Links, Tap};
pub use lost_writes::{Lost, LostWrites};
pub use mdp_history::{
    Action, Illegal, Inconclusive, Operation, REGISTRATIONS_MAX, Verdict, check, detected_percent,
};
pub use means::{Means, means};
pub use nemesis::{FailingCalls, SmallDisk, WallClock, is_without_root};
pub use network::{Disturbance, Network, Trouble};
pub use networked_cluster::NetworkedCluster;
pub use node_keys::{NodeKey, NodeKeys};
pub use node_process::{NodeProcess, QUIET};
pub use ports::free_port;
pub use private_network::in_private_network;
pub use program::{Finished, is_release, last_program, majordomo, next_program, program};
pub use raw_socket::{RawSocket, Reachable};
pub use receipt::Receipt;
pub use recorded_worker::{RECORDED_HEARTBEAT, RECORDED_SILENCE_MAX, Record, RecordedWorker};
pub use registration_log::{RegistrationEvent, registration_log};
pub use soak::{Scale, raise_file_limit, scale};
pub use view::{ChangeView, ClusterView, NodeView, Readiness};
pub use wait::{hold_for, look_for, wait_until};
pub use watch::{Sighting, Watch};
pub use worker::RawWorker;
pub use zmtp::{RawTcp, zmtp_frame};

/// How long an event that must come may take. Far beyond what it takes, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing may come where a clause asks for silence.
pub const SILENCE: Duration = Duration::from_millis(300);
