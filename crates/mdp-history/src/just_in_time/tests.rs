use super::*;
use crate::{Action, CONFIGURATIONS_MAX, Inconclusive, OPEN_MAX, REGISTRATIONS_MAX};

const fn op(action: Action, called_at: u64, returned_at: u64) -> Operation {
    Operation { action, called_at, returned_at: Some(returned_at), is_optional: false }
}

const fn pending(action: Action, called_at: u64) -> Operation {
    Operation { action, called_at, returned_at: None, is_optional: false }
}

const FOUND: Action = Action::Lookup { found: true };
const ABSENT: Action = Action::Lookup { found: false };

fn assert_legal(history: &[Operation]) {
    let verdict = check(history);
    assert!(verdict.is_legal(), "{verdict}");
}

fn assert_illegal_at(history: &[Operation], at: Operation) {
    let Verdict::Illegal(illegal) = check(history) else { panic!("{history:#?} is not illegal") };
    assert_eq!(illegal.at, at);
}

#[test]
fn answers_in_order_are_legal() {
    assert_legal(&[
        op(ABSENT, 0, 1),
        op(Action::Add(0), 2, 3),
        op(FOUND, 4, 5),
        op(Action::Remove(0), 6, 7),
        op(ABSENT, 8, 9),
    ]);
}

#[test]
fn stale_answers_are_illegal() {
    let late = op(ABSENT, 4, 5);
    assert_illegal_at(&[op(Action::Add(0), 2, 3), late], late);
    let early = op(FOUND, 0, 1);
    assert_illegal_at(&[early, op(Action::Add(0), 2, 3)], early);
}

#[test]
fn overlapping_answers_may_be_either() {
    for lookup in [FOUND, ABSENT] {
        assert_legal(&[op(Action::Add(0), 0, 10), op(lookup, 5, 6)]);
        assert_legal(&[pending(Action::Add(0), 0), op(lookup, 50, 60)]);
    }
}

#[test]
fn answers_may_not_go_back_while_an_operation_is_open() {
    let add = op(Action::Add(0), 0, 10);

    assert_legal(&[add, op(ABSENT, 1, 2), op(FOUND, 3, 4)]);
    assert_illegal_at(&[add, op(FOUND, 1, 2), op(ABSENT, 3, 4)], op(ABSENT, 3, 4));
}

#[test]
fn one_of_two_registrations_is_enough() {
    let both = [op(Action::Add(0), 0, 1), op(Action::Add(1), 0, 1), op(Action::Remove(0), 2, 3)];

    assert_legal(&[&both[..], &[op(FOUND, 4, 5)]].concat());
    assert_illegal_at(&[&both[..], &[op(ABSENT, 4, 5)]].concat(), op(ABSENT, 4, 5));
}

#[test]
fn optional_operation_happens_before_its_end_or_never() {
    let add = op(Action::Add(0), 0, 1);
    let remove = Operation { is_optional: true, ..op(Action::Remove(0), 2, 10) };

    for lookup in [FOUND, ABSENT] {
        assert_legal(&[add, remove, op(lookup, 11, 12)]);
    }
    let back = op(ABSENT, 13, 14);
    assert_illegal_at(&[add, remove, op(FOUND, 11, 12), back], back);
    let back = op(FOUND, 13, 14);
    assert_illegal_at(&[add, remove, op(ABSENT, 11, 12), back], back);
}

#[test]
fn lookup_without_an_answer_says_nothing() {
    assert_legal(&[pending(FOUND, 0), op(ABSENT, 1, 2)]);
    assert_legal(&[Operation { is_optional: true, ..op(FOUND, 0, 1) }]);
}

#[test]
fn calls_come_before_returns_of_the_same_time() {
    assert_legal(&[op(Action::Add(0), 0, 5), op(ABSENT, 5, 6)]);
}

#[test]
fn operations_without_length_are_taken_in_any_order_within_their_time() {
    assert_legal(&[op(FOUND, 5, 5), op(Action::Add(0), 5, 5)]);
    assert_illegal_at(&[op(FOUND, 4, 4), op(Action::Add(0), 5, 5)], op(FOUND, 4, 4));
}

#[test]
fn too_many_open_operations_are_inconclusive() {
    let open = |count: u8| (0..count).map(|it| pending(Action::Add(it % 2), 0)).collect::<Vec<_>>();

    assert_legal(&open(OPEN_MAX));
    let verdict = check(&open(OPEN_MAX + 1));
    assert_eq!(verdict, Verdict::Inconclusive(Inconclusive::OpenOperations));
}

#[test]
fn too_many_registrations_are_inconclusive() {
    assert_legal(&[op(Action::Add(REGISTRATIONS_MAX - 1), 0, 1)]);
    let verdict = check(&[op(Action::Add(REGISTRATIONS_MAX), 0, 1)]);
    assert_eq!(verdict, Verdict::Inconclusive(Inconclusive::Registrations(REGISTRATIONS_MAX)));
}

#[test]
fn too_many_explanations_are_inconclusive() {
    // Each registration was ended by one removal or by the other, in any combination.
    let added = (0..20).map(|it| op(Action::Add(it), 0, 1));
    let removed = (0..40).map(|it| op(Action::Remove(it / 2), 2, 5));
    let history: Vec<_> = added.chain(removed).chain([op(ABSENT, 3, 4)]).collect();
    const { assert!(1 << 20 > CONFIGURATIONS_MAX) };

    assert_eq!(check(&history), Verdict::Inconclusive(Inconclusive::Explanations));
}

#[test]
fn wrong_answer_before_too_much_is_open_is_illegal() {
    let wrong = op(FOUND, 0, 1);
    let open = (0..=OPEN_MAX).map(|_| pending(Action::Add(0), 2));

    assert_illegal_at(&[wrong].into_iter().chain(open).collect::<Vec<_>>(), wrong);
}

#[test]
fn operations_that_never_return_do_not_multiply_the_explanations() {
    // A worker whose node was lost, now and then: whether it counted is never known.
    let mut history = Vec::new();
    for round in 0..60_u8 {
        let at = u64::from(round) * 100;
        history.push(pending(Action::Add(round), at));
        history.push(pending(Action::Remove(round), at));
        history.extend([op(Action::Add(63), at + 10, at + 20), op(FOUND, at + 30, at + 40)]);
        history.extend([op(Action::Remove(63), at + 50, at + 60), op(ABSENT, at + 70, at + 80)]);
    }

    assert_legal(&history);
}

#[test]
fn which_of_many_lost_removals_has_happened_makes_no_difference() {
    let mut history = Vec::new();
    for round in 0..100 {
        let at = round * 100;
        history.extend([op(Action::Add(0), at, at + 5), op(Action::Add(1), at, at + 5)]);
        history.push(op(FOUND, at + 6, at + 9));
        history.push(pending(Action::Remove(u8::try_from(round % 2).unwrap()), at + 10));
        history.extend([op(Action::Remove(0), at + 20, at + 30), op(FOUND, at + 21, at + 29)]);
        history.extend([op(Action::Remove(1), at + 40, at + 50), op(ABSENT, at + 60, at + 70)]);
    }
    assert_legal(&history);

    let wrong = op(FOUND, 10_000, 10_010);
    history.push(wrong);
    assert_illegal_at(&history, wrong);
}
