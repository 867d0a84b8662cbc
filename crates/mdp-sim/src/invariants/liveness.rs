//! After everything has healed: every node runs, every worker is registered, the catalogs show
//! exactly who is there, and what is asked is answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{Invariant, registrations::Registrations};
use crate::{
    actors::Workload,
    observation::{Answer, Event, Observation, QuestionId, RequestId},
    view::ClusterView,
};

/// How long after the end of all faults everything must be well: lives end and begin, workers find
/// out that they are alone, clients give up waiting.
const RECOVERS: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) struct Liveness {
    services: Vec<String>,
    registrations: Registrations,
    healed_at: Option<Instant>,
    /// When they were sent.
    requests: BTreeMap<RequestId, Instant>,
    questions: BTreeMap<QuestionId, Instant>,
    answered: u64,
    /// The client that gave up last, and when: with its connection it gives up all that it waits for.
    gave_up: Option<(usize, Instant)>,
}

impl Liveness {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            services: workload.services.iter().map(|service| service.name.clone()).collect(),
            registrations: Registrations::default(),
            healed_at: None,
            requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            answered: 0,
            gave_up: None,
        }
    }

    /// Whether everything has to be well at this moment.
    fn is_due(&self, at: Instant) -> bool {
        self.healed_at.is_some_and(|healed_at| at >= healed_at + RECOVERS)
    }

    fn check_catalogs(&self, view: &ClusterView<'_>) -> Result<(), String> {
        let mut wanted = BTreeSet::new();
        for (id, one) in self.registrations.live() {
            if one.acknowledged_at.is_none() {
                return Err(format!("{id} is not acknowledged by node {}", one.node));
            }
            let names = (self.services.get(one.service), view.nodes.get(one.node));
            if let (Some(service), Some(node)) = names {
                wanted.insert((service.as_str(), node.name));
            }
        }
        for node in view.nodes.iter().filter(|node| node.is_member) {
            let Some(catalog) = node.catalog else { continue };
            let mut shown = BTreeSet::new();
            for service in &self.services {
                let offering = catalog.offering(service.as_bytes());
                shown.extend(offering.map(|other| (service.as_str(), other.as_str())));
            }
            if shown != wanted {
                return Err(format!("{} shows {shown:?}, and there are {wanted:?}", node.name));
            }
        }
        Ok(())
    }
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.registrations.on_event(observation);
        let at = observation.at;
        match observation.event {
            Event::Healed => self.healed_at = Some(at),
            Event::RequestSent { id, .. } => {
                self.requests.insert(id, at);
            }
            Event::RequestAnswered { id, .. } => {
                self.requests.remove(&id);
                self.answered += 1;
            }
            Event::RequestLost { id } => {
                if let Some(sent_at) = self.requests.remove(&id)
                    && self.is_due(sent_at)
                    && self.gave_up != Some((id.client, at))
                {
                    return Err(format!("the client of {id} lost its node long after all healed"));
                }
            }
            // It may have waited too long for a worker with much to do, which is counted.
            Event::RequestTimedOut { id } => {
                self.requests.remove(&id);
                self.gave_up = Some((id.client, at));
            }
            Event::LookupSent { id, .. } => {
                self.questions.insert(id, at);
            }
            Event::LookupAnswered { id, answer } => {
                let sent_at = self.questions.remove(&id);
                if answer == Answer::Unavailable && sent_at.is_some_and(|at| self.is_due(at)) {
                    return Err(format!("{id:?} is answered 503 long after all healed"));
                }
            }
            Event::LookupForgotten { id } => {
                let sent_at = self.questions.remove(&id);
                if sent_at.is_some_and(|at| self.is_due(at)) {
                    return Err(format!("{id:?} is not answered long after all healed"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_look(&mut self, _view: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for node in view.nodes.iter().filter(|node| node.is_member) {
            if !node.is_up || node.is_paused || !node.is_ready || node.catalog.is_none() {
                return Err(format!("{} does not take part", node.name));
            }
        }
        self.check_catalogs(view)?;
        match self.answered {
            0 => Err("no request was ever answered".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, at, catalog, registration, request, start, workload};

    fn quiet() -> (Liveness, Instant) {
        let (mut rule, start) = (Liveness::new(&workload()), start());
        let answered = Event::RequestAnswered { id: request(9, 1), by: registration(1) };
        rule.on_event(&at(start, 0, answered)).unwrap();
        rule.on_event(&at(start, 0, Event::Healed)).unwrap();
        (rule, start)
    }

    #[test]
    fn catalog_that_shows_somebody_else_is_a_violation() {
        let name = workload().services[0].name.clone();
        let (mut rule, start) = quiet();
        let id = registration(4);
        rule.on_event(&at(start, 1, Event::ReadySent { id, service: 0, node: 1 })).unwrap();
        let right = Nodes::new(&catalog(&[(1, &name)]), 4);
        assert!(rule.at_end(&right.view(start)).is_err(), "not acknowledged");
        rule.on_event(&at(start, 2, Event::Acknowledged { id })).unwrap();
        assert_eq!(rule.at_end(&right.view(start)), Ok(()));
        let wrong = Nodes::new(&catalog(&[(0, &name)]), 4);
        assert!(rule.at_end(&wrong.view(start)).is_err());
        assert!(rule.at_end(&Nodes::new(&catalog(&[]), 4).view(start)).is_err());
    }

    #[test]
    fn no_answer_long_after_all_healed_is_a_violation() {
        let id = QuestionId { asker: 3, number: 1 };
        for (sent, is_right) in [(5_000, true), (25_000, false)] {
            let (mut rule, start) = quiet();
            rule.on_event(&at(start, sent, Event::LookupSent { id, service: 0, node: 1 })).unwrap();
            let answer = Answer::Unavailable;
            let answered = at(start, sent + 9, Event::LookupAnswered { id, answer });
            assert_eq!(rule.on_event(&answered).is_ok(), is_right);
        }
    }
}
