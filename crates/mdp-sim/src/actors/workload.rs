//! How many take part, and what they and the nodes have to agree upon.

use std::time::Duration;

use mdp_broker::{Delivery, ServicePolicy, ServiceRule, Settings};
use mdp_wire::ServiceName;

use crate::Rng;

/// A service of a run.
#[derive(Clone, Debug)]
pub(crate) struct ServicePlan {
    /// Its name.
    pub(crate) name: String,
    /// What may happen to a request whose worker is lost.
    pub(crate) delivery: Delivery,
    /// How many workers it has.
    pub(crate) workers: usize,
    /// Whether its workers come and go, so that `mmi.service` changes its answer. Others stay until
    /// something happens to them.
    pub(crate) comes_and_goes: bool,
    /// Whether clients send requests to it.
    pub(crate) is_called: bool,
}

/// What the actors of a run do.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// The services; their place is their number.
    pub(crate) services: Vec<ServicePlan>,
    /// Clients that send requests.
    pub(crate) clients: usize,
    /// Clients that ask `mmi.service`.
    pub(crate) askers: usize,
    /// Peers that break the rules.
    pub(crate) intruders: usize,
    /// How often workers and nodes send a heartbeat.
    pub(crate) heartbeat_interval: Duration,
    /// How many of them may be missing.
    pub(crate) heartbeat_liveness: u32,
    /// How long a request may wait for a worker.
    pub(crate) request_ttl: Duration,
    /// How long a client waits for a reply: longer than the request can wait at its node.
    pub(crate) client_patience: Duration,
    /// How many requests of a client may be open.
    pub(crate) outstanding_max: usize,
    /// Between the end of a request and the next one, at most.
    pub(crate) think_max: Duration,
    /// How long a request may take to execute.
    pub(crate) job_max: Duration,
    /// Between two questions of an asker, at most.
    pub(crate) ask_max: Duration,
    /// Of a thousand requests, at how many the worker dies.
    pub(crate) deaths: u32,
    /// Of a thousand requests, after how many the worker leaves.
    pub(crate) leaves: u32,
}

impl Workload {
    /// The names of the services, in the order of their numbers.
    pub(crate) fn service_names(&self) -> Vec<ServiceName> {
        let name = |service: &ServicePlan| ServiceName::try_from(service.name.as_str());
        self.services.iter().map(|service| name(service).expect("a valid name")).collect()
    }

    /// From the seed.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut services = Vec::new();
        for number in 0..rng.between(1, 3) {
            services.push(ServicePlan {
                name: format!("watched.{number}"),
                delivery: Delivery::AtLeastOnce,
                workers: if rng.chance(250) { 2 } else { 1 },
                comes_and_goes: true,
                is_called: false,
            });
        }
        for (delivery, prefix) in [(Delivery::AtLeastOnce, "echo"), (Delivery::AtMostOnce, "once")]
        {
            for number in 0..rng.between(1, 2) {
                services.push(ServicePlan {
                    name: format!("{prefix}.{number}"),
                    delivery,
                    workers: count(rng, 1, 4),
                    comes_and_goes: false,
                    is_called: true,
                });
            }
        }
        let millis = Duration::from_millis;
        Self {
            services,
            clients: count(rng, 1, 6),
            askers: count(rng, 1, 4),
            intruders: count(rng, 0, 1),
            heartbeat_interval: millis(*rng.pick(&[250, 500, 1_000, 2_500]).unwrap()),
            heartbeat_liveness: u32::try_from(rng.between(2, 4)).unwrap(),
            request_ttl: millis(*rng.pick(&[1_000, 3_000, 5_000]).unwrap()),
            client_patience: millis(*rng.pick(&[7_000, 9_000]).unwrap()),
            outstanding_max: count(rng, 1, 4),
            think_max: millis(*rng.pick(&[20, 100, 400]).unwrap()),
            job_max: millis(*rng.pick(&[2, 20, 150]).unwrap()),
            ask_max: millis(*rng.pick(&[20, 50, 100]).unwrap()),
            deaths: *rng.pick(&[0, 2, 20]).unwrap(),
            leaves: *rng.pick(&[0, 5, 20]).unwrap(),
        }
    }

    /// The settings of the nodes that fit; the rest are defaults.
    pub(crate) fn settings(&self) -> Settings {
        let policy = ServicePolicy {
            request_ttl: self.request_ttl,
            heartbeat_interval: self.heartbeat_interval,
            heartbeat_liveness: self.heartbeat_liveness,
            ..ServicePolicy::default()
        };
        let once = ServicePolicy { delivery: Delivery::AtMostOnce, ..policy };
        let rules = vec![ServiceRule { pattern: b"once.*".to_vec(), policy: once }];
        Settings { service: policy, rules, ..Settings::default() }
    }

    /// How long a peer may be silent.
    pub(crate) fn expiry(&self) -> Duration {
        self.heartbeat_interval * self.heartbeat_liveness
    }
}

fn count(rng: &mut Rng, from: u64, to: u64) -> usize {
    usize::try_from(rng.between(from, to)).unwrap_or(1)
}
