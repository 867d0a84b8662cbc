//! CURVE, with libzmq on the other side (Debian's is built with libsodium).

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, IdentityToken, KeyPair, Loss, Mechanisms, PublicKey, SecretKey,
    ServerKeys, SharedFrame, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

use crate::peer::{PATIENCE, body, listen, socket};

/// How long a read waits, so that timers get their turn.
const STEP: Duration = Duration::from_millis(5);
/// The sizes of frames: around those at which a header, a buffer or a way to decrypt changes.
const SIZES: [usize; 24] = [
    0, 1, 30, 31, 32, 222, 223, 254, 255, 256, 1_023, 1_024, 4_063, 4_064, 4_096, 8_192, 16_350,
    16_351, 16_384, 65_502, 65_503, 65_536, 65_537, 3_000_000,
];

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn server_key() -> PublicKey {
    secret(1).public()
}

/// A port with one connection, driven by hand.
struct Shell {
    stream: TcpStream,
    port: Transport<u32>,
    id: ConnectionId,
    messages: Vec<Vec<Vec<u8>>>,
    keys: Vec<PublicKey>,
    /// What is said of keys, if anything is.
    identity: Option<IdentityToken>,
    is_owner_silent: bool,
    is_open: bool,
    loss: Option<Loss>,
}

impl Shell {
    fn accept(listener: &TcpListener) -> Self {
        let curve = Some(ServerKeys::new(secret(1), Some(secret(2))));
        let (stream, address) = listener.accept().unwrap();
        Self::new(stream, |port| {
            port.set_mechanisms(Mechanisms { null: false, curve });
            port.accepted(Instant::now(), address.into())
        })
    }

    fn dial(address: std::net::SocketAddr, server: PublicKey) -> Self {
        let keys = ClientKeys { own: KeyPair::from(secret(3)), server };
        let stream = TcpStream::connect(address).unwrap();
        Self::new(stream, |port| port.dialled_curve(Instant::now(), address.into(), &keys))
    }

    fn new(
        stream: TcpStream,
        begin: impl FnOnce(&mut Transport<u32>) -> Option<ConnectionId>,
    ) -> Self {
        stream.set_read_timeout(Some(STEP)).unwrap();
        let mut port = Transport::new(Instant::now(), TransportLimits::default());
        port.seed(b"libzmq  ", &[42; 32]);
        let id = begin(&mut port).unwrap();
        let (messages, keys) = (Vec::new(), Vec::new());
        let identity = Some(IdentityToken(1));
        let (is_owner_silent, is_open, loss) = (false, false, None);
        Self { stream, port, id, messages, keys, identity, is_owner_silent, is_open, loss }
    }

    /// Writes what waits, reads once, and does what is due. False: the connection is over.
    fn turn(&mut self) -> bool {
        self.write();
        let mut buffer = vec![0; 64 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.port.closed(self.id);
                0
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(_) => {
                self.port.closed(self.id);
                0
            }
        };
        let messages = &mut self.messages;
        let now = Instant::now();
        self.port.received(now, self.id, &buffer[..count], |_, message| {
            messages.push(message.frames.into_iter().map(SharedFrame::into_vec).collect());
            Flow::Continue
        });
        self.port.handle_timeout(now, |_| false);
        while let Some(event) = self.port.poll_event() {
            match event {
                TransportEvent::Opened { .. } => self.is_open = true,
                TransportEvent::Authenticate { id, key, is_last } => {
                    self.keys.push(key);
                    if !self.is_owner_silent {
                        self.port.authenticated(now, id, is_last, self.identity);
                    }
                }
                TransportEvent::Refused { why, .. } | TransportEvent::Lost { why, .. } => {
                    self.loss = Some(why);
                }
            }
        }
        self.write();
        self.loss.is_none()
    }

    fn write(&mut self) {
        while let Some(id) = self.port.poll_writable() {
            while self.port.output_bytes(id) > 0 {
                let Ok(count) = self.stream.write_vectored(&self.port.output(id)) else { break };
                self.port.transmitted(Instant::now(), id, count);
            }
        }
        while let Some(closing) = self.port.poll_closing() {
            let _best_effort = self.stream.write_vectored(&closing.output());
            let _may_be_closed = self.stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        self.port.send(self.id, None, |writer| {
            for (at, frame) in frames.iter().enumerate() {
                let last = at + 1 == frames.len();
                let position = if last { Position::Last } else { Position::More };
                let Ok(()) = writer.put(Part::Frame(SharedFrame::from(frame.clone())), position);
            }
        });
    }

    fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it took too long");
            assert!(self.turn(), "{:?}", self.loss);
        }
    }

    fn ending(&mut self) -> Loss {
        let deadline = Instant::now() + PATIENCE;
        while self.turn() {
            assert!(Instant::now() < deadline, "it took too long");
        }
        self.loss.clone().unwrap()
    }
}

/// A client of libzmq, with key number 3, that knows a server's key.
fn client(context: &zmq::Context, kind: zmq::SocketType, server: &PublicKey) -> zmq::Socket {
    let client = socket(context, kind);
    client.set_curve_serverkey(server.as_bytes()).unwrap();
    client.set_curve_publickey(secret(3).public().as_bytes()).unwrap();
    client.set_curve_secretkey(&raw_secret(3)).unwrap();
    client
}

fn raw_secret(number: u8) -> [u8; 32] {
    [number; 32]
}

/// A server of libzmq with key number 1.
fn server(context: &zmq::Context) -> (zmq::Socket, std::net::SocketAddr) {
    let server = socket(context, zmq::ROUTER);
    server.set_curve_server(true).unwrap();
    server.set_curve_secretkey(&raw_secret(1)).unwrap();
    server.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = server.get_last_endpoint().unwrap().unwrap();
    let address = endpoint.trim_start_matches("tcp://").parse().unwrap();
    (server, address)
}

#[test]
fn library_of_the_system_has_curve() {
    assert_eq!(zmq::has("curve"), Some(true));
}

#[test]
fn clients_of_libzmq_are_served_with_frames_of_every_size() {
    for (kind, number) in [(zmq::DEALER, 1), (zmq::DEALER, 2), (zmq::ROUTER, 1)] {
        let context = zmq::Context::new();
        let (listener, address) = listen();
        let client = client(&context, kind, &secret(number).public());
        client.connect(&format!("tcp://{address}")).unwrap();
        let mut shell = Shell::accept(&listener);
        shell.until(|shell| shell.is_open);
        assert_eq!(shell.keys, [secret(3).public()]);
        if kind == zmq::ROUTER {
            continue;
        }
        for size in SIZES {
            client.send_multipart([&body(size), &vec![], &body(size / 3)], 0).unwrap();
        }
        shell.until(|shell| shell.messages.len() == SIZES.len());
        for (size, message) in SIZES.into_iter().zip(std::mem::take(&mut shell.messages)) {
            assert_eq!(message, [body(size), vec![], body(size / 3)], "{size}");
            shell.send(&message);
        }
        for size in SIZES {
            while !client.get_events().unwrap().contains(zmq::POLLIN) {
                assert!(shell.turn());
            }
            let message = client.recv_multipart(0).unwrap();
            assert_eq!(message, [body(size), vec![], body(size / 3)], "{size}");
        }
    }
}

#[test]
fn req_of_libzmq_asks_and_is_answered() {
    let context = zmq::Context::new();
    let (listener, address) = listen();
    let client = client(&context, zmq::REQ, &server_key());
    client.set_identity(b"a name").unwrap();
    client.connect(&format!("tcp://{address}")).unwrap();
    client.send("question", 0).unwrap();
    let mut shell = Shell::accept(&listener);
    shell.until(|shell| !shell.messages.is_empty());
    assert_eq!(shell.messages, [[b"".to_vec(), b"question".to_vec()]]);
    assert_eq!(&*shell.port.peer(shell.id).unwrap().routing_id, b"a name");
    shell.send(&[vec![], b"answer".to_vec()]);
    shell.turn();
    assert_eq!(client.recv_bytes(0).unwrap(), b"answer");
}

#[test]
fn server_of_libzmq_is_dialled_with_frames_of_every_size() {
    let context = zmq::Context::new();
    let (server, address) = server(&context);
    let mut shell = Shell::dial(address, server_key());
    shell.until(|shell| shell.is_open);
    for size in SIZES {
        let message = [body(size), vec![], body(size / 3)];
        shell.send(&message);
        while !server.get_events().unwrap().contains(zmq::POLLIN) {
            assert!(shell.turn());
        }
        let received = server.recv_multipart(0).unwrap();
        assert_eq!(received[1..], message, "{size}");
        server.send_multipart(received, 0).unwrap();
        shell.until(|shell| !shell.messages.is_empty());
        assert_eq!(shell.messages.pop().unwrap(), message, "{size}");
    }
}

#[test]
fn heartbeats_of_libzmq_are_answered_in_boxes() {
    let context = zmq::Context::new();
    let (listener, address) = listen();
    let client = client(&context, zmq::DEALER, &server_key());
    client.set_heartbeat_ivl(20).unwrap();
    client.set_heartbeat_timeout(200).unwrap();
    client.set_heartbeat_ttl(300).unwrap();
    client.connect(&format!("tcp://{address}")).unwrap();
    let mut shell = Shell::accept(&listener);
    shell.until(|shell| shell.is_open);
    let until = Instant::now() + Duration::from_millis(700);
    let before = shell.port.bytes_in(shell.id);
    while Instant::now() < until {
        assert!(shell.turn(), "{:?}", shell.loss);
    }
    // A PING has 42 bytes with its header.
    assert!(shell.port.bytes_in(shell.id) - before > 10 * 42);
    client.send("still here", 0).unwrap();
    shell.until(|shell| !shell.messages.is_empty());
}

/// How often a client of libzmq connects within a second and a half after its first connection was treated.
fn connections(client: &zmq::Socket, treat: impl Fn(&mut Shell)) -> usize {
    let (listener, address) = listen();
    client.connect(&format!("tcp://{address}")).unwrap();
    treat(&mut Shell::accept(&listener));
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + Duration::from_millis(1_500);
    let mut count = 1;
    while Instant::now() < until {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    count
}

#[test]
fn libzmq_whose_key_is_not_admitted_does_not_come_back() {
    let context = zmq::Context::new();
    let count = connections(&client(&context, zmq::DEALER, &server_key()), |shell| {
        shell.identity = None;
        assert_eq!(shell.ending().label(), "key_refused");
        assert_eq!(shell.keys.len(), 2, "the owner was asked twice");
    });
    assert_eq!(count, 1);
}

#[test]
fn libzmq_whose_key_was_not_decided_on_in_time_comes_back() {
    let context = zmq::Context::new();
    let count = connections(&client(&context, zmq::DEALER, &server_key()), |shell| {
        shell.is_owner_silent = true;
        assert_eq!(shell.ending().label(), "admission_timeout");
    });
    assert!(count >= 2, "{count}");
}

#[test]
fn libzmq_with_another_mechanism_does_not_come_back_to_a_port_of_curve() {
    let context = zmq::Context::new();
    let count = connections(&socket(&context, zmq::DEALER), |shell| {
        assert_eq!(shell.ending().label(), "mechanism");
    });
    assert_eq!(count, 1);
}

#[test]
fn libzmq_that_knows_another_server_key_comes_back() {
    let context = zmq::Context::new();
    let count = connections(&client(&context, zmq::DEALER, &secret(9).public()), |shell| {
        assert_eq!(shell.ending().label(), "curve_server_key");
    });
    assert!(count >= 3, "{count}");
}

#[test]
fn server_of_libzmq_with_another_key_is_not_talked_to() {
    let context = zmq::Context::new();
    let (_server, address) = server(&context);
    let mut shell = Shell::dial(address, secret(9).public());
    assert_eq!(shell.ending().label(), "closed");
    assert!(!shell.is_open);
}

#[test]
fn server_of_libzmq_that_does_not_admit_the_key_is_understood() {
    let context = zmq::Context::new();
    let zap = socket(&context, zmq::REP);
    zap.bind("inproc://zeromq.zap.01").unwrap();
    let refusing = std::thread::spawn(move || {
        let request = zap.recv_multipart(0).unwrap();
        assert_eq!(request[5], b"CURVE");
        assert_eq!(request[6], secret(3).public().as_bytes());
        let reply = [request[0].as_slice(), &request[1], b"400", b"no", b"", b""];
        zap.send_multipart(reply, 0).unwrap();
    });
    let (server, address) = server(&context);
    server.set_zap_domain("test").unwrap();
    let mut shell = Shell::dial(address, server_key());
    assert_eq!(shell.ending().label(), "not_admitted");
    refusing.join().unwrap();
}
