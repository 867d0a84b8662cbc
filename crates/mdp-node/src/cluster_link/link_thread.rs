//! The thread that owns the sockets between nodes.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use mdp_raft::{CallError, Lane};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::{net::TcpStream, runtime::Handle};

use super::{
    Answer, LinkCaller, MESSAGE_BYTES_MAX,
    calls::{Call, Reply},
    counters::{LinkCounters, count},
    incoming::{CallerId, Incoming, IncomingCall, Received},
    peer::Peer,
};
use crate::{Endpoint, SocketError, bell::Bell, zeromq::Context};

/// How many commands, and how many calls of others, are taken in one turn.
const BATCH_MAX: usize = 256;
/// How many connections there may be, two for each other node.
const PEERS_MAX: usize = 64;
/// The longest sleep: now and then, unused connections are looked for.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long a connection that is made to learn why a node is not reached may take.
const PROBE_TIME_MAX: Duration = Duration::from_millis(300);

/// What other threads tell this one.
pub(super) enum Command {
    /// Call another node.
    Call { endpoint: String, lane: Lane, request: Vec<u8>, deadline: Instant, reply: Reply },
    /// Send the answer to a call of another node.
    Answer { caller: CallerId, answer: Vec<u8> },
    /// The name of a node was looked up.
    Resolved { key: PeerKey, addresses: Vec<SocketAddr> },
    /// The address of a node was tried.
    Probed { key: PeerKey, obstacle: CallError },
    /// From now on, answer calls of other nodes by this.
    Serve(Answer),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Call { .. } => "Call",
            Self::Answer { .. } => "Answer",
            Self::Resolved { .. } => "Resolved",
            Self::Probed { .. } => "Probed",
            Self::Serve(_) => "Serve",
        })
    }
}

/// Another node on one lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey {
    endpoint: String,
    lane: Lane,
}

/// Everything that the thread owns.
pub(super) struct LinkThread {
    pub(super) context: Arc<Context>,
    pub(super) runtime: Handle,
    /// For the tasks that it starts.
    pub(super) caller: LinkCaller,
    pub(super) queue: Receiver<Command>,
    pub(super) bell: Bell,
    pub(super) incoming: Incoming,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) is_stopped: Arc<AtomicBool>,
}

impl LinkThread {
    /// Carries calls until it is told to stop.
    pub(super) fn run(self) {
        let working = Working {
            it: self,
            answer: None,
            peers: BTreeMap::new(),
            next_id: 1,
            now: Instant::now(),
            is_incoming_awake: true,
        };
        if let Err(error) = working.run() {
            tracing::error!(%error, "the cluster thread ends: this node is cut off");
        }
    }
}

/// The thread at work.
struct Working {
    it: LinkThread,
    answer: Option<Answer>,
    peers: BTreeMap<PeerKey, Peer>,
    next_id: u64,
    now: Instant,
    /// Whether calls of others may wait although the descriptor is silent.
    is_incoming_awake: bool,
}

/// Whether a queue was read until nothing was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Emptied,
    MoreWaits,
}

impl Working {
    fn run(mut self) -> Result<(), SocketError> {
        while !self.it.is_stopped.load(Ordering::Acquire) {
            self.now = Instant::now();
            let queue = self.read_queue()?;
            if self.is_incoming_awake {
                self.read_incoming()?;
            }
            for peer in self.peers.values_mut() {
                if peer.is_awake() {
                    peer.turn(self.now, &self.it.counters)?;
                }
            }
            self.expire();
            let is_awake = self.is_incoming_awake || self.peers.values().any(Peer::is_awake);
            if queue == QueueState::Emptied && !is_awake {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn read_queue(&mut self) -> Result<QueueState, SocketError> {
        for _ in 0..BATCH_MAX {
            let Ok(command) = self.it.queue.try_recv() else { return Ok(QueueState::Emptied) };
            match command {
                Command::Call { endpoint, lane, request, deadline, reply } => {
                    let call = Call { request, deadline, reply };
                    self.call(PeerKey { endpoint, lane }, call);
                }
                Command::Answer { caller, answer } => {
                    self.is_incoming_awake = true;
                    if !self.it.incoming.answer(caller, &answer)? {
                        count(&self.it.counters.lost_answers);
                    }
                }
                Command::Resolved { key, addresses } => {
                    if let Some(peer) = self.peers.get_mut(&key) {
                        let opened = peer.on_resolved(self.now, &addresses, &self.it.context);
                        log_if_no_socket(&key, opened.err());
                    }
                }
                Command::Probed { key, obstacle } => {
                    if let Some(peer) = self.peers.get_mut(&key) {
                        peer.on_probed(obstacle);
                    }
                }
                Command::Serve(answer) => {
                    self.answer.get_or_insert(answer);
                }
            }
        }
        Ok(QueueState::MoreWaits)
    }

    fn call(&mut self, key: PeerKey, call: Call) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        if let Some(peer) = self.peers.get_mut(&key) {
            return peer.push(self.now, id, call, &self.it.counters);
        }
        let endpoint = key.endpoint.parse::<Endpoint>().ok();
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_wildcard() && endpoint.port() != 0);
        let Some(endpoint) = endpoint.filter(|_| self.peers.len() < PEERS_MAX) else {
            tracing::debug!(endpoint = %key.endpoint, "no address to call, or too many");
            return refuse(call.reply);
        };
        let mut peer = match Peer::new(&self.it.context, endpoint, self.now) {
            Ok(peer) => peer,
            Err(error) => {
                log_if_no_socket(&key, Some(error));
                return refuse(call.reply);
            }
        };
        peer.push(self.now, id, call, &self.it.counters);
        self.peers.insert(key, peer);
    }

    fn read_incoming(&mut self) -> Result<(), SocketError> {
        for _ in 0..BATCH_MAX {
            match self.it.incoming.receive()? {
                Received::Nothing => {
                    self.is_incoming_awake = self.it.incoming.is_readable()?;
                    return Ok(());
                }
                Received::Malformed => count(&self.it.counters.malformed),
                Received::Call(call) => self.answer_call(call),
            }
        }
        Ok(())
    }

    /// Answers a call on a thread of the runtime.
    fn answer_call(&self, call: IncomingCall) {
        count(&self.it.counters.received);
        let Some((answer, place)) = self.answer.as_ref().zip(self.it.incoming.begin()) else {
            return count(&self.it.counters.dropped);
        };
        let answering = answer(call.request);
        let (queue, counters) = (self.it.caller.clone(), Arc::clone(&self.it.counters));
        self.it.runtime.spawn(async move {
            let answer = answering.await;
            drop(place);
            let Some(answer) = answer else { return };
            if answer.len() > MESSAGE_BYTES_MAX {
                let bytes = answer.len();
                tracing::warn!(bytes, MESSAGE_BYTES_MAX, "an answer is too long for the link");
                return count(&counters.lost_answers);
            }
            if queue.post(Command::Answer { caller: call.caller, answer }).is_err() {
                count(&counters.lost_answers);
            }
        });
    }

    /// Calls whose time is up, names to look up, connections that nobody uses.
    fn expire(&mut self) {
        for (key, peer) in &mut self.peers {
            peer.expire(self.now, &self.it.counters);
            if let Some(name) = peer.begin_resolving(self.now) {
                self.it.runtime.spawn(resolve(self.it.caller.clone(), key.clone(), name));
            }
            if let Some(address) = peer.begin_probing(self.now) {
                self.it.runtime.spawn(probe(self.it.caller.clone(), key.clone(), address));
            }
        }
        self.peers.retain(|_, peer| !peer.is_idle(self.now));
    }

    fn wait(&mut self) -> Result<(), SocketError> {
        let due = self.peers.values().filter_map(Peer::next_due).min();
        let sleep = due.map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
        let sleep = sleep.min(SLEEP_MAX);
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        let mut descriptors = Vec::with_capacity(self.peers.len() + 2);
        let readable = PollFlags::IN;
        descriptors.push(PollFd::from_borrowed_fd(self.it.bell.descriptor(), readable));
        descriptors.push(PollFd::from_borrowed_fd(self.it.incoming.descriptor()?, readable));
        for descriptor in self.peers.values().filter_map(|peer| peer.descriptor().transpose()) {
            descriptors.push(PollFd::from_borrowed_fd(descriptor?, readable));
        }
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let rang: Vec<bool> = descriptors.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut rang = rang.into_iter();
        if rang.next() == Some(true) {
            self.it.bell.silence();
        }
        self.is_incoming_awake |= rang.next() == Some(true);
        let connected = self.peers.values_mut().filter(|peer| peer.is_connected());
        for (peer, _) in connected.zip(rang).filter(|(_, rang)| *rang) {
            peer.wake();
        }
        Ok(())
    }
}

/// Whoever asked may have given up by itself.
fn refuse(reply: Reply) {
    match reply.send(Err(CallError::Unreachable)) {
        Ok(()) | Err(_) => {}
    }
}

/// Without a descriptor for another socket, this node goes on with those that it has, and tries
/// again with the next call.
fn log_if_no_socket(key: &PeerKey, error: Option<SocketError>) {
    if let Some(error) = error {
        tracing::warn!(endpoint = %key.endpoint, %error, "no socket for another node");
    }
}

/// Connects to a node once and closes that again: why it cannot be reached.
async fn probe(queue: LinkCaller, key: PeerKey, address: SocketAddr) {
    let connected = tokio::time::timeout(PROBE_TIME_MAX, TcpStream::connect(address)).await;
    let obstacle = match connected {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => CallError::Refused,
        Ok(Err(_)) => CallError::Unreachable,
        // It is there, and does not answer; or nothing is heard of it.
        Ok(Ok(_)) | Err(_) => CallError::Timeout,
    };
    match queue.post(Command::Probed { key, obstacle }) {
        Ok(()) | Err(_) => {}
    }
}

/// Looks up the name of a node. If the outcome gets lost, it is looked up again.
async fn resolve(queue: LinkCaller, key: PeerKey, name: (String, u16)) {
    let addresses = tokio::net::lookup_host(name).await;
    let addresses = addresses.map(Iterator::collect).unwrap_or_default();
    match queue.post(Command::Resolved { key, addresses }) {
        Ok(()) | Err(_) => {}
    }
}
