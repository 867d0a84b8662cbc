//! Everything that is known about one request, in the order of time.

use super::{History, SubmissionId};

/// How many lines of a story are told at most.
const LINES_MAX: usize = 80;

/// The story of a request: all its submissions, and the faults from one second before the first
/// until the last ended.
pub(super) fn of_request(history: &History, id: SubmissionId) -> String {
    let is_it = |other: SubmissionId| (other.client, other.request) == (id.client, id.request);
    let submissions: Vec<_> =
        history.submissions.iter().filter(|submission| is_it(submission.id)).collect();
    let executions: Vec<_> =
        history.executions.iter().filter(|execution| is_it(execution.id)).collect();
    let from = submissions.iter().map(|submission| submission.sent_at).min();
    let from = from.or_else(|| executions.iter().map(|execution| execution.at).min());
    let until = submissions.iter().map(|submission| submission.outcome.at()).max();
    let mut lines: Vec<(u64, String)> = Vec::new();
    for submission in submissions {
        let (id, service, node) = (submission.id, submission.service, submission.node);
        let sent = format!("{id} sent to node {node}, service {service}");
        lines.push((submission.sent_at, sent));
        lines.push((submission.outcome.at(), format!("{id}: {:?}", submission.outcome)));
    }
    for execution in executions {
        let (id, worker, node) = (execution.id, execution.worker, execution.node);
        lines.push((execution.at, format!("{id} executed by worker {worker} of node {node}")));
    }
    for stray in
        history.strays.iter().filter(|stray| stray.answers.as_ref().is_ok_and(|id| is_it(*id)))
    {
        lines.push((
            stray.at,
            format!("reply to {:?} came to client {}", stray.answers, stray.client),
        ));
    }
    lines.extend(surroundings(history, from.unwrap_or_default(), until.unwrap_or(u64::MAX)));
    tell(lines, from.unwrap_or_default())
}

/// What happened around a moment.
pub(super) fn of_moment(history: &History, at: u64) -> String {
    tell(surroundings(history, at, at), at)
}

fn surroundings(history: &History, from: u64, until: u64) -> Vec<(u64, String)> {
    const SECOND: u64 = 1_000_000_000;
    let mut lines = Vec::new();
    let overlaps = |begin: u64, end: u64| begin <= until && end.saturating_add(SECOND) >= from;
    for fault in history.faults.iter().filter(|fault| overlaps(fault.from, fault.until)) {
        lines.push((fault.from, format!("{:?} begins", fault.kind)));
        lines.push((fault.until, format!("{:?} is over", fault.kind)));
    }
    for parting in history.partings.iter().filter(|parting| overlaps(parting.at, parting.at)) {
        let (worker, node) = (parting.worker, parting.node);
        lines.push((parting.at, format!("worker {worker} parts from node {node}")));
    }
    lines
}

fn tell(mut lines: Vec<(u64, String)>, zero: u64) -> String {
    lines.sort();
    let lines = lines.iter().take(LINES_MAX).map(|(at, text)| {
        let milliseconds = at.abs_diff(zero) / 1_000_000;
        let sign = if at < &zero { '-' } else { '+' };
        format!("  {sign}{milliseconds:>6} ms  {text}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
