//! What one input of the fuzzer asks for.

use std::{sync::LazyLock, time::Duration};

use mdp_transport::{Side, SocketType};

/// How much a script may ask for, so that a run stays short.
const STREAM_BYTES_MAX: usize = 48 * 1024;

const GREETING: &[u8] =
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Where the minor version stands.
const MINOR: usize = 11;
const READY: [&[u8]; 4] = [
    b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0",
    b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0",
    b"\x04\x28\x05READY\x0bSocket-Type\0\0\0\x03REQ\x08Identity\0\0\0\x02ab",
    b"\x04\x19\x05READY\x0bsocket-type\0\0\0\x03PUB",
];
const COMMANDS: [&[u8]; 6] = [
    b"\x04\x07\x04PING\0\x05",
    b"\x04\x0e\x04PING\0\0context",
    b"\x04\x05\x04PONG",
    b"\x04\x09\x05ERROR\x02no",
    b"\x04\x0a\x09SUBSCRIBE",
    b"\x04\x05\x04PING",
];
/// Around each size at which something changes.
const SIZES: [usize; 16] = [
    0, 1, 2, 254, 255, 256, 257, 1_023, 1_024, 4_096, 16_383, 16_384, 16_385, 20_000, 39_999,
    40_001,
];

/// What frames are filled with; made once, for loops are slow under a fuzzer.
static BODY: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..SIZES[15]).map(|at| (at % 251) as u8).collect());

/// The bytes of a peer, and what happens while they come.
pub(crate) struct Script {
    pub(crate) side: Side,
    pub(crate) socket_type: SocketType,
    pub(crate) message_bytes_max: usize,
    pub(crate) message_frames_max: usize,
    /// Whether everything is written at the end.
    pub(crate) drains: bool,
    pub(crate) stream: Vec<u8>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// Some more of the stream comes.
    Receive(usize),
    /// The reader stops at the next event.
    StopAtNext,
    /// A message of two frames leaves.
    Send([usize; 2]),
    /// The kernel takes some of the output.
    Transmit(usize),
    Pass(Duration),
    RequirePong(bool),
}

impl Script {
    /// Mode, limits, count of steps, steps, stream.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let [mode, limits, count, rest @ ..] = data else { return None };
        let (steps, stream) = rest.split_at_checked(usize::from(*count % 32))?;
        let mut bytes = Vec::new();
        // Without a handshake a fuzzer hardly ever gets behind it.
        if mode & 1 == 0 {
            put_greeting(&mut bytes, u8::from(mode & 2 == 0));
            if mode & 4 == 0 {
                bytes.extend_from_slice(READY[usize::from(mode >> 3 & 1)]);
            }
        }
        if mode & 16 == 0 {
            expand(stream, &mut bytes)
        } else {
            bytes.extend_from_slice(stream)
        }
        let kinds = [SocketType::Router, SocketType::Dealer, SocketType::Req, SocketType::Router];
        Some(Self {
            side: if mode & 32 == 0 { Side::Accepting } else { Side::Dialling },
            socket_type: kinds[usize::from(mode >> 6)],
            message_bytes_max: [40_000, 20_000, 300, 0][usize::from(limits & 3)],
            message_frames_max: [12, 3, 1, 2][usize::from(limits >> 2 & 3)],
            drains: limits & 16 == 0,
            stream: bytes,
            steps: steps.iter().map(|byte| Step::parse(*byte)).collect(),
        })
    }
}

impl Step {
    fn parse(byte: u8) -> Self {
        let argument = usize::from(byte >> 4);
        match byte & 15 {
            0..=3 => Self::Receive(argument + 1),
            4 | 5 => Self::Receive(16 * argument + usize::from(byte & 1)),
            6 | 7 => Self::Receive(1 + SIZES[argument]),
            8 => Self::StopAtNext,
            9 | 10 => Self::Send([SIZES[argument], SIZES[usize::from(byte & 15)]]),
            11 => Self::Transmit(argument),
            12 => Self::Transmit(SIZES[argument]),
            13 => Self::Pass(Duration::from_millis(1 << argument)),
            14 => Self::Pass(Duration::from_secs(argument as u64)),
            _ => Self::RequirePong(argument & 1 == 0),
        }
    }
}

/// A few bytes stand for what a fuzzer would need very many for.
fn expand(tokens: &[u8], into: &mut Vec<u8>) {
    let mut rest = tokens;
    while let [token, after @ ..] = rest
        && into.len() < STREAM_BYTES_MAX
    {
        rest = after;
        let argument = after.first().map_or(0, |byte| usize::from(byte & 15));
        match token {
            0xa0..=0xa3 => {
                put_frame(token & 1, SIZES[argument], token & 2 == 0, into);
                rest = after.get(1..).unwrap_or_default();
            }
            0xa4 => {
                // Many empty messages take long and show nothing new.
                into.resize(into.len() + 16 * argument, 0);
                rest = after.get(1..).unwrap_or_default();
            }
            0xa5 => put_greeting(into, 1),
            0xa6..=0xa9 => into.extend_from_slice(READY[usize::from(token - 0xa6)]),
            0xaa..=0xaf => into.extend_from_slice(COMMANDS[usize::from(token - 0xaa)]),
            plain => into.push(*plain),
        }
    }
}

fn put_greeting(into: &mut Vec<u8>, minor: u8) {
    let at = into.len() + MINOR;
    into.extend_from_slice(GREETING);
    into[at] = minor;
}

/// A frame, or its header only.
fn put_frame(flags: u8, size: usize, has_body: bool, into: &mut Vec<u8>) {
    match u8::try_from(size) {
        Ok(size) => into.extend_from_slice(&[flags, size]),
        Err(_) => {
            into.push(flags | 2);
            into.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    if has_body {
        into.extend_from_slice(&BODY[..size]);
    }
}
