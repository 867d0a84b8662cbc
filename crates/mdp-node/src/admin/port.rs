//! [`AdminPort`]: bound, then served.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use thiserror::Error;
use tokio::{runtime, sync::oneshot};

use super::{backend::Backend, lured::OwnNames, routes, server};
use crate::{Endpoint, NodeView, interfaces};

/// How many connections may wait to be accepted; as the standard library has it.
const BACKLOG_CONNECTIONS: i32 = 128;

/// The administration port cannot be had.
#[derive(Debug, Error)]
pub enum AdminPortError {
    /// Another process listens there.
    #[error(
        "admin.bind = \"{address}\" is in use: choose another port (--admin HOST:PORT), 0 for any free \
         one, or \"\" for none"
    )]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// This process may not use the port.
    #[error(
        "admin.bind = \"{address}\": permission denied; ports below 1024 need a capability: use a \
         higher port, or give the program CAP_NET_BIND_SERVICE (setcap, AmbientCapabilities= of systemd)"
    )]
    Forbidden {
        /// The address.
        address: String,
    },
    /// The system refuses it for another reason.
    #[error(
        "admin.bind = \"{address}\" cannot be bound: {error}; use HOST:PORT of this machine, or \"\" \
         for none"
    )]
    Refused {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The operating system refused something.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl AdminPortError {
    /// Whether another configuration would help: exit code 2.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::AddressInUse { .. } | Self::Forbidden { .. } | Self::Refused { .. } => true,
            Self::System { .. } => false,
        }
    }
}

/// `admin.allow_remote`: whether other machines may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteChanges {
    /// They may look only.
    Refused,
    /// They may.
    Allowed,
}

/// Whom the administration port serves, and what it tells of the configuration.
#[derive(Clone, Debug)]
pub struct AdminAccess {
    /// Whether other machines may change something.
    pub changes: RemoteChanges,
    /// `admin.hosts`, and the names that this node has anyway.
    pub names: OwnNames,
    /// What was warned of at the start.
    pub warnings: Vec<String>,
    /// At how many addresses strangers reach this node, if `security.insecure` does not say that they may.
    pub open_ports: usize,
}

/// The administration port, bound and not served yet: those who connect wait.
#[derive(Debug)]
pub struct AdminPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminPort {
    /// Binds `HOST:PORT`; port 0 is any free one, and host `*` every address of IPv6 and IPv4.
    ///
    /// # Errors
    /// The address is in use, or is none of this machine.
    pub fn bind(address: &str) -> Result<Self, AdminPortError> {
        let bound = bind(address)
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
        match bound {
            Ok((listener, address)) => Ok(Self { listener, address }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(AdminPortError::AddressInUse { address: address.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(AdminPortError::Forbidden { address: address.to_owned() })
            }
            Err(error) => Err(AdminPortError::Refused { address: address.to_owned(), error }),
        }
    }

    /// What was really bound, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for this node from here on: on the runtime of the node if it has one, so that an
    /// answer shows that the runtime lives, else on a thread of its own.
    ///
    /// # Errors
    /// The operating system does not give what is needed.
    pub fn serve(self, view: NodeView, access: AdminAccess) -> Result<AdminServer, AdminPortError> {
        let runtime = view.runtime().cloned();
        self.serve_backend(Arc::new(view), access, runtime)
    }

    pub(super) fn serve_backend(
        self,
        backend: Arc<dyn Backend>,
        access: AdminAccess,
        runtime: Option<runtime::Handle>,
    ) -> Result<AdminServer, AdminPortError> {
        let address = self.address;
        let (stop, stopped) = oneshot::channel();
        let Some(runtime) = runtime else {
            let thread = self.serve_on_thread(backend, access, stopped)?;
            return Ok(AdminServer { address, stop: Some(stop), thread: Some(thread) });
        };
        let _guard = runtime.enter();
        let server = self.server(backend, access)?;
        runtime.spawn(until(stopped, server));
        Ok(AdminServer { address, stop: Some(stop), thread: None })
    }

    fn serve_on_thread(
        self,
        backend: Arc<dyn Backend>,
        access: AdminAccess,
        stopped: oneshot::Receiver<()>,
    ) -> Result<JoinHandle<()>, AdminPortError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let system = |what| move |error| AdminPortError::System { what, error };
        let runtime = runtime.map_err(system("start a runtime for the administration port"))?;
        let server = {
            let _guard = runtime.enter();
            self.server(backend, access)?
        };
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(until(stopped, server)))
            .map_err(system("start the thread of the administration port"))
    }

    /// Must be called inside of a tokio runtime.
    fn server(
        self,
        backend: Arc<dyn Backend>,
        access: AdminAccess,
    ) -> Result<impl Future<Output = ()> + Send + 'static, AdminPortError> {
        let system = |error| AdminPortError::System { what: "use the administration port", error };
        self.listener.set_nonblocking(true).map_err(system)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(system)?;
        let drained = backend.receipt();
        let routes = routes::routes(backend, access);
        // The last answers of a node that has drained are those to who waits for its receipt.
        Ok(server::serve(listener, routes, drained))
    }
}

fn bind(address: &str) -> io::Result<TcpListener> {
    match address.parse::<Endpoint>() {
        Ok(endpoint) if endpoint.is_any() || endpoint.zoned().is_some() => {
            interfaces::listen(&endpoint, BACKLOG_CONNECTIONS, |_| Ok(()))
        }
        // The name of a host is looked up.
        Ok(_) | Err(_) => TcpListener::bind(address),
    }
}

/// A served administration port. Dropping it closes the port.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the administration port panicked");
        }
    }
}

/// Serves until the other end is dropped.
async fn until(stopped: oneshot::Receiver<()>, server: impl Future<Output = ()> + Send) {
    tokio::select! {
        _ = stopped => {}
        () = server => {}
    }
}
