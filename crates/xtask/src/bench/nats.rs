//! `bench --nats`: what it needs that nothing else does.

use std::path::PathBuf;

use crate::{install, run::Failure, workspace::Workspace};

/// The package of Debian and its descendants, and the program in it.
const PACKAGE: &str = "nats-server";

/// A server to compare with.
pub(super) fn server(workspace: &Workspace) -> Result<PathBuf, Failure> {
    install::unpacked(workspace, PACKAGE, PACKAGE)
}
