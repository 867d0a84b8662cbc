//! Where a node is administered: bound in two steps, for its data directory is not there before it starts.

use std::path::{Path, absolute};

use mdp_node::{
    AdminPort, AdminPortError, AdminPorts, AdminSecrets, AdminServer, AdminSocket, Node,
};

use crate::settings::{AdminSocketChoice, Settings};

/// What was bound, and what is to be bound yet.
#[derive(Debug)]
pub(super) struct Administration {
    ports: AdminPorts,
    /// Where the socket is to be when the node has made its data directory.
    later: AdminSocketChoice,
    secrets: AdminSecrets,
}

impl Administration {
    /// Binds what can be bound before the node touches its data directory, so that what is in use is found
    /// first.
    pub(super) fn bind(settings: &Settings, secrets: AdminSecrets) -> Result<Self, AdminPortError> {
        let port = settings.admin_bind().map(AdminPort::bind).transpose()?;
        let (socket, later) = match settings.admin_socket() {
            AdminSocketChoice::Configured(path) if has_folder(&path) => {
                (Some(AdminSocket::bind(&path)?), AdminSocketChoice::Off)
            }
            later @ (AdminSocketChoice::Configured(_)
            | AdminSocketChoice::Default(_)
            | AdminSocketChoice::Off) => (None, later),
        };
        Ok(Self { ports: AdminPorts { port, socket }, later, secrets })
    }

    /// Serves the node, which has started; `None`: it is administered nowhere.
    pub(super) fn serve(
        self,
        node: &Node,
        settings: &Settings,
    ) -> Result<Option<AdminServer>, AdminPortError> {
        let Self { mut ports, later, secrets } = self;
        ports.socket = match later {
            AdminSocketChoice::Off => ports.socket,
            AdminSocketChoice::Configured(path) => Some(AdminSocket::bind(&path)?),
            AdminSocketChoice::Default(path) => bind_default(&path)?,
        };
        if ports.port.is_none() && ports.socket.is_none() {
            return Ok(None);
        }
        let is_secured = secrets.has_certificate();
        let socket = ports.socket.as_ref().map(|socket| socket.path().to_owned());
        let server = ports.serve(node.view(), settings.admin_access(secrets))?;
        if let Some(address) = server.address() {
            let scheme = if is_secured { "https" } else { "http" };
            tracing::info!(admin = %address, "administration on {scheme}://{address}");
            if !address.ip().is_loopback() && !is_secured {
                tracing::warn!(
                    admin = %address,
                    "other machines can look at this node by HTTP, unencrypted: use it in trusted networks \
                     only, or set admin.cert_file and admin.key_file"
                );
            }
        }
        if let Some(socket) = socket {
            let socket = absolute(&socket).unwrap_or(socket);
            let socket = socket.display();
            tracing::info!(%socket, "local administration on unix:{socket}");
        }
        Ok(Some(server))
    }
}

/// Whether a socket can be bound before the node has made its data directory.
fn has_folder(path: &Path) -> bool {
    path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir())
}

/// A node of which nothing was said about a socket starts without one where there can be none, as before
/// there were any; but not where another program has it.
fn bind_default(path: &Path) -> Result<Option<AdminSocket>, AdminPortError> {
    match AdminSocket::bind(path) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.is_in_use() => Err(error),
        Err(error) => {
            tracing::warn!("no local administration by a Unix socket: {error}");
            Ok(None)
        }
    }
}
