//! The pages about services.

use mdp_broker::ServiceStatus;
use mdp_catalog::{Catalog, NodeName};
use mdp_wire::ServiceName;
use serde_json::{Value, json};

use super::truncated;

/// How many services one page of the directory names: writing it must not hold up the broker.
pub const DIRECTORY_SERVICES_MAX: usize = 10_000;

/// Who offers what, cut where it gets too long: taken from a catalog that others wait for.
#[derive(Debug, Default)]
pub struct Directory {
    services: Vec<(ServiceName, Vec<NodeName>)>,
    is_truncated: bool,
}

impl Directory {
    /// What is offered.
    pub fn of(catalog: &Catalog) -> Self {
        Self::visible(catalog, |_| true)
    }

    /// What is offered of what an asker may see.
    pub(crate) fn visible(catalog: &Catalog, may_see: impl Fn(&ServiceName) -> bool) -> Self {
        let mut services = catalog.services().filter(|(name, _)| may_see(name));
        let shown = services.by_ref().take(DIRECTORY_SERVICES_MAX);
        Self {
            services: shown
                .map(|(name, nodes)| (name.clone(), nodes.iter().cloned().collect()))
                .collect(),
            is_truncated: services.next().is_some(),
        }
    }

    /// What is offered, and for what else requests wait at this node: a service without any worker
    /// is what an operator looks for. `here` is what this node has, by name.
    pub fn with_waiting(catalog: &Catalog, here: &[ServiceStatus]) -> Self {
        let mut directory = Self::of(catalog);
        let is_listed = |name: &ServiceName| {
            directory.services.binary_search_by(|(listed, _)| listed.cmp(name)).is_ok()
        };
        let waiting = here.iter().filter(|status| status.queued > 0 && !is_listed(&status.name));
        // Those that the cut above has left out have nodes.
        let nodes = |name: &ServiceName| catalog.offering(name.as_bytes()).cloned().collect();
        let mut others: Vec<(ServiceName, Vec<NodeName>)> = waiting
            .take(DIRECTORY_SERVICES_MAX)
            .map(|status| (status.name.clone(), nodes(&status.name)))
            .collect();
        directory.services.append(&mut others);
        directory.services.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        directory
    }

    /// The page; `here` is what this node has, by name.
    pub fn page(&self, here: &[ServiceStatus]) -> Value {
        let find = |name: &ServiceName| {
            here.binary_search_by(|status| status.name.cmp(name)).ok().and_then(|at| here.get(at))
        };
        let services = self.services.iter().map(|(name, nodes)| {
            let status = find(name);
            json!({
                "name": name.to_string(),
                "nodes": nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(),
                "workers": status.map_or(0, |status| status.workers),
                "idle": status.map_or(0, |status| status.idle),
                "queued": status.map_or(0, |status| status.queued),
            })
        });
        truncated("services", services.collect(), self.is_truncated)
    }
}
