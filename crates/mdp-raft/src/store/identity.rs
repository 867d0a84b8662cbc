//! Who the node is, for as long as its data directory lives.

use std::{
    io,
    sync::{Arc, Mutex},
};

use mdp_catalog::{NodeId, NodeName};
use tokio::sync::oneshot;

use super::{database::Change, database::sealed, lock, writer::Writer};
use crate::{
    runtime::{Runtime, random_bytes},
    stored,
};

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Where the node lives.
    pub(crate) name: NodeName,
    /// Which member it is: random, made with the directory, never reused and never changed.
    pub(crate) node_id: NodeId,
    /// Which cluster it belongs to, once it belongs to one.
    pub(crate) cluster_id: Option<u128>,
}

impl Identity {
    /// The identity of a new directory.
    pub(super) fn new<R: Runtime>(name: NodeName) -> io::Result<Self> {
        // openraft's tests, and people who read logs, take zero for nobody.
        let node_id = loop {
            match u64::from_le_bytes(random_bytes::<R, _>()?) {
                0 => {}
                id => break NodeId(id),
            }
        };
        Ok(Self { name, node_id, cluster_id: None })
    }
}

/// Reads and completes the identity. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct IdentityStore {
    identity: Arc<Mutex<Identity>>,
    /// It is completed once: who comes second waits for the disk, too.
    completing: Arc<tokio::sync::Mutex<()>>,
    writer: Writer,
}

impl IdentityStore {
    pub(super) fn new(identity: Identity, writer: Writer) -> Self {
        Self { identity: Arc::new(Mutex::new(identity)), completing: Arc::default(), writer }
    }

    /// Who the node is now.
    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    /// Makes the node part of a cluster, for ever. It waits for the disk: a node does this once in
    /// its life. Whoever stops to wait does not stop it.
    ///
    /// # Errors
    /// The node belongs to another cluster, or the directory can not be written.
    pub(crate) async fn set_cluster_id(&self, cluster_id: u128) -> io::Result<()> {
        let place = Arc::clone(&self.completing).lock_owned().await;
        let identity = self.identity();
        match identity.cluster_id {
            Some(ours) if ours == cluster_id => return Ok(()),
            Some(ours) => {
                return Err(io::Error::other(format!("it belongs to cluster {ours:032x}")));
            }
            None => {}
        }
        let wanted = Identity { cluster_id: Some(cluster_id), ..identity };
        let record = sealed(stored::encode_identity(&wanted))?;
        let (sender, receiver) = oneshot::channel();
        let identity = Arc::clone(&self.identity);
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                *lock(&identity) = wanted;
            }
            drop(place);
            drop(sender.send(result));
        };
        self.writer.write(Change::Identity(record), Some(Box::new(done))).await?;
        receiver.await.unwrap_or_else(|_| Err(self.writer.failure()))
    }
}
