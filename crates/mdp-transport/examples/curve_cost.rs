//! What CURVE costs: `cargo run --release -p mdp-transport --example curve_cost`.
//!
//! It prints nanoseconds for the server's side of a handshake (both computations), and for messages of one
//! frame: encrypted, decrypted, and the same without encryption (NULL). The best of several runs each.
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::{Duration, Instant};

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, IdentityToken, KeyPair, Mechanisms, PeerAddress, SecretKey,
    ServerKeys, SharedFrame, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

type Port = Transport<u32>;

const RUNS: usize = 9;

/// One port with one connection.
struct End {
    port: Port,
    id: ConnectionId,
}

/// What the handshake's computations took.
#[derive(Default)]
struct Spent {
    hello: Duration,
    initiate: Duration,
}

fn main() {
    handshake();
    for size in [64, 1_024, 16 << 10, 1 << 20] {
        for is_encrypted in [false, true] {
            messages(size, is_encrypted);
        }
    }
}

fn handshake() {
    let mut best = Spent { hello: Duration::MAX, initiate: Duration::MAX };
    for _ in 0..100 {
        let (_, spent) = open(true);
        best.hello = best.hello.min(spent.hello);
        best.initiate = best.initiate.min(spent.initiate);
    }
    println!("handshake, server: HELLO {} ns", best.hello.as_nanos());
    println!("handshake, server: INITIATE {} ns", best.initiate.as_nanos());
}

fn messages(size: usize, is_encrypted: bool) {
    let count = ((8 << 20) / size).clamp(8, 10_000);
    let frame = SharedFrame::from(vec![7; size]);
    let (mut sending, mut receiving) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let ((mut client, mut server), _) = open(is_encrypted);
        let (mut sent, mut received) = (Duration::ZERO, Duration::ZERO);
        let now = Instant::now();
        for _ in 0..count {
            let begin = Instant::now();
            client.port.send(client.id, None, |writer| {
                let Ok(()) = writer.put(Part::Frame(frame.clone()), Position::Last);
            });
            sent += begin.elapsed();
            let bytes = written(&mut client, now);
            let begin = Instant::now();
            // As a shell reads it.
            for piece in bytes.chunks(64 << 10) {
                server.port.received(now, server.id, piece, |_, _| Flow::Continue);
            }
            received += begin.elapsed();
        }
        sending = sending.min(sent);
        receiving = receiving.min(received);
    }
    let name = if is_encrypted { "CURVE" } else { "NULL" };
    let cost = |spent: Duration| {
        let nanoseconds = spent.as_nanos() / u128::try_from(count).unwrap_or(1);
        let bytes = u128::try_from(size).unwrap_or(0);
        let megabytes = bytes * 1_000 / nanoseconds.max(1);
        format!("{nanoseconds:>8} ns {:>3}.{:02} GB/s", megabytes / 1_000, megabytes % 1_000 / 10)
    };
    println!("{size:>8} bytes, {name:<5}: sent {}, received {}", cost(sending), cost(receiving));
}

/// Two ports after their handshake.
fn open(is_encrypted: bool) -> ((End, End), Spent) {
    let now = Instant::now();
    let address = PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let server_key = SecretKey::from_bytes(&[1; 32]);
    let own = KeyPair::from(SecretKey::from_bytes(&[3; 32]));
    let keys = ClientKeys { own, server: server_key.public() };
    let mut client = Port::new(now, TransportLimits::default());
    client.seed(b"client  ", &[20; 32]);
    let dialled = if is_encrypted {
        client.dialled_curve(now, address, &keys)
    } else {
        client.dialled(now, address)
    };
    let mut server = Port::new(now, TransportLimits::default());
    server.seed(b"server  ", &[10; 32]);
    let curve = Some(ServerKeys::new(server_key, None));
    server.set_mechanisms(Mechanisms { null: true, curve });
    server.set_jobs_outside(true);
    let accepted = server.accepted(now, address);
    let (Some(dialled), Some(accepted)) = (dialled, accepted) else {
        std::process::abort();
    };
    let mut client = End { port: client, id: dialled };
    let mut server = End { port: server, id: accepted };
    let mut spent = Spent::default();
    for step in 0..6 {
        let bytes = written(&mut client, now);
        server.port.received(now, server.id, &bytes, |_, _| Flow::Continue);
        while let Some(job) = server.port.poll_job() {
            let begin = Instant::now();
            let result = job.run();
            let place = if step < 2 { &mut spent.hello } else { &mut spent.initiate };
            *place = begin.elapsed();
            server.port.job_done(now, result);
        }
        while let Some(event) = server.port.poll_event() {
            if let TransportEvent::Authenticate { id, is_last, .. } = event {
                server.port.authenticated(now, id, is_last, Some(IdentityToken(1)));
            }
        }
        let bytes = written(&mut server, now);
        client.port.received(now, client.id, &bytes, |_, _| Flow::Continue);
    }
    ((client, server), spent)
}

/// All that waits to be written.
fn written(end: &mut End, now: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(id) = end.port.poll_writable() {
        while end.port.output_bytes(id) > 0 {
            let count: usize = {
                let slices = end.port.output(id);
                slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
                slices.iter().map(|slice| slice.len()).sum()
            };
            end.port.transmitted(now, id, count);
        }
    }
    bytes
}
