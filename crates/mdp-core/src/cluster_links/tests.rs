//! Nodes that call each other over streams of bytes in memory, by a clock that only the test moves.

mod attacks;
mod calls;
mod connections;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// How many connections without a call a node takes.
const VISITORS_MAX: usize = 64;
/// How many with one.
const CALLERS_MAX: usize = 32;
const LIMITS: IncomingLimits =
    IncomingLimits { visitors_max: VISITORS_MAX, callers_max: CALLERS_MAX };
/// How many bytes a stream takes that are not read.
const WINDOW_BYTES: usize = 1 << 20;

/// The caller of a call.
#[derive(Clone, Debug)]
struct Caller {
    number: u32,
    has_given_up: Arc<AtomicBool>,
}

impl CallReply for Caller {
    fn is_abandoned(&self) -> bool {
        self.has_given_up.load(Ordering::Relaxed)
    }
}

/// What a node does with calls of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Answers with the same bytes, behind a mark.
    Echo,
    /// Keeps them.
    Hold,
}

/// One node.
struct Node {
    links: ClusterLinks<Caller>,
    service: Service,
    held: Vec<IncomingCall>,
    /// What calls came to.
    outcomes: Vec<(u32, Result<Vec<u8>, CallError>)>,
    /// How often a name was looked up.
    lookups: usize,
    /// Connections that the kernel takes no more for.
    blocked: Vec<ConnectionId>,
}

/// What is at the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Node(usize, ConnectionId),
    /// The test itself.
    Raw,
}

/// A connection: what is under way to each end.
struct Stream {
    ends: [End; 2],
    under_way: [VecDeque<u8>; 2],
    /// Whether the end is closed.
    is_closed: [bool; 2],
    /// Whether nothing arrives at the end for now.
    is_stuck: [bool; 2],
}

/// What is at an address.
#[derive(Clone, Copy, Debug)]
enum Place {
    Node(usize),
    /// The test takes the connections.
    Raw,
    /// Nothing answers.
    Hole,
}

/// All nodes and streams.
struct Net {
    now: Instant,
    random: u64,
    nodes: Vec<Node>,
    streams: Vec<Stream>,
    places: BTreeMap<SocketAddr, Place>,
    names: BTreeMap<String, Vec<SocketAddr>>,
    /// Whether no look-up is answered.
    is_name_server_dead: bool,
    /// Where connections were made to, in order.
    dialled: Vec<SocketAddr>,
    calls: u32,
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(number).unwrap()], 5556))
}

fn endpoint(number: usize) -> String {
    format!("tcp://{}", address(number))
}

impl Net {
    /// So many nodes that answer each other.
    fn new(seed: u64, nodes: usize) -> Self {
        let mut net = Self {
            now: crate::any_instant(),
            random: seed,
            nodes: Vec::new(),
            streams: Vec::new(),
            places: BTreeMap::new(),
            names: BTreeMap::new(),
            is_name_server_dead: false,
            dialled: Vec::new(),
            calls: 0,
        };
        for number in 0..nodes {
            let mut links = ClusterLinks::new(net.now, LIMITS, seed + number as u64);
            links.begin_serving();
            net.nodes.push(Node {
                links,
                service: Service::Echo,
                held: Vec::new(),
                outcomes: Vec::new(),
                lookups: 0,
                blocked: Vec::new(),
            });
            net.place(number, Place::Node(number));
        }
        net
    }

    fn place(&mut self, number: usize, place: Place) {
        self.places.insert(address(number), place);
        self.names.insert(endpoint(number), vec![address(number)]);
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.random >> 33).unwrap() % bound.max(1)
    }

    /// Calls, and returns who waits for the outcome.
    fn call(&mut self, from: usize, to: &str, request: &[u8], timeout: Duration) -> Caller {
        self.call_on((from, Lane::Control), to, request.to_vec(), timeout)
    }

    fn call_on(
        &mut self,
        (from, lane): (usize, Lane),
        to: &str,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Caller {
        self.calls += 1;
        let reply = Caller { number: self.calls, has_given_up: Arc::default() };
        let call = Call { request, deadline: self.now + timeout, reply: reply.clone() };
        let key = PeerKey { endpoint: to.to_owned(), lane, node: None };
        self.nodes[from].links.call(self.now, key, call);
        reply
    }

    /// The outcome of a call, if there is one.
    fn outcome(&self, from: usize, caller: &Caller) -> Option<Result<Vec<u8>, CallError>> {
        let mut outcomes = self.nodes[from].outcomes.iter();
        outcomes.find(|(number, _)| *number == caller.number).map(|(_, outcome)| outcome.clone())
    }

    fn totals(&self, node: usize) -> LinkTotals {
        self.nodes[node].links.totals()
    }

    fn connections(&self, node: usize) -> usize {
        self.nodes[node].links.transport.totals().connections
    }

    /// The test connects to a node, and returns the stream.
    fn connect_raw(&mut self, node: usize) -> Option<usize> {
        let from = SocketAddr::from(([10, 9, 9, 9], 1));
        let id = self.nodes[node].links.accepted(self.now, PeerAddress::from(from))?;
        Some(self.add_stream([End::Raw, End::Node(node, id)]))
    }

    fn add_stream(&mut self, ends: [End; 2]) -> usize {
        self.streams.push(Stream {
            ends,
            under_way: [VecDeque::new(), VecDeque::new()],
            is_closed: [false; 2],
            is_stuck: [false; 2],
        });
        self.streams.len() - 1
    }

    /// The test writes into a stream of its own.
    fn write_raw(&mut self, stream: usize, bytes: &[u8]) {
        let stream = &mut self.streams[stream];
        let raw = stream.ends.iter().position(|end| *end == End::Raw).unwrap();
        stream.under_way[1 - raw].extend(bytes);
    }

    /// What the other end wrote into a stream of the test.
    fn read_raw(&mut self, stream: usize) -> Vec<u8> {
        let stream = &mut self.streams[stream];
        let raw = stream.ends.iter().position(|end| *end == End::Raw).unwrap();
        stream.under_way[raw].drain(..).collect()
    }

    /// Whether the other end closed a stream of the test.
    fn is_closed(&self, stream: usize) -> bool {
        let stream = &self.streams[stream];
        let raw = stream.ends.iter().position(|end| *end == End::Raw).unwrap();
        stream.is_closed[1 - raw]
    }

    /// Cuts all streams between a node and others.
    fn cut(&mut self, node: usize) {
        for stream in &mut self.streams {
            if stream.ends.iter().any(|end| matches!(end, End::Node(index, _) if *index == node)) {
                stream.is_closed = [true; 2];
                stream.under_way.iter_mut().for_each(VecDeque::clear);
            }
        }
    }

    /// Time passes in small steps, and everything happens that can.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            while self.turn() {}
            if self.now >= until {
                return;
            }
            self.now = (self.now + 10 * MILLISECOND).min(until);
        }
    }

    /// One turn of all nodes; true if something moved.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        for node in 0..self.nodes.len() {
            self.tend(node);
            moved |= self.write(node);
        }
        for stream in 0..self.streams.len() {
            moved |= self.deliver(stream, 0) | self.deliver(stream, 1);
        }
        moved | self.nodes.iter().any(|node| node.links.is_awake())
    }

    fn tend(&mut self, index: usize) {
        let (streams, now) = (&self.streams, self.now);
        self.nodes[index].links.handle_timeout(now, |id| {
            let here = End::Node(index, id);
            let is_unread = |stream: &Stream, side: usize| {
                stream.ends[side] == here
                    && !stream.under_way[side].is_empty()
                    && !stream.is_stuck[side]
            };
            streams.iter().any(|stream| is_unread(stream, 0) || is_unread(stream, 1))
        });
        while let Some(action) = self.nodes[index].links.poll_action() {
            match action {
                ClusterAction::Dial { connection, address } => {
                    self.dial(index, connection, address);
                }
                ClusterAction::Locate { peer } => {
                    let node = &mut self.nodes[index];
                    node.lookups += 1;
                    if self.is_name_server_dead {
                        continue;
                    }
                    let addresses = self.names.get(&peer.endpoint).cloned().unwrap_or_default();
                    node.links.handle_located(now, &peer, &addresses);
                }
                ClusterAction::Serve(call) => {
                    let node = &mut self.nodes[index];
                    match node.service {
                        Service::Echo => node.answer(now, call),
                        Service::Hold => node.held.push(call),
                    }
                }
                ClusterAction::Finish { reply, outcome } => {
                    self.nodes[index].outcomes.push((reply.number, outcome));
                }
            }
        }
    }

    fn dial(&mut self, index: usize, connection: ConnectionId, to: SocketAddr) {
        self.dialled.push(to);
        let here = End::Node(index, connection);
        let from = PeerAddress::from(address(index));
        match self.places.get(&to).copied() {
            Some(Place::Node(other)) => {
                if let Some(id) = self.nodes[other].links.accepted(self.now, from) {
                    self.add_stream([here, End::Node(other, id)]);
                    return;
                }
                self.nodes[index].links.transport().closed(connection);
            }
            Some(Place::Raw) => _ = self.add_stream([here, End::Raw]),
            // What is written there waits.
            Some(Place::Hole) => {}
            None => {
                let links = &mut self.nodes[index].links;
                links.failed(connection, io::ErrorKind::ConnectionRefused);
            }
        }
    }

    /// Writes what waits, in pieces.
    fn write(&mut self, index: usize) -> bool {
        let mut ready = std::mem::take(&mut self.nodes[index].blocked);
        while let Some(id) = self.nodes[index].links.transport().poll_writable() {
            ready.push(id);
        }
        let mut moved = false;
        for id in ready {
            moved |= self.write_to(index, id);
        }
        while let Some(closing) = self.nodes[index].links.transport().poll_closing() {
            moved = true;
            let here = End::Node(index, closing.id);
            let last_words: Vec<u8> =
                closing.output().iter().flat_map(|slice| slice.to_vec()).collect();
            for stream in &mut self.streams {
                if let Some(side) = stream.ends.iter().position(|end| *end == here) {
                    stream.is_closed[side] = true;
                    stream.under_way[1 - side].extend(&last_words);
                }
            }
        }
        moved
    }

    fn write_to(&mut self, index: usize, id: ConnectionId) -> bool {
        let now = self.now;
        let here = End::Node(index, id);
        let at = self.streams.iter().position(|stream| stream.ends.contains(&here));
        let links = &mut self.nodes[index].links;
        let mut count = 0;
        if let Some(at) = at {
            let stream = &mut self.streams[at];
            let side = usize::from(stream.ends[1] == here);
            let under_way = &mut stream.under_way[1 - side];
            let window_bytes = if stream.is_closed[1 - side] { 0 } else { WINDOW_BYTES };
            for slice in &links.transport().output(id) {
                let room = window_bytes.saturating_sub(under_way.len()).min(slice.len());
                under_way.extend(&slice[..room]);
                count += room;
            }
        }
        links.transport().transmitted(now, id, count);
        if links.transport().output_bytes(id) > 0 {
            links.transport().blocked(now, id);
            self.nodes[index].blocked.push(id);
        }
        count > 0
    }

    /// Brings a piece to one end of a stream; what a closed stream still had comes first.
    fn deliver(&mut self, at: usize, side: usize) -> bool {
        let End::Node(index, id) = self.streams[at].ends[side] else { return false };
        if self.streams[at].is_closed[side] && !self.streams[at].is_closed[1 - side] {
            return false;
        }
        if self.streams[at].is_stuck[side] {
            return false;
        }
        let waiting = self.streams[at].under_way[side].len();
        if waiting == 0 {
            if !self.streams[at].is_closed[1 - side] {
                return false;
            }
            let is_there = self.nodes[index].links.transport.address(id).is_some();
            self.nodes[index].links.transport().closed(id);
            return is_there;
        }
        let bound = [4, 300, 64 << 10][self.below(3)];
        let is_much = waiting > 256 << 10;
        let count = if is_much { 64 << 10 } else { (1 + self.below(bound)).min(waiting) };
        let messages_max = 1 + self.below(4);
        let stream = &mut self.streams[at];
        let piece: Vec<u8> = stream.under_way[side].iter().take(count).copied().collect();
        let links = &mut self.nodes[index].links;
        let received = links.received(self.now, id, &piece, messages_max);
        stream.under_way[side].drain(..received.bytes);
        true
    }
}

impl Node {
    fn answer(&mut self, now: Instant, call: IncomingCall) {
        let answer = [b"re:".as_slice(), &call.request].concat();
        self.links.answer(now, call.caller, answer);
    }
}
