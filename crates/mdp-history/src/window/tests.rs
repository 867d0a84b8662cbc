use proptest::prelude::*;

use super::*;
use crate::{
    Action, Illegal, Verdict, check,
    generated::{self, SPARSE},
    second_opinion,
};

const fn op(action: Action, called_at: u64, returned_at: u64) -> Operation {
    Operation { action, called_at, returned_at: Some(returned_at), is_optional: false }
}

const FOUND: Action = Action::Lookup { found: true };
const ABSENT: Action = Action::Lookup { found: false };

fn illegal(history: &[Operation]) -> Illegal {
    match check(history) {
        Verdict::Illegal(illegal) => illegal,
        other @ (Verdict::Legal | Verdict::Inconclusive(_)) => panic!("{other}"),
    }
}

#[test]
fn window_begins_where_all_explanations_agreed() {
    let mut history = Vec::new();
    for round in 0..100 {
        let at = round * 100;
        history.extend([op(Action::Add(0), at, at + 5), op(FOUND, at + 10, at + 12)]);
        history.extend([op(Action::Remove(0), at + 20, at + 25), op(ABSENT, at + 30, at + 33)]);
    }
    let stale = op(FOUND, 10_000, 10_003);
    history.push(stale);

    let found = illegal(&history);

    assert_eq!(found.at, stale);
    assert_eq!(found.window.operations, [stale]);
    assert_eq!(found.window.registered, [0; 0]);
    assert_eq!(found.window.before.last(), Some(&op(Action::Remove(0), 9_920, 9_925)));
}

#[test]
fn window_keeps_only_the_lookups_that_matter() {
    let add = op(Action::Add(0), 10, 90);
    let (seen, gone) = (op(FOUND, 40, 45), op(ABSENT, 50, 55));
    let others = [op(ABSENT, 20, 25), op(ABSENT, 30, 35), op(FOUND, 46, 60)];
    let history = [&[add, seen, gone], &others[..]].concat();

    let found = illegal(&history);

    assert_eq!(found.at, gone);
    assert_eq!(found.window.operations, [add, seen, gone]);
}

#[test]
fn window_is_rendered_as_aligned_text() {
    let history = [
        op(Action::Add(0), 5, 8),
        op(Action::Remove(0), 100, 140),
        op(ABSENT, 110, 120),
        op(FOUND, 125, 139),
    ];

    let expected = "\
called  returned  operation
     5         8  add 0           <
-- registered from here on: 0
   100       140  remove 0        |-------------------------------------->
   110       120  lookup: nobody            |---------|
   125       139  lookup: found                            |-------------|  <== unexplained";
    assert_eq!(illegal(&history).render_window(), expected);
}

/// A window is a history of its own that begins with some registrations.
#[test]
fn window_is_illegal_by_itself() {
    let strategy = (generated::steps(24, SPARSE), generated::mutations());
    let result = generated::runner(4_000).run(&strategy, |(steps, mutations)| {
        let history = generated::mutated(generated::legal(&steps), &mutations);
        let Verdict::Illegal(Illegal { at, window }) = check(&history) else { return Ok(()) };
        let mut alone = window.operations.clone();
        prop_assert!(alone.contains(&at));
        alone.iter_mut().for_each(|it| {
            // Behind the registrations that are there from the start.
            it.called_at += 100;
            it.returned_at = it.returned_at.map(|at| at + 100);
        });
        alone.extend(window.registered.iter().map(|it| op(Action::Add(*it), 0, 1)));
        prop_assert_eq!(second_opinion(&alone), Ok(false), "{:#?} {:#?}", window, history);
        Ok(())
    });
    result.unwrap();
}
