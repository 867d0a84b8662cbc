//! What is missing was counted as dropped, by the node that it was sent to and at that time.

use std::collections::BTreeMap;

use super::{Delivery, Dropped, Drops, Explanation, SubmissionId, Wrong, check::Check, story};

/// What nodes count of the requests that they drop, by the bits of a set.
const COUNTED: [Explanation; 3] =
    [Explanation::OutcomeUnknown, Explanation::Expired, Explanation::AttemptsExhausted];

/// Sets of one of [`COUNTED`] each.
pub(super) const OUTCOME_UNKNOWN: u8 = 1;
pub(super) const EXPIRED: u8 = 1 << 1;
pub(super) const ATTEMPTS_EXHAUSTED: u8 = 1 << 2;

/// For how many looks in a row at a node's counters the sums are compared; and for all of them.
const LOOKS_MAX: usize = 12;

/// A loss that a node must have counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) id: SubmissionId,
    pub(super) delivery: Delivery,
    /// As one of these: bits of [`COUNTED`].
    pub(super) set: u8,
    /// By this node: the origin decides what becomes of a request.
    pub(super) origin: usize,
    /// Not before it was sent, and not after its client gave it up.
    pub(super) sent_at: u64,
    pub(super) until: u64,
}

impl Check<'_> {
    /// For each node, each time between some looks at its counters and each choice of reasons: what can
    /// have been counted only there, then and for these fits into what was counted.
    pub(super) fn look_at_missing(&mut self) {
        let mut by_origin = BTreeMap::<usize, Vec<Missing>>::new();
        for missing in &self.missing {
            by_origin.entry(missing.origin).or_default().push(*missing);
        }
        for (origin, missing) in by_origin {
            let drops: Vec<Drops> =
                self.history.drops.iter().copied().filter(|drops| drops.node == origin).collect();
            if let Some(excess) = excess(&drops, &missing) {
                let history = self.history;
                self.violate(Wrong::Uncounted, || {
                    let Excess { missing, counted, reasons, sample } = excess;
                    let story = story::of_request(history, sample);
                    format!(
                        "Uncounted: {missing} submissions can only be {reasons:?}, and node {origin} \
                         counted {counted} of these at that time; one of them:\n{story}"
                    )
                });
            }
        }
        self.explain_missing();
    }

    /// Gives each loss one of its possible reasons, as far as they were counted.
    fn explain_missing(&mut self) {
        let mut left = [0; COUNTED.len()];
        for drops in &self.history.drops {
            left.iter_mut().zip(counts(drops.count)).for_each(|(left, count)| *left += count);
        }
        let mut missing = std::mem::take(&mut self.missing);
        missing.sort_by_key(|missing| missing.set.count_ones());
        for Missing { delivery, set, .. } in missing {
            let possible = || bits(set);
            let chosen = possible().find(|bit| left.get(*bit).is_some_and(|left| *left > 0));
            let Some(bit) = chosen.or_else(|| possible().next()) else { continue };
            if let Some(left) = left.get_mut(bit) {
                *left = left.saturating_sub(1);
            }
            if let Some(explanation) = COUNTED.get(bit) {
                self.explain(delivery, *explanation);
            }
        }
    }
}

/// More is missing than was counted.
struct Excess {
    missing: usize,
    counted: u64,
    reasons: Vec<String>,
    sample: SubmissionId,
}

/// Of one node.
fn excess(drops: &[Drops], missing: &[Missing]) -> Option<Excess> {
    // Between which looks each may have been counted: the first one, and that behind the last.
    let looks: Vec<(usize, usize)> = missing
        .iter()
        .map(|missing| {
            let first = drops.partition_point(|drops| drops.until < missing.sent_at);
            (first, drops.partition_point(|drops| drops.from <= missing.until).max(first))
        })
        .collect();
    let spans = (0..=drops.len()).flat_map(|first| {
        let ends = first..=(first + LOOKS_MAX).min(drops.len());
        ends.map(move |end| (first, end))
    });
    spans.chain([(0, drops.len())]).find_map(|(first, end)| {
        let here = drops.get(first..end).unwrap_or_default();
        let is_here = |(from, until): (usize, usize)| from >= first && until <= end;
        let placed = missing.iter().zip(&looks).filter(|(_, looks)| is_here(**looks));
        let placed: Vec<&Missing> = placed.map(|(missing, _)| missing).collect();
        (1..1_u8 << COUNTED.len()).find_map(|choice| excess_of(choice, here, &placed))
    })
}

/// For one choice of reasons.
fn excess_of(choice: u8, drops: &[Drops], missing: &[&Missing]) -> Option<Excess> {
    let only: Vec<&&Missing> = missing.iter().filter(|one| one.set & !choice == 0).collect();
    let counted = drops.iter().map(|drops| {
        let counts = counts(drops.count);
        bits(choice).filter_map(|bit| counts.get(bit)).sum::<u64>()
    });
    let counted = counted.sum();
    if u64::try_from(only.len()).unwrap_or(u64::MAX) <= counted {
        return None;
    }
    let sample = only.first()?.id;
    let reasons = bits(choice).filter_map(|bit| COUNTED.get(bit)).map(ToString::to_string);
    Some(Excess { missing: only.len(), counted, reasons: reasons.collect(), sample })
}

/// In the order of [`COUNTED`].
const fn counts(dropped: Dropped) -> [u64; COUNTED.len()] {
    let Dropped { expired, attempts_exhausted, outcome_unknown } = dropped;
    [outcome_unknown, expired, attempts_exhausted]
}

fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..COUNTED.len()).filter(move |bit| set & (1 << bit) != 0)
}
