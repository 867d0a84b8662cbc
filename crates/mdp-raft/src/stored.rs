//! openraft's types as bytes, on disk and between nodes: one closed set of types for each format.
//!
//! openraft promises no stable encoding of its own types, so that none of them is ever encoded.

use std::collections::{BTreeMap, BTreeSet};

use mdp_catalog::NodeId;
use mdp_wire::codec::{self, CodecError, Kind};
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::{
    store::Identity,
    types::{
        Command, Entry, LeaderId, LogId, Member, Membership, Payload, SnapshotMeta,
        StoredMembership, Vote,
    },
};

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteV1 {
    term: u64,
    node_id: u64,
    committed: bool,
}

/// The place of an entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdV1 {
    term: u64,
    node_id: u64,
    index: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberV1 {
    name: String,
    endpoint: String,
}

/// Who votes and who learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipV1 {
    configs: Vec<Vec<u64>>,
    nodes: Vec<(u64, MemberV1)>,
}

/// What an entry of the log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PayloadV1 {
    Blank,
    /// Encoded by [`mdp_catalog::encode_entry`], which has a format number of its own.
    Command(Vec<u8>),
    Membership(MembershipV1),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryV1 {
    log_id: LogIdV1,
    payload: PayloadV1,
}

/// What a snapshot is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMetaV1 {
    last_log_id: Option<LogIdV1>,
    membership_log_id: Option<LogIdV1>,
    membership: MembershipV1,
}

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IdentityV1 {
    name: String,
    node_id: u64,
    cluster_id: Option<u128>,
}

impl From<&Vote> for VoteV1 {
    fn from(vote: &Vote) -> Self {
        let LeaderId { term, node_id } = vote.leader_id;
        Self { term, node_id, committed: vote.committed }
    }
}

impl From<VoteV1> for Vote {
    fn from(stored: VoteV1) -> Self {
        let VoteV1 { term, node_id, committed } = stored;
        Self { leader_id: LeaderId { term, node_id }, committed }
    }
}

impl From<&LogId> for LogIdV1 {
    fn from(log_id: &LogId) -> Self {
        let LeaderId { term, node_id } = log_id.leader_id;
        Self { term, node_id, index: log_id.index }
    }
}

impl From<LogIdV1> for LogId {
    fn from(stored: LogIdV1) -> Self {
        let LogIdV1 { term, node_id, index } = stored;
        Self { leader_id: LeaderId { term, node_id }, index }
    }
}

impl From<&Membership> for MembershipV1 {
    fn from(membership: &Membership) -> Self {
        let configs = membership.get_joint_config().iter();
        let member = |member: &Member| MemberV1 {
            name: member.name.clone(),
            endpoint: member.endpoint.clone(),
        };
        Self {
            configs: configs.map(|ids| ids.iter().copied().collect()).collect(),
            nodes: membership.nodes().map(|(id, node)| (*id, member(node))).collect(),
        }
    }
}

impl MembershipV1 {
    pub(crate) fn read(self, kind: Kind) -> Result<Membership, CodecError> {
        let configs: Vec<BTreeSet<u64>> =
            self.configs.into_iter().map(|ids| ids.into_iter().collect()).collect();
        let member = |(id, MemberV1 { name, endpoint })| (id, Member { name, endpoint });
        let nodes: BTreeMap<u64, Member> = self.nodes.into_iter().map(member).collect();
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes)
            .map_err(|error| CodecError::Malformed { kind, reason: error.to_string() })
    }
}

impl EntryV1 {
    pub(crate) fn new(entry: &Entry) -> Result<Self, CodecError> {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadV1::Blank,
            EntryPayload::Normal(Command(entry)) => {
                PayloadV1::Command(mdp_catalog::encode_entry(entry)?)
            }
            EntryPayload::Membership(membership) => PayloadV1::Membership(membership.into()),
        };
        Ok(Self { log_id: (&entry.log_id).into(), payload })
    }

    pub(crate) fn read(self) -> Result<Entry, CodecError> {
        let payload = match self.payload {
            PayloadV1::Blank => Payload::Blank,
            PayloadV1::Command(bytes) => {
                Payload::Normal(Command(mdp_catalog::decode_entry(&bytes)?))
            }
            PayloadV1::Membership(membership) => {
                Payload::Membership(membership.read(Kind::LogEntry)?)
            }
        };
        Ok(Entry { log_id: self.log_id.into(), payload })
    }
}

impl From<&SnapshotMeta> for SnapshotMetaV1 {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last_log_id: meta.last_log_id.as_ref().map(LogIdV1::from),
            membership_log_id: meta.last_membership.log_id().as_ref().map(LogIdV1::from),
            membership: meta.last_membership.membership().into(),
        }
    }
}

impl SnapshotMetaV1 {
    pub(crate) fn read(self) -> Result<SnapshotMeta, CodecError> {
        let membership = self.membership.read(Kind::SnapshotMeta)?;
        Ok(SnapshotMeta {
            last_log_id: self.last_log_id.map(LogId::from),
            last_membership: StoredMembership::new(
                self.membership_log_id.map(LogId::from),
                membership,
            ),
        })
    }
}

impl From<&Identity> for IdentityV1 {
    fn from(identity: &Identity) -> Self {
        let Identity { name, node_id, cluster_id } = identity;
        Self { name: name.as_str().to_owned(), node_id: node_id.0, cluster_id: *cluster_id }
    }
}

impl IdentityV1 {
    fn read(self) -> Result<Identity, CodecError> {
        let Self { name, node_id, cluster_id } = self;
        let name = name.parse().map_err(|error: mdp_catalog::NodeNameError| {
            CodecError::Malformed { kind: Kind::Identity, reason: error.to_string() }
        })?;
        Ok(Identity { name, node_id: NodeId(node_id), cluster_id })
    }
}

/// The format that this version writes of everything here.
const FORMAT: u16 = 1;

pub(crate) fn encode_vote(vote: &Vote) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::Vote, FORMAT, &VoteV1::from(vote))
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    Ok(codec::decode::<VoteV1>(Kind::Vote, FORMAT, bytes)?.into())
}

pub(crate) fn encode_log_id(log_id: &LogId) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::LogId, FORMAT, &LogIdV1::from(log_id))
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    Ok(codec::decode::<LogIdV1>(Kind::LogId, FORMAT, bytes)?.into())
}

pub(crate) fn encode_log_entry(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::LogEntry, FORMAT, &EntryV1::new(entry)?)
}

pub(crate) fn decode_log_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    codec::decode::<EntryV1>(Kind::LogEntry, FORMAT, bytes)?.read()
}

pub(crate) fn encode_snapshot_meta(meta: &SnapshotMeta) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::SnapshotMeta, FORMAT, &SnapshotMetaV1::from(meta))
}

pub(crate) fn decode_snapshot_meta(bytes: &[u8]) -> Result<SnapshotMeta, CodecError> {
    codec::decode::<SnapshotMetaV1>(Kind::SnapshotMeta, FORMAT, bytes)?.read()
}

pub(crate) fn encode_identity(identity: &Identity) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::Identity, FORMAT, &IdentityV1::from(identity))
}

pub(crate) fn decode_identity(bytes: &[u8]) -> Result<Identity, CodecError> {
    codec::decode::<IdentityV1>(Kind::Identity, FORMAT, bytes)?.read()
}

/// A count of commits. It has the same length whatever the count is, because it is written over
/// an older one in place.
pub(crate) fn encode_commits(commits: u64) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::Watermark, FORMAT, &commits.to_le_bytes())
}

pub(crate) fn decode_commits(bytes: &[u8]) -> Result<u64, CodecError> {
    codec::decode(Kind::Watermark, FORMAT, bytes).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
