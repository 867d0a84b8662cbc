//! What the controller of a StatefulSet does next: a pure function of what it wants and what is there.

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) replicas: usize,
    /// Pods with a lower ordinal stay at the revision that they have.
    pub(crate) partition: usize,
    /// What is rolled out.
    pub(crate) update: usize,
    /// What was rolled out completely the last time.
    pub(crate) current: usize,
}

/// A pod as the controller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) ordinal: usize,
    pub(crate) revision: usize,
    /// Ready for `minReadySeconds`.
    pub(crate) is_available: bool,
    pub(crate) is_terminating: bool,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create { ordinal: usize, revision: usize },
    Delete { ordinal: usize },
}

/// What to do now, for a set whose pods are managed in parallel.
///
/// As in Kubernetes 1.36: what is missing is made, at the new revision unless its ordinal is below the
/// partition, even in the middle of a rollout; what is too many is deleted; then the pod with the
/// highest ordinal that has another revision is deleted, as soon as all those above it are available.
/// A pod of the old revision that is broken does not hold that up, which is how a bad image is undone.
pub(crate) fn steps(wanted: &Wanted, pods: &[Seen]) -> Vec<Step> {
    let is_there = |ordinal| pods.iter().any(|pod| pod.ordinal == ordinal);
    let missing = (0..wanted.replicas).filter(|ordinal| !is_there(*ordinal));
    let mut steps: Vec<Step> = missing
        .map(|ordinal| {
            let is_new = ordinal >= wanted.partition;
            Step::Create { ordinal, revision: if is_new { wanted.update } else { wanted.current } }
        })
        .collect();
    let condemned = pods.iter().filter(|pod| pod.ordinal >= wanted.replicas && !pod.is_terminating);
    steps.extend(condemned.map(|pod| Step::Delete { ordinal: pod.ordinal }));
    for ordinal in (wanted.partition..wanted.replicas).rev() {
        let Some(pod) = pods.iter().find(|pod| pod.ordinal == ordinal) else { break };
        if pod.revision != wanted.update && !pod.is_terminating {
            steps.push(Step::Delete { ordinal });
            break;
        }
        if pod.is_terminating || !pod.is_available {
            break;
        }
    }
    steps
}

/// How many pods may be evicted now: `maxUnavailable` of a budget.
pub(crate) const fn disruptions_allowed(
    replicas: usize,
    available: usize,
    unavailable_max: usize,
) -> usize {
    (available + unavailable_max).saturating_sub(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pod(ordinal: usize, revision: usize, is_available: bool) -> Seen {
        Seen { ordinal, revision, is_available, is_terminating: false }
    }

    const WANTED: Wanted = Wanted { replicas: 3, partition: 0, update: 1, current: 0 };

    #[test]
    fn all_pods_are_made_at_once() {
        let made = [0, 1, 2].map(|ordinal| Step::Create { ordinal, revision: 1 });
        assert_eq!(steps(&WANTED, &[]), made);
    }

    #[test]
    fn rollout_goes_from_the_highest_ordinal_down_and_waits() {
        let old = [pod(0, 0, true), pod(1, 0, true), pod(2, 0, true)];
        assert_eq!(steps(&WANTED, &old), [Step::Delete { ordinal: 2 }]);
        let waits = [pod(0, 0, true), pod(1, 0, true), pod(2, 1, false)];
        assert_eq!(steps(&WANTED, &waits), []);
        let goes_on = [pod(0, 0, true), pod(1, 0, true), pod(2, 1, true)];
        assert_eq!(steps(&WANTED, &goes_on), [Step::Delete { ordinal: 1 }]);
        let done = [pod(0, 1, true), pod(1, 1, true), pod(2, 1, true)];
        assert_eq!(steps(&WANTED, &done), []);
    }

    #[test]
    fn broken_pod_of_the_old_revision_is_replaced_at_once() {
        let pods = [pod(0, 1, true), pod(1, 1, true), pod(2, 0, false)];
        assert_eq!(steps(&WANTED, &pods), [Step::Delete { ordinal: 2 }]);
    }

    #[test]
    fn pod_lost_in_a_rollout_comes_back_new_unless_below_the_partition() {
        let lost = [pod(1, 0, true), pod(2, 0, true)];
        let comes = Step::Create { ordinal: 0, revision: 1 };
        assert_eq!(steps(&WANTED, &lost), [comes, Step::Delete { ordinal: 2 }]);
        let canary = Wanted { partition: 2, ..WANTED };
        let stays = Step::Create { ordinal: 0, revision: 0 };
        assert_eq!(steps(&canary, &lost), [stays, Step::Delete { ordinal: 2 }]);
    }

    #[test]
    fn pods_above_the_number_are_deleted() {
        let pods = [0, 1, 2, 3, 4].map(|ordinal| pod(ordinal, 1, true));
        let deleted = [3, 4].map(|ordinal| Step::Delete { ordinal });
        assert_eq!(steps(&WANTED, &pods), deleted);
    }

    #[test]
    fn one_pod_may_be_away_and_no_second_one() {
        assert_eq!(disruptions_allowed(3, 3, 1), 1);
        assert_eq!(disruptions_allowed(3, 2, 1), 0);
        assert_eq!(disruptions_allowed(5, 3, 1), 0);
    }
}
