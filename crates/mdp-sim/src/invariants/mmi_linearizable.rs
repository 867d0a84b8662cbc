//! `mmi.service` is linearizable, for each service by itself: one order of registrations, their ends
//! and lookups explains every answer.
//!
//! What a worker does is a registration: it may count from its READY on and counts when the worker
//! hears of it; it ends to count between the moment when the worker parts and the moment when the
//! catalog shows it. Where something was done to the node or the worker, a registration may end and
//! begin again whenever the catalog shows that. An offer that no worker is behind any more (it was on
//! its way) may count for as long as the catalog shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mdp_catalog::{Catalog, Epoch};
use mdp_history::{Action, Call, History, OpId, Operation, REGISTRATIONS_MAX, Verdict};

use super::{
    Invariant,
    troubles::{Troubles, Whom},
};
use crate::{
    actors::Workload,
    observation::{Answer, Event, Observation, QuestionId, RegistrationId},
    view::ClusterView,
};

/// How long a worker's node must not offer its service for the registration to be over: whatever was
/// on its way is then shown by itself if it comes.
const SETTLES: Duration = Duration::from_millis(300);
/// How long what was done to a node has consequences.
const REACH: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct MmiLinearizable {
    services: Vec<Service>,
    questions: BTreeMap<QuestionId, (usize, OpId)>,
    places: BTreeMap<RegistrationId, usize>,
    troubles: Troubles,
    began_at: Option<Instant>,
    /// The highest index that anybody had applied, when that was seen, and when it was seen before.
    newest: u64,
    looked_at: Option<Instant>,
    /// Since when changes may have been applied without being seen: some process may have gone
    /// with them.
    unseen_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Service {
    name: String,
    history: History,
    registrations: BTreeMap<RegistrationId, Registration>,
    /// Offers without a worker behind them, by node.
    ghosts: BTreeMap<usize, u8>,
    /// Who offers it, in which life.
    listed: BTreeMap<usize, Epoch>,
    taken: BTreeSet<u8>,
}

#[derive(Debug)]
struct Registration {
    number: u8,
    node: usize,
    ready_at: Instant,
    add: OpId,
    is_acknowledged: bool,
    parted_at: Option<Instant>,
    /// From when on its end may count.
    ends_from: Option<Instant>,
    unlisted_since: Option<Instant>,
}

impl Service {
    fn take_number(&mut self) -> Result<u8, String> {
        let free = (0..REGISTRATIONS_MAX).find(|number| !self.taken.contains(number));
        let number = free.ok_or_else(|| format!("{}: too many registrations", self.name))?;
        self.taken.insert(number);
        Ok(number)
    }

    fn push(&mut self, action: Action, from: u64, to: u64, is_optional: bool) {
        let returned_at = Some(to);
        self.history.push(Operation { action, called_at: from, returned_at, is_optional });
    }
}

impl MmiLinearizable {
    pub(super) fn new(workload: &Workload) -> Self {
        let named = |name: &String| Service { name: name.clone(), ..Service::default() };
        Self {
            services: workload.services.iter().map(|service| named(&service.name)).collect(),
            questions: BTreeMap::new(),
            places: BTreeMap::new(),
            troubles: Troubles::default(),
            began_at: None,
            newest: 0,
            looked_at: None,
            unseen_since: None,
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let since = self.began_at.map_or(Duration::ZERO, |from| at.saturating_duration_since(from));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn on_ready(
        &mut self,
        at: Instant,
        id: RegistrationId,
        place: usize,
        node: usize,
    ) -> Result<(), String> {
        let called_at = self.nanoseconds(at);
        let Some(service) = self.services.get_mut(place) else { return Ok(()) };
        let number = service.take_number()?;
        let add = service.history.call(Call::Add(number), called_at);
        let registration = Registration {
            number,
            node,
            ready_at: at,
            add,
            is_acknowledged: false,
            parted_at: None,
            ends_from: None,
            unlisted_since: None,
        };
        service.registrations.insert(id, registration);
        self.places.insert(id, place);
        Ok(())
    }

    fn on_acknowledged(&mut self, at: Instant, id: RegistrationId) {
        let returned_at = self.nanoseconds(at);
        let Some(service) = self.places.get(&id).and_then(|at| self.services.get_mut(*at)) else {
            return;
        };
        if let Some(registration) = service.registrations.get_mut(&id) {
            registration.is_acknowledged = true;
            service.history.return_(registration.add, returned_at);
        }
    }

    /// Its end may have come before the worker knew, if something was done to it or its node.
    fn on_parted(&mut self, at: Instant, id: RegistrationId) {
        let Some(service) = self.places.get(&id).and_then(|at| self.services.get_mut(*at)) else {
            return;
        };
        let Some(registration) = service.registrations.get_mut(&id) else { return };
        let whom = Whom::Peer { node: registration.node, actor: id.worker };
        let from = registration.ready_at.checked_sub(REACH).unwrap_or(registration.ready_at);
        let trouble = self.troubles.first(whom, from, at);
        let ends_from = trouble.map_or(at, |trouble| trouble.max(registration.ready_at));
        registration.parted_at = Some(at);
        registration.ends_from = Some(ends_from);
    }

    fn on_answer(&mut self, at: Instant, id: QuestionId, answer: Answer) {
        let Some((place, operation)) = self.questions.remove(&id) else { return };
        let at = self.nanoseconds(at);
        let Some(service) = self.services.get_mut(place) else { return };
        match answer {
            Answer::Found => service.history.answer(operation, true, at),
            Answer::NotFound => service.history.answer(operation, false, at),
            Answer::Unavailable => service.history.forget(operation),
        }
    }

    /// Takes notice of what the newest copy of the catalog shows.
    fn compare(&mut self, view: &ClusterView<'_>, catalog: &Catalog) -> Result<(), String> {
        let now = self.nanoseconds(view.now);
        let from = self.unseen_since.or(self.looked_at).map_or(0, |at| self.nanoseconds(at));
        for service in &mut self.services {
            let offering: BTreeMap<&str, Epoch> = catalog
                .offering(service.name.as_bytes())
                .filter_map(|name| Some((name.as_str(), catalog.node(name)?.epoch)))
                .collect();
            for (node, seen) in view.nodes.iter().enumerate() {
                let (is, was) = (offering.get(seen.name), service.listed.get(&node));
                if is == was {
                    continue;
                }
                let troubles = &self.troubles;
                let is_excused = |id: RegistrationId, ready_at: Instant| {
                    let whom = Whom::Peer { node, actor: id.worker };
                    let from = ready_at.checked_sub(REACH).unwrap_or(ready_at);
                    troubles.first(whom, from, view.now).is_some()
                };
                // In another life both happened.
                if service.listed.remove(&node).is_some() {
                    service.vanish(node, from, now, &is_excused);
                }
                if let Some(epoch) = is {
                    service.listed.insert(node, *epoch);
                    service.appear(node, from, now)?;
                }
            }
        }
        Ok(())
    }

    /// Ends what is certainly over.
    fn settle(&mut self, now: Instant) {
        let began_at = self.began_at.unwrap_or(now);
        for service in &mut self.services {
            for (id, how) in service.over(now) {
                match how {
                    Over::Ended => service.end(id, now, began_at),
                    Over::Covered => service.forget(id),
                }
                self.places.remove(&id);
            }
        }
    }

    /// Whose worker parted, and whose end has not been seen, may end at any time.
    fn leave_open(&mut self) {
        let began_at = self.began_at;
        for service in &mut self.services {
            for one in service.registrations.values() {
                let since = |from| one.ends_from?.checked_duration_since(from);
                let Some(from) = began_at.and_then(since) else { continue };
                let called_at = u64::try_from(from.as_nanos()).unwrap_or(u64::MAX);
                service.history.call(Call::Remove(one.number), called_at);
            }
        }
    }

    fn judge(&self) -> Result<(), String> {
        for service in &self.services {
            match service.history.check() {
                Verdict::Legal => {}
                wrong @ (Verdict::Illegal(_) | Verdict::Inconclusive(_)) => {
                    return Err(format!("{}: {wrong}", service.name));
                }
            }
        }
        Ok(())
    }
}

/// How a registration comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Ended,
    /// It changed nothing: another one that began before it stands for the same offer.
    Covered,
}

impl Service {
    /// Registrations whose workers parted, and that nothing will follow from. For an offer that still
    /// stands, one registration is enough.
    fn over(&mut self, now: Instant) -> Vec<(RegistrationId, Over)> {
        let mut holders: BTreeMap<usize, (bool, bool, RegistrationId, Instant)> = BTreeMap::new();
        for (id, one) in &self.registrations {
            let rank = (one.is_acknowledged, one.parted_at.is_none());
            let holder = holders.entry(one.node).or_insert((rank.0, rank.1, *id, one.ready_at));
            if rank > (holder.0, holder.1)
                || (rank == (holder.0, holder.1) && one.ready_at < holder.3)
            {
                *holder = (rank.0, rank.1, *id, one.ready_at);
            }
        }
        let mut over = Vec::new();
        for (id, one) in &mut self.registrations {
            if one.parted_at.is_none() {
                continue;
            }
            if !self.listed.contains_key(&one.node) {
                let since = *one.unlisted_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= SETTLES {
                    over.push((*id, Over::Ended));
                }
                continue;
            }
            one.unlisted_since = None;
            let Some((.., holder, began_at)) = holders.get(&one.node) else { continue };
            if holder != id {
                let is_covered = !one.is_acknowledged && *began_at <= one.ready_at;
                over.push((*id, if is_covered { Over::Covered } else { Over::Ended }));
            }
        }
        over
    }

    fn forget(&mut self, id: RegistrationId) {
        if let Some(one) = self.registrations.remove(&id) {
            self.history.forget(one.add);
            self.taken.remove(&one.number);
        }
    }

    /// A node began to offer the service.
    fn appear(&mut self, node: usize, from: u64, now: u64) -> Result<(), String> {
        let mut is_known = false;
        let behind: Vec<(u8, bool)> = self
            .registrations
            .values()
            .filter(|one| one.node == node)
            .map(|one| (one.number, one.is_acknowledged))
            .collect();
        for (number, is_acknowledged) in behind {
            is_known = true;
            if is_acknowledged {
                self.push(Action::Add(number), from, now, true);
            }
        }
        if !is_known {
            let number = self.take_number()?;
            self.ghosts.insert(node, number);
            self.push(Action::Add(number), from, now, true);
        }
        Ok(())
    }

    /// A node does not offer the service any more. For those that had no reason to end that must
    /// not be.
    fn vanish(
        &mut self,
        node: usize,
        from: u64,
        now: u64,
        is_excused: &dyn Fn(RegistrationId, Instant) -> bool,
    ) {
        if let Some(number) = self.ghosts.remove(&node) {
            self.push(Action::Remove(number), from, now, false);
            self.taken.remove(&number);
        }
        let behind: Vec<u8> = self
            .registrations
            .iter()
            .filter(|(id, one)| {
                one.node == node && (!one.is_acknowledged || is_excused(**id, one.ready_at))
            })
            .map(|(_, one)| one.number)
            .collect();
        for number in behind {
            self.push(Action::Remove(number), from, now, true);
        }
    }

    /// A registration is over: whether it ever counted or not, it does not any more.
    fn end(&mut self, id: RegistrationId, now: Instant, began_at: Instant) {
        let Some(one) = self.registrations.remove(&id) else { return };
        let nanoseconds = |at: Instant| {
            u64::try_from(at.saturating_duration_since(began_at).as_nanos()).unwrap_or(u64::MAX)
        };
        let at = nanoseconds(now);
        let from = one.ends_from.map_or(at, nanoseconds);
        if !one.is_acknowledged {
            self.history.return_or_never(one.add, at);
        }
        // It may have ended, and what was on its way begun again; in the end it is over.
        self.push(Action::Remove(one.number), from, at, !one.is_acknowledged);
        if !one.is_acknowledged {
            self.push(Action::Remove(one.number), at + 1, at + 2, false);
        }
        self.taken.remove(&one.number);
    }
}

impl Invariant for MmiLinearizable {
    fn name(&self) -> &'static str {
        "mmi_linearizable"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        let at = observation.at;
        self.began_at.get_or_insert(at);
        self.troubles.on_event(observation);
        match observation.event {
            Event::ReadySent { id, service, node } => self.on_ready(at, id, service, node)?,
            Event::Acknowledged { id } => self.on_acknowledged(at, id),
            Event::WorkerParted { id, .. } => self.on_parted(at, id),
            Event::LookupSent { id, service, .. } => {
                let called_at = self.nanoseconds(at);
                if let Some(asked) = self.services.get_mut(service) {
                    let operation = asked.history.call(Call::Lookup, called_at);
                    self.questions.insert(id, (service, operation));
                }
            }
            Event::LookupAnswered { id, answer } => self.on_answer(at, id, answer),
            Event::LookupForgotten { id } => self.on_answer(at, id, Answer::Unavailable),
            Event::NodeCrashed { .. } | Event::NodeStopped { .. } | Event::NodeDrained { .. } => {
                self.unseen_since = self.unseen_since.or(self.looked_at);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.began_at.get_or_insert(view.now);
        let newest = view
            .nodes
            .iter()
            .filter_map(|node| Some((node.applied_index, node.catalog?)))
            .max_by_key(|(index, _)| *index);
        if let Some((index, catalog)) = newest
            && index > self.newest
        {
            self.compare(view, catalog)?;
            self.newest = index;
            self.unseen_since = None;
        }
        self.looked_at = Some(view.now);
        self.settle(view.now);
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)?;
        self.leave_open();
        self.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        invariants::made_up::{Nodes, at, catalog, registration, start, workload},
        observation::Parting,
    };

    /// A worker registers at 0.1 s, is acknowledged at 0.2 s and leaves at 2 s; the catalog shows it
    /// from 0.15 s to 2.2 s. One question at each of these times.
    fn run(questions: &[(u64, Answer)]) -> Result<(), String> {
        let (workload, start) = (workload(), start());
        let mut rule = MmiLinearizable::new(&workload);
        let id = registration(4);
        let mut events = vec![
            at(start, 0, Event::Healed),
            at(start, 100, Event::ReadySent { id, service: 0, node: 0 }),
            at(start, 200, Event::Acknowledged { id }),
            at(start, 2_000, Event::WorkerParted { id, parting: Parting::Left, was_healthy: true }),
        ];
        for (number, (when, answer)) in (0..).zip(questions) {
            let id = QuestionId { asker: 9, number };
            events.push(at(start, *when, Event::LookupSent { id, service: 0, node: 1 }));
            events.push(at(start, when + 5, Event::LookupAnswered { id, answer: *answer }));
        }
        events.sort_by_key(|event| event.at);
        let offered = Nodes::new(&catalog(&[(0, &workload.services[0].name)]), 5);
        let (before, mut after) = (Nodes::new(&catalog(&[]), 4), Nodes::new(&catalog(&[]), 6));
        after.applied = vec![6; 3];
        let mut looked_at = 0;
        for event in events {
            while start + Duration::from_millis(looked_at) <= event.at {
                let nodes = match looked_at {
                    0..150 => &before,
                    150..2_200 => &offered,
                    _ => &after,
                };
                rule.on_look(&nodes.view(start + Duration::from_millis(looked_at)))?;
                looked_at += 50;
            }
            rule.on_event(&event)?;
        }
        rule.at_end(&after.view(start + Duration::from_secs(5)))?;
        rule.at_end(&after.view(start + Duration::from_secs(6)))
    }

    #[test]
    fn right_answers_are_explained() {
        let right = [
            (50, Answer::NotFound),
            (190, Answer::Found),
            (400, Answer::Found),
            (2_050, Answer::Found),
            (2_150, Answer::NotFound),
            (3_000, Answer::NotFound),
        ];
        assert_eq!(run(&right), Ok(()));
        assert_eq!(run(&[(50, Answer::Unavailable), (400, Answer::Unavailable)]), Ok(()));
    }

    #[test]
    fn stale_answers_are_a_violation() {
        for wrong in [(50, Answer::Found), (400, Answer::NotFound), (3_000, Answer::Found)] {
            assert!(run(&[wrong]).is_err(), "{wrong:?}");
        }
        let back = [(2_050, Answer::NotFound), (2_100, Answer::Found)];
        assert!(run(&back).is_err());
    }

    #[test]
    fn offer_on_its_way_counts_while_the_catalog_shows_it() {
        let (workload, start) = (workload(), start());
        let mut rule = MmiLinearizable::new(&workload);
        let looks = [(0, 4, false), (50, 5, true), (100, 6, false)];
        let ask = |rule: &mut MmiLinearizable, number, when, answer| {
            let id = QuestionId { asker: 9, number };
            rule.on_event(&at(start, when, Event::LookupSent { id, service: 0, node: 1 })).unwrap();
            rule.on_event(&at(start, when + 1, Event::LookupAnswered { id, answer })).unwrap();
        };
        for (number, (when, applied, is_offered)) in (0..).zip(looks) {
            let name = workload.services[0].name.as_str();
            let offers = if is_offered { vec![(0, name)] } else { Vec::new() };
            let nodes = Nodes::new(&catalog(&offers), applied);
            rule.on_look(&nodes.view(start + Duration::from_millis(when))).unwrap();
            let answer = if is_offered { Answer::Found } else { Answer::NotFound };
            ask(&mut rule, number, when + 10, answer);
        }
        let end = Nodes::new(&catalog(&[]), 6);
        assert_eq!(rule.at_end(&end.view(start + Duration::from_secs(1))), Ok(()));
        ask(&mut rule, 9, 500, Answer::Found);
        assert!(rule.at_end(&end.view(start + Duration::from_secs(1))).is_err());
    }
}
