//! A shell around one connection: blocking sockets, a thread for each test.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, Introduction, LocalSocket,
    Message, PeerIntroduction, SharedFrame, Side, SocketType,
};
use mdp_wire::{FrameSink as _, Part, Position};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits, so that timers get their turn.
const STEP: Duration = Duration::from_millis(5);

/// One end of a connection, driven by hand.
pub(crate) struct Peer {
    stream: TcpStream,
    connection: Connection<u32>,
    pool: BufferPool,
    pub(crate) introduction: Option<PeerIntroduction>,
    pub(crate) messages: Vec<Message>,
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
        let (stream, _) = listener.accept().unwrap();
        Self::new(stream, Side::Accepting, SocketType::Router)
    }

    /// The dialling side, a DEALER.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self::new(stream, Side::Dialling, SocketType::Dealer)
    }

    fn new(stream: TcpStream, side: Side, socket_type: SocketType) -> Self {
        stream.set_read_timeout(Some(STEP)).unwrap();
        let mut pool = BufferPool::default();
        let local = LocalSocket { socket_type, routing_id: &[] };
        let introduction = Introduction { side, local, limits: ConnectionLimits::default() };
        let connection = Connection::new(Instant::now(), &introduction, &mut pool);
        Self { stream, connection, pool, introduction: None, messages: Vec::new() }
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
            let Ok(count) = self.stream.write_vectored(&slices) else { return };
            drop(slices);
            self.connection.transmitted(count, &mut self.pool);
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
