//! The waiting requests of one service: round robin over clients, FIFO within a client (AM-20).

use std::{collections::BTreeMap, ops::Bound};

use crate::{
    PeerId,
    request::{Arrival, Request},
    time::Moment,
};

/// Requests by client and arrival, and by arrival alone. A request that comes back from a lost
/// worker falls into its old place in both orders.
#[derive(Debug)]
pub(crate) struct Queue<F> {
    by_client: BTreeMap<(PeerId, Arrival), Box<Request<F>>>,
    client_by_arrival: BTreeMap<Arrival, PeerId>,
    /// Whose turn it was last.
    served: Option<PeerId>,
}

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self { by_client: BTreeMap::new(), client_by_arrival: BTreeMap::new(), served: None }
    }
}

impl<F> Queue<F> {
    pub(crate) fn insert(&mut self, request: Box<Request<F>>) {
        self.client_by_arrival.insert(request.arrival, request.client.clone());
        self.by_client.insert((request.client.clone(), request.arrival), request);
    }

    /// The first request of the client whose turn it is.
    pub(crate) fn pop_next(&mut self) -> Option<Box<Request<F>>> {
        let after_served = self.served.take().and_then(|client| {
            let after = (Bound::Excluded((client, Arrival(u64::MAX))), Bound::Unbounded);
            self.by_client.range(after).next().map(|(key, _)| key.clone())
        });
        let request = match after_served {
            Some(key) => self.by_client.remove(&key),
            None => self.by_client.pop_first().map(|(_, request)| request),
        }?;
        self.client_by_arrival.remove(&request.arrival);
        self.served = Some(request.client.clone());
        Some(request)
    }

    /// The oldest request if it has waited long enough.
    pub(crate) fn pop_expired(&mut self, now: Moment) -> Option<Box<Request<F>>> {
        if self.oldest_deadline()? > now {
            return None;
        }
        let (arrival, client) = self.client_by_arrival.pop_first()?;
        self.by_client.remove(&(client, arrival))
    }

    /// The newest request of a client.
    pub(crate) fn pop_newest_of(&mut self, client: &PeerId) -> Option<Box<Request<F>>> {
        let arrival = self.newest_of(client)?;
        self.client_by_arrival.remove(&arrival);
        self.by_client.remove(&(client.clone(), arrival))
    }

    /// When the newest request of a client arrived.
    pub(crate) fn newest_of(&self, client: &PeerId) -> Option<Arrival> {
        let (first, last) = ((client.clone(), Arrival(0)), (client.clone(), Arrival(u64::MAX)));
        self.by_client.range(first..=last).next_back().map(|((_, arrival), _)| *arrival)
    }

    /// When the oldest request has waited long enough.
    pub(crate) fn oldest_deadline(&self) -> Option<Moment> {
        let (arrival, client) = self.client_by_arrival.first_key_value()?;
        self.by_client.get(&(client.clone(), *arrival)).map(|request| request.deadline)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request<F>> {
        self.by_client.values().map(|request| &**request)
    }
}
