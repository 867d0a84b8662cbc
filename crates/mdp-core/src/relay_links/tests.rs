mod ends;
mod greetings;
mod losses;
mod network;

use mdp_broker::LinkRole;
use mdp_wire::relay::{Forward, ReturnCause, WIRE};

use self::network::{Network, NodeAt};
use super::*;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A request with a body of so many bytes.
fn forward(id: u64, bytes: usize) -> ToOwner<ServiceName, SharedFrame> {
    ToOwner::Forward(Forward {
        id: ForwardId(id),
        client: 1,
        ttl: Duration::from_secs(1),
        service: ServiceName::try_from("echo").unwrap(),
        body: [SharedFrame::from(vec![7; bytes])].into_iter().collect(),
    })
}

fn reply(id: u64, bytes: usize) -> ToOrigin<SharedFrame> {
    let body = [SharedFrame::from(vec![7; bytes])].into_iter().collect();
    ToOrigin::Reply { id: ForwardId(id), is_last: true, body }
}

fn returned(id: u64) -> ToOrigin<SharedFrame> {
    ToOrigin::Return { id: ForwardId(id), cause: ReturnCause::NoWorker }
}

/// A network with two nodes that have links in both directions.
fn pair() -> (Network, NodeAt, NodeAt) {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 11), network.start("node-2", 12));
    network.join_all();
    network.until("links in both directions", |network| {
        [one, other].iter().all(|at| {
            let node = network.node(*at);
            node.to_owner().is_some() && node.to_origin().is_some()
        })
    });
    (network, one, other)
}
