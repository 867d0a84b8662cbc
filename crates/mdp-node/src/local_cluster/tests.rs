use mdp_broker::{Broker, Seed, Settings};
use mdp_catalog::{CatalogChange, Seq};
use mdp_transport::TransportTotals;
use mdp_wire::{AtBroker, ClientNetworks, NetworkAddress, ServiceFrame, Version, worker::ToBroker};
use serde_json::{Value, json};

use super::*;
use crate::pages::DIRECTORY_SERVICES_MAX;

fn service(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

fn cluster(endpoint: &str) -> LocalCluster {
    let name = "node-1".parse().unwrap();
    LocalCluster::new(name, endpoint.to_owned(), Instant::now()).unwrap()
}

fn offer(cluster: &mut LocalCluster, seq: u64, name: &str) {
    let incarnation = cluster.incarnation().clone();
    cluster.propose(CatalogEntry::Offer {
        incarnation,
        seq: Seq(seq),
        services: vec![service(name)],
    });
}

fn page(cluster: &mut LocalCluster, broker: &Broker<SharedFrame>, page: Page) -> Value {
    page_for(cluster, broker, page, &ClientNetworks::default())
}

/// The page for a client that connects from 10.1.2.3.
fn page_for(
    cluster: &mut LocalCluster,
    broker: &Broker<SharedFrame>,
    page: Page,
    networks: &ClientNetworks,
) -> Value {
    let view = View {
        broker,
        connections: TransportTotals::default(),
        links: &[],
        networks,
        asker: Some([10, 1, 2, 3].into()),
        now: Instant::now(),
    };
    cluster.describe(QueryId(7), page, &view);
    match cluster.poll_answer() {
        Some(Input::Described { query: QueryId(7), json }) => {
            serde_json::from_slice(&json).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn broker(cluster: &LocalCluster) -> Broker<SharedFrame> {
    let now = Instant::now();
    Broker::new(cluster.incarnation().clone(), Settings::default(), Seed([1; 32]), now)
}

/// A broker whose cluster heard of its worker for `echo`.
fn serving(cluster: &mut LocalCluster) -> Broker<SharedFrame> {
    let mut broker = broker(cluster);
    let echo = ServiceFrame::try_new(SharedFrame::from(b"echo".as_slice())).unwrap();
    let input = Input::Received {
        from: b"worker".as_slice().into(),
        source: None,
        message: AtBroker::Worker {
            version: Version::V01,
            message: ToBroker::Ready { service: echo },
        },
    };
    broker.handle_input(Instant::now(), input);
    loop {
        while let Some(effect) = broker.poll_effect() {
            if let mdp_broker::Effect::Propose(entry) = effect {
                cluster.propose(entry);
            }
        }
        match cluster.poll_answer() {
            Some(answer) => broker.handle_input(Instant::now(), answer),
            None => return broker,
        }
    }
}

#[test]
fn proposal_is_committed_at_once_and_an_old_one_is_not() {
    let mut cluster = cluster("tcp://127.0.0.1:5555");
    let incarnation = cluster.incarnation().clone();
    offer(&mut cluster, 1, "echo");
    offer(&mut cluster, 1, "late");

    let change =
        CatalogChange::Offered { incarnation, seq: Seq(1), services: vec![service("echo")] };
    assert_eq!(cluster.poll_answer(), Some(Input::Committed(change)));
    assert_eq!(cluster.poll_answer(), None);
}

#[test]
fn lookup_answers_from_the_catalog() {
    let mut cluster = cluster("tcp://127.0.0.1:5555");
    offer(&mut cluster, 1, "echo");
    assert!(cluster.poll_answer().is_some());

    cluster.lookup(QueryId(1), service("echo"), LookupPurpose::Proof);
    cluster.lookup(QueryId(2), service("nothing"), LookupPurpose::Availability);

    let outcome = LookupOutcome::OfferedHere;
    assert_eq!(cluster.poll_answer(), Some(Input::LookedUp { query: QueryId(1), outcome }));
    let outcome = LookupOutcome::NotOffered;
    assert_eq!(cluster.poll_answer(), Some(Input::LookedUp { query: QueryId(2), outcome }));
}

#[test]
fn directory_names_services_nodes_and_workers() {
    let mut cluster = cluster("tcp://127.0.0.1:5555");
    let broker = serving(&mut cluster);

    let expected = json!({ "services": [
        { "name": "echo", "nodes": ["node-1"], "workers": 1, "idle": 1, "queued": 0 },
    ]});
    assert_eq!(page(&mut cluster, &broker, Page::Directory), expected);
}

#[test]
fn directory_is_cut_where_it_gets_too_long() {
    let mut cluster = cluster("tcp://127.0.0.1:5555");
    let incarnation = cluster.incarnation().clone();
    let services = (0..=DIRECTORY_SERVICES_MAX).map(|i| service(&format!("s{i}"))).collect();
    cluster.propose(CatalogEntry::Offer { incarnation, seq: Seq(1), services });
    assert!(cluster.poll_answer().is_some());
    let broker = broker(&cluster);

    let directory = page(&mut cluster, &broker, Page::Directory);

    assert_eq!(directory["services"].as_array().map(Vec::len), Some(DIRECTORY_SERVICES_MAX));
    assert_eq!(directory["truncated"], json!(true));
}

#[test]
fn endpoints_are_those_of_nodes_that_are_up_and_have_one() {
    let mut up = cluster("tcp://127.0.0.1:5555");
    let broker = broker(&up);
    let expected = json!({
        "node": "node-1",
        "endpoints": [{
            "node": "node-1",
            "endpoint": "tcp://127.0.0.1:5555",
            "epoch": up.incarnation().epoch.0,
        }],
        "max_message_bytes": 16_777_216,
        "max_message_frames": 1_024,
    });
    assert_eq!(page(&mut up, &broker, Page::Endpoints), expected);

    let incarnation = up.incarnation().clone();
    up.propose(CatalogEntry::NodeDraining { incarnation, seq: Seq(1) });
    assert!(up.poll_answer().is_some());
    let without_itself = page(&mut up, &broker, Page::Endpoints);
    assert_eq!(
        (&without_itself["node"], &without_itself["endpoints"]),
        (&json!("node-1"), &json!([]))
    );

    let mut nowhere = cluster("");
    let unnamed = page(&mut nowhere, &broker, Page::Endpoints);
    assert_eq!((&unnamed["node"], &unnamed["endpoints"]), (&json!(null), &json!([])));
}

#[test]
fn node_without_an_address_for_all_may_have_one_for_the_network_of_the_client() {
    let mut cluster = cluster("");
    let broker = broker(&cluster);
    let networks = |from: &str| {
        let address = "tcp://inside:5555".to_owned();
        ClientNetworks::new(vec![NetworkAddress { from: from.parse().unwrap(), address }]).unwrap()
    };

    let inside = page_for(&mut cluster, &broker, Page::Endpoints, &networks("10.0.0.0/8"));
    assert_eq!(inside["node"], "node-1");
    assert_eq!(inside["endpoints"][0]["endpoint"], "tcp://inside:5555");
    let elsewhere = page_for(&mut cluster, &broker, Page::Endpoints, &networks("192.168.0.0/16"));
    assert_eq!((&elsewhere["node"], &elsewhere["endpoints"]), (&json!(null), &json!([])));
    let status = page_for(&mut cluster, &broker, Page::Status, &networks("10.0.0.0/8"));
    let told = json!([{ "from": "10.0.0.0/8", "address": "tcp://inside:5555" }]);
    assert_eq!(status["nodes"][0]["client_networks"], told);
}

#[test]
fn status_has_the_documented_keys() {
    let mut cluster = cluster("tcp://127.0.0.1:5555");
    let broker = serving(&mut cluster);

    let status = page(&mut cluster, &broker, Page::Status);

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
