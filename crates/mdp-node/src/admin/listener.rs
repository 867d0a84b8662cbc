//! Where connections to the administration port come from: TCP, with or without TLS, and a Unix socket.

use std::{
    io,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, PoisonError},
};

use mdp_transport::LocalProcess;
use rustls::ServerConfig;
use tokio::{
    io::unix::AsyncFd,
    net::{TcpListener, TcpStream, UnixStream},
};

use super::{connection::Remote, secrets::AdminSecrets};
use crate::socket_file::{self, SocketFile};

/// Takes connections.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener, AdminSecrets),
    Unix(UnixSocket),
}

/// A connection that was taken.
#[derive(Debug)]
pub(super) enum Accepted {
    Plain(TcpStream),
    /// It begins with a handshake of TLS.
    Secured(TcpStream, Arc<ServerConfig>),
    Unix(UnixStream),
}

/// A Unix socket with its file, which goes while the socket still listens: no other program can have taken it
/// over then.
#[derive(Debug)]
pub(super) struct UnixSocket {
    file: SharedSocketFile,
    socket: AsyncFd<UnixListener>,
}

/// The file of a Unix socket, which is removed once.
#[derive(Clone, Debug)]
pub(super) struct SharedSocketFile(Arc<Mutex<Option<SocketFile>>>);

impl SharedSocketFile {
    pub(super) fn new(file: SocketFile) -> Self {
        Self(Arc::new(Mutex::new(Some(file))))
    }

    pub(super) fn remove(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl UnixSocket {
    /// Must be called inside of a tokio runtime.
    pub(super) fn new(socket: UnixListener, file: SharedSocketFile) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "what follows it is unsafe; a listener has one descriptor for life"
        )]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { file, socket })
    }

    async fn accept(&self) -> io::Result<(UnixStream, Remote)> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(accepted) = ready.try_io(|socket| socket_file::accept(socket.get_ref())) {
                let stream = UnixStream::from_std(accepted?)?;
                let peer = stream.peer_cred().ok();
                let process = peer.map(|peer| LocalProcess {
                    // Zero, if it has none here.
                    pid: peer.pid().unwrap_or_default(),
                    uid: peer.uid(),
                });
                return Ok((stream, Remote::Local(process)));
            }
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

impl Listener {
    /// Takes the next connection.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Remote)> {
        match self {
            Self::Tcp(socket, secrets) => {
                let (stream, from) = socket.accept().await?;
                Ok(match secrets.tls() {
                    None => (Accepted::Plain(stream), Remote::Plain(from)),
                    // The newest certificate, for each connection.
                    Some(tls) => (Accepted::Secured(stream, tls), Remote::Secured(from)),
                })
            }
            Self::Unix(socket) => {
                let (stream, remote) = socket.accept().await?;
                Ok((Accepted::Unix(stream), remote))
            }
        }
    }
}
