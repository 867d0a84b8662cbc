//! The ports of a node: what moves its bytes, looks up names and writes its log.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_catalog::NodeName;
use mdp_core::{Connections, LinkState, Located, NodeEvent, PortName, ReadState, Shell};
use mdp_transport::{ConnectionId, Transport};
use tokio::sync::watch;

use crate::{
    BindAddress, BindError, Endpoint,
    binding::is_no_room,
    crypto::PortCrypto,
    notes::NoteLog,
    poller::Poller,
    port::{ConnectionShare, ListenerSettings, Port},
    resolver::Resolver,
};

const CLIENT_LISTENERS: ListenerSettings = ListenerSettings {
    key: "broker.bind",
    // After a restart, all peers come at once.
    backlog_connections: 4_096,
    limit: "there are as many as broker.max_connections allows",
};
const NODE_LISTENERS: ListenerSettings = ListenerSettings {
    key: "cluster.relay_bind",
    backlog_connections: 128,
    limit: "there are more of other nodes than a cluster can have",
};

/// The ports of a node.
#[derive(Debug)]
pub(crate) struct Ports {
    poller: Poller,
    clients: Port,
    /// `None`: the node is alone.
    nodes: Option<NodePort>,
    /// Who computes the handshakes of a port that has CURVE, by the port.
    crypto: BTreeMap<PortName, PortCrypto>,
    log: NoteLog,
}

/// The port that other nodes bring requests to, and the connections to theirs.
#[derive(Debug)]
pub(crate) struct NodePort {
    port: Port,
    endpoint: Endpoint,
    resolver: Resolver,
    links: watch::Sender<Vec<LinkState>>,
}

impl NodePort {
    /// Binds the address; when this returns, other nodes can connect.
    pub(crate) fn bind(
        bind: &Endpoint,
        resolver: Resolver,
        poller: &Poller,
    ) -> Result<Self, BindError> {
        let addresses = [BindAddress::Tcp(bind.clone())];
        let whose = (PortName::Nodes, ConnectionShare::OF_A_NODE);
        let port = Port::bind(whose, &NODE_LISTENERS, &addresses, poller)?;
        let bound = port.addresses().find_map(BindAddress::tcp).cloned();
        let endpoint = bound.unwrap_or_else(|| bind.clone());
        Ok(Self { port, endpoint, resolver, links: watch::Sender::default() })
    }

    /// What was bound, with the real port.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which links there are, for other threads.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<LinkState>> {
        self.links.subscribe()
    }
}

impl Ports {
    /// Binds the port for clients and workers; the poller is that of all ports.
    pub(crate) fn bind(clients: &[BindAddress], poller: Poller) -> Result<Self, BindError> {
        let whose = (PortName::Clients, ConnectionShare::OF_MANY);
        let clients = Port::bind(whose, &CLIENT_LISTENERS, clients, &poller)?;
        let crypto = BTreeMap::new();
        Ok(Self { poller, clients, nodes: None, crypto, log: NoteLog::default() })
    }

    /// From now on this computes the handshakes of a port, whose transport has its jobs
    /// [outside](Transport::set_jobs_outside).
    pub(crate) fn set_crypto(&mut self, port: PortName, crypto: PortCrypto) {
        self.crypto.insert(port, crypto);
    }

    /// From now on other nodes can connect, too.
    pub(crate) fn add_nodes(&mut self, nodes: NodePort) {
        self.nodes = Some(nodes);
    }

    /// What the ports are watched with.
    pub(crate) const fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The port of clients and workers.
    pub(crate) const fn clients(&self) -> &Port {
        &self.clients
    }

    /// Waits until something comes, or until then; `None`: only looks. True if the bell rang.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> std::io::Result<bool> {
        let Self { poller, clients, nodes, .. } = self;
        let ports = || [Some(&*clients), nodes.as_ref().map(|nodes| &nodes.port)];
        let is_awake = ports().into_iter().flatten().any(Port::is_awake);
        let due = ports().into_iter().flatten().filter_map(Port::poll_timeout).min();
        let sleep = until.filter(|_| !is_awake).map_or(Duration::ZERO, |until| {
            let until = due.map_or(until, |due| due.min(until));
            until.saturating_duration_since(Instant::now())
        });
        let clients = (PortName::Clients, clients);
        match nodes {
            None => poller.poll(sleep, &mut [clients]),
            Some(nodes) => poller.poll(sleep, &mut [clients, (PortName::Nodes, &mut nodes.port)]),
        }
    }

    fn port(&mut self, name: PortName) -> Option<&mut Port> {
        match name {
            PortName::Clients => Some(&mut self.clients),
            PortName::Nodes => self.nodes.as_mut().map(|nodes| &mut nodes.port),
        }
    }
}

impl Shell for Ports {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn read(&mut self, now: Instant, port: PortName, of: &mut impl Connections) -> ReadState {
        let Some(port) = self.port(port) else { return ReadState::Emptied };
        port.accept(now, of);
        let state = port.read(of);
        if self.poller.has_more() { ReadState::MoreWaits } else { state }
    }

    fn compute<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>) {
        if let Some(crypto) = self.crypto.get_mut(&port) {
            crypto.turn(now, transport);
        }
    }

    fn has_unread(&self, port: PortName, id: ConnectionId) -> bool {
        match port {
            PortName::Clients => self.clients.has_unread(id),
            PortName::Nodes => self.nodes.as_ref().is_some_and(|nodes| nodes.port.has_unread(id)),
        }
    }

    fn resume_writing<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>) {
        if let Some(port) = self.port(port) {
            port.write_where_room(now, transport);
        }
    }

    fn write_if_much<T>(
        &mut self,
        now: Instant,
        port: PortName,
        id: ConnectionId,
        transport: &mut Transport<T>,
    ) {
        if let Some(port) = self.port(port) {
            port.write_if_much(now, id, transport);
        }
    }

    fn flush<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>) {
        if let Some(port) = self.port(port) {
            port.flush(now, transport);
        }
    }

    fn say_bye(&mut self, port: PortName) {
        if let Some(port) = self.port(port) {
            port.say_bye();
        }
    }

    fn dial(&mut self, id: ConnectionId, address: SocketAddr, of: &mut impl Connections) {
        let Some(nodes) = &mut self.nodes else { return };
        match nodes.port.dial(id, address, of) {
            Ok(()) => {}
            // It is tried again.
            Err(error) if is_no_room(&error) => {
                tracing::warn!(%address, %error, "no socket for another node");
            }
            Err(error) => tracing::debug!(%address, %error, "cannot connect"),
        }
    }

    fn locate(&mut self, node: NodeName, endpoint: String) -> Option<Located> {
        self.nodes.as_ref()?.resolver.begin(node, endpoint)
    }

    fn take_located(&mut self) -> Option<Located> {
        self.nodes.as_ref()?.resolver.take()
    }

    fn set_links(&mut self, links: Vec<LinkState>) {
        if let Some(nodes) = &self.nodes {
            nodes.links.send_replace(links);
        }
    }

    fn log(&mut self, now: Instant, event: &NodeEvent<'_>) {
        self.log.log(now, event);
    }
}

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod node_tests;
