//! The administration port: HTTP for probes, metrics, pages, and changes of the cluster.
//!
//! It is bound before the node starts, so that an address in use is found first, and served on
//! once there is a node to look at.

mod backend;
mod change;
mod connection;
mod drain;
mod failure;
mod liveness;
mod lured;
mod metrics;
mod port;
mod process;
mod routes;
mod server;
mod slots;

pub use lured::OwnNames;
pub use port::{AdminAccess, AdminPort, AdminPortError, AdminServer, RemoteChanges};

#[cfg(test)]
mod tests;
