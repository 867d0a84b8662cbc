//! [`Agreement`]: what a copy of the catalog asks of consensus.

use std::time::Duration;

use mdp_catalog::CatalogEntry;
use mdp_raft::{ClusterStatus, Consensus, RoundId};
use tokio::{runtime::Handle, sync::oneshot};

/// How long handing leadership over may take.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether leadership was handed over, sooner or later; closed: nobody knows.
pub type HandingOver = oneshot::Receiver<bool>;

/// What a copy of the catalog asks of consensus. Nothing here waits.
pub trait Agreement {
    /// Asks to make an entry true. It may be lost.
    fn propose(&self, entry: CatalogEntry);
    /// Begins a round of reads, which ends in the news.
    fn read(&self, round: RoundId);
    /// What this node knows of its cluster.
    fn status(&self) -> ClusterStatus;
    /// This node leaves on purpose. If it leads, it begins to hand leadership over.
    fn begin_leaving(&self) -> Option<HandingOver>;
}

/// Consensus of `mdp-raft`.
#[derive(Debug)]
pub struct RaftAgreement {
    /// This node's part in it.
    pub consensus: Consensus,
    /// Where handing leadership over runs.
    pub runtime: Handle,
}

impl Agreement for RaftAgreement {
    fn propose(&self, entry: CatalogEntry) {
        self.consensus.propose(entry);
    }

    fn read(&self, round: RoundId) {
        self.consensus.read(round);
    }

    fn status(&self) -> ClusterStatus {
        self.consensus.status()
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        self.consensus.leave();
        if !self.consensus.status().is_leader() {
            return None;
        }
        let (done, handing_over) = oneshot::channel();
        let consensus = self.consensus.clone();
        self.runtime.spawn(async move {
            let moved = tokio::time::timeout(HAND_OVER_TIMEOUT, consensus.transfer_leader(None));
            let has_moved = match moved.await {
                Ok(Ok(leader)) => {
                    tracing::info!(%leader, "leadership handed over");
                    true
                }
                Ok(Err(error)) => {
                    tracing::info!(%error, "leadership was not handed over");
                    false
                }
                Err(_) => false,
            };
            // A node that ended meanwhile does not want to know.
            match done.send(has_moved) {
                Ok(()) | Err(_) => {}
            }
        });
        Some(handing_over)
    }
}
