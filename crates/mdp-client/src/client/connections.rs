//! The open connections of a client, and which requests each of them carries.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    RequestId,
    client::outstanding::{Lane, Leftover},
};

/// Names one socket; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) endpoint: usize,
    pub(crate) up: bool,
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

    fn takes(&self, lane: Lane) -> bool {
        let shareable = self.lane == Lane::Shared && lane == Lane::Shared;
        !self.retired && (self.requests.is_empty() || shareable)
    }
}

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    last: u64,
    by_id: BTreeMap<ConnectionId, Connection>,
}

impl Connections {
    pub(crate) fn insert(&mut self, endpoint: usize) -> ConnectionId {
        self.last = self.last.saturating_add(1);
        let id = ConnectionId(self.last);
        let connection = Connection {
            endpoint,
            up: false,
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

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn is_up(&self, id: ConnectionId) -> bool {
        self.by_id.get(&id).is_some_and(|connection| connection.up)
    }

    /// An open connection to the endpoint that can take one more request.
    pub(crate) fn reusable(&self, endpoint: usize, lane: Lane) -> Option<ConnectionId> {
        let mut fitting = self
            .by_id
            .iter()
            .filter(|(_, connection)| connection.endpoint == endpoint && connection.takes(lane));
        fitting.next().map(|(id, _)| *id)
    }

    pub(crate) fn assign(&mut self, id: ConnectionId, request: RequestId, lane: Lane) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.lane = lane;
            connection.requests.insert(request);
        }
    }

    /// The request was answered.
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
    pub(crate) fn take_unneeded(&mut self, preferred: usize) -> Vec<ConnectionId> {
        let unneeded = self.by_id.extract_if(.., |_, connection| {
            connection.requests.is_empty()
                && (connection.retired || connection.endpoint != preferred)
        });
        unneeded.map(|(id, _)| id).collect()
    }
}
