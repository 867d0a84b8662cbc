//! While the members change: no configuration enters a log of which no majority lived a moment ago. If
//! of every configuration of the newest entry in a living voter's log a majority lives undisturbed,
//! there is a leader soon, and the change ends; if not, no leader is right, and the change is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mdp_raft::{PositionView, RaftView};

use super::{
    Invariant,
    troubles::{Troubles, Whom},
};
use crate::{
    observation::Observation,
    view::{ClusterView, NodeView},
};

/// How long an election may take.
const LED_WITHIN: Duration = Duration::from_secs(10);
/// How long a change of members may be in progress.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long before a change of members enters a log its voters must have lived: an election timeout,
/// and the time between two looks, by clocks that go wrong.
const LIVED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct LedWhenPossible {
    troubles: Troubles,
    /// When each member was last seen to run, by id.
    lived: BTreeMap<u64, Instant>,
    /// The entries with members that were looked at.
    seen: BTreeSet<PositionView>,
    unled_since: Option<Instant>,
    unsettled_since: Option<Instant>,
}

/// A node that runs, its number and its Raft.
type Living<'a> = (usize, &'a NodeView<'a>, &'a RaftView);

fn living<'a>(view: &'a ClusterView<'_>) -> impl Iterator<Item = Living<'a>> {
    let up = view.nodes.iter().enumerate().filter(|(_, node)| node.is_up && !node.is_paused);
    up.filter_map(|(number, node)| Some((number, node, node.raft.as_ref()?)))
}

/// Whether of each of these sets more than half are such.
fn are_majorities(configurations: &[BTreeSet<u64>], is_one: impl Fn(u64) -> bool) -> bool {
    let is_majority =
        |ids: &BTreeSet<u64>| ids.iter().filter(|id| is_one(**id)).count() > ids.len() / 2;
    !configurations.is_empty() && configurations.iter().all(is_majority)
}

/// The newest configuration in the log of a voter that lives.
fn newest<'a>(view: &'a ClusterView<'_>) -> Option<&'a RaftView> {
    let votes = |raft: &RaftView| raft.voters.iter().any(|ids| ids.contains(&raft.id));
    let voters = living(view).map(|(_, _, raft)| raft).filter(|raft| votes(raft));
    voters.max_by_key(|raft| raft.membership)
}

impl LedWhenPossible {
    /// What entered a log must have had majorities that lived.
    fn check_new(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for (number, node) in view.nodes.iter().enumerate() {
            let Some(raft) = &node.raft else { continue };
            let Some(position) = raft.membership else { continue };
            let is_own = position.0 == raft.term && position.1 == raft.id;
            if !is_own || !self.seen.insert(position) {
                continue;
            }
            self.check_made(view.now, (number, node.name), (raft.id, &raft.voters))?;
        }
        Ok(())
    }

    /// A node wrote a configuration into its log a moment ago.
    fn check_made(
        &self,
        now: Instant,
        (number, name): (usize, &str),
        (own_id, voters): (u64, &[BTreeSet<u64>]),
    ) -> Result<(), String> {
        // One that stood still meanwhile may have had its answers long ago.
        let is_calm = self.troubles.is_calm(Whom::Process(number), now, LIVED_WITHIN * 2);
        let lived = |id: u64| {
            id == own_id || self.lived.get(&id).is_some_and(|at| now - *at <= LIVED_WITHIN)
        };
        if is_calm && !are_majorities(voters, lived) {
            return Err(format!(
                "{name} made the voters {voters:?}, and no majority of them lived: {:?}",
                self.lived
            ));
        }
        Ok(())
    }

    /// Whether majorities of the newest configuration have lived undisturbed for so long.
    fn is_possible(&self, view: &ClusterView<'_>, newest: &RaftView, time: Duration) -> bool {
        let calm: BTreeSet<u64> = living(view)
            .filter(|(number, _, _)| self.troubles.is_calm(Whom::Node(*number), view.now, time))
            .map(|(_, _, raft)| raft.id)
            .collect();
        are_majorities(&newest.voters, |id| calm.contains(&id))
    }

    fn check_times(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        let now = view.now;
        let Some(newest) = newest(view) else {
            (self.unled_since, self.unsettled_since) = (None, None);
            return Ok(());
        };
        let is_led = living(view).any(|(_, _, raft)| raft.leads);
        let unled = since(&mut self.unled_since, !is_led, now);
        if unled >= LED_WITHIN && self.is_possible(view, newest, LED_WITHIN) {
            return Err(format!("no leader for {unled:?}, and majorities of {newest:?} live"));
        }
        let unsettled = since(&mut self.unsettled_since, !newest.is_settled, now);
        if unsettled >= SETTLED_WITHIN && self.is_possible(view, newest, SETTLED_WITHIN) {
            return Err(format!("a change is not ended after {unsettled:?}: {newest:?}"));
        }
        Ok(())
    }
}

/// How long something has been so.
fn since(from: &mut Option<Instant>, is_so: bool, now: Instant) -> Duration {
    if !is_so {
        *from = None;
        return Duration::ZERO;
    }
    now - *from.get_or_insert(now)
}

impl Invariant for LedWhenPossible {
    fn name(&self) -> &'static str {
        "led_when_possible"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for (_, _, raft) in living(view) {
            self.lived.insert(raft.id, view.now);
        }
        self.check_new(view)?;
        let mut half_done = living(view).filter(|(_, _, raft)| raft.voters.len() > 1);
        if let Some((_, node, raft)) = half_done.find(|(_, _, raft)| !raft.shows_change) {
            return Err(format!("{} does not show the change to {:?}", node.name, raft.voters));
        }
        self.check_times(view)
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        match living(view).find(|(_, _, raft)| !raft.is_settled) {
            None => Ok(()),
            Some((_, node, raft)) => {
                Err(format!("{} has a change that is not ended: {:?}", node.name, raft.voters))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        invariants::made_up::{at, start},
        observation::{Event, Fault},
    };

    fn sets(ids: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        ids.iter().map(|ids| ids.iter().copied().collect()).collect()
    }

    #[test]
    fn both_halves_need_a_majority() {
        let lives = |id: u64| id < 3;
        assert!(are_majorities(&sets(&[&[1, 2, 3]]), lives));
        assert!(!are_majorities(&sets(&[&[1, 2, 3], &[2, 3]]), lives));
        assert!(!are_majorities(&[], lives), "no configuration is known");
    }

    /// Node 0, with the id 1, removes node 2 while node 1 has been dead for that long: one of two is no
    /// majority.
    fn removal_after(milliseconds: u64, before: &[Event]) -> Result<(), String> {
        let start = start();
        let moment = |milliseconds| start + Duration::from_millis(milliseconds);
        let lived = [(1, moment(5_000)), (2, moment(5_000 - milliseconds)), (3, moment(5_000))];
        let mut rule =
            LedWhenPossible { lived: lived.into_iter().collect(), ..LedWhenPossible::default() };
        for event in before {
            rule.on_event(&at(start, 4_500, event.clone()))?;
        }
        let voters = sets(&[&[1, 2, 3], &[1, 2]]);
        rule.check_made(moment(5_000), (0, "node-1"), (1, &voters))
    }

    #[test]
    fn configuration_without_a_majority_that_lived_is_a_violation() {
        assert_eq!(removal_after(0, &[]), Ok(()));
        assert_eq!(removal_after(1_000, &[]), Ok(()), "it may have answered before it died");
        assert!(removal_after(1_001, &[]).is_err());
    }

    #[test]
    fn leader_that_is_being_removed_must_ask_as_well() {
        let shrink = Fault { kind: "shrink", nodes: vec![0], actors: Vec::new() };
        assert!(removal_after(1_001, &[Event::FaultBegan(shrink)]).is_err());
    }

    #[test]
    fn leader_that_stood_still_may_have_asked_before() {
        let stood_still = [Event::NodePaused { node: 0 }, Event::NodeResumed { node: 0 }];
        assert_eq!(removal_after(1_001, &stood_still), Ok(()));
    }

    #[test]
    fn time_counts_from_the_first_moment_and_anew_after_an_end() {
        let start = start();
        let (mut from, second) = (None, Duration::from_secs(1));
        assert_eq!(since(&mut from, true, start), Duration::ZERO);
        assert_eq!(since(&mut from, true, start + second), second);
        assert_eq!(since(&mut from, false, start + second * 2), Duration::ZERO);
        assert_eq!(since(&mut from, true, start + second * 3), Duration::ZERO);
    }
}
