//! Figures of a run: written down with their percentiles, held against a bound.

use std::{fmt, time::Duration};

/// How often something was measured, and how long it took.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    sorted: Vec<Duration>,
}

impl Durations {
    /// Adds one.
    pub fn add(&mut self, duration: Duration) {
        let at = self.sorted.partition_point(|other| *other <= duration);
        self.sorted.insert(at, duration);
    }

    /// Adds all of others.
    pub fn extend(&mut self, others: &Self) {
        self.sorted.extend_from_slice(&others.sorted);
        self.sorted.sort_unstable();
    }

    /// The smallest one that at least so many in a hundred do not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        *self.sorted.get(rank - 1).unwrap_or_else(|| panic!("nothing was measured"))
    }

    /// How many in a hundred take no longer than this.
    #[must_use]
    pub fn within(&self, limit: Duration) -> usize {
        self.sorted.partition_point(|duration| *duration <= limit) * 100 / self.sorted.len().max(1)
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.sorted.len()
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?} of {}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let mut durations = Durations::default();
        for ms in (1..=200).rev() {
            durations.add(Duration::from_millis(ms));
        }

        let percentiles = [1, 50, 99, 100].map(|percent| durations.percentile(percent).as_millis());

        assert_eq!(percentiles, [2, 100, 198, 200]);
    }

    #[test]
    fn figures_of_several_threads_are_put_together() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let mut durations: Durations = ms(&[30, 10]);

        durations.extend(&ms(&[20, 40]));

        assert_eq!(durations.percentile(50), Duration::from_millis(20));
        assert_eq!(durations.within(Duration::from_millis(30)), 75);
    }

    #[test]
    fn few_values_have_percentiles_too() {
        let mut durations = Durations::default();
        durations.add(Duration::from_secs(1));

        assert_eq!(durations.percentile(50), durations.percentile(99));
    }
}
