//! A broker of the project's own transport that does what a test tells it, with keys or without.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mdp_client::{PublicKey, SecretKey};
use mdp_transport::{
    ConnectionId, Flow, IdentityToken, Mechanisms, ServerKeys, SharedFrame, Transport,
    TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

use crate::support::DEADLINE;

/// How long a read waits, so that timers and the end get their turn.
const STEP: Duration = Duration::from_millis(5);

/// The secret key of a number.
pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// The key of every broker, as clients know it.
pub(crate) fn server_key() -> PublicKey {
    secret(1).public()
}

/// What the broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Null,
    Curve,
    /// CURVE, and no word on any key.
    CurveUnanswered,
}

type Message = Vec<Vec<u8>>;
type Answer = dyn Fn(Message) -> Vec<Message> + Send + Sync;

struct Shared {
    port: Port,
    answer: Box<Answer>,
    admitted: Mutex<BTreeSet<PublicKey>>,
    /// When each connection came.
    connected: Mutex<Vec<Instant>>,
    /// How each of them ended, as the broker saw it.
    endings: Mutex<Vec<&'static str>>,
    is_over: AtomicBool,
}

/// Stopped when dropped.
pub(crate) struct CurveBroker {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl CurveBroker {
    /// Answers each message with these.
    pub(crate) fn start(
        port: Port,
        admitted: impl IntoIterator<Item = PublicKey>,
        answer: impl Fn(Message) -> Vec<Message> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            port,
            answer: Box::new(answer),
            admitted: Mutex::new(admitted.into_iter().collect()),
            connected: Mutex::default(),
            endings: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || accept(&listener, &served)));
        Self { endpoint, shared, thread }
    }

    /// Gives every message back, which makes it the reply to a request of 0.1.
    pub(crate) fn echo(port: Port, admitted: impl IntoIterator<Item = PublicKey>) -> Self {
        Self::start(port, admitted, |message| vec![message])
    }

    pub(crate) fn admit(&self, key: PublicKey) {
        self.shared.admitted.lock().unwrap().insert(key);
    }

    /// When each connection came so far.
    pub(crate) fn connected(&self) -> Vec<Instant> {
        self.shared.connected.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_connection(&self) {
        self.wait("a connection", |shared| !shared.connected.lock().unwrap().is_empty());
    }

    pub(crate) fn wait_for_ending(&self, label: &str) {
        self.wait(label, |shared| shared.endings.lock().unwrap().contains(&label));
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Shared) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is_so(&self.shared) {
            assert!(Instant::now() < end, "{what} did not come");
            thread::sleep(STEP);
        }
    }
}

impl Drop for CurveBroker {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                shared.connected.lock().unwrap().push(Instant::now());
                let served = Arc::clone(shared);
                connections.push(thread::spawn(move || {
                    let ending = serve(stream, &served);
                    served.endings.lock().unwrap().push(ending);
                }));
            }
            Err(_) => thread::sleep(STEP),
        }
    }
    connections.into_iter().for_each(|connection| connection.join().unwrap());
}

/// Serves one connection, and says how it ended.
fn serve(mut stream: TcpStream, shared: &Shared) -> &'static str {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(STEP)).unwrap();
    let mut port = Transport::<()>::new(Instant::now(), TransportLimits::default());
    port.seed(b"a broker", &[42; 32]);
    let null = shared.port == Port::Null;
    let curve = (!null).then(|| ServerKeys::new(secret(1), None));
    port.set_mechanisms(Mechanisms { null, curve });
    let address = stream.peer_addr().unwrap().into();
    let id = port.accepted(Instant::now(), address).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    while !shared.is_over.load(Ordering::Relaxed) {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return "closed",
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(_) => return "closed",
        };
        let mut messages = Vec::new();
        let now = Instant::now();
        port.received(now, id, &buffer[..count], |_, message| {
            messages.push(message.frames.into_iter().map(SharedFrame::into_vec).collect());
            Flow::Continue
        });
        port.handle_timeout(now, |_| false);
        for reply in messages.into_iter().flat_map(&*shared.answer) {
            send(&mut port, id, reply);
        }
        let ending = take_events(&mut port, shared);
        write(&mut stream, &mut port);
        if let Some(ending) = ending {
            return ending;
        }
    }
    "over"
}

fn take_events(port: &mut Transport<()>, shared: &Shared) -> Option<&'static str> {
    while let Some(event) = port.poll_event() {
        match event {
            TransportEvent::Opened { .. } => {}
            TransportEvent::Authenticate { id, key, is_last } => {
                let is_admitted = shared.admitted.lock().unwrap().contains(&key);
                if shared.port == Port::Curve {
                    let identity = is_admitted.then_some(IdentityToken(1));
                    port.authenticated(Instant::now(), id, is_last, identity);
                }
            }
            TransportEvent::Refused { why, .. } | TransportEvent::Lost { why, .. } => {
                return Some(why.label());
            }
        }
    }
    // A node looks at its identities again when they have changed.
    None
}

fn send(port: &mut Transport<()>, id: ConnectionId, frames: Message) {
    let last = frames.len().saturating_sub(1);
    port.send(id, None, |writer| {
        for (at, frame) in frames.into_iter().enumerate() {
            let position = if at == last { Position::Last } else { Position::More };
            let Ok(()) = writer.put(Part::Frame(SharedFrame::from(frame)), position);
        }
    });
}

/// A peer that has closed meanwhile is met by the next read.
fn write(stream: &mut TcpStream, port: &mut Transport<()>) {
    while let Some(id) = port.poll_writable() {
        while port.output_bytes(id) > 0 {
            let Ok(count) = stream.write_vectored(&port.output(id)) else { break };
            port.transmitted(Instant::now(), id, count);
        }
    }
    while let Some(closing) = port.poll_closing() {
        let _best_effort = stream.write_vectored(&closing.output());
        let _may_be_closed = stream.shutdown(Shutdown::Both);
    }
}
