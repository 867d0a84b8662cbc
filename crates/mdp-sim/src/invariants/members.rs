//! Who was removed never votes again; in the end exactly those are voters that are to be members, and
//! nobody knows a life of the others.

use std::collections::BTreeSet;

use mdp_catalog::{Catalog, NodeId, NodeState};

use super::Invariant;
use crate::{observation::Observation, view::ClusterView};

#[derive(Debug, Default)]
pub(super) struct Members {
    /// Nodes, and whom they took for voters at the last look although their own copies of the catalog
    /// said that those were removed. Consensus tells a moment later who votes.
    suspected: BTreeSet<(usize, u64)>,
}

/// The copy of the catalog may be behind the log, but what is removed stays removed.
fn removed_voters(voters: &[BTreeSet<u64>], catalog: &Catalog) -> impl Iterator<Item = u64> {
    voters.iter().flatten().copied().filter(|id| catalog.is_retired(NodeId(*id)))
}

/// What one member says at the end.
fn only_these(
    name: &str,
    (voters, members): (&[BTreeSet<u64>], &BTreeSet<u64>),
    (catalog, left): (&Catalog, &[&str]),
) -> Result<(), String> {
    if voters.last() != Some(members) || voters.len() != 1 {
        return Err(format!("{name} takes {voters:?} for voters, and the members are {members:?}"));
    }
    let mut living = catalog.nodes().filter(|(_, record)| record.state != NodeState::Gone);
    match living.find(|(node, _)| left.contains(&node.as_str())) {
        None => Ok(()),
        Some((node, record)) => {
            Err(format!("{name} knows a life of {node}, which was removed: {record:?}"))
        }
    }
}

impl Invariant for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn on_event(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        let before = std::mem::take(&mut self.suspected);
        for (number, node) in view.nodes.iter().enumerate().filter(|(_, node)| !node.is_paused) {
            let (Some(raft), Some(catalog)) = (&node.raft, node.catalog) else { continue };
            for id in removed_voters(&raft.voters, catalog) {
                if before.contains(&(number, id)) {
                    let id = NodeId(id);
                    return Err(format!("{} takes {id} for a voter, which was removed", node.name));
                }
                self.suspected.insert((number, id));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)?;
        let (members, left): (Vec<_>, Vec<_>) = view.nodes.iter().partition(|node| node.is_member);
        if let Some(node) = left.iter().find(|node| node.is_up) {
            return Err(format!("{} runs, and was removed", node.name));
        }
        let ids = members.iter().filter_map(|node| Some(node.raft.as_ref()?.id)).collect();
        let left: Vec<&str> = left.iter().map(|node| node.name).collect();
        for node in members {
            if let (Some(raft), Some(catalog)) = (&node.raft, node.catalog) {
                only_these(node.name, (&raft.voters, &ids), (catalog, &left))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mdp_catalog::CatalogEntry;

    use super::*;
    use crate::invariants::made_up::catalog;

    #[test]
    fn removed_voter_is_found() {
        let mut catalog = catalog(&[]);
        let voters = [BTreeSet::from([0, 1, 2]), BTreeSet::from([0, 1])];
        assert_eq!(removed_voters(&voters, &catalog).count(), 0);
        catalog.apply(9, CatalogEntry::Retire { node_id: NodeId(2) }).unwrap();
        assert_eq!(removed_voters(&voters, &catalog).collect::<Vec<_>>(), [2]);
        assert_eq!(removed_voters(&voters[1..], &catalog).count(), 0);
    }

    #[test]
    fn other_voters_than_members_are_a_violation_at_the_end() {
        let (catalog, voters) = (catalog(&[]), [BTreeSet::from([0, 1, 2])]);
        let check = |voters: &[BTreeSet<u64>], left: &[&str]| {
            only_these("node-1", (voters, &BTreeSet::from([0, 1, 2])), (&catalog, left))
        };
        assert_eq!(check(&voters, &[]), Ok(()));
        assert!(check(&[BTreeSet::from([0, 1])], &[]).is_err(), "one is no voter yet");
        assert!(check(&[], &[]).is_err(), "no member votes");
        let half_done = [BTreeSet::from([0, 1, 2, 3]), BTreeSet::from([0, 1, 2])];
        assert!(check(&half_done, &[]).is_err(), "the second step was never made");
        assert!(check(&voters, &["node-3"]).is_err(), "it lives");
        assert_eq!(check(&voters, &["node-9"]), Ok(()));
    }
}
