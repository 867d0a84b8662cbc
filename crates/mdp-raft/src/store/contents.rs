//! Reads everything that a database holds, and checks that it fits together.

use std::{collections::BTreeMap, path::Path};

use mdp_wire::codec::{self, CodecError};
use openraft::EntryPayload;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use super::{Identity, StorageError, database::is_damage};
use crate::{
    stored,
    types::{Entry, LogId, Snapshot, Vote},
};

pub(super) use crate::volume::DATABASE_FILE;

/// One sealed record for each of the names below.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const COMMITS: &str = "commits";
pub(super) const IDENTITY: &str = "identity";
pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";
/// What the last snapshot is about.
pub(super) const SNAPSHOT_META: &str = "snapshot";

/// A sealed entry for each index.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// The data of the last snapshot in sealed pieces, numbered from zero.
pub(super) const SNAPSHOT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshot");

/// Everything in a database.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) commits: u64,
    pub(super) identity: Identity,
    pub(super) log: Log,
    pub(super) snapshot: Option<Snapshot>,
}

/// The log and what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) vote: Option<Vote>,
    /// The last entry known to be committed; may be behind.
    pub(super) committed: Option<LogId>,
    /// The last entry that was removed from the beginning.
    pub(super) purged: Option<LogId>,
    /// The entries after that one, without a gap.
    pub(super) entries: BTreeMap<u64, Entry>,
}

/// The contents can not be used.
#[derive(Debug)]
pub(super) enum LoadError {
    /// redb does not give them out.
    Database(redb::Error),
    /// A record can not be decoded.
    Record { what: String, error: CodecError },
    /// Records do not fit together.
    Inconsistent(String),
}

impl<E: Into<redb::Error>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl LoadError {
    pub(super) fn at(self, dir: &Path) -> StorageError {
        match self {
            Self::Database(redb::Error::Io(error)) if !is_damage(&error) => {
                StorageError::io(dir, "read raft.redb")(error)
            }
            Self::Database(error) => StorageError::corrupt(dir, DATABASE_FILE, &error),
            Self::Record { what, error: error @ CodecError::UnknownFormat { .. } } => {
                StorageError::Newer { dir: dir.to_owned(), reason: format!("{what}: {error}") }
            }
            Self::Record { what, error } => {
                StorageError::corrupt(dir, DATABASE_FILE, &format!("{what}: {error}"))
            }
            Self::Inconsistent(reason) => StorageError::corrupt(dir, DATABASE_FILE, &reason),
        }
    }
}

impl Contents {
    pub(super) fn load(transaction: &ReadTransaction) -> Result<Self, LoadError> {
        let missing = |what| LoadError::Inconsistent(format!("it has no {what}"));
        let mut contents = Self {
            commits: record(transaction, COMMITS, stored::decode_commits)?
                .ok_or_else(|| missing("count of commits"))?,
            identity: record(transaction, IDENTITY, stored::decode_identity)?
                .ok_or_else(|| missing("identity"))?,
            log: Log {
                vote: record(transaction, VOTE, stored::decode_vote)?,
                committed: record(transaction, COMMITTED, stored::decode_log_id)?,
                purged: record(transaction, PURGED, stored::decode_log_id)?,
                entries: load_entries(transaction)?,
            },
            snapshot: load_snapshot(transaction)?,
        };
        contents.check().map_err(LoadError::Inconsistent)?;
        // It may be ahead of the log, if a snapshot was about to take the log's place.
        contents.log.committed = contents.log.committed.min(contents.log.last_log_id());
        Ok(contents)
    }

    /// Whether the node takes part in a cluster, or did.
    pub(super) fn is_initialised(&self) -> bool {
        let has_membership = |entry: &Entry| matches!(entry.payload, EntryPayload::Membership(_));
        self.snapshot.is_some() || self.log.entries.values().any(has_membership)
    }

    fn check(&self) -> Result<(), String> {
        let mut last = self.log.purged;
        for entry in self.log.entries.values() {
            let index = last.map_or(0, |last| last.index.saturating_add(1));
            if entry.log_id.index != index {
                return Err(format!("entry {index} of the log is missing"));
            }
            if last.is_some_and(|last| last.leader_id > entry.log_id.leader_id) {
                return Err(format!("entry {index} of the log is of an older term than before it"));
            }
            last = Some(entry.log_id);
        }
        let snapshot = self.snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        if snapshot < self.log.purged {
            return Err("no snapshot stands for the beginning of the log".to_owned());
        }
        Ok(())
    }
}

impl Log {
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }
}

fn record<T>(
    transaction: &ReadTransaction,
    name: &str,
    decode: impl Fn(&[u8]) -> Result<T, CodecError>,
) -> Result<Option<T>, LoadError> {
    let table = transaction.open_table(META)?;
    let Some(sealed) = table.get(name)? else { return Ok(None) };
    unsealed(sealed.value(), decode, || name.to_owned()).map(Some)
}

fn unsealed<T>(
    sealed: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, CodecError>,
    what: impl FnOnce() -> String,
) -> Result<T, LoadError> {
    let decoded = codec::unseal(sealed).and_then(decode);
    decoded.map_err(|error| LoadError::Record { what: what(), error })
}

fn load_entries(transaction: &ReadTransaction) -> Result<BTreeMap<u64, Entry>, LoadError> {
    let mut entries = BTreeMap::new();
    for row in transaction.open_table(LOG)?.iter()? {
        let (index, sealed) = row?;
        let index = index.value();
        let what = || format!("entry {index} of the log");
        let entry = unsealed(sealed.value(), stored::decode_log_entry, what)?;
        if entry.log_id.index != index {
            return Err(LoadError::Inconsistent(format!("entry {index} of the log is another")));
        }
        entries.insert(index, entry);
    }
    Ok(entries)
}

fn load_snapshot(transaction: &ReadTransaction) -> Result<Option<Snapshot>, LoadError> {
    let Some(meta) = record(transaction, SNAPSHOT_META, stored::decode_snapshot_meta)? else {
        return Ok(None);
    };
    let mut data = Vec::new();
    for (expected, row) in (0..).zip(transaction.open_table(SNAPSHOT)?.iter()?) {
        let (number, sealed) = row?;
        if number.value() != expected {
            return Err(LoadError::Inconsistent(format!(
                "piece {expected} of the snapshot is missing"
            )));
        }
        let what = || format!("piece {expected} of the snapshot");
        data.extend(unsealed(sealed.value(), |piece| Ok(piece.to_vec()), what)?);
    }
    Ok(Some(Snapshot { meta, snapshot: data }))
}
