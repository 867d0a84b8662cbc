//! Remembers who registered where, as the workers see it.

use std::{collections::BTreeMap, time::Instant};

use crate::observation::{Event, Observation, Parting, RegistrationId};

/// One READY and what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) service: usize,
    pub(super) node: usize,
    pub(super) ready_at: Instant,
    pub(super) acknowledged_at: Option<Instant>,
    pub(super) parted: Option<(Instant, Parting)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<RegistrationId, Registration>);

impl Registrations {
    /// Takes notice.
    pub(super) fn on_event(&mut self, observation: &Observation) {
        let at = observation.at;
        match observation.event {
            Event::ReadySent { id, service, node } => {
                let (acknowledged_at, parted) = (None, None);
                let registration =
                    Registration { service, node, ready_at: at, acknowledged_at, parted };
                self.0.insert(id, registration);
            }
            Event::Acknowledged { id } => {
                if let Some(registration) = self.0.get_mut(&id) {
                    registration.acknowledged_at = Some(at);
                }
            }
            Event::WorkerParted { id, parting, .. } => {
                if let Some(registration) = self.0.get_mut(&id) {
                    registration.parted = Some((at, parting));
                }
            }
            _ => {}
        }
    }

    pub(super) fn get(&self, id: RegistrationId) -> Option<&Registration> {
        self.0.get(&id)
    }

    /// Those that are not over.
    pub(super) fn live(&self) -> impl Iterator<Item = (RegistrationId, &Registration)> {
        self.all().filter(|(_, registration)| registration.parted.is_none())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (RegistrationId, &Registration)> {
        self.0.iter().map(|(id, registration)| (*id, registration))
    }

    /// Whether a worker of this service is or may be registered at this node.
    pub(super) fn has_live(&self, service: usize, node: usize) -> bool {
        self.live().any(|(_, one)| one.service == service && one.node == node)
    }

    /// Forgets what is over.
    pub(super) fn forget_parted_before(&mut self, at: Instant) {
        self.0.retain(|_, one| one.parted.is_none_or(|(parted_at, _)| parted_at >= at));
    }
}
