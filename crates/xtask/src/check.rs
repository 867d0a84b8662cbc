//! `check` reads, `fix` writes.

use crate::{
    deny,
    install::{self, Need},
    manifests,
    run::{self, Failure},
    stage::Stages,
    tidy,
    workspace::Workspace,
};

/// Every stage runs, so that one look at the output shows everything that is to be done.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq])?;
    let mut stages = Stages::default();
    stages.run("fmt", || format(workspace, &["--", "--check"]));
    stages.run("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        run::run(&mut workspace.cargo(arguments))
    });
    stages.run("doc", || {
        let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps"]);
        run::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    stages.run("tidy", || tidy::run(workspace));
    stages.run("manifests", || manifests::check(workspace));
    stages.run("deny", || deny::check(workspace));
    stages.finish()
}

/// Applies what the tools know how to repair.
pub(crate) fn fix(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq])?;
    let mut stages = Stages::default();
    stages.run("clippy --fix", || {
        let arguments =
            ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
        run::run(&mut workspace.cargo(arguments))
    });
    stages.run("fmt", || format(workspace, &[]));
    stages.finish()
}

/// The workspace, and the comparison with etcd, which is a workspace of its own.
fn format(workspace: &Workspace, options: &[&str]) -> Result<(), Failure> {
    let ours = run::run(workspace.cargo(["fmt", "--all"]).args(options));
    let etcd = ["fmt", "--manifest-path", "bench/etcd/Cargo.toml"];
    run::run(workspace.cargo(etcd).args(options)).and(ours)
}
