//! What a node keeps in its data directory: who it is, its vote, its log, its last snapshot.
//!
//! Two files. `raft.redb` is a redb database, written by one thread, one durable transaction for
//! each batch; `raft.watermark` holds the lock on the directory and the number of commits that
//! were promised to somebody ([`watermark`]). Other files in the directory mean nothing.
//!
//! # Damage
//!
//! Damage must be found before the node speaks to anybody, and must never end the process by a
//! panic, since the release build aborts on one. Three layers find it:
//!
//! 1. redb checks every page of both trees on each open (`set_check_integrity_on_open`), and then
//!    says `Corrupted` instead of panicking. A plain open trusts the file, and may panic. Measured
//!    with redb 4.6.0 built for release: every bit of the header, one bit in every other byte,
//!    pages zeroed, randomised or exchanged, up to 40 bytes changed at once, files cut and extended,
//!    of a cleanly closed file and of one left by a crash: 405 666 damaged files, no panic.
//!    `Database::check_integrity` after that would only compare the allocator's state with the one
//!    that was just rebuilt, so it is not called.
//! 2. In a file that was not closed cleanly, redb takes a damaged last commit for one that a crash
//!    interrupted, and goes back to the commit before, silently (10 505 of the files above). The
//!    watermark tells the two apart.
//! 3. Every record carries its kind, its format and a checksum of its own, and the log must be
//!    whole ([`contents`]).

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mdp_catalog::NodeName;
use mdp_wire::codec::CodecError;
use thiserror::Error;

mod contents;
mod database;
mod identity;
mod log;
mod recover;
mod snapshots;
mod watermark;
mod writer;

use crate::{Volume, runtime::Runtime};
use contents::LoadError;
use database::Database;
pub(crate) use identity::{Identity, IdentityStore};
pub(crate) use log::LogStore;
pub use recover::{Recovered, recover};
pub(crate) use snapshots::SnapshotStore;
use writer::Writer;

/// The data directory can not be used.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Another process uses it.
    #[error("node.data_dir = \"{}\": another process uses it; stop that one, or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to a node of another name.
    #[error("node.data_dir = \"{}\": it belongs to node {found:?}, not to {wanted:?}; choose another directory, or set node.name back", dir.display())]
    ForeignNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// It was damaged.
    #[error("node.data_dir = \"{}\": {what} is damaged: {reason}; the other nodes serve on: move the directory away and start with an empty one, and this node joins again by itself", dir.display())]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// Which part.
        what: String,
        /// What was found.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("node.data_dir = \"{}\": {reason}; a newer version wrote it: start that version", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The operating system refused something.
    #[error("node.data_dir = \"{}\": cannot {what}: {error}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl StorageError {
    fn corrupt(dir: &Path, what: &str, reason: &impl ToString) -> Self {
        Self::Corrupt { dir: dir.to_owned(), what: what.to_owned(), reason: reason.to_string() }
    }

    /// The data of the snapshot is not a catalog, or one of a newer version.
    pub(crate) fn unreadable_snapshot(dir: &Path, error: CodecError) -> Self {
        LoadError::Record { what: "the snapshot".to_owned(), error }.at(dir)
    }

    fn io(dir: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { dir: dir.to_owned(), what, error }
    }
}

/// Opens volumes.
#[derive(Debug)]
pub(crate) struct Store;

/// An open data directory. It is closed by [`LogStore::close`], or some time after the last handle
/// was dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Who the node is.
    pub(crate) identity: IdentityStore,
    /// Its vote and its log.
    pub(crate) log: LogStore,
    /// Its last snapshot.
    pub(crate) snapshots: SnapshotStore,
}

impl Store {
    /// Opens a volume, checks all of it, and starts the thread that writes to it; on a simulated
    /// host, the task. Errors name it by `dir`.
    pub(crate) fn open<R: Runtime>(
        dir: &Path,
        volume: Arc<dyn Volume>,
        name: &NodeName,
    ) -> Result<Opened, StorageError> {
        let (database, contents) = Database::open::<R>(dir, volume, name)?;
        let writer = Writer::start::<R>(database)
            .map_err(StorageError::io(dir, "start its writer thread"))?;
        Ok(Opened {
            identity: IdentityStore::new(contents.identity, writer.clone()),
            snapshots: SnapshotStore::new(dir, contents.snapshot, writer.clone()),
            log: LogStore::new(contents.log, writer),
        })
    }
}

/// Locks; what a panic left behind is still a value, and a panic ends the program anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
