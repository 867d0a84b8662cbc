//! Licences, sources, bans and advisories of everything that is linked, by the rules of
//! `deny.toml`.

use std::{path::PathBuf, process::Command};

use crate::{
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// Fixed, so that a check that passed yesterday passes today.
const VERSION: &str = "0.20.2";

/// What needs nothing but the sources of the dependencies.
const ALWAYS: [&str; 3] = ["bans", "licenses", "sources"];

/// Lets cargo-deny check everything that it can here.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    let program = installed(workspace)?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&workspace.root).arg("--workspace").args(arguments);
        command
    };
    run::run(deny(&["check"]).args(ALWAYS))?;
    // The database of advisories lies on another server than the crates, which not everybody may
    // reach; and what is published there is no fault of the change at hand.
    if run::succeeds(&mut deny(&["fetch", "db"])) {
        return run::run(&mut deny(&["check", "--disable-fetch", "advisories"]));
    }
    say::line("    advisories: not checked, their database could not be fetched");
    Ok(())
}

/// The program, built once into the target directory, where it is in nobody's way.
fn installed(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let tools = workspace.target.join("tools");
    let program = tools.join("bin/cargo-deny");
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|output| output.stdout.ends_with(format!(" {VERSION}\n").as_bytes())) {
        return Ok(program);
    }
    say::line(&format!("    installing cargo-deny {VERSION} into the target directory, once"));
    let mut install = workspace.cargo(["install", "--locked", "--quiet", "--version", VERSION]);
    // Without optimisation it is built in a third of the time and takes a second to run.
    install.args(["--debug", "cargo-deny", "--root"]).arg(tools);
    run::run(install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_STRIP", "true"))?;
    Ok(program)
}
