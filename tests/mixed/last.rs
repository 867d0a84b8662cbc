//! The last release, built from its commit, beside this version and the next one. Without a recorded
//! release, or without its commit in this clone, there is nothing to run.

use cluster_tests::last_program;

use crate::{
    Release::{Last, This},
    cluster_of,
    formats::everybody_serves_everybody,
    machine,
    rolling::rolls_under_calls,
};

/// Whether there is a program of the last release.
fn is_there() -> bool {
    last_program().is_some()
}

#[test]
fn last_release_serves_this_version_and_the_next_one() {
    if !is_there() {
        return;
    }
    let _machine = machine();
    // One old, and a quorum of old ones.
    for releases in [[Last, This, This], [This, Last, Last]] {
        let cluster = cluster_of(releases).started();
        everybody_serves_everybody(&cluster);
    }
}

#[test]
fn upgrade_from_the_last_release_and_back_under_calls_loses_none() {
    if !is_there() {
        return;
    }
    let _machine = machine();
    rolls_under_calls(Last, &[(This, 1), (Last, 1)]);
}
