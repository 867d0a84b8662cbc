//! Small values: what they say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use mdp_wire::{
    ServiceFrame, ServiceName, TOKEN_BYTES, Token, Version,
    relay::{Capacity, ForwardId, Load, RefusalReason, ReturnCause, WireRange},
};

#[test]
fn token_matches_its_own_bytes_only() {
    let token = Token::from_bytes([7; TOKEN_BYTES]);

    assert!(token.matches(&[7; TOKEN_BYTES]) && token.matches(token.as_ref()));
    assert!(!token.matches(&[8; TOKEN_BYTES]) && !token.matches(&[7; TOKEN_BYTES - 1]));
    assert_eq!(token.as_ref(), [7; TOKEN_BYTES]);
    assert_eq!(format!("{token} {token:?}"), format!("{0} Token({0})", "07".repeat(TOKEN_BYTES)));
}

#[test]
fn service_names_are_found_by_their_bytes() {
    let name = ServiceName::try_from("echo").unwrap();
    let frame = ServiceFrame::try_new(b"echo".to_vec()).unwrap();
    let map = BTreeMap::from([(name.clone(), 1)]);

    assert_eq!(map.get(b"echo".as_slice()), Some(&1));
    assert_eq!(AsRef::<[u8]>::as_ref(&frame), b"echo");
    assert!(format!("{name:?} {:?}", frame.as_name()).matches("echo").count() == 2);
    assert_ne!(Version::V01.to_string(), Version::V02.to_string());
}

#[test]
fn range_of_versions_has_both_of_its_ends() {
    let range = WireRange { min: 2, max: 4 };

    let inside: Vec<u16> = (0..=6).filter(|version| range.contains(*version)).collect();
    assert_eq!(inside, [2, 3, 4]);
    assert_eq!(range.to_string(), "2 to 4");
}

#[test]
fn load_says_nothing_only_if_all_of_it_is_empty() {
    let service = ServiceName::try_from("echo").unwrap();
    let capacity = vec![Capacity { service, workers: 1, share: 1 }];
    let loads = [
        Load { capacity, ..Load::default() },
        Load { waiting: vec![ForwardId(1)], ..Load::default() },
        Load { started: vec![ForwardId(1)], ..Load::default() },
    ];

    assert!(Load::default().is_empty());
    assert!(loads.iter().all(|load| !load.is_empty()));
}

#[test]
fn only_a_lost_worker_may_have_executed_what_comes_back() {
    let causes = [
        ReturnCause::Cancelled,
        ReturnCause::NoWorker,
        ReturnCause::NoRoom,
        ReturnCause::Expired,
        ReturnCause::WorkerLost,
    ];

    assert_eq!(causes.map(ReturnCause::was_handed_over), [false, false, false, false, true]);
}

#[test]
fn reasons_have_labels_of_their_own() {
    let reasons = [
        RefusalReason::WrongVersion { min: 1, max: 1 },
        RefusalReason::WrongCluster,
        RefusalReason::WrongNode,
        RefusalReason::Superseded,
        RefusalReason::NotReady,
        RefusalReason::TooManyLinks,
        RefusalReason::NotLinked,
        RefusalReason::Malformed,
        RefusalReason::Unknown,
    ];
    let labels: BTreeSet<&str> = reasons.iter().map(|reason| reason.label()).collect();

    assert_eq!(labels.len(), reasons.len());
    assert!(labels.iter().all(|label| label.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')));
}
