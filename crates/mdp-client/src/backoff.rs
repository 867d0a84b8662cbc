//! Pauses before new connections: doubling, with jitter.

use std::time::Duration;

/// Doublings after which the pause cannot grow any more, whatever the options say.
const DOUBLINGS_MAX: u32 = 31;

#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    doublings: u32,
    luck: fastrand::Rng,
}

impl Backoff {
    /// `seed` makes workers that lost the same broker come back at different times.
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, doublings: 0, luck: fastrand::Rng::with_seed(seed) }
    }

    /// The next pause: half of it is fixed, the other half random.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX);
        let full = self.min.saturating_mul(factor).min(self.max);
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        full.mul_f64(0.5 + self.luck.f64() / 2.0)
    }

    /// A connection was good: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(seed: u64, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), seed);
        (0..count).map(|_| backoff.next_pause()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        for seed in 0..100 {
            for (pause, full_ms) in pauses(seed, 50).into_iter().zip([100, 200, 400, 800, 1_000]) {
                let full = Duration::from_millis(full_ms);
                assert!(pause >= full / 2 && pause <= full, "seed {seed}: {pause:?} of {full:?}");
            }
        }
    }

    #[test]
    fn pauses_differ_between_workers() {
        assert_ne!(pauses(1, 5), pauses(2, 5));
    }

    #[test]
    fn pauses_are_short_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(9), 7);
        for _ in 0..10 {
            backoff.next_pause();
        }

        backoff.reset();

        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }
}
