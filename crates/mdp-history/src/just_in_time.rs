//! The checker.

use crate::{
    Illegal, Operation, Verdict,
    schedule::{Event, events},
    search::{Search, Stop},
    window::Window,
};

/// Checks the history of one service that nobody offers at its start, in any order.
pub fn check(history: &[Operation]) -> Verdict {
    let events = events(history);
    match run(history, &events, 0) {
        Outcome::Legal => Verdict::Legal,
        Outcome::Inconclusive(reason) => Verdict::Inconclusive(reason),
        Outcome::Illegal { event, settled } => {
            let Some(at) = events.get(event).and_then(|event| history.get(event.index)) else {
                return Verdict::Legal;
            };
            let window = Window::find(history, &events, event, settled);
            Verdict::Illegal(Illegal { at: *at, window })
        }
    }
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Legal,
    Illegal {
        /// The event at which the last explanation failed.
        event: usize,
        /// How many events there were when only one explanation was left for the last time.
        settled: usize,
    },
    Inconclusive(crate::Inconclusive),
}

/// Searches for an explanation, if these are registered at the start.
pub(crate) fn run(history: &[Operation], events: &[Event], registered: u64) -> Outcome {
    let mut search = Search::new(registered);
    let mut settled = 0;
    for (number, event) in events.iter().enumerate() {
        let Some(operation) = history.get(event.index) else { continue };
        match search.step(*event, operation) {
            Ok(()) => {}
            Err(Stop::Illegal) => return Outcome::Illegal { event: number, settled },
            Err(Stop::Inconclusive(reason)) => return Outcome::Inconclusive(reason),
        }
        if search.only_explanation().is_some() {
            settled = number + 1;
        }
    }
    Outcome::Legal
}

#[cfg(test)]
mod tests;
