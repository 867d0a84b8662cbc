//! A new cluster from one survivor.

use super::*;

const ENDPOINT: &str = "tcp://node-1:5556";

#[tokio::test]
async fn survivor_becomes_the_only_voter_of_a_new_cluster_with_all_it_has() {
    let dir = directory();
    let mut opened = open(dir.path());
    fill(&mut opened).await;
    let before = opened.identity.identity();
    opened.log.close().await.unwrap();

    let recovered = recover(dir.path(), &name(), ENDPOINT).unwrap();

    let mut opened = open(dir.path());
    let now = opened.identity.identity();
    assert_eq!(now.node_id, before.node_id);
    assert_ne!(now.cluster_id, before.cluster_id);
    let cluster_id = now.cluster_id.map(|id| format!("{id:032x}")).unwrap();
    let expected = Recovered {
        node_id: before.node_id,
        cluster_id,
        applied_index: 61,
        services: 58,
        nodes: 1,
    };
    assert_eq!(recovered, expected);
    assert_eq!(opened.log().read_vote().await.unwrap(), Some(vote(3)));
    let state = opened.log().get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(2, 61)));
    assert_eq!(state.last_log_id, Some(log_id(2, 61)));
    let snapshot = opened.snapshots.load().unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(log_id(2, 61)));
    let membership = snapshot.meta.last_membership.membership();
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [before.node_id.0]);
    let member = Member { name: "node-1".to_owned(), endpoint: ENDPOINT.to_owned() };
    assert_eq!(membership.nodes().collect::<Vec<_>>(), [(&before.node_id.0, &member)]);
    let catalog = mdp_catalog::decode_snapshot(&snapshot.snapshot).unwrap();
    assert!(catalog.is_offered(b"s59"));
}

#[tokio::test]
async fn stale_log_behind_a_leaders_snapshot_is_left_out() {
    let dir = directory();
    let mut opened = open(dir.path());
    let members = Entry { log_id: log_id(1, 0), payload: Payload::Membership(membership(&[7])) };
    let stale = [members, command(3, 1, node_up()), command(3, 2, offer(1, 1, "stale"))];
    opened.log().blocking_append(stale).await.unwrap();
    opened.snapshots.save(snapshot(log_id(2, 1), &Catalog::new())).await.unwrap();
    opened.log.close().await.unwrap();

    let recovered = recover(dir.path(), &name(), ENDPOINT).unwrap();

    assert_eq!((recovered.applied_index, recovered.services), (1, 0));
    let mut opened = open(dir.path());
    assert_eq!(opened.log().try_get_log_entries(..).await.unwrap(), []);
}

#[tokio::test]
async fn nothing_to_recover_is_said() {
    let dir = directory();
    let error = recover(dir.path(), &name(), ENDPOINT).unwrap_err();
    assert!(error.to_string().contains("there is no raft.redb in it"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let opened = open(dir.path());
    let error = recover(dir.path(), &name(), ENDPOINT).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    opened.log.close().await.unwrap();

    let error = recover(dir.path(), &name(), ENDPOINT).unwrap_err();
    assert!(error.to_string().contains("never was a member of a cluster"), "{error}");
}
