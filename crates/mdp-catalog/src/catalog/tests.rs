use super::*;

fn service(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

fn node_up(name: &str, process: u64, expected: u64) -> NodeUp {
    NodeUp {
        node: name.parse().unwrap(),
        node_id: NodeId(u64::from(name.as_bytes()[0])),
        boot: Boot { process, attempt: 0 },
        expected_epoch: Epoch(expected),
        endpoints: Endpoints::default(),
        version: SoftwareVersion { major: 0, minor: 1, patch: 0 },
    }
}

fn up(catalog: &mut Catalog, index: u64, name: &str, expected: u64) -> Incarnation {
    let entry = node_up(name, index, expected);
    let node = entry.node.clone();
    catalog.apply(index, CatalogEntry::NodeUp(entry)).unwrap();
    Incarnation { node, epoch: Epoch(index) }
}

fn offer(incarnation: &Incarnation, seq: u64, name: &str) -> CatalogEntry {
    let services = vec![service(name)];
    CatalogEntry::Offer { incarnation: incarnation.clone(), seq: Seq(seq), services }
}

fn withdraw(incarnation: &Incarnation, seq: u64, name: &str) -> CatalogEntry {
    let services = vec![service(name)];
    CatalogEntry::Withdraw { incarnation: incarnation.clone(), seq: Seq(seq), services }
}

#[test]
fn service_is_offered_until_the_last_node_withdraws() {
    let mut catalog = Catalog::new();
    let (a, b) = (up(&mut catalog, 1, "a", 0), up(&mut catalog, 2, "b", 0));
    catalog.apply(3, offer(&a, 1, "echo")).unwrap();
    catalog.apply(4, offer(&b, 1, "echo")).unwrap();

    catalog.apply(5, withdraw(&a, 2, "echo")).unwrap();
    assert!(catalog.is_offered(b"echo") && !catalog.is_offered_by(&a, b"echo"));

    catalog.apply(6, withdraw(&b, 2, "echo")).unwrap();
    assert!(!catalog.is_offered(b"echo"));
}

#[test]
fn older_entry_changes_nothing() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 1, "a", 0);
    catalog.apply(2, offer(&a, 5, "echo")).unwrap();

    assert_eq!(catalog.apply(3, withdraw(&a, 5, "echo")), Err(Refusal::StaleSeq));
    assert_eq!(catalog.apply(4, withdraw(&a, 4, "echo")), Err(Refusal::StaleSeq));

    assert!(catalog.is_offered(b"echo"));
}

#[test]
fn new_life_voids_the_offers_and_words_of_the_old() {
    let mut catalog = Catalog::new();
    let old = up(&mut catalog, 1, "a", 0);
    catalog.apply(2, offer(&old, 1, "echo")).unwrap();

    let new = up(&mut catalog, 3, "a", 1);

    assert!(!catalog.is_offered(b"echo"));
    assert_eq!(catalog.apply(4, offer(&old, 9, "echo")), Err(Refusal::VoidIncarnation));
    assert!(catalog.apply(5, offer(&new, 1, "echo")).is_ok());
}

#[test]
fn node_up_is_compare_and_set() {
    let mut catalog = Catalog::new();
    up(&mut catalog, 7, "a", 0);
    let other_process = CatalogEntry::NodeUp(node_up("a", 99, 0));

    let refusal = catalog.apply(8, other_process);

    assert_eq!(refusal, Err(Refusal::UnexpectedEpoch { actual: Epoch(7) }));
}

#[test]
fn repeated_node_up_voids_nothing() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 7, "a", 0);
    catalog.apply(8, offer(&a, 1, "echo")).unwrap();

    for expected in [0, 7] {
        let again = CatalogEntry::NodeUp(node_up("a", 7, expected));
        assert_eq!(catalog.apply(9, again), Err(Refusal::AlreadyUp { epoch: Epoch(7) }));
    }

    assert!(catalog.is_offered_by(&a, b"echo"));
}

#[test]
fn late_attempt_of_a_gone_life_does_not_revive_it() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 7, "a", 0);
    catalog.apply(8, CatalogEntry::NodeGone { incarnation: a.clone() }).unwrap();

    let again = CatalogEntry::NodeUp(node_up("a", 7, 7));

    assert_eq!(catalog.apply(9, again), Err(Refusal::AlreadyUp { epoch: Epoch(7) }));
    assert!(!catalog.is_current(&a));
}

#[test]
fn draining_node_keeps_its_offers_and_makes_no_new_one() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 1, "a", 0);
    catalog.apply(2, offer(&a, 1, "echo")).unwrap();
    catalog.apply(3, CatalogEntry::NodeDraining { incarnation: a.clone(), seq: Seq(2) }).unwrap();

    assert_eq!(catalog.apply(4, offer(&a, 3, "other")), Err(Refusal::Draining));
    assert!(catalog.is_offered(b"echo"));

    catalog.apply(5, CatalogEntry::NodeGone { incarnation: a.clone() }).unwrap();
    assert!(!catalog.is_offered(b"echo"));
    let again = catalog.apply(6, CatalogEntry::NodeGone { incarnation: a });
    assert_eq!(again, Err(Refusal::VoidIncarnation));
}

#[test]
fn cluster_begins_with_the_oldest_version_that_any_of_its_nodes_ran() {
    let mut catalog = Catalog::new();
    for (index, name, minor) in [(1, "a", 2), (2, "b", 1), (3, "b", 2)] {
        let expected = catalog.node(&name.parse().unwrap()).map_or(0, |record| record.epoch.0);
        let up = NodeUp { version: version(minor), ..node_up(name, index, expected) };
        catalog.apply(index, CatalogEntry::NodeUp(up)).unwrap();
    }
    assert_eq!(catalog.oldest_founder(), Some(version(1)));

    let set = |minor| CatalogEntry::SetClusterVersion { version: version(minor) };
    assert_eq!(catalog.apply(4, set(2)), Err(Refusal::OlderNode { version: version(1) }));
    catalog.apply(5, set(1)).unwrap();
    assert_eq!(catalog.oldest_founder(), None);
    catalog.apply(6, set(2)).unwrap();
}

#[test]
fn cluster_version_never_falls() {
    let mut catalog = Catalog::new();
    catalog.apply(1, CatalogEntry::SetClusterVersion { version: version(2) }).unwrap();

    for lower in [1, 2] {
        let entry = CatalogEntry::SetClusterVersion { version: version(lower) };
        assert_eq!(catalog.apply(2, entry), Err(Refusal::VersionNotHigher));
    }
    assert_eq!(catalog.cluster_version(), version(2));
}

#[test]
fn removed_member_ends_and_never_comes_back() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 1, "a", 0);
    let node_id = NodeId(u64::from(b'a'));
    catalog.apply(2, offer(&a, 1, "echo")).unwrap();

    let change = catalog.apply(3, CatalogEntry::Retire { node_id });

    assert_eq!(change, Ok(CatalogChange::Retired { node_id, ended: Some(a) }));
    assert!(!catalog.is_offered(b"echo") && catalog.nodes().count() == 0);
    let back = CatalogEntry::NodeUp(node_up("a", 50, 0));
    assert_eq!(catalog.apply(4, back), Err(Refusal::RetiredMember));
}

#[test]
fn replaced_member_does_not_take_its_successor_along() {
    let mut catalog = Catalog::new();
    up(&mut catalog, 1, "a", 0);
    let successor = NodeUp { node_id: NodeId(500), ..node_up("a", 60, 1) };
    catalog.apply(2, CatalogEntry::NodeUp(successor)).unwrap();

    let change = catalog.apply(3, CatalogEntry::Retire { node_id: NodeId(u64::from(b'a')) });

    assert!(matches!(change, Ok(CatalogChange::Retired { ended: None, .. })), "{change:?}");
    assert_eq!(catalog.nodes().count(), 1);
}

#[test]
fn memory_of_removed_members_is_bounded() {
    let mut catalog = Catalog::new();
    for id in 0..=u64::try_from(RETIRED_MEMBERS_MAX).unwrap() {
        catalog.apply(id + 1, CatalogEntry::Retire { node_id: NodeId(id) }).unwrap();
    }

    assert!(!catalog.is_retired(NodeId(0)) && catalog.is_retired(NodeId(1)));
}

#[test]
fn catalog_tells_who_offers_what() {
    let mut catalog = Catalog::new();
    let (a, b) = (up(&mut catalog, 1, "a", 0), up(&mut catalog, 2, "b", 0));
    catalog.apply(3, offer(&a, 1, "echo")).unwrap();
    catalog.apply(4, offer(&b, 1, "echo")).unwrap();
    catalog.apply(5, offer(&b, 2, "print")).unwrap();

    let offering: Vec<&NodeName> = catalog.offering(b"echo").collect();
    assert_eq!(offering, [&a.node, &b.node]);
    let services: Vec<(String, usize)> = catalog
        .services()
        .map(|(service, nodes)| {
            (String::from_utf8_lossy(service.as_bytes()).into_owned(), nodes.len())
        })
        .collect();
    assert_eq!(services, [("echo".to_owned(), 2), ("print".to_owned(), 1)]);
    assert_eq!(catalog.service_count(), 2);
    assert_eq!(catalog.node(&b.node).unwrap().epoch, b.epoch);
    assert_eq!(catalog.node(&"c".parse().unwrap()), None);
}

#[test]
fn node_names_end_at_their_limit() {
    let longest = "n".repeat(crate::node::NODE_NAME_BYTES_MAX);
    let name: NodeName = longest.parse().unwrap();

    assert_eq!((name.to_string(), format!("{name:?}")), (longest.clone(), format!("{longest:?}")));
    assert!((longest + "n").parse::<NodeName>().is_err());
    assert!("".parse::<NodeName>().is_err());
}

#[test]
fn entries_and_their_parts_read_well_in_a_log() {
    let mut catalog = Catalog::new();
    let a = up(&mut catalog, 7, "a", 0);

    assert_eq!(offer(&a, 2, "echo").to_string(), format!("{a} #2 offers 1"));
    assert!(a.to_string().contains('a') && a.to_string().contains('7'), "{a}");
    assert_eq!(NodeId(255).to_string(), "00000000000000ff");
    let retired = CatalogEntry::Retire { node_id: NodeId(255) };
    assert_eq!(retired.to_string(), "member 00000000000000ff removed");
}

const fn version(minor: u16) -> SoftwareVersion {
    SoftwareVersion { major: 0, minor, patch: 0 }
}

fn up_in(catalog: &mut Catalog, index: u64, minor: u16) -> Result<CatalogChange, Refusal> {
    let known = catalog.nodes().find(|(name, _)| name.as_str() == "a");
    let expected = known.map_or(0, |(_, record)| record.epoch.0);
    let up = NodeUp { version: version(minor), ..node_up("a", index, expected) };
    catalog.apply(index, CatalogEntry::NodeUp(up))
}

#[test]
fn version_of_the_cluster_rises_only_when_all_that_take_part_have_it() {
    let mut catalog = Catalog::new();
    catalog.apply(1, CatalogEntry::SetClusterVersion { version: version(1) }).unwrap();
    up_in(&mut catalog, 2, 2).unwrap();
    let b = up(&mut catalog, 3, "b", 0);
    let rise = || CatalogEntry::SetClusterVersion { version: version(2) };

    assert_eq!(catalog.apply(4, rise()), Err(Refusal::OlderNode { version: version(1) }));

    catalog.apply(5, CatalogEntry::NodeGone { incarnation: b }).unwrap();
    assert!(catalog.apply(6, rise()).is_ok());
    assert_eq!(catalog.cluster_version(), version(2));
    assert_eq!(catalog.apply(7, rise()), Err(Refusal::VersionNotHigher));
}

#[test]
fn held_version_does_not_rise() {
    let mut catalog = Catalog::new();
    let rise = || CatalogEntry::SetClusterVersion { version: version(2) };
    catalog.apply(1, CatalogEntry::SetClusterVersion { version: version(1) }).unwrap();
    catalog.apply(2, CatalogEntry::Hold { at: Some(version(1)) }).unwrap();
    assert_eq!(catalog.held_at(), Some(version(1)));

    assert_eq!(catalog.apply(3, rise()), Err(Refusal::VersionHeld { at: version(1) }));

    catalog.apply(4, CatalogEntry::Hold { at: None }).unwrap();
    assert!(catalog.apply(5, rise()).is_ok());
}

#[test]
fn node_that_is_too_old_or_too_new_begins_no_life() {
    let mut catalog = Catalog::new();
    catalog.apply(1, CatalogEntry::SetClusterVersion { version: version(2) }).unwrap();

    for minor in [1, 4] {
        let refused = up_in(&mut catalog, 2, minor);
        assert!(matches!(refused, Err(Refusal::VersionMisfit(_))), "{minor}: {refused:?}");
    }
    for (index, minor) in [(3, 2), (4, 3), (5, 2)] {
        assert!(up_in(&mut catalog, index, minor).is_ok(), "{minor}");
    }
}

#[test]
fn entry_of_the_next_version_counts_once_the_cluster_has_it() {
    let mut catalog = Catalog::new();
    catalog.apply(1, CatalogEntry::SetClusterVersion { version: version(1) }).unwrap();
    let mark = || CatalogEntry::Mark { number: 7 };
    assert_eq!(catalog.apply(2, mark()), Err(Refusal::NotInThisVersion));

    catalog.apply(3, CatalogEntry::SetClusterVersion { version: MARK_SINCE }).unwrap();

    assert!(catalog.apply(4, mark()).is_ok());
    assert_eq!(catalog.mark(), 7);
}
