//! What the cluster has agreed on, as nobody in it can know it: the entries that any node was ever
//! told to be applied, in one order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mdp_catalog::{
    Catalog, CatalogEntry, Epoch, Incarnation, MARK_SINCE, NodeId, NodeName, NodeRecord, NodeState,
    Seq, SoftwareVersion,
};
use mdp_raft::News;
use mdp_wire::ServiceName;

/// An index that somebody has applied for the first time, and which services are offered then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) index: u64,
    /// In the order of the services' numbers.
    pub(crate) offered: Vec<bool>,
}

/// A life that is not over.
#[derive(Clone, Copy, Debug)]
struct Life {
    node_id: NodeId,
    epoch: Epoch,
    /// Its last word.
    seq: Seq,
    version: SoftwareVersion,
}

/// The one catalog that all copies must follow.
#[derive(Debug)]
pub(crate) struct Truth {
    services: Vec<ServiceName>,
    catalog: Catalog,
    applied: u64,
    entries: BTreeMap<u64, CatalogEntry>,
    /// Who lives, and its last word: kept apart from the catalog, to judge it.
    lives: BTreeMap<NodeName, Life>,
    /// Members that were removed: they live no more.
    retired: BTreeSet<NodeId>,
    /// What all that live can read.
    cluster_version: SoftwareVersion,
    /// The oldest version that anybody had while the cluster had none.
    oldest_founder: Option<SoftwareVersion>,
    fresh: VecDeque<Agreed>,
    wrong: Option<String>,
}

impl Truth {
    pub(crate) fn new(services: Vec<ServiceName>) -> Self {
        Self {
            services,
            catalog: Catalog::new(),
            applied: 0,
            entries: BTreeMap::new(),
            lives: BTreeMap::new(),
            retired: BTreeSet::new(),
            cluster_version: SoftwareVersion::default(),
            oldest_founder: None,
            fresh: VecDeque::new(),
            wrong: None,
        }
    }

    /// A node is told this.
    pub(crate) fn hear(&mut self, news: &News) {
        match news {
            News::Applied { index, entries } => {
                for (index, entry) in entries {
                    self.apply(*index, entry);
                }
                self.applied = self.applied.max(*index);
            }
            News::Replaced { index, catalog } => self.replace(*index, catalog),
            News::Read { .. } | News::Stopped(_) => {}
        }
    }

    fn apply(&mut self, index: u64, entry: &CatalogEntry) {
        if index <= self.applied {
            if let Some(known) = self.entries.get(&index)
                && known != entry
            {
                self.wrong = Some(format!("entry {index} is {known} here and {entry} there"));
            }
            return;
        }
        if let Err(refusal) = self.catalog.apply(index, entry.clone()) {
            self.wrong = Some(format!("entry {index}, {entry}, counts there only: {refusal}"));
        }
        if let Err(wrong) = self.judge(index, entry) {
            self.wrong = Some(format!("entry {index}, {entry}, counts: {wrong}"));
        }
        self.entries.insert(index, entry.clone());
        self.advance(index);
    }

    /// Whether an entry may count: the word of a life that is not over, said once.
    fn judge(&mut self, index: u64, entry: &CatalogEntry) -> Result<(), &'static str> {
        match entry {
            CatalogEntry::NodeUp(up) => {
                if self.retired.contains(&up.node_id) {
                    return Err("the member was removed");
                }
                if up.version.minor_release() < self.cluster_version {
                    return Err("it is older than the cluster's version");
                }
                let (node_id, version) = (up.node_id, up.version);
                let life = Life { node_id, epoch: Epoch(index), seq: Seq(0), version };
                let founder =
                    self.oldest_founder.into_iter().chain([version.minor_release()]).min();
                self.oldest_founder = founder;
                self.lives.insert(up.node.clone(), life);
                let record = self.catalog.node(&up.node);
                if record.is_none_or(|record| record.epoch != Epoch(index)) {
                    return Err("its epoch is not the entry's index");
                }
                self.offers_nothing(&up.node)
            }
            CatalogEntry::Offer { incarnation, seq, .. }
            | CatalogEntry::Withdraw { incarnation, seq, .. }
            | CatalogEntry::NodeDraining { incarnation, seq } => {
                let last = self.life_of(incarnation)?;
                if *seq <= *last {
                    return Err("it was overtaken");
                }
                *last = *seq;
                Ok(())
            }
            CatalogEntry::NodeGone { incarnation } => {
                self.life_of(incarnation)?;
                self.lives.remove(&incarnation.node);
                self.offers_nothing(&incarnation.node)
            }
            CatalogEntry::Retire { node_id } => {
                self.retired.insert(*node_id);
                let mut lives = self.lives.iter();
                let Some((node, _)) = lives.find(|(_, life)| life.node_id == *node_id) else {
                    return Ok(());
                };
                let node = node.clone();
                self.lives.remove(&node);
                self.offers_nothing(&node)
            }
            CatalogEntry::SetClusterVersion { version } => {
                let mut versions = self.lives.values().map(|life| life.version);
                if versions.any(|node| node < *version) {
                    return Err("a node that lives is older");
                }
                let is_first = self.cluster_version == SoftwareVersion::default();
                if is_first && self.oldest_founder.is_some_and(|oldest| oldest < *version) {
                    return Err("the cluster began with an older version");
                }
                self.cluster_version = *version;
                Ok(())
            }
            CatalogEntry::Mark { .. } if self.cluster_version < MARK_SINCE => {
                Err("the cluster's version has no such entries")
            }
            CatalogEntry::Hold { .. } | CatalogEntry::Mark { .. } => Ok(()),
        }
    }

    fn life_of(&mut self, incarnation: &Incarnation) -> Result<&mut Seq, &'static str> {
        match self.lives.get_mut(&incarnation.node) {
            Some(life) if life.epoch == incarnation.epoch => Ok(&mut life.seq),
            Some(_) | None => Err("that life is over"),
        }
    }

    fn offers_nothing(&self, node: &NodeName) -> Result<(), &'static str> {
        if self.catalog.services().any(|(_, nodes)| nodes.contains(node)) {
            return Err("the node offers something still");
        }
        Ok(())
    }

    /// A whole catalog: of somebody who starts, or is far behind.
    fn replace(&mut self, index: u64, catalog: &Catalog) {
        if index == self.applied && *catalog != self.catalog {
            self.wrong = Some(format!("the catalogs of index {index} differ"));
        }
        if index > self.applied {
            self.catalog = catalog.clone();
            let living = catalog.nodes().filter(|(_, record)| record.state != NodeState::Gone);
            let life = |record: &NodeRecord| {
                let NodeRecord { node_id, epoch, seq, version, .. } = *record;
                Life { node_id, epoch, seq, version }
            };
            self.cluster_version = catalog.cluster_version();
            self.oldest_founder = catalog.oldest_founder();
            self.lives = living.map(|(node, record)| (node.clone(), life(record))).collect();
            self.advance(index);
        }
    }

    fn advance(&mut self, index: u64) {
        self.applied = index;
        let is_offered = |service: &ServiceName| self.catalog.is_offered(service.as_bytes());
        let offered = self.services.iter().map(is_offered).collect();
        self.fresh.push_back(Agreed { index, offered });
    }

    /// What is new.
    pub(crate) fn poll(&mut self) -> Option<Agreed> {
        self.fresh.pop_front()
    }

    /// Whether the cluster's version rose to the next one.
    pub(crate) fn has_risen(&self) -> bool {
        self.cluster_version >= MARK_SINCE
    }

    /// Where copies differ, once.
    pub(crate) fn take_wrong(&mut self) -> Option<String> {
        self.wrong.take()
    }
}
