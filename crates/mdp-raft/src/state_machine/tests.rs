//! The state machine alone, on a real store.

use std::collections::BTreeMap;

use futures_util::stream;
use mdp_catalog::{Boot, Endpoints, Epoch, Incarnation, NodeId, NodeUp, Seq, SoftwareVersion};
use mdp_wire::{ServiceName, codec};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{
    news,
    runtime::Tokio,
    store::Store,
    types::{LeaderId, Member, Membership, Payload},
    volume::Directory,
};

struct StateMachineTest {
    dir: TempDir,
    state_machine: StateMachine,
    catalog: SharedCatalog,
    news: mpsc::Receiver<News>,
}

impl StateMachineTest {
    fn new(dir: TempDir) -> Self {
        let volume = Arc::new(Directory::make(dir.path()).unwrap());
        let opened = Store::open::<Tokio>(dir.path(), volume, &"node-1".parse().unwrap()).unwrap();
        let (sender, news) = news(|| {});
        let (state_machine, catalog) = StateMachine::new(opened.snapshots, sender).unwrap();
        Self { dir, state_machine, catalog, news }
    }

    /// The state machine as openraft sees it on this machine.
    fn raft(&mut self) -> &mut impl RaftStateMachine<TypeConfig<Tokio>, SnapshotData = Vec<u8>> {
        &mut self.state_machine
    }

    async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.raft().apply(stream::iter(entries)).await.unwrap();
    }

    /// Index and entries of the next piece of news.
    fn applied(&mut self) -> (u64, Vec<(u64, CatalogEntry)>) {
        match self.news.try_recv() {
            Ok(News::Applied { index, entries }) => (index, entries),
            other => panic!("{other:?}"),
        }
    }

    /// Index and number of services of the next piece of news.
    fn replaced(&mut self) -> (u64, usize) {
        match self.news.try_recv() {
            Ok(News::Replaced { index, catalog }) => (index, catalog.service_count()),
            other => panic!("{other:?}"),
        }
    }

    /// Opens the directory again.
    async fn restart(self) -> Self {
        let Self { dir, state_machine, .. } = self;
        state_machine.snapshots.close().await;
        Self::new(dir)
    }
}

fn log_id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 1, node_id: 7 }, index }
}

fn blank(index: u64) -> Entry {
    Entry { log_id: log_id(index), payload: EntryPayload::Blank }
}

fn command(index: u64, entry: CatalogEntry) -> Entry {
    Entry { log_id: log_id(index), payload: Payload::Normal(Command(entry)) }
}

fn members(index: u64) -> Entry {
    let nodes = BTreeMap::from([(7, Member::default())]);
    let membership = Membership::new(vec![[7].into()], nodes).unwrap();
    Entry { log_id: log_id(index), payload: Payload::Membership(membership) }
}

fn node_up() -> CatalogEntry {
    CatalogEntry::NodeUp(NodeUp {
        node: "node-1".parse().unwrap(),
        node_id: NodeId(7),
        boot: Boot { process: 1, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints::default(),
        version: SoftwareVersion::default(),
    })
}

fn offer(seq: u64, service: &str) -> CatalogEntry {
    CatalogEntry::Offer {
        incarnation: Incarnation { node: "node-1".parse().unwrap(), epoch: Epoch(1) },
        seq: Seq(seq),
        services: vec![ServiceName::try_from(service.as_bytes()).unwrap()],
    }
}

#[tokio::test]
async fn news_has_every_index_and_only_accepted_entries() {
    let mut test = StateMachineTest::new(TempDir::new().unwrap());
    let mut changes = test.catalog.changes();

    test.apply(vec![members(0)]).await;
    assert_eq!(test.applied(), (0, vec![]));
    assert!(!changes.has_changed().unwrap());

    let refused = offer(1, "twice");
    let entries = [node_up(), offer(1, "echo"), refused].into_iter();
    let entries = (1..).zip(entries).map(|(index, entry)| command(index, entry));
    test.apply(entries.chain([blank(4)]).collect()).await;

    assert_eq!(test.applied(), (4, vec![(1, node_up()), (2, offer(1, "echo"))]));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let (is_offered, applied) =
        test.catalog.with(|catalog, applied| (catalog.is_offered(b"echo"), applied.copied()));
    assert_eq!((is_offered, applied), (true, Some(log_id(4))));
    let (applied, membership) = test.raft().applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(4)));
    assert_eq!(membership.log_id(), &Some(log_id(0)));
}

#[tokio::test]
async fn long_log_is_told_in_batches() {
    let mut test = StateMachineTest::new(TempDir::new().unwrap());

    test.apply((0..600).map(blank).collect()).await;

    let indexes = [test.applied(), test.applied(), test.applied()].map(|(index, _)| index);
    assert_eq!(indexes, [255, 511, 599]);
}

#[tokio::test]
async fn snapshot_is_the_state_after_a_restart() {
    let mut test = StateMachineTest::new(TempDir::new().unwrap());
    test.state_machine.announce().await;
    assert_eq!(test.replaced(), (0, 0));
    test.apply(vec![members(0), command(1, node_up()), command(2, offer(1, "echo"))]).await;

    let mut builder = test.raft().get_snapshot_builder().await;
    test.apply(vec![command(3, offer(2, "later"))]).await;
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(log_id(2)));
    let mut test = test.restart().await;

    test.state_machine.announce().await;
    assert_eq!(test.replaced(), (2, 1));
    let (applied, membership) = test.raft().applied_state().await.unwrap();
    assert_eq!((applied, membership.log_id()), (Some(log_id(2)), &Some(log_id(0))));
    let current = test.raft().get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.snapshot, built.snapshot);
}

#[tokio::test]
async fn installed_snapshot_replaces_everything_and_lasts() {
    let mut leader = StateMachineTest::new(TempDir::new().unwrap());
    let entries = vec![members(0), command(1, node_up()), command(2, offer(1, "echo"))];
    leader.apply(entries).await;
    let mut builder = leader.raft().get_snapshot_builder().await;
    let sent = builder.build_snapshot().await.unwrap();
    let mut test = StateMachineTest::new(TempDir::new().unwrap());
    let mut changes = test.catalog.changes();

    test.raft().install_snapshot(&sent.meta, sent.snapshot).await.unwrap();

    assert_eq!(test.replaced(), (2, 1));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let test = test.restart().await;
    assert!(test.catalog.with(|catalog, _| catalog.is_offered(b"echo")));
}

#[tokio::test]
async fn snapshot_of_a_newer_version_stops_the_node() {
    let mut test = StateMachineTest::new(TempDir::new().unwrap());
    let newer = codec::encode(codec::Kind::CatalogSnapshot, 9, &7_u64).unwrap();
    let meta =
        SnapshotMeta { last_log_id: Some(log_id(9)), last_membership: StoredMembership::default() };

    test.raft().install_snapshot(&meta, newer).await.unwrap_err();

    let Ok(News::Stopped(Stop::Version { reason })) = test.news.try_recv() else {
        panic!("the node was not told to stop");
    };
    assert!(reason.contains("format 9 of CatalogSnapshot is not known"), "{reason}");
    assert!(test.raft().get_current_snapshot().await.unwrap().is_none());
}

#[tokio::test]
async fn changes_end_with_the_state_machine() {
    let test = StateMachineTest::new(TempDir::new().unwrap());
    let mut changes = test.catalog.changes();

    drop(test.state_machine);

    assert!(changes.changed().await.is_err());
}
