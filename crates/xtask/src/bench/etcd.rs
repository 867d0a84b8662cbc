//! `bench --etcd`: what it needs that nothing else does.

use std::{path::PathBuf, process::Command};

use crate::{
    install,
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// The package of Debian and its descendants.
const PACKAGE: &str = "etcd-server";

/// The comparison, built in a workspace of its own, with a server to compare with.
pub(super) fn command(workspace: &Workspace) -> Result<Command, Failure> {
    let server = server(workspace)?;
    let target = workspace.target.join("etcd-bench");
    let mut build = workspace.cargo(["build", "--release", "--target-dir"]);
    // In its directory, so that cargo finds the configuration of the checkout above it.
    build.arg(&target).current_dir(workspace.root.join("bench/etcd"));
    run::run(&mut build)?;
    let mut command = Command::new(target.join("release/etcd-bench"));
    command.arg("--etcd").arg(server);
    Ok(command)
}

/// The server that is installed, or one out of Debian's package. It is unpacked and not installed:
/// an installed one would run as a service from then on.
fn server(workspace: &Workspace) -> Result<PathBuf, Failure> {
    if runs("etcd".as_ref()) {
        return Ok(PathBuf::from("etcd"));
    }
    let directory = workspace.target.join("etcd");
    let server = directory.join("usr/bin/etcd");
    if runs(&server) {
        return Ok(server);
    }
    say::line(&format!("==> unpacking {PACKAGE} below the target directory, once"));
    install::unpack(PACKAGE, &directory)?;
    if runs(&server) {
        return Ok(server);
    }
    Err(Failure::new(format!("{PACKAGE} was unpacked, and {} does not run", server.display())))
}

fn runs(server: &std::path::Path) -> bool {
    run::succeeds(Command::new(server).arg("--version"))
}
