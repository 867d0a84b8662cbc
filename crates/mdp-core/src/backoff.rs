//! How long to wait before a link is tried again.

use std::time::Duration;

/// The shortest wait.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// What the longest wait begins with, and doubles to, while attempts fail.
const CEILING_MIN: Duration = Duration::from_millis(100);
const CEILING_MAX: Duration = Duration::from_millis(500);

/// Numbers that differ from node to node, so that nodes do not do everything at the same moment.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// How long to wait after this number of failures in a row.
    pub(super) fn wait(&mut self, failures: u32) -> Duration {
        let ceiling = CEILING_MIN.saturating_mul(1 << failures.min(4)).min(CEILING_MAX);
        let spread = u64::try_from(ceiling.saturating_sub(WAIT_MIN).as_micros()).unwrap_or(0);
        WAIT_MIN + Duration::from_micros(self.next() % spread.max(1))
    }

    /// The next number of the sequence SplitMix64.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_their_bounds_and_are_not_alike() {
        let mut jitter = Jitter::new(7);
        for failures in 0..100 {
            let (one, other) = (jitter.wait(failures), jitter.wait(failures));
            assert_ne!(one, other);
            assert!(one >= WAIT_MIN && one <= CEILING_MAX, "{one:?}");
        }
        assert!((0..100).all(|_| jitter.wait(0) <= CEILING_MIN));
        assert!((0..100).any(|_| jitter.wait(9) > CEILING_MIN));
    }
}
