//! A connection to the administration port: who sends, and what ends it when it stands still.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use mdp_transport::LocalProcess;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a connection may stand still; longer than a request may take.
pub(super) const STANDSTILL_MAX: Duration = Duration::from_secs(30);

/// Who sent a request, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Remote {
    /// By TCP, as it is.
    Plain(SocketAddr),
    /// By TLS.
    Secured(SocketAddr),
    /// By the Unix socket: the node's own user, or root.
    Local(Option<LocalProcess>),
}

impl Remote {
    /// Whether the request came from this machine.
    pub(super) const fn is_here(self) -> bool {
        match self {
            Self::Plain(address) | Self::Secured(address) => {
                address.ip().to_canonical().is_loopback()
            }
            Self::Local(_) => true,
        }
    }

    /// What an origin of this server begins with.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Local(_) => "http",
            Self::Secured(_) => "https",
        }
    }

    /// Where it came from; `None`: by the Unix socket.
    pub(super) const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Plain(address) | Self::Secured(address) => Some(address.ip()),
            Self::Local(_) => None,
        }
    }
}

/// As a log line has it.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) | Self::Secured(address) => address.ip().fmt(f),
            Self::Local(None) => f.write_str("admin.socket"),
            Self::Local(Some(LocalProcess { pid, uid })) => {
                write!(f, "admin.socket (pid {pid}, uid {uid})")
            }
        }
    }
}

/// A connection, which ends when nothing moved on it for too long.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    standstill: Pin<Box<Sleep>>,
    standstill_max: Duration,
}

impl<S> Connection<S> {
    /// Must be called inside of a tokio runtime.
    pub(super) fn new(stream: S) -> Self {
        Self::with_standstill(stream, STANDSTILL_MAX)
    }

    fn with_standstill(stream: S, standstill_max: Duration) -> Self {
        Self { stream, standstill: Box::pin(sleep(standstill_max)), standstill_max }
    }

    /// What came of an attempt to move something, unless it was the last one allowed to wait.
    fn moved<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            let deadline = Instant::now() + self.standstill_max;
            self.standstill.as_mut().reset(deadline);
            return attempt;
        }
        self.standstill.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(context, attempt)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(context, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.moved(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn connection_that_stands_still_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = Connection::with_standstill(stream, Duration::from_millis(20));
        client.write_all(b"a").await.unwrap();

        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let error = connection.read_u8().await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn process_at_the_socket_is_here_and_named() {
        let local = Remote::Local(Some(LocalProcess { pid: 7, uid: 1000 }));
        assert!(local.is_here());
        assert_eq!(local.to_string(), "admin.socket (pid 7, uid 1000)");
    }

    #[test]
    fn loopback_is_known_in_both_families() {
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(Remote::Plain(here.parse().unwrap()).is_here(), "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!Remote::Secured(elsewhere.parse().unwrap()).is_here(), "{elsewhere}");
        }
    }
}
