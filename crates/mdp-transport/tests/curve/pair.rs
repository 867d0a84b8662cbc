//! Two ports, and the bytes between them.

use std::time::{Duration, Instant};

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, FrameHeader, IdentityToken, KeyPair, Loss, Mechanisms,
    ParsedHeader, PeerAddress, PublicKey, SecretKey, ServerKeys, SharedFrame, Transport,
    TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

pub(crate) type Port = Transport<u32>;
pub(crate) type Frames = Vec<Vec<u8>>;

pub(crate) const GREETING_BYTES: usize = 64;
/// What is said of a key that is known.
pub(crate) const KNOWN: IdentityToken = IdentityToken(7);

/// One port with one connection.
pub(crate) struct End {
    pub(crate) port: Port,
    pub(crate) id: ConnectionId,
    pub(crate) messages: Vec<Frames>,
    pub(crate) events: Vec<TransportEvent<u32>>,
}

pub(crate) fn address() -> PeerAddress {
    PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
}

pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// The server's keys are number 1 and, while they are rotated, number 2; the client's is number 3.
pub(crate) fn server_key() -> PublicKey {
    secret(1).public()
}

pub(crate) fn client_key() -> PublicKey {
    secret(3).public()
}

pub(crate) fn client_keys(server: PublicKey) -> ClientKeys {
    ClientKeys { own: KeyPair::from(secret(3)), server }
}

pub(crate) fn port(now: Instant, seed: u8, limits: TransportLimits) -> Port {
    let mut port = Port::new(now, limits);
    // What libzmq answered is recorded under this label.
    port.seed(&[0; 8], &[seed; 32]);
    port
}

impl End {
    /// A port that allows some mechanisms, and a peer that connects to it.
    pub(crate) fn accepting(now: Instant, seed: u8, mechanisms: Mechanisms) -> Self {
        Self::accepting_with(now, seed, mechanisms, TransportLimits::default())
    }

    pub(crate) fn accepting_with(
        now: Instant,
        seed: u8,
        mechanisms: Mechanisms,
        limits: TransportLimits,
    ) -> Self {
        let mut port = port(now, seed, limits);
        port.set_mechanisms(mechanisms);
        let id = port.accepted(now, address()).unwrap();
        Self::new(port, id)
    }

    /// A port that connects with CURVE.
    pub(crate) fn dialling(now: Instant, seed: u8, keys: &ClientKeys) -> Self {
        let mut port = port(now, seed, TransportLimits::default());
        let id = port.dialled_curve(now, address(), keys).unwrap();
        Self::new(port, id)
    }

    pub(crate) fn new(port: Port, id: ConnectionId) -> Self {
        Self { port, id, messages: Vec::new(), events: Vec::new() }
    }

    /// Another connection of the same port.
    pub(crate) fn accept_another(&mut self, now: Instant) {
        self.id = self.port.accepted(now, address()).unwrap();
    }

    /// All that waits to be written to the connection, last words included.
    pub(crate) fn written(&mut self, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(id) = self.port.poll_writable() {
            while self.port.output_bytes(id) > 0 {
                let piece = self.port.output(id).concat_bytes();
                self.port.transmitted(now, id, piece.len());
                if id == self.id {
                    bytes.extend(piece);
                }
            }
        }
        while let Some(closing) = self.port.poll_closing() {
            if closing.id == self.id {
                bytes.extend(closing.output().concat_bytes());
            }
        }
        bytes
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let messages = &mut self.messages;
        let taken = self.port.received(now, self.id, bytes, |_, message| {
            messages.push(message.frames.iter().map(|frame| frame.as_ref().to_vec()).collect());
            Flow::Continue
        });
        assert_eq!(taken, bytes.len());
        self.take_events();
    }

    pub(crate) fn take_events(&mut self) {
        while let Some(event) = self.port.poll_event() {
            self.events.push(event);
        }
    }

    pub(crate) fn send(&mut self, frames: &[Vec<u8>]) {
        self.port.send(self.id, None, |writer| {
            for (at, frame) in frames.iter().enumerate() {
                let last = at + 1 == frames.len();
                let position = if last { Position::Last } else { Position::More };
                let frame = SharedFrame::from(frame.clone());
                let Ok(()) = writer.put(Part::Frame(frame), position);
            }
        });
    }

    /// Answers what is asked about a key.
    pub(crate) fn answer(&mut self, now: Instant, identity: Option<IdentityToken>) {
        let mut asked = None;
        self.events.retain(|event| match event {
            TransportEvent::Authenticate { id, is_last, .. } if *id == self.id => {
                asked = Some(*is_last);
                false
            }
            TransportEvent::Opened { .. }
            | TransportEvent::Authenticate { .. }
            | TransportEvent::Refused { .. }
            | TransportEvent::Lost { .. } => true,
        });
        if let Some(is_last) = asked {
            self.port.authenticated(now, self.id, is_last, identity);
            self.take_events();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.events.iter().any(|event| matches!(event, TransportEvent::Opened { .. }))
    }

    /// Why the connection ended, as a word for metrics; `None`: it did not.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        self.loss().map(Loss::label)
    }

    pub(crate) fn loss(&self) -> Option<&Loss> {
        self.events.iter().find_map(|event| match event {
            TransportEvent::Refused { id, why, .. } | TransportEvent::Lost { id, why, .. }
                if *id == self.id =>
            {
                Some(why)
            }
            TransportEvent::Opened { .. }
            | TransportEvent::Authenticate { .. }
            | TransportEvent::Refused { .. }
            | TransportEvent::Lost { .. } => None,
        })
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for mdp_transport::OutputSlices<'_> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.to_vec()).collect()
    }
}

/// A client and a server.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    /// All that passed: from the client, and to it.
    pub(crate) passed: [Vec<u8>; 2],
    /// The lengths of the pieces in which bytes pass, again and again.
    pub(crate) pieces: Vec<usize>,
    next_piece: usize,
}

pub(crate) fn curve_only() -> Mechanisms {
    Mechanisms { null: false, curve: Some(ServerKeys::new(secret(1), None)) }
}

pub(crate) fn mixed() -> Mechanisms {
    Mechanisms { null: true, ..curve_only() }
}

impl Pair {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let server = End::accepting(now, 10, curve_only());
        let client = End::dialling(now, 20, &client_keys(server_key()));
        Self::of(now, client, server)
    }

    pub(crate) fn of(now: Instant, client: End, server: End) -> Self {
        let passed = Default::default();
        Self { now, client, server, passed, pieces: vec![usize::MAX], next_piece: 0 }
    }

    /// After the handshake.
    pub(crate) fn open() -> Self {
        let mut pair = Self::new();
        pair.exchange();
        assert!(pair.client.is_open() && pair.server.is_open());
        pair
    }

    /// Lets bytes pass until there are none. Keys are known.
    pub(crate) fn exchange(&mut self) {
        loop {
            let from_client = self.client.written(self.now);
            let from_server = self.server.written(self.now);
            if from_client.is_empty() && from_server.is_empty() {
                return;
            }
            self.passed[0].extend_from_slice(&from_client);
            self.passed[1].extend_from_slice(&from_server);
            for piece in self.cut(&from_client) {
                self.server.receive(self.now, &piece);
                self.server.answer(self.now, Some(KNOWN));
            }
            for piece in self.cut(&from_server) {
                self.client.receive(self.now, &piece);
            }
        }
    }

    fn cut(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let length = self.pieces[self.next_piece % self.pieces.len()].clamp(1, bytes.len());
            self.next_piece += 1;
            pieces.push(bytes[..length].to_vec());
            bytes = &bytes[length..];
        }
        pieces
    }

    /// What the client has written since, taken off the wire.
    pub(crate) fn intercept(&mut self) -> Vec<u8> {
        self.client.written(self.now)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.port.handle_timeout(self.now, |_| false);
        self.server.port.handle_timeout(self.now, |_| false);
        self.client.take_events();
        self.server.take_events();
    }
}

/// The frames on a wire, with their headers.
pub(crate) fn wire_frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let ParsedHeader::Complete(header, length) = FrameHeader::parse(bytes) else {
            panic!("no frame: {bytes:?}");
        };
        let (frame, rest) = bytes.split_at(length + usize::try_from(header.size).unwrap());
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
