//! [`Node`]: drained, waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mdp_core::{Drained, NodeEnding};
use mdp_raft::{Consensus, Stop};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
};

use crate::{
    BrokerThreadError, NodeView,
    cluster_link::ClusterLink,
    inbox::{Message, Postbox},
    security::IdentityWatch,
    start::Thread,
};

/// How long consensus may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long those who wait for the receipt may take to read it.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);

/// A started node ended otherwise than by a drain.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The broker thread could not go on.
    #[error(transparent)]
    BrokerThread(BrokerThreadError),
    /// The cluster said that this node can not go on.
    #[error(transparent)]
    Cluster(Stop),
    /// The broker thread panicked.
    #[error("the broker thread panicked")]
    Panicked,
    /// The node was told to stop without a drain.
    #[error("stopped without a drain")]
    Stopped,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "drained")]
pub struct DrainReceipt {
    /// Requests answered since the drain began.
    pub finished: u64,
    /// Requests given to other nodes.
    pub handed_over: u64,
    /// Requests dropped because nobody could serve them in time.
    pub dropped: u64,
    /// Whether the cluster has another leader because of it.
    pub leader_moved: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl From<Drained> for DrainReceipt {
    fn from(drained: Drained) -> Self {
        let Drained { receipt, leader_moved, took } = drained;
        Self {
            finished: receipt.finished,
            handed_over: receipt.handed_over,
            dropped: receipt.dropped,
            leader_moved,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Asks a node to drain, from any thread.
#[derive(Clone, Debug)]
pub struct Drainer {
    postbox: Postbox,
    is_asked: Arc<AtomicBool>,
    receipt: Arc<watch::Sender<Option<DrainReceipt>>>,
}

impl Drainer {
    pub(crate) fn new(postbox: Postbox) -> Self {
        Self { postbox, is_asked: Arc::default(), receipt: Arc::default() }
    }

    /// Asks the node to take no new work, finish the old and end. It never waits, and asking again
    /// changes nothing.
    pub fn drain(&self) {
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        // A full inbox is tried again by whoever asks again.
        let is_posted = self.postbox.post(Message::Drain).is_ok();
        self.is_asked.store(is_posted, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// For waiting for the receipt. [`Node::wait`] gives whoever holds one a while to pass it on.
    pub(crate) fn receipt(&self) -> watch::Receiver<Option<DrainReceipt>> {
        self.receipt.subscribe()
    }

    /// Tells the receipt, and waits until all who wanted it have passed it on.
    async fn tell(&self, receipt: DrainReceipt) {
        self.receipt.send_replace(Some(receipt));
        if tokio::time::timeout(ANSWERS_TIMEOUT, self.receipt.closed()).await.is_err() {
            tracing::warn!("somebody who waits for the end of the drain does not read about it");
        }
    }
}

/// What a node with peers has running besides its broker thread.
#[derive(Debug)]
pub(crate) struct ClusterParts {
    pub(crate) link: ClusterLink,
    pub(crate) consensus: Consensus,
    pub(crate) runtime: Runtime,
}

impl ClusterParts {
    /// Ends this node's part in the cluster; the store is closed then. What is left is the runtime,
    /// on which the administration port answers.
    fn leave(self) -> Runtime {
        let Self { link, consensus, runtime } = self;
        let ending = async { tokio::time::timeout(SHUTDOWN_TIMEOUT, consensus.shutdown()).await };
        if runtime.block_on(ending).is_err() {
            tracing::warn!("consensus did not end in time");
        }
        drop(link);
        runtime
    }
}

/// A node that serves.
///
/// Dropping it stops it at once, without a drain.
#[derive(Debug)]
pub struct Node {
    view: NodeView,
    thread: Option<Thread>,
    /// `None`: nothing proves who clients and workers are.
    _identities: Option<IdentityWatch>,
    cluster: Option<ClusterParts>,
}

impl Node {
    pub(crate) fn new(
        view: NodeView,
        (thread, identities): (Thread, Option<IdentityWatch>),
        cluster: Option<ClusterParts>,
    ) -> Self {
        Self { view, thread: Some(thread), _identities: identities, cluster }
    }

    /// What was really bound, with the ports that the system chose.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.view.endpoints()
    }

    /// The first one of [`endpoints`](Self::endpoints).
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoints().first().map_or("", String::as_str)
    }

    /// The address that clients are told; empty if there is none.
    #[must_use]
    pub fn advertised(&self) -> &str {
        self.view.advertised()
    }

    /// A handle that sees this node, for other threads.
    #[must_use]
    pub fn view(&self) -> NodeView {
        self.view.clone()
    }

    /// Asks the node to drain: see [`Drainer::drain`].
    pub fn drain(&self) {
        self.view.drainer().drain();
    }

    /// For asking the node to drain from another thread.
    #[must_use]
    pub fn drainer(&self) -> Drainer {
        self.view.drainer().clone()
    }

    /// A number that rises at least once in a second while the broker thread works.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.view.turns()
    }

    /// Waits until the node ends, which it does once it has drained.
    ///
    /// # Errors
    /// It ended otherwise.
    pub fn wait(mut self) -> Result<DrainReceipt, NodeError> {
        let Some(thread) = self.thread.take() else { return Err(NodeError::Stopped) };
        let outcome = match thread.join() {
            Ok(Ok(NodeEnding::Drained(drained))) => Ok(drained.into()),
            Ok(Ok(NodeEnding::Stopped)) => Err(NodeError::Stopped),
            Ok(Ok(NodeEnding::Cluster(stop))) => Err(NodeError::Cluster(stop)),
            Ok(Err(error)) => Err(NodeError::BrokerThread(error)),
            Err(_) => Err(NodeError::Panicked),
        };
        self.end_cluster(outcome.as_ref().ok());
        outcome
    }

    /// Whoever waits for the receipt gets it last, so that the ports and the data directory of this
    /// node are free when somebody acts on it.
    fn end_cluster(&mut self, receipt: Option<&DrainReceipt>) {
        let runtime = self.cluster.take().map(ClusterParts::leave);
        if let Some(receipt) = receipt {
            let telling = self.view.drainer().tell(*receipt);
            match &runtime {
                Some(runtime) => runtime.block_on(telling),
                None => match runtime::Builder::new_current_thread().enable_time().build() {
                    Ok(runtime) => runtime.block_on(telling),
                    Err(error) => tracing::warn!(%error, "nobody is told of the end of the drain"),
                },
            }
        }
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && self.view.stop()
            && thread.join().is_err()
        {
            tracing::error!("the broker thread panicked");
        }
        self.end_cluster(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_is_the_documented_json() {
        let receipt = DrainReceipt {
            finished: 1,
            handed_over: 2,
            dropped: 3,
            leader_moved: false,
            took_ms: 4,
        };

        assert_eq!(
            serde_json::to_string(&receipt).unwrap(),
            r#"{"event":"drained","finished":1,"handed_over":2,"dropped":3,"leader_moved":false,"took_ms":4}"#
        );
    }
}
