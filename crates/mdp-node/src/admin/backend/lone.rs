//! The catalog of a node that is alone, which knows nothing but itself.

use mdp_catalog::{Catalog, CatalogEntry, Epoch, Incarnation, Refusal, Seq};

use crate::{NodeReport, NodeView, local_cluster};

/// What such a node would tell a cluster.
pub(super) fn catalog(view: &NodeView, report: &NodeReport) -> Catalog {
    // Only a name that were in use could be refused.
    try_catalog(view, report).unwrap_or_default()
}

fn try_catalog(view: &NodeView, report: &NodeReport) -> Result<Catalog, Refusal> {
    let name = view.name().clone();
    let mut catalog = local_cluster::catalog_of(name.clone(), view.advertised().to_owned())?;
    let epoch = catalog.node(&name).map_or(Epoch(0), |record| record.epoch);
    let incarnation = Incarnation { node: name, epoch };
    let offered = report.services.iter().filter(|service| service.workers > 0);
    let services = offered.map(|service| service.name.clone()).collect();
    let index = report.applied_index;
    let offer = CatalogEntry::Offer { incarnation: incarnation.clone(), seq: Seq(1), services };
    catalog.apply(index, offer)?;
    if view.is_draining() {
        catalog.apply(index, CatalogEntry::NodeDraining { incarnation, seq: Seq(2) })?;
    }
    Ok(catalog)
}
