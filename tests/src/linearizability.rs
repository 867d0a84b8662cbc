//! Checks histories of one service: is there an order of its operations that explains every
//! answer of `mmi.service` and agrees with the times at which they began and ended?
//!
//! Just-in-time linearization (Lowe) with greedy reads. The object is the set of registrations of
//! the service; a lookup says whether the set is not empty. A registration or removal is put into
//! the order only when its end forces it; a lookup changes nothing, so it is satisfied as early as
//! possible.

use std::collections::{BTreeMap, BTreeSet};

/// How many registrations a history of one service may have.
pub const REGISTRATIONS_MAX: u8 = 64;

/// How many operations of one kind may be open at a time.
const OPEN_MAX: usize = 128;

/// How many explanations may compete. More means that too much stays open for too long.
const CONFIGURATIONS_MAX: usize = 200_000;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A registration begins to count.
    Add(u8),
    /// A registration ends to count.
    Remove(u8),
    /// `mmi.service` was asked, and said that somebody offers the service, or nobody.
    Lookup {
        /// Somebody does.
        found: bool,
    },
}

/// An operation with its times, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// When it began.
    pub called_at: u64,
    /// When it had taken effect at the latest. None: it may take effect at any later time.
    pub returned_at: Option<u64>,
    /// It may also never take effect. So may one that never returned.
    pub is_optional: bool,
}

/// No order explains the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The operation at whose end the last explanation failed.
    pub at: Operation,
}

/// One explanation of what happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    /// The registrations that count.
    registered: u64,
    /// Open registrations and removals that have taken effect, by slot.
    done: u128,
    /// Open lookups whose answer was right at some time, by slot.
    satisfied: u128,
}

/// An open operation's place.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Mutator(usize),
    Lookup(usize),
}

#[derive(Debug, Default)]
struct Search {
    configurations: BTreeSet<Configuration>,
    open_mutators: BTreeMap<usize, Action>,
    open_lookups: BTreeMap<usize, bool>,
}

/// Checks the history of one service that nobody offers at its start.
///
/// # Errors
/// No order explains it.
pub fn check(history: &[Operation]) -> Result<(), Illegal> {
    let mut search = Search::new();
    let mut slot_of = BTreeMap::new();
    for (event, index) in events(history) {
        let Some(operation) = history.get(index) else { continue };
        match event {
            Event::Call => {
                slot_of.insert(index, search.call(operation.action));
            }
            Event::Return => {
                let Some(slot) = slot_of.remove(&index) else { continue };
                search.complete(slot, operation.is_optional);
                if search.configurations.is_empty() {
                    return Err(Illegal { at: *operation });
                }
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Call,
    Return,
}

/// Calls and returns by time. At equal times calls come first: what overlaps may be swapped.
fn events(history: &[Operation]) -> Vec<(Event, usize)> {
    let mut events: Vec<(u64, Event, usize)> = Vec::new();
    for (index, operation) in history.iter().enumerate() {
        events.push((operation.called_at, Event::Call, index));
        events.extend(operation.returned_at.map(|at| (at, Event::Return, index)));
    }
    events.sort_unstable();
    events.into_iter().map(|(_, event, index)| (event, index)).collect()
}

impl Search {
    fn new() -> Self {
        let start = Configuration { registered: 0, done: 0, satisfied: 0 };
        Self { configurations: BTreeSet::from([start]), ..Self::default() }
    }

    fn call(&mut self, action: Action) -> Slot {
        match action {
            Action::Add(registration) | Action::Remove(registration) => {
                assert!(registration < REGISTRATIONS_MAX, "more than {REGISTRATIONS_MAX}");
                let slot = free_slot(&self.open_mutators);
                self.open_mutators.insert(slot, action);
                Slot::Mutator(slot)
            }
            Action::Lookup { found } => {
                let slot = free_slot(&self.open_lookups);
                self.open_lookups.insert(slot, found);
                let before = std::mem::take(&mut self.configurations);
                self.configurations =
                    before.into_iter().map(|configuration| self.satisfy(configuration)).collect();
                Slot::Lookup(slot)
            }
        }
    }

    /// Keeps the explanations in which the operation has happened, and forgets its slot.
    fn complete(&mut self, slot: Slot, is_optional: bool) {
        let before = std::mem::take(&mut self.configurations);
        let mut after = match slot {
            Slot::Mutator(slot) => self.with_mutator_done(&before, slot),
            Slot::Lookup(slot) => self.with_lookup_satisfied(&before, slot),
        };
        if is_optional {
            after.extend(before);
        }
        match slot {
            Slot::Mutator(slot) => {
                self.open_mutators.remove(&slot);
                self.configurations = after
                    .into_iter()
                    .map(|c| Configuration { done: c.done & !bit(slot), ..c })
                    .collect();
            }
            Slot::Lookup(slot) => {
                self.open_lookups.remove(&slot);
                self.configurations = after
                    .into_iter()
                    .map(|c| Configuration { satisfied: c.satisfied & !bit(slot), ..c })
                    .collect();
            }
        }
        self.prune();
    }

    fn with_mutator_done(
        &self,
        before: &BTreeSet<Configuration>,
        slot: usize,
    ) -> BTreeSet<Configuration> {
        self.explore(before, |configuration| configuration.done & bit(slot) != 0)
    }

    fn with_lookup_satisfied(
        &self,
        before: &BTreeSet<Configuration>,
        slot: usize,
    ) -> BTreeSet<Configuration> {
        self.explore(before, |configuration| configuration.satisfied & bit(slot) != 0)
    }

    /// Lets open operations take effect, in every order, until the goal is reached.
    fn explore(
        &self,
        before: &BTreeSet<Configuration>,
        reached: impl Fn(&Configuration) -> bool,
    ) -> BTreeSet<Configuration> {
        let mut goals = BTreeSet::new();
        let mut visited = before.clone();
        let mut ahead: Vec<Configuration> = before.iter().copied().collect();
        while let Some(configuration) = ahead.pop() {
            if reached(&configuration) {
                goals.insert(configuration);
                continue;
            }
            let waiting =
                self.open_mutators.iter().filter(|(slot, _)| configuration.done & bit(**slot) == 0);
            let next = waiting.map(|(slot, action)| happen(configuration, *slot, *action));
            ahead.extend(next.map(|next| self.satisfy(next)).filter(|next| visited.insert(*next)));
            assert!(visited.len() <= CONFIGURATIONS_MAX, "too much is open at the same time");
        }
        goals
    }

    /// Marks every open lookup that this state answers as it was answered.
    fn satisfy(&self, configuration: Configuration) -> Configuration {
        let is_found = configuration.registered != 0;
        let agreeing = self.open_lookups.iter().filter(|(_, found)| **found == is_found);
        let satisfied = agreeing.fold(configuration.satisfied, |all, (slot, _)| all | bit(*slot));
        Configuration { satisfied, ..configuration }
    }

    /// Of explanations that differ only in their lookups, those with more are as good as all.
    fn prune(&mut self) {
        let mut by_state: BTreeMap<(u64, u128), Vec<u128>> = BTreeMap::new();
        for configuration in std::mem::take(&mut self.configurations) {
            let Configuration { registered, done, satisfied } = configuration;
            let best = by_state.entry((registered, done)).or_default();
            if !best.iter().any(|other| satisfied & !other == 0) {
                best.retain(|other| other & !satisfied != 0);
                best.push(satisfied);
            }
        }
        self.configurations = by_state
            .into_iter()
            .flat_map(|((registered, done), all)| {
                all.into_iter().map(move |satisfied| Configuration { registered, done, satisfied })
            })
            .collect();
    }
}

fn happen(configuration: Configuration, slot: usize, action: Action) -> Configuration {
    let registered = match action {
        Action::Add(registration) => configuration.registered | 1 << registration,
        Action::Remove(registration) => configuration.registered & !(1 << registration),
        Action::Lookup { .. } => configuration.registered,
    };
    Configuration { registered, done: configuration.done | bit(slot), ..configuration }
}

fn free_slot<T>(open: &BTreeMap<usize, T>) -> usize {
    let free = (0..OPEN_MAX).find(|slot| !open.contains_key(slot));
    free.unwrap_or_else(|| panic!("more than {OPEN_MAX} operations of a service are open"))
}

const fn bit(slot: usize) -> u128 {
    1 << slot
}

/// How many in a hundred lookups, told wrong one at a time, make the history illegal: whether the
/// history could show a wrong answer at all. `step`: every how many lookups one is tried.
#[must_use]
pub fn detected_percent(histories: &[Vec<Operation>], step: usize) -> usize {
    let lookups = histories.iter().enumerate().flat_map(|(at, history)| {
        let of = |(index, operation): (usize, &Operation)| match operation.action {
            Action::Lookup { .. } => Some((at, index)),
            Action::Add(_) | Action::Remove(_) => None,
        };
        history.iter().enumerate().filter_map(of).collect::<Vec<_>>()
    });
    let outcomes: Vec<bool> = lookups
        .step_by(step)
        .filter_map(|(at, index)| histories.get(at).map(|history| is_detected(history, index)))
        .collect();
    assert!(!outcomes.is_empty(), "there are no lookups");
    outcomes.iter().filter(|is_detected| **is_detected).count() * 100 / outcomes.len()
}

fn is_detected(history: &[Operation], index: usize) -> bool {
    let mut flipped = history.to_vec();
    if let Some(Operation { action: Action::Lookup { found }, .. }) = flipped.get_mut(index) {
        *found = !*found;
    }
    check(&flipped).is_err()
}

#[cfg(test)]
mod tests;
