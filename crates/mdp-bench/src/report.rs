//! What was measured.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{BenchError, BenchOptions, PeerKind, process::ThreadTime};

/// What one run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Where the broker listens.
    pub endpoint: String,
    /// The version spoken, `0.1` or `0.2`.
    pub protocol: String,
    /// What clients and workers are made of.
    #[serde(default)]
    pub peer_kind: PeerKind,
    /// The name of the service, with a number behind it if there are several.
    #[serde(default)]
    pub service: String,
    /// How many services.
    pub services: usize,
    /// How many workers over all services.
    pub workers: usize,
    /// How many client connections.
    pub clients: usize,
    /// How many requests were outstanding at any time.
    pub window: usize,
    /// The length of each body in bytes.
    pub body_bytes: usize,
    /// How long was measured: up to the last reply if the broker was lost.
    pub duration_seconds: f64,
    /// Why the measurement ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// Requests answered while measuring.
    pub requests: u64,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// From sending a request to receiving its reply, with the whole window outstanding.
    pub latency: Latency,
    /// The broker's process, if its id was given.
    pub broker: Option<BrokerReport>,
    /// The processes of other nodes, in the order in which their ids were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<BrokerReport>,
    /// Processor time of this process per request, in microseconds.
    pub generator_cpu_us_per_request: f64,
    /// Requests without a reply in time, over the whole run.
    pub timeouts: u64,
    /// Messages to clients that answer no outstanding request, over the whole run.
    pub unexpected_replies: u64,
    /// Workers that the broker disconnected, over the whole run.
    pub workers_disconnected: u64,
    /// Workers that got at least one request, over the whole run.
    pub workers_used: usize,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests were faster.
    pub p50_us: f64,
    /// 90 of 100 were faster.
    pub p90_us: f64,
    /// 99 of 100 were faster.
    pub p99_us: f64,
    /// 999 of 1,000 were faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// The mean.
    pub mean_us: f64,
}

/// What the broker's process spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerReport {
    /// Processor time of all its threads per request, in microseconds.
    pub cpu_us_per_request: f64,
    /// Context switches of all its threads per request, wanted or not.
    #[serde(default)]
    pub switches_per_request: f64,
    /// The same by thread name.
    pub threads: Vec<ThreadReport>,
    /// Memory before the first worker connected, in bytes.
    pub rss_before_bytes: u64,
    /// Memory when the measurement ended, all peers still connected, in bytes.
    pub rss_after_bytes: u64,
}

/// What the threads of one name spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadReport {
    /// The name, at most 15 bytes.
    pub name: String,
    /// Processor time per request, in microseconds.
    pub cpu_us_per_request: f64,
    /// How often they were put on a processor per request.
    pub wakeups_per_request: f64,
}

impl BrokerReport {
    /// Processor time per request of libzmq's own threads, in microseconds.
    #[must_use]
    pub fn libzmq_us_per_request(&self) -> f64 {
        let libzmq = self.threads.iter().filter(|thread| thread.name.starts_with("ZMQbg"));
        libzmq.map(|thread| thread.cpu_us_per_request).sum()
    }

    /// What threads spent on so many requests.
    #[must_use]
    pub fn new(
        threads: &[ThreadTime],
        requests: u64,
        rss_before_bytes: u64,
        rss_after_bytes: u64,
    ) -> Self {
        let per_request = |count: u64| to_f64(count) / to_f64(requests);
        let report: Vec<ThreadReport> = threads
            .iter()
            .map(|thread| ThreadReport {
                name: thread.name.clone(),
                cpu_us_per_request: per_request(thread.busy_ns) / 1e3,
                wakeups_per_request: per_request(thread.wakeups),
            })
            .collect();
        let cpu_us_per_request = report.iter().map(|thread| thread.cpu_us_per_request).sum();
        let switches = threads.iter().map(|thread| thread.switches).sum();
        Self {
            cpu_us_per_request,
            switches_per_request: per_request(switches),
            threads: report,
            rss_before_bytes,
            rss_after_bytes,
        }
    }
}

/// Latencies, in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct LatencyRecorder {
    histogram: Histogram<u64>,
}

/// Longer latencies count as this: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

impl LatencyRecorder {
    /// An empty recorder; `None` never happens with these bounds.
    pub(crate) fn new() -> Option<Self> {
        Histogram::new_with_max(LATENCY_NS_MAX, 3).ok().map(|histogram| Self { histogram })
    }

    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.histogram.saturating_record(latency_ns);
    }

    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| to_f64(self.histogram.value_at_quantile(quantile)) / 1e3;
        Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: to_f64(self.histogram.max()) / 1e3,
            mean_us: self.histogram.mean() / 1e3,
        }
    }
}

impl BenchReport {
    /// A report of these options, with nothing measured yet.
    pub(crate) fn empty(options: &BenchOptions) -> Self {
        Self {
            endpoint: options.endpoint.clone(),
            protocol: options.protocol.to_string(),
            peer_kind: options.peers,
            service: options.service.clone(),
            services: options.services,
            workers: options.workers,
            clients: options.clients,
            window: options.window,
            body_bytes: options.body_bytes,
            duration_seconds: 0.0,
            ended_early: None,
            requests: 0,
            requests_per_second: 0.0,
            latency: Latency::default(),
            broker: None,
            peers: Vec::new(),
            generator_cpu_us_per_request: 0.0,
            timeouts: 0,
            unexpected_replies: 0,
            workers_disconnected: 0,
            workers_used: 0,
        }
    }

    /// The report of a broker that was there to the end. What one spent that was lost is not known, so
    /// that its figures cannot be compared.
    pub(crate) fn whole(self) -> Result<Self, BenchError> {
        match self.ended_early {
            None => Ok(self),
            Some(reason) => Err(BenchError::Lost { endpoint: self.endpoint, reason }),
        }
    }

    /// Requests without a reply, replies without a request, and workers sent away.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.timeouts + self.unexpected_replies + self.workers_disconnected
    }
}

/// For figures that a person reads.
#[expect(clippy::cast_precision_loss, reason = "figures are rounded to a few digits anyway")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_within_a_thousandth() {
        let mut recorder = LatencyRecorder::new().unwrap();
        (1..=1_000_u64).for_each(|us| recorder.record(us * 1_000));
        recorder.record(u64::MAX);

        let latency = recorder.latency();

        let near = |got: f64, want: f64| (got - want).abs() <= want / 1e3;
        assert!(near(latency.p50_us, 501.0), "{latency:?}");
        assert!(near(latency.p90_us, 901.0), "{latency:?}");
        assert!(near(latency.p99_us, 991.0), "{latency:?}");
        assert!(near(latency.max_us, 3.6e9), "{latency:?}");
        recorder.clear();
        assert_eq!(recorder.latency(), Latency::default());
    }

    #[test]
    fn report_of_a_broker_that_was_lost_is_an_error() {
        let report = BenchReport::empty(&BenchOptions::default());
        assert_eq!(report.clone().whole().unwrap(), report);

        let ended_early = Some("connection refused".to_owned());
        let lost = BenchReport { ended_early, ..report }.whole();

        let said = lost.unwrap_err().to_string();
        assert!(said.contains("lost (connection refused)"), "{said}");
    }

    #[test]
    fn broker_time_is_the_sum_of_its_threads() {
        let time = |name: &str, busy_ns| ThreadTime {
            name: name.into(),
            busy_ns,
            wakeups: 50,
            switches: 60,
        };
        let threads = [time("ZMQbg/IO/0", 300_000), time("broker", 200_000)];

        let report = BrokerReport::new(&threads, 100, 1, 2);

        assert!((report.cpu_us_per_request - 5.0).abs() < 1e-9);
        assert!((report.libzmq_us_per_request() - 3.0).abs() < 1e-9);
        assert!((report.threads[0].wakeups_per_request - 0.5).abs() < 1e-9);
        assert!((report.switches_per_request - 1.2).abs() < 1e-9);
    }
}
