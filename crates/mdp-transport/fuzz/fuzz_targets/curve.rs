//! A network that cuts, repeats, leaves out and alters the bytes of CURVE: what comes out of a connection is
//! a beginning of what its peer sent, and nothing else; what it holds stays within the limits.
//!
//! `cargo fuzz run --sanitizer none curve` in the folder of the crate.
#![no_main]

use std::{sync::LazyLock, time::Instant};

use libfuzzer_sys::fuzz_target;
use mdp_transport::{
    ClientKeys, ConnectionId, ConnectionLimits, Flow, IdentityToken, KeyPair, Mechanisms,
    PeerAddress, SecretKey, ServerKeys, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

/// The first moment of every run: inputs mean the same in each process.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const MESSAGE_BYTES_MAX: usize = 40_000;
/// Around each size at which something changes.
const SIZES: [usize; 8] = [0, 1, 222, 223, 4_096, 16_350, 16_384, 39_000];
/// A message is allocated up to twice while it grows.
const HELD_BYTES_MAX: usize = 3 * MESSAGE_BYTES_MAX;

struct End {
    port: Transport<u32>,
    id: ConnectionId,
    sent: Vec<usize>,
    received: Vec<usize>,
    is_over: bool,
    /// What waits in the network for the other end.
    wire: Vec<u8>,
}

fn limits() -> TransportLimits {
    let connection =
        ConnectionLimits { message_bytes_max: MESSAGE_BYTES_MAX, ..ConnectionLimits::default() };
    TransportLimits { connection, ..TransportLimits::default() }
}

impl End {
    fn new(
        seed: u8,
        begin: impl FnOnce(&mut Transport<u32>, PeerAddress) -> Option<ConnectionId>,
    ) -> Self {
        let address = PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut port = Transport::new(*START, limits());
        port.seed(b"fuzzing ", &[seed; 32]);
        let id = begin(&mut port, address).expect("there is room");
        Self { port, id, sent: Vec::new(), received: Vec::new(), is_over: false, wire: Vec::new() }
    }

    fn send(&mut self, size: usize) {
        if self.is_over || self.port.peer(self.id).is_none() {
            return;
        }
        self.sent.push(size);
        let body = vec![7; size];
        self.port.send(self.id, None, |writer| {
            let Ok(()) = writer.put(Part::Bytes(&body), Position::Last);
        });
    }

    fn write(&mut self) {
        while let Some(id) = self.port.poll_writable() {
            while self.port.output_bytes(id) > 0 {
                let count = {
                    let slices = self.port.output(id);
                    slices.iter().for_each(|slice| self.wire.extend_from_slice(slice));
                    slices.iter().map(|slice| slice.len()).sum()
                };
                self.port.transmitted(*START, id, count);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let received = &mut self.received;
        self.port.received(*START, self.id, bytes, |_, message| {
            received.push(message.frames.iter().map(|frame| frame.len()).sum());
            Flow::Continue
        });
        while let Some(event) = self.port.poll_event() {
            match event {
                TransportEvent::Opened { .. } => {}
                TransportEvent::Authenticate { id, is_last, .. } => {
                    self.port.authenticated(*START, id, is_last, Some(IdentityToken(1)));
                }
                TransportEvent::Refused { .. } | TransportEvent::Lost { .. } => {
                    self.is_over = true;
                }
            }
        }
        assert!(self.port.input_bytes(self.id) <= HELD_BYTES_MAX);
    }
}

fuzz_target!(|data: &[u8]| {
    let server_key = SecretKey::from_bytes(&[1; 32]);
    let own = KeyPair::from(SecretKey::from_bytes(&[3; 32]));
    let keys = ClientKeys { own, server: server_key.public() };
    let client = End::new(20, |port, address| port.dialled_curve(*START, address, &keys));
    let server = End::new(10, |port, address| {
        let curve = Some(ServerKeys::new(server_key, None));
        port.set_mechanisms(Mechanisms { null: true, curve });
        port.accepted(*START, address)
    });
    let mut ends = [client, server];
    for pair in data.chunks_exact(2) {
        let (way, argument) = (usize::from(pair[0] & 1), usize::from(pair[1]));
        let [first, second] = &mut ends;
        let (from, to) = if way == 0 { (first, second) } else { (second, first) };
        from.write();
        let count = (argument + 1) * if pair[0] & 0x80 == 0 { 1 } else { 256 };
        let count = count.min(from.wire.len());
        match pair[0] >> 1 & 7 {
            0 | 1 => {
                let bytes: Vec<u8> = from.wire.drain(..).collect();
                to.receive(&bytes);
            }
            2 => {
                let bytes: Vec<u8> = from.wire.drain(..count).collect();
                to.receive(&bytes);
            }
            3 => from.send(SIZES[argument % SIZES.len()]),
            4 => drop(from.wire.drain(..count)),
            5 => {
                if let Some(byte) = from.wire.get_mut(argument) {
                    *byte ^= 1 << (pair[0] >> 4 & 7);
                }
            }
            6 => {
                let again = from.wire[..count].to_vec();
                from.wire.splice(..0, again);
            }
            _ => from.wire.insert(argument.min(from.wire.len()), pair[0]),
        }
    }
    let [client, server] = &ends;
    assert!(client.sent.starts_with(&server.received), "the server got what was not sent");
    assert!(server.sent.starts_with(&client.received), "the client got what was not sent");
});
