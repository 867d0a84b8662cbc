//! A few at once, then one in a while, however much happens: log lines for each source, and whatever else
//! others can cause at will.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    ops::Sub,
    time::{Duration, Instant},
};

/// How many lines of one source are written at once, and how long it takes to earn one more.
const SOURCE: Limit = Limit { most: 10, interval: Duration::from_secs(10) };
/// The same for all sources together: their number is for peers to say.
const ALL: Limit = Limit { most: 1_000, interval: Duration::from_millis(100) };
/// Sources are told apart by a hash only, so that their number costs no memory. Its key is random: no
/// peer can choose an address or a name that uses up the lines of another one.
const SLOTS: u64 = 256;

/// How many at once, and how long it takes to earn one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many at once.
    pub most: u32,
    /// How long it takes to earn one more.
    pub interval: Duration,
}

/// Whether something is done, such as writing a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Allowed {
        /// How many of this source were left out before it; `None`: none was.
        left_out: Option<u64>,
    },
    /// There were too many.
    Throttled,
}

/// Logs an event whose source may have had too many lines: then `debug` alone shows it.
#[macro_export]
macro_rules! event {
    ($admission:expr, $level:ident, $($event:tt)*) => {
        match $admission {
            $crate::Admission::Allowed { left_out } => tracing::$level!(left_out, $($event)*),
            $crate::Admission::Throttled => tracing::debug!($($event)*),
        }
    };
}

/// A token bucket, by any monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<I = Instant> {
    limit: Limit,
    tokens: u32,
    filled_at: Option<I>,
    left_out: u64,
}

impl<I: Copy + PartialOrd + Sub<Output = Duration>> Bucket<I> {
    /// A full one.
    #[must_use]
    pub const fn full(limit: Limit) -> Self {
        Self { limit, tokens: limit.most, filled_at: None, left_out: 0 }
    }

    /// Asks for one.
    pub fn admit(&mut self, now: I) -> Admission {
        self.fill(now);
        if self.tokens == 0 {
            return self.leave_out();
        }
        self.take()
    }

    fn take(&mut self) -> Admission {
        self.tokens = self.tokens.saturating_sub(1);
        let left_out = Some(std::mem::take(&mut self.left_out)).filter(|count| *count > 0);
        Admission::Allowed { left_out }
    }

    const fn leave_out(&mut self) -> Admission {
        self.left_out = self.left_out.saturating_add(1);
        Admission::Throttled
    }

    fn fill(&mut self, now: I) {
        let Limit { most, interval } = self.limit;
        let Some(filled_at) = self.filled_at.filter(|_| self.tokens < most) else {
            self.filled_at = Some(now);
            return;
        };
        let passed = if now > filled_at { (now - filled_at).as_nanos() } else { 0 };
        let earned = u32::try_from(passed / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(most);
            self.filled_at = Some(now);
        }
    }
}

/// The lines that each source may still have written.
#[derive(Debug)]
pub struct RateLimiter {
    sources: Vec<Bucket>,
    hasher: RandomState,
    all: Bucket,
}

impl Default for RateLimiter {
    fn default() -> Self {
        let sources = (0..SLOTS).map(|_| Bucket::full(SOURCE)).collect();
        Self { sources, hasher: RandomState::new(), all: Bucket::full(ALL) }
    }
}

impl RateLimiter {
    /// Asks for a line of this source.
    pub fn admit(&mut self, now: Instant, source: &impl Hash) -> Admission {
        let slot = self.slot(source);
        let Some(bucket) = self.sources.get_mut(slot) else { return Admission::Throttled };
        bucket.fill(now);
        self.all.fill(now);
        if bucket.tokens == 0 || self.all.tokens == 0 {
            return bucket.leave_out();
        }
        self.all.tokens -= 1;
        bucket.take()
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
        assert_eq!(limiter.admit(now + SOURCE.interval / 2, &"a"), Admission::Throttled);

        let next = limiter.admit(now + SOURCE.interval, &"a");

        assert_eq!(next, Admission::Allowed { left_out: Some(191) });
        assert_eq!(limiter.admit(now + SOURCE.interval, &"a"), Admission::Throttled);

        let slot = limiter.slot(&"a");
        let other = (0_u32..).find(|other| limiter.slot(other) != slot).unwrap();
        assert_eq!(limiter.admit(now + SOURCE.interval, &other), ALLOWED);
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
