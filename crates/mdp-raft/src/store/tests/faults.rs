//! The disk refuses: nothing more is written, and what was answered stays.

use std::{
    any::Any,
    io,
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::sync::mpsc;

use super::*;
use crate::{News, Stop, VolumeFile, news};

const WORKS: u8 = 0;
const IS_FULL: u8 = 1;
const SYNC_FAILS: u8 = 2;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// A disk that can be told to fail.
#[derive(Debug)]
struct Disk {
    directory: Arc<Directory>,
    fault: Arc<AtomicU8>,
}

impl Volume for Disk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.directory.lock()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>> {
        let file = self.directory.open(name)?;
        if name != DATABASE_FILE {
            return Ok(file);
        }
        Ok(Box::new(DiskFile { file, fault: Arc::clone(&self.fault) }))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_names()
    }
}

#[derive(Debug)]
struct DiskFile {
    file: Box<dyn VolumeFile>,
    fault: Arc<AtomicU8>,
}

impl DiskFile {
    fn fault(&self) -> u8 {
        self.fault.load(Ordering::SeqCst)
    }

    fn room(&self) -> io::Result<()> {
        if self.fault() == IS_FULL {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }
}

impl VolumeFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room().and_then(|()| self.file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        if self.fault() == SYNC_FAILS {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.file.sync()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room().and_then(|()| self.file.write_at(offset, data))
    }
}

/// A store with some entries, on a disk that then fails.
struct FaultTest {
    dir: TempDir,
    fault: Arc<AtomicU8>,
    opened: Opened,
    news: mpsc::Receiver<News>,
}

impl FaultTest {
    async fn new() -> Self {
        let dir = directory();
        let fault = Arc::new(AtomicU8::new(WORKS));
        let disk = Disk { directory: volume(dir.path()), fault: Arc::clone(&fault) };
        let mut opened = Store::open::<Tokio>(dir.path(), Arc::new(disk), &name()).unwrap();
        let (sender, news) = news(|| {});
        opened.log.report_failures_to::<Tokio>(sender);
        opened.log().save_vote(&vote(1)).await.unwrap();
        opened.log().blocking_append([blank(1, 0), blank(1, 1)]).await.unwrap();
        Self { dir, fault, opened, news }
    }

    /// Everything fails from now on, also when the disk works again.
    async fn fail(&mut self, fault: u8) -> String {
        self.fault.store(fault, Ordering::SeqCst);
        self.opened.log().blocking_append([blank(1, 2)]).await.unwrap_err();
        let Some(News::Stopped(Stop::Storage { reason })) = self.news.recv().await else {
            panic!("the node was not told to stop");
        };
        self.fault.store(WORKS, Ordering::SeqCst);
        self.opened.log().save_vote(&vote(2)).await.unwrap_err();
        self.opened.log().blocking_append([blank(1, 3)]).await.unwrap_err();
        self.opened.log().save_committed(Some(log_id(1, 1))).await.unwrap_err();
        self.opened.log().purge(log_id(1, 1)).await.unwrap_err();
        let late = snapshot(log_id(1, 1), &Catalog::new());
        self.opened.snapshots.save(late).await.unwrap_err();
        self.opened.identity.set_cluster_id(1).await.unwrap_err();
        assert_eq!(self.opened.log().read_vote().await.unwrap(), Some(vote(1)));
        reason
    }

    /// What was answered is there when the disk works again.
    async fn reopens(mut self) {
        self.opened.log.close().await.unwrap_err();
        assert!(self.news.recv().await.is_none(), "told once");
        let mut opened = open(self.dir.path());
        assert_eq!(opened.log().read_vote().await.unwrap(), Some(vote(1)));
        let entries = opened.log().try_get_log_entries(..).await.unwrap();
        assert_eq!(entries[..2], [blank(1, 0), blank(1, 1)]);
        assert!(entries.len() <= 3, "an entry after the fault was written");
        assert_eq!(opened.identity.identity().cluster_id, None);
    }
}

#[tokio::test]
async fn full_disk_stops_the_store() {
    let mut test = FaultTest::new().await;
    let reason = test.fail(IS_FULL).await;
    assert_eq!(reason, "cannot write raft.redb: No space left on device (os error 28)");
    test.reopens().await;
}

#[tokio::test]
async fn failed_sync_stops_the_store() {
    let mut test = FaultTest::new().await;
    let reason = test.fail(SYNC_FAILS).await;
    assert_eq!(reason, "cannot write raft.redb: Input/output error (os error 5)");
    test.reopens().await;
}

#[tokio::test]
async fn panic_of_the_writer_stops_the_store() {
    let dir = directory();
    let (database, _) = Database::open::<Tokio>(dir.path(), volume(dir.path()), &name()).unwrap();
    let writer = Writer::start::<Tokio>(database).unwrap();

    let vote = database::Change::Vote(vec![]);
    writer.write(vote, Some(Box::new(|_| panic!("a bug")))).await.unwrap();

    assert_eq!(writer.failed().await.unwrap(), "its writer thread ended by a panic");
    writer.close().await.unwrap_err();
    writer.write(database::Change::Truncate { from: 0 }, None).await.unwrap_err();
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_writes() {
    let dir = directory();
    let (database, _) = Database::open::<Tokio>(dir.path(), volume(dir.path()), &name()).unwrap();
    let writer = Writer::start::<Tokio>(database).unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));

    for number in 0..3_000 {
        let answered = Arc::clone(&answered);
        let done = move |result: io::Result<()>| {
            result.unwrap();
            answered.lock().unwrap().push(number);
        };
        let change = database::Change::Append(vec![(number, vec![])]);
        writer.write(change, Some(Box::new(done))).await.unwrap();
    }
    writer.close().await.unwrap();

    assert!(answered.lock().unwrap().iter().copied().eq(0..3_000));
}

#[tokio::test]
async fn closed_store_answers_with_an_error_and_tells_nobody() {
    let mut test = FaultTest::new().await;

    test.opened.log.close().await.unwrap();

    let error = test.opened.log().save_vote(&vote(2)).await.unwrap_err();
    assert_eq!(error.to_string(), "the data directory is closed");
    assert!(test.news.recv().await.is_none());
}
