//! Checks histories of `mmi.service` for linearizability: is there an order of the operations on
//! one service that explains every answer and agrees with the times at which they began and ended?
//!
//! The object is the set of registrations of the service, empty at first; a lookup says whether it
//! is not empty. Each service is checked by itself; no order across services is promised.
//!
//! [`History`] records, [`check`] judges, [`second_opinion`] judges short histories by another
//! algorithm, and [`Detection`] measures whether a history could have shown a wrong answer.
//!
//! ```
//! use mdp_history::{Call, History};
//!
//! let mut history = History::new();
//! let add = history.call(Call::Add(0), 10);
//! history.return_(add, 15);
//! let lookup = history.call(Call::Lookup, 20);
//! history.answer(lookup, true, 22);
//! assert!(history.check().is_legal());
//! ```

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool for tests: it stops at a mistake of its caller or of its own"
)]

mod flips;
#[cfg(test)]
mod generated;
mod history;
mod just_in_time;
mod operation;
mod schedule;
mod search;
mod second_opinion;
mod verdict;
mod window;

pub use flips::{Detection, detected_percent};
pub use history::{Call, History, OpId};
pub use just_in_time::check;
pub use operation::{Action, Operation, REGISTRATIONS_MAX};
pub use search::{CONFIGURATIONS_MAX, OPEN_MAX};
pub use second_opinion::{OPERATIONS_MAX, second_opinion};
pub use verdict::{Illegal, Inconclusive, Verdict};
pub use window::Window;
