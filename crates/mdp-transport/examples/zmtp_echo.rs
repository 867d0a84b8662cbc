//! A socket that sends every message back: the smallest shell around [`Connection`].
//!
//! `zmtp_echo` listens as a ROUTER, `zmtp_echo ADDRESS` connects as a DEALER whose routing id is `echo`.
//! It prints where it listens, and how each connection ends. `tests/python/test_transport.py` talks to it.
#![expect(clippy::disallowed_methods, reason = "a shell has a clock and threads")]
#![expect(clippy::print_stdout, reason = "the test reads it")]

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Event, Flow, Introduction, LocalSocket, Message,
    Side, SocketType,
};
use mdp_wire::{FrameSink as _, Part, Position};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a peer is silent until it is asked for a sign of life: short, for tests.
const PING_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    if let Some(address) = std::env::args().nth(1) {
        let local = LocalSocket { socket_type: SocketType::Dealer, routing_id: b"echo" };
        println!("ended: {}", echo(TcpStream::connect(address)?, Side::Dialling, local)?);
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            let local = LocalSocket { socket_type: SocketType::Router, routing_id: &[] };
            match echo(stream, Side::Accepting, local) {
                Ok(ending) => println!("ended: {ending}"),
                Err(error) => println!("failed: {error}"),
            }
        });
    }
    Ok(())
}

/// Serves one connection, and says how it ended.
fn echo(mut stream: TcpStream, side: Side, local: LocalSocket<'_>) -> io::Result<String> {
    stream.set_nodelay(true)?;
    let limits = ConnectionLimits { ping_interval: PING_INTERVAL, ..ConnectionLimits::default() };
    let mut pool = BufferPool::default();
    let introduction = Introduction { side, local, limits };
    let mut connection = Connection::new(Instant::now(), &introduction, &mut pool);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        write(&mut stream, &mut connection, &mut pool)?;
        let due = connection.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        stream.set_read_timeout(due.map(|wait| wait.max(Duration::from_millis(1))))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok("the peer closed".to_owned()),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                &[]
            }
            Err(error) => return Err(error),
        };
        let mut messages = Vec::new();
        let take = |event| {
            if let Event::Message(message) = event {
                messages.push(message);
            }
            Flow::Continue
        };
        let now = Instant::now();
        let outcome = connection
            .received(now, read, &mut pool, take)
            .and_then(|_| connection.handle_timeout(now, &mut pool));
        if let Err(ending) = outcome {
            // It tells the peer why.
            write(&mut stream, &mut connection, &mut pool)?;
            return Ok(ending.to_string());
        }
        messages.iter().for_each(|message| send(&mut connection, message, &mut pool));
    }
}

fn send(connection: &mut Connection<()>, message: &Message, pool: &mut BufferPool) {
    let mut writer = connection.message(None, pool);
    let last = message.frames.len() - 1;
    for (at, frame) in message.frames.iter().enumerate() {
        let position = if at == last { Position::Last } else { Position::More };
        let Ok(()) = writer.put(Part::Frame(frame.clone()), position);
    }
}

fn write(
    stream: &mut TcpStream,
    connection: &mut Connection<()>,
    pool: &mut BufferPool,
) -> io::Result<()> {
    while connection.output_bytes() > 0 {
        let slices = connection.output();
        let count = stream.write_vectored(&slices)?;
        drop(slices);
        connection.transmitted(Instant::now(), count, pool);
    }
    Ok(())
}
