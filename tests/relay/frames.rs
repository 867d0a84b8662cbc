//! What clients and workers see does not depend on where the other one is.

use cluster_tests::{
    Message, NodeProcess, PATIENCE, QUIET, RawSocket, RawWorker, Reachable, TestCluster, Version,
    frames,
};

use Version::{V01, V02};

/// How long a client address is, in bytes.
const TOKEN_BYTES: usize = 16;

/// A body as large as this still is one frame.
const LARGE_BYTES: usize = 1 << 20;

/// How a client speaks.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// REQ, over 0.1.
    Req,
    /// REQ that puts a number in front of each request, over 0.1.
    CorrelatedReq,
    /// DEALER with this envelope in front of the empty frame, over 0.1.
    Dealer(&'static [&'static [u8]]),
    /// DEALER over 0.2.
    NewDealer,
}

impl Caller {
    const ALL: [Self; 5] = [
        Self::Req,
        Self::CorrelatedReq,
        Self::Dealer(&[]),
        Self::Dealer(&[b"\x00\x01id", b"second"]),
        Self::NewDealer,
    ];

    fn connect(self, node: &str) -> RawSocket {
        let kind = match self {
            Self::Req | Self::CorrelatedReq => zmq::REQ,
            Self::Dealer(_) | Self::NewDealer => zmq::DEALER,
        };
        RawSocket::connect(node, &zmq::Context::new(), kind, |socket| match self {
            Self::CorrelatedReq => {
                socket.set_req_correlate(true)?;
                socket.set_req_relaxed(true)
            }
            Self::Req | Self::Dealer(_) | Self::NewDealer => Ok(()),
        })
    }

    /// What the application hands over, in front of the service: with command 1 a request, with 2
    /// a part of a reply, with 3 its end.
    fn head(self, command: u8) -> Message {
        match self {
            Self::Req | Self::CorrelatedReq => frames![b"MDPC01"],
            Self::Dealer(envelope) => {
                let envelope = envelope.iter().map(|frame| frame.to_vec());
                envelope.chain(frames![b"", b"MDPC01"]).collect()
            }
            Self::NewDealer => frames![b"MDPC02", [command]],
        }
    }

    fn message(self, command: u8, service: &str, body: &[Vec<u8>]) -> Message {
        let head = self.head(command).into_iter().chain(frames![service]);
        head.chain(body.iter().cloned()).collect()
    }

    fn is_new(self) -> bool {
        matches!(self, Self::NewDealer)
    }
}

/// One request and all that answers it.
#[derive(Clone, Debug)]
struct Exchange {
    caller: Caller,
    worker: Version,
    service: String,
    body: Message,
    parts: Vec<Message>,
    end: Message,
}

/// What was seen of it, without the client address.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    by_worker: Message,
    by_client: Vec<Message>,
}

impl Exchange {
    /// What must be seen.
    fn expected(&self) -> Seen {
        let reply = |command, body: &[Vec<u8>]| self.caller.message(command, &self.service, body);
        let by_client = if self.caller.is_new() {
            let parts = self.parts.iter().map(|part| reply(2, part));
            parts.chain([reply(3, &self.end)]).collect()
        } else {
            vec![reply(3, &[self.parts.concat(), self.end.clone()].concat())]
        };
        Seen { by_worker: self.worker.work(b"", &slices(&self.body)), by_client }
    }

    /// Does it, and returns also the client address.
    fn run(&self, client_at: &str, worker_at: &str) -> (Seen, Vec<u8>) {
        let worker = RawWorker::register(worker_at, self.worker, &self.service);
        let client = self.caller.connect(client_at);

        client.send(&self.caller.message(1, &self.service, &self.body));
        let mut by_worker = worker.socket.recv();
        let at = if self.worker == V01 { 3 } else { 2 };
        let address = std::mem::take(&mut by_worker[at]);
        for part in &self.parts {
            worker.socket.send(&V02.partial(&address, &slices(part)));
        }
        worker.socket.send(&self.worker.answer(&address, &slices(&self.end)));

        let by_client = self.expected().by_client.iter().map(|_| client.recv()).collect();
        // Nothing else comes, to neither of them.
        worker.settle();
        client.expect_silence(std::time::Duration::ZERO);
        worker.disconnect();
        (Seen { by_worker, by_client }, address)
    }
}

fn slices(body: &[Vec<u8>]) -> Vec<&[u8]> {
    body.iter().map(Vec::as_slice).collect()
}

/// Bodies of all shapes.
fn bodies() -> Vec<Message> {
    let large: Vec<u8> = (0..LARGE_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    vec![
        frames![b"hello"],
        frames![b""],
        frames![b"", b"", b""],
        frames![b"first", b"", b"\x00\xff", b"MDPW01", b"last"],
        (0..100_u32).map(|number| number.to_be_bytes().to_vec()).collect(),
        vec![large],
    ]
}

/// Every pairing with every body, and from a worker of 0.2 also in parts.
fn exchanges() -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for caller in Caller::ALL {
        for worker in Version::BOTH {
            for body in bodies() {
                let all_parts = [vec![], vec![body.clone(), frames![b""], frames![b"a", b""]]];
                for parts in all_parts.into_iter().filter(|parts| parts.is_empty() || worker == V02)
                {
                    let service = format!("service-{}", exchanges.len());
                    let end = body.iter().rev().cloned().collect();
                    let body = body.clone();
                    exchanges.push(Exchange { caller, worker, service, body, parts, end });
                }
            }
        }
    }
    exchanges
}

/// CL-01: with the worker on another node, client and worker see the same frames as with one node.
#[test]
fn frames_are_those_of_a_single_node() {
    let node = NodeProcess::start(&[QUIET]);
    let cluster = TestCluster::start(&[QUIET]);
    let [at_client, at_worker] = [1, 0].map(|index| cluster.node(index).endpoint());
    let mut tokens = Vec::new();
    for exchange in exchanges() {
        let (alone, token) = exchange.run(&node.endpoint(), &node.endpoint());
        tokens.push(token);
        let (relayed, token) = exchange.run(&at_client, &at_worker);
        tokens.push(token);

        let Exchange { caller, worker, service, .. } = &exchange;
        // Not by assert_eq: bodies of a megabyte are no help to anybody.
        assert!(alone == exchange.expected(), "{caller:?} and {worker:?}, {service}, one node");
        assert!(relayed == alone, "{caller:?} and {worker:?}, {service}, two nodes");
    }
    assert_are_random(&mut tokens);
}

/// A repeated half of 64 random bits is not seen in a lifetime.
fn assert_are_random(tokens: &mut Vec<Vec<u8>>) {
    assert!(tokens.iter().all(|token| token.len() == TOKEN_BYTES), "{tokens:?}");
    let count = tokens.len();
    for half in [0..TOKEN_BYTES / 2, TOKEN_BYTES / 2..TOKEN_BYTES] {
        tokens.sort_by(|one, other| one[half.clone()].cmp(&other[half.clone()]));
        tokens.dedup_by(|one, other| one[half.clone()] == other[half.clone()]);
        assert_eq!(tokens.len(), count, "client addresses look alike");
    }
}

/// CL-01, over 0.2: a part of a reply is passed on before the worker has sent the next one.
#[test]
fn partial_replies_stream_between_nodes() {
    let cluster = TestCluster::start(&[QUIET]);
    let worker = RawWorker::register(cluster.node(0), V02, "echo");
    let client = RawSocket::dealer(cluster.node(1));
    client.send(&V02.request("echo", &[b"hello"]));
    let address = worker.expect_work("hello");

    for part in ["one", "two", "three"] {
        worker.partial(&address, part);
        client.expect(&frames![b"MDPC02", b"\x02", b"echo", part]);
    }

    worker.answer(&address, "end");
    client.expect(&V02.reply("echo", &[b"end"]));
}

/// CL-01, with workers and clients of both versions at the same service of different nodes.
#[test]
fn versions_mix_across_nodes() {
    let cluster = TestCluster::start(&[QUIET]);
    let workers = [(0, V01), (2, V02)]
        .map(|(node, version)| RawWorker::register(cluster.node(node), version, "echo"));
    let clients = Version::BOTH.map(|version| {
        let socket = RawSocket::dealer(cluster.node(1));
        socket.send(&version.request("echo", &[b"hello"]));
        socket
    });

    // One of them must be busy for the other to be asked, too.
    let addresses = workers.each_ref().map(|worker| worker.expect_work_after_heartbeats("hello"));
    for (worker, address) in workers.iter().zip(&addresses) {
        worker.answer(address, "world");
    }

    for (client, version) in clients.iter().zip(Version::BOTH) {
        let reply = client.recv_within(PATIENCE);
        assert_eq!(reply, Some(version.reply("echo", &[b"world"])));
    }
}
