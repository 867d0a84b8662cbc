//! The open connections of a client, and which requests each of them carries.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    RequestId,
    client::outstanding::{Lane, Leftover},
};

/// Names one socket; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To carry requests.
    Requests,
    /// To find out whether requests could go there; given up at this time.
    Scout { until: Instant },
}

/// The question for `mmi.endpoints` on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// There is none.
    None,
    /// The answer is not here.
    Asked {
        at: Instant,
        /// Other answers came since.
        is_passed_over: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) broker: usize,
    pub(crate) purpose: Purpose,
    pub(crate) up: bool,
    /// Until when its handshake may take, however short the time of an attempt.
    pub(crate) handshake_until: Instant,
    pub(crate) question: Question,
    pub(crate) requests: BTreeSet<RequestId>,
    /// The lane of its requests, if it has any.
    lane: Lane,
    /// A request was not answered here: it takes no new ones.
    retired: bool,
}

impl Connection {
    /// The request that a reply without an id answers.
    pub(crate) fn exclusive(&self) -> Option<RequestId> {
        match self.lane {
            Lane::Exclusive => self.requests.first().copied(),
            Lane::Shared => None,
        }
    }

    /// Whether a reply that comes now could be taken for that to a later request.
    pub(crate) fn is_confusable(&self) -> bool {
        self.requests.is_empty() && self.lane == Lane::Exclusive && !self.is_scout()
    }

    pub(crate) fn is_scout(&self) -> bool {
        matches!(self.purpose, Purpose::Scout { .. })
    }

    fn takes(&self, lane: Lane) -> bool {
        let shareable = self.lane == Lane::Shared && lane == Lane::Shared;
        !self.retired && !self.is_scout() && (self.requests.is_empty() || shareable)
    }
}

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    last: u64,
    by_id: BTreeMap<ConnectionId, Connection>,
}

impl Connections {
    pub(crate) fn insert(
        &mut self,
        broker: usize,
        purpose: Purpose,
        handshake_until: Instant,
    ) -> ConnectionId {
        self.last = self.last.saturating_add(1);
        let id = ConnectionId(self.last);
        let connection = Connection {
            broker,
            purpose,
            up: false,
            handshake_until,
            question: Question::None,
            requests: BTreeSet::new(),
            lane: Lane::Exclusive,
            retired: false,
        };
        self.by_id.insert(id, connection);
        id
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.by_id.remove(&id)
    }

    pub(crate) fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn is_up(&self, id: ConnectionId) -> bool {
        self.by_id.get(&id).is_some_and(|connection| connection.up)
    }

    /// An established connection to the broker that carries requests, or could.
    pub(crate) fn up_at(&self, broker: usize) -> Option<ConnectionId> {
        let is_it = |connection: &Connection| {
            connection.broker == broker && connection.up && !connection.is_scout()
        };
        self.by_id.iter().find(|(_, connection)| is_it(connection)).map(|(id, _)| *id)
    }

    /// Whether there is any connection to the broker.
    pub(crate) fn reaches(&self, broker: usize) -> bool {
        self.by_id.values().any(|connection| connection.broker == broker)
    }

    /// Whether any connection is being established.
    pub(crate) fn is_connecting(&self) -> bool {
        self.by_id.values().any(|connection| !connection.up)
    }

    pub(crate) fn scouts(&self) -> impl Iterator<Item = (ConnectionId, Instant)> {
        self.by_id.iter().filter_map(|(id, connection)| match connection.purpose {
            Purpose::Scout { until } => Some((*id, until)),
            Purpose::Requests => None,
        })
    }

    /// An open connection to the broker that can take one more request.
    pub(crate) fn reusable(&self, broker: usize, lane: Lane) -> Option<ConnectionId> {
        let mut fitting = self
            .by_id
            .iter()
            .filter(|(_, connection)| connection.broker == broker && connection.takes(lane));
        fitting.next().map(|(id, _)| *id)
    }

    pub(crate) fn assign(&mut self, id: ConnectionId, request: RequestId, lane: Lane) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.lane = lane;
            connection.requests.insert(request);
        }
    }

    /// The request was answered, or was not sent here.
    pub(crate) fn release(&mut self, id: ConnectionId, request: RequestId) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.requests.remove(&request);
        }
    }

    /// The request was not answered. The others on the connection may still be.
    pub(crate) fn retire(&mut self, id: ConnectionId, request: RequestId) -> Leftover {
        let Some(connection) = self.by_id.get_mut(&id) else { return Leftover::Requests };
        connection.requests.remove(&request);
        connection.retired = true;
        if !connection.requests.is_empty() {
            return Leftover::Requests;
        }
        self.by_id.remove(&id);
        Leftover::Nothing
    }

    /// Takes the idle connections that no fresh request would use.
    pub(crate) fn take_unneeded(&mut self, current: usize) -> Vec<ConnectionId> {
        let unneeded = self.by_id.extract_if(.., |_, connection| {
            connection.requests.is_empty()
                && !connection.is_scout()
                && (connection.retired || connection.broker != current)
        });
        unneeded.map(|(id, _)| id).collect()
    }
}
