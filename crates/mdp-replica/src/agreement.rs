//! [`Agreement`]: how a copy of the catalog comes to agree with others.

use mdp_catalog::CatalogEntry;
use mdp_raft::{ClusterStatus, Consensus, RoundId, Runtime};
use tokio::sync::oneshot;

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

impl<R: Runtime> Agreement for Consensus<R> {
    const IS_ALONE: bool = false;

    fn propose(&self, entry: CatalogEntry) -> Proposed {
        Self::propose(self, entry);
        Proposed::Sent
    }

    fn read(&self, round: RoundId) {
        Self::read(self, round);
    }

    fn status(&self) -> Option<ClusterStatus> {
        Some(Self::status(self))
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        self.leave()
    }
}
