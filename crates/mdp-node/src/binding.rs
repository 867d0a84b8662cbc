//! Why a configured address can not be bound.

use std::io;

use thiserror::Error;

/// An address could not be bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "{key} = \"{address}\": the address is in use; stop the other program or choose another port"
    )]
    AddressInUse {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// This process may not use the port.
    #[error(
        "{key} = \"{address}\": permission denied; ports below 1024 need a capability: use a higher \
         port, or give the program CAP_NET_BIND_SERVICE (setcap, AmbientCapabilities= of systemd)"
    )]
    Forbidden {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// Any other reason.
    #[error(
        "{key} = \"{address}\": {error}; the host must be an address or interface of this machine, or *"
    )]
    Unusable {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// Another program listens at the path of a Unix socket.
    #[error("{key} = \"{address}\": another program listens there; stop it or choose another path")]
    SocketInUse {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// This node listens at the same place by another address of the same key.
    #[error(
        "{key} = \"{address}\": this node listens there already, by \"{other}\" of the same list; leave one \
         of both out"
    )]
    OwnAddress {
        /// The key that both were configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// The address that was bound before.
        other: String,
    },
    /// The system gives no socket, whatever the address.
    #[error("{key} = \"{address}\": {error}")]
    NoSocket {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// It cannot be found out whether a program listens at the path of a Unix socket.
    #[error(
        "{key} = \"{address}\": the socket file that is there cannot be looked at: {error}; remove it or \
         choose another path"
    )]
    UnknownSocket {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The path of a Unix socket cannot be had.
    #[error(
        "{key} = \"{address}\": {error}; its folder must exist, and this process must be allowed to \
         make files there"
    )]
    Path {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file of another kind is at the path of a Unix socket.
    #[error(
        "{key} = \"{address}\": there is a file that is no socket; remove it or choose another path"
    )]
    NotASocket {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// What waits for connections could not be made.
    #[error("cannot wait for connections: {0}")]
    Poller(io::Error),
}

/// Whether the system has no room for another socket: then no address is to blame.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}
