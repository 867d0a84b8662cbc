//! The owner's ends of links: connections that other nodes bring their requests by.

use std::{collections::BTreeMap, time::Instant};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_mutants::{Mutant, is_on};
use mdp_transport::{
    ConnectionId, Ending, Loss, MessageWriter, PeerAddress, SharedFrame, Transport,
};
use mdp_wire::relay::{
    AtOwner, Hello, Refusal, RefusalReason, RelayDecodeError, ToOrigin, Welcome, WireRange,
    encode_bye, encode_ping,
};

use super::{
    LINK_MESSAGE_BYTES_MAX, LinkLoss, Myself, PEERS_MAX, PING_INTERVAL, Tag, Turn, VISIT_TIME_MAX,
    complain,
    ledger::{Ledger, is_passing},
};
use crate::node_keys::KeyHolder;

/// How many messages of a connection without a link are answered; what it says after that is not.
const REFUSALS_MAX: u32 = 8;

/// The owner's ends of links.
#[derive(Debug)]
pub(super) struct Incoming {
    links: Vec<Inbound>,
    /// Connections without a link.
    visitors: BTreeMap<ConnectionId, Visitor>,
    visitors_max: usize,
    is_leaving: bool,
}

/// A connection without a link.
#[derive(Debug)]
struct Visitor {
    /// Until when it may stay.
    until: Instant,
    /// How often it was told that it gets no link.
    refusals: u32,
}

/// A link whose origin is another node.
#[derive(Debug)]
struct Inbound {
    connection: ConnectionId,
    link: LinkId,
    node: NodeName,
    epoch: u64,
    session: u64,
    /// The wire version of everything on the link.
    wire: u16,
    /// When something was sent last.
    sent_at: Instant,
    has_said_bye: bool,
}

impl Incoming {
    pub(super) const fn new(visitors_max: usize) -> Self {
        Self { links: Vec::new(), visitors: BTreeMap::new(), visitors_max, is_leaving: false }
    }

    /// The nodes that have a link.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.links.iter().map(|link| &link.node)
    }

    pub(super) fn has(&self, node: &NodeName) -> bool {
        self.nodes().any(|other| other == node)
    }

    /// The node of a link, and the wire version of everything on it.
    pub(super) fn find_link(&self, link: LinkId) -> Option<(&NodeName, u16)> {
        let found = self.links.iter().find(|inbound| inbound.link == link)?;
        Some((&found.node, found.wire))
    }

    /// The connections of all links.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.links.iter().map(|link| link.connection)
    }

    /// How many messages and bytes wait.
    pub(super) fn waiting(&self, transport: &Transport<Tag>) -> (usize, usize) {
        self.links.iter().fold((0, 0), |(messages, bytes), link| {
            let waiting = transport.output_messages(link.connection);
            (messages + waiting, bytes + transport.output_bytes(link.connection))
        })
    }

    /// Another program connected; it may stay for a while, until it is known for a node. Of too many, one that
    /// was refused has to go, or the oldest one.
    pub(super) fn accepted(
        &mut self,
        now: Instant,
        address: PeerAddress,
        transport: &mut Transport<Tag>,
    ) -> Option<ConnectionId> {
        if self.visitors.len() >= self.visitors_max {
            let refused = self.visitors.iter().find(|(_, visitor)| visitor.refusals > 0);
            let leaves = refused.or_else(|| self.visitors.first_key_value()).map(|(id, _)| *id);
            if let Some(id) = leaves {
                self.visitors.remove(&id);
                transport.close(id);
            }
        }
        let id = transport.accepted(now, address)?;
        self.visitors.insert(id, Visitor { until: now + VISIT_TIME_MAX, refusals: 0 });
        Some(id)
    }

    pub(super) fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        frames: &mut Vec<SharedFrame>,
    ) -> Option<Input<SharedFrame>> {
        let Some(at) = self.links.iter().position(|link| link.connection == id) else {
            self.on_visitor_said(turn, id, frames);
            return None;
        };
        let inbound = self.links.get(at)?;
        let link = inbound.link;
        match AtOwner::decode(WireRange::only(inbound.wire), frames) {
            Ok(AtOwner::Message(message)) => return Some(Input::FromOrigin { link, message }),
            Ok(AtOwner::Hello(_)) => self.on_malformed(turn, at, None),
            Err(error) => self.on_malformed(turn, at, Some(error)),
        }
        None
    }

    /// Ends a link that holds something that this node cannot read: what follows may be worse.
    fn on_malformed(&mut self, turn: &mut Turn<'_>, at: usize, error: Option<RelayDecodeError>) {
        let Some(gone) = self.take(at) else { return };
        if turn.ledger.malformed(gone.node.as_str()) {
            let error = error.map(tracing::field::display);
            tracing::warn!(node = %gone.node, error, "a node says what no node says; its link ends");
        }
        turn.ledger.down(gone.link, &gone.node, LinkLoss::Malformed, Vec::new());
        let visitor = Visitor { until: turn.now + VISIT_TIME_MAX, refusals: 0 };
        self.visitors.insert(gone.connection, visitor);
        self.refuse(turn, gone.connection, RefusalReason::Malformed);
    }

    /// A message that belongs to no link: a greeting, or something that came too late.
    fn on_visitor_said(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        frames: &mut Vec<SharedFrame>,
    ) {
        if self.visitors.get(&id).is_none_or(|visitor| visitor.refusals >= REFUSALS_MAX) {
            return;
        }
        match AtOwner::decode(turn.me.wire, frames) {
            Ok(AtOwner::Hello(hello)) => self.on_hello(turn, id, &hello),
            // The end of a link that was given up here, and not there yet.
            Ok(AtOwner::Message(_)) => self.refuse(turn, id, RefusalReason::NotLinked),
            Err(error) => {
                let who = turn.transport.address(id).map(host).unwrap_or_default();
                if turn.ledger.malformed(&who) {
                    tracing::warn!(address = who, %error, "this is no node: ignored");
                }
                self.refuse(turn, id, RefusalReason::Malformed);
            }
        }
    }

    fn on_hello(&mut self, turn: &mut Turn<'_>, id: ConnectionId, hello: &Hello) {
        if let Err(reason) = check_key(turn, id, hello) {
            return self.refuse(turn, id, reason);
        }
        let (wire, node, epoch) = match self.judge(turn.me, hello) {
            Ok(accepted) => accepted,
            Err(reason) => {
                log_refusal(turn.me, hello, reason, turn.ledger);
                return self.refuse(turn, id, reason);
            }
        };
        let welcome = Welcome {
            wire,
            version: turn.me.version.to_owned(),
            node: turn.me.node.as_str().to_owned(),
            epoch,
            networks: (*turn.me.networks).clone(),
        };
        say(turn.transport, id, |writer| welcome.encode(writer));
        turn.transport.set_message_bytes_max(id, LINK_MESSAGE_BYTES_MAX);
        if let Some(at) = self.links.iter().position(|link| link.node == node)
            && let Some(old) = self.take(at)
        {
            let undelivered = turn.transport.close(old.connection).len();
            old.end(LinkLoss::Replaced, undelivered, turn.ledger);
        }
        self.visitors.remove(&id);
        let link = turn.ledger.up(LinkRole::Owner, &node, (&hello.version, wire));
        let (epoch, session, sent_at) = (hello.epoch, hello.session, turn.now);
        let (connection, has_said_bye) = (id, false);
        let inbound =
            Inbound { connection, link, node, epoch, session, wire, sent_at, has_said_bye };
        self.links.push(inbound);
    }

    /// Tells another node that there is no link. It closes the connection then, or this side does in a
    /// while.
    fn refuse(&mut self, turn: &mut Turn<'_>, id: ConnectionId, reason: RefusalReason) {
        if let Some(visitor) = self.visitors.get_mut(&id) {
            visitor.refusals += 1;
        }
        let (version, node) = (turn.me.version.to_owned(), turn.me.node.as_str().to_owned());
        let refusal = Refusal { reason, version, node };
        say(turn.transport, id, |writer| refusal.encode(writer));
    }

    /// The wire version of the link, whose it is, and the life of this node.
    fn judge(&self, me: &Myself, hello: &Hello) -> Result<(u16, NodeName, u64), RefusalReason> {
        let range = me.wire;
        let wire = range.newest_common(hello.wire);
        let wire = wire.ok_or(RefusalReason::WrongVersion { min: range.min, max: range.max })?;
        let node: NodeName = hello.node.parse().map_err(|_| RefusalReason::Malformed)?;
        let (cluster, epoch) = me.life.as_ref().ok_or(RefusalReason::NotReady)?;
        if *cluster != hello.cluster && !is_on(Mutant::ForeignNodeWelcomed) {
            return Err(RefusalReason::WrongCluster);
        }
        let is_foreign = hello.wanted != me.node.as_str() || node == me.node;
        if is_foreign && !is_on(Mutant::ForeignNodeWelcomed) {
            return Err(RefusalReason::WrongNode);
        }
        if self.is_leaving {
            return Err(RefusalReason::NotReady);
        }
        match self.links.iter().find(|link| link.node == node) {
            // The greeting of an older connection, which was read later.
            Some(link)
                if (hello.epoch, hello.session) <= (link.epoch, link.session)
                    && !is_on(Mutant::OlderGreetingWins) =>
            {
                Err(RefusalReason::Superseded)
            }
            None if self.links.len() >= PEERS_MAX => Err(RefusalReason::TooManyLinks),
            Some(_) | None => Ok((wire, node, epoch.0)),
        }
    }

    /// Sends a message. Returns the connection that it waits on; `None`: the link is gone.
    pub(super) fn send(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
        transport: &mut Transport<Tag>,
    ) -> Option<ConnectionId> {
        let inbound = self.links.iter_mut().find(|other| other.link == link)?;
        inbound.sent_at = now;
        let (id, wire) = (inbound.connection, inbound.wire);
        transport.send(id, Some(Tag::ToOrigin), |writer| {
            let Ok(()) = message.encode(wire, writer);
        });
        Some(id)
    }

    /// The node that a connection belongs to, or else the host.
    pub(super) fn name_of(&self, id: ConnectionId, address: Option<PeerAddress>) -> String {
        let link = self.links.iter().find(|link| link.connection == id);
        match link {
            Some(link) => link.node.as_str().to_owned(),
            None => address.map(host).unwrap_or_default(),
        }
    }

    /// A connection is gone, with messages of which nothing was sent.
    pub(super) fn on_lost(
        &mut self,
        id: ConnectionId,
        loss: LinkLoss,
        undelivered: usize,
        ledger: &mut Ledger,
    ) {
        self.visitors.remove(&id);
        let Some(at) = self.links.iter().position(|link| link.connection == id) else {
            return ledger.add_undelivered(undelivered);
        };
        let Some(gone) = self.take(at) else { return };
        let loss = if gone.has_said_bye { LinkLoss::Left } else { loss };
        gone.end(loss, undelivered, ledger);
    }

    /// A connection ended before the other side had introduced itself.
    pub(super) fn on_refused(
        &mut self,
        id: ConnectionId,
        address: PeerAddress,
        why: &Loss,
        ledger: &mut Ledger,
    ) {
        self.visitors.remove(&id);
        match why {
            // A look whether the port is open, or a node that was paused or cut off while it connected.
            Loss::Closed | Loss::Crowded | Loss::Ended(Ending::HandshakeTimeout) => {
                tracing::debug!(%address, reason = %why, "it did not introduce itself");
            }
            Loss::Ended(_)
            | Loss::Overflow
            | Loss::Stalled
            | Loss::Greedy
            | Loss::Kicked
            | Loss::Revoked => {
                complain(&host(address), why, ledger);
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<Inbound> {
        (at < self.links.len()).then(|| self.links.swap_remove(at))
    }

    /// Shows origins that this node is there, and closes the connections of visitors whose time is over.
    pub(super) fn tend(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        for inbound in &mut self.links {
            if now.saturating_duration_since(inbound.sent_at) < PING_INTERVAL {
                continue;
            }
            inbound.sent_at = now;
            // An origin that takes nothing has something to read.
            if !turn.transport.is_blocked(inbound.connection) {
                let wire = inbound.wire;
                say(turn.transport, inbound.connection, |writer| encode_ping(wire, writer));
            }
        }
        self.visitors.retain(|id, visitor| {
            let stays = visitor.until > now;
            if !stays {
                turn.transport.close(*id);
            }
            stays
        });
    }

    /// This process stood still: that time does not count as a visit.
    pub(super) fn rearm(&mut self, now: Instant) {
        self.visitors.values_mut().for_each(|visitor| visitor.until = now + VISIT_TIME_MAX);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let pings = self.links.iter().map(|link| link.sent_at + PING_INTERVAL);
        pings.chain(self.visitors.values().map(|visitor| visitor.until)).min()
    }

    /// Tells every origin that nothing follows, once nothing waits for it. An origin closes its end
    /// then, and is gone. True when all are.
    pub(super) fn say_bye(&mut self, transport: &mut Transport<Tag>) -> bool {
        self.is_leaving = true;
        for inbound in &mut self.links {
            let is_ready = transport.output_bytes(inbound.connection) == 0;
            if is_ready && !std::mem::replace(&mut inbound.has_said_bye, true) {
                let wire = inbound.wire;
                say(transport, inbound.connection, |writer| encode_bye(wire, writer));
            }
        }
        self.links.is_empty()
    }
}

impl Inbound {
    fn end(self, loss: LinkLoss, undelivered: usize, ledger: &mut Ledger) {
        ledger.add_undelivered(undelivered);
        ledger.down(self.link, &self.node, loss, Vec::new());
    }
}

/// A node greets in its own name, by its key.
fn check_key(turn: &mut Turn<'_>, id: ConnectionId, hello: &Hello) -> Result<(), RefusalReason> {
    let holder = match turn.keys.holder(turn.transport, id) {
        KeyHolder::Unproven => return Ok(()),
        KeyHolder::Node(node) if node.as_str() == hello.node => return Ok(()),
        KeyHolder::Node(node) => Some(node),
        KeyHolder::Removed => None,
    };
    let reason = RefusalReason::WrongNode;
    if turn.ledger.refused(LinkRole::Owner, &hello.node, reason) {
        let (key, name) = (holder.map(tracing::field::display), &hello.node);
        tracing::warn!(
            key,
            name,
            "a node greets in the name of another one, and is refused: its key may be stolen"
        );
    }
    Err(reason)
}

/// Says something that may get lost.
fn say(
    transport: &mut Transport<Tag>,
    id: ConnectionId,
    encode: impl FnOnce(&mut MessageWriter<'_, Tag>) -> Result<(), std::convert::Infallible>,
) {
    transport.send(id, None, |writer| {
        let Ok(()) = encode(writer);
    });
}

/// Who connects, whatever port it uses.
fn host(address: PeerAddress) -> String {
    address.ip().map_or_else(|| address.to_string(), |ip| ip.to_string())
}

/// Both sides log a refusal, and name the other one.
fn log_refusal(me: &Myself, hello: &Hello, reason: RefusalReason, ledger: &mut Ledger) {
    let is_new = ledger.refused(LinkRole::Owner, &hello.node, reason);
    let Hello { node, version, wire, cluster, wanted, .. } = hello;
    let (own, label) = (me.version, reason.label());
    if is_passing(reason) {
        tracing::debug!(node, version, reason = label, "relay link refused");
    } else if is_new {
        tracing::warn!(
            node, version, %wire, cluster, wanted, own, reason = label,
            "relay link refused: requests of that node are not taken"
        );
    }
}
