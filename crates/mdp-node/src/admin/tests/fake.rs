//! A node that is made up.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mdp_broker::{Counters, DropReason, Gauges, ServiceStatus};
use mdp_catalog::{NodeId, NodeName};
use mdp_raft::{
    BoxFuture, ChangeError, ClusterStatus, MemberStatus, NotReady, Role, UpgradeChange,
};
use mdp_transport::TransportTotals;
use mdp_wire::ServiceName;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::{
    backend::{Backend, CatalogTotals, Changed, Page},
    change::MemberChange,
};
use crate::{
    DrainReceipt, LinkLoss, LinkState, LinkTotals, NodeReport, ReadTotals, RelayReport,
    RelayTotals, ReportError,
};

/// Says what it was made to say, and remembers what it was asked for.
#[derive(Debug)]
pub(super) struct Fake {
    name: NodeName,
    turns: AtomicU64,
    status: Option<ClusterStatus>,
    error: Option<ChangeError>,
    asked: Mutex<Vec<String>>,
    pub(super) is_draining: AtomicBool,
    pub(super) is_overloaded: AtomicBool,
    pub(super) receipt: watch::Sender<Option<DrainReceipt>>,
}

impl Fake {
    /// A node without peers.
    pub(super) fn alone() -> Self {
        Self {
            name: name("node-1"),
            turns: AtomicU64::new(0),
            status: None,
            error: None,
            asked: Mutex::default(),
            is_draining: AtomicBool::new(false),
            is_overloaded: AtomicBool::new(false),
            receipt: watch::Sender::new(None),
        }
    }

    /// A follower of node-2, not ready for these reasons.
    pub(super) fn in_cluster(not_ready: Vec<NotReady>) -> Self {
        let member = |name_: &str, id, unheard_for| MemberStatus {
            name: name(name_),
            node_id: NodeId(id),
            role: Role::Voter,
            endpoint: format!("tcp://h:{id}"),
            unheard_for,
            is_unheard: false,
        };
        let status = ClusterStatus {
            name: name("node-1"),
            node_id: NodeId(1),
            cluster_id: Some("c".repeat(32)),
            leader: Some(name("node-2")),
            term: 3,
            committed_index: 42,
            applied_index: 42,
            last_log_index: 42,
            snapshot_index: 0,
            call_formats: vec![(1, 5)],
            refused_calls: vec![("no_member", 0), ("unknown_sender", 3)],
            commit_times: Default::default(),
            upgrade: mdp_raft::UpgradeStatus::default(),
            members: vec![
                member("node-1", 1, None),
                member("node-2", 2, Some(Duration::from_millis(250))),
            ],
            member_change: None,
            unheard_voters: 0,
            not_ready,
        };
        Self { status: Some(status), ..Self::alone() }
    }

    /// The same, refusing every change.
    pub(super) fn failing(self, error: ChangeError) -> Self {
        Self { error: Some(error), ..self }
    }

    /// What it was asked for, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn changed<T>(&self, asked: String, outcome: T) -> BoxFuture<'_, Changed<T>>
    where
        T: Send + 'static,
    {
        self.asked.lock().unwrap().push(asked);
        let error = self.error.clone();
        let outcome = error.map_or(Ok(outcome), Err);
        let changed = self.status.is_some().then_some(outcome);
        Box::pin(async move { changed })
    }

    fn reported<T>(&self, report: T) -> BoxFuture<'_, Result<T, ReportError>>
    where
        T: Send + 'static,
    {
        let is_overloaded = self.is_overloaded.load(Ordering::Relaxed);
        Box::pin(async move { if is_overloaded { Err(ReportError::Busy) } else { Ok(report) } })
    }
}

impl Backend for Fake {
    fn name(&self) -> &NodeName {
        &self.name
    }

    fn turns(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn drain_timeout(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn receipt(&self) -> watch::Receiver<Option<DrainReceipt>> {
        self.receipt.subscribe()
    }

    fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    fn status(&self) -> Option<ClusterStatus> {
        self.status.clone()
    }

    fn catalog_totals(&self) -> Option<CatalogTotals> {
        let totals = CatalogTotals { services: 9, up: 2, draining: 0, gone: 1 };
        self.status.as_ref().map(|_| totals)
    }

    fn link_totals(&self) -> Option<LinkTotals> {
        self.status.as_ref().map(|_| LinkTotals { sent: 5, ..LinkTotals::default() })
    }

    fn totals(&self) -> BoxFuture<'_, Result<NodeReport, ReportError>> {
        let dropped = BTreeMap::from([(DropReason::Expired, 2)]);
        let mut counters = Counters { requests: 7, forwarded: 8, dropped, ..Counters::default() };
        counters.request_times.observe(Duration::from_secs(90));
        self.reported(NodeReport {
            gauges: Gauges::default(),
            queued_bytes_max: 1 << 20,
            counters,
            connections: TransportTotals::default(),
            reads: ReadTotals::default(),
            relay: self.status.is_some().then(relay_report),
            applied_index: 42,
            catalog: None,
            uptime: Duration::from_millis(1_500),
            waiting: vec![ServiceStatus {
                name: ServiceName::try_from(&b"a\"b"[..]).unwrap(),
                workers: 0,
                idle: 0,
                queued: 3,
            }],
            services: Vec::new(),
            workers: Vec::new(),
            peers: Vec::new(),
        })
    }

    fn page(&self, page: Page) -> BoxFuture<'_, Result<Value, ReportError>> {
        self.reported(json!({ "page": format!("{page:?}") }))
    }

    fn kick(&self, connection: u64) -> BoxFuture<'_, Result<bool, ReportError>> {
        self.asked.lock().unwrap().push(format!("kick {connection}"));
        self.reported(connection == 7)
    }

    fn change_members(&self, change: MemberChange) -> BoxFuture<'_, Changed<()>> {
        self.changed(format!("{change:?}"), ())
    }

    fn transfer_leader(&self, to: Option<NodeName>) -> BoxFuture<'_, Changed<NodeName>> {
        let leader = to.clone().unwrap_or_else(|| name("node-2"));
        self.changed(format!("{to:?}"), leader)
    }

    fn change_upgrade(&self, change: UpgradeChange) -> BoxFuture<'_, Changed<()>> {
        self.changed(format!("upgrade {change:?}"), ())
    }

    fn snapshot(&self) -> BoxFuture<'_, Changed<(u64, Vec<u8>)>> {
        self.changed("snapshot".to_owned(), (42, b"\0snapshot".to_vec()))
    }
}

fn relay_report() -> RelayReport {
    let links = vec![LinkState { node: name("node-2"), to: true, from: false, networks: None }];
    let totals = RelayTotals {
        made: [(1, 3)].into(),
        lost: BTreeMap::from([(LinkLoss::Silent, 3)]),
        refused_here: BTreeMap::from([("wrong_version", 4)]),
        waiting_bytes: 5,
        ..RelayTotals::default()
    };
    RelayReport { links, totals, unreachable_requests: 6 }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}
