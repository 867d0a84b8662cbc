//! Puts a history together.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Account, Delivery, Dropped, Execution, Explanation, Fault, FaultKind, History, Outcome, Rules,
    Submission, SubmissionId, Violation, Wrong, story,
};

/// How many violations of one kind are told.
const TOLD_MAX: usize = 3;

/// What nodes count of the requests that they drop, as bits of a set.
const COUNTED: [Explanation; 3] =
    [Explanation::OutcomeUnknown, Explanation::Expired, Explanation::AttemptsExhausted];

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

struct Check<'a> {
    history: &'a History,
    rules: &'a Rules,
    /// By id and time.
    executions: Vec<Execution>,
    account: Account,
    /// Losses that a node must have counted: as one of these, bits of [`COUNTED`].
    missing: Vec<(SubmissionId, Delivery, u8)>,
}

impl Check<'_> {
    fn wrong(&mut self, kind: Wrong, id: SubmissionId) {
        if self.account.violations.iter().filter(|other| other.kind == kind).count() < TOLD_MAX {
            let story = format!("{kind:?}: {id}\n{}", story::of_request(self.history, id));
            self.account.violations.push(Violation { kind, story });
        }
    }

    fn explain(&mut self, delivery: Delivery, as_what: Explanation) {
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
                    let story = format!("client {} got {body:?}", stray.client);
                    let kind = Wrong::WrongClient;
                    self.account.violations.push(Violation { kind, story });
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
    /// that was frozen executes what it had before, when somebody else has long answered.
    fn is_forced(&self, group: &[Execution], submission: &Submission) -> bool {
        let Submission { sent_at, node: origin, .. } = *submission;
        let until = group.last().map_or(sent_at, |last| last.at);
        let may_be_lost =
            |one: &&Execution| self.may_be_lost(&Execution { at: sent_at, ..**one }, origin, until);
        group.iter().filter(may_be_lost).count() + 1 >= group.len()
    }

    /// Whether a fault may have kept a worker's reply from its origin until then.
    fn may_be_lost(&self, execution: &Execution, origin: usize, until: u64) -> bool {
        let Execution { worker, node, at, .. } = *execution;
        self.is_any(at, until, |kind| match kind {
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

    /// Whether one of these faults reached into this time.
    fn is_any(&self, from: u64, until: u64, is_it: impl Fn(FaultKind) -> bool) -> bool {
        self.faults_in(from, until).any(|fault| is_it(fault.kind))
    }

    fn faults_in(&self, from: u64, until: u64) -> impl Iterator<Item = &Fault> {
        let reach = nanoseconds(self.rules.reach);
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
        match self.counted_as(submission, delivery) {
            0 => self.wrong(Wrong::Unexplained, id),
            set => self.missing.push((id, delivery, set)),
        }
    }

    fn overlapping(&self, from: u64, until: u64) -> impl Iterator<Item = &Fault> {
        let overlaps = move |fault: &&Fault| fault.from <= until && fault.until >= from;
        self.history.faults.iter().filter(overlaps)
    }

    /// As what a node may have counted the loss: bits of [`COUNTED`].
    fn counted_as(&self, submission: &Submission, delivery: Delivery) -> u8 {
        let Submission { id, service, node: origin, sent_at, outcome, .. } = *submission;
        let until = outcome.at();
        let executions = self.executions_of(id);
        let ttl_until = sent_at.saturating_add(nanoseconds(self.rules.ttl));
        // It expires while it waits; what holds it up is a fault of those that it needs.
        let is_held_up =
            self.is_any(sent_at, ttl_until, |kind| self.concerns(kind, service, origin));
        let lost = || match executions.last() {
            Some(execution) => self.may_be_lost(execution, origin, until),
            None => self.is_any(sent_at, until, |kind| self.concerns(kind, service, origin)),
        };
        let losses = || {
            let concerning = self
                .faults_in(sent_at, until)
                .filter(|fault| self.concerns(fault.kind, service, origin));
            concerning.count()
        };
        let mut set = 0;
        match delivery {
            Delivery::AtMostOnce => {
                set |= u8::from(lost());
                set |= u8::from(executions.is_empty() && is_held_up) << 1;
            }
            Delivery::AtLeastOnce => {
                set |= u8::from(is_held_up && (executions.is_empty() || lost())) << 1;
                set |= u8::from(losses() >= self.rules.attempts_max) << 2;
            }
        }
        set
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

    /// What is missing must have been counted by the nodes: for each choice of reasons, those that
    /// can have no other must fit into what was counted.
    fn look_at_missing(&mut self) {
        let Dropped { expired, attempts_exhausted, outcome_unknown } = self.history.dropped;
        let counted = [outcome_unknown, expired, attempts_exhausted];
        let mut by_set = BTreeMap::<u8, u64>::new();
        self.missing.iter().for_each(|(_, _, set)| *by_set.entry(*set).or_default() += 1);
        for choice in 1..8_u8 {
            let only = |(set, _): &(&u8, &u64)| **set & !choice == 0;
            let missing: u64 = by_set.iter().filter(only).map(|(_, count)| count).sum();
            let supply: u64 = bits(choice).filter_map(|bit| counted.get(bit)).sum();
            if missing > supply {
                let reasons: Vec<String> = bits(choice)
                    .filter_map(|bit| COUNTED.get(bit))
                    .map(ToString::to_string)
                    .collect();
                let sample = self.missing.iter().find(|(_, _, set)| set & !choice == 0);
                let story = sample.map(|(id, _, _)| story::of_request(self.history, *id));
                let story = format!(
                    "Uncounted: {missing} submissions can only be {reasons:?}, and the nodes \
                     counted {supply} of these; one of them:\n{}",
                    story.unwrap_or_default()
                );
                self.account.violations.push(Violation { kind: Wrong::Uncounted, story });
                break;
            }
        }
        let mut left = counted;
        let mut missing = std::mem::take(&mut self.missing);
        missing.sort_by_key(|(_, _, set)| set.count_ones());
        for (_, delivery, set) in missing {
            let possible = || bits(set);
            let chosen = possible().find(|bit| left.get(*bit).is_some_and(|left| *left > 0));
            let Some(bit) = chosen.or_else(|| possible().next()) else { continue };
            if let Some(left) = left.get_mut(bit) {
                *left = left.saturating_sub(1);
            }
            if let Some(explanation) = COUNTED.get(bit) {
                self.explain(delivery, *explanation);
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
            if !self.is_any(parting.at, parting.at, concerns) {
                let (worker, node) = (parting.worker, parting.node);
                let story = format!(
                    "worker {worker} parted from node {node}, and nothing was wrong:\n{}",
                    story::of_moment(self.history, parting.at)
                );
                let kind = Wrong::WorkerLostUnforced;
                self.account.violations.push(Violation { kind, story });
            }
        }
    }
}

fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..COUNTED.len()).filter(move |bit| set & (1 << bit) != 0)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}
