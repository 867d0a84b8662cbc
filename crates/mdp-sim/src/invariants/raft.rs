//! What Raft promises, and the state that each node must keep.
//!
//! A leader is told apart by term and node: two nodes may lead in one term one after the other, as
//! openraft counts, but only one of them ever commits.

use std::collections::{BTreeMap, BTreeSet};

use mdp_raft::{EntryView, PositionView, RaftView, VoteView};

use super::Invariant;
use crate::{
    observation::{Event, Observation},
    view::ClusterView,
};

/// How many of the last committed entries are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// What one process was at the last look.
#[derive(Clone, Copy, Debug)]
struct Last {
    id: u64,
    term: u64,
    vote: VoteView,
    committed: u64,
    applied: u64,
}

/// What is needed of a [`RaftView`], as plain data.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    now: Last,
    committed: Option<PositionView>,
    applied: Option<PositionView>,
    last_log: Option<PositionView>,
    purged: Option<PositionView>,
    /// Of the entries that are not compared yet, and some before.
    entries: BTreeMap<u64, EntryView>,
    voters: Vec<BTreeSet<u64>>,
    is_leader: bool,
}

#[derive(Debug, Default)]
pub(super) struct Raft {
    last: BTreeMap<usize, Last>,
    /// What is committed, by index.
    committed: BTreeMap<u64, EntryView>,
    /// The highest index that was found on a quorum.
    on_quorum: u64,
    /// Who voted at the last look, as the node said that knew most.
    voters: Option<Vec<BTreeSet<u64>>>,
    /// Up to where each process's log was compared with what is committed.
    compared: BTreeMap<usize, u64>,
}

impl Member {
    /// Up to where its log has what it takes for committed.
    ///
    /// What it takes for committed can be ahead of its log: it knows of the entries as soon as their
    /// leader sent them, and writes them after its vote, which waits for the disk. Until then other
    /// entries, which were never committed, may be at these indices. What it applied was in its log.
    ///
    /// Example: a leader of term 1 with entries up to 21 is paused; others commit other entries up
    /// to 23 in term 4. It goes on, and hears of 23 while its slow disk still writes the vote of
    /// term 5: its own entries 19 to 21 are there, and mean nothing.
    fn readable_until(&self) -> u64 {
        let has_committed = self.committed.is_some_and(|(term, node, index)| {
            self.entries.get(&index).is_some_and(|entry| (entry.0, entry.1) == (term, node))
        });
        if has_committed { self.now.committed } else { self.now.applied }
    }
}

fn index_of(position: Option<PositionView>) -> u64 {
    position.map_or(0, |(_, _, index)| index)
}

impl Raft {
    fn member(&self, number: usize, name: &str, view: &RaftView) -> Member {
        let now = Last {
            id: view.id,
            term: view.term,
            vote: view.vote,
            committed: index_of(view.committed),
            applied: index_of(view.applied),
        };
        let from = self.compared.get(&number).map_or(0, |index| index + 1).min(self.on_quorum + 1);
        Member {
            name: name.to_owned(),
            now,
            committed: view.committed,
            applied: view.applied,
            last_log: view.last_log,
            purged: view.purged,
            entries: view.log.entries(from..),
            voters: view.voters.clone(),
            is_leader: view.leader == Some(view.id),
        }
    }

    /// Nothing that one process keeps goes back.
    fn check_order(&mut self, number: usize, member: &Member) -> Result<(), String> {
        let Member { name, now, .. } = member;
        let last = self.last.insert(number, *now).filter(|last| last.id == now.id);
        if let Some(last) = last {
            let ((term, node, is_committed), (was_term, was_node, was_committed)) =
                (now.vote, last.vote);
            let voted_twice = term == was_term && node < was_node
                || (term, node) == (was_term, was_node) && was_committed && !is_committed;
            let goes_back = now.term < last.term
                || term < was_term
                || voted_twice
                || now.committed < last.committed
                || now.applied < last.applied;
            if goes_back {
                return Err(format!("{name} went back from {last:?} to {now:?}"));
            }
        }
        if now.applied > index_of(member.committed).max(now.applied.min(index_of(member.last_log)))
        {
            return Err(format!("{name} applied what is not committed: {member:?}"));
        }
        if index_of(member.purged) > now.applied.max(now.committed) {
            return Err(format!("{name} removed what it has not applied: {member:?}"));
        }
        Ok(())
    }

    /// What is committed at one node is the same everywhere and for ever: committed immutable, state
    /// machine safety, and, because entries name their leader, one committing leader for each term.
    fn check_committed(&mut self, number: usize, member: &Member) -> Result<(), String> {
        let until = member.readable_until();
        let mut previous: Option<EntryView> = None;
        for (index, entry) in &member.entries {
            if previous.is_some_and(|before| (before.0, before.1) > (entry.0, entry.1)) {
                return Err(format!("{}: terms go back in its log at {index}", member.name));
            }
            previous = Some(*entry);
            if *index > until {
                continue;
            }
            let known = *self.committed.entry(*index).or_insert(*entry);
            if known != *entry {
                return Err(format!(
                    "{} has {entry:?} at committed index {index}, others have {known:?}",
                    member.name
                ));
            }
        }
        let known = until.max(self.compared.get(&number).copied().unwrap_or(0));
        self.compared.insert(number, known);
        for (what, position) in [("committed", member.committed), ("applied", member.applied)] {
            let Some((term, node, index)) = position else { continue };
            if let Some(known) = self.committed.get(&index)
                && (known.0, known.1) != (term, node)
            {
                return Err(format!("{}: {what} {position:?} is {known:?}", member.name));
            }
        }
        while self.committed.len() > REMEMBERED_MAX {
            self.committed.pop_first();
        }
        Ok(())
    }

    /// One leader for each term commits.
    fn check_leaders(&self) -> Result<(), String> {
        let mut leaders = BTreeMap::new();
        for (index, (term, node, _)) in &self.committed {
            let leader = *leaders.entry(*term).or_insert(*node);
            if leader != *node {
                return Err(format!("{node} and {leader} both committed in term {term}: {index}"));
            }
        }
        Ok(())
    }

    /// What is committed is in the logs of a majority. Who is down may have it. While the voters change
    /// nobody outside can know whose majority it was.
    fn check_quorum(&mut self, members: &[Option<Member>]) -> Result<(), String> {
        let up: Vec<&Member> = members.iter().flatten().collect();
        let Some(most) = up.iter().max_by_key(|member| member.now.committed) else { return Ok(()) };
        let index = most.now.committed;
        let before = self.voters.replace(most.voters.clone());
        let is_settled = before.is_none_or(|voters| voters == most.voters)
            && up.iter().all(|member| {
                member.voters == most.voters
                    || !most.voters.iter().any(|voters| voters.contains(&member.now.id))
            });
        let is_new = is_settled && index > self.on_quorum;
        let Some(entry) = self.committed.get(&index).filter(|_| is_new) else {
            return Ok(());
        };
        for voters in &most.voters {
            let lacks = |id: &&u64| {
                up.iter().any(|member| {
                    member.now.id == **id
                        && index_of(member.purged) < index
                        && member.entries.get(&index) != Some(entry)
                })
            };
            let lacking = voters.iter().filter(lacks).count();
            if voters.len() - lacking < voters.len() / 2 + 1 {
                return Err(format!(
                    "{} takes {index} for committed, and {lacking} of {voters:?} lack it",
                    most.name
                ));
            }
        }
        self.on_quorum = index;
        Ok(())
    }

    /// A leader has everything that was committed before its term.
    fn check_completeness(&self, member: &Member) -> Result<(), String> {
        let (term, node, is_granted) = member.now.vote;
        if !member.is_leader || !is_granted || node != member.now.id {
            return Ok(());
        }
        let before = self.committed.iter().rev().find(|(_, entry)| entry.0 < term);
        if let Some((index, entry)) = before
            && index_of(member.last_log) < *index
        {
            return Err(format!("{} leads term {term} without {index}: {entry:?}", member.name));
        }
        Ok(())
    }

    fn check(&mut self, members: &[Option<Member>]) -> Result<(), String> {
        for (number, member) in members.iter().enumerate() {
            let Some(member) = member else { continue };
            self.check_order(number, member)?;
            self.check_committed(number, member)?;
        }
        self.check_leaders()?;
        self.check_quorum(members)?;
        members.iter().flatten().try_for_each(|member| self.check_completeness(member))
    }
}

impl Invariant for Raft {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        // Another process counts anew what it knows to be committed and applied; its log is read
        // again. Terms and votes must have survived, but for a volume that was lost, which makes
        // another id.
        if let Event::NodeStarted { node } = observation.event {
            if let Some(last) = self.last.get_mut(&node) {
                (last.committed, last.applied) = (0, 0);
            }
            self.compared.remove(&node);
        }
        Ok(())
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        let members: Vec<Option<Member>> = view
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| Some(self.member(number, node.name, node.raft.as_ref()?)))
            .collect();
        self.check(&members)
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node with entries 1 and up, of these terms, by leaders of the same number.
    fn member(id: u64, terms: &[u64], committed: u64) -> Member {
        let entries: BTreeMap<u64, EntryView> =
            (1..).zip(terms).map(|(index, term)| (index, (*term, *term, *term * 100))).collect();
        let position = |index: u64| entries.get(&index).map(|entry| (entry.0, entry.1, index));
        let term = terms.last().copied().unwrap_or(0);
        Member {
            name: format!("node-{id}"),
            now: Last { id, term, vote: (term, id, true), committed, applied: committed },
            committed: position(committed),
            applied: position(committed),
            last_log: position(u64::try_from(terms.len()).unwrap()),
            purged: None,
            voters: vec![BTreeSet::from([1, 2, 3])],
            is_leader: false,
            entries,
        }
    }

    fn check(members: &[Member]) -> Result<(), String> {
        Raft::default().check(&members.iter().cloned().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn nodes_that_agree_are_right() {
        let behind = [member(1, &[1, 1, 2], 3), member(2, &[1, 1, 2], 2), member(3, &[1], 1)];
        assert_eq!(check(&behind), Ok(()));
    }

    #[test]
    fn different_committed_entries_are_a_violation() {
        assert!(check(&[member(1, &[1, 2], 2), member(2, &[1, 3], 2)]).is_err());
        assert_eq!(check(&[member(1, &[1, 2], 1), member(2, &[1, 3], 1)]), Ok(()));
    }

    #[test]
    fn entries_that_a_node_is_about_to_replace_are_not_committed() {
        let mut behind = member(1, &[1, 1, 1], 3);
        behind.committed = Some((2, 2, 3));
        (behind.applied, behind.now.applied) = (Some((1, 1, 1)), 1);
        let others = member(2, &[1, 2, 2], 3);
        assert_eq!(check(&[others.clone(), behind.clone()]), Ok(()));
        // What it applied counts in any case.
        behind.now.applied = 2;
        assert!(check(&[others, behind]).is_err());
    }

    #[test]
    fn two_committing_leaders_of_a_term_are_a_violation() {
        let mut other = member(2, &[1, 1], 2);
        other.entries.insert(2, (1, 9, 900));
        other.committed = Some((1, 9, 2));
        other.applied = other.committed;
        assert!(check(&[member(1, &[1], 1), other.clone(), other]).is_err());
    }

    #[test]
    fn commit_without_a_quorum_is_a_violation() {
        assert!(check(&[member(1, &[1, 1], 2), member(2, &[1], 1), member(3, &[1], 1)]).is_err());
        // The third is down and may have it.
        assert_eq!(check(&[member(1, &[1, 1], 2), member(2, &[1, 1], 1)]), Ok(()));
    }

    #[test]
    fn what_goes_back_is_a_violation() {
        let mut rule = Raft::default();
        let before = member(1, &[1, 2, 3], 3);
        assert_eq!(rule.check(&[Some(before.clone())]), Ok(()));
        for change in [
            |now: &mut Last| now.term = 2,
            |now: &mut Last| now.vote = (2, 1, true),
            |now: &mut Last| now.vote = (3, 0, true),
            |now: &mut Last| now.applied = 1,
        ] {
            let mut after = before.clone();
            change(&mut after.now);
            rule.last.insert(0, before.now);
            assert!(rule.check(&[Some(after)]).is_err());
        }
    }

    #[test]
    fn leader_without_a_committed_entry_is_a_violation() {
        let mut leader = member(3, &[1, 3], 0);
        leader.is_leader = true;
        let others = [member(1, &[1, 2, 2], 3), member(2, &[1, 2, 2], 3)];
        let all = [others[0].clone(), others[1].clone(), leader];
        assert!(check(&all).is_err());
    }
}
