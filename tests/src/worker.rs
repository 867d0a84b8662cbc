//! Raw workers.

use std::time::{Duration, Instant};

use crate::{Message, PATIENCE, RawSocket, Reachable, SILENCE, Version, frames};

/// A DEALER that speaks as a worker of one version. It sends only what a test tells it to.
#[expect(missing_debug_implementations, reason = "zmq::Socket has none")]
pub struct RawWorker {
    /// The socket, for messages that are no commands.
    pub socket: RawSocket,
    /// The version of its commands.
    pub version: Version,
}

impl RawWorker {
    /// Connects and says nothing.
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

    /// Connects, registers, and takes the HEARTBEAT that acknowledges it.
    #[must_use]
    #[track_caller]
    pub fn register(
        node: &(impl Reachable + ?Sized),
        version: Version,
        service: impl AsRef<[u8]>,
    ) -> Self {
        let worker = Self::connect(node, version);
        worker.ready(service);
        worker.expect_heartbeat();
        worker
    }

    /// Sends READY.
    pub fn ready(&self, service: impl AsRef<[u8]>) {
        self.socket.send(&self.version.ready(service));
    }

    /// Sends HEARTBEAT.
    pub fn heartbeat(&self) {
        self.socket.send(&self.version.heartbeat());
    }

    /// Sends DISCONNECT.
    pub fn disconnect(&self) {
        self.socket.send(&self.version.disconnect());
    }

    /// Sends REPLY or FINAL with a body of one frame.
    pub fn answer(&self, address: &[u8], body: impl AsRef<[u8]>) {
        self.socket.send(&self.version.answer(address, &[body.as_ref()]));
    }

    /// Sends PARTIAL with a body of one frame.
    pub fn partial(&self, address: &[u8], body: impl AsRef<[u8]>) {
        self.socket.send(&self.version.partial(address, &[body.as_ref()]));
    }

    /// The next message must be HEARTBEAT.
    #[track_caller]
    pub fn expect_heartbeat(&self) {
        self.socket.expect(&self.version.heartbeat());
    }

    /// The next message must be DISCONNECT.
    #[track_caller]
    pub fn expect_disconnect(&self) {
        self.socket.expect(&self.version.disconnect());
    }

    /// The next message but HEARTBEATs must be DISCONNECT.
    #[track_caller]
    pub fn expect_disconnect_after_heartbeats(&self) {
        assert_eq!(self.recv_command(PATIENCE), Some(self.version.disconnect()));
    }

    /// The next message must be a REQUEST with a body of this one frame; the client address in it.
    #[must_use]
    #[track_caller]
    pub fn expect_work(&self, body: impl AsRef<[u8]>) -> Vec<u8> {
        self.address_of(&self.socket.recv(), body.as_ref())
    }

    /// As [`Self::expect_work`], over HEARTBEATs.
    #[must_use]
    #[track_caller]
    pub fn expect_work_after_heartbeats(&self, body: impl AsRef<[u8]>) -> Vec<u8> {
        let message = self.recv_command(PATIENCE);
        self.address_of(&message.unwrap_or_else(|| panic!("no work")), body.as_ref())
    }

    /// The next message that is not HEARTBEAT.
    #[must_use]
    pub fn recv_command(&self, patience: Duration) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.socket.recv_within(left)?;
            if message != self.version.heartbeat() {
                return Some(message);
            }
        }
    }

    #[track_caller]
    fn address_of(&self, message: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
        let at = match self.version {
            Version::V01 => 3,
            Version::V02 => 2,
        };
        let address = message.get(at).cloned().unwrap_or_default();
        assert_eq!(message, self.version.work(&address, &[body]), "not that REQUEST");
        address
    }

    /// Takes the next request, which must have this body, and answers it with that body.
    #[track_caller]
    pub fn serve(&self, body: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        let address = self.expect_work(body);
        self.answer(&address, answer);
    }

    /// Nothing may come.
    #[track_caller]
    pub fn expect_silence(&self) {
        self.socket.expect_silence(SILENCE);
    }

    /// Waits until the broker has taken everything that this worker sent; nothing else may come
    /// meanwhile. A worker's connection may ask as a client too, and messages of one connection
    /// are read in order.
    #[track_caller]
    pub fn settle(&self) {
        self.socket.send(&frames![b"", b"MDPC01", b"mmi.settle", b"-"]);
        self.socket.expect(&frames![b"", b"MDPC01", b"mmi.settle", b"501"]);
    }

    /// As [`Self::settle`], whatever else comes before the answer; whether it came in time.
    #[must_use]
    pub fn settles_within(&self, patience: Duration) -> bool {
        self.socket.send(&frames![b"", b"MDPC01", b"mmi.settle", b"-"]);
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        let answer = frames![b"", b"MDPC01", b"mmi.settle", b"501"];
        std::iter::from_fn(|| self.socket.recv_within(left())).any(|message| message == answer)
    }
}
