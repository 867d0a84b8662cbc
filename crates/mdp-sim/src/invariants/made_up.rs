//! Made-up histories and clusters, to see rules catch what they are for.

use std::time::{Duration, Instant};

use mdp_broker::{Counters, Gauges};
use mdp_catalog::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeUp, Seq,
    SoftwareVersion,
};
use mdp_wire::ServiceName;

use crate::{
    Rng,
    actors::Workload,
    observation::{Event, Observation, RegistrationId, RequestId},
    view::{ClusterView, NodeView, RelayView},
};

/// A moment to count from. Far from the beginning of the clock.
pub(super) fn start() -> Instant {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::Instant::now().into_std() })
}

/// An event so many milliseconds later.
pub(super) fn at(start: Instant, milliseconds: u64, event: Event) -> Observation {
    Observation::new(start + Duration::from_millis(milliseconds), event)
}

/// Services 0 to 2: watched, echo (at least once), once (at most once).
pub(super) fn workload() -> Workload {
    let mut workload = Workload::draw(&mut Rng::new(1));
    let of = |prefix: &str| {
        let found = workload.services.iter().find(|service| service.name.starts_with(prefix));
        found.unwrap().clone()
    };
    workload.services = vec![of("watched"), of("echo"), of("once")];
    workload
}

pub(super) const fn request(client: usize, number: u32) -> RequestId {
    RequestId { client, number, round: 0 }
}

pub(super) const fn registration(worker: usize) -> RegistrationId {
    RegistrationId { worker, number: 0 }
}

/// A catalog of `node-1` to `node-3`, each in the life that its number names, with these offers.
pub(super) fn catalog(offers: &[(usize, &str)]) -> Catalog {
    let mut catalog = Catalog::new();
    for number in 0..3_u64 {
        let up = NodeUp {
            node: name(usize::try_from(number).unwrap()),
            node_id: NodeId(number),
            boot: Boot { process: number, attempt: 0 },
            expected_epoch: Epoch(0),
            endpoints: Endpoints::default(),
            version: SoftwareVersion::default(),
        };
        catalog.apply(number + 1, CatalogEntry::NodeUp(up)).unwrap();
    }
    for (index, (node, service)) in (4..).zip(offers) {
        let services = vec![ServiceName::try_from(*service).unwrap()];
        let incarnation = life(*node);
        let offer = CatalogEntry::Offer { incarnation, seq: Seq(index), services };
        catalog.apply(index, offer).unwrap();
    }
    catalog
}

pub(super) fn name(node: usize) -> NodeName {
    format!("node-{}", node + 1).parse().unwrap()
}

pub(super) fn life(node: usize) -> Incarnation {
    Incarnation { node: name(node), epoch: Epoch(u64::try_from(node).unwrap() + 1) }
}

/// What a view borrows from.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) catalogs: Vec<Catalog>,
    pub(super) applied: Vec<u64>,
    pub(super) gauges: Vec<Gauges>,
    pub(super) counters: Vec<Counters>,
    pub(super) relay: Vec<RelayView>,
    names: Vec<NodeName>,
    lives: Vec<Incarnation>,
}

impl Nodes {
    /// Three nodes that agree.
    pub(super) fn new(catalog: &Catalog, applied: u64) -> Self {
        Self {
            catalogs: vec![catalog.clone(); 3],
            applied: vec![applied; 3],
            gauges: vec![Gauges::default(); 3],
            counters: vec![Counters::default(); 3],
            relay: vec![RelayView::default(); 3],
            names: (0..3).map(name).collect(),
            lives: (0..3).map(life).collect(),
        }
    }

    pub(super) fn view(&self, now: Instant) -> ClusterView<'_> {
        let node = |number: usize| NodeView {
            name: self.names[number].as_str(),
            is_member: true,
            is_up: true,
            is_paused: false,
            is_ready: true,
            raft: None,
            applied_index: self.applied[number],
            catalog: Some(&self.catalogs[number]),
            life: Some(&self.lives[number]),
            gauges: Some(self.gauges[number]),
            counters: Some(&self.counters[number]),
            relay: Some(self.relay[number].clone()),
        };
        ClusterView { now, nodes: (0..3).map(node).collect() }
    }
}
