//! A shell around one connection: blocking sockets, a thread for each test.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, GREETING_BYTES, Introduction,
    LocalSocket, Message, PeerIntroduction, SharedFrame, Side, SocketType,
};
use mdp_wire::{FrameSink as _, Part, Position};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits, so that timers get their turn.
const STEP: Duration = Duration::from_millis(5);
/// Where a greeting says its minor version.
const MINOR_AT: usize = 11;

/// One end of a connection, driven by hand.
pub(crate) struct Peer {
    stream: TcpStream,
    connection: Connection<u32>,
    pool: BufferPool,
    pub(crate) introduction: Option<PeerIntroduction>,
    pub(crate) messages: Vec<Message>,
    /// The minor version that both greetings say: libzmq itself always says 1.
    pub(crate) minor: u8,
    /// How many bytes came and went.
    passed: [usize; 2],
}

/// What became of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Open,
    /// The other side closed.
    Closed,
    Ended(Ending),
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Peer {
    /// The accepting side, a ROUTER.
    pub(crate) fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, ConnectionLimits::default())
    }

    pub(crate) fn accept_with(listener: &TcpListener, limits: ConnectionLimits) -> Self {
        let (stream, _) = listener.accept().unwrap();
        Self::new(stream, Side::Accepting, SocketType::Router, limits)
    }

    /// The dialling side, a DEALER.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self::new(stream, Side::Dialling, SocketType::Dealer, ConnectionLimits::default())
    }

    fn new(
        stream: TcpStream,
        side: Side,
        socket_type: SocketType,
        limits: ConnectionLimits,
    ) -> Self {
        stream.set_read_timeout(Some(STEP)).unwrap();
        let mut pool = BufferPool::default();
        let local = LocalSocket { socket_type, routing_id: &[] };
        let introduction = Introduction { side, local, limits };
        let connection = Connection::new(Instant::now(), &introduction, &mut pool);
        Self {
            stream,
            connection,
            pool,
            introduction: None,
            messages: Vec::new(),
            minor: 1,
            passed: [0; 2],
        }
    }

    /// Writes what waits, reads once, and does what is due.
    pub(crate) fn turn(&mut self) -> Turn {
        self.write();
        let mut buffer = vec![0; 64 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Turn::Closed,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Turn::Closed,
            Err(error) => panic!("{error}"),
        };
        patch_minor(&mut self.passed[0], self.minor, &mut buffer[..count]);
        let (introduction, messages) = (&mut self.introduction, &mut self.messages);
        let take = |event| {
            match event {
                Event::Opened(peer) => assert_eq!(introduction.replace(peer), None),
                Event::Message(message) => messages.push(message),
            }
            Flow::Continue
        };
        let now = Instant::now();
        let received = self.connection.received(now, &buffer[..count], &mut self.pool, take);
        let done = received.and_then(|read| {
            assert_eq!(read, count);
            self.connection.handle_timeout(now, &mut self.pool)
        });
        self.write();
        done.map_or_else(Turn::Ended, |()| Turn::Open)
    }

    fn write(&mut self) {
        loop {
            let slices = self.connection.output();
            if slices.is_empty() {
                return;
            }
            let written = if self.passed[1] < GREETING_BYTES {
                let mut first = slices[0].to_vec();
                let mut passed = self.passed[1];
                patch_minor(&mut passed, self.minor, &mut first);
                self.stream.write(&first)
            } else {
                self.stream.write_vectored(&slices)
            };
            let Ok(count) = written else { return };
            drop(slices);
            self.passed[1] += count;
            self.connection.transmitted(Instant::now(), count, &mut self.pool);
        }
    }

    pub(crate) fn send(&mut self, frames: &[SharedFrame]) {
        let mut writer = self.connection.message(None, &mut self.pool);
        for (at, frame) in frames.iter().enumerate() {
            let last = at + 1 == frames.len();
            let position = if last { Position::Last } else { Position::More };
            let Ok(()) = writer.put(Part::Frame(frame.clone()), position);
        }
    }

    /// Turns until something is so.
    pub(crate) fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it took too long");
            assert_eq!(self.turn(), Turn::Open);
        }
    }

    /// Turns until the connection ends, and how.
    pub(crate) fn ending(&mut self) -> Turn {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it took too long");
            match self.turn() {
                Turn::Open => {}
                end @ (Turn::Closed | Turn::Ended(_)) => return end,
            }
        }
    }
}

fn patch_minor(passed: &mut usize, minor: u8, bytes: &mut [u8]) {
    if let Some(at) = MINOR_AT.checked_sub(*passed)
        && let Some(byte) = bytes.get_mut(at)
    {
        *byte = minor;
    }
    *passed += bytes.len();
}

/// A socket of libzmq that gives up in time.
pub(crate) fn socket(context: &zmq::Context, kind: zmq::SocketType) -> zmq::Socket {
    let socket = context.socket(kind).unwrap();
    let patience = i32::try_from(PATIENCE.as_millis()).unwrap();
    socket.set_rcvtimeo(patience).unwrap();
    socket.set_sndtimeo(patience).unwrap();
    socket.set_linger(0).unwrap();
    socket
}

pub(crate) fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
