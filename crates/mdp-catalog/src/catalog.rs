//! The catalog itself: nodes, offers, and the pure function that changes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mdp_mutants::{Mutant, is_on};
use mdp_wire::ServiceName;

use crate::{
    Boot, CatalogChange, CatalogEntry, Endpoints, Epoch, Incarnation, MARK_SINCE, NodeId, NodeName,
    NodeUp, Refusal, Seq, SoftwareVersion,
};

/// How many removed members are remembered; of more, the oldest are forgotten.
pub const RETIRED_MEMBERS_MAX: usize = 4_096;

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
    /// Its identity as a member.
    pub node_id: NodeId,
    /// Its current life.
    pub epoch: Epoch,
    /// The process and attempt that began that life.
    pub boot: Boot,
    /// The last applied `seq` of that life.
    pub seq: Seq,
    /// Whether it takes part.
    pub state: NodeState,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// Its version.
    pub version: SoftwareVersion,
}

/// Which node offers which service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    pub(crate) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(crate) offers: BTreeMap<ServiceName, BTreeSet<NodeName>>,
    pub(crate) cluster_version: SoftwareVersion,
    /// The oldest version of all lives, as long as the cluster has none.
    pub(crate) oldest_founder: Option<SoftwareVersion>,
    pub(crate) retired: VecDeque<NodeId>,
    pub(crate) held_at: Option<SoftwareVersion>,
    pub(crate) mark: u64,
}

impl Catalog {
    /// A catalog without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with the first services only, by name.
    #[must_use]
    pub fn first_services(&self, services_max: usize) -> Self {
        let first = self.offers.iter().take(services_max);
        Self {
            nodes: self.nodes.clone(),
            offers: first.map(|(service, nodes)| (service.clone(), nodes.clone())).collect(),
            cluster_version: self.cluster_version,
            oldest_founder: self.oldest_founder,
            retired: self.retired.clone(),
            held_at: self.held_at,
            mark: self.mark,
        }
    }

    /// Applies one entry at its log index. Deterministic: same catalog, same entry, same result.
    ///
    /// # Errors
    /// Why the entry changed nothing; the catalog is as before.
    pub fn apply(&mut self, index: u64, entry: CatalogEntry) -> Result<CatalogChange, Refusal> {
        match entry {
            CatalogEntry::NodeUp(up) => self.apply_node_up(index, up),
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
                if !is_on(Mutant::NodeGoneKeepsOffers) {
                    self.void_offers(&incarnation.node);
                }
                Ok(CatalogChange::NodeGone { incarnation })
            }
            CatalogEntry::SetClusterVersion { version } => self.apply_cluster_version(version),
            CatalogEntry::Retire { node_id } => self.apply_retire(node_id),
            CatalogEntry::Hold { at } => {
                self.held_at = at;
                Ok(CatalogChange::Held { at })
            }
            CatalogEntry::Mark { number } if self.cluster_version >= MARK_SINCE => {
                self.mark = number;
                Ok(CatalogChange::Marked)
            }
            CatalogEntry::Mark { .. } => Err(Refusal::NotInThisVersion),
        }
    }

    fn apply_node_up(&mut self, index: u64, up: NodeUp) -> Result<CatalogChange, Refusal> {
        if self.is_retired(up.node_id) {
            return Err(Refusal::RetiredMember);
        }
        up.version.fits(self.cluster_version)?;
        let actual = self.nodes.get(&up.node).map_or(Epoch(0), |record| record.epoch);
        if let Some(record) = self.nodes.get(&up.node)
            && record.boot == up.boot
        {
            return Err(Refusal::AlreadyUp { epoch: record.epoch });
        }
        if actual != up.expected_epoch {
            return Err(Refusal::UnexpectedEpoch { actual });
        }
        if !is_on(Mutant::NodeUpKeepsOffers) {
            self.void_offers(&up.node);
        }
        let keeps_epoch = is_on(Mutant::EpochNotRaised) && actual != Epoch(0);
        let epoch = if keeps_epoch { actual } else { Epoch(index) };
        let record = NodeRecord {
            node_id: up.node_id,
            epoch,
            boot: up.boot,
            seq: Seq(0),
            state: NodeState::Up,
            endpoints: up.endpoints,
            version: up.version,
        };
        self.nodes.insert(up.node.clone(), record);
        if self.cluster_version == SoftwareVersion::default() {
            let version = up.version.minor_release();
            self.oldest_founder =
                Some(self.oldest_founder.map_or(version, |oldest| oldest.min(version)));
        }
        Ok(CatalogChange::NodeUp { incarnation: Incarnation { node: up.node, epoch } })
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

    fn apply_cluster_version(
        &mut self,
        version: SoftwareVersion,
    ) -> Result<CatalogChange, Refusal> {
        if version <= self.cluster_version {
            return Err(Refusal::VersionNotHigher);
        }
        if let Some(at) = self.held_at.filter(|at| version > *at) {
            return Err(Refusal::VersionHeld { at });
        }
        if let Some(version) =
            self.oldest_founder.filter(|oldest| *oldest < version.minor_release())
        {
            return Err(Refusal::OlderNode { version });
        }
        // Whoever proposed it may have been overtaken by a node that came back in an older version.
        let mut taking_part = self.nodes.values().filter(|node| node.state != NodeState::Gone);
        let older = taking_part.find(|node| node.version < version);
        if let Some(older) = older.filter(|_| !is_on(Mutant::VersionRisesEarly)) {
            return Err(Refusal::OlderNode { version: older.version });
        }
        self.cluster_version = version;
        self.oldest_founder = None;
        Ok(CatalogChange::ClusterVersion { version })
    }

    fn apply_retire(&mut self, node_id: NodeId) -> Result<CatalogChange, Refusal> {
        if self.is_retired(node_id) {
            return Err(Refusal::RetiredMember);
        }
        self.retired.push_back(node_id);
        if self.retired.len() > RETIRED_MEMBERS_MAX {
            self.retired.pop_front();
        }
        let Some((node, epoch)) = self
            .nodes
            .iter()
            .find(|(_, record)| record.node_id == node_id)
            .map(|(node, record)| (node.clone(), record.epoch))
        else {
            return Ok(CatalogChange::Retired { node_id, ended: None });
        };
        self.void_offers(&node);
        self.nodes.remove(&node);
        Ok(CatalogChange::Retired { node_id, ended: Some(Incarnation { node, epoch }) })
    }

    /// The node's record if this is its current life.
    fn current(&mut self, incarnation: &Incarnation) -> Result<&mut NodeRecord, Refusal> {
        match self.nodes.get_mut(&incarnation.node) {
            Some(record)
                if record.epoch == incarnation.epoch && record.state != NodeState::Gone =>
            {
                Ok(record)
            }
            Some(record) if is_on(Mutant::VoidLifeOffers) => Ok(record),
            Some(_) | None => Err(Refusal::VoidIncarnation),
        }
    }

    /// The node's record if this is its current life, with its `seq` raised.
    fn advance(&mut self, incarnation: &Incarnation, seq: Seq) -> Result<&mut NodeRecord, Refusal> {
        let record = self.current(incarnation)?;
        if seq <= record.seq && !is_on(Mutant::StaleSeqApplied) {
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
        self.is_current(incarnation)
            && self.offers.get(service).is_some_and(|nodes| nodes.contains(&incarnation.node))
    }

    /// The nodes that offer the service, by name.
    pub fn offering(&self, service: &[u8]) -> impl Iterator<Item = &NodeName> {
        self.offers.get(service).into_iter().flatten()
    }

    /// Whether this is the current life of its node, and not over.
    #[must_use]
    pub fn is_current(&self, incarnation: &Incarnation) -> bool {
        self.nodes.get(&incarnation.node).is_some_and(|record| {
            record.epoch == incarnation.epoch && record.state != NodeState::Gone
        })
    }

    /// Every offered service with the nodes that offer it, by name.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &BTreeSet<NodeName>)> {
        self.offers.iter()
    }

    /// How many services are offered.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.offers.len()
    }

    /// Every known node, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &NodeRecord)> {
        self.nodes.iter()
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeRecord> {
        self.nodes.get(name)
    }

    /// The version that every member speaks.
    #[must_use]
    pub const fn cluster_version(&self) -> SoftwareVersion {
        self.cluster_version
    }

    /// The version with which a cluster that has none yet has to begin: the oldest one that any of its nodes
    /// ran. They may be in a newer one when all of them are up for the first time, and still go back.
    #[must_use]
    pub const fn oldest_founder(&self) -> Option<SoftwareVersion> {
        self.oldest_founder
    }

    /// The version above which the cluster's must not rise; `None`: it may.
    #[must_use]
    pub const fn held_at(&self) -> Option<SoftwareVersion> {
        self.held_at
    }

    /// What the last [`CatalogEntry::Mark`] said; 0: there was none.
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// Whether the member with this id was removed for ever.
    #[must_use]
    pub fn is_retired(&self, node_id: NodeId) -> bool {
        self.retired.contains(&node_id)
    }
}

#[cfg(test)]
mod tests;
