//! CURVE: each side dials and accepts. What omq draws at random differs from run to run.

use std::time::Instant;

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, IdentityToken, KeyPair, Mechanisms, PeerAddress, PublicKey,
    SecretKey, ServerKeys, SharedFrame, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};
use omq_proto::{
    CurveKeypair, CurvePublicKey, CurveSecretKey, CurveServerOptions, MechanismSetup,
    proto::connection as omq,
};

use crate::pair::{Frames, body, first_bytes};

const SIZES: [usize; 16] =
    [0, 1, 30, 31, 32, 222, 223, 255, 256, 4_063, 4_096, 16_350, 16_351, 16_384, 65_503, 65_537];

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn omq_keys(number: u8) -> CurveKeypair {
    let public = CurvePublicKey::from_bytes(*secret(number).public().as_bytes());
    CurveKeypair { public, secret: CurveSecretKey::from_bytes([number; 32]) }
}

struct Pair {
    now: Instant,
    port: Transport<u32>,
    id: ConnectionId,
    omq: omq::Connection,
    keys: Vec<PublicKey>,
    messages: Vec<Frames>,
    omq_messages: Vec<Frames>,
    ended: Option<&'static str>,
    piece: usize,
}

impl Pair {
    fn new(
        role: omq::Role,
        mechanism: MechanismSetup,
        begin: impl FnOnce(&mut Transport<u32>, Instant, PeerAddress) -> Option<ConnectionId>,
    ) -> Self {
        let now = Instant::now();
        let mut port = Transport::new(now, TransportLimits::default());
        port.seed(b"omq     ", &[42; 32]);
        let address = PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let id = begin(&mut port, now, address).unwrap();
        let mut config = omq::ConnectionConfig::new(role, omq_proto::SocketType::Router);
        config.mechanism = mechanism;
        let omq = omq::Connection::new(config);
        let (messages, omq_messages, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { now, port, id, omq, keys, messages, omq_messages, ended: None, piece: usize::MAX }
    }

    /// We accept, with key number 1; omq has number 3.
    fn accepting(server: u8) -> Self {
        let our_keypair = omq_keys(3);
        let server_public = omq_keys(server).public;
        let mechanism = MechanismSetup::CurveClient { our_keypair, server_public };
        Self::new(omq::Role::Client, mechanism, |port, now, address| {
            let curve = Some(ServerKeys::new(secret(1), None));
            port.set_mechanisms(Mechanisms { null: false, curve });
            port.accepted(now, address)
        })
    }

    /// We dial, with key number 3; omq has number 1.
    fn dialling() -> Self {
        let options = CurveServerOptions::new();
        let mechanism = MechanismSetup::CurveServer { our_keypair: omq_keys(1), options };
        Self::new(omq::Role::Server, mechanism, |port, now, address| {
            let keys = ClientKeys { own: KeyPair::from(secret(3)), server: secret(1).public() };
            port.dialled_curve(now, address, &keys)
        })
    }

    fn exchange(&mut self) {
        while self.ended.is_none()
            && (self.port.output_bytes(self.id) > 0 || self.omq.has_pending_transmit())
        {
            let bytes = first_bytes(&self.port.output(self.id), self.piece);
            self.port.transmitted(self.now, self.id, bytes.len());
            self.omq.handle_input(bytes.into()).unwrap();
            while let Some(message) = self.omq.poll_message() {
                self.omq_messages.push(message.iter().map(|frame| frame.to_vec()).collect());
            }
            let bytes = first_bytes(&self.omq.transmit_chunks_capped(64), self.piece);
            self.omq.advance_transmit(bytes.len());
            let messages = &mut self.messages;
            self.port.received(self.now, self.id, &bytes, |_, message| {
                messages.push(message.frames.iter().map(|f| f.as_ref().to_vec()).collect());
                Flow::Continue
            });
            self.take_events();
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.port.poll_event() {
            match event {
                TransportEvent::Opened { .. } => {}
                TransportEvent::Authenticate { id, key, is_last } => {
                    self.keys.push(key);
                    self.port.authenticated(self.now, id, is_last, Some(IdentityToken(1)));
                }
                TransportEvent::Refused { why, .. } | TransportEvent::Lost { why, .. } => {
                    self.ended = Some(why.label());
                }
            }
        }
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        self.port.send(self.id, None, |writer| {
            for (at, frame) in frames.iter().enumerate() {
                let last = at + 1 == frames.len();
                let position = if last { Position::Last } else { Position::More };
                let Ok(()) = writer.put(Part::Frame(SharedFrame::from(frame.clone())), position);
            }
        });
    }

    fn omq_send(&mut self, frames: &[Vec<u8>]) {
        self.omq.send_message(&omq_proto::Message::multipart(frames.iter().cloned())).unwrap();
    }
}

#[test]
fn frames_of_every_size_arrive_whoever_dials_and_wherever_they_are_cut() {
    for piece in [usize::MAX, 1_000, 7] {
        for mut pair in [Pair::accepting(1), Pair::dialling()] {
            pair.piece = piece;
            pair.exchange();
            assert!(pair.omq.is_ready() && pair.port.peer(pair.id).is_some());
            let messages: Vec<Frames> =
                SIZES.into_iter().map(|size| vec![body(size), vec![], body(size / 3)]).collect();
            for message in &messages {
                pair.send(message);
                pair.omq_send(message);
            }
            pair.exchange();
            assert_eq!(pair.ended, None);
            assert!(pair.messages == messages && pair.omq_messages == messages, "{piece}");
        }
    }
}

#[test]
fn key_of_omq_is_the_one_that_it_has() {
    let mut pair = Pair::accepting(1);
    pair.exchange();
    assert_eq!(pair.keys, [secret(3).public()]);
}

#[test]
fn omq_that_knows_another_server_key_is_refused() {
    let mut pair = Pair::accepting(9);
    pair.exchange();
    assert_eq!(pair.ended, Some("curve_server_key"));
}
