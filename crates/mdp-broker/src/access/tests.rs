use proptest::prelude::*;

use super::*;
use crate::Patterns;

fn name(text: &str) -> IdentityName {
    text.parse().unwrap()
}

fn key(number: u8) -> IdentityKey {
    IdentityKey([number; 32])
}

fn identity(text: &str, keys: &[u8], call: &[&str], register: &[&str]) -> Identity {
    Identity {
        name: name(text),
        keys: keys.iter().map(|number| key(*number)).collect(),
        grants: Grants {
            call: call.iter().collect(),
            register: register.iter().collect(),
            ..Grants::default()
        },
        quotas: Quotas::default(),
        not_after: None,
    }
}

/// A client, a worker, an operator, and one that may do nothing.
fn identities() -> Vec<Identity> {
    let mut operator = identity("operator", &[3, 4], &["*"], &[]);
    operator.grants.directory = true;
    operator.grants.full_status = true;
    vec![
        identity("worker", &[2], &[], &["billing.pay", "echo"]),
        identity("client", &[1], &["billing.*"], &[]),
        operator,
        identity("nothing", &[5], &[], &[]),
    ]
}

fn table(anonymous: Option<Grants>, enforcement: Enforcement) -> Access {
    Access::new(&Access::default(), identities(), anonymous, enforcement).unwrap()
}

/// Who asks, and what is allowed, as letters: c(all), r(egister), s(ee) of each service.
const SERVICES: [&str; 3] = ["billing.pay", "billing.void", "echo"];
const MATRIX: [(&str, [&str; 3]); 6] = [
    ("client", ["cs", "cs", ""]),
    ("worker", ["rs", "", "rs"]),
    ("operator", ["cs", "cs", "cs"]),
    ("nothing", ["", "", ""]),
    ("anonymous", ["", "", "crs"]),
    ("unrestricted", ["crs", "crs", "crs"]),
];

fn subject(access: &Access, who: &str) -> Subject {
    match who {
        "anonymous" => Subject::Anonymous,
        "unrestricted" => Subject::Unrestricted,
        _ => {
            let identity = access.identities().find(|identity| identity.name.as_str() == who);
            Subject::Identity(access.identity_of(&identity.unwrap().keys[0]).unwrap())
        }
    }
}

#[test]
fn every_cell_of_identity_operation_and_service_is_what_was_granted() {
    let anonymous = Grants {
        call: Patterns::from_iter(["echo"]),
        register: Patterns::from_iter(["ech*"]),
        ..Grants::default()
    };
    for enforcement in [Enforcement::Enforce, Enforcement::Report] {
        let access = table(Some(anonymous.clone()), enforcement);
        for (who, row) in MATRIX {
            for (service, allowed) in SERVICES.into_iter().zip(row) {
                for (operation, letter) in
                    [(Operation::Call, 'c'), (Operation::Register, 'r'), (Operation::See, 's')]
                {
                    let decision =
                        access.decide(subject(&access, who), operation, service.as_bytes());
                    let expected = match (allowed.contains(letter), enforcement) {
                        (true, _) => Decision::Allowed,
                        (false, Enforcement::Enforce) => Decision::Denied,
                        (false, Enforcement::Report) => Decision::Reported,
                    };
                    assert_eq!(decision, expected, "{who} {operation:?} {service}");
                }
            }
        }
    }
}

#[test]
fn questions_of_the_management_interface_need_a_grant_but_for_the_basic_ones() {
    let access = table(None, Enforcement::Enforce);
    for (who, allowed) in [
        ("client", false),
        ("nothing", false),
        ("operator", true),
        ("anonymous", false),
        ("unrestricted", true),
    ] {
        let subject = subject(&access, who);
        assert_eq!(access.decide_question(subject, Question::Basic), Decision::Allowed);
        for question in [Question::Directory, Question::FullStatus] {
            let decision = access.decide_question(subject, question);
            assert_eq!(decision == Decision::Allowed, allowed, "{who} {question:?}");
            assert_eq!(decision.is_done(), allowed, "{who} {question:?}");
        }
    }
}

#[test]
fn peers_without_a_key_have_no_grants_unless_some_are_written_for_them() {
    let access = table(None, Enforcement::Enforce);
    for operation in [Operation::Call, Operation::Register, Operation::See] {
        assert_eq!(access.decide(Subject::Anonymous, operation, b"echo"), Decision::Denied);
    }
    let reported = table(None, Enforcement::Report);
    let decision = reported.decide(Subject::Anonymous, Operation::Call, b"echo");
    assert!(decision == Decision::Reported && decision.is_done());
}

#[test]
fn each_key_of_an_identity_is_that_identity_and_others_are_none() {
    let access = table(None, Enforcement::Enforce);
    let named = |number| {
        let id = access.admit(&key(number), 0)?;
        Some(access.identity(id)?.name.to_string())
    };
    let names: Vec<_> = (1..=6).map(named).collect();
    let expected = [Some("client"), Some("worker"), Some("operator"), Some("operator")];
    let expected = expected.into_iter().chain([Some("nothing"), None]);
    assert!(names.iter().map(Option::as_deref).eq(expected), "{names:?}");
}

#[test]
fn identity_whose_time_is_over_is_not_let_in_and_keeps_what_it_has() {
    let mut identities = identities();
    identities[1].not_after = Some(1_000);
    let access = Access::new(&Access::default(), identities, None, Enforcement::Enforce).unwrap();
    assert!(access.admit(&key(1), 1_000).is_some());
    assert_eq!(access.admit(&key(1), 1_001), None);
    assert!(access.identity_of(&key(1)).is_some());
}

#[test]
fn identities_that_can_not_be_told_apart_are_refused_by_name() {
    let twice = vec![identity("a", &[1], &[], &[]), identity("a", &[2], &[], &[])];
    let error = Access::new(&Access::default(), twice, None, Enforcement::Enforce).unwrap_err();
    assert_eq!(error.to_string(), "there are two identities with the name a");

    let shared = vec![identity("b", &[1, 2], &[], &[]), identity("a", &[2], &[], &[])];
    let error = Access::new(&Access::default(), shared, None, Enforcement::Enforce).unwrap_err();
    assert_eq!(error.to_string(), "a and b have the same key; each key is of one identity");

    let own = vec![identity("a", &[1, 1], &[], &[])];
    assert!(Access::new(&Access::default(), own, None, Enforcement::Enforce).is_ok());
}

/// The meaning of a pattern, as slow as its definition.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|from| matches(rest, &name[from..])),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, name)| first == byte && matches(rest, name))
        }
    }
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab*]{0,5}", 0..4)
}

proptest! {
    #[test]
    fn nothing_is_allowed_without_a_pattern_that_matches(
        call in patterns(),
        register in patterns(),
        service in "[ab]{0,6}",
    ) {
        let grants = Grants {
            call: call.iter().collect(),
            register: register.iter().collect(),
            ..Grants::default()
        };
        let access = Access::new(&Access::default(), Vec::new(), Some(grants), Enforcement::Enforce).unwrap();
        let decide = |operation| {
            access.decide(Subject::Anonymous, operation, service.as_bytes()) == Decision::Allowed
        };
        let granted = |patterns: &[String]| {
            patterns.iter().any(|pattern| matches(pattern.as_bytes(), service.as_bytes()))
        };
        prop_assert_eq!(decide(Operation::Call), granted(&call));
        prop_assert_eq!(decide(Operation::Register), granted(&register));
        prop_assert_eq!(decide(Operation::See), granted(&call) || granted(&register));
    }
}
