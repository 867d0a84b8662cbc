//! What a configuration means for the node and for its engine.

use std::path::PathBuf;

use mdp_broker::{Delivery, Extensions, Minority, OnNoQuorum, ServicePolicy, ServiceRule};
use mdp_catalog::{NodeName, SoftwareVersion};
use mdp_node::{ClusterConfig, Consistency, NodeConfig, Seed};
use mdp_wire::DecodeLimits;

use super::{Settings, kind::Setting, peer::Peer, rules::Rule};

impl Settings {
    /// The node's part of the configuration, the engine's included.
    ///
    /// # Errors
    /// Never for settings that were loaded: the name was checked then.
    pub(crate) fn node(&self) -> anyhow::Result<NodeConfig> {
        let mut config = NodeConfig::new(self.node_name()?);
        config.bind = self.addresses("broker.bind").to_vec();
        config.advertise = self.text("broker.advertise").to_owned();
        config.advertise_for = self.networks();
        config.settings = self.engine();
        config.max_outgoing_bytes_per_peer =
            count(self.number("broker.max_outgoing_bytes_per_peer"));
        // The limit for all peers together must not undercut that of one.
        config.max_outgoing_bytes =
            config.max_outgoing_bytes.max(config.max_outgoing_bytes_per_peer);
        config.max_connections = count(self.number("broker.max_connections"));
        config.security = self.security();
        config.drain_timeout = self.duration("drain.timeout");
        config.drain_announce = self.duration("drain.announce");
        config.crypto_threads = count(self.number("security.crypto_threads"));
        config.cluster = self.cluster();
        Ok(config)
    }

    /// The node's part in a cluster; `None`: it is alone.
    fn cluster(&self) -> Option<ClusterConfig> {
        let peers = self.peers();
        if peers.is_empty() {
            return None;
        }
        let seed = |peer: &Peer| Seed { name: peer.name.clone(), endpoint: peer.endpoint.clone() };
        let is_local = self.text("mmi.consistency") == "local";
        Some(ClusterConfig {
            bind: self.text("cluster.bind").to_owned(),
            advertise: self.text("cluster.advertise").to_owned(),
            relay_bind: self.text("cluster.relay_bind").to_owned(),
            seeds: peers.iter().map(seed).collect(),
            keys: self.node_keys(),
            data_dir: self.data_dir(),
            minority: self.minority(),
            consistency: if is_local { Consistency::Local } else { Consistency::Linearizable },
            heartbeat_interval: self.duration("cluster.heartbeat_interval"),
            election_timeout_min: self.duration("cluster.election_timeout_min"),
            election_timeout_max: self.duration("cluster.election_timeout_max"),
            node_timeout: self.duration("cluster.node_timeout"),
            read_timeout: self.duration("mmi.read_timeout"),
            upgrade_settle: self.duration("upgrade.settle"),
            upgrade_hold: self.upgrade_hold(),
        })
    }

    /// `upgrade.hold`: two numbers, or three of which the last one says nothing.
    fn upgrade_hold(&self) -> Option<SoftwareVersion> {
        let mut numbers = self.text("upgrade.hold").split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return None;
        };
        Some(SoftwareVersion { major, minor, patch: 0 })
    }

    fn minority(&self) -> Minority {
        if self.text("cluster.minority") == "fail" { Minority::Fail } else { Minority::Serve }
    }

    /// `node.data_dir`.
    pub(crate) fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.text("node.data_dir"))
    }

    /// `node.name`.
    ///
    /// # Errors
    /// Never for settings that were loaded: the name was checked then.
    pub(crate) fn node_name(&self) -> anyhow::Result<NodeName> {
        Ok(self.text("node.name").parse()?)
    }

    /// Where the other nodes reach this one; `None`: it is alone.
    pub(crate) fn cluster_address(&self) -> Option<&str> {
        let advertised = self.text("cluster.advertise");
        let name = self.text("node.name");
        let own = self.peers().iter().find(|peer| peer.name.as_str() == name);
        let own = own.map(|peer| peer.endpoint.as_str());
        Some(advertised).filter(|address| !address.is_empty()).or(own)
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
            minority: self.minority(),
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
