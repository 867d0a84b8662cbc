//! A listener with a bounded number of connections, none of which may stand still for long.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// How many connections there may be at once; more wait until one ends.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How long a connection may stand still; longer than a request may take.
pub(super) const STANDSTILL_MAX: Duration = Duration::from_secs(30);

/// Accepts connections while there is room for them.
#[derive(Debug)]
pub(super) struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    standstill_max: Duration,
}

impl BoundedListener {
    /// Must be called inside of a tokio runtime.
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { listener, slots, standstill_max: STANDSTILL_MAX })
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = match Arc::clone(&self.slots).acquire_owned().await {
            Ok(slot) => slot,
            // Only a closed semaphore says so, and nobody closes it.
            Err(_) => pending().await,
        };
        // This one logs what goes wrong, and tries again.
        let (stream, remote) = Listener::accept(&mut self.listener).await;
        let standstill = Box::pin(sleep(self.standstill_max));
        let connection =
            Connection { stream, standstill, standstill_max: self.standstill_max, _slot: slot };
        (connection, remote)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(SocketAddr);

impl Remote {
    #[cfg(test)]
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// Where it came from.
    pub(super) const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// Whether the request came from this machine.
    pub(super) const fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Remote {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection, which ends when nothing moved on it for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    standstill: Pin<Box<Sleep>>,
    standstill_max: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
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

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(context, attempt)
    }
}

impl AsyncWrite for Connection {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn listener(standstill_max: Duration, slots: usize) -> BoundedListener {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut bounded = BoundedListener::new(listener).unwrap();
        bounded.standstill_max = standstill_max;
        bounded.slots = Arc::new(Semaphore::new(slots));
        bounded
    }

    #[tokio::test]
    async fn connection_that_stands_still_ends() {
        let mut listener = listener(Duration::from_millis(20), 1);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        client.write_all(b"a").await.unwrap();

        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let error = connection.read_u8().await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn connection_beyond_the_bound_waits_until_one_ends() {
        let mut listener = listener(STANDSTILL_MAX, 1);
        let address = listener.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let (connection, _) = listener.accept().await;

        {
            let waiting = listener.accept();
            tokio::pin!(waiting);
            let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
            assert!(early.is_err());
            drop(connection);
            waiting.await;
        }
    }

    #[test]
    fn loopback_is_known_in_both_families() {
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(Remote(here.parse().unwrap()).is_loopback(), "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!Remote(elsewhere.parse().unwrap()).is_loopback(), "{elsewhere}");
        }
    }
}
