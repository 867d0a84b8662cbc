//! A connection to the administration port: who sends, and what ends it when it stands still.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// How long a connection may stand still; longer than a request may take.
pub(super) const STANDSTILL_MAX: Duration = Duration::from_secs(30);

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(SocketAddr);

impl Remote {
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

/// A connection, which ends when nothing moved on it for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    standstill: Pin<Box<Sleep>>,
    standstill_max: Duration,
}

impl Connection {
    /// Must be called inside of a tokio runtime.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::with_standstill(stream, STANDSTILL_MAX)
    }

    fn with_standstill(stream: TcpStream, standstill_max: Duration) -> Self {
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
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
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
    fn loopback_is_known_in_both_families() {
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(Remote(here.parse().unwrap()).is_loopback(), "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!Remote(elsewhere.parse().unwrap()).is_loopback(), "{elsewhere}");
        }
    }
}
