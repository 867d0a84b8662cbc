//! Which services messages were dropped for: a few names for each reason, for the log.

use std::collections::BTreeMap;

use mdp_wire::ServiceName;

use crate::DropReason;

/// How many services are named for one reason until the names are taken.
pub const DROPPED_SERVICES_MAX: usize = 3;

/// The first services of a burst for each reason; the others only count.
#[derive(Debug, Default)]
pub(crate) struct DroppedServices(BTreeMap<DropReason, Vec<ServiceName>>);

impl DroppedServices {
    pub(crate) fn note(&mut self, reason: DropReason, service: &ServiceName) {
        let names = self.0.entry(reason).or_default();
        if names.len() < DROPPED_SERVICES_MAX && !names.contains(service) {
            names.push(service.clone());
        }
    }

    /// The names since the last call.
    pub(crate) fn take(&mut self) -> BTreeMap<DropReason, Vec<ServiceName>> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_services_are_named_once_for_each_reason() {
        let mut dropped = DroppedServices::default();
        let name = |text: &str| ServiceName::try_from(text.as_bytes()).unwrap();
        for service in ["a", "b", "a", "c", "d", "e"] {
            dropped.note(DropReason::Expired, &name(service));
        }
        dropped.note(DropReason::Shed, &name("e"));

        let taken = dropped.take();
        assert_eq!(taken[&DropReason::Expired], ["a", "b", "c"].map(name));
        assert_eq!(taken[&DropReason::Shed], [name("e")]);
        assert_eq!(dropped.take(), BTreeMap::new());
    }
}
