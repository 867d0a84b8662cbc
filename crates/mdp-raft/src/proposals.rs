//! Making entries true: written by the leader, whoever that is.

use std::time::Duration;

use mdp_catalog::{CatalogEntry, encode_entry};

use crate::{
    Lane,
    calls::{Reply, Request},
    hub::{Hub, Leader},
    network::leader_hint,
    runtime::Runtime,
};

/// How long an entry is tried; after that, whoever proposed it tries again if it still wants it.
pub(crate) const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to wait after a failed attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Tries to write an entry until it is written or time is up. An attempt that came to nothing may
/// still have written it: entries are made so that applying one twice changes nothing.
pub(crate) async fn propose(hub: &Hub<impl Runtime>, entry: &CatalogEntry) -> bool {
    let deadline = hub.now() + PROPOSAL_TIMEOUT;
    loop {
        let remaining = hub.time_until(deadline);
        if remaining.is_zero() {
            return false;
        }
        if attempt(hub, entry, remaining.min(ATTEMPT_TIMEOUT)).await {
            return true;
        }
        hub.sleep(RETRY_PAUSE.min(hub.time_until(deadline))).await;
    }
}

async fn attempt(hub: &Hub<impl Runtime>, entry: &CatalogEntry, within: Duration) -> bool {
    let mut target = match hub.leader() {
        None => return false,
        Some(Leader::Me) => {
            return matches!(hub.timeout(within, hub.write(entry.clone())).await, Ok(Ok(())));
        }
        Some(Leader::Other { target, .. }) => target,
    };
    // The node that is taken for the leader may know a newer one.
    for _ in 0..2 {
        let Ok(entry) = encode_entry(entry) else { return false };
        match hub.peers.call(&target, Lane::Control, Request::Propose { entry }, within).await {
            Ok(reply) => return matches!(reply, Reply::Proposed),
            Err(failure) => match leader_hint(&failure) {
                Some((id, member)) if id != hub.id() => target = hub.peers.target(id, &member),
                Some(_) | None => return false,
            },
        }
    }
    false
}
