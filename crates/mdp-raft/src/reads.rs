//! Linearizable reads on any node: ReadIndex (Ongaro's thesis, section 6.4), in rounds.
//!
//! A round asks the leader for an index after all of its lookups had come, and with an attempt of
//! its own each time: an answer to an earlier question is never taken for a later one.

use std::{collections::BTreeSet, time::Duration};

use mdp_mutants::{Mutant, is_on};
use openraft::{ReadPolicy, async_runtime::watch::WatchReceiver as _};

use crate::{
    Lane, News, RoundId,
    calls::{Reply, Request},
    clock::Instant,
    hub::{Hub, Leader},
    runtime::Runtime,
    stored::VoteV1,
    types::Vote,
};

/// How long one attempt may take: within it a living leader answers, or is not the leader.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(400);
/// How long to wait after a failed attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Runs a round to its end, and tells the node.
pub(crate) async fn run(hub: &Hub<impl Runtime>, round: RoundId) {
    let index = match hub.state.rounds.try_acquire() {
        Ok(_permit) => read_index_until(hub, hub.now() + hub.config.read_timeout).await,
        Err(_) => None,
    };
    hub.news.send(News::Read { round, index }).await;
}

/// The index at which a read that came before this call may be answered, once a leader says it.
pub(crate) async fn read_index_until<R: Runtime>(
    hub: &Hub<R>,
    deadline: Instant<R>,
) -> Option<u64> {
    loop {
        let remaining = hub.time_until(deadline);
        if remaining.is_zero() {
            return None;
        }
        let known = hub.raft.server_metrics().borrow_watched().current_leader;
        let leader = hub.leader();
        let index = tokio::select! {
            biased;
            index = attempt(hub, leader, remaining.min(ATTEMPT_TIMEOUT)) => index,
            // Another leader: whatever the old one would answer does not count.
            () = leader_changed(hub, known) => None,
        };
        if index.is_some() {
            return index;
        }
        hub.sleep(RETRY_PAUSE.min(hub.time_until(deadline))).await;
    }
}

async fn attempt(hub: &Hub<impl Runtime>, leader: Option<Leader>, within: Duration) -> Option<u64> {
    if is_on(Mutant::StaleRead) && leader.is_some() {
        return hub.catalog.with(|_, applied| applied.map(|applied| applied.index));
    }
    match leader {
        None => {
            hub.sleep(within).await;
            None
        }
        Some(Leader::Me) => hub.timeout(within, read_index(hub)).await.ok().flatten(),
        Some(Leader::Other { target, .. }) => {
            let request = Request::ReadIndex { vote: hub.log.vote().as_ref().map(VoteV1::from) };
            match hub.peers.call(&target, Lane::Control, request, within).await {
                Ok(Reply::ReadIndex { index }) => Some(index),
                Ok(_) | Err(_) => None,
            }
        }
    }
}

/// The index at which a read that came before this call may be answered, if this node leads and a
/// quorum says so.
pub(crate) async fn read_index(hub: &Hub<impl Runtime>) -> Option<u64> {
    if is_on(Mutant::ReadWithoutQuorum) && hub.is_leader() {
        return hub.metrics().local_committed.map(|committed| committed.index);
    }
    let linearizer = hub.raft.get_read_linearizer(ReadPolicy::ReadIndex);
    let linearizer = hub.timeout(ATTEMPT_TIMEOUT, linearizer).await.ok()?.ok()?;
    Some(linearizer.read_log_id().index())
}

/// The index at which a member may answer what it was asked before it called.
///
/// The caller's vote may be all that the leader needs: it is for this leader, and it was on the
/// caller's disk after the caller was asked. If leader and caller are a majority, nobody else can
/// have been elected before that without one of them knowing.
pub(crate) async fn read_index_for(
    hub: &Hub<impl Runtime>,
    from: u64,
    vote: Option<Vote>,
) -> Option<u64> {
    match vote {
        Some(vote) if vote.committed && vote.leader_id.node_id == hub.id() => {
            match index_vouched_for(hub, from, vote).await {
                Some(index) => Some(index),
                None => read_index(hub).await,
            }
        }
        Some(_) | None => read_index(hub).await,
    }
}

async fn index_vouched_for(hub: &Hub<impl Runtime>, from: u64, vote: Vote) -> Option<u64> {
    let me = hub.id();
    // Asked of Raft itself: its published metrics may be a moment older.
    let looked = hub.raft.with_raft_state(move |state| {
        let membership = state.membership_state.effective().membership();
        let is_majority = |voters: &BTreeSet<u64>| {
            let ours = [me, from].iter().filter(|id| voters.contains(id)).count();
            ours > voters.len() / 2 || is_on(Mutant::WrongQuorum) && ours > 1
        };
        let is_led = *state.vote_ref() == vote
            && me != from
            && membership.get_joint_config().iter().all(is_majority);
        // A leader knows what is committed once something of its own term is.
        let committed = state.local_committed().max(state.cluster_committed())?;
        (is_led && committed.leader_id == vote.leader_id).then_some(committed.index)
    });
    looked.await.ok().flatten()
}

/// Waits until the leader is not this one.
async fn leader_changed(hub: &Hub<impl Runtime>, known: Option<u64>) {
    // Not the whole metrics: those change with every entry and heartbeat.
    let mut server = hub.raft.server_metrics();
    while server.borrow_watched().current_leader == known {
        if server.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
