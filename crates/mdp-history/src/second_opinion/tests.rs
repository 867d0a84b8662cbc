use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::{
    Verdict, check,
    generated::{self, DENSE, SPARSE},
};

/// How many random histories of a kind both checkers judge.
const HISTORIES: u32 = 4_000;

/// How many operations there are in a history, and how far apart. Where most overlap, few are
/// enough to keep the second opinion busy.
const KINDS: [(usize, u64); 2] = [(24, SPARSE), (12, DENSE)];

fn opinion(history: &[Operation]) -> bool {
    second_opinion(history).unwrap()
}

/// What both say.
fn agreed(history: &[Operation]) -> Result<bool, TestCaseError> {
    let verdict = check(history);
    prop_assert!(!verdict.is_inconclusive(), "{verdict} {history:#?}");
    prop_assert_eq!(verdict.is_legal(), opinion(history), "{} {:#?}", verdict, history);
    Ok(verdict.is_legal())
}

/// Both judge mutated histories; returns how many of them are illegal.
fn illegal_of(count_max: usize, gap_max: u64, expected: impl Fn(&[Operation], bool)) -> u32 {
    let illegal = Cell::new(0);
    let strategy = (generated::steps(count_max, gap_max), generated::mutations());
    let result = generated::runner(HISTORIES).run(&strategy, |(steps, mutations)| {
        let history = generated::mutated(generated::legal(&steps), &mutations);
        let is_legal = agreed(&history)?;
        expected(&history, is_legal);
        illegal.set(illegal.get() + u32::from(!is_legal));
        Ok(())
    });
    result.unwrap();
    println!("{} of {HISTORIES} mutated histories are illegal", illegal.get());
    illegal.get()
}

#[test]
fn both_checkers_accept_what_a_real_object_answers() {
    for (count_max, gap_max) in KINDS {
        let strategy = generated::steps(count_max, gap_max);
        let result = generated::runner(HISTORIES).run(&strategy, |steps| {
            let history = generated::legal(&steps);
            prop_assert!(agreed(&history)?, "{history:#?}");
            Ok(())
        });
        result.unwrap();
    }
}

#[test]
fn both_checkers_judge_mutated_histories_alike() {
    for (count_max, gap_max) in KINDS {
        let illegal = illegal_of(count_max, gap_max, |_, _| {});
        assert!(illegal * 20 >= HISTORIES, "{illegal} of {HISTORIES} are illegal");
    }
}

/// Tries every order, and for operations that may never happen every choice.
fn brute_force(rest: &[Operation], registered: u64) -> bool {
    if rest.iter().all(Operation::may_never_happen) {
        return true;
    }
    let must_end = rest.iter().filter(|op| !op.may_never_happen());
    let first_end = must_end.filter_map(|op| op.returned_at).min();
    rest.iter().enumerate().any(|(index, op)| {
        let mut others = rest.to_vec();
        others.remove(index);
        if op.may_never_happen() && brute_force(&others, registered) {
            return true;
        }
        let is_after = |other: &Operation| other.returned_at.is_some_and(|at| at < op.called_at);
        if first_end.is_some_and(|end| op.called_at > end) || others.iter().any(is_after) {
            return false;
        }
        state_after(registered, op.action).is_some_and(|state| brute_force(&others, state))
    })
}

#[test]
fn both_checkers_agree_with_brute_force() {
    for gap_max in [SPARSE, DENSE] {
        let illegal = illegal_of(6, gap_max, |history, is_legal| {
            assert_eq!(is_legal, brute_force(history, 0), "{history:#?}");
        });
        assert!(illegal * 20 >= HISTORIES, "{illegal} of {HISTORIES} are illegal");
    }
}

#[test]
fn empty_history_is_legal() {
    assert!(opinion(&[]));
    assert_eq!(check(&[]), Verdict::Legal);
}

#[test]
fn long_history_gets_no_second_opinion() {
    let action = Action::Lookup { found: false };
    let lookup = Operation { action, called_at: 0, returned_at: Some(1), is_optional: false };

    assert_eq!(second_opinion(&[lookup; OPERATIONS_MAX]), Ok(true));
    assert_eq!(second_opinion(&[lookup; OPERATIONS_MAX + 1]), Err(Inconclusive::Operations));
}

#[test]
fn registration_beyond_the_limit_gets_no_second_opinion() {
    let action = Action::Add(REGISTRATIONS_MAX);
    let add = Operation { action, called_at: 0, returned_at: Some(1), is_optional: false };

    assert_eq!(second_opinion(&[add]), Err(Inconclusive::Registrations(REGISTRATIONS_MAX)));
}
