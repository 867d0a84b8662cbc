//! The origin's end of a link: another node, and the connection to it.

use std::{
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_transport::SharedFrame;
use mdp_wire::{
    ServiceName,
    relay::{AtOrigin, ForwardId, Hello, Refusal, RefusalReason, ToOwner, Welcome, WireRange},
};

use super::{
    CONNECT_MILLISECONDS_MAX, HANDSHAKE_TIME_MAX, LinkLoss, Myself, OWNER_SILENT_MAX,
    RETIRED_LINK_MAX, Received, Turn,
    backoff::Jitter,
    configure,
    ledger::{Ledger, is_passing},
    receive_frames,
    resolver::{Resolved, Resolver},
};
use crate::{
    Endpoint, SocketError,
    endpoint::next_address,
    version::VERSION,
    zeromq::{Context, Frame, FrameFlow, IoThreads, Socket, SocketOption, Wire},
};

/// Then a socket can send as long as it has a connection, and no longer.
const SEND_WITHOUT_LIMIT: i32 = 0;
const NEVER_RECONNECT: i32 = -1;
/// When a look-up that says nothing is given up.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(15);

/// Another node, as the owner of requests.
#[derive(Debug)]
pub(super) struct Peer {
    node: NodeName,
    endpoint: Endpoint,
    stage: Stage,
    connection: Option<Connection>,
    /// Where the last attempt went.
    address: Option<SocketAddr>,
    /// Where the next attempt goes, if the host is a name: it was just looked up.
    target: Option<SocketAddr>,
    /// The number of the attempt.
    session: u64,
    /// Attempts that failed since the last link.
    failures: u32,
    /// Since when there should be no link any more, if so.
    retired_at: Option<Instant>,
    /// Whether it is to be forgotten.
    is_over: bool,
    has_warned: bool,
}

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The last attempt failed; when to wait until is not decided.
    Failed,
    /// The next attempt is made then.
    Waiting { until: Instant },
    /// The name of its host is looked up.
    Resolving { until: Instant },
    /// Its connection is being made.
    Connecting { until: Instant },
    /// It was greeted.
    Greeting { until: Instant },
    /// The link is there.
    Up { link: LinkId, wire: u16, heard_at: Instant },
}

impl Stage {
    /// The wire version of the link that is there.
    const fn wire(self) -> Option<u16> {
        match self {
            Self::Up { wire, .. } => Some(wire),
            Self::Failed
            | Self::Waiting { .. }
            | Self::Resolving { .. }
            | Self::Connecting { .. }
            | Self::Greeting { .. } => None,
        }
    }
}

/// A socket that connects once.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// Whether something may have come.
    is_awake: bool,
    /// Whether the socket was not used since it was asked for news.
    is_quiet: bool,
}

impl Peer {
    pub(super) const fn new(node: NodeName, endpoint: Endpoint, now: Instant) -> Self {
        Self {
            node,
            endpoint,
            stage: Stage::Waiting { until: now },
            connection: None,
            address: None,
            target: None,
            session: 0,
            failures: 0,
            retired_at: None,
            is_over: false,
            has_warned: false,
        }
    }

    pub(super) const fn node(&self) -> &NodeName {
        &self.node
    }

    /// The link, if it is there.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Up { link, .. } => Some(link),
            Stage::Failed
            | Stage::Waiting { .. }
            | Stage::Resolving { .. }
            | Stage::Connecting { .. }
            | Stage::Greeting { .. } => None,
        }
    }

    /// Whether this is where it takes requests.
    pub(super) fn is_at(&self, endpoint: &str) -> bool {
        endpoint.parse() == Ok(self.endpoint.clone())
    }

    /// The node takes part, again.
    pub(super) const fn keep(&mut self) {
        self.retired_at = None;
    }

    /// The node does not take part any more.
    pub(super) fn retire(&mut self, now: Instant) {
        self.retired_at.get_or_insert(now);
        self.is_over |= self.link().is_none();
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the link, if it is there, and forgets the node.
    pub(super) fn end(&mut self, loss: LinkLoss, ledger: &mut Ledger) {
        self.fail(loss, Vec::new(), ledger);
        self.is_over = true;
    }

    /// The attempt failed, or the link is gone.
    fn fail(&mut self, loss: LinkLoss, unsent: Vec<ForwardId>, ledger: &mut Ledger) {
        if let Some(link) = self.link() {
            ledger.down(link, &self.node, loss, unsent);
            self.failures = 0;
            self.is_over |= self.retired_at.is_some();
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.connection = None;
        self.stage = Stage::Failed;
    }

    pub(super) fn is_awake(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_awake)
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) const fn wake(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.is_awake = true;
        }
    }

    pub(super) fn descriptor(&self) -> Option<Result<BorrowedFd<'_>, SocketError>> {
        self.connection.as_ref().map(|connection| connection.socket.descriptor())
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn poll_timeout(&self) -> Instant {
        let due = match self.stage {
            // Settled in the same turn.
            Stage::Failed => return Instant::now(),
            Stage::Waiting { until }
            | Stage::Resolving { until }
            | Stage::Connecting { until }
            | Stage::Greeting { until } => until,
            Stage::Up { heard_at, .. } => heard_at + OWNER_SILENT_MAX,
        };
        self.retired_at.map_or(due, |at| due.min(at + RETIRED_LINK_MAX))
    }

    pub(super) fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        frames: &mut Vec<SharedFrame>,
    ) -> Result<Received, SocketError> {
        let Some(connection) = &mut self.connection else { return Ok(Received::Handled) };
        connection.is_quiet = false;
        let mut first = Frame::new();
        if connection.socket.receive(&mut first)? == FrameFlow::WouldWait {
            // Whether the connection still lives is asked before the next sleep.
            connection.is_awake = false;
            return Ok(Received::Handled);
        }
        let has_more = first.has_more();
        frames.push(SharedFrame::from(first.as_ref()));
        receive_frames(&mut connection.socket, has_more, frames)?;
        let wire = self.stage.wire().map_or(turn.me.wire, WireRange::only);
        match AtOrigin::decode(wire, frames) {
            Ok(said) => Ok(self.on_said(turn, said)),
            Err(error) => {
                if turn.ledger.malformed(self.node.as_str()) {
                    let node = &self.node;
                    tracing::warn!(%node, %error, "a node says what no node says; its link ends");
                }
                self.fail(LinkLoss::Malformed, Vec::new(), turn.ledger);
                Ok(Received::Handled)
            }
        }
    }

    fn on_said(&mut self, turn: &mut Turn<'_>, said: AtOrigin<SharedFrame>) -> Received {
        let Turn { now, me, ledger } = turn;
        let now = *now;
        match (self.stage, said) {
            (Stage::Up { link, wire, .. }, AtOrigin::Message(message)) => {
                self.stage = Stage::Up { link, wire, heard_at: now };
                return Received::Message(Input::FromOwner { link, message });
            }
            (Stage::Up { link, wire, .. }, AtOrigin::Ping) => {
                self.stage = Stage::Up { link, wire, heard_at: now };
            }
            (Stage::Up { .. }, AtOrigin::Bye) => self.fail(LinkLoss::Left, Vec::new(), ledger),
            (Stage::Greeting { .. }, AtOrigin::Welcome(welcome)) => {
                self.on_welcome(now, me, &welcome, ledger);
            }
            (_, AtOrigin::Refusal(refusal)) => self.on_refusal(&refusal, ledger),
            (_, said) => {
                if ledger.malformed(self.node.as_str()) {
                    let node = &self.node;
                    tracing::warn!(%node, ?said, "a node says this at the wrong time; its link ends");
                }
                self.fail(LinkLoss::Malformed, Vec::new(), ledger);
            }
        }
        Received::Handled
    }

    fn on_welcome(&mut self, now: Instant, me: &Myself, welcome: &Welcome, ledger: &mut Ledger) {
        let reason = if welcome.node != self.node.as_str() {
            RefusalReason::WrongNode
        } else if !me.wire.contains(welcome.wire) {
            RefusalReason::WrongVersion { min: me.wire.min, max: me.wire.max }
        } else {
            self.failures = 0;
            ledger.set_networks(&self.node, &welcome.networks);
            let link = ledger.up(LinkRole::Origin, &self.node, (&welcome.version, welcome.wire));
            self.stage = Stage::Up { link, wire: welcome.wire, heard_at: now };
            return;
        };
        let (version, node) = (welcome.version.clone(), welcome.node.clone());
        self.on_refusal(&Refusal { reason, version, node }, ledger);
    }

    fn on_refusal(&mut self, refusal: &Refusal, ledger: &mut Ledger) {
        let Refusal { reason, version, node: says } = refusal;
        let is_new = ledger.refused(LinkRole::Origin, self.node.as_str(), *reason);
        let (node, endpoint, label) = (&self.node, &self.endpoint, reason.label());
        if is_passing(*reason) {
            tracing::debug!(%node, version, reason = label, "relay link refused");
        } else if is_new {
            let (min, max) = match reason {
                RefusalReason::WrongVersion { min, max } => (Some(*min), Some(*max)),
                RefusalReason::WrongCluster
                | RefusalReason::WrongNode
                | RefusalReason::Superseded
                | RefusalReason::NotReady
                | RefusalReason::TooManyLinks
                | RefusalReason::NotLinked
                | RefusalReason::Malformed
                | RefusalReason::Unknown => (None, None),
            };
            tracing::warn!(
                %node, %endpoint, version, min, max, says, own = VERSION, reason = label,
                "relay link refused: no requests go to that node"
            );
        }
        self.fail(LinkLoss::Refused, Vec::new(), ledger);
    }

    /// Sends a message. What cannot be sent ends the link: it is only so when the connection is gone.
    pub(super) fn send(
        &mut self,
        message: ToOwner<ServiceName, SharedFrame>,
        ledger: &mut Ledger,
    ) -> Result<(), SocketError> {
        let Some(wire) = self.stage.wire() else { return Ok(()) };
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let unsent = match &message {
            ToOwner::Forward(forward) => Some(forward.id),
            ToOwner::Cancel(_) => None,
        };
        connection.is_quiet = false;
        match message.encode(wire, &mut Wire::new(&mut connection.socket)) {
            Ok(()) => Ok(()),
            // Without a limit of messages, libzmq only refuses the first frame of one, and only if
            // there is no connection. If that ends between two frames, the rest is swallowed.
            Err(SocketError::WOULD_WAIT) => {
                let unsent = unsent.into_iter().collect();
                self.fail(LinkLoss::Disconnected, unsent, ledger);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the socket for news, if it was used since it was asked last: whether something came,
    /// and whether there is a connection.
    pub(super) fn look(&mut self, me: &Myself, ledger: &mut Ledger) -> Result<(), SocketError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.is_quiet || connection.is_awake {
            return Ok(());
        }
        let readiness = connection.socket.readiness()?;
        connection.is_quiet = true;
        connection.is_awake = readiness.can_receive;
        match self.stage {
            Stage::Connecting { until } if readiness.can_send => self.greet(until, me, ledger),
            Stage::Greeting { .. } | Stage::Up { .. }
                if !readiness.can_send && !readiness.can_receive =>
            {
                self.fail(LinkLoss::Disconnected, Vec::new(), ledger);
                Ok(())
            }
            Stage::Failed
            | Stage::Waiting { .. }
            | Stage::Resolving { .. }
            | Stage::Connecting { .. }
            | Stage::Greeting { .. }
            | Stage::Up { .. } => Ok(()),
        }
    }

    fn greet(
        &mut self,
        until: Instant,
        me: &Myself,
        ledger: &mut Ledger,
    ) -> Result<(), SocketError> {
        let (Some(connection), Some((cluster, epoch))) = (&mut self.connection, &me.life) else {
            return Ok(());
        };
        let hello = Hello {
            wire: me.wire,
            version: VERSION.to_owned(),
            cluster: cluster.clone(),
            node: me.node.as_str().to_owned(),
            epoch: epoch.0,
            wanted: self.node.as_str().to_owned(),
            session: self.session,
        };
        connection.is_quiet = false;
        match hello.encode(&mut Wire::new(&mut connection.socket)) {
            Ok(()) => self.stage = Stage::Greeting { until },
            Err(SocketError::WOULD_WAIT) => self.fail(LinkLoss::Disconnected, Vec::new(), ledger),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Ends what takes too long. Not while something may still have to be read.
    pub(super) fn judge(&mut self, now: Instant, ledger: &mut Ledger) {
        if self.is_awake() {
            return;
        }
        if self.retired_at.is_some_and(|at| now >= at + RETIRED_LINK_MAX) {
            self.end(LinkLoss::Left, ledger);
        }
        match self.stage {
            Stage::Resolving { until }
            | Stage::Connecting { until }
            | Stage::Greeting { until }
                if now >= until =>
            {
                self.fail(LinkLoss::Disconnected, Vec::new(), ledger);
            }
            Stage::Up { heard_at, .. } if now >= heard_at + OWNER_SILENT_MAX => {
                self.fail(LinkLoss::Silent, Vec::new(), ledger);
            }
            Stage::Failed
            | Stage::Waiting { .. }
            | Stage::Resolving { .. }
            | Stage::Connecting { .. }
            | Stage::Greeting { .. }
            | Stage::Up { .. } => {}
        }
    }

    /// Whether it is time for the next attempt.
    pub(super) fn wants_connection(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting { until } if now >= until) && !self.is_over
    }

    /// Begins an attempt, whose number is `session`.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        session: u64,
        context: &Arc<Context>,
        io_threads: IoThreads,
    ) -> Attempt {
        let Some(address) = self.endpoint.socket_address().or_else(|| self.target.take()) else {
            self.stage = Stage::Resolving { until: now + RESOLVE_TIME_MAX };
            return Attempt::WantsAddress;
        };
        (self.session, self.address) = (session, Some(address));
        match Connection::open(context, address, io_threads) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.stage = Stage::Connecting { until: now + HANDSHAKE_TIME_MAX };
            }
            Err(error) => {
                // Out of descriptors, say: it is tried again.
                tracing::warn!(node = %self.node, %error, "no socket for another node");
                self.failures = self.failures.saturating_add(1);
                self.stage = Stage::Failed;
            }
        }
        Attempt::Begun
    }

    /// Begins the look-up of its host's name.
    pub(super) fn resolve(&self, resolver: &Resolver) {
        resolver.begin(&self.node, &self.endpoint);
    }

    /// Takes what the name of its host stands for now. Of several addresses, the one after that
    /// which was tried last has its turn.
    pub(super) fn on_resolved(&mut self, now: Instant, resolved: &Resolved) {
        let Stage::Resolving { .. } = self.stage else { return };
        if resolved.endpoint != self.endpoint {
            return;
        }
        self.target = next_address(&resolved.addresses, self.address);
        if self.target.is_some() {
            self.has_warned = false;
            self.stage = Stage::Waiting { until: now };
            return;
        }
        if !std::mem::replace(&mut self.has_warned, true) {
            let endpoint = &self.endpoint;
            tracing::warn!(%endpoint, "the name of a node has no address; it is tried again");
        }
        self.failures = self.failures.saturating_add(1);
        self.stage = Stage::Failed;
    }

    /// After an attempt that failed, decides when the next one is made.
    pub(super) fn settle(&mut self, now: Instant, jitter: &mut Jitter) {
        if self.stage == Stage::Failed {
            self.stage = Stage::Waiting { until: now + jitter.wait(self.failures) };
        }
    }

    /// This process stood still: everything gets its time anew.
    pub(super) fn rearm(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Failed | Stage::Waiting { .. } => {}
            Stage::Resolving { until } => *until = now + RESOLVE_TIME_MAX,
            Stage::Connecting { until } | Stage::Greeting { until } => {
                *until = now + HANDSHAKE_TIME_MAX;
            }
            Stage::Up { heard_at, .. } => *heard_at = now,
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Begun,
    /// The name of its host is to be looked up first.
    WantsAddress,
}

impl Connection {
    fn open(
        context: &Arc<Context>,
        address: SocketAddr,
        io_threads: IoThreads,
    ) -> Result<Self, SocketError> {
        let socket = Socket::dealer(context)?;
        configure(&socket, SEND_WITHOUT_LIMIT, io_threads)?;
        for (option, value) in [
            (SocketOption::Ipv6, i32::from(address.is_ipv6())),
            // A message is only taken while there is a connection, and a connection that ends is
            // not made anew: so a message reaches the process that was greeted, or nobody.
            (SocketOption::Immediate, 1),
            (SocketOption::ReconnectInterval, NEVER_RECONNECT),
            (SocketOption::ConnectTimeout, CONNECT_MILLISECONDS_MAX),
        ] {
            socket.set(option, value)?;
        }
        socket.connect(&Endpoint::from(address).to_string())?;
        Ok(Self { socket, is_awake: false, is_quiet: false })
    }
}
