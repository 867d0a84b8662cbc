use mdp_broker::{Broker, Seed, Settings};
use mdp_catalog::{Boot, Endpoints, Epoch, Incarnation, NodeId, NodeUp, SoftwareVersion};
use mdp_raft::{ClusterStatus, News, RoundId};
use mdp_replica::{Consistency, HandingOver, Membership};
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use mdp_transport::TransportTotals;
use mdp_wire::ClientNetworks;

const PROCESS: u64 = 7;

/// Consensus that says nothing but how the cluster is.
#[derive(Debug)]
struct Silent;

impl Agreement for Silent {
    fn propose(&self, _entry: CatalogEntry) {}

    fn read(&self, _round: RoundId) {}

    fn status(&self) -> ClusterStatus {
        ClusterStatus {
            name: name("node-1"),
            node_id: NodeId(1),
            cluster_id: Some("00ff".to_owned()),
            leader: Some(name("node-2")),
            term: 3,
            committed_index: 9,
            applied_index: 9,
            last_log_index: 9,
            snapshot_index: 0,
            members: Vec::new(),
            member_change: None,
            unheard_voters: 0,
            call_formats: Vec::new(),
            commit_times: Default::default(),
            upgrade: mdp_raft::UpgradeStatus::default(),
            not_ready: Vec::new(),
        }
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        None
    }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A cluster of which this node is `node-1`; its life began at index 1.
fn joined(now: Instant) -> ReplicatedCluster<Silent> {
    let (news, feed) = mpsc::channel(1);
    let membership = Membership {
        node: name("node-1"),
        process: PROCESS,
        consistency: Consistency::Linearizable,
        isolation: None,
    };
    let mut cluster = ReplicatedCluster::new(Replica::new(Silent, feed, membership, now));
    let up = CatalogEntry::NodeUp(NodeUp {
        node: name("node-1"),
        node_id: NodeId(1),
        boot: Boot { process: PROCESS, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints { client: "tcp://node-1:5555".to_owned(), ..Endpoints::default() },
        version: SoftwareVersion::default(),
    });
    news.try_send(News::Applied { index: 1, entries: vec![(1, up)] }).unwrap();
    assert_eq!(cluster.read_news(now), NewsState::Emptied);
    assert!(matches!(cluster.poll_answer(), Some(Input::Committed(_))));
    cluster
}

#[test]
fn status_page_is_that_of_the_copy_and_of_consensus() {
    let now = Instant::now();
    let mut cluster = joined(now);
    let incarnation = Incarnation { node: name("node-1"), epoch: Epoch(0) };
    let broker = Broker::new(incarnation, Settings::default(), Seed([1; 32]), now);
    let view = View {
        broker: &broker,
        connections: TransportTotals::default(),
        links: &[],
        networks: &ClientNetworks::default(),
        asker: None,
        now,
    };

    cluster.describe(QueryId(1), Page::Status, &view);
    cluster.describe(QueryId(2), Page::Endpoints, &view);

    let pages: Vec<Value> = std::iter::from_fn(|| cluster.poll_answer())
        .map(|answer| {
            let Input::Described { json, .. } = answer else { panic!("{answer:?}") };
            serde_json::from_slice(&json).unwrap()
        })
        .collect();
    assert_eq!((&pages[0]["applied_index"], &pages[0]["committed_index"]), (&1.into(), &9.into()));
    assert_eq!((&pages[0]["leader"], &pages[0]["term"]), (&"node-2".into(), &3.into()));
    assert_eq!(pages[1]["endpoints"][0]["endpoint"], "tcp://node-1:5555");
}
