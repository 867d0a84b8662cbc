//! Slots of learners: each costs the leader a stream of entries. Any program that reaches the cluster port
//! can take one, so that a learner that never answered gives way to a newcomer that does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use mdp_catalog::NodeId;
use mdp_rate_limiter::event;
use openraft::ChangeMembers;

use super::quorum::answered_at;
use crate::{
    calls::Refusal,
    clock::{Instant, now},
    hub::{Hub, lock},
    lines::Line,
    runtime::Runtime,
    types::Member,
};

/// How many learners there may be.
const LEARNERS_MAX: usize = 16;
/// How long a learner may take for its first answer to the leader, before it gives way to a newcomer.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(60);

/// Since when this leader has waited for the first answer of each learner. A learner that has a record in
/// the catalog answered an earlier leader.
#[derive(Debug)]
pub(crate) struct Unanswered<R: Runtime>(Mutex<BTreeMap<u64, Instant<R>>>);

impl<R: Runtime> Default for Unanswered<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Runtime> Unanswered<R> {
    /// These have not answered, and no others.
    fn update(&self, silent: &BTreeSet<u64>) {
        let mut waits = lock(&self.0);
        waits.retain(|id, _| silent.contains(id));
        for id in silent {
            waits.entry(*id).or_insert_with(now::<R>);
        }
    }

    /// The one that has been waited for longest, if that is too long.
    fn first_to_give_way(&self) -> Option<u64> {
        let now = now::<R>();
        let waits = lock(&self.0);
        let (id, since) = waits.iter().min_by_key(|(_, since)| **since)?;
        (now - *since >= FIRST_ANSWER_MAX).then_some(*id)
    }

    /// As if this leader had waited for longer.
    #[cfg(test)]
    pub(crate) fn age(&self, time: Duration) {
        lock(&self.0).values_mut().for_each(|since| *since -= time);
    }
}

/// Looks which learners have not answered.
pub(super) fn watch(hub: &Hub<impl Runtime>) {
    hub.state.unanswered.update(&if hub.is_leader() { silent(hub) } else { BTreeSet::new() });
}

fn silent(hub: &Hub<impl Runtime>) -> BTreeSet<u64> {
    let metrics = hub.metrics();
    let learners = metrics.membership_config.membership().learner_ids();
    let unheard: BTreeSet<u64> =
        learners.filter(|id| answered_at(&metrics, *id).is_none()).collect();
    if unheard.is_empty() {
        return unheard;
    }
    let recorded: BTreeSet<u64> = hub
        .catalog
        .with(|catalog, _| catalog.nodes().map(|(_, record)| record.node_id.0).collect());
    unheard.difference(&recorded).copied().collect()
}

/// Whether a member has answered this leader.
pub(crate) fn has_ever_answered(hub: &Hub<impl Runtime>, id: u64) -> bool {
    answered_at(&hub.metrics(), id).is_some()
}

/// Whether there are as many learners as there may be.
pub(super) fn are_slots_taken(hub: &Hub<impl Runtime>) -> bool {
    hub.membership().learner_ids().count() >= LEARNERS_MAX
}

/// The change that makes a node a learner; another one gives way, if it must and can.
pub(super) fn admit(
    hub: &Hub<impl Runtime>,
    id: u64,
    member: &Member,
) -> Result<ChangeMembers<u64, Member>, Refusal> {
    if hub.is_retired(id) {
        return Err(Refusal::Removed);
    }
    // It was removed, and is retired soon.
    if hub.catalog.with(|catalog, _| catalog.nodes().any(|(_, record)| record.node_id.0 == id)) {
        return Err(Refusal::Unavailable);
    }
    let add = ChangeMembers::AddNodes([(id, member.clone())].into());
    if !are_slots_taken(hub) {
        return Ok(add);
    }
    hub.state.unanswered.update(&silent(hub));
    let gives_way = hub.state.unanswered.first_to_give_way().ok_or_else(too_many)?;
    event!(
        hub.state.lines.admit(Line::GivesWay),
        info,
        id = %NodeId(gives_way),
        newcomer = %member,
        "a learner that never answered gives way to a newcomer"
    );
    // Its id is not retired: a node that was only slow asks to join again.
    Ok(ChangeMembers::Batch(vec![ChangeMembers::RemoveNodes([gives_way].into()), add]))
}

pub(super) fn too_many() -> Refusal {
    let reason = format!(
        "there are {LEARNERS_MAX} learners already, as many as there may be: remove one, or wait until one is \
         promoted, or until one that never answered gives way, {} s after it joined",
        FIRST_ANSWER_MAX.as_secs()
    );
    Refusal::Change { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokio;

    #[tokio::test(start_paused = true)]
    async fn learner_that_never_answered_gives_way_after_its_time_and_the_longest_silent_first() {
        let unanswered = Unanswered::<Tokio>::default();
        unanswered.update(&[7].into());
        tokio::time::advance(Duration::from_secs(1)).await;
        unanswered.update(&[3, 7].into());
        tokio::time::advance(FIRST_ANSWER_MAX - Duration::from_millis(1_001)).await;
        assert_eq!(unanswered.first_to_give_way(), None);

        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(unanswered.first_to_give_way(), Some(7));

        // It answered.
        unanswered.update(&[3].into());
        assert_eq!(unanswered.first_to_give_way(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(unanswered.first_to_give_way(), Some(3));
    }
}
