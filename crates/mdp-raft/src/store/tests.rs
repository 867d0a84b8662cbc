//! What is stored comes back, or the directory is refused.

mod damage;
mod faults;
mod power;
mod recovery;
mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use mdp_catalog::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeUp, Seq,
    SoftwareVersion,
};
use mdp_wire::ServiceName;
use openraft::{
    EntryPayload,
    storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt as _},
};
use tempfile::TempDir;

use super::{
    contents::{Contents, DATABASE_FILE},
    watermark::WATERMARK_FILE,
    *,
};
use crate::{
    runtime::Tokio,
    types::{
        Command, Entry, LeaderId, LogId, Member, Membership, Payload, Snapshot, SnapshotMeta,
        StoredMembership, TypeConfig, Vote,
    },
    volume::Directory,
};

impl Opened {
    /// The log as openraft sees it on this machine.
    fn log(
        &mut self,
    ) -> &mut (impl RaftLogStorage<TypeConfig<Tokio>> + RaftLogReader<TypeConfig<Tokio>>) {
        &mut self.log
    }
}

/// In memory if possible: thousands of directories are opened, and each open syncs.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

fn name() -> NodeName {
    "node-1".parse().unwrap()
}

fn volume(dir: &Path) -> Arc<Directory> {
    Arc::new(Directory::make(dir).unwrap())
}

fn open_as(dir: &Path, name: &NodeName) -> Result<Opened, StorageError> {
    Store::open::<Tokio>(dir, volume(dir), name)
}

fn open(dir: &Path) -> Opened {
    open_as(dir, &name()).unwrap()
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 7 }, index }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 7 }, committed: true }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

fn command(term: u64, index: u64, entry: CatalogEntry) -> Entry {
    Entry { log_id: log_id(term, index), payload: Payload::Normal(Command(entry)) }
}

fn membership(ids: &[u64]) -> Membership {
    let member = |id: &u64| (*id, Member { name: format!("node-{id}"), endpoint: String::new() });
    let members: std::collections::BTreeMap<_, _> = ids.iter().map(member).collect();
    Membership::new(vec![ids.iter().copied().collect()], members).unwrap()
}

/// `node-1` begins a life; the epoch is the index of the entry.
fn node_up() -> CatalogEntry {
    CatalogEntry::NodeUp(NodeUp {
        node: name(),
        node_id: NodeId(7),
        boot: Boot { process: 1, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints::default(),
        version: SoftwareVersion::default(),
    })
}

fn offer(epoch: u64, seq: u64, service: &str) -> CatalogEntry {
    CatalogEntry::Offer {
        incarnation: Incarnation { node: name(), epoch: Epoch(epoch) },
        seq: Seq(seq),
        services: vec![ServiceName::try_from(service.as_bytes()).unwrap()],
    }
}

fn snapshot(last: LogId, catalog: &Catalog) -> Arc<Snapshot> {
    let last_membership = StoredMembership::new(Some(log_id(1, 0)), membership(&[7]));
    Arc::new(Snapshot {
        meta: SnapshotMeta { last_log_id: Some(last), last_membership },
        snapshot: mdp_catalog::encode_snapshot(catalog).unwrap(),
    })
}

/// A log as a node has it: a membership, a life, offers, a vote, a snapshot, a purged beginning.
async fn fill(opened: &mut Opened) {
    let mut catalog = Catalog::new();
    let members = Entry { log_id: log_id(1, 0), payload: Payload::Membership(membership(&[7])) };
    let mut entries = vec![members, command(1, 1, node_up())];
    entries.extend((2..60).map(|index| command(1, index, offer(1, index, &format!("s{index}")))));
    for entry in &entries[..30] {
        if let EntryPayload::Normal(Command(entry_)) = &entry.payload {
            catalog.apply(entry.log_id.index, entry_.clone()).unwrap();
        }
    }
    opened.log().save_vote(&vote(1)).await.unwrap();
    for batch in entries.chunks(5) {
        opened.log().blocking_append(batch.to_vec()).await.unwrap();
    }
    opened.identity.set_cluster_id(9).await.unwrap();
    opened.snapshots.save(snapshot(log_id(1, 29), &catalog)).await.unwrap();
    opened.log().purge(log_id(1, 19)).await.unwrap();
    opened.log().save_committed(Some(log_id(1, 58))).await.unwrap();
    opened.log().blocking_append([blank(2, 60), blank(2, 61)]).await.unwrap();
    opened.log().save_vote(&vote(3)).await.unwrap();
}

/// Everything that must come back.
fn kept(dir: &Path) -> Result<String, StorageError> {
    let (_database, contents) = Database::open::<Tokio>(dir, volume(dir), &name())?;
    let Contents { commits: _, identity, log, snapshot } = contents;
    Ok(format!("{identity:?} {log:?} {snapshot:?}"))
}

/// The two files, as they are on disk now.
fn files(dir: &Path) -> [(PathBuf, Vec<u8>); 2] {
    [DATABASE_FILE, WATERMARK_FILE].map(|file| {
        let bytes = fs::read(dir.join(file)).unwrap();
        (PathBuf::from(file), bytes)
    })
}

fn write(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (file, bytes) in files {
        fs::write(dir.join(file), bytes).unwrap();
    }
}

#[tokio::test]
async fn everything_comes_back_after_a_close_and_after_a_crash() {
    let (dir, crashed) = (directory(), directory());
    let mut opened = open(dir.path());
    let identity = opened.identity.identity();
    assert_eq!((identity.name.clone(), identity.cluster_id), (name(), None));
    assert_ne!(identity.node_id, NodeId(0));

    fill(&mut opened).await;
    write(crashed.path(), &files(dir.path()));
    opened.log.close().await.unwrap();

    assert_eq!(kept(dir.path()).unwrap(), kept(crashed.path()).unwrap());
    let mut opened = open(dir.path());
    let state = opened.log().get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 19)));
    assert_eq!(state.last_log_id, Some(log_id(2, 61)));
    assert_eq!(opened.log().read_vote().await.unwrap(), Some(vote(3)));
    assert_eq!(opened.log().read_committed().await.unwrap(), Some(log_id(1, 58)));
    assert_eq!(opened.log().try_get_log_entries(..).await.unwrap().len(), 42);
    assert_eq!(opened.snapshots.load().unwrap().meta.last_log_id, Some(log_id(1, 29)));
    let now = opened.identity.identity();
    assert_eq!(now, Identity { cluster_id: Some(9), ..identity });
}

#[tokio::test]
async fn cluster_id_is_set_once() {
    let dir = directory();
    let opened = open(dir.path());

    opened.identity.set_cluster_id(5).await.unwrap();
    opened.identity.set_cluster_id(5).await.unwrap();
    let error = opened.identity.set_cluster_id(6).await.unwrap_err();

    assert_eq!(error.to_string(), "it belongs to cluster 00000000000000000000000000000005");
    assert_eq!(opened.identity.identity().cluster_id, Some(5));
}

#[tokio::test]
async fn directory_in_use_and_directory_of_another_node_are_refused() {
    let dir = directory();
    let opened = open(dir.path());
    let error = open_as(dir.path(), &name()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");

    opened.log.close().await.unwrap();

    let error = open_as(dir.path(), &"node-2".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains(r#"it belongs to node "node-1", not to "node-2""#));
    drop(open(dir.path()));
}

#[tokio::test]
async fn truncated_and_replaced_entries_do_not_come_back() {
    let dir = directory();
    let mut opened = open(dir.path());
    opened.log().blocking_append((0..10).map(|index| blank(1, index))).await.unwrap();

    opened.log().truncate_after(Some(log_id(1, 4))).await.unwrap();
    assert_eq!(opened.log().get_log_state().await.unwrap().last_log_id, Some(log_id(1, 4)));
    opened.log().blocking_append([blank(2, 5)]).await.unwrap();
    opened.log.close().await.unwrap();

    let mut opened = open(dir.path());
    let entries = opened.log().try_get_log_entries(3..).await.unwrap();
    assert_eq!(entries, [blank(1, 3), blank(1, 4), blank(2, 5)]);
}

#[tokio::test]
async fn older_snapshot_does_not_replace_a_newer_one() {
    let dir = directory();
    let opened = open(dir.path());

    opened.snapshots.save(snapshot(log_id(1, 9), &Catalog::new())).await.unwrap();
    opened.snapshots.save(snapshot(log_id(1, 4), &Catalog::new())).await.unwrap();

    assert_eq!(opened.snapshots.load().unwrap().meta.last_log_id, Some(log_id(1, 9)));
}

#[tokio::test]
async fn large_snapshot_comes_back_in_one_piece() {
    let dir = directory();
    let opened = open(dir.path());
    let pattern: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let meta = snapshot(log_id(1, 9), &Catalog::new()).meta.clone();

    let large = Arc::new(Snapshot { meta, snapshot: pattern.clone() });
    opened.snapshots.save(large).await.unwrap();
    opened.log.close().await.unwrap();

    assert_eq!(open(dir.path()).snapshots.load().unwrap().snapshot, pattern);
}

/// With 500 entries of this size in the log at most, and pages of 4 KiB.
const BOUNDED_FILE_BYTES_MAX: u64 = 2 << 20;

#[tokio::test]
async fn purging_bounds_the_file() {
    let dir = directory();
    let mut opened = open(dir.path());

    for batch in 0..200_u64 {
        let first = batch * 250;
        let entry = |index| command(1, index, offer(1, index, "some-service"));
        opened.log().blocking_append((first..first + 250).map(entry)).await.unwrap();
        opened.snapshots.save(snapshot(log_id(1, first), &Catalog::new())).await.unwrap();
        opened.log().purge(log_id(1, first)).await.unwrap();
        opened.log().save_vote(&vote(batch)).await.unwrap();
        let bytes = fs::metadata(dir.path().join(DATABASE_FILE)).unwrap().len();
        assert!(bytes <= BOUNDED_FILE_BYTES_MAX, "{bytes} bytes after entry {}", first + 249);
    }
}

#[tokio::test]
async fn directory_that_was_never_in_use_is_made_again() {
    let dir = directory();
    // The process stopped between the two files, or within the second.
    fs::write(dir.path().join(WATERMARK_FILE), "").unwrap();
    let opened = open(dir.path());
    let first = opened.identity.identity().node_id;
    opened.log.close().await.unwrap();

    let unused = codec_watermark(0);
    fs::write(dir.path().join(WATERMARK_FILE), unused).unwrap();
    fs::write(dir.path().join(DATABASE_FILE), "half of a head").unwrap();
    let second = open(dir.path()).identity.identity().node_id;

    assert_ne!(first, second);
}

fn codec_watermark(commits: u64) -> Vec<u8> {
    mdp_wire::codec::seal(crate::stored::encode_commits(commits).unwrap())
}
