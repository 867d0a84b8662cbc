//! Puts a history together.

use std::time::Duration;

use super::{
    Account, Delivery, Execution, Explanation, Fault, FaultKind, History, Outcome, Rules,
    Submission, SubmissionId, Violation, Wrong,
    counted::{ATTEMPTS_EXHAUSTED, EXPIRED, Missing, OUTCOME_UNKNOWN},
    story,
};

/// How many violations of one kind are told.
const TOLD_MAX: usize = 3;

/// Accounts for everything in a history.
#[must_use]
pub fn account(history: &History, rules: &Rules) -> Account {
    let mut executions = history.executions.clone();
    executions.sort_unstable_by_key(|execution| (execution.id, execution.at));
    let mut check =
        Check { history, rules, executions, account: Account::default(), missing: Vec::new() };
    check.count_faults();
    check.look_at_strays();
    check.look_at_executions();
    for submission in &history.submissions {
        check.look_at_submission(submission);
    }
    check.look_at_missing();
    check.look_at_partings();
    check.account
}

pub(super) struct Check<'a> {
    pub(super) history: &'a History,
    rules: &'a Rules,
    /// By id and time.
    executions: Vec<Execution>,
    account: Account,
    /// Losses that a node must have counted.
    pub(super) missing: Vec<Missing>,
}

impl Check<'_> {
    fn wrong(&mut self, kind: Wrong, id: SubmissionId) {
        let history = self.history;
        self.violate(kind, || format!("{kind:?}: {id}\n{}", story::of_request(history, id)));
    }

    /// Counts what may not have happened, and tells the first few of a kind.
    pub(super) fn violate(&mut self, kind: Wrong, tell: impl FnOnce() -> String) {
        let count = self.account.wrong.entry(kind).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.account.violations.push(Violation { kind, story: tell() });
        }
    }

    pub(super) fn explain(&mut self, delivery: Delivery, as_what: Explanation) {
        *self.account.explained.entry((as_what, delivery)).or_default() += 1;
    }

    fn count_faults(&mut self) {
        for fault in &self.history.faults {
            *self.account.faults.entry(fault.kind.name()).or_default() += 1;
        }
    }

    fn look_at_strays(&mut self) {
        for stray in &self.history.strays {
            match &stray.answers {
                // Its own, and it does not wait for it any more: it came twice.
                Ok(id) if id.client == stray.client => self.wrong(Wrong::SecondReply, *id),
                Ok(id) => self.wrong(Wrong::WrongClient, *id),
                Err(body) => {
                    let client = stray.client;
                    self.violate(Wrong::WrongClient, || format!("client {client} got {body:?}"));
                }
            }
        }
    }

    /// Every execution was asked for; no request was executed too often.
    fn look_at_executions(&mut self) {
        let mut sent: Vec<&Submission> = self.history.submissions.iter().collect();
        sent.sort_unstable_by_key(|submission| submission.id);
        let mut wrong = Vec::new();
        // At-most-once counts over all submissions of a request.
        let mut last_request = None;
        for group in self.executions.chunk_by(|one, other| one.id == other.id) {
            let Some(first) = group.first() else { continue };
            let Ok(at) = sent.binary_search_by_key(&first.id, |one| one.id) else {
                wrong.push((Wrong::NeverSent, first.id));
                continue;
            };
            let Some(submission) = sent.get(at).copied() else { continue };
            let Submission { id, service, node: origin, .. } = *submission;
            self.account.executed += group.len();
            self.account.relayed += group.iter().filter(|one| one.node != origin).count();
            let request = (id.client, id.request);
            match self.rules.services.get(service) {
                Some(Delivery::AtMostOnce) if group.len() > 1 || last_request == Some(request) => {
                    wrong.push((Wrong::ExecutedTwice, id));
                }
                Some(Delivery::AtLeastOnce) if group.len() > self.rules.attempts_max => {
                    wrong.push((Wrong::TooManyAttempts, id));
                }
                Some(Delivery::AtMostOnce | Delivery::AtLeastOnce) if group.len() > 1 => {
                    if !self.is_forced(group, submission) {
                        wrong.push((Wrong::ExecutedAgainUnforced, id));
                    }
                }
                Some(Delivery::AtMostOnce | Delivery::AtLeastOnce) | None => {}
            }
            last_request = Some(request);
        }
        wrong.into_iter().for_each(|(kind, id)| self.wrong(kind, id));
    }

    /// Whether each execution but one met with a fault. Not always the last one is left: a worker
    /// that was frozen executes what it had before, when another one has long answered.
    fn is_forced(&self, group: &[Execution], submission: &Submission) -> bool {
        let lost = group.iter().filter(|one| self.may_be_lost(one, submission)).count();
        lost + 1 >= group.len()
    }

    /// Whether a fault may have kept the reply of an execution from its origin: one that hit the worker, its
    /// node, the origin or the link between the two while request and reply were under way.
    fn may_be_lost(&self, execution: &Execution, submission: &Submission) -> bool {
        let Execution { worker, node, .. } = *execution;
        let Submission { sent_at, node: origin, .. } = *submission;
        self.is_any(sent_at, self.due_of(execution), |kind| match kind {
            FaultKind::WorkerKilled(other) | FaultKind::WorkerFrozen(other) => other == worker,
            FaultKind::NodeKilled(other) => other == node,
            FaultKind::NodeFrozen(other) => other == node || other == origin,
            // Cutting one off cuts every link that it has.
            FaultKind::NodeCutOff(other) => node != origin && (other == node || other == origin),
            FaultKind::LinkCut(one, other) => {
                (one, other) == (node, origin) || (other, one) == (node, origin)
            }
        })
    }

    /// When the reply of an execution is at its client, if nothing holds it up.
    fn due_of(&self, execution: &Execution) -> u64 {
        self.due_after(execution.answered_at.unwrap_or(execution.at))
    }

    /// When something is where it belongs that was on its way then, if nothing holds it up.
    fn due_after(&self, at: u64) -> u64 {
        at.saturating_add(nanoseconds(self.rules.under_way))
    }

    /// Whether one of these faults reached into this time.
    fn is_any(&self, from: u64, until: u64, is_it: impl Fn(FaultKind) -> bool) -> bool {
        self.faults_in(from, until).any(|fault| is_it(fault.kind))
    }

    fn faults_in(&self, from: u64, until: u64) -> impl Iterator<Item = &Fault> {
        self.faults_within(from, until, self.rules.reach)
    }

    fn faults_within(
        &self,
        from: u64,
        until: u64,
        reach: Duration,
    ) -> impl Iterator<Item = &'_ Fault> {
        let reach = nanoseconds(reach);
        self.history
            .faults
            .iter()
            .filter(move |fault| fault.from <= until && fault.until.saturating_add(reach) >= from)
    }

    fn executions_of(&self, id: SubmissionId) -> &[Execution] {
        let from = self.executions.partition_point(|execution| execution.id < id);
        let until = self.executions.partition_point(|execution| execution.id <= id);
        self.executions.get(from..until).unwrap_or_default()
    }

    fn look_at_submission(&mut self, submission: &Submission) {
        let Some(delivery) = self.rules.services.get(submission.service).copied() else { return };
        let Submission { id, .. } = *submission;
        let times = self.executions_of(id).len();
        match submission.outcome {
            Outcome::Answered { .. } if times == 0 => self.wrong(Wrong::Invented, id),
            Outcome::Answered { .. } if times == 1 => {
                self.explain(delivery, Explanation::Answered);
            }
            Outcome::Answered { .. } => self.explain(delivery, Explanation::AnsweredAgain),
            Outcome::ConnectionLost { .. } | Outcome::Silence { .. } => {
                self.look_at_loss(submission, delivery);
            }
        }
    }

    fn look_at_loss(&mut self, submission: &Submission, delivery: Delivery) {
        let Submission { id, node: origin, sent_at, outcome, .. } = *submission;
        let until = outcome.at();
        // What comes later hits nothing of a request that was answered long before.
        if !self.is_held_up(submission) {
            return self.wrong(Wrong::Unexplained, id);
        }
        let killed = |kind| kind == FaultKind::NodeKilled(origin);
        let frozen = |kind| kind == FaultKind::NodeFrozen(origin);
        // A node that was killed is as good as any other once it is ready again.
        if self.overlapping(sent_at, until).any(|fault| killed(fault.kind)) {
            return self.explain(delivery, Explanation::OriginKilled);
        }
        if matches!(outcome, Outcome::ConnectionLost { .. }) {
            // With the connection all is lost that it owed, whatever became of it.
            return match self.is_any(sent_at, until, frozen) {
                true => self.explain(delivery, Explanation::ClientLost),
                false => self.wrong(Wrong::Unexplained, id),
            };
        }
        let set = self.counted_as(submission, delivery);
        self.missing.push(Missing { id, delivery, set, origin, sent_at, until });
    }

    /// Whether a fault held the request or its replies up, so that what came later could hit them, too.
    /// Every reply must have been held up: one that was not came to its client.
    fn is_held_up(&self, submission: &Submission) -> bool {
        let Submission { id, service, node: origin, sent_at, .. } = *submission;
        let executions = self.executions_of(id);
        if executions.is_empty() {
            let concerns = |kind| self.concerns(kind, service, origin);
            return self.is_any(sent_at, self.due_after(sent_at), concerns);
        }
        let killed = |kind| kind == FaultKind::NodeKilled(origin);
        executions.iter().all(|execution| {
            self.may_be_lost(execution, submission)
                || self.is_any(sent_at, self.due_of(execution), killed)
        })
    }

    fn overlapping(&self, from: u64, until: u64) -> impl Iterator<Item = &Fault> {
        let overlaps = move |fault: &&Fault| fault.from <= until && fault.until >= from;
        self.history.faults.iter().filter(overlaps)
    }

    /// As what a node may have counted the loss of a request that was held up: a set.
    fn counted_as(&self, submission: &Submission, delivery: Delivery) -> u8 {
        let Submission { id, service, node: origin, sent_at, outcome, .. } = *submission;
        match delivery {
            // It expires while it waits.
            Delivery::AtMostOnce if self.executions_of(id).is_empty() => OUTCOME_UNKNOWN | EXPIRED,
            Delivery::AtMostOnce => OUTCOME_UNKNOWN,
            Delivery::AtLeastOnce => {
                let concerns = |fault: &&Fault| self.concerns(fault.kind, service, origin);
                let losses = self.faults_in(sent_at, outcome.at()).filter(concerns).count();
                if losses >= self.rules.attempts_max {
                    EXPIRED | ATTEMPTS_EXHAUSTED
                } else {
                    EXPIRED
                }
            }
        }
    }

    /// Whether a fault hits those who may execute requests of a service, or the way there.
    fn concerns(&self, kind: FaultKind, service: usize, origin: usize) -> bool {
        match kind {
            FaultKind::NodeKilled(_) | FaultKind::NodeFrozen(_) | FaultKind::NodeCutOff(_) => true,
            FaultKind::LinkCut(one, other) => one == origin || other == origin,
            FaultKind::WorkerKilled(worker) | FaultKind::WorkerFrozen(worker) => {
                self.rules.worker_services.get(worker) == Some(&service)
            }
        }
    }

    /// A worker that lives is not sent away, and hears of its node, unless something happened.
    fn look_at_partings(&mut self) {
        for parting in &self.history.partings {
            let concerns = |kind| match kind {
                FaultKind::WorkerKilled(worker) | FaultKind::WorkerFrozen(worker) => {
                    worker == parting.worker
                }
                FaultKind::NodeKilled(node) | FaultKind::NodeFrozen(node) => node == parting.node,
                // A node that stands alone may not know whether it was taken for gone.
                FaultKind::NodeCutOff(_) => true,
                FaultKind::LinkCut(..) => false,
            };
            // It may have begun some time ago to count as silent.
            let reach = self.rules.parting_reach;
            let is_forced =
                self.faults_within(parting.at, parting.at, reach).any(|fault| concerns(fault.kind));
            if !is_forced {
                let (worker, node, history) = (parting.worker, parting.node, self.history);
                self.violate(Wrong::WorkerLostUnforced, || {
                    let around = story::of_moment(history, parting.at);
                    format!(
                        "worker {worker} parted from node {node}, and nothing was wrong:\n{around}"
                    )
                });
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}
