//! Plain TCP peers that know just enough of ZMTP 3.0 to look like, or unlike, a DEALER.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use crate::{PATIENCE, Reachable};

/// Signature, version 3.0, mechanism NULL, not as server, filler: 64 bytes.
const GREETING_BYTES: usize = 64;

/// A TCP connection to a node.
#[derive(Debug)]
pub struct RawTcp {
    stream: TcpStream,
}

impl RawTcp {
    /// Connects and says nothing.
    #[must_use]
    pub fn connect(node: &(impl Reachable + ?Sized)) -> Self {
        let stream = TcpStream::connect(node.endpoint().trim_start_matches("tcp://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Connects and finishes the ZMTP handshake as a DEALER.
    #[must_use]
    pub fn dealer(node: &(impl Reachable + ?Sized)) -> Self {
        let mut tcp = Self::connect(node);
        tcp.handshake();
        tcp
    }

    /// Sends the greeting and the handshake of a DEALER; what the node's own READY command says.
    pub fn handshake(&mut self) -> Vec<u8> {
        let mut greeting = [0_u8; GREETING_BYTES];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        assert!(self.send(&greeting));
        // Command frame: flags 4, length, then the name and one property.
        assert!(self.send(
            b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
        ));
        let mut answer = [0_u8; GREETING_BYTES + 2];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[GREETING_BYTES], 4, "not a short command frame");
        let mut command = vec![0; usize::from(answer[GREETING_BYTES + 1])];
        self.stream.read_exact(&mut command).unwrap();
        command
    }

    /// From here on, nothing that the node sends arrives, and the system acknowledges none of it: as if
    /// the machine had vanished.
    ///
    /// # Panics
    /// The system refuses.
    pub fn vanish(&self) {
        /// Classic BPF: the number of bytes to keep of each packet is constant.
        const RETURN: u16 = 0x06;
        let drop_all = socket2::SockFilter::new(RETURN, 0, 0, 0);
        socket2::SockRef::from(&self.stream).attach_filter(&[drop_all]).unwrap();
    }

    /// Its end will be a reset, not a farewell.
    ///
    /// # Panics
    /// The system refuses.
    pub fn reset_when_closed(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends bytes; whether the node still takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a sign of life of the transport; without one the node closes the connection.
    pub fn pong(&mut self) -> bool {
        self.send(b"\x04\x05\x04PONG")
    }

    /// Says that nothing more will be sent, and keeps listening.
    pub fn half_close(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Reads until these bytes have come.
    pub fn read_until(&mut self, wanted: &[u8]) {
        let mut seen = Vec::new();
        let mut buffer = [0; 4_096];
        while !seen.windows(wanted.len()).any(|window| window == wanted) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the node closed the connection");
            seen.extend_from_slice(buffer.get(..count).unwrap());
        }
    }

    /// Reads until the node closes the connection; whether it did so in time.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}

/// One ZMTP message frame.
#[must_use]
pub fn zmtp_frame(body: &[u8], more: bool) -> Vec<u8> {
    let mut frame = match u8::try_from(body.len()) {
        Ok(short) => vec![u8::from(more), short],
        Err(_) => {
            let mut head = vec![2 | u8::from(more)];
            head.extend(u64::try_from(body.len()).unwrap().to_be_bytes());
            head
        }
    };
    frame.extend(body);
    frame
}
