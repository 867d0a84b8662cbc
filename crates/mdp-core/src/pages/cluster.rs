//! The pages about the cluster, its members and its version.

use std::collections::BTreeMap;

use mdp_catalog::{NodeName, NodeRecord, NodeState, SoftwareVersion};
use mdp_raft::{ClusterStatus, MemberChange, MemberStatus, Role, UpgradeState, UpgradeStatus};
use mdp_wire::ClientNetworks;
use serde_json::{Value, json};

use super::{ClusterFacts, milliseconds};

/// The page of `/api/v1/cluster`.
pub fn cluster_page(facts: &ClusterFacts<'_>) -> Value {
    let name = facts.node.as_str();
    let Some(status) = facts.status else {
        let nodes = facts.catalog.nodes();
        let nodes: Vec<Value> = nodes
            .map(|(name, record)| node_entry(facts, name, Some(record), Standing::Alone))
            .collect();
        return json!({
            "node": name,
            "cluster_id": null,
            "cluster_version": facts.version,
            "leader": name,
            "majority": true,
            "term": 1,
            "committed_index": facts.applied_index,
            "applied_index": facts.applied_index,
            "member_change": null,
            "nodes": nodes,
        });
    };
    let version = facts.catalog.cluster_version();
    json!({
        "node": name,
        "cluster_id": status.cluster_id,
        "cluster_version": (version != SoftwareVersion::default()).then(|| version.to_string()),
        "leader": status.leader.as_ref().map(NodeName::as_str),
        // Without one, all else is what this node knew last.
        "majority": status.leader.is_some(),
        "term": status.term,
        "committed_index": status.committed_index,
        "applied_index": facts.applied_index,
        "member_change": status.member_change.as_ref().map(member_change),
        "nodes": nodes(facts, status),
    })
}

/// A change of members that is in progress, also where no leader is.
fn member_change(change: &MemberChange) -> Value {
    json!({
        "from": change.from,
        "to": change.to,
        "joint": change.is_joint,
        "committed": change.is_committed,
        "lasts_for_ms": milliseconds(change.lasts_for),
        "text": change.to_string(),
    })
}

/// The page of `/api/v1/upgrade`: the cluster's version, and what becomes of it.
pub fn upgrade_page(facts: &ClusterFacts<'_>) -> Value {
    let Some(status) = facts.status else {
        let alone =
            UpgradeStatus { cluster_version: facts.version.parse().ok(), ..Default::default() };
        return upgrade(facts, Some(facts.node), &alone);
    };
    upgrade(facts, status.leader.as_ref(), &status.upgrade)
}

fn upgrade(facts: &ClusterFacts<'_>, leader: Option<&NodeName>, status: &UpgradeStatus) -> Value {
    let (state, waits_for) = match &status.state {
        UpgradeState::Current => ("current", &[][..]),
        UpgradeState::Mixed { older } => ("mixed", older.as_slice()),
        UpgradeState::Incomplete { down } => ("incomplete", down.as_slice()),
        UpgradeState::Held => ("held", &[][..]),
        UpgradeState::Settling => ("settling", &[][..]),
    };
    let text = |version: Option<SoftwareVersion>| version.map(|version| version.to_string());
    json!({
        "node": facts.node.as_str(),
        "version": facts.version,
        "leader": leader.map(NodeName::as_str),
        "cluster_version": text(status.cluster_version),
        "target": text(status.target),
        "state": state,
        "waits_for": waits_for,
        "settles_in_ms": status.settles_in.map(milliseconds),
        "held_at": text(status.held_at),
        "configured_hold": text(status.configured_hold),
    })
}

/// Every member, whether it has begun a life or not, and every other node that once had one.
fn nodes(facts: &ClusterFacts<'_>, status: &ClusterStatus) -> Vec<Value> {
    let catalog = facts.catalog;
    let members = status.members.iter();
    let is_member = |name: &NodeName| status.members.iter().any(|member| member.name == *name);
    let mut nodes: BTreeMap<&NodeName, Value> = members
        .map(|member| {
            let record = catalog.node(&member.name);
            (&member.name, node_entry(facts, &member.name, record, Standing::Member(member)))
        })
        .collect();
    let others = catalog.nodes().filter(|(name, _)| !is_member(name));
    nodes.extend(
        others.map(|(name, record)| {
            (name, node_entry(facts, name, Some(record), Standing::Stranger))
        }),
    );
    nodes.into_values().collect()
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug)]
enum Standing<'a> {
    /// It is a cluster of its own.
    Alone,
    /// It belongs to it.
    Member(&'a MemberStatus),
    /// The catalog remembers it, the membership does not.
    Stranger,
}

fn node_entry(
    facts: &ClusterFacts<'_>,
    name: &NodeName,
    record: Option<&NodeRecord>,
    standing: Standing<'_>,
) -> Value {
    let (raft_id, role, endpoint, unheard) = match standing {
        Standing::Alone => (None, Some("voter"), None, None),
        Standing::Member(member) => {
            let role = match member.role {
                Role::Voter => "voter",
                Role::Learner => "learner",
            };
            (Some(member.node_id), Some(role), Some(&member.endpoint), member.unheard_for)
        }
        Standing::Stranger => (record.map(|record| record.node_id), None, None, None),
    };
    let endpoint = endpoint.or_else(|| record.map(|record| &record.endpoints.cluster));
    let or_null = |text: &String| (!text.is_empty()).then(|| text.clone());
    let state = match (record.map(|record| record.state), standing) {
        // A member that has never been up is not up.
        (None | Some(NodeState::Gone), _) => "gone",
        // Without a majority the catalog cannot say that its life is over.
        (Some(_), Standing::Member(member)) if member.is_unheard => "unheard",
        (Some(state), _) => state_label(state),
    };
    // No node has a link with itself.
    let links = (facts.node != name).then(|| facts.links.iter().find(|link| link.node == *name));
    json!({
        "name": name.as_str(),
        "raft_id": raft_id.map(|id| id.to_string()),
        "role": role,
        "state": state,
        "epoch": record.map_or(0, |record| record.epoch.0),
        "version": record.map(|record| record.version.to_string()),
        "client_endpoint": record.and_then(|record| or_null(&record.endpoints.client)),
        "client_networks": networks_page(facts, name),
        "cluster_endpoint": endpoint.and_then(or_null),
        "relay_endpoint": record.and_then(|record| or_null(&record.endpoints.relay)),
        "relay_to": links.map(|links| links.is_some_and(|links| links.to)),
        "relay_from": links.map(|links| links.is_some_and(|links| links.from)),
        "unheard_ms": unheard.map(milliseconds),
    })
}

/// The addresses that a node tells clients by their network, as far as this node knows, the smallest
/// networks first.
fn networks_page(facts: &ClusterFacts<'_>, name: &NodeName) -> Vec<Value> {
    let networks = facts.networks_of(name).into_iter().flat_map(ClientNetworks::iter);
    networks
        .map(|entry| json!({ "from": entry.from.to_string(), "address": entry.address }))
        .collect()
}

const fn state_label(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Gone => "gone",
    }
}
