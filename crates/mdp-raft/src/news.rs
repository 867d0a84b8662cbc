//! What the cluster tells the node: one ordered feed.

use std::{fmt, sync::Arc};

use mdp_catalog::{Catalog, CatalogEntry};
use tokio::sync::mpsc;

/// How many pieces of news may wait for the node before the state machine waits for it.
pub const NEWS_MAX: usize = 1_024;

/// Names one round of reads; never reused by a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundId(pub u64);

/// What happened in the cluster, as far as this node has applied it.
#[derive(Debug)]
pub enum News {
    /// The log was applied up to an index.
    Applied {
        /// The index of the last entry of the batch.
        index: u64,
        /// The entries that [`Catalog::apply`] accepted, each with its log index, in order. Who
        /// applies them to a copy of the catalog gets the same catalog and the same changes.
        entries: Vec<(u64, CatalogEntry)>,
    },
    /// The whole catalog is another one: at the start, or because a snapshot came.
    Replaced {
        /// The index that it stands for.
        index: u64,
        /// The catalog.
        catalog: Box<Catalog>,
    },
    /// A round of reads ended.
    Read {
        /// Which.
        round: RoundId,
        /// The index at which a catalog answers the reads of the round, or `None`: no quorum.
        index: Option<u64>,
    },
    /// This node can not go on.
    Stopped(Stop),
}

/// Why a node can not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Another process runs under this node's name.
    #[error(
        "another process took over the name {name:?}; two nodes must not have the same node.name"
    )]
    Superseded {
        /// The name.
        name: String,
    },
    /// This member was removed from the cluster.
    #[error(
        "this member was removed from the cluster; to join again, start with an empty node.data_dir"
    )]
    Removed,
    /// The data directory belongs to another cluster than the nodes that `cluster.peers` names.
    #[error(
        "node.data_dir belongs to cluster {ours}, and the nodes of cluster.peers to {theirs}; move \
         the directory away to join theirs, or correct cluster.peers"
    )]
    ForeignCluster {
        /// The directory's, as 32 hexadecimal digits.
        ours: String,
        /// The others'.
        theirs: String,
    },
    /// The store failed.
    #[error("the data directory can not be written: {reason}; nothing that was promised is lost")]
    Storage {
        /// What the store says.
        reason: String,
    },
    /// This version can not take part in the cluster: its log holds what this one does not know, or
    /// it would not know what this one writes.
    #[error("this program's version does not fit the cluster: {reason}")]
    Version {
        /// What was met.
        reason: String,
    },
    /// Consensus ended for another reason.
    #[error("consensus ended: {reason}")]
    Fatal {
        /// What openraft says.
        reason: String,
    },
}

/// Where news is put. Cheap to clone.
#[derive(Clone)]
pub struct NewsSender {
    sender: mpsc::Sender<News>,
    bell: Arc<dyn Fn() + Send + Sync>,
}

/// Makes a feed. `bell` is called after each piece of news.
pub fn news(bell: impl Fn() + Send + Sync + 'static) -> (NewsSender, mpsc::Receiver<News>) {
    let (sender, receiver) = mpsc::channel(NEWS_MAX);
    (NewsSender { sender, bell: Arc::new(bell) }, receiver)
}

impl NewsSender {
    /// Waits for room, puts the news, rings the bell. News for a node that ended is dropped.
    pub(crate) async fn send(&self, news: News) {
        if self.sender.send(news).await.is_ok() {
            (self.bell)();
        }
    }
}

impl fmt::Debug for NewsSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewsSender").finish_non_exhaustive()
    }
}
