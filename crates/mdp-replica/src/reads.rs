//! Questions that wait for the cluster, in rounds: a round serves only what waited before it began.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mdp_broker::QueryId;
use mdp_mutants::{Mutant, is_on};
use mdp_raft::RoundId;
use mdp_wire::ServiceName;

/// How many questions may wait for a round to begin.
const LOOKUPS_MAX: usize = 100_000;
/// How many rounds may be open: that one is on its way need not hold up the next.
const READ_ROUNDS_MAX: usize = 4;
/// How many questions are worth a round of their own while another one is open.
const READ_ROUND_SIZE_MIN: usize = 64;
/// A round that says nothing for so long never will. Consensus ends each within `read_timeout`.
const ROUND_LOST_AFTER: Duration = Duration::from_secs(30);

/// The questions of one round.
pub(crate) type Lookups = Vec<(QueryId, ServiceName)>;

/// What the questions to the cluster came to, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadTotals {
    /// Questions asked.
    pub lookups: u64,
    /// Rounds of reads that carried them.
    pub rounds: u64,
    /// Questions that ended without quorum.
    pub without_quorum: u64,
}

/// Too many questions wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LookupRefused;

/// A round that began and did not end.
#[derive(Debug)]
struct Round {
    id: RoundId,
    lookups: Lookups,
    begun_at: Instant,
    /// From which index on the catalog may answer.
    index: Option<u64>,
}

/// Questions, from asked to answered.
#[derive(Debug)]
pub(crate) struct Reads {
    waiting: Lookups,
    /// The oldest first.
    open: VecDeque<Round>,
    next_id: RoundId,
    /// Memory for questions, used again and again.
    spare: Vec<Lookups>,
    totals: ReadTotals,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            open: VecDeque::new(),
            next_id: RoundId(1),
            spare: Vec::new(),
            totals: ReadTotals::default(),
        }
    }
}

/// Whether a round should begin. While none is open, at once; while some are, only for many:
/// each costs two hops over the network, whatever it carries.
const fn is_worth_a_round(open: usize, waiting: usize) -> bool {
    waiting > 0 && (open == 0 || (open < READ_ROUNDS_MAX && waiting >= READ_ROUND_SIZE_MIN))
}

impl Reads {
    /// Adds a question to those that wait.
    pub(crate) fn push(
        &mut self,
        query: QueryId,
        service: ServiceName,
    ) -> Result<(), LookupRefused> {
        self.totals.lookups += 1;
        if self.waiting.len() >= LOOKUPS_MAX {
            self.totals.without_quorum += 1;
            return Err(LookupRefused);
        }
        match self.open.back_mut() {
            Some(round) if is_on(Mutant::RoundReused) => round.lookups.push((query, service)),
            Some(_) | None => self.waiting.push((query, service)),
        }
        Ok(())
    }

    /// Counts a question that needed no round.
    pub(crate) const fn count_answered_at_once(&mut self) {
        self.totals.lookups += 1;
    }

    /// Begins a round for everything that waits, if it is worth it.
    pub(crate) fn begin_round(&mut self, now: Instant) -> Option<RoundId> {
        if self.waiting.is_empty() {
            return None;
        }
        self.forget_lost(now);
        if !is_worth_a_round(self.open.len(), self.waiting.len()) {
            return None;
        }
        let spare = self.spare.pop().unwrap_or_default();
        let lookups = std::mem::replace(&mut self.waiting, spare);
        Some(self.begin(now, lookups))
    }

    /// Begins a round that only asks whether there is a quorum, unless another one will tell.
    pub(crate) fn begin_probe(&mut self, now: Instant) -> Option<RoundId> {
        self.forget_lost(now);
        // One that knows its index waits for the log, and asks nobody any more.
        let asks = self.open.iter().any(|round| round.index.is_none());
        (!asks).then(|| self.begin(now, Lookups::new()))
    }

    fn begin(&mut self, now: Instant, lookups: Lookups) -> RoundId {
        let id = self.next_id;
        self.next_id = RoundId(id.0.saturating_add(1));
        self.totals.rounds += 1;
        self.open.push_back(Round { id, lookups, begun_at: now, index: None });
        id
    }

    /// Their questions have long been answered by the engine's own deadline.
    fn forget_lost(&mut self, now: Instant) {
        while let Some(round) = self.open.front()
            && now.saturating_duration_since(round.begun_at) > ROUND_LOST_AFTER
        {
            tracing::warn!(round = round.id.0, "a round of reads never ended");
            self.open.pop_front();
        }
    }

    /// A round ended: a catalog applied up to this index may answer it.
    pub(crate) fn on_index(&mut self, id: RoundId, index: u64) {
        if let Some(round) = self.open.iter_mut().find(|round| round.id == id) {
            round.index = Some(index);
        }
    }

    /// A round ended without quorum; its questions come back.
    pub(crate) fn on_no_quorum(&mut self, id: RoundId) -> Lookups {
        let at = self.open.iter().position(|round| round.id == id);
        let round = at.and_then(|at| self.open.remove(at));
        let lookups = round.map(|round| round.lookups).unwrap_or_default();
        self.totals.without_quorum += u64::try_from(lookups.len()).unwrap_or(u64::MAX);
        lookups
    }

    /// The questions of a round that a catalog applied up to this index may answer.
    pub(crate) fn pop_ready(&mut self, applied: u64) -> Option<Lookups> {
        let is_ready = |round: &Round| {
            round.index.is_some_and(|index| index <= applied || is_on(Mutant::AnsweredUnapplied))
        };
        let at = self.open.iter().position(is_ready)?;
        self.open.remove(at).map(|round| round.lookups)
    }

    /// Gives memory back.
    pub(crate) fn reuse(&mut self, mut lookups: Lookups) {
        if self.spare.len() < READ_ROUNDS_MAX {
            lookups.clear();
            self.spare.push(lookups);
        }
    }

    /// What the questions came to.
    pub(crate) const fn totals(&self) -> ReadTotals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    fn ask(reads: &mut Reads, queries: std::ops::Range<u64>) {
        for query in queries {
            reads.push(QueryId(query), ServiceName::try_from("echo").unwrap()).unwrap();
        }
    }

    fn queries(lookups: &Lookups) -> Vec<u64> {
        lookups.iter().map(|(query, _)| query.0).collect()
    }

    #[test]
    fn rounds_begin_at_once_alone_and_in_numbers_beside_others() {
        let few = READ_ROUND_SIZE_MIN - 1;
        for (open, waiting, begins) in [
            (0, 0, false),
            (0, 1, true),
            (1, few, false),
            (1, READ_ROUND_SIZE_MIN, true),
            (READ_ROUNDS_MAX - 1, READ_ROUND_SIZE_MIN, true),
            (READ_ROUNDS_MAX, LOOKUPS_MAX, false),
        ] {
            assert_eq!(is_worth_a_round(open, waiting), begins, "{open} {waiting}");
        }
    }

    #[test]
    fn round_serves_only_what_waited_before_it_began() {
        let (now, mut reads) = (any_instant(), Reads::default());
        ask(&mut reads, 0..2);
        let first = reads.begin_round(now).unwrap();
        ask(&mut reads, 2..3);
        assert_eq!(reads.begin_round(now), None);

        reads.on_index(first, 7);
        assert_eq!(reads.pop_ready(6), None);
        assert_eq!(queries(&reads.pop_ready(7).unwrap()), [0, 1]);

        let second = reads.begin_round(now).unwrap();
        assert!(second > first);
        assert_eq!(queries(&reads.on_no_quorum(second)), [2]);
        assert_eq!(reads.on_no_quorum(second), []);
        assert_eq!(reads.totals(), ReadTotals { lookups: 3, rounds: 2, without_quorum: 1 });
    }

    #[test]
    fn too_many_questions_are_refused() {
        let mut reads = Reads::default();
        ask(&mut reads, 0..u64::try_from(LOOKUPS_MAX).unwrap());

        let refused = reads.push(QueryId(0), ServiceName::try_from("echo").unwrap());

        assert_eq!(refused, Err(LookupRefused));
    }

    #[test]
    fn rounds_that_never_end_do_not_hold_up_the_others_for_ever() {
        let (now, mut reads) = (any_instant(), Reads::default());
        ask(&mut reads, 0..1);
        let lost = reads.begin_round(now).unwrap();
        ask(&mut reads, 1..2);
        assert_eq!(reads.begin_round(now + ROUND_LOST_AFTER), None);

        let later = now + ROUND_LOST_AFTER + Duration::from_millis(1);
        let next = reads.begin_round(later).unwrap();

        reads.on_index(lost, 1);
        assert_eq!(reads.pop_ready(1), None);
        reads.on_index(next, 1);
        assert_eq!(queries(&reads.pop_ready(1).unwrap()), [1]);
    }
}
