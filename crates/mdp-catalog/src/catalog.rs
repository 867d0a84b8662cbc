//! The catalog itself: nodes, offers, and the pure function that changes them.

use std::collections::{BTreeMap, BTreeSet};

use mdp_wire::ServiceName;

use crate::{CatalogChange, CatalogEntry, Epoch, Incarnation, NodeName, Refusal, Seq};

/// Whether a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It serves.
    Up,
    /// It leaves on purpose and offers nothing new.
    Draining,
    /// Its last life ended.
    Gone,
}

/// What the catalog knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its current life.
    pub epoch: Epoch,
    /// The last applied `seq` of that life.
    pub seq: Seq,
    /// Whether it takes part.
    pub state: NodeState,
    /// Where clients and workers reach it.
    pub client_endpoint: String,
}

/// Which node offers which service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    nodes: BTreeMap<NodeName, NodeRecord>,
    offers: BTreeMap<ServiceName, BTreeSet<NodeName>>,
}

impl Catalog {
    /// A catalog without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one entry at its log index. Deterministic: same catalog, same entry, same result.
    ///
    /// # Errors
    /// Why the entry changed nothing; the catalog is as before.
    pub fn apply(&mut self, index: u64, entry: CatalogEntry) -> Result<CatalogChange, Refusal> {
        match entry {
            CatalogEntry::NodeUp { node, expected_epoch, client_endpoint } => {
                self.apply_node_up(index, node, expected_epoch, client_endpoint)
            }
            CatalogEntry::Offer { incarnation, seq, services } => {
                self.apply_offer(incarnation, seq, services)
            }
            CatalogEntry::Withdraw { incarnation, seq, services } => {
                self.apply_withdraw(incarnation, seq, services)
            }
            CatalogEntry::NodeDraining { incarnation, seq } => {
                self.advance(&incarnation, seq)?.state = NodeState::Draining;
                Ok(CatalogChange::NodeDraining { incarnation })
            }
            CatalogEntry::NodeGone { incarnation } => {
                self.current(&incarnation)?.state = NodeState::Gone;
                self.void_offers(&incarnation.node);
                Ok(CatalogChange::NodeGone { incarnation })
            }
        }
    }

    fn apply_node_up(
        &mut self,
        index: u64,
        node: NodeName,
        expected_epoch: Epoch,
        client_endpoint: String,
    ) -> Result<CatalogChange, Refusal> {
        let actual = self.nodes.get(&node).map_or(Epoch(0), |record| record.epoch);
        if actual != expected_epoch {
            return Err(Refusal::UnexpectedEpoch { actual });
        }
        self.void_offers(&node);
        let epoch = Epoch(index);
        let record = NodeRecord { epoch, seq: Seq(0), state: NodeState::Up, client_endpoint };
        self.nodes.insert(node.clone(), record);
        Ok(CatalogChange::NodeUp { incarnation: Incarnation { node, epoch } })
    }

    fn apply_offer(
        &mut self,
        incarnation: Incarnation,
        seq: Seq,
        services: Vec<ServiceName>,
    ) -> Result<CatalogChange, Refusal> {
        if self.current(&incarnation)?.state == NodeState::Draining {
            return Err(Refusal::Draining);
        }
        self.advance(&incarnation, seq)?;
        for service in &services {
            self.offers.entry(service.clone()).or_default().insert(incarnation.node.clone());
        }
        Ok(CatalogChange::Offered { incarnation, seq, services })
    }

    fn apply_withdraw(
        &mut self,
        incarnation: Incarnation,
        seq: Seq,
        services: Vec<ServiceName>,
    ) -> Result<CatalogChange, Refusal> {
        self.advance(&incarnation, seq)?;
        for service in &services {
            if let Some(nodes) = self.offers.get_mut(service.as_bytes()) {
                nodes.remove(&incarnation.node);
                if nodes.is_empty() {
                    self.offers.remove(service.as_bytes());
                }
            }
        }
        Ok(CatalogChange::Withdrawn { incarnation, seq, services })
    }

    /// The node's record if this is its current life.
    fn current(&mut self, incarnation: &Incarnation) -> Result<&mut NodeRecord, Refusal> {
        match self.nodes.get_mut(&incarnation.node) {
            Some(record)
                if record.epoch == incarnation.epoch && record.state != NodeState::Gone =>
            {
                Ok(record)
            }
            Some(_) | None => Err(Refusal::VoidIncarnation),
        }
    }

    /// The node's record if this is its current life, with its `seq` raised.
    fn advance(&mut self, incarnation: &Incarnation, seq: Seq) -> Result<&mut NodeRecord, Refusal> {
        let record = self.current(incarnation)?;
        if seq <= record.seq {
            return Err(Refusal::StaleSeq);
        }
        record.seq = seq;
        Ok(record)
    }

    fn void_offers(&mut self, node: &NodeName) {
        self.offers.retain(|_, nodes| {
            nodes.remove(node);
            !nodes.is_empty()
        });
    }

    /// Whether any node offers the service.
    #[must_use]
    pub fn is_offered(&self, service: &[u8]) -> bool {
        self.offers.contains_key(service)
    }

    /// Whether this very life of a node offers the service.
    #[must_use]
    pub fn is_offered_by(&self, incarnation: &Incarnation, service: &[u8]) -> bool {
        let lives = self.nodes.get(&incarnation.node).is_some_and(|record| {
            record.epoch == incarnation.epoch && record.state != NodeState::Gone
        });
        lives && self.offers.get(service).is_some_and(|nodes| nodes.contains(&incarnation.node))
    }

    /// Every offered service with the nodes that offer it, by name.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &BTreeSet<NodeName>)> {
        self.offers.iter()
    }

    /// Every known node, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &NodeRecord)> {
        self.nodes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        ServiceName::try_from(name).unwrap()
    }

    fn up(catalog: &mut Catalog, index: u64, name: &str, expected: u64) -> Incarnation {
        let node: NodeName = name.parse().unwrap();
        let entry = CatalogEntry::NodeUp {
            node: node.clone(),
            expected_epoch: Epoch(expected),
            client_endpoint: "tcp://127.0.0.1:5555".to_owned(),
        };
        catalog.apply(index, entry).unwrap();
        Incarnation { node, epoch: Epoch(index) }
    }

    fn offer(incarnation: &Incarnation, seq: u64, name: &str) -> CatalogEntry {
        let services = vec![service(name)];
        CatalogEntry::Offer { incarnation: incarnation.clone(), seq: Seq(seq), services }
    }

    fn withdraw(incarnation: &Incarnation, seq: u64, name: &str) -> CatalogEntry {
        let services = vec![service(name)];
        CatalogEntry::Withdraw { incarnation: incarnation.clone(), seq: Seq(seq), services }
    }

    #[test]
    fn service_is_offered_until_the_last_node_withdraws() {
        let mut catalog = Catalog::new();
        let (a, b) = (up(&mut catalog, 1, "a", 0), up(&mut catalog, 2, "b", 0));
        catalog.apply(3, offer(&a, 1, "echo")).unwrap();
        catalog.apply(4, offer(&b, 1, "echo")).unwrap();

        catalog.apply(5, withdraw(&a, 2, "echo")).unwrap();
        assert!(catalog.is_offered(b"echo") && !catalog.is_offered_by(&a, b"echo"));

        catalog.apply(6, withdraw(&b, 2, "echo")).unwrap();
        assert!(!catalog.is_offered(b"echo"));
    }

    #[test]
    fn older_entry_changes_nothing() {
        let mut catalog = Catalog::new();
        let a = up(&mut catalog, 1, "a", 0);
        catalog.apply(2, offer(&a, 5, "echo")).unwrap();

        assert_eq!(catalog.apply(3, withdraw(&a, 5, "echo")), Err(Refusal::StaleSeq));
        assert_eq!(catalog.apply(4, withdraw(&a, 4, "echo")), Err(Refusal::StaleSeq));

        assert!(catalog.is_offered(b"echo"));
    }

    #[test]
    fn new_life_voids_the_offers_and_words_of_the_old() {
        let mut catalog = Catalog::new();
        let old = up(&mut catalog, 1, "a", 0);
        catalog.apply(2, offer(&old, 1, "echo")).unwrap();

        let new = up(&mut catalog, 3, "a", 1);

        assert!(!catalog.is_offered(b"echo"));
        assert_eq!(catalog.apply(4, offer(&old, 9, "echo")), Err(Refusal::VoidIncarnation));
        assert!(catalog.apply(5, offer(&new, 1, "echo")).is_ok());
    }

    #[test]
    fn node_up_is_compare_and_set() {
        let mut catalog = Catalog::new();
        let a = up(&mut catalog, 7, "a", 0);
        let again = CatalogEntry::NodeUp {
            node: a.node,
            expected_epoch: Epoch(0),
            client_endpoint: String::new(),
        };

        assert_eq!(catalog.apply(8, again), Err(Refusal::UnexpectedEpoch { actual: Epoch(7) }));
    }

    #[test]
    fn draining_node_keeps_its_offers_and_makes_no_new_one() {
        let mut catalog = Catalog::new();
        let a = up(&mut catalog, 1, "a", 0);
        catalog.apply(2, offer(&a, 1, "echo")).unwrap();
        catalog
            .apply(3, CatalogEntry::NodeDraining { incarnation: a.clone(), seq: Seq(2) })
            .unwrap();

        assert_eq!(catalog.apply(4, offer(&a, 3, "other")), Err(Refusal::Draining));
        assert!(catalog.is_offered(b"echo"));

        catalog.apply(5, CatalogEntry::NodeGone { incarnation: a.clone() }).unwrap();
        assert!(!catalog.is_offered(b"echo"));
        assert_eq!(
            catalog.apply(6, CatalogEntry::NodeGone { incarnation: a }),
            Err(Refusal::VoidIncarnation)
        );
    }
}
