//! `bench --etcd`: what it needs that nothing else does.

use std::process::Command;

use crate::{
    install,
    run::{self, Failure},
    workspace::Workspace,
};

/// The package of Debian and its descendants.
const PACKAGE: &str = "etcd-server";

/// The comparison, built in a workspace of its own, with a server to compare with.
pub(super) fn command(workspace: &Workspace) -> Result<Command, Failure> {
    let server = install::unpacked(workspace, PACKAGE, "etcd")?;
    let target = workspace.target.join("etcd-bench");
    let mut build = workspace.cargo(["build", "--release", "--locked", "--target-dir"]);
    // In its directory, so that cargo finds the configuration of the checkout above it.
    build.arg(&target).current_dir(workspace.root.join("bench/etcd"));
    run::run(&mut build)?;
    let mut command = Command::new(target.join("release/etcd-bench"));
    command.arg("--etcd").arg(server);
    Ok(command)
}
