//! The engine's time: monotonic, and without the time that the process stood still.

use std::time::{Duration, Instant};

use mdp_mutants::{Mutant, is_on};

/// A moment in the life of the broker: nanoseconds since it was made, pauses taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The moment so much later.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// How much later this moment is; zero if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Turns the shell's instants into moments.
#[derive(Debug)]
pub(crate) struct Clock {
    started_at: Instant,
    /// The sum of all pauses in nanoseconds. It moves every deadline at once, so that none has to
    /// be set anew (docs/decisions/0005).
    paused: u64,
    now: Moment,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started_at: now, paused: 0, now: Moment::default() }
    }

    /// Takes the time; an earlier one than before counts as the one before.
    ///
    /// If the next deadline is overdue by more than `pause_detected_after`, and nothing was called
    /// meanwhile, the process stood still. That time is taken out, and is returned.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        next_deadline: Option<Moment>,
        pause_detected_after: Duration,
    ) -> Option<Duration> {
        let elapsed = nanoseconds(now.saturating_duration_since(self.started_at));
        let moment = Moment(elapsed.saturating_sub(self.paused));
        // Up to the last call the process was awake, whatever was due.
        let overdue =
            next_deadline.map_or(Duration::ZERO, |deadline| moment.since(deadline.max(self.now)));
        if overdue > pause_detected_after && !is_on(Mutant::ExpiryAfterPause) {
            self.paused = self.paused.saturating_add(nanoseconds(overdue));
            self.now = self.now.max(Moment(elapsed.saturating_sub(self.paused)));
            return Some(overdue);
        }
        self.now = self.now.max(moment);
        None
    }

    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// The shell's instant for a moment.
    pub(crate) fn instant_of(&self, moment: Moment) -> Instant {
        let elapsed = Duration::from_nanos(moment.0.saturating_add(self.paused));
        self.started_at.checked_add(elapsed).unwrap_or(self.started_at)
    }

    /// The moment of a shell's instant.
    pub(crate) fn moment_of(&self, instant: Instant) -> Moment {
        let elapsed = nanoseconds(instant.saturating_duration_since(self.started_at));
        Moment(elapsed.saturating_sub(self.paused))
    }
}
