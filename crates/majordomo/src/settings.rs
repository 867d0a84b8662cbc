//! The configuration of a node: layers, checks, and what they mean for the node.

mod address;
mod admin;
mod checks;
mod engine;
mod keys;
mod kind;
mod layers;
mod networks;
mod peer;
mod problem;
mod rules;
mod security;
mod show;
mod units;
mod variables;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use mdp_wire::ClientNetworks;

use self::{keys::KEYS, kind::Setting, layers::Merged, peer::Peer, problem::Problem, rules::Rule};

pub(crate) use self::{
    address::{advertise as parse_endpoint, client as parse_client_endpoint},
    admin::AdminSocketChoice,
    keys::MESSAGE_BYTES_MAX,
    layers::{FlagValue, Sources},
    problem::{Problems, origin_of},
    units::{parse_duration, parse_size},
};

/// A configuration in which every key has a checked value.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Known>,
    rules: Vec<Rule>,
    /// What the environment has that is most likely meant otherwise.
    warnings: Vec<String>,
}

/// A checked value, and the value as it was given, which knows its origin.
#[derive(Clone, Debug)]
struct Known {
    setting: Setting,
    raw: config::Value,
}

impl Settings {
    /// Reads every layer and checks every value.
    pub(crate) fn load(sources: &Sources) -> Result<Self, Problems> {
        let merged = layers::merge(sources)?;
        let mut problems = Vec::new();
        let values = read_values(&merged, &mut problems);
        let rules = rules::read(&merged.rules, &mut problems);
        let settings = Self { values, rules, warnings: merged.warnings };
        if problems.is_empty() {
            problems.extend(checks::across_keys(&settings));
        }
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }

    /// What can work and is most likely not meant.
    pub(crate) fn advice(&self) -> Vec<String> {
        let mut advice = self.warnings.clone();
        advice.extend(checks::advice(self));
        advice
    }

    /// The value of a key that holds a text.
    pub(crate) fn text(&self, key: &str) -> &str {
        if let Some(Setting::Text(text)) = self.setting(key) {
            return text;
        }
        debug_assert!(false, "{key} is no key that holds a text");
        ""
    }

    /// The value of a key that holds addresses.
    pub(crate) fn addresses(&self, key: &str) -> &[String] {
        if let Some(Setting::Addresses(addresses)) = self.setting(key) {
            return addresses;
        }
        debug_assert!(false, "{key} is no key that holds addresses");
        &[]
    }

    /// The value of a key that holds a time.
    pub(crate) fn duration(&self, key: &str) -> Duration {
        if let Some(Setting::Duration(time)) = self.setting(key) {
            return *time;
        }
        debug_assert!(false, "{key} is no key that holds a time");
        Duration::ZERO
    }

    /// The value of a key that holds a count or a size.
    pub(crate) fn number(&self, key: &str) -> u64 {
        if let Some(Setting::Count(number) | Setting::Size(number)) = self.setting(key) {
            return *number;
        }
        debug_assert!(false, "{key} is no key that holds a number");
        0
    }

    /// The value of a key that is on or off.
    pub(crate) fn flag(&self, key: &str) -> bool {
        if let Some(Setting::Flag(flag)) = self.setting(key) {
            return *flag;
        }
        debug_assert!(false, "{key} is no key that is on or off");
        false
    }

    /// `cluster.peers`.
    fn peers(&self) -> &[Peer] {
        if let Some(Setting::Peers(peers)) = self.setting("cluster.peers") {
            return peers;
        }
        debug_assert!(false, "cluster.peers is no list of peers");
        &[]
    }

    /// `broker.advertise_for`.
    fn networks(&self) -> ClientNetworks {
        if let Some(Setting::Networks(networks)) = self.setting("broker.advertise_for") {
            return networks.clone();
        }
        debug_assert!(false, "broker.advertise_for is no list of networks");
        ClientNetworks::default()
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        self.values.get(key).map(|known| &known.setting)
    }
}

fn read_values(merged: &Merged, problems: &mut Vec<Problem>) -> BTreeMap<&'static str, Known> {
    let mut values = BTreeMap::new();
    for (key, raw) in KEYS.iter().zip(&merged.values) {
        match key.kind.read(&raw.kind) {
            Ok(setting) => {
                values.insert(key.name, Known { setting, raw: raw.clone() });
            }
            Err(wanted) => problems.push(Problem::value(key.name, raw, &wanted)),
        }
    }
    values
}
