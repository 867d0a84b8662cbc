//! How often a submission may be executed: at most once where that is the policy, else as often as
//! it may be handed over; never again without a reason, and never without having been sent.

use std::{collections::BTreeMap, fmt, time::Instant};

use mdp_broker::{Delivery, ServicePolicy};

use super::{
    Invariant,
    troubles::{Troubles, Whom},
};
use crate::{
    actors::Workload,
    observation::{Event, Observation, RegistrationId, RequestId},
    view::ClusterView,
};

#[derive(Debug)]
pub(super) struct Executions {
    deliveries: Vec<Delivery>,
    /// The first actors.
    workers: usize,
    attempts_max: usize,
    sent: BTreeMap<RequestId, Sent>,
    /// Registrations that are over, as their workers or their nodes know: what such a worker has is
    /// given to another one. Whether a node may end it is for `no_healthy_eviction` to say.
    ended: BTreeMap<RegistrationId, Instant>,
    /// When an origin last gave up its link with an owner.
    links_ended: BTreeMap<(usize, usize), Instant>,
    troubles: Troubles,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    service: usize,
    /// To which node.
    node: usize,
    by: Vec<Executor>,
}

/// A worker that executed a submission, and its node.
#[derive(Clone, Copy, Debug)]
struct Executor {
    id: RegistrationId,
    node: usize,
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of node {}", self.id, self.node)
    }
}

impl Executions {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            deliveries: workload.services.iter().map(|service| service.delivery).collect(),
            workers: workload.services.iter().map(|service| service.workers).sum(),
            attempts_max: usize::try_from(ServicePolicy::default().max_attempts).unwrap_or(3),
            sent: BTreeMap::new(),
            ended: BTreeMap::new(),
            links_ended: BTreeMap::new(),
            troubles: Troubles::default(),
        }
    }

    fn on_executed(
        &mut self,
        at: Instant,
        id: RequestId,
        by: Executor,
        service: usize,
    ) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&id) else {
            return Err(format!("{by} executes {id}, which nobody sent"));
        };
        if sent.service != service {
            return Err(format!("{by} of service {service} executes {id} of {}", sent.service));
        }
        let before = sent.by.len();
        sent.by.push(by);
        if before == 0 {
            return Ok(());
        }
        match self.deliveries.get(service) {
            Some(Delivery::AtMostOnce) => {
                return Err(format!("{id} is executed twice: by {}", all_of(&sent.by)));
            }
            Some(Delivery::AtLeastOnce) if before >= self.attempts_max => {
                return Err(format!("{id} is executed too often: by {}", all_of(&sent.by)));
            }
            Some(Delivery::AtLeastOnce) | None => {}
        }
        let whom = Whom::Request { client: id.client, workers: self.workers };
        let Some(sent) = self.sent.get(&id) else { return Ok(()) };
        let is_calm = self.troubles.first(whom, sent.at, at).is_none();
        let left = sent.by.iter().filter(|one| !self.is_given_up(sent, one));
        if is_calm && left.count() > 1 {
            return Err(format!("{id} is with {}, and nothing happened", all_of(&sent.by)));
        }
        Ok(())
    }

    /// Whether a worker does not have a submission any more, as far as its node or the origin knows.
    /// The frames that gave it to the worker may arrive later than that.
    fn is_given_up(&self, sent: &Sent, one: &Executor) -> bool {
        let link_ended_at = self.links_ended.get(&(sent.node, one.node));
        let is_since = |at: &Instant| *at >= sent.at;
        self.ended.get(&one.id).is_some_and(is_since) || link_ended_at.is_some_and(is_since)
    }
}

fn all_of(executors: &[Executor]) -> String {
    executors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Invariant for Executions {
    fn name(&self) -> &'static str {
        "executions"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        let at = observation.at;
        match observation.event {
            Event::RequestSent { id, service, node } => {
                self.sent.insert(id, Sent { at, service, node, by: Vec::new() });
                Ok(())
            }
            Event::WorkerParted { id, .. } | Event::WorkerEnded { id, .. } => {
                self.ended.insert(id, at);
                Ok(())
            }
            Event::LinkEnded { origin, owner } => {
                self.links_ended.insert((origin, owner), at);
                Ok(())
            }
            Event::Executed { request, by, service, node } => {
                self.on_executed(at, request, Executor { id: by, node }, service)
            }
            _ => Ok(()),
        }
    }

    fn on_look(&mut self, _view: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_end(&mut self, _view: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mdp_broker::WorkerEnd;

    use super::*;
    use crate::{
        invariants::made_up::{at, registration, request, start, workload},
        observation::Parting,
    };

    fn run(service: usize, times: u64, parts: bool) -> Result<(), String> {
        let (mut rule, start, id) = (Executions::new(&workload()), start(), request(9, 1));
        rule.on_event(&at(start, 0, Event::RequestSent { id, service, node: 0 }))?;
        for (worker, time) in (1..=times).enumerate() {
            let by = registration(worker);
            let executed = Event::Executed { request: id, by, service, node: 0 };
            rule.on_event(&at(start, time * 10, executed))?;
            if parts {
                let (parting, was_healthy) = (Parting::Died, true);
                let parted = Event::WorkerParted { id: by, parting, was_healthy };
                rule.on_event(&at(start, time * 10 + 5, parted))?;
            }
        }
        Ok(())
    }

    #[test]
    fn at_most_once_is_never_twice() {
        assert_eq!(run(2, 1, true), Ok(()));
        assert!(run(2, 2, true).is_err());
    }

    #[test]
    fn at_least_once_ends_with_the_attempts() {
        assert_eq!(run(1, 3, true), Ok(()));
        assert!(run(1, 4, true).is_err());
    }

    #[test]
    fn nothing_is_executed_again_without_a_reason() {
        assert!(run(1, 2, false).is_err());
    }

    /// A request to node 0 is executed by worker 0 of node 1, something happens, and worker 1 of node
    /// 2 executes it, too.
    fn again_after(event: Event) -> Result<(), String> {
        let (mut rule, start, request) = (Executions::new(&workload()), start(), request(9, 1));
        let executed = |worker, node| {
            let by = registration(worker);
            Event::Executed { request, by, service: 1, node }
        };
        rule.on_event(&at(start, 0, Event::LinkEnded { origin: 0, owner: 1 }))?;
        rule.on_event(&at(start, 1, Event::RequestSent { id: request, service: 1, node: 0 }))?;
        rule.on_event(&at(start, 2, executed(0, 1)))?;
        rule.on_event(&at(start, 3, event))?;
        rule.on_event(&at(start, 4, executed(1, 2)))
    }

    #[test]
    fn worker_that_its_node_ended_is_a_reason_before_it_knows() {
        for end in [
            WorkerEnd::Left,
            WorkerEnd::Expired,
            WorkerEnd::ConnectionLost,
            WorkerEnd::ProtocolError,
            WorkerEnd::Draining,
            WorkerEnd::Isolated,
        ] {
            let of = |worker| Event::WorkerEnded { id: registration(worker), node: 1, end };
            assert_eq!(again_after(of(0)), Ok(()), "{end:?}");
            assert_eq!(again_after(of(1)), Ok(()), "{end:?}: given up, but the frames came late");
            assert!(again_after(of(2)).is_err(), "{end:?} of another worker");
        }
    }

    #[test]
    fn link_that_the_origin_gave_up_is_a_reason() {
        let of = |origin, owner| Event::LinkEnded { origin, owner };
        assert_eq!(again_after(of(0, 1)), Ok(()));
        assert_eq!(again_after(of(0, 2)), Ok(()), "given up, but the frames came late");
        assert!(again_after(of(1, 0)).is_err(), "of the requests of another node");
        assert!(again_after(of(0, 3)).is_err(), "with a node that does not have it");
    }
}
