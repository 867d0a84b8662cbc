use std::{
    io::{self, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::TcpStream as StdStream,
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::Duration,
};

use mdp_broker::{Outgoing, PeerId};
use mdp_core::{Clients, peer_id};
use mdp_transport::{Loss, SharedFrame, TransportEvent, TransportLimits};
use mdp_wire::{Token, Version, worker::FromBroker};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use super::*;
use crate::bell::{Bell, Ringer, bell};

const DEADLINE: Duration = Duration::from_secs(10);

/// A port, and everything that came.
struct Server {
    ports: Ports,
    clients: Clients,
    ringer: Ringer,
    bell: Bell,
    rang: bool,
    messages: Vec<(PeerId, Vec<Vec<u8>>)>,
    lost: Vec<(PeerId, Loss, Vec<Token>)>,
    refused: Vec<Loss>,
}

impl Server {
    fn new() -> Self {
        Self::with(TransportLimits::default())
    }

    fn with(limits: TransportLimits) -> Self {
        Self::at("127.0.0.1:0", limits)
    }

    fn at(address: &str, limits: TransportLimits) -> Self {
        let (ringer, bell) = bell().unwrap();
        let addresses = [address.parse().unwrap()];
        let poller = Poller::new(bell.descriptor()).unwrap();
        let ports = Ports::bind(&addresses, poller).unwrap();
        let clients = Clients::new(Instant::now(), limits, None);
        let (messages, lost, refused) = (Vec::new(), Vec::new(), Vec::new());
        Self { ports, clients, ringer, bell, rang: false, messages, lost, refused }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        self.ports.resume_writing(now, PortName::Clients, self.clients.transport());
        let messages = &mut self.messages;
        let mut reading = self.clients.reading(|incoming| {
            let frames = incoming.message.frames.iter().map(|f| f.as_ref().to_vec()).collect();
            messages.push((incoming.from, frames));
        });
        let state = self.ports.read(now, PortName::Clients, &mut reading);
        let ports = &self.ports;
        self.clients.handle_timeout(now, |id| ports.has_unread(PortName::Clients, id));
        while let Some(event) = self.clients.poll_event() {
            match event {
                TransportEvent::Opened { .. } | TransportEvent::Authenticate { .. } => {}
                TransportEvent::Lost { id, why, unsent, .. } => {
                    self.lost.push((peer_id(id), why, unsent));
                }
                TransportEvent::Refused { why, .. } => self.refused.push(why),
            }
        }
        self.ports.flush(now, PortName::Clients, self.clients.transport());
        let until = (state == ReadState::Emptied).then(|| now + Duration::from_millis(20));
        self.rang |= self.ports.wait(until).unwrap();
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            self.turn();
        }
    }

    fn address(&self) -> String {
        self.ports.clients().addresses().next().unwrap().to_string()
    }

    fn raw(&self) -> StdStream {
        StdStream::connect(self.address().trim_start_matches("tcp://")).unwrap()
    }
}

fn dealer(context: &zmq::Context, server: &Server) -> zmq::Socket {
    let dealer = context.socket(zmq::DEALER).unwrap();
    dealer.set_linger(0).unwrap();
    dealer.set_rcvtimeo(10_000).unwrap();
    dealer.connect(&server.address()).unwrap();
    dealer
}

fn request(token: u8, body: &[u8]) -> Outgoing<SharedFrame> {
    Outgoing::Worker {
        version: Version::V02,
        message: FromBroker::Request {
            client: Token::from_bytes([token; 16]),
            body: [SharedFrame::from(body)].into_iter().collect(),
        },
    }
}

#[test]
fn frames_of_every_size_pass_unchanged() {
    let (context, mut server) = (zmq::Context::new(), Server::new());
    let dealer = dealer(&context, &server);
    for size in [0, 1, 29, 33, 64, 254, 255, 256, 8_192, 65_535, 65_536, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i: usize| u8::try_from(i % 251).unwrap()).collect();
        dealer.send_multipart([b"first", bytes.as_slice()], 0).unwrap();
        server.until("a message", |server| !server.messages.is_empty());
        let (peer, frames) = server.messages.pop().unwrap();
        assert_eq!(frames, [b"first".as_slice(), &bytes]);

        server.clients.send(&peer, request(7, &bytes));
        server.until("all is written", |server| server.clients.is_all_written());
        let expected: Vec<&[u8]> = vec![b"MDPW02", b"\x02", &[7; 16], b"", &bytes];
        assert_eq!(dealer.recv_multipart(0).unwrap(), expected);
    }
}

#[test]
fn connection_that_is_closed_is_known_at_once_and_its_messages_came_before() {
    let (context, mut server) = (zmq::Context::new(), Server::new());
    let dealer = dealer(&context, &server);
    dealer.set_linger(-1).unwrap();
    dealer.send("hello", 0).unwrap();
    drop(dealer);
    server.until("it is lost", |server| !server.lost.is_empty());
    assert_eq!(server.messages.len(), 1);
    assert_eq!(server.lost, [(server.messages[0].0.clone(), Loss::Closed, vec![])]);

    let gone = server.lost[0].0.clone();
    server.clients.send(&gone, request(1, b"x"));
    server.until("it is lost once more", |server| server.lost.len() == 2);
    assert_eq!(server.lost[1].2, [Token::from_bytes([1; 16])], "no connection has it");
}

#[test]
fn routing_ids_name_nobody() {
    let (context, mut server) = (zmq::Context::new(), Server::new());
    let dealers = [0, 1].map(|_| {
        let dealer = context.socket(zmq::DEALER).unwrap();
        dealer.set_linger(0).unwrap();
        dealer.set_rcvtimeo(10_000).unwrap();
        dealer.set_identity(b"E961-3292").unwrap();
        dealer.connect(&server.address()).unwrap();
        dealer
    });
    for (number, dealer) in dealers.iter().enumerate() {
        dealer.send(format!("from {number}").as_str(), 0).unwrap();
    }
    server.until("both", |server| server.messages.len() == 2);
    for (peer, frames) in server.messages.clone() {
        server.clients.send(&peer, request(1, &frames[0]));
    }
    server.until("all is written", |server| server.clients.is_all_written());
    for (number, dealer) in dealers.iter().enumerate() {
        let frames = dealer.recv_multipart(0).unwrap();
        assert_eq!(frames.last().unwrap(), format!("from {number}").as_bytes());
    }
}

#[test]
fn flood_of_one_connection_leaves_the_others_their_turn() {
    let mut server = Server::new();
    let context = zmq::Context::new();
    let (flood, other) = (dealer(&context, &server), dealer(&context, &server));
    flood.set_linger(-1).unwrap();
    for connected in [&flood, &other] {
        connected.send("hello", 0).unwrap();
    }
    server.until("both are there", |server| server.messages.len() == 2);
    server.messages.clear();
    for _ in 0..900 {
        flood.send("", 0).unwrap();
    }
    other.send("me", 0).unwrap();
    let of_other =
        |server: &Server| server.messages.iter().position(|(_, m)| m == &[b"me".to_vec()]);
    server.until("the other one's", |server| of_other(server).is_some());
    server.until("all of the flood", |server| server.messages.len() == 901);
}

#[test]
fn peer_that_reads_nothing_is_given_up() {
    let limits = TransportLimits { outgoing_bytes_per_peer_max: 1 << 20, ..Default::default() };
    let (context, mut server) = (zmq::Context::new(), Server::with(limits));
    let dealer = context.socket(zmq::DEALER).unwrap();
    dealer.set_linger(0).unwrap();
    dealer.set_rcvhwm(1).unwrap();
    dealer.connect(&server.address()).unwrap();
    dealer.send("hello", 0).unwrap();
    server.until("it is there", |server| server.messages.len() == 1);
    let peer = server.messages[0].0.clone();
    let body = vec![7; 100_000];
    for token in 0..=200 {
        server.clients.send(&peer, request(token, &body));
        server.turn();
    }
    server.until("it is lost", |server| !server.lost.is_empty());
    let (_, why, unsent) = &server.lost[0];
    assert_eq!(*why, Loss::Overflow);
    assert!(!unsent.is_empty() && !unsent.contains(&Token::from_bytes([0; 16])));
    assert!(server.clients.is_all_written());
}

#[test]
fn stranger_that_speaks_something_else_is_refused_with_a_reason() {
    let mut server = Server::new();
    let mut raw = server.raw();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.until("it is refused", |server| !server.refused.is_empty());
    assert_eq!(server.refused[0].label(), "http");
    raw.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = Vec::new();
    // A reset would do as well.
    match raw.read_to_end(&mut answer) {
        Ok(_) | Err(_) => {}
    }
    let refused: Vec<_> =
        server.clients.totals().refused_by_reason().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused, [("http", 1)]);
}

#[test]
fn connections_beyond_the_limit_wait_in_the_kernel() {
    let limits = TransportLimits { connections_max: 2, ..TransportLimits::default() };
    let (context, mut server) = (zmq::Context::new(), Server::with(limits));
    let dealers = [0, 1, 2].map(|_| dealer(&context, &server));
    for dealer in &dealers {
        dealer.send("hello", 0).unwrap();
    }
    server.until("two", |server| server.messages.len() == 2);
    assert_eq!(server.clients.totals().connections, 2);
    let [first, second, third] = dealers;
    drop((first, second));
    server.until("the third", |server| server.messages.len() == 3);
    drop(third);
}

/// A port at a Unix socket, and a peer of it that has introduced itself and sent one message.
fn local_peer(folder: &TempDir) -> (Server, UnixStream) {
    let path = folder.path().join("clients");
    let mut server = Server::at(&format!("ipc://{}", path.display()), TransportLimits::default());
    let mut raw = UnixStream::connect(&path).unwrap();
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    raw.write_all(&greeting).unwrap();
    raw.write_all(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER").unwrap();
    raw.write_all(b"\0\x05hello").unwrap();
    server.until("it is there", |server| server.messages.len() == 1);
    (server, raw)
}

/// A read of a Unix socket ends behind what a descriptor was sent with.
#[test]
fn what_was_sent_behind_a_descriptor_is_read_without_more_news() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, mut raw) = local_peer(&folder);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptor = std::fs::File::open("/dev/null").unwrap();
    let descriptors = [descriptor.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let first = [IoSlice::new(b"\0\x05first")];
    sendmsg(&raw, &first, &mut control, SendFlags::empty()).unwrap();
    raw.write_all(b"\0\x06second").unwrap();

    server.until("both", |server| server.messages.len() == 3);
}

#[test]
fn local_peer_that_reads_wakes_nobody_unless_something_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, mut raw) = local_peer(&folder);
    let peer = server.messages[0].0.clone();
    server.clients.send(&peer, request(1, b"small"));
    server.until("all is written", |server| server.clients.is_all_written());
    raw.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 1 << 20];
    assert!(raw.read(&mut buffer).unwrap() > 0);
    server.ports.wait(None).unwrap();
    assert_eq!(server.ports.poller().events(), 0);

    server.clients.send(&peer, request(2, &vec![7; 4 << 20]));
    server.turn();
    assert!(!server.clients.is_all_written());
    raw.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !server.clients.is_all_written() {
        assert!(Instant::now() < deadline, "nobody tells that there is room");
        // All that is there.
        match raw.read(&mut buffer) {
            Ok(count) => assert!(count > 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        server.turn();
    }
}

#[test]
fn bell_is_heard_once_each_time() {
    let mut server = Server::new();
    for _ in 0..3 {
        server.ringer.ring();
        server.until("the bell", |server| server.rang);
        server.bell.silence();
        server.rang = false;
    }
    server.turn();
    assert!(!server.rang);
}

#[test]
fn address_in_use_and_foreign_address_are_told_apart() {
    let server = Server::new();
    let (_ringer, bell) = bell().unwrap();
    let bind = |address: &str| {
        let addresses = [address.parse().unwrap()];
        Ports::bind(&addresses, Poller::new(bell.descriptor()).unwrap()).unwrap_err()
    };
    let in_use = bind(&server.address());
    assert!(matches!(in_use, BindError::AddressInUse { .. }), "{in_use}");
    assert!(in_use.to_string().starts_with("broker.bind = \"tcp://127.0.0.1:"), "{in_use}");
    for foreign in ["192.0.2.1:5555", "nosuchif:5555"] {
        let error = bind(foreign);
        assert!(matches!(error, BindError::Unusable { .. }), "{error}");
    }
}

#[test]
fn second_address_of_what_the_node_listens_at_is_not_blamed_on_another_program() {
    let (_ringer, bell) = bell().unwrap();
    let bind = |addresses: &[String]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Ports::bind(&addresses, Poller::new(bell.descriptor()).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    let path = |name: &str| format!("ipc://{}/{name}", folder.path().display());
    let port = bind(&["127.0.0.1:0".to_owned()])
        .unwrap()
        .clients()
        .addresses()
        .next()
        .unwrap()
        .to_string();
    let by_interface = port.replace("127.0.0.1", "lo");

    for (first, second) in [(path("x"), path("link/x")), (port, by_interface)] {
        let error = bind(&[first.clone(), second.clone()]).unwrap_err().to_string();

        let reason = format!("\"{second}\": this node listens there already, by \"{first}\"");
        assert!(error.contains(&reason), "{error}");
    }
}

#[test]
fn every_interface_means_both_versions() {
    let (_ringer, bell) = bell().unwrap();
    let bind = |address: &str| {
        let addresses = [address.parse().unwrap()];
        let ports = Ports::bind(&addresses, Poller::new(bell.descriptor()).unwrap()).unwrap();
        let bound = ports.clients().addresses().find_map(BindAddress::tcp).unwrap().clone();
        (ports, bound)
    };
    let (_any, bound) = bind("*:0");
    let number = bound.port();
    StdStream::connect(("127.0.0.1", number)).unwrap();
    // A machine without version 6 has those of version 4.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        StdStream::connect(("::1", number)).unwrap();
    }
    let (_loopback, bound) = bind("lo:0");
    assert!(bound.to_string().starts_with("tcp://127.0.0.1:"), "{bound}");
}
