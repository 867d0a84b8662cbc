//! No catalog shows an offer of a life that is over; the lives of a node come one after the other,
//! and no process goes by a life that nobody agreed upon.

use std::collections::BTreeMap;

use mdp_catalog::{Catalog, Epoch, NodeName, NodeState};

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

#[derive(Debug, Default)]
pub(super) struct VoidEpochs {
    /// The highest index at which a life was seen, and that life's number.
    lives: BTreeMap<NodeName, (u64, Epoch)>,
}

fn no_offer_of_the_dead(whose: &str, catalog: &Catalog) -> Result<(), String> {
    for (service, offering) in catalog.services() {
        for node in offering {
            let state = catalog.node(node).map(|record| record.state);
            if state.is_none_or(|state| state == NodeState::Gone) {
                return Err(format!("{whose} shows {service} of {node}, whose life is over"));
            }
        }
    }
    Ok(())
}

impl VoidEpochs {
    /// No node's epoch ever goes back, and none is of the future.
    fn follow_lives(&mut self, applied: u64, catalog: &Catalog) -> Result<(), String> {
        for (node, record) in catalog.nodes() {
            let known = self.lives.entry(node.clone()).or_insert((0, Epoch(0)));
            if applied >= known.0 {
                if record.epoch < known.1 {
                    return Err(format!("{node} went back from {:?}: {record:?}", known.1));
                }
                *known = (applied, record.epoch);
            }
            if record.epoch.0 > applied {
                return Err(format!("{node} lives a life of the future: {record:?}"));
            }
        }
        Ok(())
    }
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
            no_offer_of_the_dead(node.name, catalog)?;
            self.follow_lives(node.applied_index, catalog)?;
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

        nodes.catalogs[2] = old;
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
