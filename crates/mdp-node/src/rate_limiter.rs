//! Log lines for each source: a few at once, then one in a while, however much happens.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    time::{Duration, Instant},
};

/// How many lines of one source are written at once, and how long it takes to earn one more.
const SOURCE_LINES: u32 = 10;
const SOURCE_INTERVAL: Duration = Duration::from_secs(10);
/// The same for all sources together: their number is for peers to say.
const ALL_LINES: u32 = 1_000;
const ALL_INTERVAL: Duration = Duration::from_millis(100);
/// Sources are told apart by a hash only, so that their number costs no memory. Its key is random: no
/// peer can choose an address or a name that uses up the lines of another one.
const SLOTS: u64 = 256;

/// Whether a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is.
    Allowed {
        /// How many of this source were left out before it; `None`: none was.
        left_out: Option<u64>,
    },
    /// There were too many.
    Throttled,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    filled_at: Option<Instant>,
    left_out: u64,
}

impl Bucket {
    const fn full(tokens: u32) -> Self {
        Self { tokens, filled_at: None, left_out: 0 }
    }

    fn fill(&mut self, now: Instant, (most, interval): (u32, Duration)) {
        let Some(filled_at) = self.filled_at.filter(|_| self.tokens < most) else {
            self.filled_at = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(filled_at).as_nanos();
        let earned = u32::try_from(passed / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(most);
            self.filled_at = Some(now);
        }
    }
}

/// The lines that each source may still have written.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    sources: Vec<Bucket>,
    hasher: RandomState,
    all: Bucket,
}

impl Default for RateLimiter {
    fn default() -> Self {
        let sources = (0..SLOTS).map(|_| Bucket::full(SOURCE_LINES)).collect();
        Self { sources, hasher: RandomState::new(), all: Bucket::full(ALL_LINES) }
    }
}

impl RateLimiter {
    /// Asks for a line of this source.
    pub(crate) fn admit(&mut self, now: Instant, source: &impl Hash) -> Admission {
        let slot = self.slot(source);
        let Some(bucket) = self.sources.get_mut(slot) else { return Admission::Throttled };
        bucket.fill(now, (SOURCE_LINES, SOURCE_INTERVAL));
        self.all.fill(now, (ALL_LINES, ALL_INTERVAL));
        if bucket.tokens == 0 || self.all.tokens == 0 {
            bucket.left_out += 1;
            return Admission::Throttled;
        }
        bucket.tokens -= 1;
        self.all.tokens -= 1;
        let left_out = Some(std::mem::take(&mut bucket.left_out)).filter(|count| *count > 0);
        Admission::Allowed { left_out }
    }

    fn slot(&self, source: &impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(source) % SLOTS).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Admission = Admission::Allowed { left_out: None };

    #[test]
    fn source_has_a_few_lines_at_once_and_then_one_in_a_while() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        let admitted = (0..200).filter(|_| limiter.admit(now, &"a") == ALLOWED).count();
        assert_eq!(admitted, 10);
        assert_eq!(limiter.admit(now + SOURCE_INTERVAL / 2, &"a"), Admission::Throttled);

        let next = limiter.admit(now + SOURCE_INTERVAL, &"a");

        assert_eq!(next, Admission::Allowed { left_out: Some(191) });
        assert_eq!(limiter.admit(now + SOURCE_INTERVAL, &"a"), Admission::Throttled);

        let slot = limiter.slot(&"a");
        let other = (0_u32..).find(|other| limiter.slot(other) != slot).unwrap();
        assert_eq!(limiter.admit(now + SOURCE_INTERVAL, &other), ALLOWED);
    }

    #[test]
    fn sources_that_share_a_slot_are_others_in_every_process() {
        let slots = |limiter: &RateLimiter| (0..64).map(|n| limiter.slot(&n)).collect::<Vec<_>>();
        let limiter = RateLimiter::default();
        assert_eq!(slots(&limiter), slots(&limiter));
        assert_ne!(slots(&limiter), slots(&RateLimiter::default()));
    }

    #[test]
    fn all_sources_together_have_a_limit() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        let allowed = |now, limiter: &mut RateLimiter| {
            (0..100_000).filter(|n| limiter.admit(now, n) != Admission::Throttled).count()
        };
        assert_eq!(allowed(now, &mut limiter), 1_000);
        assert_eq!(allowed(now + Duration::from_secs(5), &mut limiter), 50);
    }
}
