//! Environment variables that are most likely meant as configuration and are none, or hardly any.
//!
//! A variable that is ignored without a word can make three clusters of one node out of one of three.
//! Kubernetes gives every container variables about each service ("service links"): those of a
//! service `majordomo` begin as ours do, and are not meant for us.

use std::ffi::OsString;

use config::{Map, Value, ValueKind};

use super::{
    keys::{self, KEYS, Key},
    layers::VARIABLE_PREFIX,
};

/// The word that our variables begin with.
const PROGRAM: &str = "MAJORDOMO_";

/// More slips than this make another word.
const SLIPS_MAX: usize = 1;

/// Variables of the other commands and of the containers that hold this program.
const OTHERS: [&str; 7] = [
    "MAJORDOMO_ENDPOINT",
    "MAJORDOMO_ADMIN",
    "MAJORDOMO_KEY",
    "MAJORDOMO_SERVER_KEY",
    "MAJORDOMO_TOKEN_FILE",
    "MAJORDOMO_CA_FILE",
    "MAJORDOMO_WORK_ID",
];

/// One warning for each variable that is nearly a key.
pub(super) fn nearly_keys(variables: &[(OsString, OsString)]) -> Vec<String> {
    let names = variables.iter().filter_map(|(name, _)| name.to_str());
    let mut warnings: Vec<String> = names.filter_map(nearly_key).collect();
    warnings.sort();
    warnings
}

fn nearly_key(name: &str) -> Option<String> {
    if name.starts_with(VARIABLE_PREFIX) || OTHERS.contains(&name) || is_service_link(name) {
        return None;
    }
    let words = words(name);
    let key = words.strip_prefix(PROGRAM)?;
    let meant = KEYS.iter().find(|known| is_near(key, known))?;
    Some(format!(
        "the environment variable {name} is ignored: did you mean {}, which sets {}?",
        meant.variable(),
        meant.name
    ))
}

/// Upper case, and one underscore between two words.
fn words(name: &str) -> String {
    let name = name.to_uppercase().replace(['-', '.'], "_");
    name.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// Whether this was meant for the key: with its section, or without if no other section has one.
fn is_near(words: &str, key: &Key) -> bool {
    let whole = key.name.replace('.', "_").to_uppercase();
    let is_only = KEYS.iter().filter(|other| other.last() == key.last()).count() == 1;
    strsim::damerau_levenshtein(words, &whole) <= SLIPS_MAX
        || (is_only && words == key.last().to_uppercase())
}

/// `X_SERVICE_HOST`, `X_SERVICE_PORT`, `X_SERVICE_PORT_NAME`, `X_PORT`, `X_PORT_5555_TCP` and what
/// follows that.
fn is_service_link(name: &str) -> bool {
    let is_of_port = |rest: &str| {
        rest.is_empty() || rest.trim_start_matches('_').starts_with(|c: char| c.is_ascii_digit())
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT").is_some_and(|(_, rest)| is_of_port(rest))
}

/// One warning for each variable that is empty and so takes away what is not meant to be taken.
pub(super) fn empty(variables: &Map<String, Value>, file: &Map<String, Value>) -> Vec<String> {
    let is_empty =
        |value: &Value| matches!(&value.kind, ValueKind::String(text) if text.trim().is_empty());
    let mut warnings = Vec::new();
    for (name, _) in variables.iter().filter(|(_, value)| is_empty(value)) {
        let Some(key) = keys::find(name) else { continue };
        let in_file = section(file, key).is_some_and(|value| !is_empty(value));
        // To have no administration port is a choice that is documented so.
        let is_choice = key.name == "admin.bind";
        if key.name == "cluster.peers" || (in_file && !is_choice) {
            let instead = if in_file { ", and the value of the file does not count" } else { "" };
            warnings.push(format!(
                "the environment variable {} is empty, so {} has no value{instead}; unset the variable \
                 if that is not meant",
                key.variable(),
                key.name
            ));
        }
    }
    warnings.sort();
    warnings
}

fn section<'a>(file: &'a Map<String, Value>, key: &Key) -> Option<&'a Value> {
    let Some(ValueKind::Table(section)) = file.get(key.section()).map(|value| &value.kind) else {
        return None;
    };
    section.get(key.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(names: &[&str]) -> Vec<String> {
        nearly_keys(&names.iter().map(|name| (name.into(), "".into())).collect::<Vec<_>>())
    }

    #[test]
    fn variable_that_is_nearly_a_key_is_named_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("MAJORDOMO_BROKER_BIND", "MAJORDOMO__BROKER__BIND"),
            ("MAJORDOMO_BROKER__BIND", "MAJORDOMO__BROKER__BIND"),
            ("majordomo__cluster__peers", "MAJORDOMO__CLUSTER__PEERS"),
            ("Majordomo_Cluster_Peers", "MAJORDOMO__CLUSTER__PEERS"),
            ("MAJORDOMO_CLUSTER_PEER", "MAJORDOMO__CLUSTER__PEERS"),
            ("MAJORDOMO_PEERS", "MAJORDOMO__CLUSTER__PEERS"),
            ("MAJORDOMO_NODE_NAME", "MAJORDOMO__NODE__NAME"),
            ("MAJORDOMO.BROKER.MAX_ATTEMPTS", "MAJORDOMO__BROKER__MAX_ATTEMPTS"),
        ] {
            let warnings = warned(&[name]);

            let expected = format!("{name} is ignored: did you mean {meant}, which sets ");
            assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{warnings:?}");
        }
    }

    #[test]
    fn other_variables_are_not_named() {
        let links = [
            "MAJORDOMO_SERVICE_HOST",
            "MAJORDOMO_SERVICE_PORT",
            "MAJORDOMO_SERVICE_PORT_CLIENT",
            "MAJORDOMO_PORT",
            "MAJORDOMO_PORT_5555_TCP",
            "MAJORDOMO_PORT_5555_TCP_ADDR",
            "MAJORDOMO_PORT_5555_TCP_PROTO",
            "MAJORDOMO_CLUSTER_SERVICE_HOST",
            "MAJORDOMO_CLUSTER_PORT",
            "MAJORDOMO_NODE_PORT_5556_TCP",
            "MAJORDOMO_ADMIN_SERVICE_HOST",
        ];
        let others =
            ["MAJORDOMO_ENDPOINT", "MAJORDOMO_ADMIN", "MAJORDOMO_BIN", "PATH", "BROKER_BIND"];
        let of_commands = ["MAJORDOMO_TOKEN_FILE", "MAJORDOMO_CA_FILE"];
        // Refused, not warned of, if they are no keys.
        let keys = ["MAJORDOMO__BROKER__BIND", "MAJORDOMO__BROKER__BINDS"];

        assert_eq!(warned(&links), Vec::<String>::new());
        assert_eq!(warned(&others), Vec::<String>::new());
        assert_eq!(warned(&of_commands), Vec::<String>::new());
        assert_eq!(warned(&keys), Vec::<String>::new());
    }
}
