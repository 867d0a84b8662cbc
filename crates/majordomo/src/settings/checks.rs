//! Checks that need more than one key, and what this version cannot do yet.

use super::{Settings, kind::Setting, problem::Problem};

/// What is wrong although every value alone is right.
pub(crate) fn across_keys(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(clustering(settings));
    problems.extend(cluster_times(settings));
    problems
}

/// A person who configures a cluster must not get a single node that looks like one.
fn clustering(settings: &Settings) -> Vec<Problem> {
    const REASON: &str =
        "this version runs one node and has no clustering yet; leave it out to run one node";
    let is_cluster = |setting: &Setting| match setting {
        Setting::List(peers) => !peers.is_empty(),
        Setting::Count(expected) => *expected > 1,
        Setting::Text(_) | Setting::Duration(_) | Setting::Size(_) | Setting::Flag(_) => false,
    };
    ["cluster.peers", "cluster.expect"]
        .into_iter()
        .filter_map(|key| settings.values.get(key).map(|known| (key, known)))
        .filter(|(_, known)| is_cluster(&known.setting))
        .map(|(key, known)| Problem::refused(key, &known.raw, REASON))
        .collect()
}

/// Raft needs several heartbeats in an election timeout, and a spread of timeouts.
fn cluster_times(settings: &Settings) -> Vec<Problem> {
    let order = [
        ("cluster.heartbeat_interval", "cluster.election_timeout_min"),
        ("cluster.election_timeout_min", "cluster.election_timeout_max"),
        ("cluster.election_timeout_max", "cluster.node_timeout"),
    ];
    let is_wrong =
        |(shorter, longer): &(&str, &str)| settings.duration(shorter) >= settings.duration(longer);
    order
        .into_iter()
        .filter(is_wrong)
        .filter_map(|(shorter, longer)| {
            let known = settings.values.get(shorter)?;
            let longer_text = settings.setting(longer)?;
            let reason = format!("it must be shorter than {longer} = {longer_text}");
            Some(Problem::refused(shorter, &known.raw, &reason))
        })
        .collect()
}
