//! Whether enough voters answer for a change of members.
//!
//! A change counts from the moment that it is in the log: a configuration of which no majority lives
//! has no leader, and no way back. So the leader asks first, and takes only answers to what it sends
//! from then on: that a member was heard a moment ago, or is given the benefit of the doubt by a new
//! leader, says nothing about now.

use std::{collections::BTreeSet, time::Duration};

use mdp_mutants::{Mutant, is_on};
use openraft_rt::Instant as _;

use crate::{
    calls::Refusal,
    clock::Instant,
    hub::{Hub, Metrics},
    runtime::Runtime,
    types::Membership,
};

/// How long to wait for the answers: an election timeout, within these. One stall of a disk is
/// shorter than the first.
const ANSWERS_TIMEOUT_MIN: Duration = Duration::from_millis(800);
const ANSWERS_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// What a change of members depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Need {
    /// Of each of these sets of voters a majority must answer.
    pub(super) majorities: Vec<BTreeSet<u64>>,
    /// This one must answer, too.
    pub(super) one: Option<u64>,
}

impl Need {
    fn is_met(&self, does_answer: impl Fn(u64) -> bool) -> bool {
        let is_majority = |voters: &BTreeSet<u64>| {
            voters.iter().filter(|id| does_answer(**id)).count() > voters.len() / 2
        };
        self.majorities.iter().all(is_majority) && self.one.is_none_or(&does_answer)
    }
}

/// Waits until all that a change depends on have answered, or says which did not.
pub(super) async fn wait_for_answers<R: Runtime>(hub: &Hub<R>, need: &Need) -> Result<(), Refusal> {
    if is_on(Mutant::MembersChangedUnasked) {
        return Ok(());
    }
    let began_at = hub.now();
    drop(hub.raft.trigger().heartbeat().await);
    let is_over = |now: &Metrics<R>| {
        now.current_leader != Some(now.id) || need.is_met(|id| has_answered(now, id, began_at))
    };
    let within = hub.config.election_timeout_max.clamp(ANSWERS_TIMEOUT_MIN, ANSWERS_TIMEOUT_MAX);
    let answered = hub.timeout(within, hub.until(is_over)).await;
    if !hub.is_leader() {
        return Err(hub.not_leader());
    }
    if answered.is_ok() {
        return Ok(());
    }
    Err(Refusal::Change { reason: unheard(hub, need, began_at) })
}

/// Whether a member has answered what this leader sent it not longer ago than this.
pub(super) fn has_answered_within(
    metrics: &Metrics<impl Runtime>,
    id: u64,
    time: Duration,
) -> bool {
    id == metrics.id || answered_at(metrics, id).is_some_and(|at| at.elapsed() < time)
}

/// Whether a member has answered what this leader sent it from then on.
fn has_answered<R: Runtime>(metrics: &Metrics<R>, id: u64, from: Instant<R>) -> bool {
    id == metrics.id || answered_at(metrics, id).is_some_and(|at| at >= from)
}

/// When this leader sent what a member answered last.
pub(super) fn answered_at<R: Runtime>(metrics: &Metrics<R>, id: u64) -> Option<Instant<R>> {
    let answered = metrics.heartbeat.as_ref()?.get(&id)?.as_ref()?;
    Some(**answered)
}

/// What is missing, for the operator.
fn unheard<R: Runtime>(hub: &Hub<R>, need: &Need, from: Instant<R>) -> String {
    let (metrics, membership) = (hub.metrics(), hub.membership());
    let does_answer = |id: u64| has_answered(&metrics, id, from);
    let name = |id: &u64| name(&membership, *id);
    let failing = need.majorities.iter().find(|voters| {
        !Need { majorities: vec![(*voters).clone()], one: None }.is_met(does_answer)
    });
    let (voters, wanted) = match failing {
        Some(voters) => {
            let mut names: Vec<_> = voters.iter().map(name).collect();
            names.sort_unstable();
            let names = names.join(", ");
            (voters.clone(), format!("{} of the voters {names}", voters.len() / 2 + 1))
        }
        None => (need.one.into_iter().collect(), need.one.iter().map(name).collect()),
    };
    let missing = voters.iter().filter(|id| !does_answer(**id)).map(|id| {
        let name = name(id);
        match answered_at(&metrics, *id) {
            Some(at) => format!("{name} has not answered for {:.1} s", at.elapsed().as_secs_f64()),
            None => format!("{name} has not answered since {} leads", hub.name()),
        }
    });
    let missing = missing.collect::<Vec<_>>().join(", ");
    format!(
        "not begun: the members would be left without a leader unless {wanted} answer, and {missing}; \
         start what does not run, or remove it first"
    )
}

fn name(membership: &Membership, id: u64) -> String {
    let member = membership.get_node(&id);
    member.map_or_else(|| mdp_catalog::NodeId(id).to_string(), |member| member.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(majorities: &[&[u64]], one: Option<u64>) -> Need {
        let set = |ids: &&[u64]| ids.iter().copied().collect();
        Need { majorities: majorities.iter().map(set).collect(), one }
    }

    #[test]
    fn majority_of_every_half_must_answer() {
        let answers = |id: u64| id == 1 || id == 2;
        assert!(need(&[&[1, 2, 3]], None).is_met(answers));
        assert!(!need(&[&[1, 2, 3], &[2, 3]], None).is_met(answers), "one of two is no majority");
        assert!(need(&[&[1, 2, 3], &[1, 2]], None).is_met(answers));
        assert!(!need(&[&[1, 2, 3, 4]], None).is_met(answers), "half is no majority");
    }

    #[test]
    fn one_that_becomes_a_voter_must_answer_itself() {
        let answers = |id: u64| id != 4;
        assert!(!need(&[&[1, 2, 3], &[1, 2, 3, 4]], Some(4)).is_met(answers));
        assert!(need(&[&[1, 2, 3], &[1, 2, 3, 4]], Some(2)).is_met(answers));
    }
}
