//! The catalog as openraft's state machine: applies the log, tells the node, makes snapshots.
//!
//! The state is in memory; what is kept on disk is the last snapshot and the log after it. The
//! catalog here serves this crate's own tasks. The one that answers workers and clients is the
//! node's copy, which follows by [`News`], and "applied here" means that one: whoever waits for
//! an entry is answered after the news of it was sent.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, StreamExt as _};
use mdp_catalog::{Catalog, CatalogEntry};
use mdp_wire::codec::CodecError;
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::watch;

use crate::{
    News, NewsSender, Stop, StorageError,
    runtime::Runtime,
    store::SnapshotStore,
    types::{Command, Entry, LogId, Outcome, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// How many entries are applied at once, and told to the node as one piece of news.
const ENTRIES_PER_BATCH_MAX: usize = 256;

/// The state up to one entry of the log.
#[derive(Clone, Debug, Default)]
struct State {
    catalog: Catalog,
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// The catalog as applied by this crate. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SharedCatalog {
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
}

impl SharedCatalog {
    /// Looks at the catalog and the last entry that was applied to it. Keep it short: applying
    /// waits meanwhile.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Catalog, Option<&LogId>) -> T) -> T {
        let state = lock(&self.state);
        look(&state.catalog, state.applied.as_ref())
    }

    /// Tells of changes of the catalog from now on. It is closed when consensus ends.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct StateMachine {
    state: Arc<Mutex<State>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    snapshots: SnapshotStore,
    news: NewsSender,
}

impl StateMachine {
    /// Begins with the last snapshot.
    ///
    /// # Errors
    /// The snapshot can not be decoded.
    pub(crate) fn new(
        snapshots: SnapshotStore,
        news: NewsSender,
    ) -> Result<(Self, SharedCatalog), StorageError> {
        let state = match snapshots.load() {
            None => State::default(),
            Some(snapshot) => State::read(&snapshot.meta, &snapshot.snapshot)
                .map_err(|error| StorageError::unreadable_snapshot(snapshots.dir(), error))?,
        };
        let state = Arc::new(Mutex::new(state));
        let (sender, changes) = watch::channel(0);
        let catalog = SharedCatalog { state: Arc::clone(&state), changes };
        Ok((Self { state, changes: sender, snapshots, news }, catalog))
    }

    /// Tells the node the whole state.
    pub(crate) async fn announce(&self) {
        let news = {
            let state = lock(&self.state);
            let index = state.applied.map_or(0, |applied| applied.index);
            News::Replaced { index, catalog: Box::new(state.catalog.clone()) }
        };
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        self.news.send(news).await;
    }

    /// Applies a batch, tells the node, and then answers those that wait for the entries.
    async fn apply_batch<R: Runtime>(&self, batch: Vec<EntryResponder<TypeConfig<R>>>) {
        let mut answers: Vec<(ApplyResponder<TypeConfig<R>>, Outcome)> = Vec::new();
        let mut accepted = Vec::new();
        let index = {
            let mut state = lock(&self.state);
            for (entry, responder) in batch {
                let outcome = state.apply(entry, &mut accepted);
                answers.extend(responder.map(|responder| (responder, outcome)));
            }
            state.applied.map_or(0, |applied| applied.index)
        };
        if !accepted.is_empty() {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.news.send(News::Applied { index, entries: accepted }).await;
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
    }
}

impl<R: Runtime> RaftStateMachine<TypeConfig<R>> for StateMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = lock(&self.state);
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig<R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(ENTRIES_PER_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch.into_iter().collect::<Result<_, _>>()?).await;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { state: lock(&self.state).clone(), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Vec<u8>,
    ) -> Result<(), io::Error> {
        let state = match State::read(meta, &snapshot) {
            Ok(state) => state,
            Err(error) => {
                if matches!(error, CodecError::UnknownFormat { .. }) {
                    let reason = format!("the leader's snapshot: {error}");
                    self.news.send(News::Stopped(Stop::Version { reason })).await;
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        self.snapshots.save(Arc::new(Snapshot { meta: meta.clone(), snapshot })).await?;
        *lock(&self.state) = state;
        self.announce().await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.load().map(Arc::unwrap_or_clone))
    }
}

/// Makes a snapshot of the state as it was when this was made.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    state: State,
    snapshots: SnapshotStore,
}

impl<R: Runtime> RaftSnapshotBuilder<TypeConfig<R>> for SnapshotBuilder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = Arc::new(Snapshot {
            meta: SnapshotMeta {
                last_log_id: self.state.applied,
                last_membership: self.state.membership.clone(),
            },
            snapshot: mdp_catalog::encode_snapshot(&self.state.catalog)
                .map_err(io::Error::other)?,
        });
        self.snapshots.save(Arc::clone(&snapshot)).await?;
        Ok(Arc::unwrap_or_clone(snapshot))
    }
}

impl State {
    fn read(meta: &SnapshotMeta, data: &[u8]) -> Result<Self, CodecError> {
        Ok(Self {
            catalog: mdp_catalog::decode_snapshot(data)?,
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        })
    }

    fn apply(&mut self, entry: Entry, accepted: &mut Vec<(u64, CatalogEntry)>) -> Outcome {
        let log_id = entry.log_id;
        self.applied = Some(log_id);
        match entry.payload {
            EntryPayload::Blank => Outcome::NotCatalog,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                Outcome::NotCatalog
            }
            EntryPayload::Normal(Command(entry)) => {
                match self.catalog.apply(log_id.index, entry.clone()) {
                    Ok(_) => {
                        accepted.push((log_id.index, entry));
                        Outcome::Applied
                    }
                    Err(refusal) => Outcome::Refused(refusal),
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
