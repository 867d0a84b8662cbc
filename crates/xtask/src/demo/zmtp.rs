//! A DEALER connection, as far as the demo needs one: ZeroMQ's own wire protocol (ZMTP 3.0, NULL),
//! for this program links no libzmq.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How long connecting and the handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// The shortest wait that a socket can be told.
const WAIT_MIN: Duration = Duration::from_micros(100);

/// The first byte of a frame.
const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;

const GREETING_BYTES: usize = 64;
const READY: &[u8] = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
const PING: &[u8] = b"\x04PING";
const PONG: &[u8] = b"\x04PONG";
/// Of a PING, between its name and what a PONG repeats.
const PING_TTL_BYTES: usize = 2;

/// One connection.
#[derive(Debug)]
pub(super) struct Dealer {
    stream: TcpStream,
    /// Read and not understood yet.
    buffer: Vec<u8>,
    /// Frames of a message that is not complete.
    frames: Vec<Vec<u8>>,
}

struct Frame {
    flags: u8,
    body: Vec<u8>,
}

impl Dealer {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, HANDSHAKE_MAX)?;
        stream.set_nodelay(true)?;
        let mut dealer = Self { stream, buffer: Vec::new(), frames: Vec::new() };
        dealer.stream.write_all(&greeting())?;
        let deadline = Instant::now() + HANDSHAKE_MAX;
        while dealer.buffer.len() < GREETING_BYTES {
            dealer.read_until(deadline)?;
        }
        drop(dealer.buffer.drain(..GREETING_BYTES));
        dealer.send_frame(COMMAND, READY)?;
        loop {
            let frame = dealer.next_frame(deadline)?;
            if frame.flags & COMMAND != 0 && frame.body.starts_with(b"\x05READY") {
                return Ok(dealer);
            }
        }
    }

    pub(super) fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for (index, frame) in frames.iter().enumerate() {
            let flags = if index + 1 < frames.len() { MORE } else { 0 };
            self.send_frame(flags, frame)?;
        }
        Ok(())
    }

    /// The next message; an error of the kind `TimedOut` if none comes until then.
    pub(super) fn receive(&mut self, deadline: Instant) -> io::Result<Vec<Vec<u8>>> {
        loop {
            let Frame { flags, body } = self.next_frame(deadline)?;
            if flags & COMMAND != 0 {
                // A node closes connections that do not answer.
                if let Some(context) =
                    body.strip_prefix(PING).and_then(|rest| rest.get(PING_TTL_BYTES..))
                {
                    self.send_frame(COMMAND, &[PONG, context].concat())?;
                }
                continue;
            }
            self.frames.push(body);
            if flags & MORE == 0 {
                return Ok(std::mem::take(&mut self.frames));
            }
        }
    }

    fn send_frame(&mut self, flags: u8, body: &[u8]) -> io::Result<()> {
        // Everything that the demo sends is short.
        let length = u8::try_from(body.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&[flags, length], body].concat())
    }

    fn next_frame(&mut self, deadline: Instant) -> io::Result<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.buffer) {
                drop(self.buffer.drain(..length));
                return Ok(frame);
            }
            self.read_until(deadline)?;
        }
    }

    fn read_until(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).max(WAIT_MIN);
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 4_096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        }
    }
}

/// Signature, version 3.0, mechanism NULL, a client.
fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    let start = b"\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL";
    greeting.iter_mut().zip(start).for_each(|(to, from)| *to = *from);
    greeting
}

/// The first frame and how many bytes it has, if it is all there.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let flags = *bytes.first()?;
    let (length, start): (usize, usize) = if flags & LONG == 0 {
        (usize::from(*bytes.get(1)?), 2)
    } else {
        let length = u64::from_be_bytes(bytes.get(1..9)?.try_into().ok()?);
        (usize::try_from(length).ok()?, 9)
    };
    let end = start.checked_add(length)?;
    let body = bytes.get(start..end)?.to_vec();
    Some((Frame { flags, body }, end))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_are_short_or_long_and_may_be_incomplete() {
        let (frame, length) = parse(b"\x01\x03abcdef").unwrap();
        assert_eq!((frame.flags, frame.body.as_slice(), length), (MORE, b"abc".as_slice(), 5));
        let (frame, length) = parse(b"\x02\0\0\0\0\0\0\0\x02xyz").unwrap();
        assert_eq!((frame.body.as_slice(), length), (b"xy".as_slice(), 11));
        for part in [b"".as_slice(), b"\0", b"\0\x02x", b"\x02\0\0\0"] {
            assert!(parse(part).is_none(), "{part:?}");
        }
    }

    #[test]
    fn message_comes_in_pieces_and_a_ping_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = vec![0; GREETING_BYTES + 2 + READY.len()];
            stream.write_all(&greeting()).unwrap();
            stream
                .write_all(&[&[COMMAND, u8::try_from(READY.len()).unwrap()], READY].concat())
                .unwrap();
            stream.read_exact(&mut read).unwrap();
            stream.write_all(b"\x04\x08\x04PING\0\0c\x01\x02a").unwrap();
            stream.flush().unwrap();
            let mut pong = [0; 8];
            stream.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"\x04\x06\x04PONGc");
            stream.write_all(b"b\0\x01c").unwrap();
        });
        let mut dealer = Dealer::connect(address).unwrap();
        let message = dealer.receive(Instant::now() + HANDSHAKE_MAX).unwrap();

        assert_eq!(message, [b"ab".to_vec(), b"c".to_vec()]);
        peer.join().unwrap();
    }
}
