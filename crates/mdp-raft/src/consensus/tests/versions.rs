//! The cluster's version: when it rises, and who is refused.

use mdp_catalog::SoftwareVersion;

use super::harness::{TestCluster, patient, seed_list};
use crate::{ChangeError, Stop, UpgradeChange, UpgradeState};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

const fn version(minor: u16) -> SoftwareVersion {
    SoftwareVersion { major: 0, minor, patch: 0 }
}

async fn restart_in(cluster: &mut TestCluster, name: &str, minor: u16) {
    cluster.kill(name).await;
    cluster.set_version(name, version(minor));
    cluster.restart(name).await;
}

async fn cluster() -> TestCluster {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&NAMES).await;
    is_at(&cluster, 1).await;
    cluster
}

/// Waits until all nodes know this version of the cluster.
async fn is_at(cluster: &TestCluster, minor: u16) {
    let knows = Some(version(minor));
    patient(|| cluster.nodes().all(|node| node.status().upgrade.cluster_version == knows)).await;
}

async fn is_in(cluster: &TestCluster, state: UpgradeState) {
    patient(|| cluster.nodes().all(|node| node.status().upgrade.state == state)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_rises_after_all_have_run_it_for_a_while() {
    let mut cluster = cluster().await;
    is_in(&cluster, UpgradeState::Current).await;

    for name in ["n1", "n2"] {
        restart_in(&mut cluster, name, 2).await;
        cluster.wait_ready(&NAMES).await;
    }
    is_in(&cluster, UpgradeState::Mixed { older: vec!["n3".to_owned()] }).await;
    // Nothing is final yet: one goes back, and comes again.
    restart_in(&mut cluster, "n1", 1).await;
    cluster.wait_ready(&NAMES).await;
    restart_in(&mut cluster, "n1", 2).await;
    restart_in(&mut cluster, "n3", 2).await;

    is_at(&cluster, 2).await;
    is_in(&cluster, UpgradeState::Current).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_of_an_older_version_is_refused_once_the_version_rose() {
    let mut cluster = cluster().await;
    for name in NAMES {
        restart_in(&mut cluster, name, 2).await;
    }
    is_at(&cluster, 2).await;

    restart_in(&mut cluster, "n2", 1).await;
    patient(|| cluster.node("n2").stopped().is_some()).await;
    let Some(Stop::Version { reason }) = cluster.node("n2").stopped() else { panic!("stopped") };
    assert!(reason.contains("start version 0.2.0 or newer"), "{reason}");

    cluster.set_version("n4", version(1));
    cluster.add("n4", seed_list(&NAMES)).await;
    patient(|| matches!(cluster.node("n4").stopped(), Some(Stop::Version { .. }))).await;
    assert_eq!(cluster.node("n1").status().members.len(), 3, "n4 was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_skipped_a_version_is_refused() {
    let mut cluster = cluster().await;

    restart_in(&mut cluster, "n3", 3).await;

    patient(|| cluster.node("n3").stopped().is_some()).await;
    let Some(Stop::Version { reason }) = cluster.node("n3").stopped() else { panic!("stopped") };
    assert!(reason.contains("one minor version at a time"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_version_rises_when_it_is_made_final() {
    let mut cluster = cluster().await;
    cluster.node("n1").change_upgrade(UpgradeChange::Hold).await.unwrap();

    restart_in(&mut cluster, "n1", 2).await;
    cluster.wait_ready(&NAMES).await;
    let refused = cluster.node("n2").change_upgrade(UpgradeChange::Finalize).await.unwrap_err();
    assert!(matches!(&refused, ChangeError::Refused { reason } if reason.contains("n2, n3")));
    for name in ["n2", "n3"] {
        restart_in(&mut cluster, name, 2).await;
    }
    is_in(&cluster, UpgradeState::Held).await;
    assert_eq!(cluster.node("n1").status().upgrade.cluster_version, Some(version(1)));

    cluster.node("n3").change_upgrade(UpgradeChange::Finalize).await.unwrap();
    is_at(&cluster, 2).await;
    assert_eq!(cluster.node("n3").status().upgrade.held_at, None);
}
