//! Raw clients.

use std::time::{Duration, Instant};

use crate::{Message, PATIENCE, RawSocket, Reachable, SILENCE, Version, frames};

/// How long to wait between two looks at something that changes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// libzmq's default high-water mark, in messages.
const DEFAULT_HWM: i32 = 1_000;

/// The receive buffer of a client that takes in little until it reads.
const NARROW_BUFFER_BYTES: i32 = 16 << 10;

/// A DEALER that speaks as a client of one version.
#[expect(missing_debug_implementations, reason = "zmq::Socket has none")]
pub struct RawClient {
    /// The socket, for messages that are no requests.
    pub socket: RawSocket,
    version: Version,
}

impl RawClient {
    /// Connects.
    #[must_use]
    pub fn connect(node: &(impl Reachable + ?Sized), version: Version) -> Self {
        Self { socket: RawSocket::dealer(node), version }
    }

    /// Connects with this routing id.
    #[must_use]
    pub fn connect_as(node: &(impl Reachable + ?Sized), version: Version, id: &[u8]) -> Self {
        let options = |socket: &zmq::Socket| socket.set_identity(id);
        let socket = RawSocket::connect(node, &zmq::Context::new(), zmq::DEALER, options);
        Self { socket, version }
    }

    /// Connects with the receive high-water mark of a plain DEALER and a small receive buffer, so
    /// that replies wait at the node until they are read.
    #[must_use]
    pub fn connect_narrow(node: &(impl Reachable + ?Sized), version: Version) -> Self {
        let options = |socket: &zmq::Socket| {
            socket.set_rcvhwm(DEFAULT_HWM)?;
            socket.set_rcvbuf(NARROW_BUFFER_BYTES)
        };
        let socket = RawSocket::connect(node, &zmq::Context::new(), zmq::DEALER, options);
        Self { socket, version }
    }

    /// Sends a request with a body of one frame.
    pub fn request(&self, service: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        self.socket.send(&self.version.request(service, &[body.as_ref()]));
    }

    /// The next message must be the last reply of this service with this body.
    #[track_caller]
    pub fn expect_reply(&self, service: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        self.socket.expect(&self.version.reply(service, &[body.as_ref()]));
    }

    /// No reply may come.
    #[track_caller]
    pub fn expect_silence(&self) {
        self.socket.expect_silence(SILENCE);
    }

    /// Waits until the broker has taken everything that this client sent, by an `mmi.*` request
    /// after it: messages of one connection are read in order.
    #[track_caller]
    pub fn settle(&self) {
        assert_eq!(self.ask("mmi.settle", "-"), "501");
    }

    /// What an `mmi.*` service answers in one frame.
    #[track_caller]
    pub fn ask(&self, service: impl AsRef<[u8]>, argument: impl AsRef<[u8]>) -> String {
        self.request(&service, argument);
        let answer = self.socket.recv();
        let code = String::from_utf8(answer.last().unwrap().clone()).unwrap();
        assert_eq!(answer, self.version.reply(service, &[code.as_bytes()]));
        code
    }

    /// What `mmi.service` says about a service.
    #[track_caller]
    pub fn lookup(&self, service: impl AsRef<[u8]>) -> String {
        self.ask("mmi.service", service)
    }

    /// Waits until `mmi.service` says this about a service.
    #[track_caller]
    pub fn wait_for_lookup(&self, service: &str, code: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.lookup(service) != code {
            assert!(Instant::now() < deadline, "mmi.service never said {code} about {service}");
            self.socket.expect_silence(LOOK_AGAIN_AFTER);
        }
    }
}

/// A REQ socket, which adds and strips the empty frame of 0.1 by itself.
#[expect(missing_debug_implementations, reason = "zmq::Socket has none")]
pub struct ReqClient {
    socket: RawSocket,
}

impl ReqClient {
    /// A plain REQ.
    #[must_use]
    pub fn connect(node: &(impl Reachable + ?Sized)) -> Self {
        let context = zmq::Context::new();
        Self { socket: RawSocket::connect(node, &context, zmq::REQ, |_| Ok(())) }
    }

    /// A REQ that puts a request id in front of the empty frame and wants it back.
    #[must_use]
    pub fn correlated(node: &(impl Reachable + ?Sized)) -> Self {
        let context = zmq::Context::new();
        let options = |socket: &zmq::Socket| {
            socket.set_req_correlate(true)?;
            socket.set_req_relaxed(true)
        };
        Self { socket: RawSocket::connect(node, &context, zmq::REQ, options) }
    }

    /// Sends a request.
    pub fn request(&self, service: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        self.socket.send(&frames![b"MDPC01", service, body]);
    }

    /// The reply.
    #[must_use]
    #[track_caller]
    pub fn recv(&self) -> Message {
        self.socket.recv()
    }

    /// The next message must be this reply.
    #[track_caller]
    pub fn expect_reply(&self, service: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        self.socket.expect(&frames![b"MDPC01", service, body]);
    }
}
