//! A cluster that lost its majority for good, begun again from one survivor.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use mdp_catalog::{Catalog, NodeId, NodeName};
use mdp_wire::codec::CodecError;
use openraft::EntryPayload;

use super::{
    Identity, StorageError,
    contents::{Contents, DATABASE_FILE},
    database::{Change, Database, sealed},
};
use crate::{
    runtime::{Tokio, random_bytes},
    stored,
    types::{Command, Entry, LogId, Member, Membership, Snapshot, SnapshotMeta, StoredMembership},
    volume::Directory,
};

/// What [`recover`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The only voter; the same as before.
    pub node_id: NodeId,
    /// The new cluster's id, as 32 hexadecimal digits.
    pub cluster_id: String,
    /// The index that the state stands for.
    pub applied_index: u64,
    /// How many services were offered.
    pub services: usize,
    /// How many nodes were known.
    pub nodes: usize,
}

/// Makes a stopped node the only member of a new cluster, with the state that its data directory
/// has: its last snapshot and every entry of its log after it. Entries at the end of the log may
/// never have been committed, and what the lost nodes had committed may be missing: there is no
/// knowing any more, which is why only a person can decide this.
///
/// Keeping the node id and the vote is safe. Whatever a member of the old cluster sends carries
/// the old cluster's id and is refused here, and the reverse; so no old term can meet a new one.
/// Within the new cluster the vote only makes the first election begin in a later term than any
/// in the log, which is what Raft needs.
///
/// # Errors
/// The directory can not be used, or holds no cluster's state.
pub fn recover(dir: &Path, name: &NodeName, endpoint: &str) -> Result<Recovered, StorageError> {
    let nothing = |reason| StorageError::io(dir, "recover a cluster from it")(reason);
    if !dir.join(DATABASE_FILE).exists() {
        return Err(nothing(io::Error::other("there is no raft.redb in it")));
    }
    let volume = Directory::make(dir).map_err(StorageError::io(dir, "make it"))?;
    let (mut database, contents) = Database::open::<Tokio>(dir, Arc::new(volume), name)?;
    if !contents.is_initialised() {
        let reason = "this node never was a member of a cluster; just start it";
        return Err(nothing(io::Error::other(reason)));
    }
    let (catalog, last) =
        replay(&contents).map_err(|error| StorageError::unreadable_snapshot(dir, error))?;
    let Some(last) = last else {
        return Err(nothing(io::Error::other("its log is empty")));
    };
    let member = Member { name: name.as_str().to_owned(), endpoint: endpoint.to_owned() };
    let cluster_id = random_bytes::<Tokio, _>()
        .map(u128::from_le_bytes)
        .map_err(StorageError::io(dir, "read random bytes"))?;
    let identity = Identity { cluster_id: Some(cluster_id), ..contents.identity };
    let node_id = identity.node_id;
    changes(&identity, member, last, &catalog)
        .and_then(|changes| database.commit(&changes))
        .and_then(|()| database.close())
        .map_err(StorageError::io(dir, "write raft.redb"))?;
    Ok(Recovered {
        node_id,
        cluster_id: format!("{cluster_id:032x}"),
        applied_index: last.index,
        services: catalog.service_count(),
        nodes: catalog.nodes().count(),
    })
}

/// The catalog after every entry that there is, and the last of them.
fn replay(contents: &Contents) -> Result<(Catalog, Option<LogId>), CodecError> {
    let log = &contents.log;
    let Some(snapshot) = &contents.snapshot else {
        return Ok((apply(Catalog::new(), log.entries.values()), log.last_log_id()));
    };
    let catalog = mdp_catalog::decode_snapshot(&snapshot.snapshot)?;
    let last = snapshot.meta.last_log_id;
    let index = last.map_or(0, |last| last.index);
    let at_snapshot = log.entries.get(&index).map_or(log.purged, |entry| Some(entry.log_id));
    if at_snapshot != last {
        // The snapshot came from a leader, and the stop came before the log was dropped for it.
        return Ok((catalog, last));
    }
    let after = log.entries.range(index.saturating_add(1)..).map(|(_, entry)| entry);
    Ok((apply(catalog, after), log.last_log_id()))
}

fn apply<'e>(mut catalog: Catalog, entries: impl Iterator<Item = &'e Entry>) -> Catalog {
    for entry in entries {
        match &entry.payload {
            // A refused entry changes nothing, here as anywhere.
            EntryPayload::Normal(Command(command)) => {
                drop(catalog.apply(entry.log_id.index, command.clone()));
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => {}
        }
    }
    catalog
}

/// One commit: a directory is of the old cluster, or of the new one.
fn changes(
    identity: &Identity,
    member: Member,
    last: LogId,
    catalog: &Catalog,
) -> io::Result<[Change; 5]> {
    let id = identity.node_id.0;
    let members = BTreeMap::from([(id, member)]);
    let membership = Membership::new(vec![[id].into()], members).map_err(io::Error::other)?;
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), membership),
    };
    let data = mdp_catalog::encode_snapshot(catalog).map_err(io::Error::other)?;
    let log_id = sealed(stored::encode_log_id(&last))?;
    Ok([
        Change::Identity(sealed(stored::encode_identity(identity))?),
        Change::Snapshot {
            meta: sealed(stored::encode_snapshot_meta(&meta))?,
            snapshot: Arc::new(Snapshot { meta, snapshot: data }),
        },
        Change::Truncate { from: 0 },
        Change::Purge { upto: last.index, log_id: log_id.clone() },
        Change::Committed(log_id),
    ])
}
