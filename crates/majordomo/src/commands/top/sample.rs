//! What a node counted at one moment, and what that means for the time between two.

use std::{collections::BTreeMap, time::Instant};

/// The numbers of a page of metrics, by name with labels.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    numbers: BTreeMap<String, f64>,
}

/// Between two samples of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) replies: f64,
    pub(super) forwarded: f64,
    pub(super) dropped: f64,
    /// Processor time, 1.0 is one core.
    pub(super) cpu: f64,
    /// Upper bounds of the buckets in which these shares end, in seconds; `None`: no request ended.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Sample {
    /// Reads the text format; what is not a number is left out.
    pub(super) fn read(text: &str, at: Instant) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let numbers = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.strip_prefix("majordomo_")?.to_owned(), value.parse().ok()?))
        });
        Self { at, numbers: numbers.collect() }
    }

    /// A number; zero if the node does not tell it.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    fn sum(&self, family: &str) -> f64 {
        let of_family = self.numbers.iter().filter(|(name, _)| name.starts_with(family));
        of_family.map(|(_, value)| value).sum()
    }

    /// The buckets of a histogram, each with all lower ones, by upper bound.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let begin = format!("{name}_bucket{{le=\"");
        let buckets = self.numbers.iter().filter_map(|(name, count)| {
            let bound = name.strip_prefix(&begin)?.strip_suffix("\"}")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, *count))
        });
        let mut buckets: Vec<_> = buckets.collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

impl Rates {
    pub(super) fn between(earlier: &Sample, later: &Sample) -> Self {
        let seconds = later.at.saturating_duration_since(earlier.at).as_secs_f64().max(0.001);
        // A node that began anew counts from zero.
        let rate = |of: &dyn Fn(&Sample) -> f64| (of(later) - of(earlier)).max(0.0) / seconds;
        let total = |name: &'static str| rate(&move |sample| sample.number(name));
        let name = "broker_request_duration_seconds";
        let (before, after) = (earlier.buckets(name), later.buckets(name));
        let between: Vec<(f64, f64)> = after
            .iter()
            .map(|(bound, count)| {
                let known = before.iter().find(|(other, _)| other == bound);
                (*bound, (count - known.map_or(0.0, |(_, count)| *count)).max(0.0))
            })
            .collect();
        Self {
            requests: total("broker_requests_total"),
            replies: total("broker_replies_total"),
            forwarded: total("relay_forwarded_requests_total"),
            dropped: rate(&|sample| sample.sum("broker_dropped_messages_total")),
            cpu: total("process_cpu_seconds_total"),
            p50: percentile(&between, 0.5),
            p99: percentile(&between, 0.99),
        }
    }
}

/// The bound of the first bucket that has this share.
fn percentile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let (_, all) = buckets.last()?;
    let mut rising = buckets.iter();
    rising.find(|(_, count)| *all > 0.0 && *count >= share * all).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(requests: u32, fast: u32, all: u32) -> String {
        format!(
            "# TYPE majordomo_broker_requests counter\nmajordomo_broker_requests_total {requests}\n\
             majordomo_broker_dropped_messages_total{{reason=\"expired\"}} {fast}\n\
             majordomo_broker_request_duration_seconds_bucket{{le=\"0.001\"}} {fast}\n\
             majordomo_broker_request_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n# EOF\n"
        )
    }

    #[test]
    fn rates_are_what_happened_between_two_pages() {
        let now = Instant::now();
        let earlier = Sample::read(&page(100, 10, 10), now);
        let later = Sample::read(&page(300, 70, 110), now + Duration::from_secs(2));

        let rates = Rates::between(&earlier, &later);

        assert_eq!((rates.requests, rates.dropped), (100.0, 30.0));
        assert_eq!((rates.p50, rates.p99), (Some(0.001), Some(f64::INFINITY)));
        let restarted = Sample::read(&page(5, 0, 0), now + Duration::from_secs(4));
        let rates = Rates::between(&later, &restarted);
        assert_eq!((rates.requests, rates.p50), (0.0, None));
    }
}
