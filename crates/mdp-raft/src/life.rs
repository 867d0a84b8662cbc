//! This node's life in the catalog: it begins one when it has joined, and another when the last
//! was ended although the node lives.

use std::{sync::Arc, time::Duration};

use mdp_catalog::{Boot, CatalogEntry, Epoch, NodeId, NodeState, NodeUp, VersionMisfit};

use crate::{Stop, hub::Hub, proposals, runtime::Runtime, upgrade};

/// How long to wait for the catalog to change before looking anyway.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a node without a life looks for a leader.
const LEADER_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait after the first attempt that came to nothing; doubled after each.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// And at most.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the catalog says of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// This process is up, or leaves.
    Lives,
    /// It has no life; the last one that anybody had under this name is this.
    None { last: Epoch },
    /// Another process has this node's name now.
    Superseded,
    /// This version can not take part in this cluster.
    Misfit(VersionMisfit),
}

pub(crate) fn look(hub: &Hub<impl Runtime>, has_lived: bool) -> Life {
    if let Some(misfit) = upgrade::misfit(hub) {
        return Life::Misfit(misfit);
    }
    hub.catalog.with(|catalog, _| match catalog.node(hub.name()) {
        None => Life::None { last: Epoch(0) },
        Some(record) if record.boot.process == hub.process => match record.state {
            NodeState::Up | NodeState::Draining => Life::Lives,
            NodeState::Gone => Life::None { last: record.epoch },
        },
        Some(record) if has_lived && record.state != NodeState::Gone => Life::Superseded,
        Some(record) => Life::None { last: record.epoch },
    })
}

/// Runs until the node ends.
pub(crate) async fn run<R: Runtime>(hub: Arc<Hub<R>>) {
    let mut changes = hub.catalog.changes();
    let (mut attempt, mut has_lived, mut backoff) = (0_u32, false, BACKOFF_MIN);
    loop {
        match look(&hub, has_lived) {
            Life::Lives => {
                has_lived = true;
                backoff = BACKOFF_MIN;
            }
            Life::Superseded => {
                let name = hub.name().as_str().to_owned();
                return hub.stop(Stop::Superseded { name }).await;
            }
            Life::Misfit(misfit) => {
                return hub.stop(Stop::Version { reason: misfit.to_string() }).await;
            }
            // Only a process that the leader calls is the member: another one may run on a copy of
            // its data directory.
            Life::None { last } if hub.hears_leader() && hub.is_member() && !hub.is_leaving() => {
                if begin(&hub, attempt, last).await {
                    tracing::info!(attempt, "this node began a life in the cluster");
                } else {
                    hub.sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                attempt = attempt.saturating_add(1);
                continue;
            }
            Life::None { .. } => {
                hub.sleep(LEADER_LOOK_INTERVAL).await;
                continue;
            }
        }
        // Time is up: look anyway. The catalog is gone: so is the node.
        if let Ok(Err(_)) = hub.timeout(LOOK_INTERVAL, changes.changed()).await {
            return;
        }
    }
}

async fn begin(hub: &Hub<impl Runtime>, attempt: u32, last: Epoch) -> bool {
    let entry = CatalogEntry::NodeUp(NodeUp {
        node: hub.name().clone(),
        node_id: NodeId(hub.id()),
        boot: Boot { process: hub.process, attempt },
        expected_epoch: last,
        endpoints: hub.config.endpoints.clone(),
        version: hub.config.version,
    });
    if !proposals::propose(hub, &entry).await {
        return false;
    }
    // Written by the leader; applied here a moment later, or refused there because the last life
    // is another one by now.
    let mut changes = hub.catalog.changes();
    let applied = async {
        while look(hub, false) == (Life::None { last }) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    drop(hub.timeout(proposals::PROPOSAL_TIMEOUT, applied).await);
    look(hub, false) == Life::Lives
}
