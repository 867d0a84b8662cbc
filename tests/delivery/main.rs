#![cfg(test)]
//! Requests under fire: each one accounted for while workers, nodes and links fail, restarts without
//! a failed call, balance over nodes, and overload.
//!
//! The everyday numbers are short forms; `MAJORDOMO_SOAK=1` runs the full ones. Every test measures or
//! needs all of the machine, so each has it for itself.

mod accounting;
mod balance;
mod balancer;
mod canary;
mod guide;
mod hostile;
mod overload;
mod rolling;
mod spread;
mod together;

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster_tests::{TestCluster, look_for};
use serde_json::Value;

/// One test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random choices that a failed run shows, and `MAJORDOMO_SEED` repeats.
fn random() -> fastrand::Rng {
    let given = env::var("MAJORDOMO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("MAJORDOMO_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Lets a part of a run take its time.
fn let_pass(length: Duration) {
    assert!(look_for(length, || None::<()>).is_none());
}

/// How many workers of a service there are, as each node counts its own.
fn workers_of(cluster: &TestCluster, service: &str) -> usize {
    (0..cluster.nodes().len()).map(|node| workers_at(cluster, node, service)).sum()
}

/// How many workers of a service a node counts.
fn workers_at(cluster: &TestCluster, node: usize, service: &str) -> usize {
    let page = cluster.node(node).page("/api/v1/services");
    let page = page.and_then(|page| serde_json::from_str::<Value>(&page.body).ok());
    let count = page.and_then(|page| {
        let mut services = page["services"].as_array()?.iter();
        services.find(|other| other["name"] == service)?["workers"].as_u64()
    });
    usize::try_from(count.unwrap_or_default()).unwrap()
}
