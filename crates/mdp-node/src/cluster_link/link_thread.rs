//! The thread that owns the sockets by which nodes call each other.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use mdp_core::{
    CALL_BYTES_MAX, Call, CallReply, CallerId, ClusterAction, ClusterLinks, Connections,
    IncomingCall, LinkTotals, NodeKeys, PeerKey, PortName, ReadState,
};
use mdp_raft::CallError;
use mdp_transport::ConnectionId;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Answer, LinkCaller, counters::LinkCounters};
use crate::{
    Endpoint, bell::Bell, binding::is_no_room, crypto::PortCrypto, poller::Poller, port::Port,
};

/// How many commands are taken in one turn.
const COMMANDS_PER_TURN: usize = 256;
/// The longest sleep: time that passes without a turn counts as a pause of this process.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Where the outcome of a call goes.
pub(super) type Outcome = Result<Vec<u8>, CallError>;

/// The task that waits for the outcome of a call.
#[derive(Debug)]
pub(super) struct Reply(pub(super) oneshot::Sender<Outcome>);

impl Reply {
    fn finish(self, outcome: Outcome) {
        // The caller may have given up by itself.
        match self.0.send(outcome) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl CallReply for Reply {
    fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// What other threads tell this one.
pub(super) enum Command {
    /// Call another node.
    Call { peer: PeerKey, call: Call<Reply> },
    /// Send the answer to a call of another node.
    Answer { caller: CallerId, answer: Vec<u8> },
    /// The name of a node was looked up.
    Located { peer: PeerKey, addresses: Vec<SocketAddr> },
    /// From now on, answer calls of other nodes by this.
    Serve(Answer),
    /// From now on nodes have these keys.
    Keys(Arc<NodeKeys>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Call { .. } => "Call",
            Self::Answer { .. } => "Answer",
            Self::Located { .. } => "Located",
            Self::Serve(_) => "Serve",
            Self::Keys(_) => "Keys",
        })
    }
}

/// Everything that the thread owns.
pub(super) struct LinkThread {
    pub(super) poller: Poller,
    pub(super) port: Port,
    pub(super) links: ClusterLinks<Reply>,
    /// Who computes handshakes; `None`: there are no keys.
    pub(super) crypto: Option<PortCrypto>,
    pub(super) runtime: Handle,
    /// For the tasks that it starts.
    pub(super) caller: LinkCaller,
    pub(super) queue: Receiver<Command>,
    pub(super) bell: Bell,
    pub(super) answer: Option<Answer>,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) is_stopped: Arc<AtomicBool>,
}

/// Whether a queue was read until nothing was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Emptied,
    MoreWaits,
}

impl LinkThread {
    /// Carries calls until it is told to stop.
    pub(super) fn run(mut self) {
        let mut published = LinkTotals::default();
        while !self.is_stopped.load(Ordering::Acquire) {
            let sleep = self.turn();
            let totals = self.links.totals();
            if totals != published {
                published = totals;
                self.counters.publish(totals);
            }
            if let Err(error) = self.wait(sleep) {
                tracing::error!(%error, "the cluster thread ends: this node is cut off");
                return;
            }
        }
    }

    /// One turn. Returns how long the thread may sleep at most.
    fn turn(&mut self) -> Duration {
        let now = Instant::now();
        let queue = self.read_queue(now);
        self.port.accept(now, &mut self.links);
        let connections = self.port.read(&mut self.links);
        let now = Instant::now();
        if let Some(crypto) = &mut self.crypto {
            crypto.turn(now, self.links.transport());
        }
        let port = &self.port;
        self.links.handle_timeout(now, |id| port.has_unread(id));
        self.run_actions(now);
        self.port.flush(now, self.links.transport());
        let is_busy = queue == QueueState::MoreWaits
            || connections == ReadState::MoreWaits
            || self.port.is_awake()
            || self.links.is_awake()
            || self.poller.has_more();
        if is_busy { Duration::ZERO } else { SLEEP_MAX }
    }

    fn read_queue(&mut self, now: Instant) -> QueueState {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.queue.try_recv() else { return QueueState::Emptied };
            match command {
                Command::Call { peer, call } => self.links.call(now, peer, call),
                Command::Answer { caller, answer } => self.links.answer(now, caller, answer),
                Command::Located { peer, addresses } => {
                    self.links.handle_located(now, &peer, &addresses);
                }
                Command::Keys(keys) => self.links.set_keys(now, keys),
                Command::Serve(answer) => {
                    self.answer.get_or_insert(answer);
                    self.links.begin_serving();
                }
            }
        }
        QueueState::MoreWaits
    }

    fn run_actions(&mut self, now: Instant) {
        while let Some(action) = self.links.poll_action() {
            match action {
                ClusterAction::Dial { connection, address } => self.dial(connection, address),
                ClusterAction::Locate { peer } => self.locate(now, peer),
                ClusterAction::Serve(call) => self.serve(call),
                ClusterAction::Finish { reply, outcome } => reply.finish(outcome),
            }
        }
    }

    /// Begins to connect to a node. If that fails, it is tried again.
    fn dial(&mut self, connection: ConnectionId, address: SocketAddr) {
        let dialled = self.port.dial(connection, address, &mut self.links);
        let Err(error) = dialled else { return };
        if is_no_room(&error) {
            tracing::warn!(%address, %error, "no socket for another node");
        } else {
            tracing::debug!(%address, %error, "a node can not be connected to");
        }
    }

    /// Answers a call on a thread of the runtime.
    fn serve(&self, call: IncomingCall) {
        let Some(answer) = &self.answer else { return };
        let answering = answer(call.node, call.request);
        let (queue, counters) = (self.caller.clone(), Arc::clone(&self.counters));
        self.runtime.spawn(async move {
            let Some(answer) = answering.await else { return };
            if answer.len() > CALL_BYTES_MAX {
                let bytes = answer.len();
                tracing::warn!(bytes, CALL_BYTES_MAX, "an answer is too long for the link");
                return counters.count_lost_answer();
            }
            if queue.post(Command::Answer { caller: call.caller, answer }).is_err() {
                counters.count_lost_answer();
            }
        });
    }

    fn locate(&mut self, now: Instant, peer: PeerKey) {
        let endpoint = peer.endpoint.parse::<Endpoint>().ok();
        let name = endpoint.as_ref().and_then(|it| Some((it.host_name()?.to_owned(), it.port())));
        if let Some(name) = name {
            self.runtime.spawn(resolve(self.caller.clone(), peer, name));
        } else {
            let address = endpoint.and_then(|endpoint| endpoint.socket_address());
            self.links.handle_located(now, &peer, address.as_slice());
        }
    }

    fn wait(&mut self, sleep_max: Duration) -> io::Result<()> {
        let due = self.links.poll_timeout().into_iter().chain(self.port.poll_timeout()).min();
        let sleep = due.map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
        let ports = &mut [(PortName::Nodes, &mut self.port)];
        if self.poller.poll(sleep.min(sleep_max), ports)? {
            self.bell.silence();
        }
        self.port.write_where_room(Instant::now(), self.links.transport());
        Ok(())
    }
}

/// Looks up the name of a node. If the outcome gets lost, it is looked up again.
async fn resolve(queue: LinkCaller, peer: PeerKey, name: (String, u16)) {
    let addresses = tokio::net::lookup_host(name).await;
    let addresses = addresses.map(Iterator::collect).unwrap_or_default();
    match queue.post(Command::Located { peer, addresses }) {
        Ok(()) | Err(_) => {}
    }
}
