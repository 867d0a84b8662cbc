//! [`Consensus`]: the handle through which a node takes part in its cluster.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use mdp_catalog::{Catalog, CatalogEntry, Endpoints, NodeName, SoftwareVersion};
use mdp_wire::relay::WireRange;
use openraft::errors::Fatal;
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet};

use crate::{
    CallError, ClusterStatus, Lane, NewsSender, RoundId, Stop, StorageError, Transport, Volume,
    calls::{BUSY, CHANGE_IN_PROGRESS, Change, OUTCOME_UNKNOWN, Refusal, Reply, Request},
    expiry, formation,
    hub::{Hub, Leader, Raft, State, lock},
    incoming, life,
    membership::{self, RemovalTarget},
    network::Network,
    peers::{CallFailure, Peers},
    proposals, reads,
    runtime::{Runtime, Tokio, random_bytes},
    state_machine::StateMachine,
    status,
    store::Store,
    upgrade,
    view::{self, RaftView},
    volume::Directory,
};

/// A seed: a node that is in the constant list from which a cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its name.
    pub name: NodeName,
    /// Its cluster address, such as `tcp://node-1:5556`.
    pub endpoint: String,
}

/// Everything that consensus can be told.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// This node's name.
    pub name: NodeName,
    /// Where the log and the identity are kept.
    pub data_dir: PathBuf,
    /// The constant list of seeds; all nodes have the same one.
    pub seeds: Vec<Seed>,
    /// Where this node is reached.
    pub endpoints: Endpoints,
    /// This node's version.
    pub version: SoftwareVersion,
    /// The formats of calls that this node speaks: [`FORMATS`](crate::FORMATS).
    pub formats: WireRange,
    /// How often the leader shows that it lives.
    pub heartbeat_interval: Duration,
    /// How long a leader may be silent at least before another is elected.
    pub election_timeout_min: Duration,
    /// How long at most.
    pub election_timeout_max: Duration,
    /// How long a node may be unheard before its workers count as gone.
    pub node_timeout: Duration,
    /// How long a round of reads may take.
    pub read_timeout: Duration,
    /// How long all members must have been up in a newer version before the cluster's version rises.
    pub upgrade_settle: Duration,
    /// The version above which this node, while it leads, does not raise the cluster's.
    pub upgrade_hold: Option<SoftwareVersion>,
}

/// A change of members, or of the leader, was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// No leader is known now.
    #[error("no leader is known to this node now; try again, or ask another node")]
    NoLeader,
    /// No member has this name.
    #[error("no member is named {name:?}; the members are {members}")]
    UnknownMember {
        /// The name.
        name: String,
        /// Those that there are, comma-separated.
        members: String,
    },
    /// It would be unsafe, or makes no sense now.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Whether it was made is not known.
    #[error("{reason}")]
    OutcomeUnknown {
        /// What happened, and what to look at.
        reason: String,
    },
    /// It was not done in time; it may still be.
    #[error("not done within {seconds} s; it may still happen: look at the members")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
}

/// A change of what becomes of the cluster's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeChange {
    /// It stays where it is, until it is made final.
    Hold,
    /// It rises by itself again.
    Resume,
    /// It rises now.
    Finalize,
}

/// How long a change may take, with forwarding.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long one attempt at a change may take.
const CHANGE_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(7);
/// How long to wait before a change is tried at another leader.
const CHANGE_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a node that leaves tries to hand leadership over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a snapshot may take to be made.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many entries the log may grow by before a snapshot is made.
const ENTRIES_PER_SNAPSHOT: u64 = 5_000;
/// How many entries stay in the log behind a snapshot, for members that are a little behind.
const ENTRIES_KEPT: u64 = 1_000;
/// How many entries one call carries at most.
const ENTRIES_PER_CALL: u64 = 256;

/// A handle to this node's part in the cluster, on the machine of the process, or on those of a
/// simulation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Consensus<R: Runtime = Tokio> {
    hub: Arc<Hub<R>>,
    runtime: Handle,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Consensus {
    /// Opens the data directory and takes part. Must be called inside of a tokio runtime.
    ///
    /// It returns as soon as the data directory is open: whether the node has joined, and what it
    /// waits for, is in [`status`](Self::status).
    ///
    /// # Errors
    /// The data directory can not be used.
    pub async fn start(
        config: ConsensusConfig,
        transport: Arc<dyn Transport>,
        news: NewsSender,
    ) -> Result<Self, StorageError> {
        let make = Directory::make(&config.data_dir);
        let directory = make.map_err(|error| {
            let dir = config.data_dir.clone();
            StorageError::Io { dir, what: "make it", error }
        })?;
        Self::start_on(config, transport, news, Arc::new(directory)).await
    }
}

impl<R: Runtime> Consensus<R> {
    /// As [`start`](Consensus::start), on the machine of the caller, which it must be asked
    /// on later, too, and on a volume in the place of the data directory, which is only named in
    /// errors.
    ///
    /// # Errors
    /// The volume can not be used.
    pub async fn start_on(
        config: ConsensusConfig,
        transport: Arc<dyn Transport>,
        news: NewsSender,
        volume: Arc<dyn Volume>,
    ) -> Result<Self, StorageError> {
        let system = |what, error| StorageError::Io { dir: config.data_dir.clone(), what, error };
        let process = random_bytes::<R, _>().map_err(|error| system("read random bytes", error))?;
        let process = u64::from_le_bytes(process);
        let opened = Store::open::<R>(&config.data_dir, volume, &config.name)?;
        opened.log.report_failures_to::<R>(news.clone());
        let (state_machine, catalog) = StateMachine::new(opened.snapshots, news.clone())?;
        state_machine.announce().await;
        let (identity, log) = (opened.identity, opened.log);
        let peers = Peers::new(transport, identity.clone(), &config, news.clone());
        let raft_config = raft_config(&config)
            .validate()
            .map_err(|error| system("use these times", std::io::Error::other(error.to_string())))?;
        let raft = Raft::new(
            identity.identity().node_id.0,
            Arc::new(raft_config),
            Network::new(peers.clone()),
            log.clone(),
            state_machine,
        )
        .await
        .map_err(|error| system("start consensus", std::io::Error::other(error.to_string())))?;
        let state = State::default();
        let hub = Hub { config, raft, peers, identity, log, catalog, news, process, state };
        let hub = Arc::new(hub);
        let mut tasks = JoinSet::new();
        tasks.spawn(R::here(formation::run(Arc::clone(&hub))));
        tasks.spawn(R::here(life::run(Arc::clone(&hub))));
        tasks.spawn(R::here(expiry::run(Arc::clone(&hub))));
        tasks.spawn(R::here(membership::run(Arc::clone(&hub))));
        tasks.spawn(R::here(upgrade::run(Arc::clone(&hub))));
        tasks.spawn(R::here(watch_for_the_end(Arc::clone(&hub))));
        Ok(Self { hub, runtime: Handle::current(), tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// The random number by which the catalog knows this process from every other one that had
    /// this node's name ([`mdp_catalog::Boot::process`]).
    #[must_use]
    pub fn boot_process(&self) -> u64 {
        self.hub.process
    }

    /// Asks to make an entry true. It never waits, and the entry may be lost.
    pub fn propose(&self, entry: CatalogEntry) {
        let hub = Arc::clone(&self.hub);
        let Ok(place) = Arc::clone(&hub.state.proposals).try_acquire_owned() else { return };
        self.spawn(async move {
            proposals::propose(&hub, &entry).await;
            drop(place);
        });
    }

    /// Begins a round of reads: the answer comes as [`News::Read`](crate::News::Read) within
    /// `read_timeout`. It never waits; a round that finds no room ends without quorum.
    pub fn read(&self, round: RoundId) {
        let hub = Arc::clone(&self.hub);
        self.spawn(async move { reads::run(&hub, round).await });
    }

    /// Answers a call of another node. `None`: the bytes are no call, and get no answer.
    pub async fn answer(&self, request: Vec<u8>) -> Option<Vec<u8>> {
        incoming::answer(&self.hub, None, &request).await
    }

    /// The same, of a node that has shown the key of this name: it is obeyed as no other one.
    pub async fn answer_node(&self, caller: &NodeName, request: Vec<u8>) -> Option<Vec<u8>> {
        incoming::answer(&self.hub, Some(caller), &request).await
    }

    /// What this node knows of its cluster.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        status::status(&self.hub)
    }

    /// How this node's Raft is now, for simulations and tests: openraft's view of itself, a moment
    /// ago, and the log as it is in memory.
    #[must_use]
    pub fn inspect(&self) -> RaftView {
        view::inspect(&self.hub)
    }

    /// Looks into the catalog as applied here. Keep it short: applying waits meanwhile.
    pub fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        self.hub.catalog.with(|catalog, _| look(catalog))
    }

    /// This node leaves on purpose: it is not ready any more, and if the cluster ends its life, it
    /// begins no other. If it leads, it begins to hand leadership over: whether that was done is
    /// told within a second. Closed without a word: nobody knows.
    pub fn leave(&self) -> Option<oneshot::Receiver<bool>> {
        self.hub.leave();
        if !self.status().is_leader() {
            return None;
        }
        let (done, handing_over) = oneshot::channel();
        let consensus = self.clone();
        self.spawn(async move {
            let has_moved = consensus.hand_over().await;
            // A node that ended meanwhile does not want to know.
            match done.send(has_moved) {
                Ok(()) | Err(_) => {}
            }
        });
        Some(handing_over)
    }

    async fn hand_over(&self) -> bool {
        match self.hub.timeout(HAND_OVER_TIMEOUT, self.transfer_leader(None)).await {
            Ok(Ok(leader)) => {
                tracing::info!(%leader, "leadership handed over");
                true
            }
            Ok(Err(error)) => {
                tracing::info!(%error, "leadership was not handed over");
                false
            }
            Err(_) => false,
        }
    }

    /// Makes a node a learner, which is promoted when it has caught up. Any node forwards this to
    /// the leader, as it does the other changes.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_member(&self, name: NodeName, endpoint: String) -> Result<(), ChangeError> {
        let name = name.as_str().to_owned();
        self.change(Change::Add { name, endpoint }).await.map(drop)
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn promote_member(&self, name: NodeName) -> Result<(), ChangeError> {
        self.change(Change::Promote { name: name.as_str().to_owned() }).await.map(drop)
    }

    /// Removes a member for ever.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove_member(&self, name: NodeName) -> Result<(), ChangeError> {
        self.change(Change::Remove { name: name.as_str().to_owned() }).await.map(drop)
    }

    /// Hands leadership over, to this member or to the one that has most of the log. Returns the
    /// new leader.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn transfer_leader(&self, to: Option<NodeName>) -> Result<NodeName, ChangeError> {
        let to = to.map(|name| name.as_str().to_owned());
        let leader = self.change(Change::Lead { to }).await?;
        leader.parse().map_err(|_| ChangeError::NoLeader)
    }

    /// Changes what becomes of the cluster's version.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_upgrade(&self, change: UpgradeChange) -> Result<(), ChangeError> {
        let change = match change {
            UpgradeChange::Hold => Change::Hold,
            UpgradeChange::Resume => Change::Resume,
            UpgradeChange::Finalize => Change::Finalize,
        };
        self.change(change).await.map(drop)
    }

    /// Spawns a task; whoever asks for this may be none.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(R::here(task));
    }

    /// Makes a change, at whoever leads.
    async fn change(&self, change: Change) -> Result<String, ChangeError> {
        let deadline = self.hub.now() + CHANGE_TIMEOUT;
        let target = RemovalTarget::of(&self.hub, &change);
        // What an attempt came to of which it is not known whether it made the change.
        let mut unsure: Option<String> = None;
        let mut is_first = true;
        loop {
            let is_known = is_first || target.is_known_now(&self.hub, deadline).await;
            is_first = false;
            let attempt = match target.check(&self.hub) {
                Ok(()) if is_known => self.attempt(change.clone()).await,
                Ok(()) => Err(Attempt::Refused(Refusal::NotLeader { leader: None })),
                Err(refusal) => Err(Attempt::Refused(refusal)),
            };
            let refusal = match attempt {
                Ok(leader) => return Ok(leader),
                Err(Attempt::Refused(refusal)) => refusal,
                Err(Attempt::Unanswered(failure)) => {
                    unsure = Some(format!("the leader was asked, and gave no answer ({failure})"));
                    Refusal::Unavailable
                }
            };
            if unsure.is_some() && membership::is_made(&change, &refusal) {
                return Ok(self.hub.name().as_str().to_owned());
            }
            if let Refusal::Change { reason } = &refusal
                && let Some(what) = reason.strip_prefix(OUTCOME_UNKNOWN)
            {
                unsure = Some(what.to_owned());
            }
            if is_passing(&refusal, unsure.is_some()) && self.hub.now() < deadline {
                self.hub.sleep(CHANGE_RETRY_PAUSE).await;
                continue;
            }
            return Err(match unsure.filter(|_| is_passing(&refusal, true)) {
                Some(what) => outcome_unknown(&change, &what),
                None => change_error(refusal),
            });
        }
    }

    async fn attempt(&self, change: Change) -> Result<String, Attempt> {
        let target = match self.hub.leader() {
            Some(Leader::Me) => {
                return membership::change(&self.hub, change).await.map_err(Attempt::Refused);
            }
            Some(Leader::Other { target, .. }) => target,
            None => return Err(Attempt::Refused(Refusal::NotLeader { leader: None })),
        };
        let request = Request::Change(change);
        let reply = self.hub.peers.call(&target, Lane::Bulk, request, CHANGE_ATTEMPT_TIMEOUT).await;
        match reply {
            Ok(Reply::Changed { leader }) => Ok(leader),
            // What 0.1.0 says of a change that it began and could not finish in time.
            Err(CallFailure::Refused(Refusal::Unavailable)) => {
                Err(Attempt::Unanswered("it could not finish the change now".to_owned()))
            }
            Err(CallFailure::Refused(refusal)) => Err(Attempt::Refused(refusal)),
            // It was not even sent.
            Err(CallFailure::Transport(
                CallError::Busy | CallError::NoAddress | CallError::Refused,
            )) => Err(Attempt::Refused(Refusal::NotLeader { leader: None })),
            Err(failure) => Err(Attempt::Unanswered(failure.to_string())),
            Ok(_) => Err(Attempt::Unanswered("it answered something else".to_owned())),
        }
    }

    /// Makes a snapshot and drops the part of the log that it stands for. Returns its index and
    /// the encoded catalog.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn snapshot(&self) -> Result<(u64, Vec<u8>), ChangeError> {
        let raft = &self.hub.raft;
        let fatal = |_| ChangeError::Refused { reason: "this node ends".to_owned() };
        let wanted = self.hub.catalog.with(|_, applied| applied.map(|applied| applied.index));
        let nothing = || ChangeError::Refused { reason: "this node has no state yet".to_owned() };
        let wanted = wanted.ok_or_else(nothing)?;
        raft.trigger().snapshot().await.map_err(fatal)?;
        let made =
            self.hub.until(|now| now.snapshot.as_ref().is_some_and(|made| made.index >= wanted));
        if self.hub.timeout(SNAPSHOT_TIMEOUT, made).await.is_err() {
            return Err(ChangeError::Timeout { seconds: SNAPSHOT_TIMEOUT.as_secs() });
        }
        let snapshot = raft.get_snapshot().await;
        match snapshot {
            Ok(Some(snapshot)) => {
                let index = snapshot.meta.last_log_id.map_or(0, |log_id| log_id.index);
                Ok((index, snapshot.snapshot))
            }
            Ok(None) => Err(nothing()),
            Err(_) => Err(ChangeError::Refused { reason: "this node ends".to_owned() }),
        }
    }

    /// Ends this node's part. The store is closed when this returns.
    pub async fn shutdown(&self) {
        self.hub.end();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
        if self.hub.raft.shutdown().await.is_err() {
            tracing::warn!("consensus ended by a panic");
        }
        if let Err(error) = self.hub.log.close().await {
            tracing::warn!(%error, "the data directory was not closed properly");
        }
    }
}

/// Why an attempt at a change did not make it.
#[derive(Debug)]
enum Attempt {
    /// The leader refused it.
    Refused(Refusal),
    /// Whether the leader made it is not known.
    Unanswered(String),
}

/// Whether the next attempt may fare better; `is_unsure`: an earlier one may have made the change.
fn is_passing(refusal: &Refusal, is_unsure: bool) -> bool {
    match refusal {
        Refusal::NotLeader { .. } | Refusal::Unavailable => true,
        Refusal::Change { reason } => {
            reason.starts_with(OUTCOME_UNKNOWN)
                || is_unsure && (reason.starts_with(CHANGE_IN_PROGRESS) || reason == BUSY)
        }
        Refusal::UnknownMember { .. }
        | Refusal::NameInUse
        | Refusal::Format { .. }
        | Refusal::ForeignCluster
        | Refusal::NotTarget
        | Refusal::Removed
        | Refusal::Version { .. } => false,
    }
}

fn outcome_unknown(change: &Change, what: &str) -> ChangeError {
    let look = match change {
        Change::Add { .. } | Change::Promote { .. } | Change::Remove { .. } => {
            "`majordomo member list` shows the members, and the change while it is in progress: it is \
             finished without help once enough voters answer. Ask again only if it shows neither"
        }
        Change::Lead { .. } => "`majordomo status` shows which node leads",
        Change::Hold | Change::Resume | Change::Finalize => {
            "`majordomo upgrade status` shows what became of it"
        }
    };
    ChangeError::OutcomeUnknown { reason: format!("{OUTCOME_UNKNOWN}{what}; {look}") }
}

fn change_error(refusal: Refusal) -> ChangeError {
    match refusal {
        Refusal::Change { reason } => ChangeError::Refused { reason },
        Refusal::UnknownMember { name, members } => ChangeError::UnknownMember { name, members },
        Refusal::NameInUse => {
            ChangeError::Refused { reason: "a living member has that name".to_owned() }
        }
        Refusal::NotLeader { .. } => ChangeError::NoLeader,
        Refusal::Unavailable => ChangeError::Timeout { seconds: CHANGE_TIMEOUT.as_secs() },
        Refusal::Format { .. }
        | Refusal::ForeignCluster
        | Refusal::NotTarget
        | Refusal::Removed
        | Refusal::Version { .. } => {
            ChangeError::Refused { reason: format!("the leader refused: {refusal:?}") }
        }
    }
}

/// Consensus that ends by itself ends the node.
async fn watch_for_the_end<R: Runtime>(hub: Arc<Hub<R>>) {
    hub.until(|now| now.running_state.is_err()).await;
    let stop = match hub.metrics().running_state {
        Ok(()) | Err(Fatal::Stopped) => return,
        Err(Fatal::StorageError(error)) => {
            let reason = hub.log.failure().unwrap_or_else(|| error.to_string());
            Stop::Storage { reason }
        }
        Err(error @ Fatal::Panicked) => Stop::Fatal { reason: error.to_string() },
    };
    hub.stop(stop).await;
}

fn raft_config(config: &ConsensusConfig) -> openraft::Config {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let election_timeout_max = milliseconds(config.election_timeout_max);
    openraft::Config {
        cluster_name: "majordomo".to_owned(),
        heartbeat_interval: milliseconds(config.heartbeat_interval),
        election_timeout_min: milliseconds(config.election_timeout_min),
        election_timeout_max,
        // A returning node must not depose a leader that everybody else hears.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected again: its state machine was in memory.
        enable_leader_restore: Some(false),
        // At least the lease and an election timeout; see openraft's issue 2080.
        quorum_loss_probe_interval: Some(election_timeout_max.saturating_mul(3)),
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        max_payload_entries: ENTRIES_PER_CALL,
        // Links come back within this after a partition.
        backoff: "20ms 50ms 100ms 100ms 100ms".to_owned(),
        ..openraft::Config::default()
    }
}

#[cfg(test)]
mod tests;
