//! Whose calls are obeyed. Without keys a caller's id is what it says it is: so this keeps out those
//! that do not know a member's id, and what no honest member would send. That the sender is who it says
//! is what keys are for (docs/security.md).
//!
//! Consensus is obeyed from members. A node that slept through a change of members does not know the new
//! ones, and must not shut out a new leader: it asks those that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
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
}

#[derive(Clone, Copy, Debug)]
struct Acquaintance<R: Runtime> {
    is_known: bool,
    until: Instant<R>,
}

impl<R: Runtime> Default for Acquaintances<R> {
    fn default() -> Self {
        Self { ids: Mutex::default(), questions: Semaphore::new(QUESTIONS_MAX) }
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

    fn recall(&self, id: u64) -> Option<bool> {
        let now = now::<R>();
        lock(&self.ids).get(&id).filter(|known| known.until > now).map(|known| known.is_known)
    }
}

/// Why a call of a node is refused that may not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    /// The leader does this for members.
    NoMember,
    /// Voters ask for this.
    NoVoter,
    /// A vote that is not the caller's own, or of a term that no election led to.
    ForeignVote,
    /// The caller would lead this node, and no node that this one trusts has it as a voter.
    Unknown,
}

impl Misfit {
    const ALL: [Self; 4] = [Self::NoMember, Self::NoVoter, Self::ForeignVote, Self::Unknown];

    /// A word for metrics and log lines.
    const fn label(self) -> &'static str {
        match self {
            Self::NoMember => "no_member",
            Self::NoVoter => "no_voter",
            Self::ForeignVote => "foreign_vote",
            Self::Unknown => "unknown_sender",
        }
    }
}

/// How many calls were refused because of who called, by reason.
#[derive(Debug, Default)]
pub(crate) struct RefusedCalls([AtomicU64; Misfit::ALL.len()]);

impl RefusedCalls {
    fn count(&self, why: Misfit) {
        for (counter, _) in self.0.iter().zip(Misfit::ALL).filter(|(_, of)| *of == why) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All reasons, also those that were none yet.
    pub(crate) fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        Misfit::ALL.iter().map(|why| why.label()).zip(counts).collect()
    }
}

/// Whether this node does what the call asks for, as far as that depends on who calls.
pub(crate) async fn check(hub: &Hub<impl Runtime>, call: &Call) -> Result<(), Refusal> {
    let Err(why) = admit(hub, call).await else { return Ok(()) };
    hub.state.refused_calls.count(why);
    tracing::debug!(
        from = %mdp_catalog::NodeId(call.from),
        name = call.from_name,
        why = why.label(),
        "a call of a node that may not ask for it is refused"
    );
    if let Request::Change(_) = call.request
        && is_member(hub, call.from)
    {
        let reason =
            "it was asked for at a learner; ask a voter (majordomo member list)".to_owned();
        return Err(Refusal::Change { reason });
    }
    Err(Refusal::Unavailable)
}

async fn admit(hub: &Hub<impl Runtime>, call: &Call) -> Result<(), Misfit> {
    let vote = match &call.request {
        // Any node may ask who this node is, and ask to become a member.
        Request::Hello { .. } | Request::Join { .. } => return Ok(()),
        // The leader decides, which looks at its own list of members again: that of another node may be old.
        Request::Propose { .. } | Request::ReadIndex { .. } => {
            let is_refused = hub.is_leader() && !is_member(hub, call.from);
            return if is_refused { Err(Misfit::NoMember) } else { Ok(()) };
        }
        // Any node can become a learner.
        Request::Change(_) => {
            return if is_voter(hub, call.from) { Ok(()) } else { Err(Misfit::NoVoter) };
        }
        Request::Append { vote, .. } | Request::Snapshot { vote, .. } => *vote,
        Request::Vote(ballot) | Request::PreVote(ballot) => ballot.vote,
        Request::TakeOver { leader, .. } => *leader,
    };
    if !votes_for_itself(hub, call.from, vote) {
        return Err(Misfit::ForeignVote);
    }
    if is_acquainted(hub, call).await { Ok(()) } else { Err(Misfit::Unknown) }
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

/// Whether the caller is a voter as far as this node knows, or as others do. Learners lead nobody, and anyone
/// can become one.
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

    #[test]
    fn refused_calls_are_counted_by_reason_and_none_is_left_out() {
        let refused = RefusedCalls::default();
        refused.count(Misfit::ForeignVote);
        refused.count(Misfit::ForeignVote);
        refused.count(Misfit::Unknown);

        let expected =
            [("no_member", 0), ("no_voter", 0), ("foreign_vote", 2), ("unknown_sender", 1)];
        assert_eq!(refused.by_reason(), expected);
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
