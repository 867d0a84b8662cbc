//! [`AdminPort`] and [`AdminPorts`]: bound, then served.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use thiserror::Error;
use tokio::{runtime, sync::oneshot};

use super::{
    AdminSecrets, AdminSocket,
    backend::Backend,
    gate::AccessTotals,
    listener::{Listener, SharedSocketFile},
    lured::OwnNames,
    routes,
    server::{self, Serving},
};
use crate::{BindError, Endpoint, NodeView, endpoint::PATH_BYTES_MAX, interfaces};

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
    /// The Unix socket cannot be had.
    #[error(transparent)]
    Socket(BindError),
    /// The path of the Unix socket is too long for the system.
    #[error(
        "admin.socket = \"{path}\": the path of a Unix socket has at most {PATH_BYTES_MAX} bytes, this one \
         {bytes}; choose a shorter one, such as /run/majordomo/admin.sock, or \"off\""
    )]
    LongSocketPath {
        /// The path.
        path: String,
        /// How many bytes it has.
        bytes: usize,
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
            Self::AddressInUse { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::Socket(_)
            | Self::LongSocketPath { .. } => true,
            Self::System { .. } => false,
        }
    }

    /// Whether another program has the place.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::AddressInUse { .. } | Self::Socket(BindError::SocketInUse { .. }))
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
    /// The tokens that requests must present, and the certificate.
    pub secrets: AdminSecrets,
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
}

/// Everything that administration listens at, bound and not served yet.
#[derive(Debug, Default)]
pub struct AdminPorts {
    /// By TCP.
    pub port: Option<AdminPort>,
    /// By a Unix socket.
    pub socket: Option<AdminSocket>,
}

impl AdminPorts {
    /// Answers for this node from here on: on the runtime of the node if it has one, so that an
    /// answer shows that the runtime lives, else on a thread of its own. With a certificate connections are
    /// served on a thread of its own in any case, for handshakes must not take the time of consensus; the
    /// answers are made on the runtime of the node all the same.
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
        let address = self.port.as_ref().map(AdminPort::address);
        let (stop, stopped) = oneshot::channel();
        let has_thread = runtime.is_none() || access.secrets.has_certificate();
        let mut server = AdminServer { address, socket: None, stop: Some(stop), thread: None };
        if let Some(runtime) = runtime.as_ref().filter(|_| !has_thread) {
            let _guard = runtime.enter();
            let served = self.server(backend, access, None, &mut server.socket)?;
            runtime.spawn(until(stopped, served));
            return Ok(server);
        }
        let own = runtime::Builder::new_current_thread().enable_all().build();
        let system = |what| move |error| AdminPortError::System { what, error };
        let own = own.map_err(system("start a runtime for the administration port"))?;
        let served = {
            let _guard = own.enter();
            self.server(backend, access, runtime, &mut server.socket)?
        };
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || own.block_on(until(stopped, served)))
            .map_err(system("start the thread of the administration port"))?;
        server.thread = Some(thread);
        Ok(server)
    }

    /// Must be called inside of a tokio runtime; answers are made on another one if it is given.
    fn server(
        self,
        backend: Arc<dyn Backend>,
        access: AdminAccess,
        runtime: Option<runtime::Handle>,
        file: &mut Option<SharedSocketFile>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, AdminPortError> {
        let system = |error| AdminPortError::System { what: "use the administration port", error };
        let secrets = access.secrets.clone();
        let mut listeners = Vec::new();
        if let Some(AdminPort { listener, .. }) = self.port {
            listener.set_nonblocking(true).map_err(system)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(system)?;
            listeners.push(Listener::Tcp(listener, secrets.clone()));
        }
        if let Some(socket) = self.socket {
            let (socket, its_file) = socket.listen().map_err(system)?;
            *file = Some(its_file);
            listeners.push(Listener::Unix(socket));
        }
        let drained = backend.receipt();
        let totals = Arc::new(AccessTotals::default());
        let routes = routes::routes(backend, access, Arc::clone(&totals));
        // The last answers of a node that has drained are those to who waits for its receipt.
        let served = server::serve(listeners, Serving { routes, runtime, totals }, drained);
        Ok(async move {
            tokio::select! {
                () = served => {}
                () = secrets.watch() => {}
            }
        })
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

/// A served administration port. Dropping it closes the port, and removes the file of the socket.
#[derive(Debug)]
pub struct AdminServer {
    address: Option<SocketAddr>,
    socket: Option<SharedSocketFile>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Where it listens by TCP.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // While it still listens, and at once: what serves it may be on a runtime that ends, too.
        if let Some(file) = &self.socket {
            file.remove();
        }
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
