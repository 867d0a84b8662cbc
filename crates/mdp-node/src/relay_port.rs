//! The port that other nodes bring requests to, and the connections to theirs.

use std::time::Instant;

use mdp_broker::{Input, LinkId};
use mdp_catalog::NodeName;
use mdp_core::{
    Connections, LinkState, Received, RelayAction, RelayLinks, RelaySettings, RelayTotals, Tag,
};
use mdp_replica::Peers;
use mdp_transport::{ConnectionId, PeerAddress, SharedFrame, Transport};
use mdp_wire::{
    ServiceName,
    relay::{ToOrigin, ToOwner},
};
use tokio::sync::watch;

use crate::{
    BindAddress, BindError, Endpoint,
    binding::is_no_room,
    poller::{Poller, PortName},
    port::{ConnectionShare, ListenerSettings, Port, ReadState},
    resolver::Resolver,
};

const LISTENERS: ListenerSettings =
    ListenerSettings { key: "cluster.relay_bind", backlog_connections: 128 };
/// What is said when no more connections are taken.
const LIMIT: &str = "there are more of other nodes than a cluster can have";

/// The port and its links.
#[derive(Debug)]
pub(crate) struct RelayPort {
    port: Port,
    links: RelayLinks,
    endpoint: Endpoint,
    resolver: Resolver,
    states: watch::Sender<Vec<LinkState>>,
}

/// The links while they are read.
struct Reading<'a, F> {
    links: &'a mut RelayLinks,
    take: F,
}

impl<F: FnMut(Input<SharedFrame>)> Connections for Reading<'_, F> {
    type Tag = Tag;

    fn transport(&mut self) -> &mut Transport<Tag> {
        self.links.transport()
    }

    fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        self.links.accepted(now, address)
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        self.links.received(now, id, (input, messages_max), &mut self.take)
    }
}

impl RelayPort {
    /// Binds the address; when this returns, other nodes can connect. They are refused until
    /// [`set_peers`](Self::set_peers).
    pub(crate) fn bind(
        bind: &Endpoint,
        settings: RelaySettings,
        resolver: Resolver,
        poller: &Poller,
    ) -> Result<Self, BindError> {
        let addresses = [BindAddress::Tcp(bind.clone())];
        let whose = (PortName::Nodes, ConnectionShare::OF_A_NODE);
        let port = Port::bind(whose, &LISTENERS, &addresses, poller)?;
        let bound = port.addresses().find_map(BindAddress::tcp).cloned();
        let endpoint = bound.unwrap_or_else(|| bind.clone());
        let links = RelayLinks::new(Instant::now(), settings);
        Ok(Self { port, links, endpoint, resolver, states: watch::Sender::default() })
    }

    /// Its sockets, for the poller.
    pub(crate) const fn sockets(&mut self) -> &mut Port {
        &mut self.port
    }

    /// What was bound, with the real port.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which links there are, for other threads.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<LinkState>> {
        self.states.subscribe()
    }

    /// From now on there are these nodes, and no others.
    pub(crate) fn set_peers(&mut self, now: Instant, peers: Peers) {
        self.links.set_peers(now, peers);
    }

    /// Takes new connections and reads what has come; what is for the engine is handed out.
    pub(crate) fn read(&mut self, now: Instant, take: impl FnMut(Input<SharedFrame>)) -> ReadState {
        let mut reading = Reading { links: &mut self.links, take };
        self.port.accept(now, LIMIT, &mut reading);
        self.port.read(&mut reading)
    }

    /// Sends a request, or something about one, on a link where this node is the origin.
    pub(crate) fn send_to_owner(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOwner<ServiceName, SharedFrame>,
    ) {
        if let Some(id) = self.links.send_to_owner(link, message) {
            self.port.write_if_much(now, id, self.links.transport());
        }
    }

    /// Sends a reply, or something else, on a link where this node is the owner.
    pub(crate) fn send_to_origin(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
    ) {
        if let Some(id) = self.links.send_to_origin(now, link, message) {
            self.port.write_if_much(now, id, self.links.transport());
        }
    }

    /// What the engine is to be told of links. All effects must have been run before.
    pub(crate) fn poll_input(&mut self, now: Instant) -> Option<Input<SharedFrame>> {
        self.links.poll_input(now)
    }

    /// Makes links and judges them, after what came was read.
    pub(crate) fn tend(&mut self, now: Instant) {
        while let Some(located) = self.resolver.take() {
            self.links.handle_located(now, &located);
        }
        let port = &self.port;
        self.links.tend(now, |id| port.has_unread(id));
        while let Some(action) = self.links.poll_action() {
            self.run_action(now, action);
        }
        if let Some(states) = self.links.take_changed_states() {
            self.states.send_replace(states);
        }
    }

    fn run_action(&mut self, now: Instant, action: RelayAction) {
        match action {
            RelayAction::Dial { connection, address } => {
                let mut reading = Reading { links: &mut self.links, take: drop };
                let dialled = self.port.dial(connection, address, &mut reading);
                match dialled {
                    Ok(()) => {}
                    // It is tried again.
                    Err(error) if is_no_room(&error) => {
                        tracing::warn!(%address, %error, "no socket for another node");
                    }
                    Err(error) => tracing::debug!(%address, %error, "cannot connect"),
                }
            }
            RelayAction::Locate { node, endpoint } => {
                if let Some(located) = self.resolver.begin(node, endpoint) {
                    self.links.handle_located(now, &located);
                }
            }
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.port.flush(now, self.links.transport());
    }

    /// Writes what waited for room in the kernel; after each look at the poller.
    pub(crate) fn write_where_room(&mut self, now: Instant) {
        self.port.write_where_room(now, self.links.transport());
    }

    /// Whether something is to be done although the poller is silent.
    pub(crate) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.links.is_awake()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.links.poll_timeout().into_iter().chain(self.port.poll_timeout()).min()
    }

    /// Says to all origins that nothing follows; true if all are gone.
    pub(crate) fn say_bye(&mut self, now: Instant) -> bool {
        self.links.say_bye(now)
    }

    /// What was counted, and what waits.
    pub(crate) fn totals(&self) -> RelayTotals {
        self.links.totals()
    }

    /// Which links there are, by the other node.
    pub(crate) fn states(&self) -> Vec<LinkState> {
        self.links.states()
    }

    /// Whether this node can send requests to every other one that takes part.
    pub(crate) fn has_all_links(&self) -> bool {
        self.links.has_all_links()
    }

    /// Whether that node is another one, and this one cannot send requests to it.
    pub(crate) fn is_cut_off(&self, node: &NodeName) -> bool {
        self.links.is_cut_off(node)
    }
}

#[cfg(test)]
mod tests;
