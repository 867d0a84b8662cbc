//! The explanations that compete at a point of a history.

use std::collections::{BTreeMap, HashSet};

use crate::{
    Action, Inconclusive, Operation, REGISTRATIONS_MAX,
    schedule::{Event, Moment},
};

/// How many registrations and removals may be open at a time, and how many lookups.
pub const OPEN_MAX: u8 = 128;

/// How many explanations may compete. More means that too much stays open for too long.
pub const CONFIGURATIONS_MAX: usize = 200_000;

/// From how many explanations on it costs more to compare all with all than it saves.
const COMPARED_MAX: usize = 256;

/// One explanation of what happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Configuration {
    /// The registrations that count.
    registered: u64,
    /// Open registrations and removals that have taken effect, by slot.
    done: u128,
    /// Open lookups whose answer was right at some time, by slot.
    satisfied: u128,
}

/// What an open registration or removal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    added: u64,
    removed: u64,
    may_never_happen: bool,
    never_returns: bool,
}

impl Change {
    const fn touched(self) -> u64 {
        self.added | self.removed
    }
}

/// What has to be true at the end of an operation.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// A registration or removal has taken effect.
    Done(u8),
    /// The answer of a lookup was right at some time.
    Satisfied(u8),
}

/// Why a search ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No explanation is left.
    Illegal,
    Inconclusive(Inconclusive),
}

/// Just-in-time linearization (Lowe) with greedy reads. A registration or removal is put into the
/// order only when its end forces it, or the end of a lookup does; a lookup changes nothing, so it
/// is satisfied as early as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Search {
    /// In ascending order.
    configurations: Vec<Configuration>,
    /// By slot.
    changes: Vec<Change>,
    /// Slots of open registrations and removals.
    open: u128,
    /// Slots of open lookups that found somebody.
    found: u128,
    /// Slots of open lookups that found nobody.
    absent: u128,
}

impl Search {
    pub(crate) fn new(registered: u64) -> Self {
        let start = Configuration { registered, done: 0, satisfied: 0 };
        Self { configurations: vec![start], changes: Vec::new(), open: 0, found: 0, absent: 0 }
    }

    /// Goes on behind an event.
    pub(crate) fn step(&mut self, event: Event, operation: &Operation) -> Result<(), Stop> {
        let slot = event.slot.ok_or(Stop::Inconclusive(Inconclusive::OpenOperations))?;
        match event.moment {
            Moment::Call => self.call(slot, operation),
            Moment::Return => self.complete(slot, operation),
        }
    }

    /// The only explanation, if nothing that is about to return has already taken effect in it:
    /// what was before does not matter any more.
    pub(crate) fn only_explanation(&self) -> Option<Explanation> {
        let [Configuration { registered, done, satisfied }] = *self.configurations.as_slice()
        else {
            return None;
        };
        let is_certain = bits(done).all(|slot| self.change(slot).never_returns);
        is_certain.then_some(Explanation { registered, done, satisfied })
    }

    fn call(&mut self, slot: u8, operation: &Operation) -> Result<(), Stop> {
        let (added, removed) = match operation.action {
            Action::Add(registration) => (registration_bit(registration)?, 0),
            Action::Remove(registration) => (0, registration_bit(registration)?),
            Action::Lookup { found } => {
                let lookups = if found { &mut self.found } else { &mut self.absent };
                *lookups |= bit(slot);
                let (found, absent) = (self.found, self.absent);
                for configuration in &mut self.configurations {
                    configuration.satisfy(found, absent);
                }
                return Ok(());
            }
        };
        let (may_never_happen, never_returns) =
            (operation.may_never_happen(), operation.returned_at.is_none());
        let index = usize::from(slot);
        if self.changes.len() <= index {
            self.changes.resize(index + 1, Change::default());
        }
        if let Some(change) = self.changes.get_mut(index) {
            *change = Change { added, removed, may_never_happen, never_returns };
        }
        self.open |= bit(slot);
        Ok(())
    }

    /// Keeps the explanations in which the operation has happened, and frees its slot.
    fn complete(&mut self, slot: u8, operation: &Operation) -> Result<(), Stop> {
        if operation.action.is_lookup() {
            self.keep(Goal::Satisfied(slot))?;
            self.found &= !bit(slot);
            self.absent &= !bit(slot);
            for configuration in &mut self.configurations {
                configuration.satisfied &= !bit(slot);
            }
        } else {
            let before = match operation.is_optional {
                true => self.configurations.clone(),
                false => Vec::new(),
            };
            self.keep(Goal::Done(slot))?;
            self.configurations.extend(before);
            self.open &= !bit(slot);
            for configuration in &mut self.configurations {
                configuration.done &= !bit(slot);
            }
        }
        self.prune();
        if self.configurations.is_empty() { Err(Stop::Illegal) } else { Ok(()) }
    }

    /// Lets open registrations and removals take effect, in every order that may make a
    /// difference, until the goal is reached.
    fn keep(&mut self, goal: Goal) -> Result<(), Stop> {
        if self.configurations.iter().all(|it| goal.is_reached(it)) {
            return Ok(());
        }
        let mut ahead = std::mem::take(&mut self.configurations);
        let mut visited: HashSet<Configuration> = ahead.iter().copied().collect();
        while let Some(configuration) = ahead.pop() {
            if goal.is_reached(&configuration) {
                self.configurations.push(configuration);
                continue;
            }
            for slot in bits(self.moves(&configuration, goal)) {
                let next = self.with_done(configuration, slot);
                if visited.insert(next) {
                    ahead.push(next);
                }
            }
            if visited.len() > CONFIGURATIONS_MAX {
                return Err(Stop::Inconclusive(Inconclusive::Explanations));
            }
        }
        Ok(())
    }

    /// What may have to happen next. Changes of different registrations can be swapped, so one
    /// may wait unless it is of the registration that has to change, or helps to satisfy a lookup:
    /// the first registration of an empty service, or the removals of all that are registered, for
    /// which one order is as good as another.
    fn moves(&self, configuration: &Configuration, goal: Goal) -> u128 {
        let Configuration { registered, done, satisfied } = *configuration;
        let undone = self.open & !done;
        let mut wanted = match goal {
            Goal::Done(slot) => self.change(slot).touched(),
            Goal::Satisfied(_) => 0,
        };
        let (mut added, mut removed) = (0, 0);
        for change in bits(undone).map(|slot| self.change(slot)) {
            added |= change.added;
            removed |= change.removed;
        }
        if (self.found | self.absent) & !satisfied != 0 {
            if registered == 0 {
                wanted |= added;
            } else if registered & !removed == 0 {
                wanted |= registered & registered.wrapping_neg();
            }
        }
        self.without_equals(undone, wanted)
    }

    /// The slots of these changes that touch the wanted registrations. Of those that never return
    /// and do the same, the one that was called first stands for all.
    fn without_equals(&self, undone: u128, wanted: u64) -> u128 {
        let (mut slots, mut added, mut removed) = (0, 0, 0);
        for slot in bits(undone) {
            let change = self.change(slot);
            if change.never_returns {
                let is_equal = change.added & added != 0 || change.removed & removed != 0;
                if is_equal {
                    continue;
                }
                added |= change.added;
                removed |= change.removed;
            }
            if change.touched() & wanted != 0 {
                slots |= bit(slot);
            }
        }
        slots
    }

    fn with_done(&self, mut configuration: Configuration, slot: u8) -> Configuration {
        let change = self.change(slot);
        configuration.registered = configuration.registered & !change.removed | change.added;
        configuration.done |= bit(slot);
        configuration.satisfy(self.found, self.absent);
        configuration
    }

    fn change(&self, slot: u8) -> Change {
        self.changes.get(usize::from(slot)).copied().unwrap_or_default()
    }

    /// Drops explanations that are no better than another.
    fn prune(&mut self) {
        self.configurations.sort_unstable();
        self.configurations.dedup();
        match self.configurations.len() {
            0 | 1 => {}
            2..=COMPARED_MAX => self.prune_all(),
            _ => self.prune_lookups(),
        }
    }

    /// Compares all with all, those that have done least first.
    fn prune_all(&mut self) {
        let mut candidates = std::mem::take(&mut self.configurations);
        candidates.sort_by_key(|it| (it.done.count_ones(), u128::BITS - it.satisfied.count_ones()));
        let mut best: Vec<Configuration> = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if !best.iter().any(|other| self.is_as_good(other, &candidate)) {
                best.push(candidate);
            }
        }
        best.sort_unstable();
        self.configurations = best;
    }

    /// Whether everything that can follow one explanation can follow the other, too: what it has
    /// not done yet, it can do now, or leave.
    fn is_as_good(&self, other: &Configuration, one: &Configuration) -> bool {
        if other.done & !one.done != 0 || one.satisfied & !other.satisfied != 0 {
            return false;
        }
        let (mut added, mut removed, mut required) = (0, 0, 0);
        for change in bits(one.done & !other.done).map(|slot| self.change(slot)) {
            added |= change.added;
            removed |= change.removed;
            if !change.may_never_happen {
                required |= change.touched();
            }
        }
        // Registrations that are as they are in the other, and need not be touched.
        let left = !(one.registered ^ other.registered) & !required;
        // Registrations that end as in the one, if the changes are done in the right order.
        let done = one.registered & added | !one.registered & removed;
        left | done == u64::MAX
    }

    /// Of explanations that differ only in their lookups, those with more are as good as all.
    fn prune_lookups(&mut self) {
        let mut best_by_state: BTreeMap<(u64, u128), Vec<u128>> = BTreeMap::new();
        for Configuration { registered, done, satisfied } in self.configurations.drain(..) {
            let best = best_by_state.entry((registered, done)).or_default();
            if !best.iter().any(|other| satisfied & !other == 0) {
                best.retain(|other| other & !satisfied != 0);
                best.push(satisfied);
            }
        }
        for ((registered, done), mut best) in best_by_state {
            best.sort_unstable();
            let of_state = |satisfied| Configuration { registered, done, satisfied };
            self.configurations.extend(best.into_iter().map(of_state));
        }
    }
}

/// What all explanations agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explanation {
    /// The registrations that count.
    pub(crate) registered: u64,
    /// Slots of open registrations and removals that have taken effect.
    pub(crate) done: u128,
    /// Slots of open lookups whose answer was right at some time.
    pub(crate) satisfied: u128,
}

impl Configuration {
    /// Marks every open lookup that this state answers as it was answered.
    const fn satisfy(&mut self, found: u128, absent: u128) {
        self.satisfied |= if self.registered != 0 { found } else { absent };
    }
}

impl Goal {
    const fn is_reached(self, configuration: &Configuration) -> bool {
        match self {
            Self::Done(slot) => configuration.done & bit(slot) != 0,
            Self::Satisfied(slot) => configuration.satisfied & bit(slot) != 0,
        }
    }
}

fn registration_bit(registration: u8) -> Result<u64, Stop> {
    match registration {
        0..REGISTRATIONS_MAX => Ok(1 << registration),
        more => Err(Stop::Inconclusive(Inconclusive::Registrations(more))),
    }
}

const fn bit(slot: u8) -> u128 {
    1 << slot
}

/// The slots of a set, the highest first: what never returns, in the order of the calls.
fn bits(mut set: u128) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let slot = u8::try_from(set.checked_ilog2()?).ok()?;
        set &= !bit(slot);
        Some(slot)
    })
}
