//! Links between nodes hold no more than they may, each of them has a connection, and nodes understand
//! each other.

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

/// How many bytes wait for one origin at most. The product allows more, for longer messages than those of a
/// simulation.
const LINK_BYTES_MAX: usize = 16 << 20;
/// How many bytes a message of this simulation has at most, with what is beside its body.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct RelayLinks;

impl Invariant for RelayLinks {
    fn name(&self) -> &'static str {
        "relay_links"
    }

    fn on_event(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        let links_max = view.nodes.len().saturating_sub(1);
        for node in &view.nodes {
            let Some(relay) = &node.relay else { continue };
            let totals = &relay.totals;
            if totals.waiting_bytes > links_max * (LINK_BYTES_MAX + MESSAGE_BYTES_MAX) {
                return Err(format!("{} lets too much wait: {totals:?}", node.name));
            }
            if relay.links > relay.connections {
                return Err(format!("{} has links without a connection: {relay:?}", node.name));
            }
            if totals.malformed > 0 {
                return Err(format!("{} does not understand another node: {totals:?}", node.name));
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
    use super::*;
    use crate::invariants::made_up::{Nodes, catalog, start};

    #[test]
    fn more_than_may_wait_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 9);
        nodes.relay[1].totals.waiting_bytes = 2 * LINK_BYTES_MAX;
        assert!(RelayLinks.on_look(&nodes.view(start())).is_ok());
        nodes.relay[1].totals.waiting_bytes = 3 * LINK_BYTES_MAX;
        assert!(RelayLinks.on_look(&nodes.view(start())).is_err());
    }

    #[test]
    fn link_that_has_lost_its_connection_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 9);
        (nodes.relay[0].links, nodes.relay[0].connections) = (4, 4);
        assert!(RelayLinks.on_look(&nodes.view(start())).is_ok());
        nodes.relay[0].connections = 3;
        assert!(RelayLinks.on_look(&nodes.view(start())).is_err());
    }

    #[test]
    fn message_of_a_node_that_is_none_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 9);
        assert!(RelayLinks.on_look(&nodes.view(start())).is_ok());
        nodes.relay[2].totals.malformed = 1;
        assert!(RelayLinks.on_look(&nodes.view(start())).is_err());
    }
}
