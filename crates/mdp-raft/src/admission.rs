//! Whose calls are obeyed. Without keys a caller's id is what it says it is: so this keeps out those
//! that do not know a member's id, and what no honest member would send. That the sender is who it says
//! is what keys are for (docs/security.md).
//!
//! Consensus is obeyed from members. A node that slept through a change of members does not know the new
//! ones, and must not shut out a new leader: it asks those that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use mdp_catalog::{CatalogEntry, NodeName};
use tokio::sync::Semaphore;

use crate::{
    BoxFuture,
    calls::{Call, Refusal, Request},
    clock::{Instant, now},
    hub::{Hub, lock},
    peers::Target,
    runtime::Runtime,
    stored::VoteV1,
    types::Vote,
};

/// How many learners there may be: each costs the leader a stream of entries.
pub(crate) const LEARNERS_MAX: usize = 16;
/// How far a term may be above this node's. Terms rise by one with each election; a vote of a term near
/// the highest number would leave no term for any election after it.
const TERM_STEP_MAX: u64 = 1 << 32;
/// For how long it holds that a member knows an id.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);
/// For how long it holds that none does.
const UNKNOWN_FOR: Duration = Duration::from_millis(500);
/// Of how many ids it is remembered what the others say.
const IDS_MAX: usize = 64;
/// How often it is said that a node that is not known here leads, or wants to.
const COMPLAINS_EVERY: Duration = Duration::from_secs(10);
/// About how many ids others may be asked at once.
const QUESTIONS_MAX: usize = 4;
/// How long a question waits for its turn.
const QUESTION_TURN: Duration = Duration::from_millis(500);
/// The longest address of a node, in bytes: a name of 253 bytes (RFC 1035), scheme, zone and port.
const ENDPOINT_BYTES_MAX: usize = 300;

/// What this node knows of ids that are no members of its log.
#[derive(Debug)]
pub(crate) struct Acquaintances<R: Runtime> {
    ids: Mutex<BTreeMap<u64, Acquaintance<R>>>,
    questions: Semaphore,
    /// When it was last said that a node that is not known here leads, or wants to.
    complained: Mutex<Option<Instant<R>>>,
}

#[derive(Clone, Copy, Debug)]
struct Acquaintance<R: Runtime> {
    is_known: bool,
    until: Instant<R>,
}

impl<R: Runtime> Default for Acquaintances<R> {
    fn default() -> Self {
        let questions = Semaphore::new(QUESTIONS_MAX);
        Self { ids: Mutex::default(), questions, complained: Mutex::default() }
    }
}

impl<R: Runtime> Acquaintances<R> {
    /// Remembers what was found out about an id.
    pub(crate) fn remember(&self, id: u64, is_known: bool) {
        let now = now::<R>();
        let mut ids = lock(&self.ids);
        ids.retain(|_, known| known.until > now);
        if ids.len() >= IDS_MAX
            && let Some(first) = ids.iter().min_by_key(|(_, known)| known.until).map(|(id, _)| *id)
        {
            ids.remove(&first);
        }
        let until = now + if is_known { CONFIRMED_FOR } else { UNKNOWN_FOR };
        ids.insert(id, Acquaintance { is_known, until });
    }

    /// Whether it is to be said again that a node that is not known here leads, or wants to.
    fn may_complain(&self) -> bool {
        let now = now::<R>();
        let mut complained = lock(&self.complained);
        let is_due = complained.is_none_or(|at| now >= at + COMPLAINS_EVERY);
        if is_due {
            *complained = Some(now);
        }
        is_due
    }

    fn recall(&self, id: u64) -> Option<bool> {
        let now = now::<R>();
        lock(&self.ids).get(&id).filter(|known| known.until > now).map(|known| known.is_known)
    }
}

/// Whether this node does what the call asks for, as far as that depends on who calls.
pub(crate) async fn check(hub: &Hub<impl Runtime>, call: &Call) -> Result<(), Refusal> {
    let admitted = match &call.request {
        // Anyone may ask who this node is, and ask to become a member.
        Request::Hello { .. } | Request::Join { .. } => true,
        // The leader decides, who asks its own list of members again: that of another node may be old.
        Request::Propose { .. } | Request::ReadIndex { .. } => {
            !hub.is_leader() || is_member(hub, call.from)
        }
        // Anyone can become a learner.
        Request::Change(_) => is_voter(hub, call.from),
        Request::Append { vote, .. } | Request::Snapshot { vote, .. } => {
            votes_for_itself(hub, call.from, *vote) && is_acquainted(hub, call).await
        }
        Request::Vote(ballot) | Request::PreVote(ballot) => {
            votes_for_itself(hub, call.from, ballot.vote) && is_acquainted(hub, call).await
        }
        Request::TakeOver { leader, .. } => {
            votes_for_itself(hub, call.from, *leader) && is_acquainted(hub, call).await
        }
    };
    if admitted {
        return Ok(());
    }
    hub.state.refused_calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tracing::debug!(
        from = %mdp_catalog::NodeId(call.from),
        name = call.from_name,
        "a call of a node that may not ask for it is refused"
    );
    complain_if_cut_off(hub, call);
    if let Request::Change(_) = call.request
        && is_member(hub, call.from)
    {
        let reason =
            "it was asked for at a learner; ask a voter (majordomo member list)".to_owned();
        return Err(Refusal::Change { reason });
    }
    Err(Refusal::Unavailable)
}

/// A member that slept while all nodes that it knows were replaced obeys none of the new ones, and only a person
/// can tell whether these are its cluster.
fn complain_if_cut_off(hub: &Hub<impl Runtime>, call: &Call) {
    let is_cut_off = hub.is_initialised() && !hub.hears_leader();
    if is_cut_off && call.request.is_of_consensus() && hub.state.acquaintances.may_complain() {
        tracing::warn!(
            from = %mdp_catalog::NodeId(call.from),
            name = call.from_name,
            "no leader is known, and a node that is not known here leads or wants to: none of the members \
             and of cluster.peers says that it knows it. If it is of this cluster, name it in cluster.peers of \
             this node and start it again"
        );
    }
}

/// Whether an id is a voter: of a change that is not complete, before it or after it.
pub(crate) fn is_voter(hub: &Hub<impl Runtime>, id: u64) -> bool {
    hub.membership().voter_ids().any(|voter| voter == id)
}

fn is_member(hub: &Hub<impl Runtime>, id: u64) -> bool {
    hub.membership().get_node(&id).is_some()
}

/// A leader or candidate speaks for itself, of a term that elections can have led to.
fn votes_for_itself(hub: &Hub<impl Runtime>, from: u64, vote: VoteV1) -> bool {
    let vote = Vote::from(vote);
    // A newcomer has seen no election yet.
    let step = vote.leader_id.term.saturating_sub(hub.metrics().current_term);
    vote.leader_id.node_id == from && (step <= TERM_STEP_MAX || !hub.is_initialised())
}

/// Whether the caller is a voter as far as this node knows, or as others do. A learner leads no node, and
/// any program can become one.
async fn is_acquainted(hub: &Hub<impl Runtime>, call: &Call) -> bool {
    if is_voter(hub, call.from) {
        return true;
    }
    if let Some(is_known) = hub.state.acquaintances.recall(call.from) {
        return is_known;
    }
    let turn = hub.timeout(QUESTION_TURN, hub.state.acquaintances.questions.acquire()).await;
    // Beyond that the caller tries again.
    let Ok(Ok(_question)) = turn else { return false };
    if let Some(is_known) = hub.state.acquaintances.recall(call.from) {
        return is_known;
    }
    let is_known = does_anyone_know(hub, call).await;
    hub.state.acquaintances.remember(call.from, is_known);
    is_known
}

/// Asks all that this node trusts at once, and waits for the first that knows the caller: who is at the
/// addresses of its members, and of those that its configuration names. By address, not by id: while this
/// node slept, all of them may have lost their volumes and come back as other members.
async fn does_anyone_know(hub: &Hub<impl Runtime>, call: &Call) -> bool {
    let Some(cluster) = call.cluster else { return false };
    let membership = hub.membership();
    let others = membership.nodes().filter(|(id, _)| **id != hub.id());
    let members = others.map(|(id, member)| hub.peers.target(*id, member).endpoint);
    let seeds = hub.config.seeds.iter().filter(|seed| seed.name != *hub.name());
    let trusted: BTreeSet<String> =
        members.chain(seeds.map(|seed| seed.endpoint.clone())).collect();
    let trusted: Vec<Target> =
        trusted.into_iter().map(|endpoint| Target { id: None, endpoint }).collect();
    let about = (call.from, call.from_name.as_str());
    let mut questions: Vec<BoxFuture<'_, Result<(), ()>>> =
        vec![Box::pin(async { is_seed(hub, cluster, call).await.then_some(()).ok_or(()) })];
    for target in &trusted {
        let question = hub.peers.vouches(target, cluster, about);
        questions.push(Box::pin(async { question.await.then_some(()).ok_or(()) }));
    }
    futures_util::future::select_ok(questions).await.is_ok()
}

/// Whether the caller is who answers at the address of the seed whose name it has, in the same cluster.
async fn is_seed(hub: &Hub<impl Runtime>, cluster: u128, call: &Call) -> bool {
    let seed = hub.config.seeds.iter().find(|seed| seed.name.as_str() == call.from_name);
    let Some(seed) = seed.filter(|seed| seed.name != *hub.name()) else { return false };
    let target = Target { id: None, endpoint: seed.endpoint.clone() };
    let hello = Request::Hello { seeds: hub.seed_list() };
    hub.peers.says_it_is(&target, cluster, hello, call.from).await
}

/// Whether a member may propose this: something about itself. About others the leader decides.
pub(crate) fn may_propose(hub: &Hub<impl Runtime>, from: u64, entry: &CatalogEntry) -> bool {
    let membership = hub.membership();
    let Some(member) = membership.get_node(&from) else { return false };
    let is_own = |name: &NodeName| name.as_str() == member.name;
    match entry {
        CatalogEntry::NodeUp(up) => {
            let endpoints = [&up.endpoints.cluster, &up.endpoints.relay];
            up.node_id.0 == from && is_own(&up.node) && endpoints.iter().all(|it| is_endpoint(it))
        }
        CatalogEntry::Offer { incarnation, .. }
        | CatalogEntry::Withdraw { incarnation, .. }
        | CatalogEntry::NodeDraining { incarnation, .. }
        | CatalogEntry::NodeGone { incarnation } => is_own(&incarnation.node),
        CatalogEntry::SetClusterVersion { .. }
        | CatalogEntry::Retire { .. }
        | CatalogEntry::Hold { .. }
        | CatalogEntry::Mark { .. } => false,
    }
}

/// Whether this can be the address of a node: what is dialled, and stands in log lines and on pages.
pub(crate) fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) =
        text.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'))
    else {
        return false;
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    text.len() <= ENDPOINT_BYTES_MAX && is_port && is_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes_can_be_dialled_and_logged() {
        for right in ["tcp://h:1", "tcp://[::1]:5556", "tcp://[fe80::1%eth0]:65535", "tcp://a.b:1"]
        {
            assert!(is_endpoint(right), "{right}");
        }
        let long = format!("tcp://{}:1", "x".repeat(ENDPOINT_BYTES_MAX));
        for wrong in [
            "",
            "h:1",
            "tcp://h",
            "tcp://:1",
            "tcp://h:0",
            "tcp://h:x",
            "tcp://h\n:1",
            "tcp://\u{1b}[2J:1",
            &long,
        ] {
            assert!(!is_endpoint(wrong), "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_node_is_cut_off_is_said_every_ten_seconds_at_most() {
        let acquaintances = Acquaintances::<crate::Tokio>::default();
        assert!(acquaintances.may_complain());
        tokio::time::advance(COMPLAINS_EVERY / 2).await;
        assert!(!acquaintances.may_complain());
        tokio::time::advance(COMPLAINS_EVERY / 2).await;
        assert!(acquaintances.may_complain() && !acquaintances.may_complain());
    }

    #[test]
    fn what_was_found_out_of_an_id_is_remembered_of_a_few() {
        let acquaintances = Acquaintances::<crate::Tokio>::default();
        acquaintances.remember(1, false);
        for id in 2..2 + u64::try_from(IDS_MAX).unwrap() {
            acquaintances.remember(id, true);
        }

        assert_eq!(acquaintances.recall(1), None);
        assert_eq!(acquaintances.recall(2), Some(true));
        assert_eq!(lock(&acquaintances.ids).len(), IDS_MAX);
    }
}
