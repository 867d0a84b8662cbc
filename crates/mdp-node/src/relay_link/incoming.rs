//! The owner's ends of links: a ROUTER that other nodes bring their requests to.

use std::{
    collections::VecDeque,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_transport::SharedFrame;
use mdp_wire::{
    Position,
    relay::{
        AtOwner, Hello, Load, Refusal, RefusalReason, RelayDecodeError, ToOrigin, Welcome,
        WireRange, encode_bye, encode_ping,
    },
};

use super::{
    BACKLOG_CONNECTIONS, LINK_BYTES_MAX, LINK_STALLED_AFTER, LinkLoss, Myself, PEERS_MAX,
    PING_INTERVAL, Received, SEND_MESSAGES_MAX, Turn, configure,
    ledger::{Ledger, is_passing},
    receive_frames,
};
use crate::{
    BindError, Endpoint, SocketError,
    binding::bind,
    version::VERSION,
    zeromq::{Context, Door, Frame, FrameFlow, IoThreads, Socket, SocketOption, Wire},
};

/// How soon a full origin is tried again, if its socket says nothing.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// The bytes of a routing id that the ROUTER has chosen: a zero and a number.
const ROUTE_BYTES: usize = 5;

/// The owner's ends of links.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: Socket,
    endpoint: Endpoint,
    /// This node's name.
    name: String,
    links: Vec<Inbound>,
    /// The frame that routing ids are received into.
    id: Frame,
    /// Whether something may have come.
    is_awake: bool,
    /// Whether the socket was not used since it was asked for news: see [`Incoming::look`].
    is_quiet: bool,
    is_leaving: bool,
}

/// A routing id. Nodes leave the choice to the ROUTER, which never chooses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route([u8; ROUTE_BYTES]);

/// A link whose origin is another node.
#[derive(Debug)]
struct Inbound {
    route: Route,
    link: LinkId,
    node: NodeName,
    epoch: u64,
    session: u64,
    /// The wire version of everything on the link.
    wire: u16,
    /// When something was sent last.
    sent_at: Instant,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// When the origin last took something, or nothing waited for it.
    progressed_at: Instant,
    /// When it was last found to be full.
    full_at: Instant,
    has_said_bye: bool,
}

/// A message that waits for an origin that is full.
#[derive(Debug)]
struct Waiting {
    bytes: usize,
    message: ToOrigin<SharedFrame>,
}

impl Incoming {
    pub(super) fn bind(
        context: &Arc<Context>,
        endpoint: &Endpoint,
        node: &NodeName,
        io_threads: IoThreads,
    ) -> Result<Self, BindError> {
        let socket = Socket::router(context).map_err(BindError::Socket)?;
        configure(&socket, SEND_MESSAGES_MAX, io_threads)
            .and_then(|()| socket.set(SocketOption::RouterMandatory, 1))
            .and_then(|()| socket.set(SocketOption::Backlog, BACKLOG_CONNECTIONS))
            .map_err(BindError::Socket)?;
        let endpoint = bind(&socket, "cluster.relay_bind", endpoint)?;
        Ok(Self {
            socket,
            endpoint,
            name: node.as_str().to_owned(),
            links: Vec::new(),
            id: Frame::new(),
            is_awake: true,
            is_quiet: false,
            is_leaving: false,
        })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, SocketError> {
        self.socket.descriptor()
    }

    pub(super) const fn is_awake(&self) -> bool {
        self.is_awake
    }

    pub(super) const fn wake(&mut self) {
        self.is_awake = true;
    }

    /// Asks the socket for news, if it was used since it was asked last.
    pub(super) fn look(&mut self) -> Result<(), SocketError> {
        if !self.is_quiet && !self.is_awake {
            self.is_awake = self.socket.is_readable()?;
            self.is_quiet = true;
        }
        Ok(())
    }

    /// The nodes that have a link.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.links.iter().map(|link| &link.node)
    }

    pub(super) fn has(&self, node: &NodeName) -> bool {
        self.nodes().any(|other| other == node)
    }

    /// How many messages and bytes wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        self.links.iter().fold((0, 0), |(messages, bytes), link| {
            (messages + link.waiting.len(), bytes + link.waiting_bytes)
        })
    }

    pub(super) fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        frames: &mut Vec<SharedFrame>,
    ) -> Result<Received, SocketError> {
        self.is_quiet = false;
        if self.socket.receive(&mut self.id)? == FrameFlow::WouldWait {
            self.is_awake = false;
            self.is_quiet = true;
            return Ok(Received::Handled);
        }
        let route = self.id.as_ref().try_into().ok().map(Route);
        let last = receive_frames(&mut self.socket, self.id.has_more(), frames)?;
        let at = route.and_then(|route| self.links.iter().position(|link| link.route == route));
        match at.and_then(|at| self.links.get(at)) {
            Some(link) => {
                let (link, wire) = (link.link, WireRange::only(link.wire));
                match AtOwner::decode(wire, frames) {
                    Ok(AtOwner::Message(message)) => {
                        return Ok(Received::Message(Input::FromOrigin { link, message }));
                    }
                    Ok(AtOwner::Hello(_)) => self.on_malformed(link, None, turn.ledger)?,
                    Err(error) => self.on_malformed(link, Some(error), turn.ledger)?,
                }
            }
            None => {
                let address = last.as_ref().and_then(Frame::peer_address);
                self.on_stranger(turn, route, address, frames)?;
            }
        }
        Ok(Received::Handled)
    }

    /// Ends a link that holds something that nobody understands: what follows may be worse.
    fn on_malformed(
        &mut self,
        link: LinkId,
        error: Option<RelayDecodeError>,
        ledger: &mut Ledger,
    ) -> Result<(), SocketError> {
        let Some(at) = self.links.iter().position(|other| other.link == link) else {
            return Ok(());
        };
        let gone = self.links.swap_remove(at);
        if ledger.malformed(gone.node.as_str()) {
            let error = error.map(tracing::field::display);
            tracing::warn!(node = %gone.node, error, "a node says what no node says; its link ends");
        }
        let route = gone.route;
        gone.end(LinkLoss::Malformed, ledger);
        self.refuse(route, RefusalReason::Malformed)
    }

    /// A message that belongs to no link: a greeting, or something that came too late.
    fn on_stranger(
        &mut self,
        turn: &mut Turn<'_>,
        route: Option<Route>,
        address: Option<IpAddr>,
        frames: &mut Vec<SharedFrame>,
    ) -> Result<(), SocketError> {
        let said = AtOwner::decode(turn.me.wire, frames);
        match (route, said) {
            (Some(route), Ok(AtOwner::Hello(hello))) => self.on_hello(turn, route, &hello),
            // The end of a link that was given up here, and not there yet.
            (Some(route), Ok(AtOwner::Message(_))) => self.refuse(route, RefusalReason::NotLinked),
            (_, said) => {
                let who = address.map(|address| address.to_string()).unwrap_or_default();
                if turn.ledger.malformed(&who) {
                    let error = said.err().map(tracing::field::display);
                    tracing::warn!(address = who, error, "this is no node: ignored");
                }
                route.map_or(Ok(()), |route| self.refuse(route, RefusalReason::Malformed))
            }
        }
    }

    fn on_hello(
        &mut self,
        turn: &mut Turn<'_>,
        route: Route,
        hello: &Hello,
    ) -> Result<(), SocketError> {
        let Turn { now, me, ledger } = turn;
        let (wire, node, epoch) = match self.judge(me, hello) {
            Ok(accepted) => accepted,
            Err(reason) => {
                log_refusal(hello, reason, ledger);
                return self.refuse(route, reason);
            }
        };
        if self.open(route)? != Door::Open {
            return Ok(());
        }
        let welcome = Welcome {
            wire,
            version: VERSION.to_owned(),
            node: me.node.as_str().to_owned(),
            epoch,
            networks: (*me.networks).clone(),
        };
        welcome.encode(&mut Wire::new(&mut self.socket))?;
        if let Some(at) = self.links.iter().position(|link| link.node == node) {
            self.links.swap_remove(at).end(LinkLoss::Replaced, ledger);
        }
        let link = ledger.up(LinkRole::Owner, &node, (&hello.version, wire));
        self.links.push(Inbound {
            route,
            link,
            node,
            epoch: hello.epoch,
            session: hello.session,
            wire,
            sent_at: *now,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            progressed_at: *now,
            full_at: *now,
            has_said_bye: false,
        });
        Ok(())
    }

    /// The wire version of the link, whose it is, and the life of this node.
    fn judge(&self, me: &Myself, hello: &Hello) -> Result<(u16, NodeName, u64), RefusalReason> {
        let range = me.wire;
        let wire = range.newest_common(hello.wire);
        let wire = wire.ok_or(RefusalReason::WrongVersion { min: range.min, max: range.max })?;
        let node: NodeName = hello.node.parse().map_err(|_| RefusalReason::Malformed)?;
        let (cluster, epoch) = me.life.as_ref().ok_or(RefusalReason::NotReady)?;
        if *cluster != hello.cluster {
            return Err(RefusalReason::WrongCluster);
        }
        if hello.wanted != me.node.as_str() || node == me.node {
            return Err(RefusalReason::WrongNode);
        }
        if self.is_leaving {
            return Err(RefusalReason::NotReady);
        }
        match self.links.iter().find(|link| link.node == node) {
            // The greeting of an older connection, which was read later.
            Some(link) if (hello.epoch, hello.session) <= (link.epoch, link.session) => {
                Err(RefusalReason::Superseded)
            }
            None if self.links.len() >= PEERS_MAX => Err(RefusalReason::TooManyLinks),
            Some(_) | None => Ok((wire, node, epoch.0)),
        }
    }

    /// Tells another node that there is no link. It may be gone, or full of what it will not get.
    fn refuse(&mut self, route: Route, reason: RefusalReason) -> Result<(), SocketError> {
        if self.open(route)? == Door::Open {
            Refusal { reason, version: VERSION.to_owned(), node: self.name.clone() }
                .encode(&mut Wire::new(&mut self.socket))?;
        }
        Ok(())
    }

    /// Names the origin of the message that follows; nothing may follow unless the door is open.
    fn open(&mut self, route: Route) -> Result<Door, SocketError> {
        self.is_quiet = false;
        match self.socket.send_bytes(&route.0, Position::More) {
            Ok(FrameFlow::Done) => Ok(Door::Open),
            Ok(FrameFlow::WouldWait) => Ok(Door::Full),
            Err(SocketError::UNREACHABLE) => Ok(Door::Gone),
            Err(error) => Err(error),
        }
    }

    /// Sends a message, or keeps it until its origin can take it.
    pub(super) fn send(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
        ledger: &mut Ledger,
    ) -> Result<(), SocketError> {
        let Some(at) = self.links.iter().position(|other| other.link == link) else {
            ledger.add_undelivered(1);
            return Ok(());
        };
        let Some(inbound) = self.links.get_mut(at) else { return Ok(()) };
        if !inbound.waiting.is_empty() {
            self.keep(now, at, message, ledger);
            return Ok(());
        }
        let (route, wire) = (inbound.route, inbound.wire);
        inbound.sent_at = now;
        match self.open(route)? {
            Door::Open => message.encode(wire, &mut Wire::new(&mut self.socket))?,
            Door::Full => self.keep(now, at, message, ledger),
            Door::Gone => {
                ledger.add_undelivered(1);
                self.lose(at, LinkLoss::Disconnected, ledger);
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        now: Instant,
        at: usize,
        message: ToOrigin<SharedFrame>,
        ledger: &mut Ledger,
    ) {
        let Some(inbound) = self.links.get_mut(at) else { return };
        if inbound.waiting.is_empty() {
            inbound.progressed_at = now;
            inbound.full_at = now;
        }
        let bytes = bytes_of(&message);
        inbound.waiting.push_back(Waiting { bytes, message });
        inbound.waiting_bytes += bytes;
        if inbound.waiting.len() > 1 && inbound.waiting_bytes > LINK_BYTES_MAX {
            self.lose(at, LinkLoss::Overflowed, ledger);
        }
    }

    fn lose(&mut self, at: usize, loss: LinkLoss, ledger: &mut Ledger) {
        if at < self.links.len() {
            self.links.swap_remove(at).end(loss, ledger);
        }
    }

    /// Gives origins what waits for them, shows them that this node is there, and gives those up
    /// that take nothing.
    pub(super) fn tend(&mut self, now: Instant, ledger: &mut Ledger) -> Result<(), SocketError> {
        let mut at = 0;
        while let Some(inbound) = self.links.get_mut(at) {
            let wants_ping = inbound.waiting.is_empty()
                && now.saturating_duration_since(inbound.sent_at) >= PING_INTERVAL;
            let loss = if wants_ping {
                inbound.sent_at = now;
                let (route, wire) = (inbound.route, inbound.wire);
                self.ping(route, wire)?
            } else {
                self.retry(now, at)?
            };
            match loss {
                Some(loss) => self.lose(at, loss, ledger),
                None => at += 1,
            }
        }
        Ok(())
    }

    fn ping(&mut self, route: Route, wire: u16) -> Result<Option<LinkLoss>, SocketError> {
        match self.open(route)? {
            Door::Open => encode_ping(wire, &mut Wire::new(&mut self.socket))?,
            // It has something to read.
            Door::Full => {}
            Door::Gone => return Ok(Some(LinkLoss::Disconnected)),
        }
        Ok(None)
    }

    /// Sends what waits, as much as the origin takes.
    fn retry(&mut self, now: Instant, at: usize) -> Result<Option<LinkLoss>, SocketError> {
        while let Some(inbound) = self.links.get_mut(at)
            && !inbound.waiting.is_empty()
        {
            let (route, wire) = (inbound.route, inbound.wire);
            let door = self.open(route)?;
            let Some(inbound) = self.links.get_mut(at) else { break };
            match door {
                Door::Open => {
                    inbound.progressed_at = now;
                    inbound.sent_at = now;
                    if let Some(Waiting { bytes, message }) = inbound.waiting.pop_front() {
                        inbound.waiting_bytes -= bytes;
                        message.encode(wire, &mut Wire::new(&mut self.socket))?;
                    }
                }
                Door::Full => {
                    inbound.full_at = now;
                    let stalled = now.saturating_duration_since(inbound.progressed_at);
                    return Ok((stalled > LINK_STALLED_AFTER).then_some(LinkLoss::Stalled));
                }
                Door::Gone => return Ok(Some(LinkLoss::Disconnected)),
            }
        }
        Ok(None)
    }

    /// This process stood still: nobody took nothing for long.
    pub(super) fn rearm(&mut self, now: Instant) {
        for link in &mut self.links {
            link.progressed_at = now;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.links.iter().map(|link| match link.waiting.is_empty() {
            true => link.sent_at + PING_INTERVAL,
            false => link.full_at + RETRY_AFTER,
        });
        due.min()
    }

    /// Tells every origin that nothing follows, once nothing waits for it. An origin closes its end
    /// then, and is gone. True when all are.
    pub(super) fn say_bye(
        &mut self,
        now: Instant,
        ledger: &mut Ledger,
    ) -> Result<bool, SocketError> {
        self.is_leaving = true;
        self.tend(now, ledger)?;
        let mut at = 0;
        while let Some(inbound) = self.links.get_mut(at) {
            let (route, wire) = (inbound.route, inbound.wire);
            let has_said_bye = inbound.has_said_bye;
            let is_ready = inbound.waiting.is_empty();
            inbound.has_said_bye |= is_ready;
            let gone = match is_ready.then(|| self.open(route)).transpose()? {
                // Said once; a sign of life shows whether the origin is still there.
                Some(Door::Open) if has_said_bye => {
                    encode_ping(wire, &mut Wire::new(&mut self.socket))?;
                    false
                }
                Some(Door::Open) => {
                    encode_bye(wire, &mut Wire::new(&mut self.socket))?;
                    false
                }
                Some(Door::Full) | None => false,
                Some(Door::Gone) => true,
            };
            if gone {
                self.lose(at, LinkLoss::Left, ledger);
            } else {
                at += 1;
            }
        }
        Ok(self.links.is_empty())
    }
}

impl Inbound {
    fn end(self, loss: LinkLoss, ledger: &mut Ledger) {
        ledger.add_undelivered(self.waiting.len());
        ledger.down(self.link, &self.node, loss, Vec::new());
    }
}

fn bytes_of(message: &ToOrigin<SharedFrame>) -> usize {
    let payload = match message {
        ToOrigin::Reply { body, .. } => {
            body.iter().map(|frame| frame.len() + size_of::<SharedFrame>()).sum::<usize>()
        }
        ToOrigin::Load(Load { capacity, waiting, started }) => {
            let names: usize = capacity.iter().map(|c| c.service.as_bytes().len() + 64).sum();
            names + 8 * (waiting.len() + started.len())
        }
        ToOrigin::Return { .. } => 0,
    };
    payload + size_of::<Waiting>()
}

/// Both sides log a refusal, and name the other one.
fn log_refusal(hello: &Hello, reason: RefusalReason, ledger: &mut Ledger) {
    let is_new = ledger.refused(LinkRole::Owner, &hello.node, reason);
    let Hello { node, version, wire, cluster, wanted, .. } = hello;
    let (own, label) = (VERSION, reason.label());
    if is_passing(reason) {
        tracing::debug!(node, version, reason = label, "relay link refused");
    } else if is_new {
        tracing::warn!(
            node, version, %wire, cluster, wanted, own, reason = label,
            "relay link refused: requests of that node are not taken"
        );
    }
}
