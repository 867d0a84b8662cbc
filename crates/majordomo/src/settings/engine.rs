//! What a configuration means for the node and for its engine.

use mdp_broker::{Delivery, Extensions, OnNoQuorum, ServicePolicy, ServiceRule};
use mdp_node::NodeConfig;
use mdp_wire::DecodeLimits;

use super::{Settings, kind::Setting, rules::Rule};

impl Settings {
    /// The node's part of the configuration, the engine's included.
    ///
    /// # Errors
    /// Never for settings that were loaded: the name was checked then.
    pub(crate) fn node(&self) -> anyhow::Result<NodeConfig> {
        let mut config = NodeConfig::new(self.text("node.name").parse()?);
        config.bind = self.text("broker.bind").to_owned();
        config.advertise = self.text("broker.advertise").to_owned();
        config.settings = self.engine();
        config.max_outgoing_bytes_per_peer =
            count(self.number("broker.max_outgoing_bytes_per_peer"));
        // The limit for all peers together must not undercut that of one.
        config.max_outgoing_bytes =
            config.max_outgoing_bytes.max(config.max_outgoing_bytes_per_peer);
        config.drain_timeout = self.duration("drain.timeout");
        config.drain_announce = self.duration("drain.announce");
        Ok(config)
    }

    /// The engine's part of the configuration.
    pub(crate) fn engine(&self) -> mdp_broker::Settings {
        let service = self.service_policy();
        let is_silent = self.text("mmi.on_no_quorum") == "silent";
        let message_bytes_max = count(self.number("broker.max_message_bytes"));
        mdp_broker::Settings {
            rules: self.rules.iter().map(|rule| service_rule(rule, &service)).collect(),
            service,
            max_queued_requests: count(self.number("broker.max_queued_requests")),
            max_queued_requests_per_client: count(
                self.number("broker.max_queued_requests_per_client"),
            ),
            max_queued_bytes: count(self.number("broker.max_queued_bytes")),
            max_services: count(self.number("broker.max_services")),
            max_workers: count(self.number("broker.max_workers")),
            read_timeout: self.duration("mmi.read_timeout"),
            on_no_quorum: if is_silent { OnNoQuorum::Silent } else { OnNoQuorum::Answer503 },
            extensions: if self.flag("mmi.extensions") { Extensions::On } else { Extensions::Off },
            decode: DecodeLimits { message_bytes_max, ..DecodeLimits::default() },
        }
    }

    fn service_policy(&self) -> ServicePolicy {
        ServicePolicy {
            delivery: delivery(self.text("broker.delivery")),
            request_ttl: self.duration("broker.request_ttl"),
            busy_timeout: self.duration("broker.busy_timeout"),
            max_attempts: attempts(self.number("broker.max_attempts")),
            max_queued_requests: count(self.number("broker.max_queued_requests")),
            heartbeat_interval: self.duration("broker.heartbeat_interval"),
            heartbeat_liveness: attempts(self.number("broker.heartbeat_liveness")),
        }
    }
}

/// A rule takes what it does not say from `[broker]`.
fn service_rule(rule: &Rule, inherited: &ServicePolicy) -> ServiceRule {
    let mut policy = *inherited;
    for (key, setting) in &rule.settings {
        match (*key, setting) {
            ("delivery", Setting::Text(word)) => policy.delivery = delivery(word),
            ("request_ttl", Setting::Duration(time)) => policy.request_ttl = *time,
            ("busy_timeout", Setting::Duration(time)) => policy.busy_timeout = *time,
            ("max_attempts", Setting::Count(number)) => policy.max_attempts = attempts(*number),
            ("max_queued_requests", Setting::Count(number)) => {
                policy.max_queued_requests = count(*number);
            }
            ("heartbeat_interval", Setting::Duration(time)) => policy.heartbeat_interval = *time,
            ("heartbeat_liveness", Setting::Count(number)) => {
                policy.heartbeat_liveness = attempts(*number);
            }
            (name, _) => debug_assert_eq!(name, super::keys::PATTERN_KEY),
        }
    }
    ServiceRule { pattern: rule.pattern().as_bytes().to_vec(), policy }
}

fn delivery(word: &str) -> Delivery {
    if word == "at-most-once" { Delivery::AtMostOnce } else { Delivery::AtLeastOnce }
}

/// The ranges of all keys fit; a machine with fewer bits than the number means "no limit".
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn attempts(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
