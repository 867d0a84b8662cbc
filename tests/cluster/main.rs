#![cfg(test)]
//! Three real processes on loopback: what clients and workers see while nodes are killed, cut off,
//! frozen, and lose their disks.
//!
//! The everyday numbers are short forms; `MAJORDOMO_SOAK=1` runs the full ones. A test that measures has
//! the machine for itself.

mod corruption;
mod failover;
mod freeze;
mod history;
mod idle;
mod interfaces;
mod ip_versions;
mod leaving;
mod membership;
mod names;
mod networks;
mod partition;
mod registration;
mod restart;
mod storage;
mod storm;
mod top;
mod unheard;
mod volumes;

use std::{
    env, fs,
    path::Path,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use cluster_tests::{Asker, Code, RawWorker, TestCluster, Version};

/// `cluster.node_timeout`, as built in.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long after a node was lost its services may be found, if it did not lead.
const GONE_WITHIN: Duration = NODE_TIMEOUT.saturating_add(Duration::from_secs(1));

/// The same if it led: the new leader grants every node a full period.
const GONE_WITHIN_OF_LEADER: Duration = GONE_WITHIN.saturating_add(Duration::from_secs(2));

/// How long after a cut has healed a node may not know.
const HEALED_WITHIN: Duration = Duration::from_secs(2);

/// How long `503` may take: `mmi.read_timeout`, and a bit. Titanic waits for a second, and no longer.
const UNAVAILABLE_WITHIN: Duration = Duration::from_millis(700);

/// How long may take what a node does alone.
const LOCAL_WITHIN: Duration = Duration::from_millis(500);

/// Tests that measure have it for themselves; others share it.
static MACHINE: RwLock<()> = RwLock::new(());

/// For tests that measure.
fn machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that mostly wait.
fn part_of_the_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Random choices that a failed run shows, and `MAJORDOMO_SEED` repeats.
fn random() -> fastrand::Rng {
    let given = env::var("MAJORDOMO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("MAJORDOMO_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Registers a worker at a node of the cluster.
#[track_caller]
fn register(cluster: &TestCluster, node: usize, service: &str) -> RawWorker {
    RawWorker::register(cluster.node(node), Version::V01, service)
}

/// A client of each node.
fn askers(cluster: &TestCluster) -> Vec<Asker> {
    cluster.nodes().iter().map(Asker::connect).collect()
}

/// What every node says of a service, all asked at the same time.
#[track_caller]
fn everywhere(askers: &mut [Asker], service: &str) -> Vec<Option<Code>> {
    let tickets: Vec<_> =
        askers.iter_mut().map(|asker| asker.ask("mmi.service", service)).collect();
    askers.iter().zip(tickets).map(|(asker, ticket)| asker.code_of(ticket)).collect()
}

/// Every node must say this of a service, at once.
#[track_caller]
fn assert_everywhere(askers: &mut [Asker], service: &str, code: Code) {
    let codes = everywhere(askers, service);
    assert!(codes.iter().all(|seen| *seen == Some(code)), "{service}: {codes:?}, not {code:?}");
}

/// The worker must not have heard anything from its node since its registration.
#[track_caller]
fn assert_left_alone(worker: &RawWorker) {
    worker.socket.expect_silence(Duration::ZERO);
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            // Not the socket of a node that was killed.
            fs::copy(&path, &target).unwrap();
        }
    }
}
