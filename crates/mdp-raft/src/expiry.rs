//! The leader ends the lives of nodes that it has not heard for `node_timeout`.
//!
//! Only monotonic time counts. A new leader grants every node a full period, and so does a leader
//! that was itself paused: what it did not hear while it stood still says nothing about others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mdp_catalog::{CatalogEntry, Incarnation, NodeId, NodeState};
use mdp_mutants::{Mutant, is_on};
use openraft_rt::Instant as _;
use tokio::task::JoinSet;

use crate::{
    clock::{Instant, Ticks},
    hub::{Hub, Metrics},
    runtime::Runtime,
};

/// How often the leader looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the same thing is written at most.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// For how long [`Mutant::NoGraceOfNewLeader`] believes to lead when it is elected.
const GRACE_FORGOTTEN: Duration = Duration::from_secs(60);

/// Since when this node leads without a pause.
#[derive(Debug, Default)]
pub(crate) struct Watch<R: Runtime> {
    reign: Option<(u64, Instant<R>)>,
    looked_at: Option<Instant<R>>,
}

impl<R: Runtime> Watch<R> {
    /// Looks at the clock. Returns the moment from which silence counts, or `None`: this node does
    /// not lead.
    pub(crate) fn look(
        &mut self,
        metrics: &Metrics<R>,
        now: Instant<R>,
        pause: Duration,
    ) -> Option<Instant<R>> {
        let was_paused = self.looked_at.replace(now).is_some_and(|at| now - at > pause);
        if metrics.current_leader != Some(metrics.id) {
            self.reign = None;
            return None;
        }
        match &mut self.reign {
            Some((term, since)) if *term == metrics.current_term => {
                if was_paused && !is_on(Mutant::ExpiryAfterLeaderPause) {
                    *since = now;
                }
                Some(*since)
            }
            reign => {
                let since = now - GRACE_FORGOTTEN * u32::from(is_on(Mutant::NoGraceOfNewLeader));
                *reign = Some((metrics.current_term, since));
                Some(since)
            }
        }
    }
}

impl<R: Runtime> Watch<R> {
    /// Begins anew: everybody gets a full period.
    fn forget(&mut self) {
        self.reign = None;
    }
}

/// How long each other member has been unheard, as the leader knows it, counted from `since`.
pub(crate) fn silences<R: Runtime>(
    metrics: &Metrics<R>,
    since: Instant<R>,
) -> BTreeMap<u64, Duration> {
    let reign = since.elapsed();
    let members = metrics.membership_config.membership();
    let heard = metrics.heartbeat.as_ref();
    let silence = |id: &u64| {
        let acknowledged = heard.and_then(|heard| heard.get(id)).and_then(Option::as_ref);
        acknowledged.map_or(reign, |at| at.elapsed().min(reign))
    };
    let others = members.nodes().map(|(id, _)| *id).filter(|id| *id != metrics.id);
    others.map(|id| (id, silence(&id))).collect()
}

/// What the leader writes, beside its watch: a slow write must not look like a pause.
#[derive(Debug, Default)]
struct Writes<R: Runtime> {
    tasks: JoinSet<()>,
    begun: Vec<(CatalogEntry, Instant<R>)>,
}

impl<R: Runtime> Writes<R> {
    /// Tries to write an entry, unless that was tried a moment ago.
    fn begin(&mut self, hub: &Arc<Hub<R>>, entry: CatalogEntry) {
        let now = hub.now();
        self.begun.retain(|(_, at)| now - *at < WRITE_INTERVAL);
        while self.tasks.try_join_next().is_some() {}
        if self.begun.iter().any(|(begun, _)| *begun == entry) {
            return;
        }
        self.begun.push((entry.clone(), now));
        let hub = Arc::clone(hub);
        self.tasks.spawn(R::here(async move {
            let text = entry.to_string();
            // What is written without a majority might become true when the others are back.
            if hub.is_alone() {
                return;
            }
            if !matches!(hub.timeout(WRITE_TIMEOUT, hub.write(entry)).await, Ok(Ok(()))) {
                tracing::debug!(entry = text, "the leader could not write this");
            }
        }));
    }
}

/// Runs for ever.
pub(crate) async fn run<R: Runtime>(hub: Arc<Hub<R>>) {
    let (mut watch, mut writes) = (Watch::<R>::default(), Writes::<R>::default());
    let mut ticks = Ticks::<R>::every(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        let metrics = hub.metrics();
        let pause = LOOK_INTERVAL + hub.config.election_timeout_max;
        // A leader that no majority answers hears nobody, and that is its own trouble: everybody
        // gets a full period when they are back. Shorter trouble makes nobody look lost.
        if hub.leaderless_for() > hub.config.node_timeout / 2
            && !is_on(Mutant::ExpiryAfterLeaderPause)
        {
            watch.forget();
        }
        let Some(since) = watch.look(&metrics, hub.now(), pause) else {
            hub.set_silences(None);
            continue;
        };
        let silences = silences(&metrics, since);
        for incarnation in unheard(&hub, &silences, since) {
            tracing::debug!(%incarnation, "unheard for node_timeout");
            writes.begin(&hub, CatalogEntry::NodeGone { incarnation });
        }
        hub.set_silences(Some(silences));
    }
}

/// The lives that are over.
fn unheard<R: Runtime>(
    hub: &Hub<R>,
    silences: &BTreeMap<u64, Duration>,
    since: Instant<R>,
) -> Vec<Incarnation> {
    let reign = since.elapsed();
    let me = NodeId(hub.id());
    hub.catalog.with(|catalog, _| {
        catalog
            .nodes()
            .filter(|(_, record)| record.state != NodeState::Gone && record.node_id != me)
            // One that is no member any more is heard by nobody.
            .filter(|(_, record)| {
                *silences.get(&record.node_id.0).unwrap_or(&reign) >= hub.config.node_timeout
            })
            .map(|(name, record)| Incarnation { node: name.clone(), epoch: record.epoch })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        runtime::Tokio,
        types::{Member, Membership, StoredMembership},
    };

    type Instant = super::Instant<Tokio>;

    const PAUSE: Duration = Duration::from_millis(500);

    fn leading(term: u64) -> Metrics<Tokio> {
        let mut metrics = Metrics::new_initial(1);
        metrics.current_term = term;
        metrics.current_leader = Some(1);
        metrics
    }

    #[tokio::test(start_paused = true)]
    async fn new_leader_grants_a_full_period() {
        let mut watch = Watch::default();
        let begin = Instant::now();
        assert_eq!(watch.look(&Metrics::new_initial(1), begin, PAUSE), None);

        let elected = begin + LOOK_INTERVAL;
        assert_eq!(watch.look(&leading(3), elected, PAUSE), Some(elected));
        let later = elected + LOOK_INTERVAL;
        assert_eq!(watch.look(&leading(3), later, PAUSE), Some(elected));

        let again = later + LOOK_INTERVAL;
        assert_eq!(watch.look(&leading(5), again, PAUSE), Some(again));
    }

    #[tokio::test(start_paused = true)]
    async fn leader_that_stood_still_counts_from_its_waking() {
        let mut watch = Watch::default();
        let elected = Instant::now();
        watch.look(&leading(3), elected, PAUSE);

        let woken = elected + Duration::from_secs(10);

        assert_eq!(watch.look(&leading(3), woken, PAUSE), Some(woken));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_never_longer_than_the_reign() {
        let mut metrics = leading(3);
        let members = [(1, Member::default()), (2, Member::default()), (3, Member::default())];
        let nodes: BTreeMap<u64, Member> = members.into();
        let membership = Membership::new(vec![[1, 2, 3].into()], nodes).unwrap();
        metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
        let heard = Instant::now();
        metrics.heartbeat = Some([(2, Some(heard.into())), (3, None)].into());

        tokio::time::advance(Duration::from_secs(4)).await;
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;

        let second = Duration::from_secs(1);
        assert_eq!(silences(&metrics, since), [(2, second), (3, second)].into());
    }
}
