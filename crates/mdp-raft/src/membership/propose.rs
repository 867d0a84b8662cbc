//! One change of members from the question whether it can be made until it is committed, and what
//! becomes of one that an earlier leader left half done.

use std::{collections::BTreeSet, time::Duration};

use mdp_catalog::NodeId;
use mdp_mutants::{Mutant, is_on};
use openraft::{
    ChangeMembers,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};

use super::{
    Changed,
    progress::{self, is_committed, is_joint, is_settled},
    quorum::{Need, wait_for_answers},
    retire,
};
use crate::{
    calls::{CHANGE_IN_PROGRESS, OUTCOME_UNKNOWN, Refusal},
    hub::Hub,
    runtime::Runtime,
    types::Member,
};

/// How long a change may take until it is committed.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a change waits for an earlier one to be finished.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A change, and what it depends on.
#[derive(Debug)]
pub(super) struct Proposal {
    /// What is changed.
    pub(super) change: ChangeMembers<u64, Member>,
    /// The voters after it; `None`: they stay.
    pub(super) voters: Option<BTreeSet<u64>>,
    /// A member that becomes a voter.
    pub(super) newcomer: Option<u64>,
}

impl Proposal {
    /// A change of members that are no voters.
    pub(super) const fn of_learners(change: ChangeMembers<u64, Member>) -> Self {
        Self { change, voters: None, newcomer: None }
    }

    /// Whose answers it needs: of the voters now and of those to come.
    pub(super) fn need(&self, hub: &Hub<impl Runtime>) -> Need {
        need(hub, self.voters.as_ref(), self.newcomer)
    }
}

/// Whose answers a change to these voters needs.
pub(super) fn need(
    hub: &Hub<impl Runtime>,
    voters: Option<&BTreeSet<u64>>,
    newcomer: Option<u64>,
) -> Need {
    let mut majorities = hub.membership().get_joint_config().clone();
    majorities.extend(voters.cloned());
    Need { majorities, one: newcomer }
}

/// Makes a change of members and waits until it is committed. The caller holds `hub.state.changing`.
pub(super) async fn propose(hub: &Hub<impl Runtime>, proposal: Proposal) -> Changed {
    wait_for_answers(hub, &proposal.need(hub)).await?;
    let before = *hub.metrics().membership_config.log_id();
    let change = hub.raft.change_membership(proposal.change, false);
    match hub.timeout(CHANGE_TIMEOUT, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(error))) => match error {
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                Err(in_progress(hub))
            }
            ClientWriteError::ChangeMembershipError(error) => {
                let reason = format!("the members can not be changed in this way: {error}");
                Err(Refusal::Change { reason })
            }
            // Another node leads, or this one hands over: nothing was begun, unless the log says so.
            ClientWriteError::ForwardToLeader(_)
            | ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::PreconditionFailed(_) => {
                let is_untouched = *hub.metrics().membership_config.log_id() == before;
                Err(if is_untouched { hub.not_leader() } else { unknown("another node leads now") })
            }
        },
        Ok(Err(RaftError::Fatal(_))) => Err(unknown("the leader ends")),
        Err(_) => {
            Err(unknown(&format!("it is not committed after {} s", CHANGE_TIMEOUT.as_secs())))
        }
    }
}

fn unknown(what: &str) -> Refusal {
    Refusal::Change { reason: format!("{OUTCOME_UNKNOWN}the change was begun, and {what}") }
}

fn in_progress(hub: &Hub<impl Runtime>) -> Refusal {
    let change = progress::change(hub, &hub.metrics());
    let change = change.map(|change| format!(": {change}")).unwrap_or_default();
    let reason = format!(
        "{CHANGE_IN_PROGRESS}{change}; the leader finishes it once enough voters answer; see \
         `majordomo member list`"
    );
    Refusal::Change { reason }
}

/// Finishes an earlier change, if one is in progress, or says that it can not be finished yet.
pub(super) async fn settle(hub: &Hub<impl Runtime>) -> Changed {
    if is_settled(&hub.metrics()) {
        return Ok(());
    }
    drop(hub.timeout(SETTLE_TIMEOUT, hub.until(is_committed)).await);
    complete(hub).await;
    if is_settled(&hub.metrics()) { Ok(()) } else { Err(in_progress(hub)) }
}

/// Finishes a change of which the first step is committed: the second was lost with the leader that
/// made it, or with the future that waited for it. It asks for no more voters than are needed already.
pub(super) async fn complete(hub: &Hub<impl Runtime>) {
    let metrics = hub.metrics();
    let is_half_done = is_committed(&metrics) && is_joint(&metrics);
    if !is_half_done || !hub.is_leader() || hub.is_alone() || is_on(Mutant::JointLeftStanding) {
        return;
    }
    let before = metrics.membership_config.membership();
    let voters = before.get_joint_config().last().cloned().unwrap_or_default();
    tracing::warn!(
        change = progress::change(hub, &metrics).map(|change| change.to_string()),
        "a change of members that was left half done is finished"
    );
    // No voter more, and the configuration before is left behind.
    let finish = hub.raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false);
    match hub.timeout(CHANGE_TIMEOUT, finish).await {
        Ok(Ok(_)) => {
            let removed = before.voter_ids().filter(|id| !voters.contains(id));
            for id in removed.collect::<BTreeSet<_>>() {
                tracing::info!(id = %NodeId(id), "the member is removed");
                drop(retire(hub, id).await);
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "the change can not be finished now"),
        Err(_) => tracing::debug!("the change is not finished yet"),
    }
}
