//! Handing leadership over.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ids_of,
    quorum::{Need, has_answered_within, wait_for_answers},
    unknown_member,
};
use crate::{
    calls::Refusal,
    hub::{Hub, Leader},
    runtime::Runtime,
    types::Membership,
};

/// How long a new leader may take to be known.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// Hands over to this member, or to the one that has most of the log. Returns the new leader's name.
pub(super) async fn hand_over(
    hub: &Hub<impl Runtime>,
    to: Option<&str>,
) -> Result<String, Refusal> {
    let membership = hub.membership();
    let me = hub.id();
    let to = match to {
        Some(name) => {
            let ids = ids_of(&membership, name);
            // One that lost its volume may have a learner of its name beside it.
            let voter = membership.voter_ids().find(|id| ids.contains(id));
            voter.or_else(|| ids.first().copied()).ok_or_else(|| unknown_member(hub, name))?
        }
        None => best_successor(hub, &membership).await?,
    };
    if to == me {
        return Ok(hub.name().as_str().to_owned());
    }
    if !membership.voter_ids().any(|voter| voter == to) {
        return Err(Refusal::Change {
            reason: "a learner can not lead; promote it first".to_owned(),
        });
    }
    // A leader that has begun to hand over sends no heartbeats any more, whether the other one lives
    // or not.
    wait_for_answers(
        hub,
        &Need { majorities: membership.get_joint_config().clone(), one: Some(to) },
    )
    .await?;
    if hub.raft.trigger().transfer_leader(to).await.is_err() {
        return Err(Refusal::Unavailable);
    }
    let moved = hub.until(|now| now.current_leader.is_some_and(|leader| leader != me));
    if hub.timeout(TRANSFER_TIMEOUT, moved).await.is_err() {
        let reason = "the member did not take over in time; see whether it is up".to_owned();
        return Err(Refusal::Change { reason });
    }
    match hub.leader() {
        Some(Leader::Other { member, .. }) => Ok(member.name),
        Some(Leader::Me) | None => Err(Refusal::Unavailable),
    }
}

/// The voter that answers and has most of the log.
async fn best_successor(hub: &Hub<impl Runtime>, membership: &Membership) -> Result<u64, Refusal> {
    // The first that answers may be one that has just started and lacks much of the log: the others
    // that answered lately are candidates, too. The chosen one has to answer again.
    wait_for_answers(hub, &Need { majorities: membership.get_joint_config().clone(), one: None })
        .await?;
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
        .filter(|id| has_answered_within(&metrics, *id, hub.config.election_timeout_max))
        .max_by_key(|id| matched.get(id).copied().unwrap_or(0))
        .ok_or_else(|| Refusal::Change { reason: "no other voter answers".to_owned() })
}
