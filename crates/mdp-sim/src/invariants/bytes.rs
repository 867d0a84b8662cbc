//! The sums that an engine keeps fit what it holds, and end at zero.

use mdp_broker::Gauges;

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

#[derive(Debug)]
pub(super) struct Bytes;

const fn requests(gauges: &Gauges) -> usize {
    gauges.queued_requests + gauges.held_requests + gauges.forwarded_requests
}

impl Invariant for Bytes {
    fn name(&self) -> &'static str {
        "bytes"
    }

    fn on_event(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for node in &view.nodes {
            let Some(gauges) = &node.gauges else { continue };
            let has_bytes = gauges.queued_bytes > 0;
            if has_bytes != (requests(gauges) > 0) || gauges.queued_bytes < requests(gauges) {
                return Err(format!("{} counts wrongly: {gauges:?}", node.name));
            }
            if gauges.idle_workers + gauges.held_requests > gauges.workers {
                return Err(format!("{} has too few workers: {gauges:?}", node.name));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)?;
        for node in &view.nodes {
            if let Some(gauges) = node.gauges.filter(|gauges| requests(gauges) > 0) {
                return Err(format!("{} still owes replies: {gauges:?}", node.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, catalog, start};

    #[test]
    fn bytes_without_requests_are_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 9);
        assert!(Bytes.on_look(&nodes.view(start())).is_ok());
        nodes.gauges[1] = Gauges { queued_bytes: 700, ..Gauges::default() };
        assert!(Bytes.on_look(&nodes.view(start())).is_err());
    }

    #[test]
    fn what_is_owed_in_the_end_is_a_violation() {
        let mut nodes = Nodes::new(&catalog(&[]), 9);
        assert!(Bytes.at_end(&nodes.view(start())).is_ok());
        nodes.gauges[2] = Gauges { queued_bytes: 700, queued_requests: 1, ..Gauges::default() };
        assert!(Bytes.on_look(&nodes.view(start())).is_ok());
        assert!(Bytes.at_end(&nodes.view(start())).is_err());
    }
}
