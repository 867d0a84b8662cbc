//! What must always hold, each in a file of its own.

mod accounts;
mod acknowledged_registrations;
mod bounds;
mod bytes;
mod catalogs_equal;
mod executions;
mod led_when_possible;
mod liveness;
mod members;
mod mmi_linearizable;
mod no_healthy_eviction;
mod one_reply;
mod owner_only;
mod raft;
mod registrations;
mod relay_links;
mod reserved_names;
mod troubles;
mod void_epochs;
mod well_formed;

#[cfg(test)]
mod made_up;

use crate::{observation::Observation, plan::Plan, view::ClusterView};

/// Something that must always hold.
pub(crate) trait Invariant {
    /// What it is called in reports.
    fn name(&self) -> &'static str;
    /// As things happen.
    fn on_event(&mut self, event: &Observation) -> Result<(), String>;
    /// Regularly, and after faults.
    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String>;
    /// After everything has healed and come to rest.
    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String>;
}

/// All of them.
pub(crate) fn all(plan: &Plan) -> Vec<Box<dyn Invariant>> {
    let workload = &plan.workload;
    vec![
        Box::new(well_formed::WellFormed),
        Box::new(raft::Raft::default()),
        Box::new(members::Members::default()),
        Box::new(led_when_possible::LedWhenPossible::default()),
        Box::new(void_epochs::VoidEpochs::default()),
        Box::new(catalogs_equal::CatalogsEqual::default()),
        Box::new(acknowledged_registrations::AcknowledgedRegistrations::new(workload)),
        Box::new(mmi_linearizable::MmiLinearizable::new(workload, plan.consistency)),
        Box::new(one_reply::OneReply::default()),
        Box::new(owner_only::OwnerOnly::default()),
        Box::new(executions::Executions::new(workload)),
        Box::new(accounts::Accounts::new(workload)),
        Box::new(bytes::Bytes),
        Box::new(relay_links::RelayLinks),
        Box::new(no_healthy_eviction::NoHealthyEviction::new(workload, plan.lonely_max())),
        Box::new(bounds::Bounds::new(workload, plan.times.node_timeout, plan.times.drain.timeout)),
        Box::new(reserved_names::ReservedNames::default()),
        Box::new(liveness::Liveness::new(workload)),
    ]
}
