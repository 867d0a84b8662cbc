//! Clients and workers of the text protocol of NATS: the same load for a server that many know.
//!
//! A worker subscribes to the service in a queue group, a client to an inbox of its own. A request
//! is published to the service with the inbox to reply to.

use std::{
    io::IoSlice,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use mdp_transport::SharedFrame;
use mdp_wire::Version;

use super::{Peers, Received, Sent};
use crate::{
    BenchError, PeerKeys,
    sockets::streams::{Input, Output, Streams, Target, unreachable},
};

/// What a server is told first.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"0\",\"protocol\":0}\r\n";
/// All workers of a service are one queue group: each request goes to one of them.
const GROUP: &str = "workers";
/// The number of the only subscription of a connection.
const SUBSCRIPTION: &str = "1";
/// How long a server may take to say that it has taken everything.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// Connections on one thread.
pub(crate) struct NatsPeers {
    streams: Streams,
    connections: Vec<Connection>,
    /// Connections with something to write that was not tried.
    listed: Vec<usize>,
    pongs: usize,
}

#[derive(Default)]
struct Connection {
    /// What came and is not complete.
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// Where replies to a client go; empty until it has asked something.
    inbox: String,
    is_listed: bool,
}

/// One operation of the server.
#[derive(Debug, PartialEq, Eq)]
enum Operation<'a> {
    /// With a place to reply to it is a request.
    Message {
        reply_to: Option<&'a [u8]>,
        body: &'a [u8],
    },
    Ping,
    Pong,
    /// The server will close the connection.
    Error,
    Other,
}

/// The first operation in the input, and how long it is; `None`: it is not complete.
fn parse(input: &[u8]) -> Option<(Operation<'_>, usize)> {
    let end = input.windows(2).position(|two| two == b"\r\n")?;
    let (line, behind) = (input.get(..end)?, end + 2);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let operation = match words.next().unwrap_or_default() {
        b"MSG" => {
            // Subject, number of the subscription, where to reply if anywhere, size.
            let (subject, _, third) = (words.next(), words.next(), words.next());
            let fourth = words.next();
            let (reply_to, size) = if fourth.is_some() { (third, fourth) } else { (None, third) };
            let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
            let (Some(_subject), Some(size)) = (subject, size) else {
                return Some((Operation::Error, behind));
            };
            let body = input.get(behind..)?.get(..size)?;
            let whole = behind + size + 2;
            input.get(..whole)?;
            return Some((Operation::Message { reply_to, body }, whole));
        }
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"-ERR" => Operation::Error,
        _ => Operation::Other,
    };
    Some((operation, behind))
}

impl NatsPeers {
    fn queue(&mut self, index: usize, parts: &[&[u8]]) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        parts.iter().for_each(|part| connection.output.extend_from_slice(part));
        if !std::mem::replace(&mut connection.is_listed, true) {
            self.listed.push(index);
        }
    }

    fn publish(&mut self, index: usize, subject: &[u8], reply_to: &[u8], body: &[u8]) {
        let size = body.len().to_string();
        let parts: [&[u8]; 8] =
            [b"PUB ", subject, b" ", reply_to, b" ", size.as_bytes(), b"\r\n", body];
        self.queue(index, &parts);
        self.queue(index, &[b"\r\n"]);
    }

    fn write(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        connection.is_listed = false;
        while let Some(rest) = connection.output.get(connection.written..)
            && !rest.is_empty()
        {
            match self.streams.write(index, &[IoSlice::new(rest)]) {
                Output::Written(count) => connection.written += count,
                Output::Blocked | Output::Closed => return,
            }
        }
        connection.output.clear();
        connection.written = 0;
    }

    /// Takes what has come; false if the connection is closed.
    fn read(&mut self, index: usize, inbox: &mut Vec<Received<SharedFrame>>) -> bool {
        let Some(connection) = self.connections.get_mut(index) else { return true };
        match self.streams.read(index) {
            Input::Bytes(bytes) => connection.input.extend_from_slice(bytes),
            Input::Nothing => return true,
            Input::Closed => return false,
        }
        let input = std::mem::take(&mut connection.input);
        let (mut at, mut is_open, mut pings) = (0, true, 0);
        while let Some((operation, count)) = parse(input.get(at..).unwrap_or_default()) {
            at += count;
            match operation {
                Operation::Message { reply_to: Some(from), body } => {
                    let body = [SharedFrame::from(body)].into_iter().collect();
                    inbox.push(Received::Request { from: from.into(), body });
                }
                Operation::Message { reply_to: None, body } => {
                    inbox.push(Received::Reply { service: None, body: body.into() });
                }
                Operation::Ping => pings += 1,
                Operation::Pong => self.pongs += 1,
                Operation::Error => is_open = false,
                Operation::Other => {}
            }
        }
        if let Some(connection) = self.connections.get_mut(index) {
            connection.input = input;
            connection.input.drain(..at);
        }
        (0..pings).for_each(|_| self.queue(index, &[b"PONG\r\n"]));
        is_open
    }
}

impl Peers for NatsPeers {
    type Frame = SharedFrame;

    fn connect(
        endpoint: &str,
        count: usize,
        _version: Version,
        _no_curve: Option<&PeerKeys>,
    ) -> Result<Self, BenchError> {
        let target = Target::of(endpoint)?;
        let mut peers = Self {
            streams: Streams::new()?,
            connections: Vec::new(),
            listed: Vec::new(),
            pongs: 0,
        };
        for _ in 0..count {
            let index = peers.streams.connect(endpoint, &target)?;
            peers.connections.push(Connection::default());
            peers.queue(index, &[CONNECT]);
        }
        peers.settle()?;
        Ok(peers)
    }

    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        self.streams.watch(index, descriptor)
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError> {
        self.streams.wait(Some(timeout), ready)?;
        while let Some(index) = self.streams.poll_writable() {
            self.queue(index, &[]);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        index: usize,
        inbox: &mut Vec<Received<SharedFrame>>,
    ) -> Result<(), BenchError> {
        if !self.read(index, inbox) {
            inbox.push(Received::Closed);
        }
        Ok(())
    }

    fn send(&mut self, index: usize, message: Sent<'_, SharedFrame>) -> Result<(), BenchError> {
        match message {
            Sent::Request { service, body } => {
                let inbox = self.connections.get_mut(index).map(|it| std::mem::take(&mut it.inbox));
                let Some(mut inbox) = inbox else { return Ok(()) };
                if inbox.is_empty() {
                    inbox = format!("_INBOX.{}.{index}", std::process::id());
                    self.queue(index, &[format!("SUB {inbox} {SUBSCRIPTION}\r\n").as_bytes()]);
                }
                self.publish(index, service, inbox.as_bytes(), body);
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.inbox = inbox;
                }
            }
            Sent::Ready { service } => {
                let tail = format!(" {GROUP} {SUBSCRIPTION}\r\n");
                self.queue(index, &[b"SUB ", service, tail.as_bytes()]);
            }
            Sent::Reply { to, body } => {
                let body = body.first().map_or(b"".as_slice(), SharedFrame::as_ref);
                self.publish(index, to.as_ref(), b"", body);
            }
            // The server itself asks whether a connection lives.
            Sent::Heartbeat => {}
            Sent::Disconnect => {
                self.queue(index, &[format!("UNSUB {SUBSCRIPTION}\r\n").as_bytes()]);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let mut listed = std::mem::take(&mut self.listed);
        listed.drain(..).for_each(|index| self.write(index));
        self.listed = listed;
        Ok(())
    }

    /// A server drops requests for which there is no subscription.
    fn settle(&mut self) -> Result<(), BenchError> {
        self.pongs = 0;
        (0..self.connections.len()).for_each(|index| self.queue(index, &[b"PING\r\n"]));
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let (mut ready, mut inbox) = (Vec::new(), Vec::new());
        while self.pongs < self.connections.len() {
            self.flush()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unreachable("nats", String::from("the server did not answer PING")));
            }
            self.wait(left, &mut ready)?;
            for &index in &ready {
                if !self.read(index, &mut inbox) {
                    return Err(unreachable(
                        "nats",
                        String::from("the server closed a connection"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn linger(&mut self) -> Result<(), BenchError> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{TcpListener, TcpStream},
        sync::{Arc, Mutex},
        thread,
    };

    use super::*;
    use crate::{BenchOptions, PeerKind, run};

    /// Subject, number of the subscription, connection; one of each subject has its turn.
    type Subscriptions = Arc<Mutex<VecDeque<(String, String, TcpStream)>>>;

    /// Serves one connection until it is closed: as much of the protocol as the load needs.
    fn serve(stream: TcpStream, subscriptions: &Subscriptions) -> Option<()> {
        let mut answers = stream.try_clone().ok()?;
        answers.write_all(b"INFO {}\r\nPING\r\n").ok()?;
        let mut input = BufReader::new(stream);
        let mut line = String::new();
        while input.read_line(&mut line).ok()? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PING"] => answers.write_all(b"PONG\r\n").ok()?,
                ["SUB", subject, .., sid] => {
                    let place = (subject.to_string(), sid.to_string(), answers.try_clone().ok()?);
                    subscriptions.lock().ok()?.push_back(place);
                }
                ["PUB", subject, reply_to @ .., size] => {
                    let size: usize = size.parse().ok()?;
                    let mut body = vec![0; size + 2];
                    input.read_exact(&mut body).ok()?;
                    let mut all = subscriptions.lock().ok()?;
                    let index = all.iter().position(|(name, ..)| name == subject)?;
                    let (name, sid, mut stream) = all.remove(index)?;
                    let head = [&["MSG", subject, &sid], reply_to].concat().join(" ");
                    stream
                        .write_all(&[format!("{head} {size}\r\n").as_bytes(), &body].concat())
                        .ok()?;
                    all.push_back((name, sid, stream));
                }
                ["CONNECT", ..] | ["PONG"] | ["UNSUB", ..] => {}
                other => panic!("{other:?}"),
            }
            line.clear();
        }
        Some(())
    }

    /// A server for one run, and its endpoint.
    fn start() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let subscriptions = Subscriptions::default();
            for stream in listener.incoming() {
                let (stream, subscriptions) = (stream.unwrap(), Arc::clone(&subscriptions));
                // A connection that the run closes is the end of its thread.
                thread::spawn(move || serve(stream, &subscriptions));
            }
        });
        endpoint
    }

    #[test]
    fn load_runs_over_a_server_of_nats() {
        for body_bytes in [8, 20_000] {
            let options = BenchOptions {
                endpoint: start(),
                peers: PeerKind::Nats,
                workers: 3,
                clients: 2,
                window: 8,
                body_bytes,
                warmup: Duration::ZERO,
                duration: Duration::from_millis(100),
                ..BenchOptions::default()
            };

            let report = run(&options, &mut |_| {}).unwrap();

            assert!(report.requests > 8, "{report:?}");
            assert_eq!((report.timeouts, report.unexpected_replies), (0, 0), "{report:?}");
            assert_eq!((report.workers_used, report.workers_disconnected), (3, 0), "{report:?}");
        }
    }

    #[test]
    fn operations_are_told_apart_wherever_the_input_ends() {
        let input = b"INFO {}\r\nPING\r\nMSG echo 1 _INBOX.1 4\r\na\r\nb\r\nMSG _INBOX.1 1 0\r\n\r\nPONG\r\n";
        let mut at = 0;
        let mut operations = Vec::new();
        while let Some((operation, count)) = parse(&input[at..]) {
            for cut in 0..count {
                assert_eq!(parse(&input[at..at + cut]), None, "{operation:?}, {cut}");
            }
            at += count;
            operations.push(operation);
        }
        let message = |reply_to, body| Operation::Message { reply_to, body };
        let expected = [
            Operation::Other,
            Operation::Ping,
            message(Some(b"_INBOX.1".as_slice()), b"a\r\nb".as_slice()),
            message(None, b""),
            Operation::Pong,
        ];
        assert_eq!(operations, expected);
        assert_eq!(at, input.len());
    }

    #[test]
    fn what_is_no_operation_ends_the_connection() {
        for input in [b"-ERR 'no'\r\n".as_slice(), b"MSG a\r\n", b"MSG a 1 x\r\n"] {
            assert_eq!(parse(input), Some((Operation::Error, input.len())));
        }
    }
}
