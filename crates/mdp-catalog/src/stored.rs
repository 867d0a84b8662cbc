//! The catalog's entries and snapshots as bytes: one closed set of types for each format.
//!
//! The types of the domain may change; these do not. A format that was released is read for ever,
//! and the bytes of each are kept as tests.

use std::collections::BTreeSet;

use mdp_wire::{
    ServiceName,
    codec::{self, CodecError, Kind},
};
use serde::{Deserialize, Serialize};

use crate::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeRecord,
    NodeState, NodeUp, Seq, SoftwareVersion,
};

/// The newest format of entries that this version reads; an entry is written in the oldest that has it.
const ENTRY_FORMAT: u16 = if cfg!(feature = "test-next") { 2 } else { 1 };
/// The newest format of snapshots that this version reads; the cluster's version decides which one
/// is written.
const SNAPSHOT_FORMAT: u16 = if cfg!(feature = "test-next") { 2 } else { 1 };

/// Encodes an entry.
///
/// # Errors
/// The entry is one of a later version.
pub fn encode_entry(entry: &CatalogEntry) -> Result<Vec<u8>, CodecError> {
    #[cfg(feature = "test-next")]
    if let CatalogEntry::Mark { number } = entry {
        return codec::encode(Kind::CatalogEntry, 2, &next::EntryV2::Mark { number: *number });
    }
    codec::encode(Kind::CatalogEntry, 1, &EntryV1::new(entry)?)
}

/// Decodes an entry.
///
/// # Errors
/// The bytes are no entry, or one of a newer version.
pub fn decode_entry(bytes: &[u8]) -> Result<CatalogEntry, CodecError> {
    #[cfg(feature = "test-next")]
    if codec::format_of(Kind::CatalogEntry, ENTRY_FORMAT, bytes)? == 2 {
        let next::EntryV2::Mark { number } = codec::decode_body(Kind::CatalogEntry, bytes)?;
        return Ok(CatalogEntry::Mark { number });
    }
    codec::decode::<EntryV1>(Kind::CatalogEntry, ENTRY_FORMAT, bytes)?.read()
}

/// Encodes a whole catalog, in the format of the cluster's version.
///
/// # Errors
/// Never for catalogs of this version.
pub fn encode_snapshot(catalog: &Catalog) -> Result<Vec<u8>, CodecError> {
    let snapshot = SnapshotV1::from(catalog);
    #[cfg(feature = "test-next")]
    if catalog.cluster_version >= crate::MARK_SINCE {
        let snapshot = next::SnapshotV2 { snapshot, mark: catalog.mark };
        return codec::encode(Kind::CatalogSnapshot, 2, &snapshot);
    }
    codec::encode(Kind::CatalogSnapshot, 1, &snapshot)
}

/// Decodes a whole catalog.
///
/// # Errors
/// The bytes are no catalog, or one of a newer version.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Catalog, CodecError> {
    #[cfg(feature = "test-next")]
    if codec::format_of(Kind::CatalogSnapshot, SNAPSHOT_FORMAT, bytes)? == 2 {
        let stored: next::SnapshotV2 = codec::decode_body(Kind::CatalogSnapshot, bytes)?;
        return Ok(Catalog { mark: stored.mark, ..stored.snapshot.read()? });
    }
    codec::decode::<SnapshotV1>(Kind::CatalogSnapshot, SNAPSHOT_FORMAT, bytes)?.read()
}

/// The formats of the program that stands in for the next version in tests.
#[cfg(feature = "test-next")]
mod next {
    use super::{Deserialize, Serialize, SnapshotV1};

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum EntryV2 {
        Mark { number: u64 },
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct SnapshotV2 {
        pub(super) snapshot: SnapshotV1,
        pub(super) mark: u64,
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct IncarnationV1 {
    node: String,
    epoch: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndpointsV1 {
    client: String,
    cluster: String,
    relay: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct VersionV1 {
    major: u16,
    minor: u16,
    patch: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChangeV1 {
    incarnation: IncarnationV1,
    seq: u64,
    services: Vec<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeUpV1 {
    node: String,
    node_id: u64,
    process: u64,
    attempt: u32,
    expected_epoch: u64,
    endpoints: EndpointsV1,
    version: VersionV1,
}

#[derive(Debug, Serialize, Deserialize)]
enum EntryV1 {
    NodeUp(NodeUpV1),
    Offer(ChangeV1),
    Withdraw(ChangeV1),
    NodeDraining { incarnation: IncarnationV1, seq: u64 },
    NodeGone { incarnation: IncarnationV1 },
    SetClusterVersion(VersionV1),
    Retire { node_id: u64 },
    Hold { at: Option<VersionV1> },
}

#[derive(Debug, Serialize, Deserialize)]
enum StateV1 {
    Up,
    Draining,
    Gone,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeV1 {
    name: String,
    node_id: u64,
    epoch: u64,
    process: u64,
    attempt: u32,
    seq: u64,
    state: StateV1,
    endpoints: EndpointsV1,
    version: VersionV1,
}

#[derive(Debug, Serialize, Deserialize)]
struct OfferV1 {
    service: Vec<u8>,
    /// Positions in the list of nodes.
    nodes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotV1 {
    cluster_version: VersionV1,
    nodes: Vec<NodeV1>,
    offers: Vec<OfferV1>,
    retired: Vec<u64>,
    held_at: Option<VersionV1>,
    oldest_founder: Option<VersionV1>,
}

impl From<&Incarnation> for IncarnationV1 {
    fn from(incarnation: &Incarnation) -> Self {
        Self { node: incarnation.node.as_str().to_owned(), epoch: incarnation.epoch.0 }
    }
}

impl IncarnationV1 {
    fn read(self, kind: Kind) -> Result<Incarnation, CodecError> {
        Ok(Incarnation { node: node_name(kind, &self.node)?, epoch: Epoch(self.epoch) })
    }
}

impl From<&Endpoints> for EndpointsV1 {
    fn from(endpoints: &Endpoints) -> Self {
        let Endpoints { client, cluster, relay } = endpoints.clone();
        Self { client, cluster, relay }
    }
}

impl From<EndpointsV1> for Endpoints {
    fn from(stored: EndpointsV1) -> Self {
        let EndpointsV1 { client, cluster, relay } = stored;
        Self { client, cluster, relay }
    }
}

impl From<SoftwareVersion> for VersionV1 {
    fn from(version: SoftwareVersion) -> Self {
        let SoftwareVersion { major, minor, patch } = version;
        Self { major, minor, patch }
    }
}

impl From<VersionV1> for SoftwareVersion {
    fn from(stored: VersionV1) -> Self {
        let VersionV1 { major, minor, patch } = stored;
        Self { major, minor, patch }
    }
}

impl ChangeV1 {
    fn new(incarnation: &Incarnation, seq: Seq, services: &[ServiceName]) -> Self {
        let services = services.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { incarnation: incarnation.into(), seq: seq.0, services }
    }

    fn read(self) -> Result<(Incarnation, Seq, Vec<ServiceName>), CodecError> {
        let kind = Kind::CatalogEntry;
        let services: Result<_, _> =
            self.services.iter().map(|name| service_name(kind, name)).collect();
        Ok((self.incarnation.read(kind)?, Seq(self.seq), services?))
    }
}

impl From<&NodeUp> for NodeUpV1 {
    fn from(up: &NodeUp) -> Self {
        Self {
            node: up.node.as_str().to_owned(),
            node_id: up.node_id.0,
            process: up.boot.process,
            attempt: up.boot.attempt,
            expected_epoch: up.expected_epoch.0,
            endpoints: (&up.endpoints).into(),
            version: up.version.into(),
        }
    }
}

impl NodeUpV1 {
    fn read(self) -> Result<NodeUp, CodecError> {
        Ok(NodeUp {
            node: node_name(Kind::CatalogEntry, &self.node)?,
            node_id: NodeId(self.node_id),
            boot: Boot { process: self.process, attempt: self.attempt },
            expected_epoch: Epoch(self.expected_epoch),
            endpoints: self.endpoints.into(),
            version: self.version.into(),
        })
    }
}

impl EntryV1 {
    fn new(entry: &CatalogEntry) -> Result<Self, CodecError> {
        Ok(match entry {
            CatalogEntry::NodeUp(up) => Self::NodeUp(up.into()),
            CatalogEntry::Offer { incarnation, seq, services } => {
                Self::Offer(ChangeV1::new(incarnation, *seq, services))
            }
            CatalogEntry::Withdraw { incarnation, seq, services } => {
                Self::Withdraw(ChangeV1::new(incarnation, *seq, services))
            }
            CatalogEntry::NodeDraining { incarnation, seq } => {
                Self::NodeDraining { incarnation: incarnation.into(), seq: seq.0 }
            }
            CatalogEntry::NodeGone { incarnation } => {
                Self::NodeGone { incarnation: incarnation.into() }
            }
            CatalogEntry::SetClusterVersion { version } => {
                Self::SetClusterVersion((*version).into())
            }
            CatalogEntry::Retire { node_id } => Self::Retire { node_id: node_id.0 },
            CatalogEntry::Hold { at } => Self::Hold { at: at.map(VersionV1::from) },
            CatalogEntry::Mark { .. } => {
                let (kind, known) = (Kind::CatalogEntry, ENTRY_FORMAT);
                return Err(CodecError::UnknownFormat { kind, got: 2, known });
            }
        })
    }

    fn read(self) -> Result<CatalogEntry, CodecError> {
        let kind = Kind::CatalogEntry;
        Ok(match self {
            Self::NodeUp(up) => CatalogEntry::NodeUp(up.read()?),
            Self::Offer(change) => {
                let (incarnation, seq, services) = change.read()?;
                CatalogEntry::Offer { incarnation, seq, services }
            }
            Self::Withdraw(change) => {
                let (incarnation, seq, services) = change.read()?;
                CatalogEntry::Withdraw { incarnation, seq, services }
            }
            Self::NodeDraining { incarnation, seq } => {
                CatalogEntry::NodeDraining { incarnation: incarnation.read(kind)?, seq: Seq(seq) }
            }
            Self::NodeGone { incarnation } => {
                CatalogEntry::NodeGone { incarnation: incarnation.read(kind)? }
            }
            Self::SetClusterVersion(version) => {
                CatalogEntry::SetClusterVersion { version: version.into() }
            }
            Self::Retire { node_id } => CatalogEntry::Retire { node_id: NodeId(node_id) },
            Self::Hold { at } => CatalogEntry::Hold { at: at.map(SoftwareVersion::from) },
        })
    }
}

impl NodeV1 {
    fn new(name: &NodeName, record: &NodeRecord) -> Self {
        Self {
            name: name.as_str().to_owned(),
            node_id: record.node_id.0,
            epoch: record.epoch.0,
            process: record.boot.process,
            attempt: record.boot.attempt,
            seq: record.seq.0,
            state: match record.state {
                NodeState::Up => StateV1::Up,
                NodeState::Draining => StateV1::Draining,
                NodeState::Gone => StateV1::Gone,
            },
            endpoints: (&record.endpoints).into(),
            version: record.version.into(),
        }
    }

    fn read(self) -> Result<(NodeName, NodeRecord), CodecError> {
        let record = NodeRecord {
            node_id: NodeId(self.node_id),
            epoch: Epoch(self.epoch),
            boot: Boot { process: self.process, attempt: self.attempt },
            seq: Seq(self.seq),
            state: match self.state {
                StateV1::Up => NodeState::Up,
                StateV1::Draining => NodeState::Draining,
                StateV1::Gone => NodeState::Gone,
            },
            endpoints: self.endpoints.into(),
            version: self.version.into(),
        };
        Ok((node_name(Kind::CatalogSnapshot, &self.name)?, record))
    }
}

impl From<&Catalog> for SnapshotV1 {
    fn from(catalog: &Catalog) -> Self {
        let names: Vec<_> = catalog.nodes.keys().collect();
        let position = |name| {
            names.binary_search(&name).ok().and_then(|position| u32::try_from(position).ok())
        };
        Self {
            cluster_version: catalog.cluster_version.into(),
            nodes: catalog.nodes.iter().map(|(name, node)| NodeV1::new(name, node)).collect(),
            offers: catalog
                .offers
                .iter()
                .map(|(service, nodes)| OfferV1 {
                    service: service.as_bytes().to_vec(),
                    nodes: nodes.iter().filter_map(position).collect(),
                })
                .collect(),
            retired: catalog.retired.iter().map(|id| id.0).collect(),
            held_at: catalog.held_at.map(VersionV1::from),
            oldest_founder: catalog.oldest_founder.map(VersionV1::from),
        }
    }
}

impl SnapshotV1 {
    fn read(self) -> Result<Catalog, CodecError> {
        let kind = Kind::CatalogSnapshot;
        let nodes = self.nodes.into_iter().map(NodeV1::read).collect::<Result<Vec<_>, _>>()?;
        let mut catalog = Catalog {
            cluster_version: self.cluster_version.into(),
            retired: self.retired.into_iter().map(NodeId).collect(),
            held_at: self.held_at.map(SoftwareVersion::from),
            oldest_founder: self.oldest_founder.map(SoftwareVersion::from),
            ..Catalog::default()
        };
        for offer in self.offers {
            let names: Option<BTreeSet<NodeName>> = offer
                .nodes
                .iter()
                .map(|position| Some(nodes.get(usize::try_from(*position).ok()?)?.0.clone()))
                .collect();
            let names = names.ok_or_else(|| malformed(kind, &"an offer of an unknown node"))?;
            catalog.offers.insert(service_name(kind, &offer.service)?, names);
        }
        catalog.nodes = nodes.into_iter().collect();
        Ok(catalog)
    }
}

fn node_name(kind: Kind, name: &str) -> Result<NodeName, CodecError> {
    name.parse().map_err(|error| malformed(kind, &error))
}

fn service_name(kind: Kind, name: &[u8]) -> Result<ServiceName, CodecError> {
    ServiceName::try_from(name).map_err(|error| malformed(kind, &error))
}

fn malformed(kind: Kind, reason: &impl ToString) -> CodecError {
    CodecError::Malformed { kind, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
