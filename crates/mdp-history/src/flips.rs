//! Could the histories have shown a wrong answer at all?

use crate::{
    Action, Operation,
    schedule::{Event, Moment, events},
    search::Search,
};

/// How many wrong answers would have been noticed in some histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// How many lookups were told wrong, one at a time.
    pub flipped: usize,
    /// How many of these made the history illegal.
    pub detected: usize,
}

impl Detection {
    /// Tells every `step`th lookup of the histories wrong, one at a time; a history begins where
    /// the count of the one before ended. Histories that are not legal are left out.
    #[must_use]
    pub fn measure(histories: &[Vec<Operation>], step: usize) -> Self {
        let mut all = Self::default();
        let mut until_next = 1;
        for history in histories {
            let found = Flips::new(history).measure(step.max(1), &mut until_next);
            if let Some(Self { flipped, detected }) = found {
                all.flipped += flipped;
                all.detected += detected;
            }
        }
        all
    }

    /// How many in a hundred were noticed, rounded down; none if none was tried.
    #[must_use]
    pub const fn percent(self) -> Option<usize> {
        (self.detected * 100).checked_div(self.flipped)
    }

    /// Which part was noticed, from 0 to 1; none if none was tried.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of lookups are far below 2^52")]
    pub fn fraction(self) -> Option<f64> {
        (self.flipped > 0).then(|| self.detected as f64 / self.flipped as f64)
    }
}

/// How many in a hundred lookups, told wrong one at a time, make the history illegal: whether the
/// history could show a wrong answer at all. `step`: every how many lookups one is tried.
///
/// # Panics
/// There are no lookups in a legal history.
#[must_use]
pub fn detected_percent(histories: &[Vec<Operation>], step: usize) -> usize {
    let percent = Detection::measure(histories, step).percent();
    percent.unwrap_or_else(|| panic!("there are no lookups in a legal history"))
}

/// Goes through a history, and from each lookup that is told wrong a bit further.
struct Flips<'a> {
    history: &'a [Operation],
    events: Vec<Event>,
}

impl<'a> Flips<'a> {
    fn new(history: &'a [Operation]) -> Self {
        Self { history, events: events(history) }
    }

    /// None: the history is not legal.
    fn measure(&self, step: usize, until_next: &mut usize) -> Option<Detection> {
        let mut found = Detection::default();
        let mut search = Search::new(0);
        for (number, event) in self.events.iter().enumerate() {
            let operation = self.history.get(event.index)?;
            if operation.action.is_lookup() && event.moment == Moment::Call {
                *until_next -= 1;
                if *until_next == 0 {
                    *until_next = step;
                    found.flipped += 1;
                    found.detected += usize::from(self.is_detected(&search, number));
                }
            }
            search.step(*event, operation).ok()?;
        }
        Some(found)
    }

    /// Whether the history becomes illegal if the lookup of this event is told wrong. Behind the
    /// lookup's end, nothing can come of it once the explanations are the same as without.
    fn is_detected(&self, before: &Search, call: usize) -> bool {
        let (mut right, mut wrong) = (before.clone(), before.clone());
        let flipped = self.events.get(call).map(|event| event.index);
        let mut is_over = false;
        for event in self.events.iter().skip(call) {
            let Some(operation) = self.history.get(event.index) else { return false };
            let told = if Some(event.index) == flipped { flip(operation) } else { *operation };
            if let Err(stop) = wrong.step(*event, &told) {
                return stop == crate::search::Stop::Illegal;
            }
            if right.step(*event, operation).is_err() {
                return false;
            }
            is_over |= Some(event.index) == flipped && event.moment == Moment::Return;
            if is_over && wrong == right {
                return false;
            }
        }
        false
    }
}

fn flip(operation: &Operation) -> Operation {
    let action = match operation.action {
        Action::Lookup { found } => Action::Lookup { found: !found },
        change @ (Action::Add(_) | Action::Remove(_)) => change,
    };
    Operation { action, ..*operation }
}

#[cfg(test)]
mod tests;
