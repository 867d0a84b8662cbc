use proptest::prelude::*;

use super::*;
use crate::{
    check,
    generated::{self, SPARSE},
};

const fn op(action: Action, called_at: u64, returned_at: u64) -> Operation {
    Operation { action, called_at, returned_at: Some(returned_at), is_optional: false }
}

const FOUND: Action = Action::Lookup { found: true };

#[test]
fn detection_is_measured() {
    let long = [op(Action::Add(0), 0, 1), op(FOUND, 10, 11), op(FOUND, 20, 21)].to_vec();
    assert_eq!(detected_percent(std::slice::from_ref(&long), 1), 100);
    let overlapping = [op(Action::Add(0), 0, 9), op(FOUND, 1, 2), op(FOUND, 10, 11)].to_vec();
    assert_eq!(detected_percent(std::slice::from_ref(&overlapping), 1), 50);
    let all = Detection::measure(&[long, overlapping], 1);
    assert_eq!(all, Detection { flipped: 4, detected: 3 });
    assert_eq!((all.percent(), all.fraction()), (Some(75), Some(0.75)));
}

#[test]
fn every_step_th_lookup_is_told_wrong_across_histories() {
    let history = [op(Action::Add(0), 0, 1), op(FOUND, 2, 3), op(FOUND, 4, 5), op(FOUND, 6, 7)];
    let histories = [history.to_vec(), history.to_vec()];

    assert_eq!(Detection::measure(&histories, 1).flipped, 6);
    assert_eq!(Detection::measure(&histories, 2).flipped, 3);
    assert_eq!(Detection::measure(&histories, 4).flipped, 2);
    assert_eq!(Detection::measure(&histories, 100).flipped, 1);
}

#[test]
fn illegal_histories_are_left_out() {
    let wrong = [op(FOUND, 0, 1)].to_vec();

    assert_eq!(Detection::measure(&[wrong], 1), Detection::default());
    assert_eq!(Detection::default().percent(), None);
}

#[test]
fn stopping_early_finds_the_same_as_checking_everything_again() {
    let strategy = generated::steps(24, SPARSE);
    let result = generated::runner(2_000).run(&strategy, |steps| {
        let history = generated::legal(&steps);
        let mut expected = Detection::default();
        for (index, operation) in history.iter().enumerate() {
            if operation.action.is_lookup() && !operation.may_never_happen() {
                let mut wrong = history.clone();
                wrong[index] = flip(operation);
                expected.flipped += 1;
                expected.detected += usize::from(check(&wrong).is_illegal());
            }
        }
        prop_assert_eq!(Detection::measure(&[history], 1), expected);
        Ok(())
    });
    result.unwrap();
}
