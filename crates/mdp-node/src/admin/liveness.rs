//! Whether the broker thread turns.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How long the broker thread may make no turn; it makes one every second at least.
const STILL_MAX: Duration = Duration::from_secs(5);
/// How long to wait for a turn before the thread counts as dead: a process that was stopped has
/// made none, and is about to.
const GRACE_MAX: Duration = Duration::from_secs(2);
/// How often to look meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What was seen of the broker thread.
#[derive(Debug)]
pub(super) struct Liveness {
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    turns: u64,
    /// When the count was first seen.
    at: Instant,
}

impl Liveness {
    pub(super) fn new(turns: u64) -> Self {
        Self { seen: Mutex::new(Seen { turns, at: Instant::now() }) }
    }

    /// Whether the count of turns moved within the last seconds, or does so now.
    pub(super) async fn is_alive(&self, turns: impl Fn() -> u64) -> bool {
        let deadline = Instant::now() + GRACE_MAX;
        while !self.has_moved(turns()) {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
        true
    }

    fn has_moved(&self, turns: u64) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.turns != turns {
            *seen = Seen { turns, at: now };
        }
        now.saturating_duration_since(seen.at) < STILL_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn thread_that_makes_no_turn_is_dead_after_a_while() {
        let liveness = Liveness::new(7);
        assert!(liveness.is_alive(|| 7).await);

        advance(STILL_MAX).await;

        assert!(!liveness.is_alive(|| 7).await);
        assert!(liveness.is_alive(|| 8).await);
    }

    #[tokio::test(start_paused = true)]
    async fn thread_that_was_stopped_gets_the_time_for_a_turn() {
        let liveness = Liveness::new(7);
        advance(STILL_MAX * 10).await;

        let looks = AtomicU64::new(0);
        let wakes = || if looks.fetch_add(1, Ordering::Relaxed) < 10 { 7 } else { 8 };

        assert!(liveness.is_alive(wakes).await);
    }
}
