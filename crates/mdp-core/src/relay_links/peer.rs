//! The origin's end of a link: another node, and the connection to it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_transport::{ConnectionId, SharedFrame, SocketType, Transport};
use mdp_wire::{
    ServiceName,
    relay::{AtOrigin, ForwardId, Hello, Refusal, RefusalReason, ToOwner, Welcome, WireRange},
};

use super::{
    CURVE_TIME_MAX, HANDSHAKE_TIME_MAX, LINK_MESSAGE_BYTES_MAX, LinkLoss, Located,
    OWNER_SILENT_MAX, RETIRED_LINK_MAX, RelayAction, Tag, Turn, forwards, ledger::is_passing,
};
use crate::{backoff::Jitter, node_keys::Dialled};

/// When a look-up that says nothing is given up.
const LOCATE_TIME_MAX: Duration = Duration::from_secs(15);
/// How long an attempt waits for a look-up if the node was found before: a slow or dead name server keeps
/// no node away that is where it was.
const LOCATE_PATIENCE: Duration = Duration::from_millis(100);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 16;

/// Another node, as the owner of requests.
#[derive(Debug)]
pub(super) struct Peer {
    node: NodeName,
    /// Where it takes requests, as the catalog says.
    endpoint: String,
    stage: Stage,
    connection: Option<ConnectionId>,
    /// How many bytes had come at the last look.
    bytes_in: u64,
    /// What its endpoint stood for when it last stood for anything.
    addresses: Vec<SocketAddr>,
    /// Where the last attempt went.
    address: Option<SocketAddr>,
    /// Where the node has just said that it speaks no CURVE, and may be called without.
    plain_at: Option<SocketAddr>,
    /// Whether the last attempt was without.
    is_plain: bool,
    /// When the look-up that is under way is given up, if there is one.
    locate_end: Option<Instant>,
    /// The number of the attempt.
    session: u64,
    /// Attempts that failed since the last link.
    failures: u32,
    /// Since when there should be no link any more, if so.
    retired_at: Option<Instant>,
    /// Whether it is to be forgotten.
    is_over: bool,
    has_warned: bool,
    has_warned_of_key: bool,
}

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The last attempt failed; until when to wait is not decided.
    Failed { at: Instant },
    /// The next attempt is made then.
    Waiting { until: Instant },
    /// Its address is looked up; then it is connected to where it was, if it ever was anywhere.
    Locating { until: Instant },
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
            Self::Failed { .. }
            | Self::Waiting { .. }
            | Self::Locating { .. }
            | Self::Connecting { .. }
            | Self::Greeting { .. } => None,
        }
    }
}

impl Peer {
    pub(super) const fn new(node: NodeName, endpoint: String, now: Instant) -> Self {
        Self {
            node,
            endpoint,
            stage: Stage::Waiting { until: now },
            connection: None,
            bytes_in: 0,
            addresses: Vec::new(),
            address: None,
            plain_at: None,
            is_plain: false,
            locate_end: None,
            session: 0,
            failures: 0,
            retired_at: None,
            is_over: false,
            has_warned: false,
            has_warned_of_key: false,
        }
    }

    pub(super) const fn node(&self) -> &NodeName {
        &self.node
    }

    pub(super) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Its connection, and the node that it is to.
    pub(super) fn dialled(&self) -> Option<(ConnectionId, NodeName)> {
        Some((self.connection?, self.node.clone()))
    }

    /// Whether this is its connection.
    pub(super) fn is_on(&self, id: ConnectionId) -> bool {
        self.connection == Some(id)
    }

    /// The link, if it is there.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Up { link, .. } => Some(link),
            Stage::Failed { .. }
            | Stage::Waiting { .. }
            | Stage::Locating { .. }
            | Stage::Connecting { .. }
            | Stage::Greeting { .. } => None,
        }
    }

    /// The wire version of the link, if it is there.
    pub(super) const fn wire(&self) -> Option<u16> {
        self.stage.wire()
    }

    /// Whether this is where it takes requests.
    pub(super) fn is_at(&self, endpoint: &str) -> bool {
        self.endpoint == endpoint
    }

    /// The node takes part, again.
    pub(super) const fn keep(&mut self) {
        self.retired_at = None;
    }

    /// The node does not take part any more. Without a link there is nothing to wait for.
    pub(super) fn retire(&mut self, turn: &mut Turn<'_>) {
        self.retired_at.get_or_insert(turn.now);
        if self.link().is_none() {
            self.end(LinkLoss::Left, turn);
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the link, if it is there, and forgets the node.
    pub(super) fn end(&mut self, loss: LinkLoss, turn: &mut Turn<'_>) {
        self.fail(loss, Vec::new(), turn);
        self.is_over = true;
    }

    /// The attempt failed, or the link is gone, with these requests of which nothing was sent.
    pub(super) fn fail(&mut self, loss: LinkLoss, mut unsent: Vec<ForwardId>, turn: &mut Turn<'_>) {
        if let Some(connection) = self.connection.take() {
            unsent.extend(forwards(turn.transport.close(connection)));
        }
        if let Some(link) = self.link() {
            turn.ledger.down(link, &self.node, loss, unsent);
            self.failures = 0;
            self.is_over |= self.retired_at.is_some();
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.stage = Stage::Failed { at: turn.now };
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn poll_timeout(&self) -> Instant {
        let due = match self.stage {
            // At once.
            Stage::Failed { at } => at,
            Stage::Waiting { until }
            | Stage::Locating { until }
            | Stage::Connecting { until }
            | Stage::Greeting { until } => until,
            Stage::Up { heard_at, .. } => heard_at + OWNER_SILENT_MAX,
        };
        self.retired_at.map_or(due, |at| due.min(at + RETIRED_LINK_MAX))
    }

    /// Takes a message; returns what the engine is to be told of it.
    pub(super) fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        frames: &mut Vec<SharedFrame>,
    ) -> Option<Input<SharedFrame>> {
        let wire = self.stage.wire().map_or(turn.me.wire, WireRange::only);
        match AtOrigin::decode(wire, frames) {
            Ok(said) => self.on_said(turn, said),
            Err(error) => {
                if turn.ledger.malformed(self.node.as_str()) {
                    let node = &self.node;
                    tracing::warn!(%node, %error, "a node says what no node says; its link ends");
                }
                self.fail(LinkLoss::Malformed, Vec::new(), turn);
                None
            }
        }
    }

    fn on_said(
        &mut self,
        turn: &mut Turn<'_>,
        said: AtOrigin<SharedFrame>,
    ) -> Option<Input<SharedFrame>> {
        let now = turn.now;
        match (self.stage, said) {
            (Stage::Up { link, wire, .. }, AtOrigin::Message(message)) => {
                self.stage = Stage::Up { link, wire, heard_at: now };
                return Some(Input::FromOwner { link, message });
            }
            (Stage::Up { link, wire, .. }, AtOrigin::Ping) => {
                self.stage = Stage::Up { link, wire, heard_at: now };
            }
            (Stage::Up { .. }, AtOrigin::Bye) => self.fail(LinkLoss::Left, Vec::new(), turn),
            (Stage::Greeting { .. }, AtOrigin::Welcome(welcome)) => self.on_welcome(turn, &welcome),
            (_, AtOrigin::Refusal(refusal)) => self.on_refusal(turn, &refusal),
            (_, said) => {
                if turn.ledger.malformed(self.node.as_str()) {
                    let node = &self.node;
                    tracing::warn!(%node, ?said, "a node says this at the wrong time; its link ends");
                }
                self.fail(LinkLoss::Malformed, Vec::new(), turn);
            }
        }
        None
    }

    fn on_welcome(&mut self, turn: &mut Turn<'_>, welcome: &Welcome) {
        let range = turn.me.wire;
        let reason = if welcome.node != self.node.as_str() {
            RefusalReason::WrongNode
        } else if !range.contains(welcome.wire) {
            RefusalReason::WrongVersion { min: range.min, max: range.max }
        } else {
            self.failures = 0;
            turn.ledger.set_networks(&self.node, &welcome.networks);
            let peer = (welcome.version.as_str(), welcome.wire);
            let link = turn.ledger.up(LinkRole::Origin, &self.node, peer);
            if let Some(connection) = self.connection {
                turn.transport.set_message_bytes_max(connection, LINK_MESSAGE_BYTES_MAX);
            }
            self.stage = Stage::Up { link, wire: welcome.wire, heard_at: turn.now };
            return;
        };
        let (version, node) = (welcome.version.clone(), welcome.node.clone());
        self.on_refusal(turn, &Refusal { reason, version, node });
    }

    fn on_refusal(&mut self, turn: &mut Turn<'_>, refusal: &Refusal) {
        let Refusal { reason, version, node: says } = refusal;
        let is_new = turn.ledger.refused(LinkRole::Origin, self.node.as_str(), *reason);
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
                %node, endpoint, version, min, max, says, own = turn.me.version, reason = label,
                "relay link refused: no requests go to that node"
            );
        }
        self.fail(LinkLoss::Refused, Vec::new(), turn);
    }

    /// Sends a message. Returns the connection that it waits on.
    pub(super) fn send(
        &self,
        message: ToOwner<ServiceName, SharedFrame>,
        transport: &mut Transport<Tag>,
    ) -> Option<ConnectionId> {
        let (connection, wire) = self.connection.zip(self.stage.wire())?;
        let tag = match &message {
            ToOwner::Forward(forward) => Some(Tag::Forward(forward.id)),
            ToOwner::Cancel(_) => None,
        };
        transport.send(connection, tag, |writer| {
            let Ok(()) = message.encode(wire, writer);
        });
        Some(connection)
    }

    /// The connection is there: says who this node is.
    pub(super) fn greet(&mut self, turn: &mut Turn<'_>) {
        let (Stage::Connecting { until }, Some(connection)) = (self.stage, self.connection) else {
            return;
        };
        if !turn.keys.on_dialled_opened(turn.transport, connection, Some(&self.node)) {
            return self.fail(LinkLoss::Disconnected, Vec::new(), turn);
        }
        // Nodes take requests at a ROUTER; TCP can connect a port with itself, which is none.
        let peer = turn.transport.peer(connection);
        if peer.is_none_or(|peer| peer.socket_type != SocketType::Router) {
            if turn.ledger.malformed(self.node.as_str()) {
                let (node, endpoint) = (&self.node, &self.endpoint);
                tracing::warn!(%node, endpoint, "what is there is no node; it is tried again");
            }
            return self.fail(LinkLoss::Malformed, Vec::new(), turn);
        }
        let Some((cluster, epoch)) = &turn.me.life else { return };
        let hello = Hello {
            wire: turn.me.wire,
            version: turn.me.version.to_owned(),
            cluster: cluster.clone(),
            node: turn.me.node.as_str().to_owned(),
            epoch: epoch.0,
            wanted: self.node.as_str().to_owned(),
            session: self.session,
        };
        turn.transport.send(connection, None, |writer| {
            let Ok(()) = hello.encode(writer);
        });
        self.stage = Stage::Greeting { until };
    }

    /// Ends what takes too long. Of one that has something unread, or whose message grows, it is not known to
    /// be silent.
    pub(super) fn judge(&mut self, turn: &mut Turn<'_>, has_unread: bool) {
        let now = turn.now;
        if self.retired_at.is_some_and(|at| now >= at + RETIRED_LINK_MAX) {
            self.end(LinkLoss::Left, turn);
        }
        let bytes_in = self.connection.map_or(0, |id| turn.transport.bytes_in(id));
        let has_heard = std::mem::replace(&mut self.bytes_in, bytes_in) != bytes_in;
        let is_inside = self.connection.is_some_and(|id| turn.transport.input_bytes(id) > 0);
        let grows = has_heard && is_inside;
        if let Stage::Up { heard_at, .. } = &mut self.stage
            && grows
        {
            *heard_at = now;
        }
        if has_unread {
            return;
        }
        match self.stage {
            Stage::Locating { until } if now >= until && !self.addresses.is_empty() => {
                self.dial(turn);
            }
            Stage::Locating { until } | Stage::Connecting { until } | Stage::Greeting { until }
                if now >= until =>
            {
                self.fail(LinkLoss::Disconnected, Vec::new(), turn);
            }
            Stage::Up { heard_at, .. } if now >= heard_at + OWNER_SILENT_MAX => {
                self.fail(LinkLoss::Silent, Vec::new(), turn);
            }
            Stage::Failed { .. }
            | Stage::Waiting { .. }
            | Stage::Locating { .. }
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
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>, session: u64) {
        self.session = session;
        let now = turn.now;
        let under_way = self.locate_end.filter(|end| now < *end);
        let locate_end = under_way.unwrap_or(now + LOCATE_TIME_MAX);
        self.locate_end = Some(locate_end);
        if under_way.is_none() {
            let (node, endpoint) = (self.node.clone(), self.endpoint.clone());
            turn.actions.push_back(RelayAction::Locate { node, endpoint });
        }
        let patience = now + LOCATE_PATIENCE;
        let until = if self.addresses.is_empty() { locate_end } else { patience };
        self.stage = Stage::Locating { until };
    }

    /// Takes where it is now. What it was is kept if that is nowhere: the name server may have failed, and
    /// not the node.
    pub(super) fn on_located(&mut self, turn: &mut Turn<'_>, located: &Located) {
        if located.endpoint != self.endpoint {
            return;
        }
        self.locate_end = None;
        if located.addresses.is_empty() {
            if !std::mem::replace(&mut self.has_warned, true) {
                let (node, endpoint) = (&self.node, &self.endpoint);
                tracing::warn!(%node, endpoint, "a node has no address; it is tried again");
            }
        } else {
            self.has_warned = false;
            self.addresses = located.addresses.iter().copied().take(ADDRESSES_MAX).collect();
        }
        if let Stage::Locating { .. } = self.stage {
            self.dial(turn);
        }
    }

    /// Whether the last attempt was without CURVE.
    pub(super) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The node speaks no CURVE: connects without, at once.
    pub(super) fn dial_plain(&mut self, turn: &mut Turn<'_>) {
        if let Some(connection) = self.connection.take() {
            turn.transport.close(connection);
        }
        self.plain_at = self.address;
        self.dial(turn);
    }

    /// Connects. Of several addresses, the one after that which was tried last has its turn.
    fn dial(&mut self, turn: &mut Turn<'_>) {
        let plain_at = self.plain_at.take();
        self.is_plain = plain_at.is_some();
        let next = plain_at.or_else(|| crate::next_address(&self.addresses, self.address));
        let Some(address) = next else {
            return self.fail(LinkLoss::Disconnected, Vec::new(), turn);
        };
        self.address = Some(address);
        let how = (address, self.is_plain);
        let connection = match turn.keys.dial(turn.now, turn.transport, Some(&self.node), how) {
            Dialled::Connection(connection) => connection,
            Dialled::NoRoom => return self.fail(LinkLoss::Disconnected, Vec::new(), turn),
            Dialled::NoKey => {
                if !std::mem::replace(&mut self.has_warned_of_key, true) {
                    let node = &self.node;
                    tracing::warn!(%node, "cluster.keys_dir has no key of a node: no link with it");
                }
                return self.fail(LinkLoss::Disconnected, Vec::new(), turn);
            }
        };
        self.connection = Some(connection);
        let time_max = if turn.keys.count() == 0 { HANDSHAKE_TIME_MAX } else { CURVE_TIME_MAX };
        self.stage = Stage::Connecting { until: turn.now + time_max };
        turn.actions.push_back(RelayAction::Dial { connection, address });
    }

    /// After an attempt that failed, decides when the next one is made.
    pub(super) fn settle(&mut self, now: Instant, jitter: &mut Jitter) {
        if let Stage::Failed { .. } = self.stage {
            self.stage = Stage::Waiting { until: now + jitter.wait(self.failures) };
        }
    }

    /// This process stood still: everything gets its time anew.
    pub(super) fn rearm(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Failed { .. } | Stage::Waiting { .. } => {}
            Stage::Locating { until } if self.addresses.is_empty() => {
                *until = now + LOCATE_TIME_MAX;
                self.locate_end = Some(*until);
            }
            Stage::Locating { until } => *until = now + LOCATE_PATIENCE,
            Stage::Connecting { until } | Stage::Greeting { until } => {
                *until = now + HANDSHAKE_TIME_MAX;
            }
            Stage::Up { heard_at, .. } => *heard_at = now,
        }
    }
}
