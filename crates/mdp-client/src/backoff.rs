//! Pauses before new connections: doubling, with jitter.

use std::time::{Duration, Instant};

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
        let pause = pause((self.min, self.max), self.doublings, &mut self.luck);
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        pause
    }

    /// A connection was good: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.doublings = 0;
    }
}

/// The pause after this many others.
fn pause((min, max): (Duration, Duration), before: u32, rng: &mut fastrand::Rng) -> Duration {
    let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
    min.saturating_mul(factor).min(max).mul_f64(0.5 + rng.f64() / 2.0)
}

/// The pauses before a broker is connected to again that has refused this side: it is there, and will do so
/// again until a person changes keys or settings.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u32,
    until: Option<Instant>,
}

/// The first pause after a refusal; it doubles with each.
const REFUSAL_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest: how late a change of keys or settings may be noticed.
const REFUSAL_PAUSE_MAX: Duration = Duration::from_secs(30);

impl Refusals {
    /// It was refused once more. Several connections that end together are one refusal.
    pub(crate) fn on_refused(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        if self.until(now).is_none() {
            let bounds = (REFUSAL_PAUSE_MIN, REFUSAL_PAUSE_MAX);
            self.until = Some(now + pause(bounds, self.count, rng));
            self.count = (self.count + 1).min(DOUBLINGS_MAX);
        }
    }

    /// When it may be connected to again, if not now.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
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
    fn pauses_after_refusals_double_up_to_half_a_minute() {
        let (mut refusals, mut rng) = (Refusals::default(), fastrand::Rng::with_seed(7));
        let mut now = Instant::now();
        for full_s in [1, 2, 4, 8, 16, 30, 30] {
            let full = Duration::from_secs(full_s);
            refusals.on_refused(now, &mut rng);
            let until = refusals.until(now).unwrap();
            assert!(
                until - now >= full / 2 && until - now <= full,
                "{:?} of {full:?}",
                until - now
            );
            // Another connection to the same broker ends a little later.
            refusals.on_refused(now + full / 4, &mut rng);
            assert_eq!(refusals.until(now), Some(until));
            now = until;
            assert_eq!(refusals.until(now), None);
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
