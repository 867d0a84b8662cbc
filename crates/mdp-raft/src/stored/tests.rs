use mdp_catalog::NodeId;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn log_id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 2, node_id: 300 }, index }
}

fn membership() -> Membership {
    let member = |name: &str| Member { name: name.to_owned(), endpoint: format!("tcp://{name}:1") };
    let nodes: BTreeMap<u64, Member> = [(1, member("n1")), (300, member("n2"))].into();
    Membership::new(vec![[1].into(), [1, 300].into()], nodes).unwrap()
}

fn entries() -> Vec<Entry> {
    let command = Command(mdp_catalog::CatalogEntry::Retire { node_id: NodeId(7) });
    let payloads = [Payload::Blank, Payload::Normal(command), Payload::Membership(membership())];
    (1..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(index), payload }).collect()
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(70_000)),
        last_membership: StoredMembership::new(Some(log_id(3)), membership()),
    }
}

fn vote() -> Vote {
    Vote { leader_id: LeaderId { term: 3, node_id: 1 }, committed: true }
}

fn identities() -> [Identity; 2] {
    let identity =
        |cluster_id| Identity { name: "n1".parse().unwrap(), node_id: NodeId(300), cluster_id };
    [identity(None), identity(Some(u128::MAX))]
}

fn encoded() -> Vec<String> {
    let mut records = vec![
        encode_vote(&vote()).unwrap(),
        encode_log_id(&log_id(70_000)).unwrap(),
        encode_snapshot_meta(&meta()).unwrap(),
        encode_commits(500).unwrap(),
    ];
    records.extend(entries().iter().map(|entry| encode_log_entry(entry).unwrap()));
    records.extend(identities().iter().map(|identity| encode_identity(identity).unwrap()));
    records.iter().map(|record| hex(record)).collect()
}

#[test]
fn bytes_of_format_1_never_change() {
    let golden: Vec<&str> = include_str!("golden-format-1.txt").lines().collect();

    assert_eq!(encoded(), golden);
}

#[test]
fn what_was_encoded_is_decoded() {
    assert_eq!(decode_vote(&encode_vote(&vote()).unwrap()), Ok(vote()));
    assert_eq!(decode_log_id(&encode_log_id(&log_id(9)).unwrap()), Ok(log_id(9)));
    assert_eq!(decode_snapshot_meta(&encode_snapshot_meta(&meta()).unwrap()), Ok(meta()));
    assert_eq!(decode_commits(&encode_commits(500).unwrap()), Ok(500));
    for entry in entries() {
        assert_eq!(decode_log_entry(&encode_log_entry(&entry).unwrap()), Ok(entry));
    }
    for identity in identities() {
        assert_eq!(decode_identity(&encode_identity(&identity).unwrap()), Ok(identity));
    }
}
