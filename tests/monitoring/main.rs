#![cfg(test)]
//! A real Prometheus in front of three loaded nodes: what the dashboard asks for is there, and the alerts
//! fire when they should.

mod change;
mod files;
mod load;
mod prometheus;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{RawClient, RawWorker, TestCluster, Version, look_for};

use self::{load::Load, prometheus::Prometheus};

/// How long the nodes are under load before they are judged.
const LOADED: Duration = Duration::from_secs(30);

/// How long an alert may take: what it waits for, and a few evaluations.
const FIRES_WITHIN: Duration = Duration::from_secs(25);

/// More than `MajordomoRequestsWait` tolerates, of one service without a worker.
const WAITING: usize = 150;

/// More than `MajordomoWorkersExpire` tolerates.
const SILENT_WORKERS: usize = 12;

/// Each test has nodes under load, or counts their seconds: one at a time has the machine.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fires(prometheus: &Prometheus, alert: &str) -> bool {
    prometheus.firing().iter().any(|name| name == alert)
}

#[track_caller]
fn wait_for_alert(prometheus: &Prometheus, alert: &str) {
    assert!(
        look_for(FIRES_WITHIN, || fires(prometheus, alert).then_some(())).is_some(),
        "{alert} does not fire within {FIRES_WITHIN:?}, only {:?}; {}",
        prometheus.firing(),
        prometheus.log()
    );
}

/// What selects nothing in these expressions.
fn unmatched(prometheus: &Prometheus, of: &[(String, String)]) -> Vec<String> {
    let selectors = of.iter().flat_map(|(name, expression)| {
        files::selectors(expression).into_iter().map(move |selector| (name, selector))
    });
    let unmatched = selectors.filter(|(_, selector)| prometheus.query(selector).is_empty());
    unmatched.map(|(name, selector)| format!("{name}: {selector}")).collect()
}

/// What gives no value, or one that is no number.
fn without_value(prometheus: &Prometheus, panels: &[(String, String)]) -> Vec<String> {
    let has_none = |expression: &str| {
        let values = prometheus.query(expression);
        values.is_empty() || values.iter().any(|value| !value.is_finite())
    };
    let without = panels.iter().filter(|(_, expression)| has_none(expression));
    without.map(|(title, expression)| format!("{title}: {expression}")).collect()
}

/// promtool's answer to a quantile of each node, in seconds.
fn quantiles(prometheus: &Prometheus, metric: &str) -> Vec<f64> {
    let rate = format!("rate(majordomo_{metric}_duration_seconds_bucket[20s])");
    let answer = prometheus.promtool(&format!("histogram_quantile(0.99, {rate})"));
    let value = |line: &str| line.split("=> ").nth(1)?.split(' ').next()?.parse().ok();
    answer.lines().filter_map(value).collect()
}

#[test]
fn dashboard_and_alerts_see_what_three_nodes_show() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[("broker.heartbeat_interval", "1s")]);
    let prometheus = Prometheus::start(cluster.nodes(), &files::rules());
    let started = Instant::now();
    let load = Load::start(&cluster);
    let waiting = RawClient::connect(cluster.node(0), Version::V01);
    (0..WAITING).for_each(|_| waiting.request("unserved", "hello"));
    let silent: Vec<RawWorker> = (0..SILENT_WORKERS)
        .map(|number| RawWorker::register(cluster.node(1), Version::V01, format!("s{number}")))
        .collect();

    wait_for_alert(&prometheus, "MajordomoWorkersExpire");
    wait_for_alert(&prometheus, "MajordomoRequestsWait");
    thread::sleep(LOADED.saturating_sub(started.elapsed()));

    let (panels, alerts) = (files::panels(), prometheus.alerts());
    assert!(panels.len() >= 30 && alerts.len() >= 20, "{panels:#?} {alerts:#?}");
    assert_eq!(unmatched(&prometheus, &panels), [""; 0], "panels");
    assert_eq!(unmatched(&prometheus, &alerts), [""; 0], "alerts");
    assert_eq!(without_value(&prometheus, &panels), [""; 0], "panels without a value");
    for metric in ["broker_request", "broker_queue", "broker_lookup", "raft_commit"] {
        let quantiles = quantiles(&prometheus, metric);
        let are_times = quantiles.iter().all(|seconds| (0.0..60.0).contains(seconds));
        assert!(quantiles.len() == cluster.nodes().len() && are_times, "{metric}: {quantiles:?}");
    }
    for calm in ["MajordomoAbsent", "MajordomoLeadersNotOne", "MajordomoVotersMissing"] {
        assert!(!fires(&prometheus, calm), "{:?}", prometheus.firing());
    }
    drop((load, silent));

    let followers: Vec<usize> = cluster.others(&[cluster.leader()]).collect();
    cluster.node_mut(followers[0]).kill();
    wait_for_alert(&prometheus, "MajordomoVotersMissing");
    wait_for_alert(&prometheus, "MajordomoMemberUnheard");
    cluster.node_mut(followers[1]).kill();
    wait_for_alert(&prometheus, "MajordomoLeadersNotOne");
}
