//! No worker hears anything but DISCONNECT before its registration is applied at its node: when it
//! has heard of its node, the copy of that node offers its service in the node's current life.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Invariant,
    registrations::{Registration, Registrations},
    troubles::{Troubles, Whom},
};
use crate::{
    actors::Workload,
    observation::{Event, Observation, RegistrationId},
    view::ClusterView,
};

/// A node that was in trouble may have lost its life a moment ago, and not know yet.
const CALM: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct AcknowledgedRegistrations {
    services: Vec<String>,
    registrations: Registrations,
    troubles: Troubles,
    /// Acknowledged, and not looked at yet.
    fresh: BTreeSet<RegistrationId>,
}

impl AcknowledgedRegistrations {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            services: workload.services.iter().map(|service| service.name.clone()).collect(),
            registrations: Registrations::default(),
            troubles: Troubles::default(),
            fresh: BTreeSet::new(),
        }
    }

    fn check(
        &self,
        view: &ClusterView<'_>,
        id: RegistrationId,
        registration: &Registration,
    ) -> Result<(), String> {
        let Registration { service, node: number, .. } = *registration;
        let Some(node) = view.nodes.get(number).filter(|node| node.is_up) else { return Ok(()) };
        let (Some(catalog), Some(name)) = (node.catalog, self.services.get(service)) else {
            return Ok(());
        };
        let is_offered = node.life.is_some_and(|life| catalog.is_offered_by(life, name.as_bytes()));
        if is_offered || !self.troubles.is_calm(Whom::Node(number), view.now, CALM) {
            return Ok(());
        }
        Err(format!("{id} heard from {}, which does not offer {name}: {catalog:?}", node.name))
    }
}

impl Invariant for AcknowledgedRegistrations {
    fn name(&self) -> &'static str {
        "acknowledged_registrations"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        self.registrations.on_event(observation);
        match observation.event {
            Event::Acknowledged { id } => {
                self.fresh.insert(id);
            }
            Event::WorkerParted { id, .. } => {
                self.fresh.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for id in std::mem::take(&mut self.fresh) {
            if let Some(registration) = self.registrations.get(id) {
                self.check(view, id, registration)?;
            }
        }
        self.registrations.forget_parted_before(view.now);
        Ok(())
    }

    /// Every worker that is acknowledged, not only the newest.
    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        let mut acknowledged =
            self.registrations.live().filter(|(_, one)| one.acknowledged_at.is_some());
        acknowledged.try_for_each(|(id, registration)| self.check(view, id, registration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, at, catalog, registration, start, workload};

    #[test]
    fn heartbeat_before_the_offer_is_applied_is_a_violation() {
        for (node, is_right) in [(0, true), (1, false)] {
            let workload = workload();
            let mut rule = AcknowledgedRegistrations::new(&workload);
            let name = workload.services[0].name.clone();
            let (start, id) = (start(), registration(4));
            let ready = Event::ReadySent { id, service: 0, node };
            rule.on_event(&at(start, 0, ready)).unwrap();
            let nodes = Nodes::new(&catalog(&[(0, &name)]), 5);
            assert_eq!(rule.on_look(&nodes.view(start)), Ok(()));

            rule.on_event(&at(start, 9, Event::Acknowledged { id })).unwrap();
            assert_eq!(rule.on_look(&nodes.view(start)).is_ok(), is_right);
        }
    }
}
