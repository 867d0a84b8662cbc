//! The log and the vote, as openraft wants them.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex},
};

use mdp_histogram::Histogram;
use mdp_mutants::{Mutant, is_on};
use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};
use openraft_rt::AsyncRuntime as _;
use tokio::sync::oneshot;

use super::{
    contents::Log,
    database::{Change, sealed},
    lock,
    writer::Writer,
};
use crate::{
    News, NewsSender, Stop,
    runtime::Runtime,
    stored,
    types::{Entry, LogId, TypeConfig, Vote},
};

/// The whole log in memory, where it is read, in front of the thread that writes it.
///
/// Memory has what was appended at once. A vote is there when it is on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    log: Arc<Mutex<Log>>,
    writer: Writer,
}

impl LogStore {
    pub(super) fn new(log: Log, writer: Writer) -> Self {
        Self { log: Arc::new(Mutex::new(log)), writer }
    }

    /// Tells the node when the directory can not be written any more. Must be called inside of a
    /// tokio runtime.
    pub(crate) fn report_failures_to<R: Runtime>(&self, news: NewsSender) {
        let failed = self.writer.failed();
        drop(R::Async::spawn(async move {
            if let Some(reason) = failed.await {
                news.send(News::Stopped(Stop::Storage { reason })).await;
            }
        }));
    }

    /// Why the directory can not be written any more, if that is so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.writer.why_failed()
    }

    /// How long commits took, with their syncs.
    pub(crate) fn commits(&self) -> Histogram {
        self.writer.commits()
    }

    /// The vote that is on disk. This node told nobody of a later one.
    pub(crate) fn vote(&self) -> Option<Vote> {
        lock(&self.log).vote
    }

    /// Looks at the entries in memory. Keep it short: everything else waits.
    pub(crate) fn with_entries<T>(&self, look: impl FnOnce(&BTreeMap<u64, Entry>) -> T) -> T {
        look(&lock(&self.log).entries)
    }

    /// The last entry that was removed from the beginning, and the last one that there is.
    pub(crate) fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let log = lock(&self.log);
        (log.purged, log.last_log_id())
    }

    /// Writes what was handed over, and closes the directory. Everything that is asked of it
    /// later fails.
    ///
    /// # Errors
    /// Something was not written.
    pub(crate) async fn close(&self) -> io::Result<()> {
        self.writer.close().await
    }
}

impl<R: Runtime> RaftLogReader<TypeConfig<R>> for LogStore {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(lock(&self.log).entries.range(start..end).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(lock(&self.log).vote)
    }
}

impl<R: Runtime> RaftLogStorage<TypeConfig<R>> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<R>>, io::Error> {
        let log = lock(&self.log);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = sealed(stored::encode_vote(vote))?;
        let (sender, receiver) = oneshot::channel();
        let done = move |result| drop(sender.send(result));
        if is_on(Mutant::VoteBeforeDisk) {
            lock(&self.log).vote = Some(*vote);
            return self.writer.write(Change::Vote(record), None).await;
        }
        self.writer.write(Change::Vote(record), Some(Box::new(done))).await?;
        receiver.await.unwrap_or_else(|_| Err(self.writer.failure()))?;
        lock(&self.log).vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let record = sealed(stored::encode_log_id(&committed))?;
        lock(&self.log).committed = Some(committed);
        self.writer.write(Change::Committed(record), None).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(lock(&self.log).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut log = lock(&self.log);
            for entry in entries {
                let index = entry.log_id.index;
                records.push((index, sealed(stored::encode_log_entry(&entry))?));
                log.entries.insert(index, entry);
            }
        }
        if is_on(Mutant::AnsweredBeforeDisk) {
            callback.io_completed(Ok(()));
            return self.writer.write(Change::Append(records), None).await;
        }
        let done = move |result| callback.io_completed(result);
        self.writer.write(Change::Append(records), Some(Box::new(done))).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        drop(lock(&self.log).entries.split_off(&from));
        self.writer.write(Change::Truncate { from }, None).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let record = sealed(stored::encode_log_id(&upto))?;
        {
            let mut log = lock(&self.log);
            log.entries = log.entries.split_off(&upto.index.saturating_add(1));
            log.purged = log.purged.max(Some(upto));
        }
        self.writer.write(Change::Purge { upto: upto.index, log_id: record }, None).await
    }
}
