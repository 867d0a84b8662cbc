//! What the calls between nodes came to, counted by one thread and read by others.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the calls between nodes came to, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Requests sent to other nodes.
    pub sent: u64,
    /// Answers that came in time.
    pub answered: u64,
    /// Requests whose time was up before their answer came.
    pub timed_out: u64,
    /// Requests refused because too many waited for the same node.
    pub refused: u64,
    /// Answers that came too late, or that nobody had asked for.
    pub late_answers: u64,
    /// Requests of other nodes that were received.
    pub received: u64,
    /// Requests of other nodes that were dropped because too many were in progress, or because this
    /// node was not ready for them.
    pub dropped: u64,
    /// Messages that were no requests.
    pub malformed: u64,
    /// Answers that could not be sent any more.
    pub lost_answers: u64,
}

/// The counters behind [`LinkTotals`].
#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) late_answers: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) lost_answers: AtomicU64,
}

impl LinkCounters {
    /// Their values now.
    pub(crate) fn totals(&self) -> LinkTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkTotals {
            sent: read(&self.sent),
            answered: read(&self.answered),
            timed_out: read(&self.timed_out),
            refused: read(&self.refused),
            late_answers: read(&self.late_answers),
            received: read(&self.received),
            dropped: read(&self.dropped),
            malformed: read(&self.malformed),
            lost_answers: read(&self.lost_answers),
        }
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
