use super::*;

#[test]
fn recorded_operations_have_their_times_and_answers() {
    let mut history = History::new();
    let lookup = history.call(Call::Lookup, 1);
    let add = history.call(Call::Add(3), 2);
    history.answer(lookup, false, 4);
    history.return_(add, 5);

    let lookup = Operation {
        action: Action::Lookup { found: false },
        called_at: 1,
        returned_at: Some(4),
        is_optional: false,
    };
    let add = Operation {
        action: Action::Add(3),
        called_at: 2,
        returned_at: Some(5),
        is_optional: false,
    };
    assert_eq!(history.operations(), [lookup, add]);
    assert!(history.check().is_legal());
}

#[test]
fn what_is_forgotten_or_not_answered_is_left_out() {
    let mut history = History::new();
    let refused = history.call(Call::Add(0), 1);
    let dropped = history.call(Call::Lookup, 2);
    history.call(Call::Lookup, 3);
    history.forget(refused);
    history.forget(dropped);

    assert_eq!(history.operations(), []);
}

#[test]
fn open_operation_may_happen_at_any_time() {
    let mut history = History::new();
    history.call(Call::Add(0), 1);
    for (at, found) in [(10, false), (20, true)] {
        let lookup = history.call(Call::Lookup, at);
        history.answer(lookup, found, at + 1);
    }

    assert!(history.check().is_legal());
}

#[test]
fn settled_operation_has_happened_or_never_will() {
    let mut history = History::new();
    history.call(Call::Add(0), 1);
    history.call(Call::Lookup, 2);
    history.settle(10);
    for (at, found) in [(20, false), (30, true)] {
        let lookup = history.call(Call::Lookup, at);
        history.answer(lookup, found, at + 1);
    }

    assert!(history.check().is_illegal());
}

#[test]
fn operation_that_may_have_failed_explains_both_answers() {
    for found in [false, true] {
        let mut history = History::new();
        let add = history.call(Call::Add(0), 1);
        history.return_or_never(add, 5);
        let lookup = history.call(Call::Lookup, 6);
        history.answer(lookup, found, 7);

        assert!(history.check().is_legal());
    }
}

#[test]
#[should_panic(expected = "is no open registration or removal")]
fn operation_returns_once() {
    let mut history = History::new();
    let add = history.call(Call::Add(0), 1);
    history.return_(add, 2);
    history.return_(add, 3);
}

#[test]
#[should_panic(expected = "is no open lookup")]
fn registration_has_no_answer() {
    let mut history = History::new();
    let add = history.call(Call::Add(0), 1);
    history.answer(add, true, 2);
}
