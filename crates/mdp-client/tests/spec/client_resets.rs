//! A broker that streams, stalls and resets its connection. With ZMTP pings and a receive limit in one
//! socket libzmq would abort this process (docs/decisions/0017).

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use mdp_client::{Client, Version};
use socket2::SockRef;

use crate::support::{client_options, frames};

/// How long the server waits before it resets: more than any interval of pings or keep-alive.
const STALL: Duration = Duration::from_millis(2_500);

const ROUNDS: usize = 2;

/// How long it may take to fill all buffers, to stall and to reset.
const RESET_WITHIN: Duration = Duration::from_secs(60);

/// The frames of one reply, longer than the buffers of a connection if there are some thousands.
const STREAMED: [&[u8]; 4] = [b"", b"MDPC01", b"echo", &[b'x'; 1_000]];

/// A ZMTP 3.1 frame. Sizes up to 255 bytes have one byte, others eight.
fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(size) => vec![flags, size],
        Err(_) => [vec![flags | 2], (body.len() as u64).to_be_bytes().to_vec()].concat(),
    };
    bytes.extend_from_slice(body);
    bytes
}

fn message(frames: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let last = frames.len() - 1;
    let flags = |place| u8::from(place < last);
    let frames = frames.iter().enumerate();
    frames.flat_map(|(place, body)| frame(flags(place), body.as_ref())).collect()
}

fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0] & 2, 0, "a long frame");
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// The next message that is none of ZMTP's own.
fn read_message(stream: &mut TcpStream) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let (flags, body) = read_frame(stream);
        if flags & 4 != 0 {
            continue;
        }
        frames.push(body);
        if flags & 1 == 0 {
            return frames;
        }
    }
}

/// The handshake of a ROUTER without security.
fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10..12].copy_from_slice(&[3, 1]);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0";
    stream.write_all(&frame(4, ready)).unwrap();
    let (flags, _) = read_frame(&mut stream);
    assert_eq!(flags, 4, "READY of the client");
    stream
}

/// Sends replies until the client takes no more.
fn stream_replies(stream: &mut TcpStream) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let replies = message(&STREAMED).repeat(100);
    // More than the receive limit and all buffers: 200 MB.
    let stopped = (0..2_000).find_map(|_| stream.write_all(&replies).err());
    let kind = stopped.expect("the client has a receive limit").kind();
    assert!(matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{kind:?}");
}

#[test]
fn broker_that_streams_stalls_and_resets_does_no_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let (reset, was_reset) = mpsc::channel();
    let (go, may_stream) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        for _ in 0..ROUNDS {
            let mut stream = accept(&listener);
            let request = read_message(&mut stream);
            stream.write_all(&message(&request)).unwrap();
            // Not earlier: a client that reads replies which it has not asked for leaves.
            may_stream.recv_timeout(RESET_WITHIN).unwrap();
            stream_replies(&mut stream);
            thread::sleep(STALL);
            // Closed with a linger of zero, TCP resets the connection.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            reset.send(()).unwrap();
        }
        let mut stream = accept(&listener);
        let request = read_message(&mut stream);
        stream.write_all(&message(&request)).unwrap();
        stream
    });
    let options = client_options(Version::V01, &[&endpoint]).timeout(Duration::from_secs(20));
    let mut client = Client::connect(options).unwrap();

    for _ in 0..ROUNDS {
        assert_eq!(client.call("echo", "x").unwrap().frames, frames![b"x"]);
        // The socket is not read between two calls.
        go.send(()).unwrap();
        was_reset.recv_timeout(RESET_WITHIN).unwrap();
    }
    // What was streamed is no answer to this request.
    let reply = client.call("echo", "last").unwrap();

    assert_eq!(reply.frames, frames![b"last"]);
    drop(server.join().unwrap());
}
