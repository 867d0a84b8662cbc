//! `bench --etcd`: what it needs that nothing else does.

use std::{fs, path::PathBuf, process::Command};

use crate::{
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
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display()));
    fs::create_dir_all(&directory).map_err(failed)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", PACKAGE]).current_dir(&directory);
    run::run(&mut download).map_err(|failure| {
        Failure::new(format!("{failure}; please put a server named `etcd` into your PATH"))
    })?;
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let package = entry.map_err(failed)?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            run::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&directory))?;
        }
    }
    if runs(&server) {
        return Ok(server);
    }
    Err(Failure::new(format!("{PACKAGE} was unpacked, and {} does not run", server.display())))
}

fn runs(server: &std::path::Path) -> bool {
    run::succeeds(Command::new(server).arg("--version"))
}
