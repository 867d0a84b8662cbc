//! How soon things are noticed while nothing else goes wrong (docs/operating.md): a registration, the
//! end of one, the loss of a node, a drain; and how soon everything is well after the last fault.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Invariant,
    registrations::Registrations,
    troubles::{Troubles, Whom},
};
use crate::{
    actors::Workload,
    observation::{Event, Observation, Parting},
    view::ClusterView,
};

/// How long nothing may have been wrong with the nodes, and the worker, for the bounds to count.
const CALM: Duration = Duration::from_secs(10);
/// READY to the acknowledgement, and DISCONNECT to its end in every copy: far beyond what they take,
/// far below any time-out that could hide a loss.
const CHANGE_MAX: Duration = Duration::from_secs(3);
/// Beyond `cluster.node_timeout`: an election, the commit, and the leader's grace.
const NODE_LOSS_SLACK: Duration = Duration::from_secs(4);
/// Beyond `broker.drain_timeout`: the clients' leave, the last flush, the goodbye to the cluster.
const DRAIN_SLACK: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Bounds {
    services: Vec<String>,
    node_timeout: Duration,
    drain_timeout: Duration,
    registrations: Registrations,
    troubles: Troubles,
    draining: BTreeMap<usize, Instant>,
    /// Nodes that crashed while all else was well.
    lost: BTreeMap<usize, Instant>,
    /// The last time that something was done, other than the loss of a node in `lost`.
    disturbed_at: Option<Instant>,
}

impl Bounds {
    pub(super) fn new(
        workload: &Workload,
        node_timeout: Duration,
        drain_timeout: Duration,
    ) -> Self {
        Self {
            services: workload.services.iter().map(|service| service.name.clone()).collect(),
            node_timeout,
            drain_timeout,
            registrations: Registrations::default(),
            troubles: Troubles::default(),
            draining: BTreeMap::new(),
            lost: BTreeMap::new(),
            disturbed_at: None,
        }
    }

    fn follow_nodes(&mut self, observation: &Observation) {
        let at = observation.at;
        match observation.event {
            Event::NodeDraining { node } => {
                self.draining.insert(node, at);
            }
            Event::NodeCrashed { node }
                if self.disturbed_at.is_none_or(|last| at > last + CALM) =>
            {
                self.draining.remove(&node);
                self.lost.insert(node, at);
            }
            Event::NodeCrashed { node }
            | Event::NodeDrained { node, .. }
            | Event::NodeStopped { node, .. }
            | Event::NodeStarted { node } => {
                self.draining.remove(&node);
                self.lost.clear();
                self.disturbed_at = Some(at);
            }
            Event::NodePaused { .. } | Event::NodeResumed { .. } => {
                self.draining.clear();
                self.lost.clear();
                self.disturbed_at = Some(at);
            }
            Event::FaultBegan(ref fault) | Event::FaultEnded(ref fault) => {
                let is_crash = fault.kind == "crash";
                if !is_crash {
                    self.lost.clear();
                    self.disturbed_at = Some(at);
                }
                // What is slow or cut keeps a drain from its end.
                if fault.kind != "drain" {
                    self.draining.clear();
                }
            }
            _ => {}
        }
    }

    fn is_calm(&self, worker: usize, now: Instant) -> bool {
        self.troubles.is_calm(Whom::Cluster { actor: worker }, now, CALM)
    }

    /// Workers that wait for their acknowledgement, while all is well.
    fn check_waiting(&self, now: Instant) -> Result<(), String> {
        for (id, one) in self.registrations.live() {
            let is_late = one.acknowledged_at.is_none() && one.ready_at + CHANGE_MAX < now;
            if is_late && self.is_calm(id.worker, now) {
                return Err(format!(
                    "{id} waits for node {} to acknowledge it since {:?}",
                    one.node,
                    now - one.ready_at
                ));
            }
        }
        Ok(())
    }

    /// What workers left that nobody replaces is offered by nobody.
    fn check_left(&self, view: &ClusterView<'_>) -> Result<(), String> {
        for (id, one) in self.registrations.all() {
            let Some((parted_at, Parting::Left)) = one.parted else { continue };
            let is_due = parted_at + CHANGE_MAX < view.now;
            if !is_due || self.registrations.has_live(one.service, one.node) {
                continue;
            }
            let since = |other: &super::registrations::Registration| {
                other.service == one.service
                    && other.node == one.node
                    && other.parted.is_some_and(|(at, _)| at + CHANGE_MAX >= view.now)
            };
            if self.registrations.all().any(|(_, other)| since(other)) {
                continue;
            }
            let (Some(name), Some(owner)) =
                (self.services.get(one.service), view.nodes.get(one.node))
            else {
                continue;
            };
            let is_calm = self.is_calm(id.worker, view.now);
            for node in view.nodes.iter().filter(|node| node.is_up && node.is_member && is_calm) {
                let Some(catalog) = node.catalog else { continue };
                if catalog.offering(name.as_bytes()).any(|other| other.as_str() == owner.name) {
                    return Err(format!(
                        "{id} left {:?} ago, and {} still shows {name} of {}",
                        view.now - parted_at,
                        node.name,
                        owner.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_lost(&self, view: &ClusterView<'_>) -> Result<(), String> {
        // One is enough to be noticed by the others.
        let [(lost, crashed_at)] = self.lost.iter().collect::<Vec<_>>()[..] else { return Ok(()) };
        let bound = self.node_timeout + NODE_LOSS_SLACK;
        let Some(gone) = view.nodes.get(*lost).filter(|_| view.nodes.len() > 2) else {
            return Ok(());
        };
        if *crashed_at + bound >= view.now {
            return Ok(());
        }
        for node in view.nodes.iter().filter(|node| node.is_up && node.is_member) {
            let mut services = node.catalog.into_iter().flat_map(|catalog| catalog.services());
            let shown = services
                .find(|(_, offering)| offering.iter().any(|other| other.as_str() == gone.name));
            if let Some((service, _)) = shown {
                return Err(format!(
                    "{} is gone for {:?}, and {} still shows its {service}",
                    gone.name,
                    view.now - *crashed_at,
                    node.name
                ));
            }
        }
        Ok(())
    }

    fn check_drains(&self, now: Instant) -> Result<(), String> {
        for (node, since) in &self.draining {
            if *since + self.drain_timeout + DRAIN_SLACK < now {
                return Err(format!("node {node} has been draining for {:?}", now - *since));
            }
        }
        Ok(())
    }
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        self.registrations.on_event(observation);
        self.follow_nodes(observation);
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.check_drains(view.now)?;
        self.check_lost(view)?;
        self.check_waiting(view.now)?;
        self.check_left(view)?;
        let forgotten = view.now.checked_sub(CHANGE_MAX * 4).unwrap_or(view.now);
        self.registrations.forget_parted_before(forgotten);
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, at, catalog, registration, start, workload};

    fn rule() -> Bounds {
        Bounds::new(&workload(), Duration::from_secs(3), Duration::from_secs(5))
    }

    fn view_after(rule: &mut Bounds, start: Instant, nodes: &Nodes, ms: u64) -> Result<(), String> {
        rule.on_look(&nodes.view(start + Duration::from_millis(ms)))
    }

    #[test]
    fn worker_that_is_never_acknowledged_is_a_violation() {
        let (mut rule, start, id) = (rule(), start(), registration(4));
        let nodes = Nodes::new(&catalog(&[]), 4);
        rule.on_event(&at(start, 0, Event::ReadySent { id, service: 0, node: 0 })).unwrap();
        assert_eq!(view_after(&mut rule, start, &nodes, 2_900), Ok(()));
        assert!(view_after(&mut rule, start, &nodes, 3_100).is_err());
    }

    #[test]
    fn service_that_outlives_its_worker_is_a_violation() {
        let (mut rule, start, id) = (rule(), start(), registration(4));
        let name = workload().services[0].name.clone();
        let nodes = Nodes::new(&catalog(&[(0, &name)]), 4);
        rule.on_event(&at(start, 0, Event::ReadySent { id, service: 0, node: 0 })).unwrap();
        rule.on_event(&at(start, 5, Event::Acknowledged { id })).unwrap();
        assert_eq!(view_after(&mut rule, start, &nodes, 4_000), Ok(()));
        let (parting, was_healthy) = (Parting::Left, true);
        rule.on_event(&at(start, 5_000, Event::WorkerParted { id, parting, was_healthy })).unwrap();
        assert_eq!(view_after(&mut rule, start, &nodes, 7_900), Ok(()));
        assert!(view_after(&mut rule, start, &nodes, 8_100).is_err());
    }

    #[test]
    fn lost_node_that_is_shown_for_ever_is_a_violation() {
        let (mut rule, start) = (rule(), start());
        let nodes = Nodes::new(&catalog(&[(2, "echo.0")]), 4);
        rule.on_event(&at(start, 0, Event::NodeCrashed { node: 2 })).unwrap();
        assert_eq!(view_after(&mut rule, start, &nodes, 6_900), Ok(()));
        assert!(view_after(&mut rule, start, &nodes, 7_100).is_err());
    }

    #[test]
    fn drain_without_an_end_is_a_violation() {
        let (mut rule, start) = (rule(), start());
        let nodes = Nodes::new(&catalog(&[]), 4);
        rule.on_event(&at(start, 0, Event::NodeDraining { node: 2 })).unwrap();
        assert_eq!(view_after(&mut rule, start, &nodes, 14_000), Ok(()));
        assert!(view_after(&mut rule, start, &nodes, 15_100).is_err());
    }
}
