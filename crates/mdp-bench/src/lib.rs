//! How fast a Majordomo broker is: a load generator, a floor to compare with, and the comparison.
//!
//! - [`run`] loads any broker of 7/MDP or 18/MDP that listens at an endpoint and reports requests
//!   per second, latencies, and the processor time that the broker's process spent per request.
//!   Its clients and workers are one thread each, and cost little ([`PeerKind`]).
//! - [`floor`] has the least forwarders, over libzmq and over [`mdp_transport`], with the frames of a
//!   broker and none of its duties: what a broker costs above them is the broker's own.
//! - [`compare`] runs brokers and floors in turns, since machines are noisy, and sets their medians
//!   side by side.
//! - [`crowd`] lets many workers register and do nothing.
//! - [`mmi`] starts three nodes and asks a follower, to see what agreement costs.
//! - [`relay`] starts three nodes and puts clients and workers on one of them or on two, to see what
//!   the way between nodes costs.
//! - [`measuring`] has the options that the programs which compare have in common.
//! - [`engine`] drives the engine alone, so that its instructions can be counted.
//!
//! The window is *closed*: so many requests are outstanding at any time, and the next one leaves
//! when a reply arrives. Latency is therefore that of a loaded broker at its own pace, not that of
//! a fixed arrival rate; with a large window it is mostly time spent waiting in the broker's queue.

mod clients;
pub mod compare;
pub mod crowd;
pub mod engine;
pub mod floor;
mod jobs;
pub mod launch;
pub mod measuring;
pub mod mmi;
mod options;
mod peers;
mod poller;
pub mod process;
pub mod questions;
mod reach;
pub mod relay;
mod report;
mod run;
mod sockets;
pub mod trio;
mod workers;

pub use options::{BODY_BYTES_MIN, BenchError, BenchOptions, PeerKeys};
pub use peers::PeerKind;
pub use report::{BenchReport, BrokerReport, Latency, ThreadReport};
pub use run::{Phase, Progress, run};
