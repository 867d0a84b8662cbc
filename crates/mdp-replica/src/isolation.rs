//! Has this node been without a quorum for too long?

use std::time::{Duration, Instant};

/// How many times within the allowed time a quorum is asked for.
const PROBES_PER_TIMEOUT: u32 = 4;

/// Counts the time without a quorum: from one round of reads that ended well to the next.
#[derive(Debug)]
pub struct IsolationWatch {
    /// How long is too long.
    timeout: Duration,
    /// The time without a quorum, as far as this process was awake.
    lonely_for: Duration,
    ticked_at: Instant,
    /// Whether a round ended without quorum since the last that ended well.
    has_failed: bool,
    /// Said once, until there is a quorum again.
    was_told: bool,
}

impl IsolationWatch {
    /// Nothing is known yet. `timeout`: how long without a quorum is too long.
    #[must_use]
    pub const fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            lonely_for: Duration::ZERO,
            ticked_at: now,
            has_failed: false,
            was_told: false,
        }
    }

    /// A round ended.
    pub(crate) const fn on_read(&mut self, now: Instant, has_quorum: bool) {
        if has_quorum {
            *self = Self::new(self.timeout, now);
        } else {
            self.has_failed = true;
        }
    }

    /// When [`on_tick`](Self::on_tick) is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.ticked_at + self.interval()
    }

    /// Time passed; true when it has been too long. A tick that is late by far means that this
    /// process stood still, which says nothing of the others.
    pub(crate) fn on_tick(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.ticked_at);
        self.lonely_for += passed.min(self.interval() * 2);
        self.ticked_at = now;
        let is_isolated = self.has_failed && self.lonely_for >= self.timeout;
        is_isolated && !std::mem::replace(&mut self.was_told, true)
    }

    fn interval(&self) -> Duration {
        self.timeout / PROBES_PER_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    const TIMEOUT: Duration = Duration::from_secs(4);
    const STEP: Duration = Duration::from_secs(1);

    #[test]
    fn isolation_is_told_once_after_the_timeout() {
        let start = any_instant();
        let mut watch = IsolationWatch::new(TIMEOUT, start);
        watch.on_read(start, false);

        let told: Vec<bool> = (1..=8).map(|step| watch.on_tick(start + STEP * step)).collect();

        assert_eq!(told, [false, false, false, true, false, false, false, false]);
    }

    #[test]
    fn quorum_begins_the_time_anew() {
        let start = any_instant();
        let mut watch = IsolationWatch::new(TIMEOUT, start);
        for step in 1..=3 {
            watch.on_read(start, false);
            assert!(!watch.on_tick(start + STEP * step));
        }

        watch.on_read(start + STEP * 3, true);
        watch.on_read(start + STEP * 3, false);

        assert!(!watch.on_tick(start + STEP * 4));
        assert_eq!(watch.poll_timeout(), start + STEP * 5);
    }

    #[test]
    fn process_that_stood_still_is_not_isolated() {
        let start = any_instant();
        let mut watch = IsolationWatch::new(TIMEOUT, start);
        // The probe that was on its way when the process stopped.
        watch.on_read(start + STEP * 100, false);

        assert!(!watch.on_tick(start + STEP * 100));
    }
}
