//! What a node knows of its cluster, for pages and probes.

use std::{collections::BTreeSet, time::Duration};

use mdp_catalog::{NodeId, NodeName};
use mdp_histogram::Histogram;

use crate::{
    MemberChange, UpgradeStatus,
    admission::LOST_REMEDY,
    hub::Hub,
    life::{self, Life},
    membership::progress,
    runtime::Runtime,
    types::LogId,
    upgrade,
};

/// How a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    Voter,
    /// It only follows the log.
    Learner,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// How it takes part.
    pub role: Role,
    /// Where other nodes reach it.
    pub endpoint: String,
    /// How long it has been unheard, by the leader, or by this node while it hears no leader;
    /// `None`: another node leads, or it is this one.
    pub unheard_for: Option<Duration>,
    /// Whether that is so long that its workers count as gone, or would if there were a majority.
    pub is_unheard: bool,
}

/// Why a node is not ready, as a word for probes and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// A word such as `no_leader`, `not_joined`, `catching_up`, `seeds_differ`, `name_in_use`.
    pub code: &'static str,
    /// What is waited for.
    pub text: String,
}

/// A node's own view of its cluster. Another node may know more, or less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// This node's name.
    pub name: NodeName,
    /// This node's id.
    pub node_id: NodeId,
    /// The cluster's id, as 32 hexadecimal digits; `None` before this node belongs to one.
    pub cluster_id: Option<String>,
    /// The leader, if one is known.
    pub leader: Option<NodeName>,
    /// Raft's term.
    pub term: u64,
    /// The index of the last entry known to be committed.
    pub committed_index: u64,
    /// The index of the last entry that was applied.
    pub applied_index: u64,
    /// The index of the last entry of the log.
    pub last_log_index: u64,
    /// The index that the last snapshot stands for.
    pub snapshot_index: u64,
    /// The members, by name.
    pub members: Vec<MemberStatus>,
    /// A change of members that is not finished, as this node's log shows it.
    pub member_change: Option<MemberChange>,
    /// How many voters the leader, or a node without one, has not heard for an election timeout.
    pub unheard_voters: usize,
    /// How many calls this node sent in each format, by format.
    pub call_formats: Vec<(u16, u64)>,
    /// How many calls of other nodes were refused because of who called, by reason.
    pub refused_calls: Vec<(&'static str, u64)>,
    /// How long commits of this node's store took, with their syncs.
    pub commit_times: Histogram,
    /// The cluster's version, and what becomes of it.
    pub upgrade: UpgradeStatus,
    /// Why the node is not ready; empty: it is.
    pub not_ready: Vec<NotReady>,
}

impl ClusterStatus {
    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader.as_ref() == Some(&self.name)
    }
}

/// How far behind the known end of the log a node may be and still count as caught up.
const LAG_MAX: u64 = 1_000;

/// What this node knows of its cluster.
pub(crate) fn status(hub: &Hub<impl Runtime>) -> ClusterStatus {
    let metrics = hub.metrics();
    let membership = metrics.membership_config.membership();
    let leader = metrics.current_leader.filter(|_| hub.hears_leader());
    let name_of = |id: u64| membership.get_node(&id).and_then(|member| member.name.parse().ok());
    let index = |log_id: Option<&LogId>| log_id.map_or(0, |log_id| log_id.index);
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let mut members: Vec<_> = membership
        .nodes()
        .filter_map(|(id, member)| {
            let unheard_for = hub.silence_of(*id);
            Some(MemberStatus {
                name: member.name.parse().ok()?,
                node_id: NodeId(*id),
                role: if voters.contains(id) { Role::Voter } else { Role::Learner },
                endpoint: member.endpoint.clone(),
                unheard_for,
                is_unheard: unheard_for.is_some_and(|time| time >= hub.config.node_timeout),
            })
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let is_unheard =
        |id: &&u64| hub.silence_of(**id).is_some_and(|time| time > hub.config.election_timeout_max);
    let unheard_voters = voters.iter().filter(is_unheard).count();
    let member_change = progress::change(hub, &metrics);
    let committed =
        index(metrics.local_committed.as_ref()).max(index(metrics.cluster_committed.as_ref()));
    let applied = hub.catalog.with(|_, applied| index(applied));
    ClusterStatus {
        name: hub.name().clone(),
        node_id: NodeId(hub.id()),
        cluster_id: hub.identity.identity().cluster_id.map(|id| format!("{id:032x}")),
        leader: leader.and_then(name_of),
        term: metrics.current_term,
        committed_index: committed.max(applied),
        applied_index: applied,
        last_log_index: metrics.last_log_index.unwrap_or(0),
        snapshot_index: index(metrics.snapshot.as_ref()),
        not_ready: not_ready(
            hub,
            (leader.is_some(), member_change.as_ref()),
            committed.saturating_sub(applied),
        ),
        members,
        member_change,
        unheard_voters,
        call_formats: hub.peers.formats().sent(),
        refused_calls: hub.state.refused_calls.by_reason(),
        commit_times: hub.log.commits(),
        upgrade: upgrade::status(hub),
    }
}

fn not_ready(
    hub: &Hub<impl Runtime>,
    (has_leader, change): (bool, Option<&MemberChange>),
    lag: u64,
) -> Vec<NotReady> {
    // What it waited for before it was a member: the log may say so while seeds are still asked.
    let before = hub.waiting_for().filter(|_| !hub.is_member());
    let mut reasons: Vec<NotReady> = before.into_iter().collect();
    let mut add = |code, text: String| {
        if reasons.iter().all(|reason| reason.code != code) {
            reasons.push(NotReady { code, text });
        }
    };
    if hub.is_leaving() {
        add("draining", "this node leaves".to_owned());
    }
    if !hub.is_member() {
        add("not_joined", "this node is no member of a cluster yet".to_owned());
        return reasons;
    }
    if !has_leader {
        let text = "no leader is known: too few members hear each other";
        let change = change.map(|change| format!("; a change of members is in progress {change}"));
        let lost = hub.meets_unknown_leader().then(|| {
            format!("; a node that this one does not know wants to lead it: {LOST_REMEDY}")
        });
        let (change, lost) = (change.unwrap_or_default(), lost.unwrap_or_default());
        add("no_leader", format!("{text}{change}{lost}"));
    } else if life::look(hub, false) != Life::Lives {
        add("not_joined", "this node's life in the catalog has not begun yet".to_owned());
    }
    if hub.membership().voter_ids().all(|id| id != hub.id()) {
        add("catching_up", "this member learns, and votes once it has caught up".to_owned());
    } else if lag > LAG_MAX {
        add("catching_up", format!("{lag} entries of the log are not applied yet"));
    }
    reasons
}
