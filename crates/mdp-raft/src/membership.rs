//! Changing who is a member, on the leader: joining, promotion, replacement, removal.
//!
//! One change at a time. A member whose volume was lost comes back under its name with a new id:
//! first as a learner, then *one* change swaps the ids, and only while the old one is unheard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mdp_catalog::{CatalogEntry, NodeId};
use openraft::{
    ChangeMembers,
    errors::{ClientWriteError, RaftError},
};

use crate::{
    calls::{Change, Refusal},
    clock::{Ticks, timeout},
    formation,
    hub::{Hub, Leader},
    peers::Target,
    reads::until,
    types::{Member, Membership},
    upgrade,
};

/// How often the leader looks for learners that have caught up.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How many entries a learner may be behind when it becomes a voter.
const LAG_MAX: u64 = 100;
/// How long a change may take until it is committed.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new leader may take to be known.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

type Changed = Result<(), Refusal>;

/// Makes a node a member, or says that it is one.
pub(crate) async fn join(
    hub: &Hub,
    id: u64,
    name: &str,
    endpoint: &str,
    version: (u16, u16, u16),
) -> Changed {
    let _one_at_a_time = hub.state.changing.lock().await;
    if !hub.is_leader() {
        return Err(hub.not_leader());
    }
    // Perhaps by the change that this one waited for.
    if hub.is_retired(id) {
        return Err(Refusal::Removed);
    }
    upgrade::fits(hub, version).map_err(|reason| Refusal::Version { reason })?;
    let membership = hub.membership();
    let member = Member { name: name.to_owned(), endpoint: endpoint.to_owned() };
    if let Some(known) = membership.get_node(&id) {
        if *known == member {
            return Ok(());
        }
        tracing::info!(%member, "a member has another address");
        return apply(hub, ChangeMembers::SetNodes([(id, member)].into())).await;
    }
    if let Some((old, _)) = namesake(&membership, id, name)
        && hub.silence_of(old) < Some(hub.config.node_timeout)
    {
        return Err(Refusal::NameInUse);
    }
    // It was removed, and is retired soon.
    if hub.catalog.with(|catalog, _| catalog.nodes().any(|(_, record)| record.node_id.0 == id)) {
        return Err(Refusal::Unavailable);
    }
    tracing::info!(%member, id = %NodeId(id), "a node joins as a learner");
    apply(hub, ChangeMembers::AddNodes([(id, member)].into())).await
}

/// Another member under the same name.
fn namesake<'a>(membership: &'a Membership, id: u64, name: &str) -> Option<(u64, &'a Member)> {
    let mut nodes = membership.nodes();
    nodes.find(|(other, member)| **other != id && member.name == name).map(|(id, node)| (*id, node))
}

/// Runs for ever: the leader promotes learners that have caught up.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut ticks = Ticks::every(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        if !hub.is_leader() {
            continue;
        }
        hub.peers.learn(&hub.membership());
        for id in caught_up(&hub) {
            let _one_at_a_time = hub.state.changing.lock().await;
            if let Err(refusal) = promote(&hub, id).await {
                tracing::debug!(?refusal, "a learner is not promoted yet");
            }
        }
        retire_leftovers(&hub).await;
    }
}

/// The learners whose log is nearly as long as the leader's.
fn caught_up(hub: &Hub) -> Vec<u64> {
    let metrics = hub.metrics();
    let Some(replication) = metrics.replication else { return Vec::new() };
    let last = metrics.last_log_index.unwrap_or(0);
    let is_near = |id: &u64| {
        let matched = replication.get(id).and_then(Option::as_ref);
        matched.is_some_and(|matched| matched.index.saturating_add(LAG_MAX) >= last)
    };
    metrics.membership_config.membership().learner_ids().filter(is_near).collect()
}

/// Makes a learner a voter, in the place of the member whose name it has, if there is one.
async fn promote(hub: &Hub, id: u64) -> Changed {
    let membership = hub.membership();
    let Some(member) = membership.get_node(&id).cloned() else { return Ok(()) };
    let Some((old, _)) = namesake(&membership, id, &member.name) else {
        tracing::info!(%member, "a learner has caught up and becomes a voter");
        return apply(hub, ChangeMembers::AddVoterIds([id].into())).await;
    };
    // Of two ids under one name, the one that is a voter is the older.
    if membership.voter_ids().any(|voter| voter == id) {
        return Ok(());
    }
    if hub.silence_of(old) < Some(hub.config.node_timeout) {
        return Err(Refusal::NameInUse);
    }
    tracing::warn!(%member, old = %NodeId(old), new = %NodeId(id), "a member that lost its volume is replaced");
    // A voter that is removed leaves the members by itself, at the end of the change.
    let remove = if membership.voter_ids().any(|voter| voter == old) {
        ChangeMembers::RemoveVoters([old].into())
    } else {
        ChangeMembers::RemoveNodes([old].into())
    };
    let add = ChangeMembers::AddVoterIds([id].into());
    apply(hub, ChangeMembers::Batch(vec![add, remove])).await?;
    retire(hub, old).await
}

/// Writes into the catalog that an id never comes back.
async fn retire(hub: &Hub, id: u64) -> Changed {
    let entry = CatalogEntry::Retire { node_id: NodeId(id) };
    match timeout(CHANGE_TIMEOUT, hub.write(entry)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(hub.not_leader()),
        Err(_) => Err(Refusal::Unavailable),
    }
}

/// A leader may end between a member's removal and the entry that says so: the records of ids that
/// are no members show it.
async fn retire_leftovers(hub: &Hub) {
    // The records before the members: a node is a member before it has a record.
    let recorded: Vec<u64> = hub
        .catalog
        .with(|catalog, _| catalog.nodes().map(|(_, record)| record.node_id.0).collect());
    let metrics = hub.metrics();
    let is_settled = metrics.membership_config == metrics.committed_membership_config;
    let membership = metrics.membership_config.membership();
    if !is_settled || membership.get_joint_config().len() > 1 {
        return;
    }
    for id in recorded.into_iter().filter(|id| membership.get_node(id).is_none()) {
        drop(retire(hub, id).await);
    }
}

/// Makes a change as the leader, or says who leads. Returns the leader's name after it.
pub(crate) async fn change(hub: &Hub, change: Change) -> Result<String, Refusal> {
    let _one_at_a_time = hub.state.changing.lock().await;
    if !hub.is_leader() {
        return Err(hub.not_leader());
    }
    let me = || hub.name().as_str().to_owned();
    match change {
        Change::Add { name, endpoint } => add(hub, &name, &endpoint).await.map(|()| me()),
        Change::Promote { name } => promote_by_name(hub, &name).await.map(|()| me()),
        Change::Remove { name } => remove(hub, &name).await.map(|()| me()),
        Change::Lead { to } => hand_over(hub, to.as_deref()).await,
        Change::Hold => upgrade::hold(hub).await.map(|()| me()),
        Change::Resume => upgrade::resume(hub).await.map(|()| me()),
        Change::Finalize => upgrade::finalize(hub).await.map(|()| me()),
    }
}

async fn add(hub: &Hub, name: &str, endpoint: &str) -> Changed {
    let target = Target { id: None, endpoint: endpoint.to_owned() };
    let hello = formation::hello(hub, &target).await.map_err(|failure| Refusal::Change {
        reason: format!(
            "the node at {endpoint} does not answer ({failure}); start it with cluster.peers of \
             this cluster, then add it"
        ),
    })?;
    if hello.name != name {
        let reason = format!("the node at {endpoint} is {}, not {name}", hello.name);
        return Err(Refusal::Change { reason });
    }
    let membership = hub.membership();
    if membership.get_node(&hello.id).is_some() {
        return Err(Refusal::Change { reason: format!("{name} is a member already") });
    }
    if hello.is_initialised {
        let reason = format!("the node at {endpoint} belongs to a cluster already");
        return Err(Refusal::Change { reason });
    }
    upgrade::fits(hub, hello.version).map_err(|reason| Refusal::Change { reason })?;
    if namesake(&membership, hello.id, name).is_some() {
        return Err(Refusal::Change { reason: format!("a member is named {name} already") });
    }
    let member = Member { name: name.to_owned(), endpoint: endpoint.to_owned() };
    apply(hub, ChangeMembers::AddNodes([(hello.id, member)].into())).await
}

/// The id of a member by its name.
fn id_of(hub: &Hub, name: &str) -> Result<u64, Refusal> {
    let membership = hub.membership();
    let found = membership.nodes().find(|(_, member)| member.name == name).map(|(id, _)| *id);
    found.ok_or_else(|| {
        let names = membership.nodes().map(|(_, member)| member.name.as_str());
        let members = names.collect::<Vec<_>>().join(", ");
        Refusal::UnknownMember { name: name.to_owned(), members }
    })
}

async fn promote_by_name(hub: &Hub, name: &str) -> Changed {
    let membership = hub.membership();
    let learners = membership.learner_ids();
    let mut named =
        learners.filter(|id| membership.get_node(id).is_some_and(|member| member.name == name));
    match named.next() {
        Some(id) => promote(hub, id).await,
        None => {
            id_of(hub, name)?;
            Err(Refusal::Change { reason: format!("{name} is a voter already") })
        }
    }
}

async fn remove(hub: &Hub, name: &str) -> Changed {
    let id = id_of(hub, name)?;
    let membership = hub.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let is_voter = voters.contains(&id);
    if is_voter && voters.len() == 1 {
        return Err(Refusal::Change { reason: format!("{name} is the only voter") });
    }
    if is_voter {
        keeps_quorum(hub, name, &voters, id)?;
    }
    if id == hub.id() {
        // A leader does not remove itself: the next one does it.
        hand_over(hub, None).await?;
        return Err(hub.not_leader());
    }
    tracing::warn!(name, id = %NodeId(id), "a member is removed");
    let change = if is_voter {
        ChangeMembers::RemoveVoters([id].into())
    } else {
        ChangeMembers::RemoveNodes([id].into())
    };
    apply(hub, change).await?;
    retire(hub, id).await
}

/// Refuses a removal after which too few of the voters would be heard.
fn keeps_quorum(hub: &Hub, name: &str, voters: &[u64], without: u64) -> Changed {
    let rest = voters.iter().copied().filter(|id| *id != without);
    let silences = hub.silences().ok_or(Refusal::Unavailable)?;
    let is_heard = |id: &u64| {
        *id == hub.id() || silences.get(id).is_some_and(|time| *time < hub.config.node_timeout)
    };
    let (heard, count) = (rest.clone().filter(is_heard).count(), rest.count());
    if heard > count / 2 {
        return Ok(());
    }
    let reason = format!(
        "without {name} only {heard} of {count} voters would be heard, which is no majority; \
         start the others first"
    );
    Err(Refusal::Change { reason })
}

async fn hand_over(hub: &Hub, to: Option<&str>) -> Result<String, Refusal> {
    let membership = hub.membership();
    let me = hub.id();
    let to = match to {
        Some(name) => id_of(hub, name)?,
        None => best_successor(hub, &membership)?,
    };
    if to == me {
        return Ok(hub.name().as_str().to_owned());
    }
    if !membership.voter_ids().any(|voter| voter == to) {
        return Err(Refusal::Change {
            reason: "a learner can not lead; promote it first".to_owned(),
        });
    }
    if hub.raft.trigger().transfer_leader(to).await.is_err() {
        return Err(Refusal::Unavailable);
    }
    let mut metrics = hub.raft.metrics();
    let moved = until(&mut metrics, |now| now.current_leader.is_some_and(|leader| leader != me));
    if timeout(TRANSFER_TIMEOUT, moved).await.is_err() {
        let reason = "the member did not take over in time; see whether it is up".to_owned();
        return Err(Refusal::Change { reason });
    }
    match hub.leader() {
        Some(Leader::Other { member, .. }) => Ok(member.name),
        Some(Leader::Me) | None => Err(Refusal::Unavailable),
    }
}

/// The heard voter that has most of the log.
fn best_successor(hub: &Hub, membership: &Membership) -> Result<u64, Refusal> {
    // A new leader has not looked yet; whoever asked tries again.
    let silences = hub.silences().ok_or(Refusal::Unavailable)?;
    let is_heard =
        |id: &u64| silences.get(id).is_some_and(|time| *time < hub.config.election_timeout_max);
    let metrics = hub.metrics();
    let matched: BTreeMap<u64, u64> = metrics
        .replication
        .iter()
        .flatten()
        .filter_map(|(id, matched)| Some((*id, matched.as_ref()?.index)))
        .collect();
    membership
        .voter_ids()
        .filter(|id| *id != hub.id())
        .filter(is_heard)
        .max_by_key(|id| matched.get(id).copied().unwrap_or(0))
        .ok_or_else(|| Refusal::Change { reason: "no other voter is heard".to_owned() })
}

/// Makes a change of members and waits until it is committed.
async fn apply(hub: &Hub, change: ChangeMembers<u64, Member>) -> Changed {
    match timeout(CHANGE_TIMEOUT, hub.raft.change_membership(change, false)).await {
        Ok(Ok(_)) => Ok(()),
        // Another one leads, or this one without a majority.
        Ok(Err(RaftError::APIError(
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
        ))) => Err(hub.not_leader()),
        Ok(Err(RaftError::APIError(error))) => Err(Refusal::Change { reason: error.to_string() }),
        Ok(Err(RaftError::Fatal(_))) | Err(_) => Err(Refusal::Unavailable),
    }
}
