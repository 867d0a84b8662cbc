//! Peers as the ZeroMQ Guide has them, unmodified in what they do: `mdcliapi` and `mdwrkapi`. They know
//! one endpoint and nothing of nodes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{RawSocket, RawWorker, Version, frames};

/// How long a client waits for a reply.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How often it tries, with a new socket each time.
const CLIENT_RETRIES: u32 = 3;

/// How often a worker shows that it lives.
const HEARTBEAT: Duration = Duration::from_millis(2_500);

/// How many intervals the broker may be silent.
const HEARTBEAT_LIVENESS: u32 = 3;

/// How long a worker waits before it connects again to a broker that was silent.
const RECONNECT: Duration = Duration::from_millis(2_500);

/// `mdcliapi`: a REQ socket and one request at a time.
pub(super) struct GuideClient {
    endpoint: String,
    context: zmq::Context,
    socket: RawSocket,
}

/// How a call went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) attempts: u32,
    pub(super) took: Duration,
}

impl GuideClient {
    pub(super) fn new(endpoint: &str, context: &zmq::Context) -> Self {
        let socket = Self::connect(endpoint, context);
        Self { endpoint: endpoint.to_owned(), context: context.clone(), socket }
    }

    fn connect(endpoint: &str, context: &zmq::Context) -> RawSocket {
        RawSocket::connect(endpoint, context, zmq::REQ, |_| Ok(()))
    }

    /// Asks and waits for the reply; none came after the last attempt.
    pub(super) fn call(&mut self, service: &str, body: &str) -> Option<Call> {
        let asked_at = Instant::now();
        for attempt in 1..=CLIENT_RETRIES {
            self.socket.send(&frames![b"MDPC01", service, body]);
            if let Some(reply) = self.socket.recv_within(CLIENT_TIMEOUT) {
                assert_eq!(reply, frames![b"MDPC01", service, body], "not the reply");
                return Some(Call { attempts: attempt, took: asked_at.elapsed() });
            }
            self.socket = Self::connect(&self.endpoint, &self.context);
        }
        None
    }
}

/// `mdwrkapi` with a job that answers with what it was asked: until all is over. It comes back at once
/// when it is sent away. Returns how often it registered.
pub(super) fn guide_worker(
    endpoint: &str,
    context: &zmq::Context,
    service: &str,
    is_over: &AtomicBool,
) -> usize {
    let mut registrations = 0;
    while !is_over.load(Ordering::SeqCst) {
        let socket = RawSocket::connect(endpoint, context, zmq::DEALER, |_| Ok(()));
        let worker = RawWorker { socket, version: Version::V01 };
        worker.ready(service);
        registrations += 1;
        if serve(&worker, is_over) == End::Silence && !is_over.load(Ordering::SeqCst) {
            thread::sleep(RECONNECT);
        }
    }
    registrations
}

/// Why a registration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    SentAway,
    Silence,
}

fn serve(worker: &RawWorker, is_over: &AtomicBool) -> End {
    let mut liveness = HEARTBEAT_LIVENESS;
    let mut heartbeat_at = Instant::now() + HEARTBEAT;
    while !is_over.load(Ordering::SeqCst) {
        let message = worker.socket.recv_within(HEARTBEAT);
        if let Some(message) = &message {
            liveness = HEARTBEAT_LIVENESS;
            if let [_, _, _, address, _, body] = message.as_slice() {
                worker.answer(address, body);
            } else if *message == Version::V01.disconnect() {
                return End::SentAway;
            }
        } else {
            liveness -= 1;
            if liveness == 0 {
                return End::Silence;
            }
        }
        if Instant::now() >= heartbeat_at {
            worker.heartbeat();
            heartbeat_at = Instant::now() + HEARTBEAT;
        }
    }
    worker.disconnect();
    End::Silence
}
