//! Where clients and workers connect: what is bound, and how connections are taken.

use std::{
    io,
    time::{Duration, Instant},
};

use mdp_transport::{LocalPeer, LocalProcess, PeerAddress};
use mio::{
    Interest, Registry,
    event::Source,
    net::{TcpListener, UnixListener, UnixStream},
};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::{Socket, TcpKeepalive};

use super::stream::Stream;
use crate::{
    BINDS_MAX, BindAddress, BindError, Endpoint, SocketPath,
    binding::is_no_room,
    interfaces::{bind_address, bound_endpoint, listen},
    socket_file::{self, SocketFile, SocketPlace},
};

/// How long what was sent may go unanswered by the peer's machine.
pub(super) const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// How long a connection is idle before TCP looks whether it lives, and how often, and how long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 4;
/// How long no connection is taken when there is no room for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may connect to a Unix socket: programs of the same user and group.
const SOCKET_MODE: u32 = 0o660;

/// How a port listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerSettings {
    /// The key of its addresses.
    pub(crate) key: &'static str,
    /// How many connections may wait to be accepted.
    pub(crate) backlog_connections: i32,
    /// What is said when no more connections are taken.
    pub(crate) limit: &'static str,
}

/// Takes connections at all addresses, at each in its turn.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    /// Which one takes the next connection.
    next: usize,
    /// Until then none is taken.
    paused_until: Option<Instant>,
    /// Whether none is taken any more.
    is_stopped: bool,
}

/// Takes connections at one address.
#[derive(Debug)]
struct Listener {
    socket: ListeningSocket,
    address: BindAddress,
    /// Whether connections may wait.
    may_wait: bool,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix {
        /// Removed while the socket still listens: no other program can have taken it over then.
        file: SocketFile,
        socket: UnixListener,
        path: &'static str,
    },
}

/// One attempt to take a connection.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(Stream, PeerAddress),
    Nothing,
    /// The system has no room for another one.
    NoRoom(io::Error),
}

impl Listeners {
    /// Binds all, or none.
    pub(super) fn bind(
        settings: &ListenerSettings,
        addresses: &[BindAddress],
    ) -> Result<Self, BindError> {
        debug_assert!((1..=BINDS_MAX).contains(&addresses.len()), "{addresses:?}");
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let bound = Listener::bind(settings, address);
            let explain = |error| explained(settings.key, error, address, &listeners);
            listeners.push(bound.map_err(explain)?);
        }
        Ok(Self { listeners, next: 0, paused_until: None, is_stopped: false })
    }

    /// The poller tells of each one by the token of its place.
    pub(super) fn register(
        &mut self,
        registry: &Registry,
        token: impl Fn(u64) -> mio::Token,
    ) -> io::Result<()> {
        for (index, listener) in (0..).zip(self.listeners.iter_mut()) {
            registry.register(listener.socket.source(), token(index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// What was bound, with the real ports.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &BindAddress> {
        self.listeners.iter().map(|listener| &listener.address)
    }

    /// The poller has news of this one, counted from the first; false if there is no such one.
    pub(super) fn wake(&mut self, index: u64) -> bool {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(listener) = self.listeners.get_mut(index) else { return false };
        listener.may_wait = true;
        true
    }

    /// Whether a connection may be taken now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.has_more()
    }

    /// Whether a connection may wait that the poller does not tell of again.
    pub(super) fn has_more(&self) -> bool {
        self.paused_until.is_none() && self.may_wait()
    }

    /// When there is something to do that the poller does not tell.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.paused_until.filter(|_| self.may_wait())
    }

    fn may_wait(&self) -> bool {
        !self.is_stopped && self.listeners.iter().any(|listener| listener.may_wait)
    }

    /// Takes none for a while; they wait in the kernel.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + PAUSE);
    }

    /// Takes none any more; they wait in the kernel until it says that there is no program.
    pub(super) const fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Takes a connection, at another address than the last time if one waits there.
    pub(super) fn accept(&mut self) -> Accepted {
        let count = self.listeners.len();
        for _ in 0..count {
            let index = self.next;
            self.next = (index + 1).checked_rem(count).unwrap_or_default();
            let listener = self.listeners.get_mut(index).filter(|it| it.may_wait);
            match listener.map_or(Accepted::Nothing, Listener::accept) {
                Accepted::Nothing => {}
                accepted @ (Accepted::Connection(..) | Accepted::NoRoom(_)) => return accepted,
            }
        }
        Accepted::Nothing
    }
}

impl Listener {
    fn bind(settings: &ListenerSettings, address: &BindAddress) -> Result<Self, BindError> {
        let (socket, address) = match address {
            BindAddress::Tcp(endpoint) => bind_tcp(settings, endpoint)?,
            BindAddress::Ipc(path) => (bind_unix(settings, path)?, address.clone()),
        };
        Ok(Self { socket, address, may_wait: true })
    }

    fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept() {
                Ok((stream, address)) => return Accepted::Connection(stream, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_wait = false;
                    return Accepted::Nothing;
                }
                // That one connection is gone again, or its network is (accept(2)).
                Err(error) if is_of_one(&error) => {}
                Err(error) => return Accepted::NoRoom(error),
            }
        }
    }
}

impl ListeningSocket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            Self::Unix { socket, .. } => socket,
        }
    }

    /// Whether only one of it and this address can be bound at a time.
    fn collides_with(&self, address: &BindAddress) -> bool {
        match (self, address) {
            (Self::Tcp(socket), BindAddress::Tcp(endpoint)) => {
                let both = socket.local_addr().and_then(|own| Ok((own, bind_address(endpoint)?)));
                both.is_ok_and(|(own, wanted)| {
                    Endpoint::from(own).collides_with(&Endpoint::from(wanted))
                })
            }
            (Self::Unix { file, .. }, BindAddress::Ipc(path)) => file.is_at(path.as_ref()),
            (Self::Tcp(_), BindAddress::Ipc(_)) | (Self::Unix { .. }, BindAddress::Tcp(_)) => false,
        }
    }

    fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                Ok((Stream::Tcp(stream), PeerAddress::from(address)))
            }
            Self::Unix { socket, path, .. } => {
                let stream = UnixStream::from_std(socket_file::accept(socket)?);
                let peer = LocalPeer { path, process: process_of(&stream) };
                Ok((Stream::Unix(stream), PeerAddress::Local(peer)))
            }
        }
    }
}

fn process_of(stream: &UnixStream) -> Option<LocalProcess> {
    let credentials = getsockopt(stream, PeerCredentials).ok()?;
    Some(LocalProcess { pid: credentials.pid(), uid: credentials.uid() })
}

/// Whether an error is that of the one connection that was to be taken. After any other one, trying again
/// at once would not help.
fn is_of_one(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ]
    .iter()
    .any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}

/// The same error, or, if what is in use is one of these listeners, that.
fn explained(
    key: &'static str,
    error: BindError,
    address: &BindAddress,
    bound: &[Listener],
) -> BindError {
    if !matches!(error, BindError::AddressInUse { .. } | BindError::SocketInUse { .. }) {
        return error;
    }
    match bound.iter().find(|listener| listener.socket.collides_with(address)) {
        None => error,
        Some(Listener { address: other, .. }) => {
            BindError::OwnAddress { key, address: address.to_string(), other: other.to_string() }
        }
    }
}

fn bind_tcp(
    settings: &ListenerSettings,
    endpoint: &Endpoint,
) -> Result<(ListeningSocket, BindAddress), BindError> {
    let key = settings.key;
    let listened = listen(endpoint, settings.backlog_connections, configure)
        .and_then(|socket| socket.local_addr().map(|bound| (socket, bound)));
    let (socket, bound) = listened.map_err(|error| {
        let (kind, address) = (error.kind(), endpoint.to_string());
        if kind == io::ErrorKind::AddrInUse {
            BindError::AddressInUse { key, address }
        } else if kind == io::ErrorKind::PermissionDenied {
            BindError::Forbidden { key, address }
        } else if is_no_room(&error) {
            BindError::NoSocket { key, address, error }
        } else {
            BindError::Unusable { key, address, error }
        }
    })?;
    let address = BindAddress::Tcp(bound_endpoint(endpoint, bound));
    Ok((ListeningSocket::Tcp(TcpListener::from_std(socket)), address))
}

fn configure(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    socket.set_tcp_keepalive(&keepalive)
}

fn bind_unix(settings: &ListenerSettings, path: &SocketPath) -> Result<ListeningSocket, BindError> {
    let ListenerSettings { key, backlog_connections, .. } = *settings;
    let address = &BindAddress::Ipc(path.clone()).to_string();
    let place =
        SocketPlace { key, address, path: path.as_ref(), mode: SOCKET_MODE, backlog_connections };
    let (socket, file) = SocketFile::bind(&place)?;
    let socket = UnixListener::from_std(socket);
    // Each peer's address names it, and it is there for as long as the process.
    let path = path.as_str().to_owned().leak();
    Ok(ListeningSocket::Unix { file, socket, path })
}
