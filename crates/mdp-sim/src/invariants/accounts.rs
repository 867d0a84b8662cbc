//! Every request has one end, and one that is explained: an engine counts what it answers and what
//! it drops, and what clients miss must have been counted, or lost with something that was done.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mdp_broker::{Counters, DropReason, Gauges};

use super::{
    Invariant,
    troubles::{Troubles, Whom},
};
use crate::{
    actors::Workload,
    observation::{Event, Observation, RequestId},
    view::ClusterView,
};

/// How long before a request was sent something may have happened that still had consequences.
const REACH: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// The first actors.
    workers: usize,
    open: BTreeMap<RequestId, Instant>,
    troubles: Troubles,
    /// What the living processes counted, by node.
    counted: Vec<u64>,
    /// What those counted that are gone.
    counted_before: u64,
    /// Requests that nobody answered although nothing had happened.
    missing: Vec<RequestId>,
    answered: u64,
    healed_at: Option<Instant>,
}

/// The requests of its own clients that an engine dropped.
fn dropped(counters: &Counters) -> u64 {
    let of_requests = counters.dropped.iter().filter(|(reason, _)| match reason {
        DropReason::Malformed(_)
        | DropReason::TooManyQueries
        | DropReason::RepeatedForward
        | DropReason::OriginGone
        | DropReason::LateReply
        | DropReason::UnknownToken
        | DropReason::NotRegistered => false,
        DropReason::Expired
        | DropReason::AttemptsExhausted
        | DropReason::OutcomeUnknown
        | DropReason::PartiallyAnswered
        | DropReason::PartialsTooLarge
        | DropReason::BadAnswer
        | DropReason::QueueFull
        | DropReason::ServiceQueueFull
        | DropReason::ClientQueueFull
        | DropReason::Shed
        | DropReason::TooManyServices
        | DropReason::ClientGone
        | DropReason::Draining
        | DropReason::NotAllowed
        | DropReason::OverQuota => true,
    });
    of_requests.map(|(_, count)| *count).sum()
}

/// What came in was answered, dropped, or is still there; what is there may also be of other nodes.
fn balance(name: &str, counters: &Counters, gauges: &Gauges) -> Result<(), String> {
    let ended = counters.replied + dropped(counters);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let forwarded = count(gauges.forwarded_requests);
    let all = forwarded + count(gauges.queued_requests) + count(gauges.held_requests);
    match counters.requests.checked_sub(ended) {
        Some(left) if left >= forwarded && left <= all => Ok(()),
        left => Err(format!("{name} has {left:?} requests left: {gauges:?} {counters:?}")),
    }
}

impl Accounts {
    pub(super) fn new(workload: &Workload) -> Self {
        let workers = workload.services.iter().map(|service| service.workers).sum();
        Self { workers, ..Self::default() }
    }

    fn count(&mut self, view: &ClusterView<'_>) {
        self.counted.resize(view.nodes.len(), 0);
        for (last, node) in self.counted.iter_mut().zip(&view.nodes) {
            let now = node.counters.map_or(0, dropped);
            if now < *last {
                self.counted_before += *last;
            }
            *last = now;
        }
    }
}

impl Invariant for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        let at = observation.at;
        match observation.event {
            Event::RequestSent { id, .. } => {
                let before = self.open.insert(id, at);
                before.map_or(Ok(()), |_| Err(format!("{id} is sent twice")))?;
            }
            Event::RequestAnswered { id, .. } => {
                self.answered += 1;
                self.open.remove(&id);
            }
            Event::RequestTimedOut { id } => {
                if let Some(sent_at) = self.open.remove(&id) {
                    let from = sent_at.checked_sub(REACH).unwrap_or(sent_at);
                    let whom = Whom::Request { client: id.client, workers: self.workers };
                    if self.troubles.first(whom, from, at).is_none() {
                        self.missing.push(id);
                    }
                }
            }
            Event::RequestLost { id } => {
                self.open.remove(&id);
            }
            Event::Healed => self.healed_at = Some(at),
            _ => {}
        }
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.count(view);
        for node in &view.nodes {
            if let (Some(counters), Some(gauges)) = (node.counters, &node.gauges) {
                balance(node.name, counters, gauges)?;
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)?;
        if let Some((id, _)) = self.open.first_key_value() {
            return Err(format!("{id} has no end, and {} more", self.open.len() - 1));
        }
        let counted = self.counted_before + self.counted.iter().sum::<u64>();
        let missing = u64::try_from(self.missing.len()).unwrap_or(u64::MAX);
        if missing > counted {
            return Err(format!(
                "{missing} requests got no reply although nothing was wrong, and the nodes \
                 dropped {counted}: {:?}",
                self.missing.first()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, at, catalog, request, start};

    #[test]
    fn request_that_vanishes_from_the_books_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 4);
        nodes.counters[0].requests = 5;
        nodes.counters[0].replied = 3;
        nodes.counters[0].dropped.insert(DropReason::Expired, 1);
        nodes.gauges[0].held_requests = 1;
        assert_eq!(Accounts::default().on_look(&nodes.view(start())), Ok(()));
        nodes.gauges[0].held_requests = 0;
        assert!(Accounts::default().on_look(&nodes.view(start())).is_err());
        nodes.counters[0].replied = 5;
        assert!(Accounts::default().on_look(&nodes.view(start())).is_err(), "answered twice");
    }

    #[test]
    fn silence_without_a_reason_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 4);
        let (mut rule, start, id) = (Accounts::default(), start(), request(1, 1));
        rule.on_event(&at(start, 0, Event::RequestSent { id, service: 1, node: 0 })).unwrap();
        rule.on_event(&at(start, 9_000, Event::RequestTimedOut { id })).unwrap();
        assert!(rule.at_end(&nodes.view(start)).is_err());

        nodes.counters[1].requests = 1;
        nodes.counters[1].dropped.insert(DropReason::Expired, 1);
        assert_eq!(rule.at_end(&nodes.view(start)), Ok(()));
    }

    #[test]
    fn request_without_an_end_is_a_violation() {
        let nodes = Nodes::new(&catalog(&[]), 4);
        let (mut rule, start, id) = (Accounts::default(), start(), request(1, 1));
        assert_eq!(rule.at_end(&nodes.view(start)), Ok(()));
        rule.on_event(&at(start, 0, Event::RequestSent { id, service: 1, node: 0 })).unwrap();
        assert!(rule.at_end(&nodes.view(start)).is_err());
    }
}
