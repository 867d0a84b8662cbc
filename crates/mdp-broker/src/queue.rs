//! The waiting requests of one service: round robin over clients, FIFO within a client (AM-20).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use crate::{
    PeerId,
    request::{Arrival, Request},
    time::Moment,
};

/// The requests of one client, in the order of their arrival, and so of their deadlines: requests
/// of one service all have the same time to live.
type Line<F> = VecDeque<Box<Request<F>>>;

/// Requests by client. A client without waiting requests has no line.
#[derive(Debug)]
pub(crate) struct Queue<F> {
    line_by_client: BTreeMap<PeerId, Line<F>>,
    len: usize,
    /// Whose turn it was last.
    served: Option<PeerId>,
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
        let line = match self.line_by_client.get_mut(&request.client) {
            Some(line) => line,
            None => self.line_by_client.entry(request.client.clone()).or_default(),
        };
        if line.back().is_none_or(|last| last.arrival < request.arrival) {
            line.push_back(request);
        } else {
            let place = line.partition_point(|other| other.arrival < request.arrival);
            line.insert(place, request);
        }
    }

    /// The first request of the client whose turn it is.
    pub(crate) fn pop_next(&mut self) -> Option<Box<Request<F>>> {
        let client = self.next_client()?;
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
    fn next_client(&self) -> Option<PeerId> {
        let behind = self.served.as_ref().filter(|_| self.line_by_client.len() > 1);
        let behind = behind.and_then(|served| {
            let others = (Bound::Excluded(served), Bound::Unbounded);
            self.line_by_client.range::<PeerId, _>(others).next()
        });
        let next = behind.or_else(|| self.line_by_client.first_key_value());
        next.map(|(client, _)| client.clone())
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

    /// The newest request of a client.
    pub(crate) fn pop_newest_of(&mut self, client: &PeerId) -> Option<Box<Request<F>>> {
        let line = self.line_by_client.get_mut(client)?;
        let request = line.pop_back();
        if line.is_empty() {
            self.line_by_client.remove(client);
        }
        self.len = self.len.saturating_sub(usize::from(request.is_some()));
        request
    }

    /// When the newest request of a client arrived.
    pub(crate) fn newest_of(&self, client: &PeerId) -> Option<Arrival> {
        self.line_by_client.get(client)?.back().map(|request| request.arrival)
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
