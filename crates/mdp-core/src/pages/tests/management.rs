//! The pages of the management interface, as a node alone and one with peers write them.

use mdp_broker::{Effect, Input, Seed, Settings};
use mdp_catalog::SoftwareVersion;
use mdp_raft::{News, RoundId};
use mdp_replica::{Alone, Consistency, HandingOver, Membership, Proposed};
use mdp_wire::{AtBroker, ServiceFrame, worker::ToBroker};
use tokio::sync::mpsc;

use super::*;

fn own_life(endpoint: &str) -> NodeUp {
    NodeUp {
        node: name("node-1"),
        node_id: NodeId(1),
        boot: Boot { process: 7, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints { client: endpoint.to_owned(), ..Endpoints::default() },
        version: SoftwareVersion::default(),
    }
}

fn alone(endpoint: &str) -> Replica<Alone, SharedFrame> {
    let mut replica = Replica::alone(own_life(endpoint), crate::any_instant()).unwrap();
    assert!(matches!(replica.poll_answer(), Some(Input::Committed(_))));
    replica
}

fn incarnation() -> Incarnation {
    Incarnation { node: name("node-1"), epoch: Epoch(1) }
}

fn broker() -> Broker<SharedFrame> {
    Broker::new(incarnation(), Settings::default(), Seed([1; 32]), crate::any_instant())
}

/// A broker whose cluster heard of its worker for `echo`.
fn serving(replica: &mut Replica<Alone, SharedFrame>) -> Broker<SharedFrame> {
    let mut broker = broker();
    let echo = ServiceFrame::try_new(SharedFrame::from(b"echo".as_slice())).unwrap();
    let input = Input::Received {
        from: b"worker".as_slice().into(),
        source: mdp_broker::PeerSource::default(),
        message: AtBroker::Worker {
            version: Version::V01,
            message: ToBroker::Ready { service: echo },
        },
    };
    broker.handle_input(crate::any_instant(), input);
    loop {
        while let Some(effect) = broker.poll_effect() {
            if let Effect::Propose(entry) = effect {
                replica.propose(entry);
            }
        }
        match replica.poll_answer() {
            Some(answer) => broker.handle_input(crate::any_instant(), answer),
            None => return broker,
        }
    }
}

fn page_of<A: Agreement>(
    page: Page,
    replica: &Replica<A, SharedFrame>,
    broker: &Broker<SharedFrame>,
) -> Value {
    page_for(page, replica, broker, &ClientNetworks::default())
}

/// The page for a client that connects from 10.1.2.3.
fn page_for<A: Agreement>(
    page: Page,
    replica: &Replica<A, SharedFrame>,
    broker: &Broker<SharedFrame>,
    networks: &ClientNetworks,
) -> Value {
    let view = View {
        version: VERSION,
        broker,
        connections: TransportTotals::default(),
        links: &[],
        networks,
        asker: Some([10, 1, 2, 3].into()),
        subject: Subject::Unrestricted,
        now: crate::any_instant(),
    };
    serde_json::from_slice(&super::page(page, replica, &view)).unwrap()
}

#[test]
fn directory_names_services_nodes_and_workers() {
    let mut replica = alone("tcp://127.0.0.1:5555");
    let broker = serving(&mut replica);

    let expected = json!({ "services": [
        { "name": "echo", "nodes": ["node-1"], "workers": 1, "idle": 1, "queued": 0 },
    ]});
    assert_eq!(page_of(Page::Directory, &replica, &broker), expected);
}

#[test]
fn directory_is_cut_where_it_gets_too_long() {
    let mut replica = alone("tcp://127.0.0.1:5555");
    let services = (0..=DIRECTORY_SERVICES_MAX).map(|i| service(&format!("s{i}"))).collect();
    let incarnation = incarnation();
    replica.propose(CatalogEntry::Offer { incarnation, seq: Seq(1), services });
    assert!(replica.poll_answer().is_some());

    let directory = page_of(Page::Directory, &replica, &broker());

    assert_eq!(directory["services"].as_array().map(Vec::len), Some(DIRECTORY_SERVICES_MAX));
    assert_eq!(directory["truncated"], json!(true));
}

#[test]
fn endpoints_are_those_of_nodes_that_are_up_and_have_one() {
    let (mut up, broker) = (alone("tcp://127.0.0.1:5555"), broker());
    let expected = json!({
        "node": "node-1",
        "endpoints": [{ "node": "node-1", "endpoint": "tcp://127.0.0.1:5555", "epoch": 1 }],
        "max_message_bytes": 16_777_216,
        "max_message_frames": 1_024,
    });
    assert_eq!(page_of(Page::Endpoints, &up, &broker), expected);

    up.propose(CatalogEntry::NodeDraining { incarnation: incarnation(), seq: Seq(1) });
    assert!(up.poll_answer().is_some());
    let without_itself = page_of(Page::Endpoints, &up, &broker);
    assert_eq!(
        (&without_itself["node"], &without_itself["endpoints"]),
        (&json!("node-1"), &json!([]))
    );

    let unnamed = page_of(Page::Endpoints, &alone(""), &broker);
    assert_eq!((&unnamed["node"], &unnamed["endpoints"]), (&json!(null), &json!([])));
}

#[test]
fn node_without_an_address_for_all_may_have_one_for_the_network_of_the_client() {
    let (replica, broker) = (alone(""), broker());
    let networks = |from: &str| {
        let address = "tcp://inside:5555".to_owned();
        ClientNetworks::new(vec![NetworkAddress { from: from.parse().unwrap(), address }]).unwrap()
    };
    let [near, far] = ["10.0.0.0/8", "192.168.0.0/16"].map(networks);

    let inside = page_for(Page::Endpoints, &replica, &broker, &near);
    assert_eq!(inside["node"], "node-1");
    assert_eq!(inside["endpoints"][0]["endpoint"], "tcp://inside:5555");
    let elsewhere = page_for(Page::Endpoints, &replica, &broker, &far);
    assert_eq!((&elsewhere["node"], &elsewhere["endpoints"]), (&json!(null), &json!([])));
    let status = page_for(Page::Status, &replica, &broker, &near);
    let told = json!([{ "from": "10.0.0.0/8", "address": "tcp://inside:5555" }]);
    assert_eq!(status["nodes"][0]["client_networks"], told);
}

#[test]
fn status_has_the_documented_keys() {
    let mut replica = alone("tcp://127.0.0.1:5555");
    let broker = serving(&mut replica);

    let status = page_of(Page::Status, &replica, &broker);

    assert_eq!(status["node"], "node-1");
    assert_eq!(status["leader"], "node-1");
    assert_eq!((&status["committed_index"], &status["applied_index"]), (&json!(2), &json!(2)));
    assert_eq!(status["nodes"][0]["state"], "up");
    assert_eq!(status["nodes"][0]["client_endpoint"], "tcp://127.0.0.1:5555");
    assert_eq!(status["gauges"]["workers"], 1);
    assert_eq!(status["counters"]["registrations"], 1);
    for key in ["cluster_id", "cluster_version", "term", "version", "uptime_ms"] {
        assert!(status.get(key).is_some(), "{key}");
    }
}

/// Consensus that says nothing but how the cluster is.
#[derive(Debug)]
struct Silent;

impl Agreement for Silent {
    const IS_ALONE: bool = false;

    fn propose(&self, _entry: CatalogEntry) -> Proposed {
        Proposed::Sent
    }

    fn read(&self, _round: RoundId) {}

    fn status(&self) -> Option<ClusterStatus> {
        Some(status())
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        None
    }
}

#[test]
fn status_page_is_that_of_the_copy_and_of_consensus() {
    let now = crate::any_instant();
    let (news, feed) = mpsc::channel(1);
    let membership = Membership {
        node: name("node-1"),
        process: 7,
        consistency: Consistency::Linearizable,
        isolation: None,
    };
    let mut replica = Replica::new(Silent, feed, membership, now);
    let up = CatalogEntry::NodeUp(own_life("tcp://node-1:5555"));
    news.try_send(News::Applied { index: 1, entries: vec![(1, up)] }).unwrap();
    replica.read_news(now);
    assert!(matches!(replica.poll_answer(), Some(Input::Committed(_))));

    let broker = broker();
    let status = page_of(Page::Status, &replica, &broker);
    let endpoints = page_of(Page::Endpoints, &replica, &broker);

    assert_eq!((&status["applied_index"], &status["committed_index"]), (&json!(1), &json!(12)));
    assert_eq!((&status["leader"], &status["term"]), (&json!("node-2"), &json!(3)));
    assert_eq!(endpoints["endpoints"][0]["endpoint"], "tcp://node-1:5555");
}
