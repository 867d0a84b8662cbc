//! [`Shell`]: what surrounds a node's core. A node has sockets there, the simulator virtual ones.

use std::{net::SocketAddr, time::Instant};

use mdp_broker::{LinkId, LinkRole, Note, PeerId};
use mdp_catalog::NodeName;
use mdp_transport::{ConnectionId, Loss, PeerAddress, Transport};

use crate::{Connections, LinkState, Located};

/// Which of a node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortName {
    /// Where clients and workers connect.
    Clients,
    /// Where the other nodes connect, and what connects to them.
    Nodes,
}

/// Whether everything was read that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Nothing is left.
    Emptied,
    /// Something may be left.
    MoreWaits,
}

/// What surrounds a node's core: it moves bytes, tells the time, looks up names and writes the log. It
/// decides nothing, and nothing here waits.
pub trait Shell {
    /// The time.
    fn now(&self) -> Instant;

    /// Now, in seconds of Unix time: what the wall clock is asked for is only whether an identity is still
    /// valid.
    fn unix_seconds(&self) -> u64;

    /// Takes new connections and reads what has come, as much as belongs into one turn.
    fn read(&mut self, now: Instant, port: PortName, of: &mut impl Connections) -> ReadState;

    /// Has computed, elsewhere, what the handshakes of a port wait for, and brings what is done. A shell that does not
    /// leaves the transport of the port its default: to compute at once.
    fn compute<T>(&mut self, _now: Instant, _port: PortName, _transport: &mut Transport<T>) {}

    /// Whether a connection has something that was not read yet.
    fn has_unread(&self, port: PortName, id: ConnectionId) -> bool;

    /// Writes what waited for the peer to read, where it has read since.
    fn resume_writing<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>);

    /// Writes what waits for one peer if that is much, without waiting for the end of the turn.
    fn write_if_much<T>(
        &mut self,
        now: Instant,
        port: PortName,
        id: ConnectionId,
        transport: &mut Transport<T>,
    );

    /// Writes what waits for all peers, as far as it is taken, and closes what ended.
    fn flush<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>);

    /// Says to all peers of a port that nothing follows, and takes no new ones; they are still read.
    fn say_bye(&mut self, port: PortName);

    /// Begins to connect to another node. If that fails, now or later, the connection has
    /// [failed](Connections::failed).
    fn dial(&mut self, id: ConnectionId, address: SocketAddr, of: &mut impl Connections);

    /// Says where a node is, if that needs no look-up. Else one is begun, and
    /// [`take_located`](Self::take_located) says what it came to.
    fn locate(&mut self, node: NodeName, endpoint: String) -> Option<Located>;

    /// The outcome of a look-up, if there is one.
    fn take_located(&mut self) -> Option<Located>;

    /// From now on there are these links.
    fn set_links(&mut self, links: Vec<LinkState>);

    /// Something happened that a person may want to know.
    fn log(&mut self, now: Instant, event: &NodeEvent<'_>);
}

/// Something that a person may want to know.
#[derive(Clone, Debug)]
pub enum NodeEvent<'a> {
    /// What the engine says.
    Note {
        /// What.
        note: &'a Note,
        /// Where its peer connects from, or connected from until a moment ago.
        address: Option<PeerAddress>,
    },
    /// A connection ended before its peer had introduced itself.
    Refused {
        /// Where it came from.
        address: PeerAddress,
        /// Why.
        why: &'a Loss,
    },
    /// The connection of a client or worker is gone.
    Lost {
        /// Whose.
        peer: &'a PeerId,
        /// Where it connected from.
        address: PeerAddress,
        /// Why.
        why: &'a Loss,
    },
    /// A link with another node is there.
    LinkUp {
        /// Which.
        link: LinkId,
        /// What this node is on it.
        role: LinkRole,
        /// The other one.
        node: &'a NodeName,
        /// The version of the wire that they speak.
        wire: u16,
    },
    /// A link with another node is over.
    LinkDown {
        /// Which.
        link: LinkId,
        /// How many requests on it did not leave.
        unsent: usize,
    },
}
