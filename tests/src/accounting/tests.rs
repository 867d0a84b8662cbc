use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Service 0 is at-least-once with worker 0 at node 0, service 1 at-most-once with worker 1 at
/// node 1.
fn rules() -> Rules {
    Rules {
        services: vec![Delivery::AtLeastOnce, Delivery::AtMostOnce],
        worker_services: vec![0, 1],
        attempts_max: 3,
        ttl: Duration::from_secs(4),
        reach: Duration::from_secs(2),
        parting_reach: Duration::from_secs(2),
        under_way: Duration::from_millis(500),
    }
}

const fn id(client: u32, request: u32) -> SubmissionId {
    SubmissionId { client, request, round: 0 }
}

#[derive(Default)]
struct Test(History);

impl Test {
    /// Sent to node 0 one second after the start of the run.
    fn sent(mut self, request: u32, service: usize, outcome: Outcome) -> Self {
        let (id, sent_at) = (id(0, request), SECOND);
        self.0.submissions.push(Submission { id, service, node: 0, sent_at, outcome });
        self
    }

    fn answered(self, request: u32, service: usize) -> Self {
        self.sent(request, service, Outcome::Answered { at: SECOND + 9 * MS })
    }

    fn silent(self, request: u32, service: usize) -> Self {
        self.sent(request, service, Outcome::Silence { until: 11 * SECOND })
    }

    fn executed(mut self, request: u32, worker: usize, at_ms: u64) -> Self {
        let at = SECOND + at_ms * MS;
        self.0.executions.push(Execution {
            id: id(0, request),
            worker,
            node: worker,
            at,
            answered_at: Some(at),
        });
        self
    }

    fn fault(mut self, kind: FaultKind, from_ms: u64, until_ms: u64) -> Self {
        let (from, until) = (SECOND + from_ms * MS, SECOND + until_ms * MS);
        self.0.faults.push(Fault { kind, from, until });
        self
    }

    /// Counted by the origin at some time of the run.
    fn dropped(self, count: Dropped) -> Self {
        self.dropped_by(0, 0, 20_000, count)
    }

    fn dropped_by(mut self, node: usize, from_ms: i64, until_ms: i64, count: Dropped) -> Self {
        let at = |ms: i64| SECOND.saturating_add_signed(ms * 1_000_000);
        let (from, until) = (at(from_ms), at(until_ms));
        self.0.drops.push(Drops { node, from, until, count });
        self
    }

    #[track_caller]
    fn is(&self, wrong: &[Wrong]) {
        let account = account(&self.0, &rules());
        let kinds: Vec<Wrong> = account.violations.iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, wrong, "{account}\n{:#?}", account.violations);
    }

    #[track_caller]
    fn is_explained_as(&self, explanation: Explanation) {
        self.is(&[]);
        let account = account(&self.0, &rules());
        assert_eq!(account.count(explanation), 1, "{account}");
    }
}

#[test]
fn names_are_read_as_written() {
    let id = SubmissionId { client: 3, request: 40, round: 1 };

    assert_eq!(SubmissionId::parse(&id.to_string()), Some(id));
    for text in ["", "1", "1/2", "1/2/3/4", "1/2/300", "a/2/3"] {
        assert_eq!(SubmissionId::parse(text), None, "{text}");
    }
}

#[test]
fn answered_request_is_accounted_for() {
    let test = Test::default().answered(0, 0).executed(0, 0, 1);

    test.is_explained_as(Explanation::Answered);
}

#[test]
fn reply_to_another_client_is_seen() {
    let mut test = Test::default().answered(0, 0).executed(0, 0, 1);
    let answers = Ok(id(0, 0));
    test.0.strays.push(Stray { client: 7, node: 0, at: 2 * SECOND, answers });

    test.is(&[Wrong::WrongClient]);
}

#[test]
fn reply_that_names_no_request_is_seen() {
    let mut test = Test::default();
    let answers = Err("garbage".to_owned());
    test.0.strays.push(Stray { client: 7, node: 0, at: 2 * SECOND, answers });

    test.is(&[Wrong::WrongClient]);
}

#[test]
fn second_reply_is_seen() {
    let mut test = Test::default().answered(0, 0).executed(0, 0, 1);
    test.0.strays.push(Stray { client: 0, node: 0, at: 2 * SECOND, answers: Ok(id(0, 0)) });

    test.is(&[Wrong::SecondReply]);
}

#[test]
fn reply_without_execution_is_seen() {
    Test::default().answered(0, 0).is(&[Wrong::Invented]);
}

#[test]
fn execution_that_nobody_asked_for_is_seen() {
    Test::default().executed(5, 0, 1).is(&[Wrong::NeverSent]);
}

#[test]
fn second_execution_of_at_most_once_is_seen_whatever_happened() {
    let test = Test::default().answered(0, 1).executed(0, 1, 1).executed(0, 1, 5);

    test.fault(FaultKind::WorkerKilled(1), 2, 3).is(&[Wrong::ExecutedTwice]);
}

#[test]
fn second_submission_of_at_most_once_may_not_be_executed_either() {
    let mut test = Test::default().silent(0, 1).executed(0, 1, 1);
    test = test.fault(FaultKind::WorkerKilled(1), 2, 3);
    test = test.dropped(Dropped { outcome_unknown: 1, ..Dropped::default() });
    let again = SubmissionId { round: 1, ..id(0, 0) };
    let (sent_at, at) = (12 * SECOND, 12 * SECOND + MS);
    let outcome = Outcome::Answered { at: at + MS };
    test.0.submissions.push(Submission { id: again, service: 1, node: 0, sent_at, outcome });
    test.0.executions.push(Execution { id: again, worker: 1, node: 1, at, answered_at: Some(at) });

    test.is(&[Wrong::ExecutedTwice]);
}

#[test]
fn fourth_execution_of_at_least_once_is_seen() {
    let executed = |times: u64| {
        (0..times).fold(Test::default().answered(0, 0), |test, time| test.executed(0, 0, time))
    };
    let fault = FaultKind::WorkerKilled(0);

    executed(3).fault(fault, 0, 5).is_explained_as(Explanation::AnsweredAgain);
    executed(4).fault(fault, 0, 5).is(&[Wrong::TooManyAttempts]);
}

#[test]
fn second_execution_needs_a_fault() {
    let twice = || Test::default().answered(0, 0).executed(0, 0, 1).executed(0, 0, 5);

    twice().is(&[Wrong::ExecutedAgainUnforced]);
    twice().fault(FaultKind::WorkerFrozen(1), 2, 3).is(&[Wrong::ExecutedAgainUnforced]);
    twice().fault(FaultKind::WorkerFrozen(0), 2, 3).is_explained_as(Explanation::AnsweredAgain);
}

#[test]
fn worker_that_was_frozen_may_execute_late() {
    let mut test = Test::default().answered(0, 0).executed(0, 0, 2_000).executed(0, 2, 2_300);
    test.0.submissions[0].outcome = Outcome::Answered { at: SECOND + 2_001 * MS };

    test.fault(FaultKind::WorkerFrozen(2), 0, 2_299).is_explained_as(Explanation::AnsweredAgain);
}

#[test]
fn silence_without_a_fault_is_seen() {
    let counted = Dropped { expired: 9, attempts_exhausted: 9, outcome_unknown: 9 };

    for service in [0, 1] {
        Test::default().silent(0, service).dropped(counted).is(&[Wrong::Unexplained]);
        let executed = Test::default().silent(0, service).executed(0, service, 1);
        executed.dropped(counted).is(&[Wrong::Unexplained]);
    }
}

#[test]
fn killed_origin_explains_silence() {
    for service in [0, 1] {
        let lost = Test::default().silent(0, service).executed(0, service, 1);
        let test = lost.fault(FaultKind::NodeKilled(0), 5, 9);
        test.is_explained_as(Explanation::OriginKilled);
    }
}

#[test]
fn killed_origin_explains_nothing_once_it_is_ready_again() {
    let mut test = Test::default().silent(0, 0).fault(FaultKind::NodeKilled(0), 0, 0);
    test.0.faults[0].until = SECOND - 1;

    test.is(&[Wrong::Uncounted]);
}

#[test]
fn lost_connection_needs_a_frozen_or_killed_origin() {
    let lost = || Test::default().sent(0, 0, Outcome::ConnectionLost { at: 3 * SECOND });

    lost().is(&[Wrong::Unexplained]);
    lost().fault(FaultKind::NodeFrozen(1), 0, 900).is(&[Wrong::Unexplained]);
    lost().fault(FaultKind::NodeFrozen(0), 0, 900).is_explained_as(Explanation::ClientLost);
    lost().fault(FaultKind::NodeKilled(0), 0, 900).is_explained_as(Explanation::OriginKilled);
}

#[test]
fn lost_worker_explains_at_most_once_if_the_node_counted_it() {
    let lost = || {
        let test = Test::default().silent(0, 1).executed(0, 1, 1);
        test.fault(FaultKind::WorkerKilled(1), 2, 9)
    };
    let counted = |outcome_unknown| Dropped { outcome_unknown, ..Dropped::default() };

    lost().is(&[Wrong::Uncounted]);
    lost().dropped(counted(1)).is_explained_as(Explanation::OutcomeUnknown);
    lost().silent(1, 1).dropped(counted(1)).is(&[Wrong::Uncounted]);
}

#[test]
fn fault_that_came_after_the_reply_was_due_explains_nothing() {
    let counted = Dropped { outcome_unknown: 1, ..Dropped::default() };
    let lost = |kind, from| {
        let test = Test::default().silent(0, 1).executed(0, 1, 1).dropped(counted);
        test.fault(kind, from, from + 900)
    };

    // At its worker, its node, its origin, its link: the reply may still have been under way, or not.
    for kind in [
        FaultKind::WorkerKilled(1),
        FaultKind::WorkerFrozen(1),
        FaultKind::NodeFrozen(0),
        FaultKind::NodeKilled(1),
        FaultKind::LinkCut(0, 1),
    ] {
        lost(kind, 400).is_explained_as(Explanation::OutcomeUnknown);
        lost(kind, 600).is(&[Wrong::Unexplained]);
    }
    lost(FaultKind::NodeKilled(0), 400).is_explained_as(Explanation::OriginKilled);
    lost(FaultKind::NodeKilled(0), 600).is(&[Wrong::Unexplained]);
}

#[test]
fn each_reply_of_a_request_must_have_been_held_up() {
    let counted = Dropped { expired: 1, ..Dropped::default() };
    let test = || Test::default().silent(0, 0).executed(0, 0, 1).executed(0, 2, 700);
    let test = || test().dropped(counted).fault(FaultKind::WorkerKilled(0), 2, 9);

    test().is(&[Wrong::Unexplained]);
    test().fault(FaultKind::NodeFrozen(2), 701, 900).is_explained_as(Explanation::Expired);
}

#[test]
fn loss_is_counted_by_its_origin_and_at_its_time() {
    let counted = Dropped { outcome_unknown: 1, ..Dropped::default() };
    let lost = |node, from, until| {
        let test = Test::default().silent(0, 1).executed(0, 1, 1);
        test.fault(FaultKind::WorkerKilled(1), 2, 9).dropped_by(node, from, until, counted)
    };

    lost(0, 0, 3_000).is_explained_as(Explanation::OutcomeUnknown);
    lost(1, 0, 3_000).is(&[Wrong::Uncounted]);
    // Before it was sent, and after its client gave it up.
    lost(0, -900, -1).is(&[Wrong::Uncounted]);
    lost(0, 10_500, 12_000).is(&[Wrong::Uncounted]);
    // Two at one time, and as many counted at two.
    let two =
        lost(0, 0, 3_000).silent(1, 1).executed(1, 1, 1).dropped_by(0, 11_000, 12_000, counted);
    two.is(&[Wrong::Uncounted]);
}

#[test]
fn worker_of_another_service_explains_nothing() {
    let test = Test::default().silent(0, 1).fault(FaultKind::WorkerKilled(0), 2, 9);

    test.is(&[Wrong::Unexplained]);
}

#[test]
fn cut_link_explains_only_what_went_over_it() {
    let lost = |service: usize, worker: usize| {
        let test = Test::default().silent(0, service).executed(0, worker, 1);
        test.fault(FaultKind::NodeCutOff(0), 2, 900)
            .dropped(Dropped { outcome_unknown: 1, ..Dropped::default() })
    };

    lost(1, 1).is_explained_as(Explanation::OutcomeUnknown);
    // At the origin itself.
    lost(1, 0).is(&[Wrong::Unexplained]);
}

#[test]
fn cut_between_two_nodes_explains_nothing_at_the_third() {
    let lost = |one, other| {
        let test = Test::default().silent(0, 1).executed(0, 1, 1);
        test.fault(FaultKind::LinkCut(one, other), 2, 900)
            .dropped(Dropped { outcome_unknown: 1, ..Dropped::default() })
    };

    lost(0, 1).is_explained_as(Explanation::OutcomeUnknown);
    lost(1, 0).is_explained_as(Explanation::OutcomeUnknown);
    lost(0, 2).is(&[Wrong::Unexplained]);
}

#[test]
fn expired_request_was_held_up_and_counted() {
    let held_up =
        |from, until| Test::default().silent(0, 0).fault(FaultKind::NodeFrozen(1), from, until);
    let counted = Dropped { expired: 1, ..Dropped::default() };

    held_up(100, 3_000).is(&[Wrong::Uncounted]);
    held_up(100, 3_000).dropped(counted).is_explained_as(Explanation::Expired);
    // After its time to live.
    held_up(4_100, 5_000).dropped(counted).is(&[Wrong::Unexplained]);
}

#[test]
fn exhausted_attempts_need_as_many_faults() {
    let lost = |count: u64| {
        let test = (0..count).fold(Test::default().silent(0, 0), |test, time| {
            test.executed(0, 0, time * 10).fault(
                FaultKind::WorkerKilled(0),
                time * 10,
                time * 10 + 5,
            )
        });
        test.dropped(Dropped { attempts_exhausted: 1, ..Dropped::default() })
    };

    lost(3).is_explained_as(Explanation::AttemptsExhausted);
    // It may only have expired, and no node says so.
    lost(2).is(&[Wrong::Uncounted]);
}

#[test]
fn losses_with_two_reasons_take_what_is_counted() {
    let lost = Test::default().silent(0, 1).silent(1, 1).silent(2, 1);
    let test = lost.fault(FaultKind::NodeKilled(1), 1, 900);
    let counted = Dropped { expired: 2, outcome_unknown: 1, attempts_exhausted: 0 };

    test.dropped(counted).is(&[]);
}

#[test]
fn healthy_worker_may_not_be_sent_away() {
    let sent_away = || {
        let mut test = Test::default();
        test.0.partings.push(Parting { worker: 0, node: 0, at: 2 * SECOND });
        test
    };

    sent_away().is(&[Wrong::WorkerLostUnforced]);
    sent_away().fault(FaultKind::WorkerFrozen(1), 900, 950).is(&[Wrong::WorkerLostUnforced]);
    sent_away().fault(FaultKind::WorkerFrozen(0), 900, 950).is(&[]);
    sent_away().fault(FaultKind::NodeKilled(0), 900, 2_950).is(&[]);
}

#[test]
fn story_tells_everything_about_a_request() {
    let test = Test::default().answered(0, 0).executed(0, 0, 1).executed(0, 0, 5);
    let test = test.fault(FaultKind::WorkerFrozen(1), 2, 3);

    let account = account(&test.0, &rules());

    let story = &account.violations[0].story;
    for part in ["0/0/0 sent to node 0", "executed by worker 0", "WorkerFrozen(1)", "Answered"] {
        assert!(story.contains(part), "no {part} in {story}");
    }
}

#[test]
fn faults_and_relays_are_counted() {
    let test = Test::default().answered(0, 1).executed(0, 1, 1);
    let test = test.fault(FaultKind::NodeCutOff(2), 5_000, 5_001);

    let account = account(&test.0, &rules());

    assert_eq!((account.executed, account.relayed), (1, 1));
    assert_eq!(account.fault_count("node cut off"), 1);
    assert!(account.to_string().contains("node cut off"));
}
