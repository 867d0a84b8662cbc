//! The waiting requests of one service: round robin over clients, FIFO within a client (AM-20).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use mdp_wire::relay::ForwardId;

use crate::{
    request::{Arrival, ClientId, Request},
    time::Moment,
};

/// The requests of one client, in the order of their arrival, and so of their deadlines: requests
/// of one service all have the same time to live, and a link keeps the order of its node.
type Line<F> = VecDeque<Box<Request<F>>>;

/// Whose requests are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Everybody's.
    All,
    /// Those of this node's clients: the others are never forwarded.
    Own,
}

/// Requests by client, of this node and of others. A client without waiting requests has no line.
#[derive(Debug)]
pub(crate) struct Queue<F> {
    line_by_client: BTreeMap<ClientId, Line<F>>,
    len: usize,
    /// Whose turn it was last.
    served: Option<ClientId>,
}

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self { line_by_client: BTreeMap::new(), len: 0, served: None }
    }
}

impl<F> Queue<F> {
    /// Puts a request in its place: a new one last, one that comes back from a lost worker in front
    /// of those that arrived after it.
    pub(crate) fn insert(&mut self, request: Box<Request<F>>) {
        self.len += 1;
        let line = self.line_by_client.entry(request.client_id()).or_default();
        if line.back().is_none_or(|last| last.arrival < request.arrival) {
            line.push_back(request);
        } else {
            let place = line.partition_point(|other| other.arrival < request.arrival);
            line.insert(place, request);
        }
    }

    /// The first request of the client whose turn it is.
    pub(crate) fn pop_next(&mut self, whose: Whose) -> Option<Box<Request<F>>> {
        let client = self.next_client(whose)?;
        let line = self.line_by_client.get_mut(&client)?;
        let request = line.pop_front();
        if line.is_empty() {
            self.line_by_client.remove(&client);
        }
        self.served = Some(client);
        self.len = self.len.saturating_sub(usize::from(request.is_some()));
        request
    }

    /// The client behind the one that was served last, in the order of their names.
    fn next_client(&self, whose: Whose) -> Option<ClientId> {
        let is_wanted =
            |client: &ClientId| whose == Whose::All || *client < ClientId::FIRST_ELSEWHERE;
        let behind = self.served.as_ref().filter(|_| self.line_by_client.len() > 1);
        let behind = behind.and_then(|served| {
            let others = (Bound::Excluded(served), Bound::Unbounded);
            self.line_by_client.range::<ClientId, _>(others).next()
        });
        let next = behind.filter(|(client, _)| is_wanted(client));
        let next = next.or_else(|| self.line_by_client.first_key_value());
        next.map(|(client, _)| client).filter(|client| is_wanted(client)).cloned()
    }

    /// Whether a client of this node waits.
    pub(crate) fn has_own(&self) -> bool {
        self.line_by_client
            .first_key_value()
            .is_some_and(|(client, _)| *client < ClientId::FIRST_ELSEWHERE)
    }

    /// The request that a link calls so.
    pub(crate) fn take_forward(
        &mut self,
        client: &ClientId,
        id: ForwardId,
    ) -> Option<Box<Request<F>>> {
        let line = self.line_by_client.get_mut(client)?;
        let place = line.iter().position(|request| request.is_forward(id))?;
        let request = line.remove(place);
        if line.is_empty() {
            self.line_by_client.remove(client);
        }
        self.len = self.len.saturating_sub(usize::from(request.is_some()));
        request
    }

    /// Every request that has waited long enough.
    pub(crate) fn take_expired(&mut self, now: Moment) -> Vec<Box<Request<F>>> {
        let mut expired = Vec::new();
        self.line_by_client.retain(|_, line| {
            while let Some(request) = line.pop_front_if(|first| first.deadline <= now) {
                expired.push(request);
            }
            !line.is_empty()
        });
        self.len = self.len.saturating_sub(expired.len());
        expired
    }

    /// Every request of which this is true. Looks at all.
    pub(crate) fn take_where(
        &mut self,
        is_meant: impl Fn(&Request<F>) -> bool,
    ) -> Vec<Box<Request<F>>> {
        let mut taken = Vec::new();
        self.line_by_client.retain(|_, line| {
            let (meant, others) = line.drain(..).partition(|request| is_meant(request));
            *line = others;
            let meant: Line<F> = meant;
            taken.extend(meant);
            !line.is_empty()
        });
        self.len = self.len.saturating_sub(taken.len());
        taken
    }

    /// The newest request of a client.
    pub(crate) fn pop_newest_of(&mut self, client: &ClientId) -> Option<Box<Request<F>>> {
        let line = self.line_by_client.get_mut(client)?;
        let request = line.pop_back();
        if line.is_empty() {
            self.line_by_client.remove(client);
        }
        self.len = self.len.saturating_sub(usize::from(request.is_some()));
        request
    }

    /// When the newest request of a client arrived.
    pub(crate) fn newest_of(&self, client: &ClientId) -> Option<Arrival> {
        self.line_by_client.get(client)?.back().map(|request| request.arrival)
    }

    /// When the oldest request arrived. Looks at each client once.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.line_by_client.values().filter_map(|line| Some(line.front()?.arrived_at)).min()
    }

    /// When the oldest request has waited long enough. Looks at each client once.
    pub(crate) fn oldest_deadline(&self) -> Option<Moment> {
        self.line_by_client.values().filter_map(|line| Some(line.front()?.deadline)).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request<F>> {
        self.line_by_client.values().flatten().map(|request| &**request)
    }
}
