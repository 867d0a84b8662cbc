//! Whose calls are obeyed. Without keys a caller's id is what it says it is: so this keeps out those
//! that do not know a member's id, and what no honest member would send. That the sender is who it says
//! is what keys are for (docs/security.md).
//!
//! Consensus is obeyed from members. A node that slept through a change of members does not know the new
//! ones, and must not shut out a new leader: it asks those that it knows.

use std::sync::atomic::{AtomicU64, Ordering};

use mdp_catalog::{CatalogEntry, NodeName};
use mdp_rate_limiter::event;

use crate::{
    acquaintances::is_acquainted,
    calls::{Call, Refusal, Request},
    hub::Hub,
    incoming,
    lines::Line,
    membership,
    runtime::Runtime,
    stored::VoteV1,
    types::Vote,
};

/// How far a term may be above this node's. Terms rise by one with each election; a vote of a term near
/// the highest number would leave no term for any election after it.
const TERM_STEP_MAX: u64 = 1 << 32;
/// The longest address of a node, in bytes: a name of 253 bytes (RFC 1035), scheme, zone and port.
const ENDPOINT_BYTES_MAX: usize = 300;

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
    /// The caller has shown the key of another node than it says it is.
    OtherKey,
}

impl Misfit {
    const ALL: [Self; 5] =
        [Self::NoMember, Self::NoVoter, Self::ForeignVote, Self::Unknown, Self::OtherKey];

    /// A word for metrics and log lines.
    const fn label(self) -> &'static str {
        match self {
            Self::NoMember => "no_member",
            Self::NoVoter => "no_voter",
            Self::ForeignVote => "foreign_vote",
            Self::Unknown => "unknown_sender",
            Self::OtherKey => "other_key",
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

/// What helps a node that no longer knows its cluster.
pub(crate) const LOST_REMEDY: &str = "if the other members were replaced while this node was down, name a \
     node that is a member now in cluster.peers of this node, and restart it";

/// Whether this node may no longer know its cluster: it was a member, and hears no leader.
fn is_lost(hub: &Hub<impl Runtime>) -> bool {
    hub.is_initialised() && !hub.hears_leader()
}

/// Whether this node does what the call asks for, as far as that depends on who calls. The caller is the node
/// whose key it has shown, if it has.
pub(crate) async fn check(
    hub: &Hub<impl Runtime>,
    caller: Option<&NodeName>,
    call: &Call,
) -> Result<(), Refusal> {
    if let Some(caller) = caller.filter(|caller| !speaks_for_itself(hub, caller, call)) {
        // Who asks this was led to by another call, and is not the one to look at.
        if incoming::is_about_sender(&call.request) {
            return Err(Refusal::Unavailable);
        }
        hub.state.refused_calls.count(Misfit::OtherKey);
        event!(
            hub.state.lines.admit(Line::OtherKey),
            warn,
            %caller,
            from = %mdp_catalog::NodeId(call.from),
            name = call.from_name,
            "a node calls in the name of another one, and is refused: its key may be stolen"
        );
        return Err(Refusal::Unavailable);
    }
    let Err(why) = admit(hub, call).await else { return Ok(()) };
    hub.state.refused_calls.count(why);
    tracing::debug!(
        from = %mdp_catalog::NodeId(call.from),
        name = call.from_name,
        why = why.label(),
        "a call of a node that may not ask for it is refused"
    );
    if why == Misfit::Unknown && is_lost(hub) {
        hub.on_unknown_leader();
        event!(
            hub.state.lines.admit(Line::Unknown),
            warn,
            from = %mdp_catalog::NodeId(call.from),
            name = call.from_name,
            "a node that this one does not know wants to lead it, no known node answers for that \
             one, and no leader is heard; {LOST_REMEDY}"
        );
    }
    if let Request::Change(_) = call.request
        && is_member(hub, call.from)
    {
        let reason =
            "it was asked for at a learner; ask a voter (majordomo member list)".to_owned();
        return Err(Refusal::Change { reason });
    }
    Err(Refusal::Unavailable)
}

/// Whether the node with this key may say what it says in the call's name: that is its own, but for two calls. A
/// voter passes on that a newcomer wants to join, and could add it anyway; and what is asked about a voter, which
/// is asked in its name, changes nothing.
fn speaks_for_itself(hub: &Hub<impl Runtime>, caller: &NodeName, call: &Call) -> bool {
    let membership = hub.membership();
    let is_caller = |name: &str| name == caller.as_str();
    let is_voters = || {
        let mut voters = membership.voter_ids().filter_map(|id| membership.get_node(&id));
        voters.any(|voter| is_caller(&voter.name))
    };
    let may_name = is_caller(&call.from_name)
        || incoming::is_about_sender(&call.request)
        || (matches!(call.request, Request::Join { .. }) && is_voters());
    // A member's id is under the name of that member alone.
    may_name && membership.get_node(&call.from).is_none_or(|member| member.name == call.from_name)
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

/// Whether a member may propose this: something about itself. About others the leader decides.
pub(crate) fn may_propose(hub: &Hub<impl Runtime>, from: u64, entry: &CatalogEntry) -> bool {
    let membership = hub.membership();
    let Some(member) = membership.get_node(&from) else { return false };
    let is_own = |name: &NodeName| name.as_str() == member.name;
    // It follows the log that it proposes to: a record says that a node took part.
    if !is_voter(hub, from) && !membership::has_ever_answered(hub, from) {
        return false;
    }
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

        let expected = [
            ("no_member", 0),
            ("no_voter", 0),
            ("foreign_vote", 2),
            ("unknown_sender", 1),
            ("other_key", 0),
        ];
        assert_eq!(refused.by_reason(), expected);
    }
}
