//! Wanted against applied: what this node tells the cluster about its services.
//!
//! Level-triggered: one proposal is in flight, and it carries every service whose wanted state
//! differs from the applied one. A storm of READYs is a handful of entries.

use std::time::Duration;

use mdp_catalog::{CatalogChange, CatalogEntry, Incarnation, Seq};
use mdp_mutants::{Mutant, is_on};
use mdp_wire::{Frame, ServiceName};

use super::{Broker, Dirty};
use crate::{
    Effect,
    service::{OfferState, ServiceId},
    time::Moment,
    timers::TimerKey,
};

/// How many services one proposal names.
const SERVICES_PER_PROPOSAL_MAX: usize = 1_024;

/// When a proposal's outcome counts as unknown, and the wanted state is proposed anew.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A proposal whose outcome is not known yet.
#[derive(Debug)]
struct InFlight {
    seq: Seq,
    services: Vec<ServiceId>,
    deadline: Moment,
}

/// What has to be told to the cluster.
#[derive(Debug, Default)]
pub(super) struct Offers {
    last_seq: Seq,
    /// Whether the last proposal offered, and did not withdraw.
    was_offer: bool,
    in_flight: Option<InFlight>,
    dirty: Dirty,
    /// The catalog knows that this incarnation leaves.
    is_leaving_known: bool,
}

impl Offers {
    /// The `seq` of the next proposal.
    pub(super) fn next_seq(&self) -> Seq {
        self.last_seq.next()
    }

    pub(super) fn forget(&mut self, id: ServiceId) {
        self.dirty.remove(&id);
    }
}

impl<F: Frame> Broker<F> {
    /// After any change of a service's workers, or of what is known of its offer.
    pub(super) fn on_worker_count_changed(&mut self, id: ServiceId) {
        let Some(service) = self.services.find(id) else { return };
        if service.registered_count() == 0 {
            self.return_waiting(id);
            self.drop_if_hopeless(id);
        }
        self.on_capacity_changed(id);
        let Some(service) = self.services.find(id) else { return };
        if service.needs_proposal() && !service.is_in_flight {
            self.offers.dirty.insert(id);
        } else {
            self.offers.dirty.remove(&id);
        }
        self.release_if_unused(id);
    }

    /// Proposes what is wanted, if it differs and nothing is in flight.
    pub(super) fn propose_if_needed(&mut self) {
        if self.offers.in_flight.is_some() {
            return;
        }
        if self.drain.is_some() && !self.offers.is_leaving_known {
            let (incarnation, seq) = self.begin_proposal(Vec::new());
            let entry = CatalogEntry::NodeDraining { incarnation, seq };
            return self.effects.push_back(Effect::Propose(entry));
        }
        if !self.offers.dirty.is_empty() {
            self.propose_offers();
        }
    }

    fn propose_offers(&mut self) {
        let has_workers =
            |id: ServiceId| self.services.find(id).is_some_and(|service| service.worker_count > 0);
        let wants = |offer| self.offers.dirty.iter().any(|id| has_workers(*id) == offer);
        // What a draining node offers is refused. Otherwise they take turns, so that none waits for
        // ever while the other kind keeps coming.
        let is_offer =
            self.drain.is_none() && wants(true) && !(self.offers.was_offer && wants(false));
        let dirty = self.offers.dirty.iter().copied();
        let batch: Vec<ServiceId> = dirty
            .filter(|id| has_workers(*id) == is_offer)
            .take(SERVICES_PER_PROPOSAL_MAX)
            .collect();
        if batch.is_empty() {
            return;
        }
        let mut names: Vec<ServiceName> = Vec::with_capacity(batch.len());
        for id in &batch {
            self.offers.dirty.remove(id);
            if let Some(service) = self.services.find_mut(*id) {
                service.is_in_flight = true;
                names.push(service.name.clone());
            }
        }
        self.offers.was_offer = is_offer;
        let (incarnation, seq) = self.begin_proposal(batch);
        let entry = if is_offer {
            CatalogEntry::Offer { incarnation, seq, services: names }
        } else {
            CatalogEntry::Withdraw { incarnation, seq, services: names }
        };
        self.effects.push_back(Effect::Propose(entry));
    }

    /// From here on, a proposal about these services is in flight.
    fn begin_proposal(&mut self, services: Vec<ServiceId>) -> (Incarnation, Seq) {
        let seq = self.offers.next_seq();
        let deadline = self.now().after(PROPOSAL_TIMEOUT);
        self.timers.insert(deadline, TimerKey::Proposal);
        self.offers.last_seq = seq;
        self.offers.in_flight = Some(InFlight { seq, services, deadline });
        (self.incarnation.clone(), seq)
    }

    pub(super) fn on_committed(&mut self, change: CatalogChange) {
        match change {
            CatalogChange::Offered { incarnation, seq, .. } if incarnation == self.incarnation => {
                self.on_proposal_applied(seq, OfferState::Offered);
            }
            CatalogChange::Withdrawn { incarnation, seq, .. }
                if incarnation == self.incarnation =>
            {
                self.on_proposal_applied(seq, OfferState::Absent);
            }
            CatalogChange::NodeUp { incarnation } if incarnation.node == self.incarnation.node => {
                self.on_new_incarnation(incarnation);
            }
            CatalogChange::NodeDraining { incarnation } if incarnation == self.incarnation => {
                self.on_leaving_known();
            }
            CatalogChange::NodeGone { incarnation }
            | CatalogChange::Retired { ended: Some(incarnation), .. }
                if incarnation == self.incarnation =>
            {
                self.on_offers_void();
            }
            // Other nodes; the shell's catalog holds what they offer.
            CatalogChange::Offered { .. }
            | CatalogChange::Withdrawn { .. }
            | CatalogChange::NodeUp { .. }
            | CatalogChange::NodeDraining { .. }
            | CatalogChange::NodeGone { .. }
            | CatalogChange::ClusterVersion { .. }
            | CatalogChange::Held { .. }
            | CatalogChange::Marked
            | CatalogChange::Retired { .. } => {}
        }
    }

    fn on_leaving_known(&mut self) {
        self.offers.is_leaving_known = true;
        // The only proposal that speaks of no service.
        let in_flight = self.offers.in_flight.take_if(|in_flight| in_flight.services.is_empty());
        if let Some(in_flight) = in_flight {
            self.timers.remove(in_flight.deadline, TimerKey::Proposal);
        }
    }

    /// A proposal older than the one in flight proves nothing: its outcome was given up.
    fn on_proposal_applied(&mut self, seq: Seq, state: OfferState) {
        let Some(in_flight) = self.offers.in_flight.take_if(|in_flight| in_flight.seq == seq)
        else {
            return;
        };
        self.timers.remove(in_flight.deadline, TimerKey::Proposal);
        for id in in_flight.services {
            if let Some(service) = self.services.find_mut(id) {
                service.is_in_flight = false;
                service.offer = state;
            }
            self.on_worker_count_changed(id);
            if state == OfferState::Offered {
                self.acknowledge_if(id, |by_seq, _| by_seq <= seq);
            }
            self.ask_for_proof(id);
        }
    }

    /// The outcome is unknown, not negative: the wanted state is proposed anew.
    pub(super) fn on_proposal_timer(&mut self) {
        let Some(in_flight) = self.offers.in_flight.take() else { return };
        for id in in_flight.services {
            if let Some(service) = self.services.find_mut(id) {
                service.is_in_flight = false;
                service.offer = if !is_on(Mutant::UnknownOutcomeTrusted) {
                    OfferState::Unknown
                } else if service.worker_count > 0 {
                    OfferState::Offered
                } else {
                    OfferState::Absent
                };
            }
            self.on_worker_count_changed(id);
        }
    }

    /// This node begins a new life: everything is offered anew, and its workers notice nothing.
    fn on_new_incarnation(&mut self, incarnation: Incarnation) {
        if incarnation.epoch <= self.incarnation.epoch {
            return;
        }
        self.incarnation = incarnation;
        self.offers.last_seq = Seq(0);
        self.offers.is_leaving_known = false;
        self.on_offers_void();
    }

    fn on_offers_void(&mut self) {
        if is_on(Mutant::VoidOffersForgotten) {
            return;
        }
        if let Some(in_flight) = self.offers.in_flight.take() {
            self.timers.remove(in_flight.deadline, TimerKey::Proposal);
        }
        for id in self.services.ids() {
            if let Some(service) = self.services.find_mut(id) {
                service.is_in_flight = false;
                service.offer = OfferState::Absent;
            }
            self.on_worker_count_changed(id);
        }
    }
}
