//! The last snapshot.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use super::{
    database::{Change, sealed},
    lock,
    writer::Writer,
};
use crate::{stored, types::Snapshot};

/// Keeps one snapshot, on disk and in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotStore {
    dir: PathBuf,
    current: Arc<Mutex<Option<Arc<Snapshot>>>>,
    /// One is saved at a time: a snapshot that is made here may meet one that the leader sent.
    saving: Arc<tokio::sync::Mutex<()>>,
    writer: Writer,
}

impl SnapshotStore {
    pub(super) fn new(dir: &Path, current: Option<Snapshot>, writer: Writer) -> Self {
        let current = Arc::new(Mutex::new(current.map(Arc::new)));
        Self { dir: dir.to_owned(), current, saving: Arc::default(), writer }
    }

    /// The directory that it is kept in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last snapshot.
    pub(crate) fn load(&self) -> Option<Arc<Snapshot>> {
        lock(&self.current).clone()
    }

    /// Puts a snapshot in the place of the last one, unless that stands for more of the log. It
    /// is on disk when this returns.
    ///
    /// # Errors
    /// The directory can not be written.
    pub(crate) async fn save(&self, snapshot: Arc<Snapshot>) -> io::Result<()> {
        let _one_at_a_time = self.saving.lock().await;
        if self.load().is_some_and(|last| last.meta.last_log_id > snapshot.meta.last_log_id) {
            return Ok(());
        }
        let meta = sealed(stored::encode_snapshot_meta(&snapshot.meta))?;
        let (sender, receiver) = oneshot::channel();
        let done = move |result| drop(sender.send(result));
        let change = Change::Snapshot { meta, snapshot: Arc::clone(&snapshot) };
        self.writer.write(change, Some(Box::new(done))).await?;
        receiver.await.unwrap_or_else(|_| Err(self.writer.failure()))?;
        *lock(&self.current) = Some(snapshot);
        Ok(())
    }

    /// As [`LogStore::close`](super::LogStore::close).
    #[cfg(test)]
    pub(crate) async fn close(&self) {
        self.writer.close().await.unwrap();
    }
}
