//! Other users of a node's machine.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use cluster_tests::TestCluster;
use rustix::process::Signal;

/// How long a node may take to drain.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn data_of_a_node_is_its_owners_alone_also_where_an_earlier_version_left_it_open() {
    let mut cluster = TestCluster::start(&[]);
    let data = cluster.node(0).data_dir();
    let modes = || {
        let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        (mode(&data), files.map(|file| mode(&file)).collect::<Vec<_>>())
    };
    // The log, its lock, and the socket for administration, which goes at a clean stop.
    assert_eq!(modes(), (0o700, vec![0o600; 3]));

    cluster.node_mut(0).signal(Signal::TERM);
    assert_eq!(cluster.node_mut(0).wait_for_exit(STOPPED_WITHIN), Some(0));
    assert_eq!(modes(), (0o700, vec![0o600; 2]));
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    for file in fs::read_dir(&data).unwrap() {
        fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
    }
    cluster.node_mut(0).start();
    cluster.wait_until_ready();

    assert_eq!(modes(), (0o700, vec![0o600; 3]));
}
