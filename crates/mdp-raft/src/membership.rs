//! Changing who is a member, on the leader: joining, promotion, replacement, removal.
//!
//! One change at a time, and none that was not asked about: `quorum` hears a majority of the voters
//! before and after it, `propose` makes it, and finishes what an earlier leader left half done.
//! A member whose volume was lost comes back under its name with a new id: first as a learner, then
//! *one* change swaps the ids, and only while the old one is unheard.

mod lead;
mod learners;
pub(crate) mod progress;
mod propose;
mod quorum;
mod target;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mdp_catalog::{CatalogEntry, NodeId, NodeName};
use mdp_rate_limiter::event;
use openraft::ChangeMembers;

pub(crate) use self::learners::{Unanswered, has_ever_answered};
pub use self::progress::MemberChange;
pub(crate) use self::target::RemovalTarget;
use self::{
    lead::hand_over,
    progress::is_settled,
    propose::{Proposal, complete, need, propose, settle},
    quorum::{has_answered_within, wait_for_answers},
};
use crate::{
    acquaintances,
    admission::is_endpoint,
    calls::{BUSY, Change, Refusal},
    clock::Ticks,
    formation,
    hub::Hub,
    lines::Line,
    peers::Target,
    runtime::Runtime,
    types::{Member, Membership},
    upgrade,
};

/// How often the leader looks for learners that have caught up, and for changes to finish.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How many entries a learner may be behind when it becomes a voter.
const LAG_MAX: u64 = 100;
/// How long the entry may take that says that an id never comes back.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a change waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);

type Changed = Result<(), Refusal>;

/// Makes a node a member, or says that it is one.
pub(crate) async fn join(
    hub: &Hub<impl Runtime>,
    id: u64,
    name: &str,
    endpoint: &str,
    version: (u16, u16, u16),
) -> Changed {
    is_sound(name, endpoint)?;
    // Before its turn: it may take a while, and strangers can cause it. Of learners that never answer, none
    // takes the slot of another.
    if learners::are_slots_taken(hub)
        && hub.membership().get_node(&id).is_none()
        && !acquaintances::answers_itself(hub, (id, name), endpoint).await
    {
        return Err(learners::too_many());
    }
    let turn = hub.timeout(TURN_TIMEOUT, hub.state.changing.lock()).await;
    let _one_at_a_time = turn.map_err(|_| Refusal::Unavailable)?;
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
        // The data directory of an id has the name that it was made for.
        if known.name != member.name {
            return Err(Refusal::NameInUse);
        }
        let moved = member.clone();
        let_in(hub, ChangeMembers::SetNodes([(id, moved)].into())).await?;
        let admission = hub.state.lines.admit(Line::Moved);
        event!(admission, info, %member, "a member has another address");
        return Ok(());
    }
    let mut others = namesakes(&membership, id, name);
    if others.any(|old| hub.silence_of(old) < Some(hub.config.node_timeout)) {
        return Err(Refusal::NameInUse);
    }
    let change = learners::admit(hub, id, &member)?;
    let_in(hub, change).await?;
    let (admission, id) = (hub.state.lines.admit(Line::Joined), NodeId(id));
    event!(admission, info, %member, %id, "a node joins as a learner");
    Ok(())
}

/// Whether this can be a node.
fn is_sound(name: &str, endpoint: &str) -> Changed {
    if name.parse::<NodeName>().is_ok() && is_endpoint(endpoint) {
        return Ok(());
    }
    let reason = format!(
        "{name:?} at {endpoint:?} cannot be a node: use a name of 1 to 63 letters, digits, '-', '_' or '.', and tcp://HOST:PORT"
    );
    Err(Refusal::Change { reason })
}

/// Makes a change that a node asks for again and again until it is made.
async fn let_in(hub: &Hub<impl Runtime>, change: ChangeMembers<u64, Member>) -> Changed {
    if !is_settled(&hub.metrics()) {
        return Err(Refusal::Unavailable);
    }
    let changed = propose(hub, Proposal::of_learners(change)).await;
    changed.map_err(|refusal| {
        tracing::debug!(?refusal, "a node is not let in yet");
        if let Refusal::Change { .. } = refusal { Refusal::Unavailable } else { refusal }
    })
}

/// The other members under the same name.
fn namesakes(membership: &Membership, id: u64, name: &str) -> impl Iterator<Item = u64> {
    let nodes = membership.nodes();
    let others = nodes.filter(move |(other, member)| **other != id && member.name == name);
    others.map(|(id, _)| *id)
}

/// Runs forever: the leader promotes learners that have caught up, and finishes what is half done.
pub(crate) async fn run<R: Runtime>(hub: Arc<Hub<R>>) {
    let mut ticks = Ticks::<R>::every(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        progress::watch(&hub, &hub.metrics());
        learners::watch(&hub);
        if !hub.is_leader() {
            continue;
        }
        hub.peers.learn(&hub.membership());
        if !is_settled(&hub.metrics()) {
            let _one_at_a_time = hub.state.changing.lock().await;
            complete(&hub).await;
            continue;
        }
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
fn caught_up(hub: &Hub<impl Runtime>) -> Vec<u64> {
    let metrics = hub.metrics();
    let Some(replication) = &metrics.replication else { return Vec::new() };
    let last = metrics.last_log_index.unwrap_or(0);
    let is_near = |id: &u64| {
        let matched = replication.get(id).and_then(Option::as_ref);
        matched.is_some_and(|matched| matched.index.saturating_add(LAG_MAX) >= last)
    };
    // One that does not answer would hold up all other changes while its answer is waited for.
    let within = hub.config.election_timeout_max;
    let is_near = |id: &u64| is_near(id) && has_answered_within(&metrics, *id, within);
    metrics.membership_config.membership().learner_ids().filter(is_near).collect()
}

/// Makes a learner a voter, in the place of the member whose name it has, if there is one.
async fn promote(hub: &Hub<impl Runtime>, id: u64) -> Changed {
    let membership = hub.membership();
    let Some(member) = membership.get_node(&id).cloned() else { return Ok(()) };
    let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
    let add = ChangeMembers::AddVoterIds([id].into());
    let old: BTreeSet<u64> = namesakes(&membership, id, &member.name).collect();
    if old.is_empty() {
        tracing::debug!(%member, "a learner has caught up");
        voters.insert(id);
        let proposal = Proposal { change: add, voters: Some(voters), newcomer: Some(id) };
        propose(hub, proposal).await?;
        tracing::info!(%member, "a learner has caught up and became a voter");
        return Ok(());
    }
    // Of two ids under one name, the one that is a voter is the older.
    if voters.contains(&id) {
        return Ok(());
    }
    if old.iter().any(|old| hub.silence_of(*old) < Some(hub.config.node_timeout)) {
        return Err(Refusal::NameInUse);
    }
    // A voter that is removed leaves the members by itself, at the end of the change.
    let (of_voters, of_learners): (BTreeSet<u64>, _) = old.iter().partition(|it| voters.remove(it));
    let mut changes = vec![add];
    if !of_learners.is_empty() {
        changes.push(ChangeMembers::RemoveNodes(of_learners));
    }
    if !of_voters.is_empty() {
        changes.push(ChangeMembers::RemoveVoters(of_voters));
    }
    voters.insert(id);
    let change = ChangeMembers::Batch(changes);
    propose(hub, Proposal { change, voters: Some(voters), newcomer: Some(id) }).await?;
    for old in old {
        tracing::warn!(%member, old = %NodeId(old), new = %NodeId(id), "a member that lost its volume is replaced");
        drop(retire(hub, old).await);
    }
    Ok(())
}

/// Writes into the catalog that an id never comes back.
async fn retire(hub: &Hub<impl Runtime>, id: u64) -> Changed {
    let entry = CatalogEntry::Retire { node_id: NodeId(id) };
    match hub.timeout(RETIRE_TIMEOUT, hub.write(entry)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(hub.not_leader()),
        Err(_) => Err(Refusal::Unavailable),
    }
}

/// A leader may end between a member's removal and the entry that says so: the records of ids that
/// are no members show it.
async fn retire_leftovers(hub: &Hub<impl Runtime>) {
    // The records before the members: a node is a member before it has a record.
    let recorded: Vec<u64> = hub
        .catalog
        .with(|catalog, _| catalog.nodes().map(|(_, record)| record.node_id.0).collect());
    let metrics = hub.metrics();
    if !is_settled(&metrics) {
        return;
    }
    let membership = metrics.membership_config.membership();
    for id in recorded.into_iter().filter(|id| membership.get_node(id).is_none()) {
        drop(retire(hub, id).await);
    }
}

/// Makes a change as the leader, or says who leads. Returns the leader's name after it.
pub(crate) async fn change(hub: &Hub<impl Runtime>, change: Change) -> Result<String, Refusal> {
    let target = RemovalTarget::of(hub, &change);
    let turn = hub.timeout(TURN_TIMEOUT, hub.state.changing.lock()).await;
    let _one_at_a_time = turn.map_err(|_| Refusal::Change { reason: BUSY.to_owned() })?;
    if !hub.is_leader() {
        return Err(hub.not_leader());
    }
    target.check(hub)?;
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

/// Whether a refusal says that this change was made already.
pub(crate) fn is_made(change: &Change, refusal: &Refusal) -> bool {
    match (change, refusal) {
        (Change::Remove { name }, Refusal::UnknownMember { name: unknown, .. }) => name == unknown,
        (Change::Add { name, .. }, Refusal::Change { reason }) => *reason == already_member(name),
        (Change::Promote { name }, Refusal::Change { reason }) => *reason == already_voter(name),
        (
            Change::Add { .. }
            | Change::Promote { .. }
            | Change::Remove { .. }
            | Change::Lead { .. }
            | Change::Hold
            | Change::Resume
            | Change::Finalize,
            _,
        ) => false,
    }
}

fn already_member(name: &str) -> String {
    format!("{name} is a member already")
}

fn already_voter(name: &str) -> String {
    format!("{name} is a voter already")
}

async fn add(hub: &Hub<impl Runtime>, name: &str, endpoint: &str) -> Changed {
    is_sound(name, endpoint)?;
    settle(hub).await?;
    let target = Target { id: None, name: name.to_owned(), endpoint: endpoint.to_owned() };
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
        return Err(Refusal::Change { reason: already_member(name) });
    }
    if hello.is_initialised {
        let reason = format!("the node at {endpoint} belongs to a cluster already");
        return Err(Refusal::Change { reason });
    }
    upgrade::fits(hub, hello.version).map_err(|reason| Refusal::Change { reason })?;
    if namesakes(&membership, hello.id, name).next().is_some() {
        return Err(Refusal::Change { reason: format!("a member is named {name} already") });
    }
    let member = Member { name: name.to_owned(), endpoint: endpoint.to_owned() };
    let change = learners::admit(hub, hello.id, &member)?;
    propose(hub, Proposal::of_learners(change)).await
}

/// The ids of the members of a name: two, while one that lost its volume is replaced.
fn ids_of(membership: &Membership, name: &str) -> BTreeSet<u64> {
    membership.nodes().filter(|(_, member)| member.name == name).map(|(id, _)| *id).collect()
}

fn unknown_member(hub: &Hub<impl Runtime>, name: &str) -> Refusal {
    let membership = hub.membership();
    let names = membership.nodes().map(|(_, member)| member.name.as_str());
    let members = names.collect::<Vec<_>>().join(", ");
    Refusal::UnknownMember { name: name.to_owned(), members }
}

async fn promote_by_name(hub: &Hub<impl Runtime>, name: &str) -> Changed {
    settle(hub).await?;
    let membership = hub.membership();
    let learners = membership.learner_ids();
    let mut named =
        learners.filter(|id| membership.get_node(id).is_some_and(|member| member.name == name));
    match named.next() {
        Some(id) => promote(hub, id).await,
        None if ids_of(&membership, name).is_empty() => Err(unknown_member(hub, name)),
        None => Err(Refusal::Change { reason: already_voter(name) }),
    }
}

async fn remove(hub: &Hub<impl Runtime>, name: &str) -> Changed {
    settle(hub).await?;
    let membership = hub.membership();
    let ids = ids_of(&membership, name);
    if ids.is_empty() {
        return Err(unknown_member(hub, name));
    }
    let before: BTreeSet<u64> = membership.voter_ids().collect();
    let voters: BTreeSet<u64> = before.difference(&ids).copied().collect();
    if voters.is_empty() {
        return Err(Refusal::Change { reason: format!("{name} is the only voter") });
    }
    // A voter that is removed leaves the members by itself, at the end of the change.
    let (removed, learners): (BTreeSet<u64>, _) = ids.iter().partition(|id| before.contains(id));
    let is_of_voters = !removed.is_empty();
    let change = match (is_of_voters, learners) {
        (false, learners) => ChangeMembers::RemoveNodes(learners),
        (true, learners) if learners.is_empty() => ChangeMembers::RemoveVoters(removed),
        (true, learners) => ChangeMembers::Batch(vec![
            ChangeMembers::RemoveNodes(learners),
            ChangeMembers::RemoveVoters(removed),
        ]),
    };
    let voters = is_of_voters.then_some(voters);
    if ids.contains(&hub.id()) {
        // A leader does not remove itself: the next one does it, and leadership stays where it is
        // unless that one can.
        wait_for_answers(hub, &need(hub, voters.as_ref(), None)).await?;
        hand_over(hub, None).await?;
        return Err(hub.not_leader());
    }
    propose(hub, Proposal { change, voters, newcomer: None }).await?;
    for id in ids {
        tracing::warn!(name, id = %NodeId(id), "a member is removed");
        drop(retire(hub, id).await);
    }
    Ok(())
}
