use super::*;

const fn op(action: Action, called_at: u64, returned_at: u64) -> Operation {
    Operation { action, called_at, returned_at: Some(returned_at), is_optional: false }
}

const fn pending(action: Action, called_at: u64) -> Operation {
    Operation { action, called_at, returned_at: None, is_optional: false }
}

const FOUND: Action = Action::Lookup { found: true };
const ABSENT: Action = Action::Lookup { found: false };

#[test]
fn answers_in_order_are_legal() {
    let history = [
        op(ABSENT, 0, 1),
        op(Action::Add(0), 2, 3),
        op(FOUND, 4, 5),
        op(Action::Remove(0), 6, 7),
        op(ABSENT, 8, 9),
    ];

    assert_eq!(check(&history), Ok(()));
}

#[test]
fn stale_answers_are_illegal() {
    let late = op(ABSENT, 4, 5);
    assert_eq!(check(&[op(Action::Add(0), 2, 3), late]), Err(Illegal { at: late }));
    let early = op(FOUND, 0, 1);
    assert_eq!(check(&[early, op(Action::Add(0), 2, 3)]), Err(Illegal { at: early }));
}

#[test]
fn overlapping_answers_may_be_either() {
    for lookup in [FOUND, ABSENT] {
        assert_eq!(check(&[op(Action::Add(0), 0, 10), op(lookup, 5, 6)]), Ok(()));
        assert_eq!(check(&[pending(Action::Add(0), 0), op(lookup, 50, 60)]), Ok(()));
    }
}

#[test]
fn answers_may_not_go_back_while_an_operation_is_open() {
    let add = op(Action::Add(0), 0, 10);

    assert_eq!(check(&[add, op(ABSENT, 1, 2), op(FOUND, 3, 4)]), Ok(()));
    assert!(check(&[add, op(FOUND, 1, 2), op(ABSENT, 3, 4)]).is_err());
}

#[test]
fn one_of_two_registrations_is_enough() {
    let both = [op(Action::Add(0), 0, 1), op(Action::Add(1), 0, 1), op(Action::Remove(0), 2, 3)];

    assert_eq!(check(&[&both[..], &[op(FOUND, 4, 5)]].concat()), Ok(()));
    assert!(check(&[&both[..], &[op(ABSENT, 4, 5)]].concat()).is_err());
}

#[test]
fn optional_operation_happens_before_its_end_or_never() {
    let add = op(Action::Add(0), 0, 1);
    let remove = Operation { is_optional: true, ..op(Action::Remove(0), 2, 10) };

    for lookup in [FOUND, ABSENT] {
        assert_eq!(check(&[add, remove, op(lookup, 11, 12)]), Ok(()));
    }
    assert!(check(&[add, remove, op(FOUND, 11, 12), op(ABSENT, 13, 14)]).is_err());
    assert!(check(&[add, remove, op(ABSENT, 11, 12), op(FOUND, 13, 14)]).is_err());
}

#[test]
fn calls_come_before_returns_of_the_same_time() {
    assert_eq!(check(&[op(Action::Add(0), 0, 5), op(ABSENT, 5, 6)]), Ok(()));
}

#[test]
fn detection_is_measured() {
    let long = [op(Action::Add(0), 0, 1), op(FOUND, 10, 11), op(FOUND, 20, 21)].to_vec();
    assert_eq!(detected_percent(&[long], 1), 100);
    let overlapping = [op(Action::Add(0), 0, 9), op(FOUND, 1, 2), op(FOUND, 10, 11)].to_vec();
    assert_eq!(detected_percent(&[overlapping], 1), 50);
}

/// Tries every order, and for operations that may never happen every choice.
fn brute_force(history: &[Operation]) -> bool {
    let may_skip = |op: &Operation| op.returned_at.is_none() || op.is_optional;
    fn search(rest: &[Operation], registered: u64, may_skip: &dyn Fn(&Operation) -> bool) -> bool {
        if rest.iter().all(may_skip) {
            return true;
        }
        let first_end =
            rest.iter().filter(|op| !may_skip(op)).filter_map(|op| op.returned_at).min();
        rest.iter().enumerate().any(|(index, op)| {
            let mut others = rest.to_vec();
            others.remove(index);
            // Skipped: it never happens.
            if may_skip(op) && search(&others, registered, may_skip) {
                return true;
            }
            if first_end.is_some_and(|end| op.called_at > end)
                || others
                    .iter()
                    .any(|other| other.returned_at.is_some_and(|end| end < op.called_at))
            {
                return false;
            }
            match op.action {
                Action::Add(r) => search(&others, registered | 1 << r, may_skip),
                Action::Remove(r) => search(&others, registered & !(1 << r), may_skip),
                Action::Lookup { found } => {
                    found == (registered != 0) && search(&others, registered, may_skip)
                }
            }
        })
    }
    search(history, 0, &may_skip)
}

/// A few operations, close together, with random answers: about as many legal as not.
fn random_history(random: &mut fastrand::Rng) -> Vec<Operation> {
    let operation = |random: &mut fastrand::Rng| {
        let registration = random.u8(0..2);
        let action = match random.u8(0..5) {
            0 => Action::Remove(registration),
            1 | 2 => Action::Add(registration),
            _ => Action::Lookup { found: random.bool() },
        };
        let is_lookup = matches!(action, Action::Lookup { .. });
        let called_at = random.u64(0..12);
        let returned_at =
            (is_lookup || random.u8(0..5) > 0).then(|| called_at + 1 + random.u64(0..6));
        Operation {
            action,
            called_at,
            returned_at,
            is_optional: !is_lookup && random.u8(0..4) == 0,
        }
    };
    (0..random.usize(2..7)).map(|_| operation(random)).collect()
}

#[test]
fn agrees_with_brute_force() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut illegal = 0;
    for number in 0..3_000 {
        let history = random_history(&mut random);

        let expected = brute_force(&history);

        assert_eq!(check(&history).is_ok(), expected, "history {number}: {history:#?}");
        illegal += u32::from(!expected);
    }
    assert!((300..2_700).contains(&illegal), "{illegal} of 3,000 are illegal");
}

#[test]
fn long_histories_are_quick() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut history = Vec::new();
    for round in 0..10_000_u64 {
        let (at, registration) = (round * 100, u8::try_from(round % 64).unwrap());
        history.push(op(Action::Add(registration), at, at + 5));
        for _ in 0..8 {
            let start = at + 5 + random.u64(1..40);
            history.push(op(FOUND, start, start + random.u64(1..5)));
        }
        history.push(op(Action::Remove(registration), at + 50, at + 55));
        history.push(op(ABSENT, at + 60, at + 70));
    }

    let started_at = std::time::Instant::now();
    assert_eq!(check(&history), Ok(()));

    assert!(
        started_at.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        started_at.elapsed()
    );
}
