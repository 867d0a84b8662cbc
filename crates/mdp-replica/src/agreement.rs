//! [`Agreement`]: how a copy of the catalog comes to agree with others.

use std::time::Duration;

use mdp_catalog::CatalogEntry;
use mdp_raft::{ClusterStatus, Consensus, RoundId};
use tokio::{runtime::Handle, sync::oneshot};

/// How long handing leadership over may take.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether leadership was handed over, sooner or later; closed: nobody knows.
pub type HandingOver = oneshot::Receiver<bool>;

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It is on its way. The news tell when it is true; it may be lost.
    Sent,
    /// It is agreed on.
    Agreed(CatalogEntry),
}

/// How a copy of the catalog comes to agree with others. Nothing here waits.
pub trait Agreement {
    /// Whether there are no others: then the copy is the catalog, and no question has to be asked.
    const IS_ALONE: bool;

    /// Asks to make an entry true.
    fn propose(&self, entry: CatalogEntry) -> Proposed;
    /// Begins a round of reads, which ends in the news.
    fn read(&self, round: RoundId);
    /// What this node knows of its cluster; `None`: there is none.
    fn status(&self) -> Option<ClusterStatus>;
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

/// The agreement of a node without peers: what it says is so, at once.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Agreement for Alone {
    const IS_ALONE: bool = true;

    fn propose(&self, entry: CatalogEntry) -> Proposed {
        Proposed::Agreed(entry)
    }

    fn read(&self, _round: RoundId) {}

    fn status(&self) -> Option<ClusterStatus> {
        None
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        None
    }
}

impl Agreement for RaftAgreement {
    const IS_ALONE: bool = false;

    fn propose(&self, entry: CatalogEntry) -> Proposed {
        self.consensus.propose(entry);
        Proposed::Sent
    }

    fn read(&self, round: RoundId) {
        self.consensus.read(round);
    }

    fn status(&self) -> Option<ClusterStatus> {
        Some(self.consensus.status())
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
