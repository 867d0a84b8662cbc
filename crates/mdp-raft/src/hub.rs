//! What the parts of consensus share: the Raft, the peers, the catalog, and what this node knows.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mdp_catalog::{CatalogEntry, NodeId, NodeName};
use openraft::{async_runtime::watch::WatchReceiver as _, errors::RaftError};
use openraft_rt::{AsyncRuntime as _, Instant as _};
use tokio::sync::Semaphore;

use crate::{
    ConsensusConfig, News, NewsSender, NotReady, Stop,
    acquaintances::Acquaintances,
    admission::RefusedCalls,
    calls::Refusal,
    clock::{Instant, Sleep, Timeout, now, timeout, timeout_at},
    incoming::SnapshotAssembly,
    lines::LineLimits,
    membership::Unanswered,
    peers::{Peers, Target},
    runtime::{Runtime, random_bytes},
    state_machine::{SharedCatalog, StateMachine},
    store::{IdentityStore, LogStore},
    types::{Command, Member, Membership, TypeConfig},
    upgrade::Settling,
};

pub(crate) type Raft<R> = openraft::Raft<TypeConfig<R>, StateMachine>;
pub(crate) type Metrics<R> = openraft::RaftMetrics<TypeConfig<R>>;

/// How many proposals of this node may be under way.
const PROPOSALS_MAX: usize = 64;
/// How many rounds of reads of this node may be under way.
const ROUNDS_MAX: usize = 16;

/// For how many election timeouts a leader that is not heard still counts as one.
const LEADERLESS_ELECTION_TIMEOUTS: u32 = 2;

/// For how long the status names an unknown node that wanted to lead this one.
const UNKNOWN_LEADER_FOR: Duration = Duration::from_secs(10);

/// Shared by the tasks of one node's consensus.
#[derive(Debug)]
pub(crate) struct Hub<R: Runtime> {
    pub(crate) config: ConsensusConfig,
    pub(crate) raft: Raft<R>,
    pub(crate) peers: Peers<R>,
    pub(crate) identity: IdentityStore,
    pub(crate) log: LogStore,
    pub(crate) catalog: SharedCatalog,
    pub(crate) news: NewsSender,
    /// Random: tells this process from every other that had or will have this node's name.
    pub(crate) process: u64,
    pub(crate) state: State<R>,
}

/// What changes while a node takes part.
#[derive(Debug)]
pub(crate) struct State<R: Runtime> {
    /// A place for each proposal that is under way.
    pub(crate) proposals: Arc<Semaphore>,
    /// A place for each round of reads that is under way.
    pub(crate) rounds: Semaphore,
    /// A piecewise snapshot on its way in.
    pub(crate) assembly: Mutex<SnapshotAssembly>,
    /// One change of members at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Since when a change of members has been in progress, as far as this node knows.
    pub(crate) change_seen: Mutex<Option<Instant<R>>>,
    /// When a leader was last heard.
    leader_heard: Mutex<Option<Instant<R>>>,
    /// What forming or joining the cluster waits for.
    waiting_for: Mutex<Option<NotReady>>,
    /// How long each other member has been unheard, while this node leads.
    silences: Mutex<Option<BTreeMap<u64, Duration>>>,
    /// Since when the members have run a version that is newer than the cluster's.
    pub(crate) settling: Mutex<Option<Settling<R>>>,
    /// Callers that are no members of this node's log.
    pub(crate) acquaintances: Acquaintances<R>,
    /// Calls of nodes that may not ask for it.
    pub(crate) refused_calls: RefusedCalls,
    /// Log lines that others can cause.
    pub(crate) lines: LineLimits<R>,
    /// Learners that have not answered this leader yet.
    pub(crate) unanswered: Unanswered<R>,
    /// When a node that no known node answers for last wanted to lead this one, without a leader.
    unknown_leader: Mutex<Option<Instant<R>>>,
    is_leaving: AtomicBool,
    is_over: AtomicBool,
    /// When this process began to take part.
    began: Instant<R>,
}

impl<R: Runtime> Default for State<R> {
    fn default() -> Self {
        Self {
            proposals: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            rounds: Semaphore::new(ROUNDS_MAX),
            assembly: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            change_seen: Mutex::default(),
            leader_heard: Mutex::default(),
            waiting_for: Mutex::default(),
            silences: Mutex::default(),
            settling: Mutex::default(),
            acquaintances: Acquaintances::default(),
            refused_calls: RefusedCalls::default(),
            lines: LineLimits::default(),
            unanswered: Unanswered::default(),
            unknown_leader: Mutex::default(),
            is_leaving: AtomicBool::default(),
            is_over: AtomicBool::default(),
            began: now::<R>(),
        }
    }
}

impl<R: Runtime> Hub<R> {
    pub(crate) fn name(&self) -> &NodeName {
        &self.config.name
    }

    /// This node's id.
    pub(crate) fn id(&self) -> u64 {
        *self.raft.node_id()
    }

    /// openraft's view of itself, a moment ago.
    pub(crate) fn metrics(&self) -> Metrics<R> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The members as this node's log has them.
    pub(crate) fn membership(&self) -> Membership {
        self.raft.metrics().borrow_watched().membership_config.membership().clone()
    }

    /// Whether this node's log or snapshot has a membership.
    pub(crate) fn is_initialised(&self) -> bool {
        let metrics = self.raft.metrics();
        let members = &metrics.borrow_watched().membership_config;
        members.membership().nodes().next().is_some()
    }

    /// Whether this node's log has it as a member.
    pub(crate) fn is_member(&self) -> bool {
        self.membership().get_node(&self.id()).is_some()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.id())
    }

    /// The leader by its id, and how to call it; `None`: none is known.
    pub(crate) fn leader(&self) -> Option<Leader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        if id == self.id() {
            return Some(Leader::Me);
        }
        let member = metrics.membership_config.membership().get_node(&id)?.clone();
        Some(Leader::Other { target: self.peers.target(id, &member), member })
    }

    /// For a caller that should ask the leader.
    pub(crate) fn not_leader(&self) -> Refusal {
        let leader = match self.leader() {
            Some(Leader::Other { target, member }) => {
                target.id.map(|id| (id, member.name, target.endpoint))
            }
            Some(Leader::Me) | None => None,
        };
        Refusal::NotLeader { leader }
    }

    /// A leader was heard just now.
    pub(crate) fn on_leader_heard(&self) {
        *lock(&self.state.leader_heard) = Some(self.now());
    }

    /// How long no leader was heard, and no quorum hears this node if it leads itself.
    pub(crate) fn leaderless_for(&self) -> Duration {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = if metrics.current_leader == Some(self.id()) {
            let is_alone = metrics.membership_config.membership().voter_ids().count() == 1;
            if is_alone {
                return Duration::ZERO;
            }
            metrics.last_quorum_acked.map(|at| at.elapsed())
        } else {
            lock(&self.state.leader_heard).map(|at| at.elapsed())
        };
        heard.unwrap_or(Duration::MAX)
    }

    /// Whether a leader calls this very process, or a quorum answers it as the leader.
    pub(crate) fn hears_leader(&self) -> bool {
        self.leaderless_for() <= self.config.election_timeout_max * LEADERLESS_ELECTION_TIMEOUTS
    }

    /// Whether no majority answers this node.
    pub(crate) fn is_alone(&self) -> bool {
        self.leaderless_for() > self.config.election_timeout_max
    }

    /// A node that no known node answers for wants to lead this one, which hears no leader.
    pub(crate) fn on_unknown_leader(&self) {
        *lock(&self.state.unknown_leader) = Some(self.now());
    }

    /// Whether that happened a moment ago.
    pub(crate) fn meets_unknown_leader(&self) -> bool {
        lock(&self.state.unknown_leader).is_some_and(|at| at.elapsed() < UNKNOWN_LEADER_FOR)
    }

    /// Sets what forming or joining waits for; logs it when it changes.
    pub(crate) fn wait_for(&self, reason: Option<NotReady>) {
        let mut waiting_for = lock(&self.state.waiting_for);
        if let Some(reason) = &reason
            && waiting_for.as_ref() != Some(reason)
        {
            tracing::debug!(code = reason.code, "waiting: {}", reason.text);
        }
        *waiting_for = reason;
    }

    pub(crate) fn waiting_for(&self) -> Option<NotReady> {
        lock(&self.state.waiting_for).clone()
    }

    pub(crate) fn set_silences(&self, silences: Option<BTreeMap<u64, Duration>>) {
        *lock(&self.state.silences) = silences;
    }

    /// How long a member has been unheard: by the leader, which hears all of them, or by this node
    /// since it hears no leader. `None`: another node leads, or it is this one.
    pub(crate) fn silence_of(&self, id: u64) -> Option<Duration> {
        if id == self.id() {
            return None;
        }
        if self.hears_leader() {
            return lock(&self.state.silences).as_ref()?.get(&id).copied();
        }
        // As long as there was a leader it vouched for the others.
        let leaderless = self.leaderless_for().min(self.state.began.elapsed());
        Some(self.peers.silence_of(id).map_or(leaderless, |silence| silence.min(leaderless)))
    }

    /// The seeds as they are told to others.
    pub(crate) fn seed_list(&self) -> Vec<(String, String)> {
        let seeds = self.config.seeds.iter();
        seeds.map(|seed| (seed.name.as_str().to_owned(), seed.endpoint.clone())).collect()
    }

    /// This node leaves on purpose: it begins no new life.
    pub(crate) fn leave(&self) {
        self.state.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state.is_leaving.load(Ordering::Relaxed)
    }

    /// This node's part ends now: openraft is asked nothing more.
    pub(crate) fn end(&self) {
        self.state.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.is_over.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(&self, stop: Stop) {
        self.news.send(News::Stopped(stop)).await;
    }

    /// Writes an entry as the leader, and waits until it is applied here.
    pub(crate) async fn write(&self, entry: CatalogEntry) -> Result<(), WriteError> {
        match self.raft.client_write(Command(entry)).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(_)) => Err(WriteError::NotLeader),
            Err(RaftError::Fatal(error)) => Err(WriteError::Fatal(error.to_string())),
        }
    }

    /// Waits until openraft's view of itself is so. openraft ended: for ever.
    pub(crate) async fn until(&self, is_met: impl Fn(&Metrics<R>) -> bool) {
        let mut metrics = self.raft.metrics();
        while !is_met(&metrics.borrow_watched()) {
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether a member was removed for ever.
    pub(crate) fn is_retired(&self, id: u64) -> bool {
        self.catalog.with(|catalog, _| catalog.is_retired(NodeId(id)))
    }
}

/// What its tasks take from the machine that it runs on.
impl<R: Runtime> Hub<R> {
    pub(crate) fn now(&self) -> Instant<R> {
        now::<R>()
    }

    pub(crate) fn time_until(&self, deadline: Instant<R>) -> Duration {
        deadline.saturating_duration_since(self.now())
    }

    pub(crate) fn sleep(&self, time: Duration) -> Sleep<R> {
        R::Async::sleep(time)
    }

    pub(crate) fn timeout<F: Future>(&self, time: Duration, future: F) -> Timeout<F, Sleep<R>> {
        timeout::<R, F>(time, future)
    }

    pub(crate) fn timeout_at<F: Future>(&self, at: Instant<R>, future: F) -> Timeout<F, Sleep<R>> {
        timeout_at::<R, F>(at, future)
    }

    pub(crate) fn random_bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        random_bytes::<R, N>()
    }
}

/// Who leads.
#[derive(Clone, Debug)]
pub(crate) enum Leader {
    /// This node.
    Me,
    /// Another one.
    Other {
        /// How to call it.
        target: Target,
        /// Who it is.
        member: Member,
    },
}

/// An entry was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// This node does not lead, or not any more; whether the entry is in the log is not known.
    NotLeader,
    /// Raft ended.
    Fatal(String),
}

/// Locks; what a panic left behind is still a value.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
