//! What the calls between nodes came to: written by one thread and read by others.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

pub use mdp_core::LinkTotals;

/// What the calls between nodes came to.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    /// As the thread knew it in its last turn.
    totals: Mutex<LinkTotals>,
    /// Answers that never reached the thread.
    lost_answers: AtomicU64,
    /// How often the keys of nodes could not be read again.
    keys_errors: AtomicU64,
}

impl LinkCounters {
    /// Their values now.
    pub(crate) fn totals(&self) -> LinkTotals {
        let mut totals = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.lost_answers += self.lost_answers.load(Ordering::Relaxed);
        totals.keys_errors = self.keys_errors.load(Ordering::Relaxed);
        totals
    }

    /// The thread has counted.
    pub(super) fn publish(&self, totals: LinkTotals) {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    /// The keys of nodes could not be read again.
    pub(crate) fn count_keys_error(&self) {
        self.keys_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer does not reach the thread.
    pub(super) fn count_lost_answer(&self) {
        self.lost_answers.fetch_add(1, Ordering::Relaxed);
    }
}
