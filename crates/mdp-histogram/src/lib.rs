//! How long things took, in the buckets of a Prometheus histogram: no allocation, a few nanoseconds for
//! each observation, and the same buckets everywhere, so that nodes can be added up.

use std::time::Duration;

/// The upper bounds of the buckets but the last, which has none: from a hop inside of a machine to a
/// request that waited for as long as one may.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// How many buckets there are.
const BUCKETS: usize = BOUNDS.len() + 1;

/// How often something happened, by how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn observe(&mut self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The upper bound of each bucket, `None` for the last, and how many fell into it and no lower one.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts)
    }

    /// The upper bound of the bucket in which the share `percent` of all ends; `None`: nothing was
    /// counted, or it ends in the last bucket.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.buckets().find_map(|(bound, count)| {
            seen += count;
            (seen >= rank).then_some(bound)
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_falls_into_the_lowest_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        let millisecond = Duration::from_millis(1);
        for took in
            [Duration::ZERO, millisecond, millisecond, millisecond * 2, millisecond * 90_000]
        {
            histogram.observe(took);
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        let bound = |place: usize| Some(BOUNDS[place]);
        assert_eq!(filled, [(bound(0), 1), (bound(3), 2), (bound(4), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, millisecond * 90_004));
    }

    #[test]
    fn percentile_is_the_bound_of_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for _ in 0..99 {
            histogram.observe(Duration::from_micros(300));
        }
        histogram.observe(Duration::from_secs(90));

        assert_eq!(histogram.percentile(50), Some(Duration::from_micros(500)));
        assert_eq!(histogram.percentile(99), Some(Duration::from_micros(500)));
        assert_eq!(histogram.percentile(100), None);
    }
}
