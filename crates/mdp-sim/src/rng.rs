//! The only source of luck.

use std::time::Duration;

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Numbers of their own, for a part that must not disturb the others.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// One of `0..end`; zero if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.usize(..end) }
    }

    /// One of `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0.u64(from..=to.max(from))
    }

    /// True `parts_per_thousand` times of a thousand.
    pub fn chance(&mut self, parts_per_thousand: u32) -> bool {
        self.0.u32(..1_000) < parts_per_thousand
    }

    /// A time between these two, in steps of a microsecond.
    pub fn duration(&mut self, from: Duration, to: Duration) -> Duration {
        let from = u64::try_from(from.as_micros()).unwrap_or(u64::MAX);
        let to = u64::try_from(to.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.between(from, to))
    }

    /// One of these; `None` if there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}
