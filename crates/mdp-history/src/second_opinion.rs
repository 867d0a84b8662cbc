//! A second checker, for short histories, that shares nothing with the first: where the two
//! disagree, one of them is wrong.
//!
//! Depth first over a linked list of calls and returns (Wing and Gong), with a memory of the sets
//! of operations and states that were tried (Lowe).

use std::collections::BTreeSet;

use crate::{Action, Inconclusive, Operation, REGISTRATIONS_MAX};

/// How many operations a history may have for a second opinion.
pub const OPERATIONS_MAX: usize = 128;

/// Whether some order explains the history of one service that nobody offers at its start.
///
/// # Errors
/// The history is too long, or has too many registrations.
pub fn second_opinion(history: &[Operation]) -> Result<bool, Inconclusive> {
    if history.len() > OPERATIONS_MAX {
        return Err(Inconclusive::Operations);
    }
    for operation in history {
        if let Action::Add(number) | Action::Remove(number) = operation.action
            && number >= REGISTRATIONS_MAX
        {
            return Err(Inconclusive::Registrations(number));
        }
    }
    Ok(Trial::new(history).finds_an_order())
}

/// A call or a return in the list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    operation: usize,
    is_return: bool,
    /// The next entry that is still in the list.
    next: usize,
    previous: usize,
}

/// What was decided about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Happens,
    /// Only where that is possible.
    NeverHappens,
}

/// A decision that can be taken back.
#[derive(Clone, Copy, Debug)]
struct Decision {
    call: usize,
    choice: Choice,
    state_before: u64,
}

struct Trial<'a> {
    history: &'a [Operation],
    /// The first is the head of the list, and also its end.
    entries: Vec<Entry>,
    /// By operation; none if it never returns.
    return_of: Vec<Option<usize>>,
    state: u64,
    /// Bits of the operations that are decided.
    decided: u128,
    decisions: Vec<Decision>,
    tried: BTreeSet<(u128, u64)>,
}

const HEAD: usize = 0;

impl<'a> Trial<'a> {
    fn new(history: &'a [Operation]) -> Self {
        let mut order = Vec::new();
        for (operation, it) in history.iter().enumerate() {
            order.push((it.called_at, false, operation));
            if let Some(at) = it.returned_at {
                order.push((at.max(it.called_at), true, operation));
            }
        }
        // At equal times calls come first.
        order.sort_unstable();
        let mut return_of = vec![None; history.len()];
        let head = Entry { operation: 0, is_return: true, next: 1, previous: order.len() };
        let mut entries = vec![head];
        for (_, is_return, operation) in order {
            let place = entries.len();
            entries.push(Entry { operation, is_return, next: place + 1, previous: place - 1 });
            if is_return {
                return_of[operation] = Some(place);
            }
        }
        let last = entries.len() - 1;
        entries[last].next = HEAD;
        let (decisions, tried) = (Vec::new(), BTreeSet::new());
        Self { history, entries, return_of, state: 0, decided: 0, decisions, tried }
    }

    fn finds_an_order(mut self) -> bool {
        let mut cursor = self.entries[HEAD].next;
        let mut first_choice = Choice::Happens;
        while cursor != HEAD {
            if !self.entries[cursor].is_return && self.decide(cursor, first_choice) {
                cursor = self.entries[HEAD].next;
                first_choice = Choice::Happens;
            } else if !self.entries[cursor].is_return {
                cursor = self.entries[cursor].next;
                first_choice = Choice::Happens;
            } else {
                // This operation is over and not decided.
                let Some(taken_back) = self.take_back() else { return false };
                match taken_back.choice {
                    Choice::Happens => {
                        cursor = taken_back.call;
                        first_choice = Choice::NeverHappens;
                    }
                    Choice::NeverHappens => {
                        cursor = self.entries[taken_back.call].next;
                        first_choice = Choice::Happens;
                    }
                }
            }
        }
        // Nothing that must happen is left.
        true
    }

    /// Decides about an operation as it was not yet tried, if there is a way.
    fn decide(&mut self, call: usize, first_choice: Choice) -> bool {
        let number = self.entries[call].operation;
        let operation = self.history[number];
        let decided = self.decided | 1 << number;
        let happened = (first_choice == Choice::Happens)
            .then(|| state_after(self.state, operation.action))
            .flatten();
        let choice = match happened {
            Some(state) if self.tried.insert((decided, state)) => Choice::Happens,
            _ if (operation.is_optional || operation.returned_at.is_none())
                && self.tried.insert((decided, self.state)) =>
            {
                Choice::NeverHappens
            }
            _ => return false,
        };
        self.decisions.push(Decision { call, choice, state_before: self.state });
        if let (Choice::Happens, Some(state)) = (choice, happened) {
            self.state = state;
        }
        self.decided = decided;
        self.lift(call);
        if let Some(place) = self.return_of[number] {
            self.lift(place);
        }
        true
    }

    fn take_back(&mut self) -> Option<Decision> {
        let decision = self.decisions.pop()?;
        let number = self.entries[decision.call].operation;
        if let Some(place) = self.return_of[number] {
            self.put_back(place);
        }
        self.put_back(decision.call);
        self.state = decision.state_before;
        self.decided &= !(1 << number);
        Some(decision)
    }

    fn lift(&mut self, place: usize) {
        let Entry { next, previous, .. } = self.entries[place];
        self.entries[previous].next = next;
        self.entries[next].previous = previous;
    }

    fn put_back(&mut self, place: usize) {
        let Entry { next, previous, .. } = self.entries[place];
        self.entries[previous].next = place;
        self.entries[next].previous = place;
    }
}

/// None: the lookup would have been answered differently.
fn state_after(state: u64, action: Action) -> Option<u64> {
    match action {
        Action::Add(registration) => Some(state | 1 << registration),
        Action::Remove(registration) => Some(state & !(1 << registration)),
        Action::Lookup { found } => (found == (state != 0)).then_some(state),
    }
}

#[cfg(test)]
mod tests;
