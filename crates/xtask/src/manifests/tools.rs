//! Other people's checkers, each put below the target directory when it is first asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    install,
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// Fixed, so that what was right yesterday is right today.
const PYTHON_TOOLS: [&str; 2] = ["yamllint==1.38.0", "kubernetes-validate==1.37.0"];
const CHECKOV: [&str; 1] = ["checkov==3.3.30"];
/// The package of Debian that promtool is in.
const PROMETHEUS: &str = "prometheus";

/// A tool of the virtual environment that is made for these checks.
pub(super) fn python_tool(workspace: &Workspace, name: &str) -> Result<Command, Failure> {
    environment(workspace, "manifests", &PYTHON_TOOLS).map(|bin| Command::new(bin.join(name)))
}

/// Has an environment of its own, which is five times as large as the other.
pub(super) fn checkov(workspace: &Workspace) -> Result<Command, Failure> {
    environment(workspace, "checkov", &CHECKOV).map(|bin| Command::new(bin.join("checkov")))
}

/// The programs of a virtual environment, made unless it was made with these packages before.
fn environment(workspace: &Workspace, name: &str, packages: &[&str]) -> Result<PathBuf, Failure> {
    let environment = workspace.target.join(name);
    let (bin, stamp) = (environment.join("bin"), environment.join("packages"));
    let wanted = packages.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|made_with| made_with == wanted) {
        return Ok(bin);
    }
    say::line(&format!("    making a virtual environment with {}, once", packages.join(", ")));
    run::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(bin.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run::run(pip.args(packages))?;
    super::write(&stamp, &wanted)?;
    Ok(bin)
}

/// The folder of `prometheus` and `promtool` out of Debian's package; `None`: both are in the path.
/// It is unpacked and not installed: an installed Prometheus would run as a service from then on.
pub(super) fn prometheus(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    let programs = ["prometheus", "promtool"];
    if programs.iter().all(|program| runs(Path::new(program))) {
        return Ok(None);
    }
    let unpacked = workspace.target.join(PROMETHEUS);
    let folder = unpacked.join("usr/bin");
    let are_there = || programs.iter().all(|program| runs(&folder.join(program)));
    if !are_there() {
        say::line(&format!("    unpacking {PROMETHEUS} below the target directory, once"));
        install::unpack(PROMETHEUS, &unpacked)?;
    }
    if are_there() {
        return Ok(Some(folder));
    }
    let failed = format!("{PROMETHEUS} was unpacked, and {} does not run", folder.display());
    Err(Failure::new(failed))
}

/// The program that tests rules.
pub(super) fn promtool(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let folder = prometheus(workspace)?.unwrap_or_default();
    Ok(folder.join("promtool"))
}

fn runs(program: &Path) -> bool {
    run::succeeds(Command::new(program).arg("--version"))
}

/// Where what is derived from the manifests lies.
pub(super) fn work_folder(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let folder = workspace.target.join("manifests-work");
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

/// Runs to the end and returns what was written to standard output. Who reads the outcome of a
/// check wants to see what it says only when it fails.
pub(super) fn heard(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("`{}`: {error}", run::shown(command))))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    say::line(text.trim_end());
    say::complaint(String::from_utf8_lossy(&output.stderr).trim_end());
    Err(Failure::new(format!("`{}` ended with {}", run::shown(command), output.status)))
}
