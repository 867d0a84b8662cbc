//! The calls between the processes of nodes: the node's own links, over virtual connections. As in a node,
//! they have turns of their own, and the tasks of consensus reach them by a queue.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_core::{
    Call, CallReply, CallerId, ClusterAction, ClusterLinks, Connections, IncomingCall,
    IncomingLimits, PeerKey,
};
use mdp_raft::{BoxFuture, CallError, Lane, Transport};
use mdp_transport::ConnectionId;
use tokio::sync::oneshot;

use crate::{
    hosts::{Consensus, Host},
    machine::Bells,
    network::{Network, cluster_socket, site_of, site_of_socket},
    port::{Io, Port, ReadLimits},
    shared::Shared,
    wires::{Delivery, WireKind},
};

/// How many connections others may make.
const LIMITS: IncomingLimits = IncomingLimits { visitors_max: 64, callers_max: 64 };
/// How late the links may be with the end of a call's time, until the caller goes on without them.
const LAG_MAX: Duration = Duration::from_millis(50);

/// Where the outcome of a call goes; `None`: it gets lost.
#[derive(Debug)]
struct Reply(Option<oneshot::Sender<Result<Vec<u8>, CallError>>>);

impl CallReply for Reply {
    fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// What tasks tell the links.
#[derive(Debug)]
enum Command {
    Call { peer: PeerKey, call: Call<Reply> },
    Answer { caller: CallerId, answer: Vec<u8> },
}

/// How tasks reach the links of their process.
#[derive(Clone, Debug)]
struct Inbox {
    commands: Arc<Shared<VecDeque<Command>>>,
    bells: Bells,
    site: usize,
}

impl Inbox {
    fn put(&self, command: Command) {
        self.commands.lock().push_back(command);
        self.bells.ring_links(self.site);
    }
}

/// The transport of the consensus of one process.
#[derive(Debug)]
pub(crate) struct Caller {
    inbox: Inbox,
    network: Network,
    host: Host,
}

impl Transport for Caller {
    fn call(
        &self,
        endpoint: &str,
        lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let deadline = self.host.now() + timeout;
        let peer = PeerKey { endpoint: endpoint.to_owned(), lane, node: None };
        let fate = self.network.draw_fate(self.inbox.site, site_of(endpoint), &request);
        if let Some(delay) = fate.again_after {
            self.call_again(delay, &peer, (request.clone(), deadline));
        }
        let (sender, answer) = oneshot::channel();
        let (reply, kept) = match fate.is_answer_lost {
            true => (Reply(None), Some(sender)),
            false => (Reply(Some(sender)), None),
        };
        let call = Call { request, deadline: deadline.into_std(), reply };
        // What gets lost is neither sent nor answered.
        let lost = match fate.is_lost {
            true => Some(call),
            false => {
                self.inbox.put(Command::Call { peer, call });
                None
            }
        };
        let host = self.host.clone();
        Box::pin(async move {
            let _unanswered = (lost, kept);
            tokio::select! {
                biased;
                answered = answer => answered.unwrap_or(Err(CallError::Unreachable)),
                () = host.sleep_until(deadline + LAG_MAX) => Err(CallError::Timeout),
            }
        })
    }
}

impl Caller {
    /// The same call once more, after a while, as if it had been sent twice; nothing comes of its answer.
    fn call_again(
        &self,
        delay: Duration,
        peer: &PeerKey,
        (request, deadline): (Vec<u8>, tokio::time::Instant),
    ) {
        let (inbox, host, peer) = (self.inbox.clone(), self.host.clone(), peer.clone());
        let at = host.now() + delay;
        let later = async move {
            host.sleep_until(at).await;
            let call = Call { request, deadline: deadline.into_std(), reply: Reply(None) };
            inbox.put(Command::Call { peer, call });
        };
        self.host.spawn(later);
    }
}

/// The links of one process.
#[derive(Debug)]
pub(crate) struct Calls {
    inbox: Inbox,
    links: ClusterLinks<Reply>,
    port: Port,
    host: Host,
    /// What answers the calls of others, once it takes part.
    consensus: Option<Consensus>,
}

impl Calls {
    pub(crate) fn new(site: usize, bells: &Bells, host: &Host) -> Self {
        let (commands, bells) = (Arc::default(), bells.clone());
        let now = host.now().into_std();
        Self {
            inbox: Inbox { commands, bells, site },
            links: ClusterLinks::new(now, LIMITS, host.random()),
            port: Port::new(WireKind::Cluster, site, ReadLimits::OF_MANY),
            host: host.clone(),
            consensus: None,
        }
    }

    /// Calls other nodes.
    pub(crate) fn caller(&self, network: &Network) -> Caller {
        let (inbox, network) = (self.inbox.clone(), network.clone());
        Caller { inbox, network, host: self.host.clone() }
    }

    /// From now on calls of others are answered.
    pub(crate) fn serve(&mut self, consensus: Consensus) {
        self.links.begin_serving();
        self.consensus = Some(consensus);
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        self.port.put(delivery);
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.links.is_awake()
    }

    /// When the next turn is due, by the machine's clock.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.links.poll_timeout()
    }

    /// One turn, in the order in which a node's thread has it.
    pub(crate) fn turn(&mut self, io: &mut Io<'_>) {
        self.port.resume_writing(io, self.links.transport());
        for command in std::mem::take(&mut *self.inbox.commands.lock()) {
            match command {
                Command::Call { peer, call } => self.links.call(io.now, peer, call),
                Command::Answer { caller, answer } => self.links.answer(io.now, caller, answer),
            }
        }
        self.port.read(io, &mut self.links);
        let port = &self.port;
        self.links.handle_timeout(io.now, |id| port.has_unread(id));
        while let Some(action) = self.links.poll_action() {
            self.run_action(io, action);
        }
        self.port.flush(io, self.links.transport());
    }

    fn run_action(&mut self, io: &mut Io<'_>, action: ClusterAction<Reply>) {
        match action {
            ClusterAction::Dial { connection, address } => match site_of_socket(address) {
                Some(to) => self.dial(io, connection, to),
                None => self.links.failed(connection, io::ErrorKind::AddrNotAvailable),
            },
            ClusterAction::Locate { peer } => {
                let address = site_of(&peer.endpoint).map(cluster_socket);
                self.links.handle_located(io.now, &peer, address.as_slice());
            }
            ClusterAction::Serve(call) => self.answer(call),
            ClusterAction::Finish { reply: Reply(sender), outcome } => {
                if let Some(sender) = sender {
                    // The caller may have given up by itself.
                    match sender.send(outcome) {
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
    }

    fn dial(&mut self, io: &mut Io<'_>, connection: ConnectionId, to: usize) {
        self.port.dial(io, connection, to);
    }

    fn answer(&self, call: IncomingCall) {
        let Some(consensus) = self.consensus.clone() else { return };
        let IncomingCall { caller, request, .. } = call;
        let inbox = self.inbox.clone();
        let answering = async move {
            if let Some(answer) = consensus.answer(request).await {
                inbox.put(Command::Answer { caller, answer });
            }
        };
        self.host.spawn(answering);
    }
}
