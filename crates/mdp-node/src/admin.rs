//! The administration port: HTTP for probes, metrics, pages, and changes of the cluster, by TCP and by a
//! Unix socket.
//!
//! It is bound before the node starts, so that an address in use is found first, and served on
//! once there is a node to look at.

mod backend;
mod change;
mod connection;
mod drain;
mod failure;
mod gate;
mod listener;
mod liveness;
mod lured;
mod metrics;
mod port;
mod process;
mod routes;
mod secrets;
mod server;
mod slots;
mod socket;
mod tls;
mod token;

pub use lured::OwnNames;
pub use port::{AdminAccess, AdminPort, AdminPortError, AdminPorts, AdminServer, RemoteChanges};
pub use secrets::{AdminFileError, AdminFiles, AdminSecrets};
pub use socket::{ADMIN_SOCKET_BYTES_MAX, AdminSocket};
pub use token::read_tokens;

#[cfg(test)]
mod tests;
