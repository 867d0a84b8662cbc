//! What attackers do.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::setpriority_process;

/// How long an attacker waits for the node to take something.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many connections an attacker holds without a word.
const SILENT_MAX: usize = 50;
const PING: &[u8] = b"\x04\x07\x04PING\0\x01";

/// One thread of bad manners.
pub(super) struct Attacker<'a> {
    random: fastrand::Rng,
    ports: &'a [String],
    silent: Vec<TcpStream>,
}

impl<'a> Attacker<'a> {
    pub(super) fn new(random: fastrand::Rng, ports: &'a [String]) -> Self {
        Self { random, ports, silent: Vec::new() }
    }

    /// Attacks until all is over, with what the others leave of the machine.
    pub(super) fn run(mut self, is_over: &AtomicBool) {
        // On Linux this is the thread alone.
        setpriority_process(None, 19).unwrap();
        while !is_over.load(Ordering::Relaxed) {
            // A node that refuses is what attackers have to live with.
            let _ended = match self.random.u8(0..9) {
                0 => self.speak_nonsense(),
                1 => self.break_off(),
                2 => self.send_random_frames(),
                3 => self.flood_and_reset(),
                4 => self.send_without_end(),
                5 => self.claim(),
                6 => self.say_nothing(),
                7 => self.send_commands(),
                _ => self.pipeline_and_die(),
            };
        }
    }

    fn connect(&mut self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.random.choice(self.ports).unwrap())?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.random.u8(..)).take(length).collect()
    }

    /// A good greeting, and a READY with this routing id.
    fn introduction(&mut self, id: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[0] = 0xff;
        bytes[9] = 0x7f;
        bytes[10] = 3;
        bytes[11] = self.random.u8(0..2);
        bytes[12..16].copy_from_slice(b"NULL");
        let size = u8::try_from(6 + 12 + 4 + 6 + 9 + 4 + id.len()).unwrap();
        bytes.extend_from_slice(&[4, size]);
        bytes.extend_from_slice(b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0");
        bytes.push(u8::try_from(id.len()).unwrap());
        bytes.extend_from_slice(id);
        bytes
    }

    fn introduced(&mut self, id: &[u8]) -> std::io::Result<TcpStream> {
        let introduction = self.introduction(id);
        let mut stream = self.connect()?;
        stream.write_all(&introduction)?;
        Ok(stream)
    }

    fn speak_nonsense(&mut self) -> std::io::Result<()> {
        let length = self.random.usize(1..500);
        let bytes = self.bytes(length);
        self.connect()?.write_all(&bytes)
    }

    fn break_off(&mut self) -> std::io::Result<()> {
        let introduction = self.introduction(b"cut");
        let cut = self.random.usize(..introduction.len());
        self.connect()?.write_all(&introduction[..cut])
    }

    fn send_random_frames(&mut self) -> std::io::Result<()> {
        let mut stream = self.introduced(b"")?;
        for _ in 0..20 {
            let length = self.random.u8(0..100);
            let body = self.bytes(usize::from(length));
            let flags = self.random.u8(0..8);
            stream.write_all(&[flags & 5, length])?;
            stream.write_all(&body)?;
        }
        Ok(())
    }

    /// Requests with PINGs between them, faster than they are read, and a reset.
    fn flood_and_reset(&mut self) -> std::io::Result<()> {
        let mut stream = self.introduced(b"")?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        for _ in 0..self.random.usize(1..200) {
            stream.write_all(b"\x01\x00\x01\x06MDPC01\x01\x0bmmi.service\x00\x06honest")?;
            stream.write_all(PING)?;
        }
        Ok(())
    }

    fn send_without_end(&mut self) -> std::io::Result<()> {
        let mut stream = self.introduced(b"")?;
        let part =
            if self.random.bool() { vec![1, 0] } else { [vec![1, 200], vec![7; 200]].concat() };
        let parts = part.repeat(500);
        for _ in 0..50 {
            stream.write_all(&parts)?;
        }
        // Half of a frame that is never finished.
        stream.write_all(&[&[2, 0, 0, 0, 0, 0, 0x80, 0, 0][..], &[7; 10_000]].concat())
    }

    /// A routing id that somebody else may have, a request under it, and whatever comes back.
    fn claim(&mut self) -> std::io::Result<()> {
        let number = self.random.u32(0..100).to_be_bytes();
        let id = [&[0], number.as_slice()].concat();
        let mut stream = self.introduced(&id)?;
        stream.write_all(b"\x01\x00\x01\x06MDPC01\x01\x06honest\x00\x05mine!")?;
        let mut answer = [0; 256];
        while stream.read(&mut answer)? > 0 {}
        Ok(())
    }

    fn say_nothing(&mut self) -> std::io::Result<()> {
        let stream = self.connect()?;
        self.silent.push(stream);
        if self.silent.len() > SILENT_MAX {
            let lucky = self.random.usize(..self.silent.len());
            self.silent.swap_remove(lucky);
        }
        Ok(())
    }

    fn send_commands(&mut self) -> std::io::Result<()> {
        let mut stream = self.introduced(b"")?;
        let length = self.random.u16(1..9_000);
        let body = self.bytes(usize::from(length));
        let size = u64::from(length).to_be_bytes();
        stream.write_all(&[&[6], size.as_slice(), &body].concat())
    }

    /// A client that pipelines, does not read, and is gone in the middle of a message. Those of libzmq that do
    /// so are processes of their own (`killed.rs`): it can end the process that it is in (session_base.cpp,
    /// `clean_pipes`).
    fn pipeline_and_die(&mut self) -> std::io::Result<()> {
        let mut stream = self.introduced(b"")?;
        for _ in 0..self.random.usize(1..500) {
            stream.write_all(b"\x01\x00\x01\x06MDPC01\x01\x0bmmi.service\x00\x06honest")?;
            if self.random.u8(..) < 20 {
                stream.write_all(PING)?;
            }
        }
        stream.write_all(b"\x01\x00\x01\x06MDPC01\x01\x0bmmi")
    }
}
