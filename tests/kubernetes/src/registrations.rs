//! Where the workers of a load were registered and since when, as they saw it themselves, and whether an
//! answer of `mmi.service` agrees with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster_tests::{RegistrationEvent, now_ns, registration_log};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;

/// How late a worker may notice that its node has ended its registration.
const NOTICED_WITHIN: Duration = Duration::from_millis(500);

/// One registration of one worker, from its acknowledgement until the worker knew of its end; times in
/// nanoseconds of [`now_ns`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The worker's number.
    pub worker: usize,
    /// The node, by its address.
    pub endpoint: String,
    /// Acknowledged.
    pub from: u64,
    /// Over; none: it goes on.
    pub until: Option<u64>,
}

/// A question to `mmi.service` that was answered with 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFound {
    /// Just before it was asked.
    pub asked_at: u64,
    /// Just after the answer came.
    pub answered_at: u64,
}

/// Something was done to a pod, after which nothing that was registered there counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disruption {
    /// The pod's ordinal.
    pub pod: usize,
    /// Just before it was done.
    pub at: u64,
}

impl Registration {
    /// The pod whose name the address begins with: `tcp://majordomo-2.mdp-peers:5555`.
    #[must_use]
    pub fn pod(&self) -> Option<usize> {
        let (name, _) = self.endpoint.trim_start_matches("tcp://").split_once('.')?;
        name.rsplit_once('-')?.1.parse().ok()
    }

    /// Until when its pod was surely well and knew of it.
    fn sure_until(&self, disruptions: &[Disruption]) -> u64 {
        let noticed_within = u64::try_from(NOTICED_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        let over = self.until.map_or(u64::MAX, |until| until.saturating_sub(noticed_within));
        let at_its_pod = |one: &&Disruption| Some(one.pod) == self.pod() && one.at >= self.from;
        let disrupted = disruptions.iter().filter(at_its_pod).map(|one| one.at).min();
        over.min(disrupted.unwrap_or(u64::MAX))
    }
}

/// The answers that were wrong: from the question to the answer, one worker was acknowledged at a pod that
/// nothing had been done to. Where no worker was, 404 is true.
#[must_use]
pub fn false_answers(
    answers: &[NotFound],
    registrations: &[Registration],
    disruptions: &[Disruption],
) -> Vec<NotFound> {
    let sure: Vec<(u64, u64)> =
        registrations.iter().map(|one| (one.from, one.sure_until(disruptions))).collect();
    let is_false = |answer: &&NotFound| {
        sure.iter().any(|(from, until)| *from <= answer.asked_at && answer.answered_at <= *until)
    };
    answers.iter().filter(is_false).copied().collect()
}

/// How many workers are registered at each pod.
#[must_use]
pub fn by_pod(registrations: &[Registration]) -> BTreeMap<usize, usize> {
    let mut count_by_pod = BTreeMap::new();
    let open = registrations.iter().filter(|registration| registration.until.is_none());
    for pod in open.filter_map(Registration::pod) {
        *count_by_pod.entry(pod).or_default() += 1;
    }
    count_by_pod
}

/// What the workers of a process saw. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Registrations(Arc<Mutex<Vec<Registration>>>);

impl Registrations {
    /// Listens to the library's log on the thread of a worker.
    #[must_use]
    pub fn listener(&self, worker: usize) -> impl Subscriber + Send + Sync + use<> {
        let registrations = self.clone();
        registration_log(move |event| match event {
            RegistrationEvent::Registered { endpoint } => registrations.begin(worker, endpoint),
            RegistrationEvent::Over { .. } => registrations.end(worker),
        })
    }

    /// All that go on.
    #[must_use]
    pub fn open(&self) -> Vec<Registration> {
        self.lock().iter().filter(|one| one.until.is_none()).cloned().collect()
    }

    /// All that go on, and those that have ended since this was asked last.
    #[must_use]
    pub fn take(&self) -> Vec<Registration> {
        let mut registrations = self.lock();
        let taken = registrations.clone();
        registrations.retain(|one| one.until.is_none());
        taken
    }

    fn begin(&self, worker: usize, endpoint: String) {
        self.end(worker);
        self.lock().push(Registration { worker, endpoint, from: now_ns(), until: None });
    }

    fn end(&self, worker: usize) {
        let mut registrations = self.lock();
        let open = registrations.iter_mut().filter(|one| one.worker == worker);
        open.for_each(|one| one.until = one.until.or_else(|| Some(now_ns())));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Registration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn registration(pod: usize, from: u64, until: Option<u64>) -> Registration {
        let endpoint = format!("tcp://majordomo-{pod}.mdp-peers.mdp.svc.cluster.local:5555");
        Registration { worker: 0, endpoint, from, until }
    }

    fn is_false(registration: Registration, disruptions: &[Disruption]) -> bool {
        let answer = NotFound { asked_at: 10 * SECOND, answered_at: 11 * SECOND };
        !false_answers(&[answer], &[registration], disruptions).is_empty()
    }

    #[test]
    fn answer_is_false_while_a_worker_is_acknowledged() {
        assert!(is_false(registration(1, SECOND, None), &[]));
        assert!(is_false(registration(1, 10 * SECOND, Some(12 * SECOND)), &[]));

        assert!(false_answers(&[], &[registration(1, SECOND, None)], &[]).is_empty());
        let asked_after = registration(1, 10 * SECOND + 1, None);
        assert!(!is_false(asked_after, &[]), "acknowledged after the question");
        let ended = registration(1, SECOND, Some(11 * SECOND + SECOND / 4));
        assert!(!is_false(ended, &[]), "its node may have ended it before the answer");
    }

    #[test]
    fn worker_at_a_pod_that_was_killed_or_cut_off_does_not_count() {
        let worker = || registration(1, SECOND, None);
        let disruption = |pod, at| [Disruption { pod, at }];

        assert!(!is_false(worker(), &disruption(1, 9 * SECOND)));
        assert!(!is_false(worker(), &disruption(1, 10 * SECOND + 1)));
        assert!(is_false(worker(), &disruption(2, 9 * SECOND)), "at another pod");
        assert!(is_false(worker(), &disruption(1, 0)), "before it was registered there");
        assert!(is_false(worker(), &disruption(1, 12 * SECOND)), "after the answer");
    }

    #[test]
    fn workers_are_counted_by_pod() {
        let registrations = [
            registration(0, 1, None),
            registration(2, 1, None),
            registration(2, 1, None),
            registration(1, 1, Some(2)),
        ];

        assert_eq!(by_pod(&registrations), BTreeMap::from([(0, 1), (2, 2)]));
        let outside =
            Registration { endpoint: "tcp://mdp:5555".to_owned(), ..registration(0, 1, None) };
        assert_eq!(outside.pod(), None);
    }

    #[test]
    fn registrations_of_a_worker_follow_its_log() {
        let registrations = Registrations::default();

        tracing::subscriber::with_default(registrations.listener(7), || {
            let endpoint = "tcp://majordomo-1.mdp-peers:5555";
            tracing::info!(target: "mdp_client::worker", endpoint, "registered");
            tracing::info!(target: "mdp_client::worker", endpoint, why = "x", "registration over");
            tracing::info!(target: "mdp_client::worker", endpoint, "registered");
            tracing::info!(target: "elsewhere", endpoint, "registration over");
        });

        let seen = registrations.take();
        assert_eq!(seen.iter().map(Registration::pod).collect::<Vec<_>>(), [Some(1), Some(1)]);
        assert_eq!(seen.iter().map(|one| one.worker).collect::<Vec<_>>(), [7, 7]);
        assert!(seen[0].until.is_some() && seen[1].until.is_none());
        assert_eq!(registrations.take().len(), 1, "what has ended is told once");
    }
}
