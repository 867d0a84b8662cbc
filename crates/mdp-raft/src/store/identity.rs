//! Who the node is, for as long as its data directory lives.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::{Arc, Mutex, mpsc},
};

use mdp_catalog::{NodeId, NodeName};

use super::{database::Change, database::sealed, lock, writer::Writer};
use crate::stored;

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
    pub(super) fn new(name: NodeName) -> io::Result<Self> {
        // openraft's tests, and people who read logs, take zero for nobody.
        let node_id = loop {
            match u64::from_le_bytes(random_bytes()?) {
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
    writer: Writer,
}

impl IdentityStore {
    pub(super) fn new(identity: Identity, writer: Writer) -> Self {
        Self { identity: Arc::new(Mutex::new(identity)), writer }
    }

    /// Who the node is now.
    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    /// Makes the node part of a cluster, for ever. It waits for the disk: a node does this once in
    /// its life.
    ///
    /// # Errors
    /// The node belongs to another cluster, or the directory can not be written.
    pub(crate) fn set_cluster_id(&self, cluster_id: u128) -> io::Result<()> {
        let mut identity = lock(&self.identity);
        match identity.cluster_id {
            Some(ours) if ours == cluster_id => return Ok(()),
            Some(ours) => {
                return Err(io::Error::other(format!("it belongs to cluster {ours:032x}")));
            }
            None => {}
        }
        let wanted = Identity { cluster_id: Some(cluster_id), ..identity.clone() };
        let record = sealed(stored::encode_identity(&wanted))?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let done = move |result| drop(sender.send(result));
        self.writer.write_now(Change::Identity(record), Some(Box::new(done)))?;
        receiver.recv().unwrap_or_else(|_| Err(self.writer.failure()))?;
        *identity = wanted;
        Ok(())
    }
}

/// Bytes from the operating system.
pub(super) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
