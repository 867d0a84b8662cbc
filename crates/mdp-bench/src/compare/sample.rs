//! The figures of one measurement, their medians and ratios.

use serde::{Deserialize, Serialize};

use crate::{BenchReport, BrokerReport, questions::Answers, report::to_f64};

/// The figures that are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Processor time of all processes of the broker per request, in microseconds.
    pub cpu_us: f64,
    /// The part of it that libzmq's own threads have, in microseconds.
    pub libzmq_us: f64,
    /// Context switches of all processes of the broker per request.
    #[serde(default)]
    pub switches: f64,
    /// Half of the requests were faster, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 requests were faster, in microseconds.
    pub p99_us: f64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Requests without a reply, and replies without a request.
    pub errors: f64,
}

impl Sample {
    pub(crate) fn of(report: &BenchReport) -> Self {
        let processes = || report.broker.iter().chain(&report.peers);
        Self {
            cpu_us: processes().map(|process| process.cpu_us_per_request).sum(),
            libzmq_us: processes().map(BrokerReport::libzmq_us_per_request).sum(),
            switches: processes().map(|process| process.switches_per_request).sum(),
            p50_us: report.latency.p50_us,
            p99_us: report.latency.p99_us,
            requests_per_second: report.requests_per_second,
            errors: to_f64(report.errors()),
        }
    }

    /// What was measured of questions to several nodes.
    #[must_use]
    pub fn of_answers(answers: &Answers) -> Self {
        let libzmq = answers.processes.iter().map(BrokerReport::libzmq_us_per_request);
        Self {
            cpu_us: answers.cpu_us(),
            libzmq_us: libzmq.sum(),
            switches: answers.processes.iter().map(|it| it.switches_per_request).sum(),
            p50_us: answers.latency.p50_us,
            p99_us: answers.latency.p99_us,
            requests_per_second: answers.answers_per_second,
            errors: to_f64(answers.errors),
        }
    }

    /// How much of `other` there is in each figure; one if there is nothing of both.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        self.zip(other, ratio)
    }

    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            cpu_us: f(self.cpu_us, other.cpu_us),
            libzmq_us: f(self.libzmq_us, other.libzmq_us),
            switches: f(self.switches, other.switches),
            p50_us: f(self.p50_us, other.p50_us),
            p99_us: f(self.p99_us, other.p99_us),
            requests_per_second: f(self.requests_per_second, other.requests_per_second),
            errors: f(self.errors, other.errors),
        }
    }

    /// The median of each figure on its own.
    #[must_use]
    pub fn median(samples: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(samples.iter().map(figure).collect());
        Self {
            cpu_us: of(|sample| sample.cpu_us),
            libzmq_us: of(|sample| sample.libzmq_us),
            switches: of(|sample| sample.switches),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            requests_per_second: of(|sample| sample.requests_per_second),
            errors: of(|sample| sample.errors),
        }
    }
}

/// The middle value, or the mean of the two in the middle; zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let middle = values.len() / 2;
    match values.len().is_multiple_of(2) {
        true => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        false => at(middle),
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if a.total_cmp(&b).is_eq() { 1.0 } else { a / b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        for (values, want) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 2.0], 3.0)]
        {
            assert!((median(values.clone()) - want).abs() < 1e-9, "{values:?}");
        }
    }
}
