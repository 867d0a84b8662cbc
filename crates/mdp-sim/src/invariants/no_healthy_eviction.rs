//! A worker that is registered and sends its heartbeats in time is not sent away by a node that
//! nothing is wrong with.

use std::time::Duration;

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

/// Beyond twice the time in which a peer expires: the way of the messages.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct NoHealthyEviction {
    /// How long something may go on to have consequences: the node notices, and the worker is told.
    reach: Duration,
    /// For how long a node that is cut off from the others keeps its workers, if not for ever.
    lonely_max: Option<Duration>,
    registrations: Registrations,
    troubles: Troubles,
}

impl NoHealthyEviction {
    pub(super) fn new(workload: &Workload, lonely_max: Option<Duration>) -> Self {
        Self {
            reach: workload.expiry() * 2 + SLACK,
            lonely_max,
            registrations: Registrations::default(),
            troubles: Troubles::default(),
        }
    }
}

impl Invariant for NoHealthyEviction {
    fn name(&self) -> &'static str {
        "no_healthy_eviction"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        self.registrations.on_event(observation);
        let Event::WorkerParted { id, parting, was_healthy } = observation.event else {
            return Ok(());
        };
        let is_sent_away = match parting {
            Parting::Disconnected | Parting::BrokerSilent | Parting::ConnectionLost => true,
            Parting::Left | Parting::Died => false,
        };
        let Some(registration) = self.registrations.get(id).copied() else { return Ok(()) };
        if !is_sent_away || !was_healthy || registration.acknowledged_at.is_none() {
            return Ok(());
        }
        let (node, actor) = (registration.node, id.worker);
        let (whom, reach) = match self.lonely_max {
            // What happens to the others can leave it alone, too.
            Some(lonely_max) => (Whom::Cluster { actor }, self.reach + lonely_max),
            None => (Whom::Peer { node, actor }, self.reach),
        };
        if self.troubles.is_calm(whom, observation.at, reach) {
            return Err(format!(
                "{id} lost node {} ({parting:?}), and nothing was wrong with either",
                registration.node
            ));
        }
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.registrations.forget_parted_before(view.now);
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
        invariants::made_up::{at, registration, start, workload},
        observation::Fault,
    };

    fn evicted(fault: Option<Fault>) -> Result<(), String> {
        let mut rule = NoHealthyEviction::new(&workload(), None);
        let (start, id) = (start(), registration(4));
        rule.on_event(&at(start, 0, Event::ReadySent { id, service: 0, node: 1 }))?;
        rule.on_event(&at(start, 9, Event::Acknowledged { id }))?;
        if let Some(fault) = fault {
            rule.on_event(&at(start, 900, Event::FaultBegan(fault)))?;
        }
        let (parting, was_healthy) = (Parting::Disconnected, true);
        rule.on_event(&at(start, 1_000, Event::WorkerParted { id, parting, was_healthy }))
    }

    #[test]
    fn healthy_worker_that_is_sent_away_is_a_violation() {
        assert!(evicted(None).is_err());
        let of = |nodes, actors| Some(Fault { kind: "peer_cut", nodes, actors });
        assert!(evicted(of(vec![0, 2], Vec::new())).is_err(), "of others");
        assert!(evicted(of(vec![1], vec![4])).is_ok());
        assert!(evicted(of(vec![2], vec![4])).is_err(), "of another way");
    }
}
