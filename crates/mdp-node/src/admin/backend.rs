//! What the administration port shows and changes: a node, or what stands for one in a test.

use std::{fmt, time::Duration};

use mdp_catalog::{Catalog, NodeName, NodeState};
use mdp_core::pages::{self, ClusterFacts, Directory, NodeNumbers};
use mdp_raft::{BoxFuture, ChangeError, ClusterStatus, Consensus, UpgradeChange};
use serde_json::Value;
use tokio::sync::watch;

use super::change::MemberChange;
use crate::{
    DrainReceipt, IdentityStatus, LinkTotals, NodeReport, NodeView, REPORT_CONNECTIONS_MAX,
    REPORT_WORKERS_MAX, ReportError, ReportScope, VERSION,
};

/// How long the broker thread may take for a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A page of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Cluster,
    Status,
    Services,
    Workers,
    Connections,
    Upgrade,
}

/// What the catalog counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CatalogTotals {
    /// Services that are offered.
    pub(super) services: usize,
    /// Nodes that serve.
    pub(super) up: usize,
    /// Nodes that leave.
    pub(super) draining: usize,
    /// Nodes whose last life ended.
    pub(super) gone: usize,
}

/// What a change came to; `None`: the node is alone, and there is nothing to change.
pub(super) type Changed<T> = Option<Result<T, ChangeError>>;

/// A node as the administration port sees it.
pub(super) trait Backend: fmt::Debug + Send + Sync + 'static {
    fn name(&self) -> &NodeName;

    /// A number that rises at least once in a second while the broker thread works.
    fn turns(&self) -> u64;

    fn is_draining(&self) -> bool;

    /// How long a drain may take.
    fn drain_timeout(&self) -> Duration;

    fn drain(&self);

    /// What a drain came to, once this node has left its cluster. As long as somebody has one of
    /// these, the process waits a while for its last answers.
    fn receipt(&self) -> watch::Receiver<Option<DrainReceipt>>;

    /// What consensus knows; `None`: the node is alone.
    fn status(&self) -> Option<ClusterStatus>;

    /// What the catalog counts; `None`: the node is alone.
    fn catalog_totals(&self) -> Option<CatalogTotals>;

    /// What the calls between nodes came to; `None`: the node is alone.
    fn link_totals(&self) -> Option<LinkTotals>;

    /// What is known of the files of identities; `None`: nothing proves who clients and workers are.
    fn identities(&self) -> Option<IdentityStatus>;

    /// What the broker thread counts.
    fn totals(&self) -> BoxFuture<'_, Result<NodeReport, ReportError>>;

    fn page(&self, page: Page) -> BoxFuture<'_, Result<Value, ReportError>>;

    /// Closes a connection of a client or worker; false if there is none with this number.
    fn kick(&self, connection: u64) -> BoxFuture<'_, Result<bool, ReportError>>;

    fn change_members(&self, change: MemberChange) -> BoxFuture<'_, Changed<()>>;

    fn transfer_leader(&self, to: Option<NodeName>) -> BoxFuture<'_, Changed<NodeName>>;

    fn change_upgrade(&self, change: UpgradeChange) -> BoxFuture<'_, Changed<()>>;

    /// The index of a new snapshot, and its bytes.
    fn snapshot(&self) -> BoxFuture<'_, Changed<(u64, Vec<u8>)>>;
}

impl CatalogTotals {
    fn of(catalog: &Catalog) -> Self {
        let mut totals = Self { services: catalog.service_count(), ..Self::default() };
        for (_, record) in catalog.nodes() {
            match record.state {
                NodeState::Up => totals.up += 1,
                NodeState::Draining => totals.draining += 1,
                NodeState::Gone => totals.gone += 1,
            }
        }
        totals
    }
}

impl Backend for NodeView {
    fn name(&self) -> &NodeName {
        Self::name(self)
    }

    fn turns(&self) -> u64 {
        Self::turns(self)
    }

    fn is_draining(&self) -> bool {
        Self::is_draining(self)
    }

    fn drain_timeout(&self) -> Duration {
        Self::drain_timeout(self)
    }

    fn drain(&self) {
        self.drainer().drain();
    }

    fn receipt(&self) -> watch::Receiver<Option<DrainReceipt>> {
        self.drainer().receipt()
    }

    fn status(&self) -> Option<ClusterStatus> {
        self.consensus().map(Consensus::status)
    }

    fn catalog_totals(&self) -> Option<CatalogTotals> {
        self.consensus().map(|consensus| consensus.with_catalog(CatalogTotals::of))
    }

    fn link_totals(&self) -> Option<LinkTotals> {
        Self::link_totals(self)
    }

    fn identities(&self) -> Option<IdentityStatus> {
        Self::identities(self)
    }

    fn totals(&self) -> BoxFuture<'_, Result<NodeReport, ReportError>> {
        Box::pin(self.report(ReportScope::Totals, REPORT_TIMEOUT))
    }

    fn page(&self, page: Page) -> BoxFuture<'_, Result<Value, ReportError>> {
        Box::pin(async move {
            match page {
                Page::Cluster => cluster_page(self, pages::cluster_page).await,
                Page::Status => {
                    let report = self.report(ReportScope::Totals, REPORT_TIMEOUT).await?;
                    let cluster = cluster_page(self, pages::cluster_page).await?;
                    Ok(pages::with_numbers(cluster, &NodeNumbers::of(&report, VERSION)))
                }
                Page::Upgrade => cluster_page(self, pages::upgrade_page).await,
                Page::Services => services_page(self).await,
                Page::Connections => {
                    let report = self.report(ReportScope::Connections, REPORT_TIMEOUT).await?;
                    let is_truncated = report.peers.len() >= REPORT_CONNECTIONS_MAX;
                    Ok(pages::connections_page(&report.peers, is_truncated))
                }
                Page::Workers => {
                    let report = self.report(ReportScope::Workers, REPORT_TIMEOUT).await?;
                    let is_truncated = report.workers.len() >= REPORT_WORKERS_MAX;
                    Ok(pages::workers_page(&report.workers, is_truncated))
                }
            }
        })
    }

    fn kick(&self, connection: u64) -> BoxFuture<'_, Result<bool, ReportError>> {
        Box::pin(self.kick(connection, REPORT_TIMEOUT))
    }

    fn change_members(&self, change: MemberChange) -> BoxFuture<'_, Changed<()>> {
        Box::pin(async move {
            let consensus = self.consensus()?;
            Some(match change {
                MemberChange::Add { name, endpoint } => consensus.add_member(name, endpoint).await,
                MemberChange::Remove { name } => consensus.remove_member(name).await,
                MemberChange::Promote { name } => consensus.promote_member(name).await,
            })
        })
    }

    fn transfer_leader(&self, to: Option<NodeName>) -> BoxFuture<'_, Changed<NodeName>> {
        Box::pin(async move { Some(self.consensus()?.transfer_leader(to).await) })
    }

    fn change_upgrade(&self, change: UpgradeChange) -> BoxFuture<'_, Changed<()>> {
        Box::pin(async move { Some(self.consensus()?.change_upgrade(change).await) })
    }

    fn snapshot(&self) -> BoxFuture<'_, Changed<(u64, Vec<u8>)>> {
        Box::pin(async move { Some(self.consensus()?.snapshot().await) })
    }
}

/// A page about the cluster.
async fn cluster_page(
    view: &NodeView,
    page: fn(&ClusterFacts<'_>) -> Value,
) -> Result<Value, ReportError> {
    if let Some(consensus) = view.consensus() {
        let (status, links) = (consensus.status(), view.relay_links());
        return Ok(consensus.with_catalog(|catalog| {
            let applied_index = status.applied_index;
            let (node, status, links) = (view.name(), Some(&status), links.as_slice());
            let networks = view.networks();
            let version = VERSION;
            page(&ClusterFacts { version, node, catalog, applied_index, status, links, networks })
        }));
    }
    let report = view.report(ReportScope::Services, REPORT_TIMEOUT).await?;
    let (node, applied_index) = (view.name(), report.applied_index);
    let catalog = report.catalog.unwrap_or_default();
    let (catalog, status, links, networks) = (&catalog, None, &[][..], view.networks());
    let version = VERSION;
    Ok(page(&ClusterFacts { version, node, catalog, applied_index, status, links, networks }))
}

async fn services_page(view: &NodeView) -> Result<Value, ReportError> {
    let report = view.report(ReportScope::Services, REPORT_TIMEOUT).await?;
    // Applying waits while the catalog is looked into, so the page is written after that.
    let directory = match view.consensus() {
        Some(consensus) => {
            consensus.with_catalog(|catalog| Directory::with_waiting(catalog, &report.services))
        }
        None => {
            let catalog = report.catalog.as_deref();
            catalog.map(|it| Directory::with_waiting(it, &report.services)).unwrap_or_default()
        }
    };
    let majority = view.consensus().is_none_or(|consensus| consensus.status().leader.is_some());
    let mut page = directory.page(&report.services);
    if let Some(page) = page.as_object_mut() {
        page.insert("majority".to_owned(), Value::Bool(majority));
    }
    Ok(page)
}
