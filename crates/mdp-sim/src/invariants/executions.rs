//! How often a submission may be executed: at most once where that is the policy, else as often as
//! it may be handed over; never again without a reason, and never without having been sent.

use std::{collections::BTreeMap, time::Instant};

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
    /// Registrations that are over, as their workers know.
    parted: BTreeMap<RegistrationId, Instant>,
    troubles: Troubles,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    service: usize,
    by: Vec<RegistrationId>,
}

impl Executions {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            deliveries: workload.services.iter().map(|service| service.delivery).collect(),
            workers: workload.services.iter().map(|service| service.workers).sum(),
            attempts_max: usize::try_from(ServicePolicy::default().max_attempts).unwrap_or(3),
            sent: BTreeMap::new(),
            parted: BTreeMap::new(),
            troubles: Troubles::default(),
        }
    }

    fn on_executed(
        &mut self,
        at: Instant,
        id: RequestId,
        by: RegistrationId,
        service: usize,
    ) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&id) else {
            return Err(format!("{by} executes {id}, which nobody sent"));
        };
        if sent.service != service {
            return Err(format!("{by} of service {service} executes {id} of {}", sent.service));
        }
        let before = sent.by.clone();
        sent.by.push(by);
        let Some(last) = before.last() else { return Ok(()) };
        match self.deliveries.get(service) {
            Some(Delivery::AtMostOnce) => {
                return Err(format!("{id} is executed twice: by {before:?} and {by}"));
            }
            Some(Delivery::AtLeastOnce) if before.len() >= self.attempts_max => {
                return Err(format!("{id} is executed too often: by {before:?} and {by}"));
            }
            Some(Delivery::AtLeastOnce) | None => {}
        }
        let whom = Whom::Request { client: id.client, workers: self.workers };
        let is_forced =
            self.parted.contains_key(last) || self.troubles.first(whom, sent.at, at).is_some();
        if is_forced {
            Ok(())
        } else {
            Err(format!("{id} is executed by {by} while {last} has it and nothing happened"))
        }
    }
}

impl Invariant for Executions {
    fn name(&self) -> &'static str {
        "executions"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        let at = observation.at;
        match observation.event {
            Event::RequestSent { id, service, .. } => {
                self.sent.insert(id, Sent { at, service, by: Vec::new() });
                Ok(())
            }
            Event::WorkerParted { id, .. } => {
                self.parted.insert(id, at);
                Ok(())
            }
            Event::Executed { request, by, service, .. } => {
                self.on_executed(at, request, by, service)
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
}
