//! From an empty data directory to membership: the first seed forms the cluster, all other
//! nodes join it. Nothing here ever times out: a node that can not go on says why, and waits.
//!
//! Only the first seed forms a cluster, with all seeds as voters, and only when every other seed
//! answers that it belongs to none: a node that lost its volume must not form a second cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mdp_rate_limiter::event;
use openraft::errors::RaftError;

use crate::{
    Lane, NotReady, Seed, Stop,
    calls::{Hello, Refusal, Reply, Request},
    hub::{Hub, Leader},
    lines::Line,
    membership,
    network::leader_hint,
    peers::{CallFailure, Target},
    runtime::Runtime,
    types::Member,
    upgrade,
};

/// How long a seed may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the leader may take to make a member.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the leader may take to answer a member that passes a newcomer's question on: shorter than
/// the newcomer waits for the member.
const PASS_ON_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a node that was accepted waits for the log that says so.
const MEMBERSHIP_WAIT: Duration = Duration::from_secs(3);
/// How long a member may hear no leader before it asks the others whether it was removed.
const LEADERLESS_MAX: Duration = Duration::from_secs(2);

/// A seed and what it says, if it says anything.
struct Heard<'a> {
    seed: &'a Seed,
    hello: Result<Hello, CallFailure>,
}

/// Runs until this node is a member; then goes on to ask for a leader whenever there is none.
pub(crate) async fn run<R: Runtime>(hub: Arc<Hub<R>>) {
    while !hub.is_member() {
        if !step(&hub).await {
            hub.sleep(PAUSE).await;
        }
    }
    hub.wait_for(None);
    stay(&hub).await;
}

/// A member that hears no leader asks around: it may have been removed, or not be who it thinks.
async fn stay(hub: &Hub<impl Runtime>) {
    loop {
        tell_address(hub).await;
        hub.sleep(LEADERLESS_MAX).await;
        if hub.leaderless_for() <= LEADERLESS_MAX && hub.is_member() {
            continue;
        }
        if let Some(stop) = ask_around(hub).await {
            return hub.stop(stop).await;
        }
        join_again(hub).await;
    }
}

/// A node is a member from the moment that its log says so, but the entry may be lost with the leader
/// that wrote it: the next one knows nothing of this node. One that is a member is told so.
async fn join_again(hub: &Hub<impl Runtime>) {
    let membership = hub.membership();
    for (id, member) in membership.nodes().filter(|(id, _)| **id != hub.id()) {
        match ask_to_join(hub, hub.peers.target(*id, member)).await {
            Ok(()) => return,
            Err(JoinFailure { endpoint, failure }) => {
                tracing::debug!(%member, endpoint, %failure, "still without a leader");
            }
        }
    }
}

/// Tells the leader where this node is now, if its log says otherwise.
async fn tell_address(hub: &Hub<impl Runtime>) {
    let membership = hub.membership();
    let endpoint = hub.config.endpoints.cluster.clone();
    let is_known = membership.get_node(&hub.id()).is_none_or(|own| own.endpoint == endpoint);
    if is_known {
        return;
    }
    match hub.leader() {
        Some(Leader::Other { target, .. }) => {
            let request = Request::Join { endpoint, version: upgrade::own(hub) };
            drop(hub.peers.call(&target, Lane::Control, request, JOIN_TIMEOUT).await);
        }
        Some(Leader::Me) => {
            let version = upgrade::own(hub);
            let name = hub.name().as_str();
            drop(membership::join(hub, hub.id(), name, &endpoint, version).await);
        }
        None => {}
    }
}

/// Why this node can not go on, if the others say so.
async fn ask_around(hub: &Hub<impl Runtime>) -> Option<Stop> {
    let (mut foreign, mut knows_us) = (None, false);
    for (id, member) in hub.membership().nodes() {
        match hello(hub, &hub.peers.target(*id, member)).await {
            // The node that is called at this node's address is this node, or has a copy of its data.
            Ok(hello) if hello.id == hub.id() && hello.process != hub.process => {
                return Some(Stop::Superseded { name: hub.name().as_str().to_owned() });
            }
            Ok(_) => knows_us |= *id != hub.id(),
            Err(CallFailure::Foreign(theirs)) => foreign = Some(theirs),
            // One that was removed is told so, and stopped, where the answer is read.
            Err(CallFailure::Refused(_)) => knows_us = true,
            Err(CallFailure::Transport(_) | CallFailure::Malformed(_)) => {}
        }
    }
    let ours = hub.identity.identity().cluster_id.filter(|_| !knows_us)?;
    let theirs = format!("{:032x}", foreign?);
    Some(Stop::ForeignCluster { ours: format!("{ours:032x}"), theirs })
}

/// One attempt. Returns whether to go on at once.
async fn step(hub: &Hub<impl Runtime>) -> bool {
    let heard = ask_seeds(hub).await;
    if let Some(difference) = difference(hub, &heard).or_else(|| other_formats(hub, &heard)) {
        hub.wait_for(Some(difference));
        return false;
    }
    let members: Vec<&Heard<'_>> = heard.iter().filter(|heard| heard.is_initialised()).collect();
    if !members.is_empty() {
        let targets = members.into_iter().map(|member| Target::seed(member.seed));
        return join(hub, targets).await;
    }
    let is_first = hub.config.seeds.first().is_some_and(|seed| seed.name == *hub.name());
    let unheard: Vec<_> = heard
        .iter()
        .filter(|heard| heard.hello.is_err())
        .map(|heard| heard.seed.name.as_str())
        .collect();
    if is_first && unheard.is_empty() {
        return form(hub, &heard).await;
    }
    hub.wait_for(Some(NotReady {
        code: "waiting_for_seeds",
        text: waiting_text(hub, is_first, &unheard),
    }));
    false
}

fn waiting_text(hub: &Hub<impl Runtime>, is_first: bool, unheard: &[&str]) -> String {
    let first = hub.config.seeds.first().map_or("", |seed| seed.name.as_str());
    if is_first {
        let unheard = unheard.join(", ");
        format!("the cluster is formed once all seeds are there; not heard yet: {unheard}")
    } else if unheard.contains(&first) {
        format!("the first seed, {first}, forms the cluster; it is not heard yet")
    } else {
        format!("the first seed, {first}, forms the cluster once it hears all seeds")
    }
}

impl Heard<'_> {
    fn is_initialised(&self) -> bool {
        self.hello.as_ref().is_ok_and(|hello| hello.is_initialised)
    }
}

/// Asks every other seed who it is.
async fn ask_seeds(hub: &Hub<impl Runtime>) -> Vec<Heard<'_>> {
    let others = hub.config.seeds.iter().filter(|seed| seed.name != *hub.name());
    let asked = others.map(|seed| async move {
        let target = Target::seed(seed);
        Heard { seed, hello: hello(hub, &target).await }
    });
    futures_util::future::join_all(asked).await
}

pub(crate) async fn hello(hub: &Hub<impl Runtime>, target: &Target) -> Result<Hello, CallFailure> {
    let request = Request::Hello { seeds: hub.seed_list() };
    let reply = hub.peers.call(target, Lane::Control, request, HELLO_TIMEOUT).await?;
    if let Reply::Hello(hello) = reply {
        return Ok(hello);
    }
    Err(CallFailure::Malformed(format!("no hello: {reply:?}")))
}

/// What is wrong with the list of seeds, if anything is.
fn difference(hub: &Hub<impl Runtime>, heard: &[Heard<'_>]) -> Option<NotReady> {
    let ours = hub.seed_list();
    let is_seed = hub.config.seeds.iter().any(|seed| seed.name == *hub.name());
    let answers = heard.iter().filter_map(|heard| Some((heard.seed, heard.hello.as_ref().ok()?)));
    for (seed, hello) in answers {
        let text = if hello.name != seed.name.as_str() {
            format!(
                "cluster.peers names {} at {}, but the node there is {}",
                seed.name, seed.endpoint, hello.name
            )
        } else if hello.seeds != ours {
            let list = |seeds: &[(String, String)]| {
                let names = seeds.iter().map(|(name, endpoint)| format!("{name}={endpoint}"));
                names.collect::<Vec<_>>().join(",")
            };
            let (ours, theirs) = (list(&ours), list(&hello.seeds));
            format!(
                "cluster.peers is \"{ours}\" here and \"{theirs}\" on {}; it must be the same on all nodes",
                hello.name
            )
        } else if is_seed && hello.id == hub.id() {
            format!("{} has this node's id; its data directory is a copy of this one", hello.name)
        } else {
            continue;
        };
        return Some(NotReady { code: "seeds_differ", text });
    }
    None
}

/// A seed with which this node has no format in common.
fn other_formats(hub: &Hub<impl Runtime>, heard: &[Heard<'_>]) -> Option<NotReady> {
    let refused = heard.iter().find_map(|heard| match &heard.hello {
        Err(CallFailure::Refused(Refusal::Format { min, max })) => Some((heard.seed, min, max)),
        Ok(_) | Err(_) => None,
    });
    let (seed, min, max) = refused?;
    let own = hub.peers.formats().own();
    let text = format!(
        "{} speaks the formats {min} to {max} of calls between nodes, and this node {own}: their \
         versions are too far apart; upgrade by one minor version at a time",
        seed.name
    );
    Some(NotReady { code: "wire_format", text })
}

/// Forms the cluster with all seeds as voters.
async fn form(hub: &Hub<impl Runtime>, heard: &[Heard<'_>]) -> bool {
    let mut members = BTreeMap::new();
    let member = |name: &str, endpoint: &str| Member {
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
    };
    let own = hub.config.endpoints.cluster.as_str();
    members.insert(hub.id(), member(hub.name().as_str(), own));
    for Heard { seed, hello } in heard {
        let Ok(hello) = hello else { return false };
        members.insert(hello.id, member(seed.name.as_str(), &seed.endpoint));
    }
    if members.len() != heard.len() + 1 {
        let text = "two seeds have the same id; one data directory is a copy of another".to_owned();
        hub.wait_for(Some(NotReady { code: "seeds_differ", text }));
        return false;
    }
    let id = match hub.identity.identity().cluster_id {
        Some(id) => id,
        None => match hub.random_bytes().map(u128::from_le_bytes) {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%error, "no random bytes for the cluster's id");
                return false;
            }
        },
    };
    if let Err(error) = hub.identity.set_cluster_id(id).await {
        let reason = format!("the cluster's id can not be stored: {error}");
        hub.stop(Stop::Storage { reason }).await;
        return false;
    }
    let names: BTreeSet<_> = members.values().map(|member| member.name.clone()).collect();
    tracing::info!(cluster_id = format!("{id:032x}"), ?names, "forming the cluster");
    match hub.raft.initialize(members).await {
        Ok(()) => wait_for_membership(hub).await,
        Err(RaftError::APIError(error)) => {
            tracing::warn!(%error, "the cluster is formed already");
            false
        }
        Err(RaftError::Fatal(_)) => false,
    }
}

/// Who did not make this node a member, and why.
#[derive(Debug)]
struct JoinFailure {
    endpoint: String,
    failure: CallFailure,
}

impl JoinFailure {
    /// Whether another member may bring more: it may know the leader, or reach it where this node cannot.
    const fn may_pass_elsewhere(&self) -> bool {
        match &self.failure {
            CallFailure::Transport(_)
            | CallFailure::Malformed(_)
            | CallFailure::Refused(Refusal::NotLeader { .. }) => true,
            CallFailure::Refused(_) | CallFailure::Foreign(_) => false,
        }
    }
}

/// Asks one member after the other to make this node one, and waits until this node's log says so.
async fn join(hub: &Hub<impl Runtime>, members: impl Iterator<Item = Target>) -> bool {
    let mut last = None;
    for target in members {
        let Err(failed) = ask_to_join(hub, target).await else {
            let text = "accepted; the leader sends what this node missed".to_owned();
            hub.wait_for(Some(NotReady { code: "not_joined", text }));
            return wait_for_membership(hub).await;
        };
        if let CallFailure::Refused(Refusal::Version { reason }) = &failed.failure {
            hub.stop(Stop::Version { reason: reason.clone() }).await;
        }
        let may_pass_elsewhere = failed.may_pass_elsewhere();
        last = Some(failed);
        if !may_pass_elsewhere {
            break;
        }
    }
    hub.wait_for(last.map(|failed| join_failed(hub, &failed)));
    false
}

/// Asks a member, which passes it on to the leader, and then the leader that it names, to make this node
/// a member: a member of 0.1.0 passes nothing on, and one that cannot reach the leader neither.
async fn ask_to_join(hub: &Hub<impl Runtime>, mut target: Target) -> Result<(), JoinFailure> {
    let mut leaders_max = 2;
    loop {
        let endpoint = hub.config.endpoints.cluster.clone();
        let request = Request::Join { endpoint, version: upgrade::own(hub) };
        let failure = match hub.peers.call(&target, Lane::Control, request, JOIN_TIMEOUT).await {
            Ok(Reply::Joined) => return Ok(()),
            Ok(reply) => CallFailure::Malformed(format!("no answer to a join: {reply:?}")),
            Err(failure) => failure,
        };
        let Some((id, member)) = leader_hint(&failure).filter(|_| leaders_max > 0) else {
            return Err(JoinFailure { endpoint: target.endpoint, failure });
        };
        leaders_max -= 1;
        target = hub.peers.target(id, &member);
    }
}

/// Who asks to become a member.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) version: (u16, u16, u16),
}

/// Asks the leader in the newcomer's name: what the newcomer would ask itself, if it could reach the leader.
/// The leader cannot tell the two apart, so that one of 0.1.0 answers, too.
pub(crate) async fn pass_on(hub: &Hub<impl Runtime>, newcomer: Newcomer) -> Result<Reply, Refusal> {
    let Some(Leader::Other { target, .. }) = hub.leader() else { return Err(hub.not_leader()) };
    // Where nodes have keys, a leader lets voters alone speak for a newcomer, which asks it itself then.
    if !crate::admission::is_voter(hub, hub.id()) {
        return Err(hub.not_leader());
    }
    let Newcomer { id, name, endpoint, version } = newcomer;
    let request = Request::Join { endpoint, version };
    match hub.peers.call_for((id, name.clone()), &target, request, PASS_ON_TIMEOUT).await {
        Ok(Reply::Joined) => {
            let (admission, leader) = (hub.state.lines.admit(Line::PassedOn), &target.endpoint);
            event!(admission, info, name, leader, "passed on that a node wants to join");
            Ok(Reply::Joined)
        }
        // About this node and the leader, and not about the newcomer.
        Err(CallFailure::Refused(Refusal::NotTarget | Refusal::Format { .. })) => {
            Err(hub.not_leader())
        }
        Err(CallFailure::Refused(refusal)) => Err(refusal),
        Ok(_)
        | Err(CallFailure::Transport(_) | CallFailure::Foreign(_) | CallFailure::Malformed(_)) => {
            Err(hub.not_leader())
        }
    }
}

/// Waits until this node's log says that it is a member.
async fn wait_for_membership(hub: &Hub<impl Runtime>) -> bool {
    let me = hub.id();
    let is_member = hub.until(|now| now.membership_config.membership().get_node(&me).is_some());
    hub.timeout(MEMBERSHIP_WAIT, is_member).await.is_ok()
}

fn join_failed(hub: &Hub<impl Runtime>, failed: &JoinFailure) -> NotReady {
    let JoinFailure { endpoint, failure } = failed;
    if let CallFailure::Foreign(_) = failure {
        return foreign_cluster();
    }
    let CallFailure::Refused(refusal) = failure else {
        return NotReady { code: "not_joined", text: not_asked(endpoint, failure) };
    };
    match refusal {
        Refusal::NameInUse => NotReady {
            code: "name_in_use",
            text: format!(
                "a living member has the name {:?}; choose another node.name, or stop that one: \
                 after cluster.node_timeout this node takes its place",
                hub.name().as_str()
            ),
        },
        Refusal::ForeignCluster => NotReady {
            code: "foreign_cluster",
            text:
                "the seeds belong to another cluster than node.data_dir; move the directory away \
                   to join theirs"
                    .to_owned(),
        },
        Refusal::NotLeader { .. } | Refusal::Unavailable => {
            NotReady { code: "no_leader", text: "the cluster has no leader now".to_owned() }
        }
        Refusal::Format { .. }
        | Refusal::NotTarget
        | Refusal::Removed
        | Refusal::Version { .. }
        | Refusal::Change { .. }
        | Refusal::UnknownMember { .. } => {
            NotReady { code: "not_joined", text: format!("the leader refused: {refusal:?}") }
        }
    }
}

/// The leader could not be asked, and no member passed the question on.
fn not_asked(endpoint: &str, failure: &CallFailure) -> String {
    format!(
        "the leader at {endpoint} could not be asked to make this node a member: {failure}; no member \
         that could be asked passed it on"
    )
}

fn foreign_cluster() -> NotReady {
    let text = "the seeds belong to another cluster than node.data_dir; move the directory away to \
                join theirs";
    NotReady { code: "foreign_cluster", text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallError;

    #[test]
    fn failed_join_names_the_address_and_the_reason() {
        for (error, reason) in [
            (CallError::NoAddress, "its name has no address"),
            (CallError::Refused, "connection refused"),
            (CallError::Timeout, "no answer in time"),
        ] {
            let text = not_asked("tcp://node-2:5556", &CallFailure::Transport(error));
            let wanted = format!(
                "the leader at tcp://node-2:5556 could not be asked to make this node a member: {reason}; "
            );
            assert!(text.starts_with(&wanted), "{text}");
        }
    }
}
