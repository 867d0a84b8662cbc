//! Binding a socket to a configured address.

use std::io;

use thiserror::Error;

use crate::{Endpoint, SocketError, zeromq::Socket};

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
    Refused {
        /// The key that it was configured by.
        key: &'static str,
        /// The address.
        address: String,
        /// What libzmq says.
        error: SocketError,
    },
    /// Any other reason, as the system says it.
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
    /// What waits for connections could not be made.
    #[error("cannot wait for connections: {0}")]
    Poller(io::Error),
    /// The socket could not be made.
    #[error("cannot make a socket: {0}")]
    Socket(SocketError),
}

/// Binds a socket to the address of this key. Returns what was bound, with its real port.
pub(crate) fn bind(
    socket: &Socket,
    key: &'static str,
    endpoint: &Endpoint,
) -> Result<Endpoint, BindError> {
    let address = endpoint.to_string();
    match socket.bind(&address) {
        Ok(()) => {}
        Err(SocketError::ADDRESS_IN_USE) => return Err(BindError::AddressInUse { key, address }),
        Err(SocketError::FORBIDDEN) => return Err(BindError::Forbidden { key, address }),
        Err(error) => return Err(BindError::Refused { key, address, error }),
    }
    let bound = socket.last_endpoint().map_err(BindError::Socket)?;
    Ok(bound.parse().unwrap_or_else(|_| endpoint.clone()))
}
