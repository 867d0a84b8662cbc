//! Clients and workers that go on whatever happens to a node, and what became of each request.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{PATIENCE, zmtp::Dealer};
use crate::run::Failure;

/// Clients, spread over the nodes.
const CLIENTS: usize = 3;
/// Workers, spread over the nodes.
const WORKERS: usize = 6;
/// What they ask for and offer.
const SERVICE: &[u8] = b"load";
/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// How long all attempts may take.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How long a worker works on a request.
const WORK: Duration = Duration::from_millis(2);
/// How often a worker shows that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// After so much silence a worker goes to the next node.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How soon a worker or client tries again where nobody takes it.
const PAUSE: Duration = Duration::from_millis(50);

const CLIENT_HEADER: &[u8] = b"MDPC01";
const WORKER_HEADER: &[u8] = b"MDPW01";
const READY: &[u8] = &[1];
const REQUEST: &[u8] = &[2];
const REPLY: &[u8] = &[3];
const HEARTBEAT: &[u8] = &[4];
const DISCONNECT: &[u8] = &[5];

/// What all threads share.
#[derive(Debug, Default)]
struct Common {
    stop_clients: AtomicBool,
    stop_workers: AtomicBool,
    answered: AtomicU64,
    /// How often each request was executed, by its id.
    executions: Mutex<BTreeMap<u64, u64>>,
}

/// Threads that ask and answer until they are told to stop.
#[derive(Debug)]
pub(super) struct Load {
    common: Arc<Common>,
    clients: Vec<JoinHandle<Outcome>>,
    workers: Vec<JoinHandle<()>>,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Sent again because no reply came.
    pub(super) retried: u64,
    /// Never answered.
    pub(super) lost: u64,
    /// Executed more than once.
    pub(super) repeated: u64,
    /// The longest time that a client waited, over all its attempts.
    pub(super) slowest: Duration,
}

impl Load {
    /// Begins; when this returns, requests are answered.
    pub(super) fn start(nodes: &[SocketAddr]) -> Result<Self, Failure> {
        let common: Arc<Common> = Arc::default();
        let rotated = |by: usize| {
            let (end, start) = nodes.split_at(by % nodes.len().max(1));
            [start, end].concat()
        };
        let workers = (0..WORKERS).map(|number| {
            let (nodes, common) = (rotated(number), Arc::clone(&common));
            thread::spawn(move || work(&nodes, &common))
        });
        let workers = workers.collect();
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                nodes: rotated(number),
                at: 0,
                connection: None,
                next_id: u64::try_from(number).unwrap_or_default() << 32,
            };
            let common = Arc::clone(&common);
            thread::spawn(move || client.ask(&common))
        });
        let load = Self { clients: clients.collect(), workers, common };
        let deadline = Instant::now() + PATIENCE;
        while load.common.answered.load(Ordering::Relaxed) == 0 {
            if Instant::now() >= deadline {
                return Err(Failure::new("the demo is wrong: no request of the load is answered"));
            }
            thread::sleep(PAUSE);
        }
        Ok(load)
    }

    /// Ends, once every request is answered or given up.
    pub(super) fn stop(self) -> Result<Outcome, Failure> {
        let Self { common, clients, workers } = self;
        let ended = |_| Failure::new("a thread of the load ended");
        common.stop_clients.store(true, Ordering::Relaxed);
        let mut sum = Outcome::default();
        for client in clients {
            let one = client.join().map_err(ended)?;
            sum.sent += one.sent;
            sum.answered += one.answered;
            sum.retried += one.retried;
            sum.lost += one.lost;
            sum.slowest = sum.slowest.max(one.slowest);
        }
        common.stop_workers.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| worker.join().map_err(ended))?;
        let executions = common.executions.lock().unwrap_or_else(PoisonError::into_inner);
        let more_than_once = executions.values().filter(|count| **count > 1).count();
        sum.repeated = u64::try_from(more_than_once).unwrap_or(u64::MAX);
        Ok(sum)
    }
}

/// A client that goes on at the next node when no reply comes.
struct Client {
    nodes: Vec<SocketAddr>,
    at: usize,
    connection: Option<Dealer>,
    next_id: u64,
}

impl Client {
    fn ask(mut self, common: &Common) -> Outcome {
        let mut outcome = Outcome::default();
        while !common.stop_clients.load(Ordering::Relaxed) {
            self.next_id += 1;
            outcome.sent += 1;
            let started = Instant::now();
            match self.call(started + CALL_MAX) {
                Some(attempts) => {
                    outcome.answered += 1;
                    outcome.retried += attempts.saturating_sub(1);
                    common.answered.fetch_add(1, Ordering::Relaxed);
                }
                None => outcome.lost += 1,
            }
            outcome.slowest = outcome.slowest.max(started.elapsed());
        }
        outcome
    }

    /// How many attempts it took until the reply; `None` if none came.
    fn call(&mut self, deadline: Instant) -> Option<u64> {
        let body = self.next_id.to_string();
        let mut attempts = 0;
        while Instant::now() < deadline {
            let Some(connection) = self.connection() else {
                thread::sleep(PAUSE);
                continue;
            };
            attempts += 1;
            let replied = attempt(connection, body.as_bytes(), Instant::now() + ATTEMPT_MAX);
            if replied.is_ok_and(|is_right| is_right) {
                return Some(attempts);
            }
            self.connection = None;
            self.at += 1;
        }
        None
    }

    /// The one that is there, or one to the next node that takes it.
    fn connection(&mut self) -> Option<&mut Dealer> {
        for _ in 0..self.nodes.len() {
            if self.connection.is_some() {
                break;
            }
            self.connection = node(&self.nodes, self.at).and_then(|at| Dealer::connect(at).ok());
            self.at += usize::from(self.connection.is_none());
        }
        self.connection.as_mut()
    }
}

/// Sends a request and waits for its reply: whether that is the right one.
fn attempt(connection: &mut Dealer, body: &[u8], deadline: Instant) -> io::Result<bool> {
    connection.send(&[b"", CLIENT_HEADER, SERVICE, body])?;
    let reply = connection.receive(deadline)?;
    Ok(matches!(reply.as_slice(), [_, _, _, answer] if answer == body))
}

/// A worker at one node after the other.
fn work(nodes: &[SocketAddr], common: &Common) {
    let mut at = 0;
    while !common.stop_workers.load(Ordering::Relaxed) {
        let connection = node(nodes, at).and_then(|at| Dealer::connect(at).ok());
        let mut is_registered = false;
        // However it ends, the next node may do.
        if let Some(connection) = connection {
            drop(serve(connection, common, &mut is_registered));
        }
        at += 1;
        if !is_registered {
            thread::sleep(PAUSE);
        }
    }
}

/// One connection of a worker, until it is lost or told to go.
fn serve(mut connection: Dealer, common: &Common, is_registered: &mut bool) -> io::Result<()> {
    connection.send(&[b"", WORKER_HEADER, READY, SERVICE])?;
    let mut heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
    let mut alive_until = Instant::now() + SILENCE_MAX;
    while Instant::now() < alive_until {
        if common.stop_workers.load(Ordering::Relaxed) {
            return connection.send(&[b"", WORKER_HEADER, DISCONNECT]);
        }
        if Instant::now() >= heartbeat_at {
            connection.send(&[b"", WORKER_HEADER, HEARTBEAT])?;
            heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
        }
        let message = match connection.receive(Instant::now() + PAUSE) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
            message => message?,
        };
        alive_until = Instant::now() + SILENCE_MAX;
        match message.as_slice() {
            [_, _, command, ..] if command == DISCONNECT => return Ok(()),
            [_, _, command, client, _, body] if command == REQUEST => {
                execute(body, common);
                connection.send(&[b"", WORKER_HEADER, REPLY, client, b"", body])?;
            }
            _ => {}
        }
        *is_registered = true;
    }
    Ok(())
}

/// Works on a request, and remembers that.
fn execute(body: &[u8], common: &Common) {
    let id = str::from_utf8(body).ok().and_then(|id| id.parse().ok());
    thread::sleep(WORK);
    let mut executions = common.executions.lock().unwrap_or_else(PoisonError::into_inner);
    *executions.entry(id.unwrap_or_default()).or_default() += 1;
}

fn node(nodes: &[SocketAddr], at: usize) -> Option<SocketAddr> {
    nodes.get(at.checked_rem(nodes.len())?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_tried_in_a_circle() {
        let nodes = ["127.0.0.1:1", "127.0.0.1:2"].map(|node| node.parse().unwrap());

        let tried: Vec<u16> = (0..3).map(|at| node(&nodes, at).unwrap().port()).collect();

        assert_eq!(tried, [1, 2, 1]);
        assert_eq!(node(&[], 0), None);
    }

    #[test]
    fn executions_are_counted_by_request() {
        let common = Common::default();

        for body in [b"7", b"8", b"7"] {
            execute(body, &common);
        }

        let executions = common.executions.into_inner().unwrap();
        assert_eq!(executions.into_iter().collect::<Vec<_>>(), [(7, 2), (8, 1)]);
    }
}
