//! As `zmtp_echo`, with CURVE: a socket that sends every message back, the smallest shell around [`Transport`].
//!
//! `curve_echo` listens as a ROUTER with the secret key of 32 bytes 1; `curve_echo ADDRESS` connects as a
//! DEALER that knows that key's public half, with a secret key of 32 bytes 3. The only key that it admits is
//! the latter's. `tests/python/test_transport.py` talks to it.
#![expect(clippy::disallowed_methods, reason = "a shell has a clock and threads")]
#![expect(clippy::print_stdout, reason = "the test reads it")]

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, IdentityToken, KeyPair, Mechanisms, Message, PeerAddress,
    SecretKey, ServerKeys, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

type Port = Transport<()>;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a peer is silent until it is asked for a sign of life: short, for tests.
const PING_INTERVAL: Duration = Duration::from_millis(100);

fn server_key() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

fn client_key() -> SecretKey {
    SecretKey::from_bytes(&[3; 32])
}

fn main() -> io::Result<()> {
    if let Some(address) = std::env::args().nth(1) {
        let stream = TcpStream::connect(address)?;
        let keys = ClientKeys { own: client_key().into(), server: server_key().public() };
        let dial = |port: &mut Port, now, address| port.dialled_curve(now, address, &keys);
        println!("ended: {}", echo(stream, dial)?);
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            let outcome = echo(stream, |port, now, address| {
                let curve = Some(ServerKeys::new(server_key(), None));
                port.set_mechanisms(Mechanisms { null: false, curve });
                port.accepted(now, address)
            });
            match outcome {
                Ok(ending) => println!("ended: {ending}"),
                Err(error) => println!("failed: {error}"),
            }
        });
    }
    Ok(())
}

/// Serves one connection, and says how it ended.
fn echo(
    mut stream: TcpStream,
    begin: impl FnOnce(&mut Port, Instant, PeerAddress) -> Option<ConnectionId>,
) -> io::Result<String> {
    stream.set_nodelay(true)?;
    let mut limits = TransportLimits::default();
    limits.connection.ping_interval = PING_INTERVAL;
    let mut port = Port::new(Instant::now(), limits);
    port.seed(b"echo    ", &seed()?);
    let begun = begin(&mut port, Instant::now(), stream.peer_addr()?.into());
    let Some(id) = begun else { return Ok("there is no room".to_owned()) };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        write(&mut stream, &mut port)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok("the peer closed".to_owned()),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                &[]
            }
            Err(error) => return Err(error),
        };
        let mut messages = Vec::new();
        let now = Instant::now();
        port.received(now, id, read, |_, message| {
            messages.push(message);
            Flow::Continue
        });
        port.handle_timeout(now, |_| false);
        messages.iter().for_each(|message| send(&mut port, id, message));
        if let Some(ending) = take_events(&mut port, now) {
            write(&mut stream, &mut port)?;
            return Ok(ending);
        }
    }
}

/// Admits one key. Returns why the connection ended, if it did.
fn take_events(port: &mut Port, now: Instant) -> Option<String> {
    let known = KeyPair::from(client_key()).public();
    while let Some(event) = port.poll_event() {
        match event {
            TransportEvent::Opened { .. } => {}
            TransportEvent::Authenticate { id, key, is_last } => {
                let identity = (key == known).then_some(IdentityToken(1));
                port.authenticated(now, id, is_last, identity);
            }
            TransportEvent::Refused { why, .. } | TransportEvent::Lost { why, .. } => {
                return Some(why.to_string());
            }
        }
    }
    None
}

fn send(port: &mut Port, id: ConnectionId, message: &Message) {
    port.send(id, None, |writer| {
        let last = message.frames.len() - 1;
        for (at, frame) in message.frames.iter().enumerate() {
            let position = if at == last { Position::Last } else { Position::More };
            let Ok(()) = writer.put(Part::Frame(frame.clone()), position);
        }
    });
}

fn write(stream: &mut TcpStream, port: &mut Port) -> io::Result<()> {
    while let Some(id) = port.poll_writable() {
        while port.output_bytes(id) > 0 {
            let count = stream.write_vectored(&port.output(id))?;
            port.transmitted(Instant::now(), id, count);
        }
    }
    while let Some(closing) = port.poll_closing() {
        stream.write_all(&closing.output().iter().flat_map(|s| s.to_vec()).collect::<Vec<u8>>())?;
    }
    Ok(())
}

/// Randomness of the system.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
