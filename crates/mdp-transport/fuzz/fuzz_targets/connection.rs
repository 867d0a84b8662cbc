//! Arbitrary bytes, cut at arbitrary places, never stop a connection, never make it hold more than its
//! limits, and mean the same however they are cut.
//!
//! `cargo fuzz run --sanitizer none connection` in the folder of the crate.
#![no_main]

use std::{sync::LazyLock, time::Instant};

use libfuzzer_sys::fuzz_target;
use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, Introduction, LocalSocket, Side,
    SocketType,
};

/// Small, so that a fuzzer reaches them.
const MESSAGE_BYTES_MAX: usize = 40_000;
const MESSAGE_FRAMES_MAX: usize = 12;

/// One moment for all: nothing here depends on time.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Greeting and READY of a DEALER: without them a fuzzer hardly ever gets behind the handshake.
const DEALER: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\
\x08Identity\0\0\0\0";

type Outcome = (Vec<Event>, Option<Ending>, Vec<u8>);

/// Plays bytes to a new connection in pieces of one size.
fn play(bytes: &[u8], piece: usize) -> Outcome {
    let mut pool = BufferPool::default();
    let limits = ConnectionLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        message_frames_max: MESSAGE_FRAMES_MAX,
        ..ConnectionLimits::default()
    };
    let local = LocalSocket { socket_type: SocketType::Router, routing_id: &[] };
    let introduction = Introduction { side: Side::Accepting, local, limits };
    let mut connection = Connection::<()>::new(*NOW, &introduction, &mut pool);
    let mut events = Vec::new();
    let mut ending = None;
    for part in bytes.chunks(piece.max(1)) {
        let take = |event| {
            events.push(event);
            Flow::Continue
        };
        match connection.received(*NOW, part, &mut pool, take) {
            Ok(read) => assert_eq!(read, part.len()),
            Err(why) => {
                ending = Some(why);
                break;
            }
        }
        // Twice while a frame grows; 16 KiB of a cut frame; headers.
        let most = 2 * MESSAGE_BYTES_MAX + 2 * 16 * 1024 + 9 * MESSAGE_FRAMES_MAX;
        assert!(connection.input_bytes() <= most, "{}", connection.input_bytes());
    }
    let output = connection.output().iter().flat_map(|slice| slice.to_vec()).collect();
    (events, ending, output)
}

fuzz_target!(|data: &[u8]| {
    let [mode, piece, bytes @ ..] = data else { return };
    let mut stream = if mode % 2 == 0 { Vec::new() } else { DEALER.to_vec() };
    stream.extend_from_slice(bytes);
    assert_eq!(play(&stream, usize::from(*piece)), play(&stream, stream.len()));
});
