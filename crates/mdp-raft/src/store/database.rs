//! The database and its watermark: opened with every check, and changed by whole commits.

use std::{any::Any, io, path::Path, sync::Arc, time::Duration};

use mdp_catalog::NodeName;
use mdp_mutants::{Mutant, is_on};
use mdp_wire::codec;
use redb::{
    DatabaseError, Durability, ReadableDatabase as _, StorageBackend, Table, WriteTransaction,
};

use super::{
    Identity, StorageError,
    contents::{
        COMMITS, COMMITTED, Contents, DATABASE_FILE, IDENTITY, LOG, LoadError, META, PURGED,
        SNAPSHOT, SNAPSHOT_META, VOTE,
    },
    watermark::{Mark, WATERMARK_FILE, Watermark},
};
use crate::{Volume, VolumeFile, runtime::Runtime, stored, types::Snapshot};

/// redb would take 1 GiB. All is read once, at the start, and the log is small.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// A snapshot is stored in pieces, because redb gives each value consecutive pages.
const SNAPSHOT_PIECE_BYTES_MAX: usize = 1 << 20;

/// One change of what is stored. Records are encoded and sealed.
#[derive(Debug)]
pub(super) enum Change {
    Identity(Vec<u8>),
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    /// Entries by their index.
    Append(Vec<(u64, Vec<u8>)>),
    /// Removes the entries from this index on.
    Truncate {
        from: u64,
    },
    /// Removes the entries up to this index.
    Purge {
        upto: u64,
        log_id: Vec<u8>,
    },
    Snapshot {
        meta: Vec<u8>,
        snapshot: Arc<Snapshot>,
    },
}

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    database: redb::Database,
    commits: u64,
    watermark: Watermark,
    volume: Arc<dyn Volume>,
    // Last, so that the volume is locked until the database is closed.
    _lock: Box<dyn Any + Send + Sync>,
}

impl Database {
    /// Opens a volume, or begins a new one. Errors name it by `dir`.
    pub(super) fn open<R: Runtime>(
        dir: &Path,
        volume: Arc<dyn Volume>,
        name: &NodeName,
    ) -> Result<(Self, Contents), StorageError> {
        let lock = volume.lock().map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return StorageError::Locked { dir: dir.to_owned() };
            }
            StorageError::io(dir, "lock raft.watermark")(error)
        })?;
        let watermark = Watermark::open(&*volume);
        let watermark = watermark.map_err(StorageError::io(dir, "open raft.watermark"))?;
        let file = volume.open(DATABASE_FILE).map_err(StorageError::io(dir, "open raft.redb"))?;
        let promised = promised_commits(dir, &*volume, &watermark, &*file)?;
        let database = open_database(dir, promised.is_none(), file)?;
        let mut database = Self { database, commits: 0, watermark, volume, _lock: lock };
        if promised.is_none() {
            database.make::<R>(name).map_err(StorageError::io(dir, "write a new raft.redb"))?;
        }
        let contents = database.load().map_err(|error| error.at(dir))?;
        database.commits = contents.commits;
        if contents.commits < promised.unwrap_or_default() && !is_on(Mutant::WatermarkIgnored) {
            let lost = promised.unwrap_or_default().saturating_sub(contents.commits);
            let reason = format!("its last {lost} commits are lost");
            return Err(StorageError::corrupt(dir, DATABASE_FILE, &reason));
        }
        if contents.identity.name != *name {
            return Err(StorageError::ForeignNode {
                dir: dir.to_owned(),
                found: contents.identity.name.as_str().to_owned(),
                wanted: name.as_str().to_owned(),
            });
        }
        Ok((database, contents))
    }

    /// Makes the changes, in order, in one durable commit.
    pub(super) fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        let commits = self.commits.saturating_add(1);
        self.write(changes, commits).map_err(into_io)?;
        self.commits = commits;
        self.watermark.write(commits)
    }

    /// How long the next commit takes beyond the time that it really takes.
    pub(super) fn commit_takes(&self) -> Duration {
        self.volume.sync_takes()
    }

    /// Closes the file so that the next start has nothing to repair.
    pub(super) fn close(self) -> io::Result<()> {
        self.database.close().map_err(|error| into_io(error.into()))
    }

    /// Writes the first commit. The directory is in use from the moment that the watermark says
    /// one; before that nobody has heard of the node id, and it may start anew.
    fn make<R: Runtime>(&self, name: &NodeName) -> io::Result<()> {
        let identity = Identity::new::<R>(name.clone())?;
        let identity = sealed(stored::encode_identity(&identity))?;
        self.write(&[Change::Identity(identity)], 1).map_err(into_io)?;
        self.volume.sync_names()?;
        self.watermark.write(1)?;
        self.watermark.sync()
    }

    fn load(&self) -> Result<Contents, LoadError> {
        Contents::load(&self.database.begin_read()?)
    }

    fn write(&self, changes: &[Change], commits: u64) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Tables::open(&transaction)?.write(changes, commits)?;
        transaction.commit()?;
        Ok(())
    }
}

/// The tables within one transaction.
struct Tables<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    log: Table<'t, u64, &'static [u8]>,
    snapshot: Table<'t, u64, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            log: transaction.open_table(LOG)?,
            snapshot: transaction.open_table(SNAPSHOT)?,
        })
    }

    fn write(mut self, changes: &[Change], commits: u64) -> Result<(), redb::Error> {
        for change in changes {
            self.make(change)?;
        }
        let commits = sealed(stored::encode_commits(commits))?;
        self.meta.insert(COMMITS, commits.as_slice())?;
        Ok(())
    }

    fn make(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::Identity(record) => drop(self.meta.insert(IDENTITY, record.as_slice())?),
            Change::Vote(record) => drop(self.meta.insert(VOTE, record.as_slice())?),
            Change::Committed(record) => drop(self.meta.insert(COMMITTED, record.as_slice())?),
            Change::Append(entries) => {
                for (index, record) in entries {
                    self.log.insert(index, record.as_slice())?;
                }
            }
            Change::Truncate { from } => self.log.retain_in(*from.., |_, _| false)?,
            Change::Purge { upto, log_id } => {
                self.log.retain_in(..=*upto, |_, _| false)?;
                self.meta.insert(PURGED, log_id.as_slice())?;
            }
            Change::Snapshot { meta, snapshot } => {
                self.snapshot.retain(|_, _| false)?;
                for (number, piece) in (0..).zip(snapshot.snapshot.chunks(SNAPSHOT_PIECE_BYTES_MAX))
                {
                    self.snapshot.insert(number, codec::seal(piece.to_vec()).as_slice())?;
                }
                self.meta.insert(SNAPSHOT_META, meta.as_slice())?;
            }
        }
        Ok(())
    }
}

/// An encoded record, ready to be stored.
pub(super) fn sealed(record: Result<Vec<u8>, codec::CodecError>) -> io::Result<Vec<u8>> {
    record.map(codec::seal).map_err(io::Error::other)
}

/// How many commits the directory must have; `None`: it is new, or was never used. A new one has
/// its watermark before it has anything else.
fn promised_commits(
    dir: &Path,
    volume: &dyn Volume,
    watermark: &Watermark,
    database: &dyn VolumeFile,
) -> Result<Option<u64>, StorageError> {
    let mark = watermark.read().map_err(StorageError::io(dir, "read raft.watermark"))?;
    let database_bytes = database.len().map_err(StorageError::io(dir, "look at raft.redb"))?;
    match (mark, database_bytes) {
        (Mark::Unreadable(_), 0) => {
            let made = watermark.make().and_then(|()| volume.sync_names());
            made.map_err(StorageError::io(dir, "write raft.watermark"))?;
            Ok(None)
        }
        // The process or the machine stopped before the directory was in use.
        (Mark::Commits(0), _) => Ok(None),
        (Mark::Commits(_), 0) => {
            Err(StorageError::corrupt(dir, DATABASE_FILE, &"it is missing or empty"))
        }
        (Mark::Commits(commits), _) => Ok(Some(commits)),
        (Mark::Unreadable(reason), _) => Err(StorageError::corrupt(dir, WATERMARK_FILE, &reason)),
    }
}

fn open_database(
    dir: &Path,
    is_new: bool,
    file: Box<dyn VolumeFile>,
) -> Result<redb::Database, StorageError> {
    if is_new {
        // A file that was begun and never used is begun again.
        file.set_len(0).map_err(StorageError::io(dir, "open raft.redb"))?;
    }
    redb::Database::builder()
        .set_cache_size(CACHE_BYTES_MAX)
        .set_check_integrity_on_open(true)
        .create_with_backend(Backend(file))
        .map_err(|error| open_error(dir, error))
}

/// The file as redb wants it. It is not locked: the volume is.
#[derive(Debug)]
struct Backend(Box<dyn VolumeFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

fn open_error(dir: &Path, error: DatabaseError) -> StorageError {
    if let DatabaseError::DatabaseAlreadyOpen = error {
        return StorageError::Locked { dir: dir.to_owned() };
    }
    LoadError::Database(error.into()).at(dir)
}

/// Whether the file has other bytes, or fewer, than a database has.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn into_io(error: redb::Error) -> io::Error {
    if let redb::Error::Io(error) = error { error } else { io::Error::other(error) }
}
