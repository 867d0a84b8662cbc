//! A ZeroMQ socket with deadlines.

use std::time::{Duration, Instant};

use crate::{Message, PATIENCE};

/// Something that clients and workers can connect to.
pub trait Reachable {
    /// Where.
    fn endpoint(&self) -> String;
}

impl Reachable for str {
    fn endpoint(&self) -> String {
        self.to_owned()
    }
}

/// A connected socket. What it has not sent when it is dropped is lost.
#[expect(missing_debug_implementations, reason = "zmq::Socket has none")]
pub struct RawSocket {
    socket: zmq::Socket,
}

impl RawSocket {
    /// A DEALER, in a context of its own.
    #[must_use]
    pub fn dealer(node: &(impl Reachable + ?Sized)) -> Self {
        Self::connect(node, &zmq::Context::new(), zmq::DEALER, |_| Ok(()))
    }

    /// Any socket; `options` is called before it connects.
    pub fn connect(
        node: &(impl Reachable + ?Sized),
        context: &zmq::Context,
        kind: zmq::SocketType,
        options: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    ) -> Self {
        let socket = context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        // A test decides itself how much it sends before it reads.
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        options(&socket).unwrap();
        let endpoint = node.endpoint();
        socket.set_ipv6(endpoint.contains('[')).unwrap();
        socket.connect(&endpoint).unwrap();
        Self { socket }
    }

    /// The socket itself, for what this harness has no word for.
    #[must_use]
    pub const fn zmq(&self) -> &zmq::Socket {
        &self.socket
    }

    /// Sends one message.
    pub fn send(&self, message: &[Vec<u8>]) {
        self.socket.send_multipart(message, zmq::DONTWAIT).unwrap();
    }

    /// The next message, if one comes in time.
    #[must_use]
    pub fn recv_within(&self, patience: Duration) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a poll that returns too early would spin.
            let ms = i64::try_from(left.as_millis()).unwrap() + 1;
            match self.socket.poll(zmq::POLLIN, ms) {
                Ok(1) => return Some(self.socket.recv_multipart(0).unwrap()),
                Ok(_) if Instant::now() >= deadline => return None,
                Ok(_) | Err(zmq::Error::EINTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
    }

    /// The next message, which must come.
    #[must_use]
    #[track_caller]
    pub fn recv(&self) -> Message {
        self.recv_within(PATIENCE).unwrap_or_else(|| panic!("nothing came within {PATIENCE:?}"))
    }

    /// The next message must be this one.
    #[track_caller]
    pub fn expect(&self, message: &[Vec<u8>]) {
        assert_eq!(Shown(&self.recv()), Shown(message));
    }

    /// Nothing may come for this long.
    #[track_caller]
    pub fn expect_silence(&self, length: Duration) {
        if let Some(message) = self.recv_within(length) {
            panic!("unexpected: {:?}", Shown(&message));
        }
    }
}

/// Frames as escaped text, for people.
#[derive(PartialEq, Eq)]
struct Shown<'a>(&'a [Vec<u8>]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|frame| write!(f, "[{}]", frame.escape_ascii()))
    }
}
