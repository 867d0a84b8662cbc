//! [`AdminSocket`]: administration for the node's own user, without a token.

use std::{
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use super::{
    AdminPortError,
    listener::{SharedSocketFile, UnixSocket},
};
use crate::{
    endpoint::PATH_BYTES_MAX,
    socket_file::{SocketFile, SocketPlace},
};

/// The longest path of a Unix socket, in bytes.
pub const ADMIN_SOCKET_BYTES_MAX: usize = PATH_BYTES_MAX;

const KEY: &str = "admin.socket";
/// The node's own user may connect, and root.
const MODE: u32 = 0o600;
/// How many connections may wait to be accepted.
const BACKLOG_CONNECTIONS: i32 = 128;

/// A Unix socket for administration, bound and not served yet. Its file goes when this, or what serves it, is
/// dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    file: SharedSocketFile,
    socket: UnixListener,
}

impl AdminSocket {
    /// Binds a path, also one relative to the working directory. A file that a process left there when it was
    /// killed is replaced.
    ///
    /// # Errors
    /// A program listens there, or the path cannot be had, or is too long.
    pub fn bind(path: &Path) -> Result<Self, AdminPortError> {
        let address = path.display().to_string();
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(AdminPortError::LongSocketPath { path: address, bytes });
        }
        let place = SocketPlace {
            key: KEY,
            address: &address,
            path,
            mode: MODE,
            backlog_connections: BACKLOG_CONNECTIONS,
        };
        let (socket, file) = SocketFile::bind(&place).map_err(AdminPortError::Socket)?;
        Ok(Self { path: path.to_owned(), file: SharedSocketFile::new(file), socket })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Must be called inside of a tokio runtime. The file can be removed by what comes second.
    pub(super) fn listen(self) -> io::Result<(UnixSocket, SharedSocketFile)> {
        let file = self.file.clone();
        Ok((UnixSocket::new(self.socket, self.file)?, file))
    }
}
