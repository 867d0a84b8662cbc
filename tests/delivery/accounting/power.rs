//! Whether the history could have shown that replies or requests get lost: some are taken away.

use std::time::Duration;

use cluster_tests::{Execution, FaultKind, History, Outcome, Rules, Submission, Wrong, account};

use super::{CLIENT_PATIENCE, SERVICES};

/// How many draws there are for each delivery.
const DRAWS: usize = 20;

/// One in so many replies of a service is taken away in a draw: some fifty.
const REPLIES_ONE_IN: usize = 250;

/// One in so many requests is taken away in a draw, so that no worker executes it: some two hundred, more
/// than the nodes count as dropped in a whole run.
const REQUESTS_ONE_IN: usize = 60;

/// Of the replies that came, at least this share must be missed if they had not come, each of them alone.
/// Between 0.55 and 0.71 were in runs on two cores: which nodes the faults hit, and for how long, is random.
/// With this share, one in fifty million draws of fifty replies is not seen at all.
const SEEN_ALONE_MIN: f64 = 0.3;

/// How far what is drawn may be from what is expected, in standard deviations: once in a billion draws.
const DEVIATIONS_MAX: f64 = 6.0;

/// Takes replies and requests away, and asserts that they are missed as often as the faults allow.
pub(super) fn assert_would_show_losses(
    history: &History,
    rules: &Rules,
    random: &mut fastrand::Rng,
) {
    for (service, (name, delivery)) in SERVICES.iter().enumerate().take(2) {
        let expected = expected_rate(history, rules, service);
        let (mut taken, mut seen_alone) = (0, 0);
        for draw in 0..DRAWS {
            let (without, count) = without_replies(history, service, random);
            let account = account(&without, rules);
            assert!(
                !account.violations.is_empty(),
                "draw {draw}: {count} lost replies of {name} ({delivery:?}) would not be seen"
            );
            taken += count;
            seen_alone += account.wrong_count(Wrong::Unexplained);
        }
        let rate = seen_alone as f64 / taken as f64;
        println!(
            "{name}: {taken} replies taken away in {DRAWS} draws, {:.1} % of them missed alone, {:.1} % \
             expected",
            rate * 100.0,
            expected * 100.0
        );
        assert!(expected >= SEEN_ALONE_MIN, "{name}: the faults excuse too much: {expected}");
        let deviation = (expected * (1.0 - expected) / taken as f64).sqrt();
        assert!(
            (rate - expected).abs() <= DEVIATIONS_MAX * deviation,
            "{name} ({delivery:?}): {rate} of the lost replies would be seen, not {expected}"
        );
        for draw in 0..DRAWS {
            let (without, count) = without_requests(history, service, random);
            assert!(
                !account(&without, rules).violations.is_empty(),
                "draw {draw}: {count} lost requests of {name} ({delivery:?}) would not be seen"
            );
        }
    }
}

/// Of the answered submissions of a service, the share of those that met no fault: at their worker, its node,
/// their origin or the link between the two. Only the loss of these is seen without any other. It is what
/// [`account`] must come to, said in another way.
fn expected_rate(history: &History, rules: &Rules, service: usize) -> f64 {
    let mut executions: Vec<&Execution> = history.executions.iter().collect();
    executions.sort_unstable_by_key(|execution| execution.id);
    let (mut answered, mut calm) = (0, 0);
    for submission in history.submissions.iter().filter(|one| is_answered(one, service)) {
        answered += 1;
        let from = executions.partition_point(|execution| execution.id < submission.id);
        let own = executions.iter().skip(from);
        let mut own = own.take_while(|execution| execution.id == submission.id);
        calm += usize::from(own.any(|execution| !is_hit(history, rules, submission, execution)));
    }
    f64::from(u32::try_from(calm).unwrap()) / f64::from(u32::try_from(answered).unwrap())
}

fn is_hit(history: &History, rules: &Rules, asked: &Submission, executed: &Execution) -> bool {
    let nanoseconds = |length: Duration| u64::try_from(length.as_nanos()).unwrap();
    let due = executed.answered_at.unwrap_or(executed.at) + nanoseconds(rules.under_way);
    let ends = [asked.node, executed.node];
    history.faults.iter().any(|fault| {
        let is_on_the_way = match fault.kind {
            FaultKind::WorkerKilled(worker) | FaultKind::WorkerFrozen(worker) => {
                worker == executed.worker
            }
            FaultKind::NodeKilled(node) | FaultKind::NodeFrozen(node) => ends.contains(&node),
            FaultKind::NodeCutOff(node) => ends[0] != ends[1] && ends.contains(&node),
            FaultKind::LinkCut(one, other) => ends == [one, other] || ends == [other, one],
        };
        let is_over = fault.until + nanoseconds(rules.reach) < asked.sent_at;
        is_on_the_way && fault.from <= due && !is_over
    })
}

fn is_answered(submission: &Submission, service: usize) -> bool {
    submission.service == service && matches!(submission.outcome, Outcome::Answered { .. })
}

/// Some replies do not come.
fn without_replies(
    history: &History,
    service: usize,
    random: &mut fastrand::Rng,
) -> (History, usize) {
    let mut history = history.clone();
    let taken = take_away(&mut history, service, REPLIES_ONE_IN, random);
    (history, taken.len())
}

/// Some requests come to no worker.
fn without_requests(
    history: &History,
    service: usize,
    random: &mut fastrand::Rng,
) -> (History, usize) {
    let mut history = history.clone();
    let mut taken = take_away(&mut history, service, REQUESTS_ONE_IN, random);
    taken.sort_unstable();
    history.executions.retain(|execution| taken.binary_search(&execution.id).is_err());
    (history, taken.len())
}

fn take_away(
    history: &mut History,
    service: usize,
    one_in: usize,
    random: &mut fastrand::Rng,
) -> Vec<cluster_tests::SubmissionId> {
    let patience = u64::try_from(CLIENT_PATIENCE.as_nanos()).unwrap();
    let mut taken = Vec::new();
    for submission in history.submissions.iter_mut().filter(|one| is_answered(one, service)) {
        if random.usize(0..one_in) == 0 {
            submission.outcome = Outcome::Silence { until: submission.sent_at + patience };
            taken.push(submission.id);
        }
    }
    taken
}
