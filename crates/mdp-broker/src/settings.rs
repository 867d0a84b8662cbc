//! What a person can set: limits and rules, each with its unit.

use std::time::Duration;

use mdp_wire::DecodeLimits;

use crate::pattern::glob;

/// What may happen to a request whose worker is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is given to another worker: 7/MDP takes workers to be idempotent (A1).
    AtLeastOnce,
    /// It is given to another worker only if it was provably never handed to the first.
    AtMostOnce,
}

/// What `mmi.service` says while this node cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNoQuorum {
    /// `503`, an extension of 8/MMI.
    Answer503,
    /// Nothing: the strict reading of 8/MMI.
    Silent,
}

/// What becomes of the workers of a node that has had no quorum for long (`cluster.minority`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minority {
    /// The node goes on serving the clients that it has with the workers that it has.
    Serve,
    /// Every worker gets DISCONNECT, so that it finds a node that has a quorum.
    Fail,
}

/// Whether the extensions of 8/MMI (`mmi.directory`, `mmi.endpoints`, `mmi.status`, `mmi.echo`)
/// are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// They answer.
    On,
    /// They get `501`, like every `mmi.*` name that is not implemented.
    Off,
}

/// How one service is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePolicy {
    /// What may happen to a request whose worker is lost.
    pub delivery: Delivery,
    /// How long a request may wait for a worker (MDP7-17); zero: it may not wait at all.
    pub request_ttl: Duration,
    /// How long a worker that never heartbeats while it works may be silent.
    pub busy_timeout: Duration,
    /// How many workers one request may be handed to.
    pub max_attempts: u32,
    /// How many requests may wait for this service.
    pub max_queued_requests: usize,
    /// How often a heartbeat is sent to each worker (MDP7-44).
    pub heartbeat_interval: Duration,
    /// How many intervals a worker may be silent (MDP7-45).
    pub heartbeat_liveness: u32,
}

impl ServicePolicy {
    /// How long an idle worker may be silent.
    #[must_use]
    pub fn expiry(&self) -> Duration {
        self.heartbeat_interval.saturating_mul(self.heartbeat_liveness)
    }
}

impl Default for ServicePolicy {
    fn default() -> Self {
        Self {
            delivery: Delivery::AtLeastOnce,
            request_ttl: Duration::from_secs(60),
            busy_timeout: Duration::from_secs(15 * 60),
            max_attempts: 3,
            max_queued_requests: 1_000_000,
            heartbeat_interval: Duration::from_millis(2_500),
            heartbeat_liveness: 3,
        }
    }
}

/// A policy for the services whose name a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// Bytes in which `*` stands for any run of bytes, also an empty one.
    pub pattern: Vec<u8>,
    /// The policy, complete.
    pub policy: ServicePolicy,
}

impl ServiceRule {
    /// Whether the pattern matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        glob(&self.pattern, name)
    }
}

/// Everything that the engine can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The policy of services that no rule matches.
    pub service: ServicePolicy,
    /// The first rule whose pattern matches counts.
    pub rules: Vec<ServiceRule>,
    /// How many requests may wait, over all services.
    pub max_queued_requests: usize,
    /// How many requests of one client connection may wait. The Guide's asynchronous client sends
    /// 100,000 before it reads.
    pub max_queued_requests_per_client: usize,
    /// How many bytes of requests, waiting or held by workers, may be kept.
    pub max_queued_bytes: usize,
    /// How many services may have workers, and at how many known ones no request makes another.
    pub max_services: usize,
    /// How many workers may be registered at once.
    pub max_workers: usize,
    /// How long `mmi.service` waits for the cluster before it says that it cannot know.
    pub read_timeout: Duration,
    /// What it says then.
    pub on_no_quorum: OnNoQuorum,
    /// Whether the extensions of 8/MMI are there.
    pub extensions: Extensions,
    /// What becomes of the workers without a quorum.
    pub minority: Minority,
    /// What one message may hold.
    pub decode: DecodeLimits,
}

impl Settings {
    /// The policy of a service.
    #[must_use]
    pub fn policy_of(&self, name: &[u8]) -> &ServicePolicy {
        self.rules.iter().find(|rule| rule.matches(name)).map_or(&self.service, |rule| &rule.policy)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service: ServicePolicy::default(),
            rules: Vec::new(),
            max_queued_requests: 1_000_000,
            max_queued_requests_per_client: 200_000,
            max_queued_bytes: 256 << 20,
            max_services: 100_000,
            max_workers: 20_000,
            read_timeout: Duration::from_millis(500),
            on_no_quorum: OnNoQuorum::Answer503,
            extensions: Extensions::On,
            minority: Minority::Serve,
            decode: DecodeLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_matching_rule_counts() {
        let rule = |pattern: &str, max_attempts| ServiceRule {
            pattern: pattern.as_bytes().to_vec(),
            policy: ServicePolicy { max_attempts, ..ServicePolicy::default() },
        };
        let rules = vec![rule("billing.*", 1), rule("*", 2)];
        let settings = Settings { rules, ..Settings::default() };

        assert_eq!(settings.policy_of(b"billing.pay").max_attempts, 1);
        assert_eq!(settings.policy_of(b"echo").max_attempts, 2);
    }
}
