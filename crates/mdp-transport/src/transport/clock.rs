//! Time in which this process was awake (decision 0005): a pause of ours is no silence of a peer.

use std::time::{Duration, Instant};

/// The transport is called at least this often while the process runs.
const CALLED_EVERY: Duration = Duration::from_secs(1);

/// Turns the shell's clock into one that stands still while the process does.
#[derive(Debug)]
pub(super) struct AwakeClock {
    last: Instant,
    /// How long the process stood still so far.
    paused: Duration,
}

impl AwakeClock {
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: now, paused: Duration::ZERO }
    }

    /// What this clock shows when the shell's shows `now`. After more than twice the time in which
    /// something must have been called the process stood still: all but one such time does not count.
    pub(super) fn awake(&mut self, now: Instant) -> Instant {
        let gap = now.saturating_duration_since(self.last);
        if gap > 2 * CALLED_EVERY {
            self.paused += gap - CALLED_EVERY;
        }
        self.last = self.last.max(now);
        self.last.checked_sub(self.paused).unwrap_or(self.last)
    }

    /// What the shell's clock shows when this one shows `awake`, if there is no pause till then.
    pub(super) fn to_shell(&self, awake: Instant) -> Instant {
        awake + self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
    fn pause_of_the_process_does_not_count() {
        let start = Instant::now();
        let mut clock = AwakeClock::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.awake(at(1)), at(1));
        assert_eq!(clock.awake(at(3)), at(3));
        // Five seconds of pause, of which one could have been a sleep.
        assert_eq!(clock.awake(at(8)), at(4));
        assert_eq!(clock.awake(at(9)), at(5));
        assert_eq!(clock.to_shell(at(6)), at(10));
        // A clock that is read before another one is no news.
        assert_eq!(clock.awake(at(8)), at(5));
    }
}
