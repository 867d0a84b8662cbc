//! Copies of the catalog that were applied up to the same index are the same.

use std::collections::BTreeMap;

use mdp_catalog::Catalog;

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

/// How many indices are remembered; of more, the lowest are forgotten.
const REMEMBERED_MAX: usize = 512;

#[derive(Debug, Default)]
pub(super) struct CatalogsEqual {
    by_index: BTreeMap<u64, (String, Catalog)>,
    /// What was compared last, by node.
    compared: BTreeMap<String, u64>,
}

impl Invariant for CatalogsEqual {
    fn name(&self) -> &'static str {
        "catalogs_equal"
    }

    fn on_event(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for node in &view.nodes {
            let (index, Some(catalog)) = (node.applied_index, node.catalog) else { continue };
            if index == 0 || self.compared.get(node.name) == Some(&index) {
                continue;
            }
            self.compared.insert(node.name.to_owned(), index);
            match self.by_index.get(&index) {
                Some((other, theirs)) if theirs != catalog => {
                    return Err(format!(
                        "at index {index} {} and {other} differ: {catalog:?} and {theirs:?}",
                        node.name
                    ));
                }
                Some(_) => {}
                None => {
                    self.by_index.insert(index, (node.name.to_owned(), catalog.clone()));
                    if self.by_index.len() > REMEMBERED_MAX {
                        self.by_index.pop_first();
                    }
                }
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.compared.clear();
        self.on_look(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, catalog, start};

    #[test]
    fn different_catalogs_at_one_index_are_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[(0, "echo.0")]), 7);
        let mut rule = CatalogsEqual::default();
        assert!(rule.on_look(&nodes.view(start())).is_ok());

        nodes.catalogs[2] = catalog(&[(1, "echo.0")]);
        nodes.applied[2] = 8;
        assert!(rule.on_look(&nodes.view(start())).is_ok());
        nodes.applied[1] = 8;
        assert!(rule.on_look(&nodes.view(start())).is_err());
    }
}
