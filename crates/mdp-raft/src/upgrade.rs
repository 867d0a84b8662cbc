//! The cluster's version: what every member speaks, and from which on new commands may be proposed.
//!
//! It is the lowest minor release of all members. The leader raises it once all of them are up in a
//! newer one and stayed so for `upgrade.settle`; until then every node can go back to the version
//! that it ran before. Afterwards an older program is refused: the log may hold what it can not read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mdp_catalog::{Catalog, CatalogEntry, NodeId, NodeState, SoftwareVersion, VersionMisfit};
use mdp_mutants::{Mutant, is_on};
use openraft_rt::Instant as _;

use crate::{
    calls::Refusal,
    clock::{Instant, Ticks},
    hub::{Hub, lock},
    runtime::Runtime,
    types::Membership,
};

/// How often the leader looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the cluster's version can rise, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpgradeState {
    /// All members run the cluster's version.
    #[default]
    Current,
    /// These members run the cluster's version still, others a newer one: by name.
    Mixed {
        /// Who.
        older: Vec<String>,
    },
    /// These members are not up, so that nobody knows what they will run: by name.
    Incomplete {
        /// Who.
        down: Vec<String>,
    },
    /// All members run a newer version, and the cluster's is held.
    Held,
    /// All members run a newer version; the leader waits whether they stay.
    Settling,
}

/// The cluster's version, and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeStatus {
    /// What every member speaks; `None`: not all of them were up yet.
    pub cluster_version: Option<SoftwareVersion>,
    /// The version to which it can rise, if all members run it.
    pub target: Option<SoftwareVersion>,
    /// The version that `majordomo upgrade hold` keeps.
    pub held_at: Option<SoftwareVersion>,
    /// The version that this node's configuration keeps (`upgrade.hold`); the leader's counts.
    pub configured_hold: Option<SoftwareVersion>,
    /// Whether it can rise.
    pub state: UpgradeState,
    /// When the leader raises it; `None`: this node does not lead, or the cluster does not settle.
    pub settles_in: Option<Duration>,
}

/// What the members run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Survey {
    /// The lowest minor release, if all are up.
    lowest: Option<SoftwareVersion>,
    /// Those that run an older one than the newest.
    older: Vec<String>,
    /// Those that are not up.
    down: Vec<String>,
}

impl Survey {
    fn of(catalog: &Catalog, members: &Membership) -> Self {
        let up = |record: &mdp_catalog::NodeRecord| record.state == NodeState::Up;
        let records: BTreeMap<NodeId, SoftwareVersion> = catalog
            .nodes()
            .filter(|(_, record)| up(record))
            .map(|(_, record)| (record.node_id, record.version.minor_release()))
            .collect();
        let newest = records.values().max().copied();
        let (mut older, mut down) = (Vec::new(), Vec::new());
        let mut versions = Vec::new();
        for (id, member) in members.nodes() {
            match records.get(&NodeId(*id)) {
                None => down.push(member.name.clone()),
                Some(version) => {
                    versions.push(*version);
                    if Some(*version) < newest {
                        older.push(member.name.clone());
                    }
                }
            }
        }
        older.sort_unstable();
        down.sort_unstable();
        if is_on(Mutant::VersionRisesEarly) {
            versions.retain(|version| Some(*version) == newest);
        }
        let lowest = if down.is_empty() { versions.into_iter().min() } else { None };
        Self { lowest, older, down }
    }
}

/// What is known here of the cluster's version.
pub(crate) fn status(hub: &Hub<impl Runtime>) -> UpgradeStatus {
    let membership = hub.membership();
    let (survey, now, held_at, founder) = hub.catalog.with(|catalog, _| {
        let survey = Survey::of(catalog, &membership);
        (survey, catalog.cluster_version(), catalog.held_at(), catalog.oldest_founder())
    });
    let configured_hold = hub.config.upgrade_hold;
    // A new cluster begins with the version that it is to keep, or that it could go back to.
    let is_first = now == SoftwareVersion::default();
    let highest = configured_hold.into_iter().chain(founder).filter(|_| is_first).min();
    let lowest = survey.lowest.map(|lowest| highest.map_or(lowest, |at| lowest.min(at)));
    let target = lowest.filter(|lowest| *lowest > now);
    let is_held = |target| [held_at, configured_hold].iter().flatten().any(|at| target > *at);
    let state = match target {
        Some(target) if is_held(target) => UpgradeState::Held,
        Some(_) => UpgradeState::Settling,
        None if !survey.older.is_empty() => UpgradeState::Mixed { older: survey.older },
        None if !survey.down.is_empty() => UpgradeState::Incomplete { down: survey.down },
        None => UpgradeState::Current,
    };
    let settling = lock(&hub.state.settling).filter(|_| state == UpgradeState::Settling);
    UpgradeStatus {
        cluster_version: Some(now).filter(|now| *now != SoftwareVersion::default()),
        target,
        held_at,
        configured_hold,
        state,
        settles_in: settling.map(|Settling { since, .. }| {
            hub.config.upgrade_settle.saturating_sub(since.elapsed())
        }),
    }
}

/// Why this node can not take part in its cluster.
pub(crate) fn misfit(hub: &Hub<impl Runtime>) -> Option<VersionMisfit> {
    let cluster = hub.catalog.with(|catalog, _| catalog.cluster_version());
    hub.config.version.fits(cluster).err()
}

/// Whether a node of this version may become a member, or why not.
pub(crate) fn fits(
    hub: &Hub<impl Runtime>,
    (major, minor, patch): (u16, u16, u16),
) -> Result<(), String> {
    let cluster = hub.catalog.with(|catalog, _| catalog.cluster_version());
    SoftwareVersion { major, minor, patch }.fits(cluster).map_err(|misfit| misfit.to_string())
}

/// This node's version as others are told.
pub(crate) fn own(hub: &Hub<impl Runtime>) -> (u16, u16, u16) {
    let SoftwareVersion { major, minor, patch } = hub.config.version;
    (major, minor, patch)
}

/// Since when all members have been up in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settling<R: Runtime> {
    target: SoftwareVersion,
    since: Instant<R>,
}

/// Runs for ever: the leader raises the cluster's version.
pub(crate) async fn run<R: Runtime>(hub: Arc<Hub<R>>) {
    let mut ticks = Ticks::<R>::every(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        let target = look(&hub);
        if let Some(version) = target {
            tracing::info!(%version, "all members run this version; the cluster's version rises");
            write(&hub, CatalogEntry::SetClusterVersion { version }).await;
            // It may have been refused, because a node came back in an older version.
            hub.sleep(WRITE_TIMEOUT).await;
        }
        #[cfg(feature = "test-next")]
        mark(&hub).await;
    }
}

/// The version to which the cluster's rises now, if this node leads and it does.
fn look(hub: &Hub<impl Runtime>) -> Option<SoftwareVersion> {
    // Whoever leads without a majority raises nothing: the others may have gone back.
    if !hub.is_leader() || hub.is_alone() {
        *lock(&hub.state.settling) = None;
        return None;
    }
    let status = status(hub);
    let target = status.target.filter(|_| status.state == UpgradeState::Settling);
    let mut settling = lock(&hub.state.settling);
    let Some(target) = target else {
        *settling = None;
        return None;
    };
    let since = match *settling {
        Some(known) if known.target == target => known.since,
        Some(_) | None => {
            let since = hub.now();
            *settling = Some(Settling { target, since });
            since
        }
    };
    // A new cluster begins with what it can go back to, so that this needs no time.
    let is_first = status.cluster_version.is_none();
    (is_first || since.elapsed() >= hub.config.upgrade_settle).then_some(target)
}

async fn write(hub: &Hub<impl Runtime>, entry: CatalogEntry) {
    let text = entry.to_string();
    if !matches!(hub.timeout(WRITE_TIMEOUT, hub.write(entry)).await, Ok(Ok(()))) {
        tracing::debug!(entry = text, "the leader could not write this");
    }
}

/// What only the next version does, and only once all members have it.
#[cfg(feature = "test-next")]
async fn mark(hub: &Hub<impl Runtime>) {
    use mdp_catalog::MARK_SINCE;

    let is_marked = |catalog: &Catalog| catalog.mark() > 0;
    let (cluster, is_marked) =
        hub.catalog.with(|catalog, _| (catalog.cluster_version(), is_marked(catalog)));
    let knows = hub.config.version >= MARK_SINCE && cluster >= MARK_SINCE;
    if knows && !is_marked && hub.is_leader() && !hub.is_alone() {
        write(hub, CatalogEntry::Mark { number: 1 }).await;
    }
}

/// Keeps the cluster's version where it is.
pub(crate) async fn hold(hub: &Hub<impl Runtime>) -> Result<(), Refusal> {
    let version = status(hub).cluster_version.ok_or(Refusal::Unavailable)?;
    must_write(hub, CatalogEntry::Hold { at: Some(version) }).await
}

/// Lets the cluster's version rise by itself again.
pub(crate) async fn resume(hub: &Hub<impl Runtime>) -> Result<(), Refusal> {
    must_write(hub, CatalogEntry::Hold { at: None }).await
}

/// Raises the cluster's version now, whatever holds it but the configuration.
pub(crate) async fn finalize(hub: &Hub<impl Runtime>) -> Result<(), Refusal> {
    let status = status(hub);
    let refused = |reason| Err(Refusal::Change { reason });
    let version = |version: Option<SoftwareVersion>| {
        version.map_or_else(|| "none".to_owned(), |version| version.to_string())
    };
    let now = version(status.cluster_version);
    let Some(target) = status.target else {
        return refused(match status.state {
            UpgradeState::Mixed { older } => {
                format!("{} still run version {now}: upgrade all members first", older.join(", "))
            }
            UpgradeState::Incomplete { down } => {
                format!("{} are not up: all members must run the new version", down.join(", "))
            }
            UpgradeState::Current | UpgradeState::Held | UpgradeState::Settling => {
                format!("the cluster's version is {now}, as that of its members")
            }
        });
    };
    if let Some(at) = status.configured_hold.filter(|at| target > *at) {
        return refused(format!(
            "the configuration of {}, which leads, keeps version {at} (upgrade.hold): remove it \
             from the configuration of all nodes first",
            hub.name()
        ));
    }
    if status.held_at.is_some() {
        must_write(hub, CatalogEntry::Hold { at: None }).await?;
    }
    tracing::info!(version = %target, "the cluster's version is made final");
    must_write(hub, CatalogEntry::SetClusterVersion { version: target }).await?;
    // A node may have come back in an older version meanwhile.
    if hub.catalog.with(|catalog, _| catalog.cluster_version()) < target {
        return refused("a member went back to the older version; look at the status".to_owned());
    }
    Ok(())
}

async fn must_write(hub: &Hub<impl Runtime>, entry: CatalogEntry) -> Result<(), Refusal> {
    match hub.timeout(WRITE_TIMEOUT, hub.write(entry)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(hub.not_leader()),
        Err(_) => Err(Refusal::Unavailable),
    }
}
