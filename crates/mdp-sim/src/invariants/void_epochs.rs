//! No catalog shows an offer of a life that is over; the lives of a node come one after the other,
//! and no process goes by a life that nobody agreed upon.

use std::collections::BTreeMap;

use mdp_catalog::{Epoch, NodeName, NodeState};

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

#[derive(Debug, Default)]
pub(super) struct VoidEpochs {
    /// The highest index at which a life was seen, and that life's number.
    lives: BTreeMap<NodeName, (u64, Epoch)>,
}

impl Invariant for VoidEpochs {
    fn name(&self) -> &'static str {
        "void_epochs"
    }

    fn on_event(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for node in &view.nodes {
            let Some(catalog) = node.catalog else { continue };
            for (service, offering) in catalog.services() {
                for other in offering {
                    let record = catalog.node(other);
                    if record.is_none_or(|record| record.state == NodeState::Gone) {
                        let record = record.map(|record| (record.epoch, record.state));
                        return Err(format!(
                            "{} shows {service} of {other}, whose life is over: {record:?}",
                            node.name
                        ));
                    }
                }
            }
            for (other, record) in catalog.nodes() {
                let known = self.lives.entry(other.clone()).or_insert((0, Epoch(0)));
                let (index, epoch) = *known;
                if node.applied_index >= index {
                    if record.epoch < epoch {
                        return Err(format!("{other} went back from {epoch:?}: {record:?}"));
                    }
                    *known = (node.applied_index, record.epoch);
                }
                if record.epoch.0 > node.applied_index {
                    return Err(format!("{other} lives a life of the future: {record:?}"));
                }
            }
            if let Some(life) = node.life
                && catalog.node(&life.node).is_some_and(|record| record.epoch < life.epoch)
            {
                return Err(format!("{} takes {life} for its life, which never began", node.name));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)
    }
}

#[cfg(test)]
mod tests {
    use mdp_catalog::{Boot, CatalogEntry, Endpoints, NodeId, NodeUp, SoftwareVersion};

    use super::*;
    use crate::invariants::made_up::{Nodes, catalog, name, start};

    #[test]
    fn life_that_goes_back_is_a_violation() {
        let old = catalog(&[(0, "echo.0")]);
        let mut new = old.clone();
        let up = NodeUp {
            node: name(0),
            node_id: NodeId(0),
            boot: Boot { process: 9, attempt: 0 },
            expected_epoch: Epoch(1),
            endpoints: Endpoints::default(),
            version: SoftwareVersion::default(),
        };
        new.apply(5, CatalogEntry::NodeUp(up)).unwrap();
        let mut rule = VoidEpochs::default();
        let mut nodes = Nodes::new(&new, 5);
        assert_eq!(rule.on_look(&nodes.view(start())), Ok(()));

        nodes.catalogs[2] = old.clone();
        nodes.applied[2] = 4;
        assert_eq!(rule.on_look(&nodes.view(start())), Ok(()), "it is only behind");
        nodes.applied[2] = 6;
        assert!(rule.on_look(&nodes.view(start())).is_err());
    }

    #[test]
    fn life_that_never_began_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 1);
        assert!(VoidEpochs::default().on_look(&nodes.view(start())).is_err());
        nodes.applied = vec![3; 3];
        assert_eq!(VoidEpochs::default().on_look(&nodes.view(start())), Ok(()));
    }
}
