//! `image`: the container image around the program as it is built here, without any registry.

use std::{fs, path::Path, process::Command};

use crate::{
    install::{self, Need},
    run::{self, Failure},
    say, suite,
    workspace::Workspace,
};

/// An image and the program in it.
#[derive(Clone, Copy, Debug)]
struct Image<'a> {
    name: &'a str,
    version: &'a str,
    program: &'a Path,
}

/// The image of the program that stands in for the next version in tests.
const NEXT: &str = "majordomo:0.2.0-test-next";
/// Collects the program and its libraries; both Dockerfiles take what it leaves.
const COLLECT: &str = "deploy/docker/root.sh";
const DOCKERFILE: &str = "deploy/docker/Dockerfile.prebuilt";

/// Builds the program and the image, and says how large that is.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    if !engine_answers() {
        return Err(Failure::new(
            "no Docker engine answers `docker version`; is it running, and may you use it?",
        ));
    }
    install::missing(&[Need::Libzmq])?;
    suite::build(workspace, &["majordomo"])?;
    build(workspace)
}

/// Whether there is an engine, and this user may ask it.
pub(crate) fn engine_answers() -> bool {
    run::succeeds(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
}

/// Builds the image around the program that is there.
pub(crate) fn build(workspace: &Workspace) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let (name, program) = (format!("majordomo:{version}"), workspace.release("majordomo"));
    build_one(workspace, &Image { name: &name, version, program: &program })
}

/// Builds the image of the next version around this program.
pub(crate) fn build_next(workspace: &Workspace, program: &Path) -> Result<(), Failure> {
    build_one(workspace, &Image { name: NEXT, version: "0.2.0", program })
}

fn build_one(workspace: &Workspace, image: &Image<'_>) -> Result<(), Failure> {
    let folder = workspace.target.join("image");
    empty(&folder)?;
    let mut collect = Command::new(workspace.root.join(COLLECT));
    run::run(collect.arg(image.program).arg(&folder))?;
    run::run(&mut docker_build(workspace, image, &folder))?;
    prune();
    let mut inspect = Command::new("docker");
    inspect.args(["image", "inspect", "--format", "{{.Size}}", image.name]);
    let size = run::output(&mut inspect)?;
    say::line(&format!("{}: {}", image.name, megabytes(size.trim())));
    Ok(())
}

fn docker_build(workspace: &Workspace, image: &Image<'_>, folder: &Path) -> Command {
    let mut build = Command::new("docker");
    // The builder that every engine has. Without a cache, which takes labels of an earlier version
    // for those of this one; and without a network, so that it is sure that none is needed.
    build.env("DOCKER_BUILDKIT", "0");
    build.args(["build", "--quiet", "--no-cache", "--network", "none", "--tag", image.name]);
    build.args(["--build-arg", &format!("VERSION={}", image.version)]);
    let revision = revision(workspace);
    build.args(["--build-arg", &format!("REVISION={revision}"), "--file"]);
    build.arg(workspace.root.join(DOCKERFILE)).arg(folder);
    build
}

/// The image that had the name before keeps its bytes without a name. That goes
/// now, unless a container is made of it.
fn prune() {
    let ours = "label=org.opencontainers.image.title=majordomo";
    let mut prune = Command::new("docker");
    run::succeeds(prune.args(["image", "prune", "--force", "--filter", ours]));
}

/// The commit that the sources are of; sources from an archive have none.
fn revision(workspace: &Workspace) -> String {
    let mut describe = Command::new("git");
    describe.args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    let described = run::output(describe.current_dir(&workspace.root));
    described.map_or_else(|_| "unknown".to_owned(), |commit| commit.trim().to_owned())
}

fn empty(folder: &Path) -> Result<(), Failure> {
    let is_gone = fs::remove_dir_all(folder).or_else(|error| {
        if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    });
    is_gone
        .and_then(|()| fs::create_dir_all(folder))
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))
}

fn megabytes(bytes: &str) -> String {
    let bytes: u64 = bytes.parse().unwrap_or(0);
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dockerfiles_end_alike() {
        let end = |text: &'static str| text.split_once("\nARG VERSION=").unwrap().1;
        let full = include_str!("../../../deploy/docker/Dockerfile");
        let prebuilt = include_str!("../../../deploy/docker/Dockerfile.prebuilt");

        assert_eq!(end(full), end(prebuilt));
    }

    #[test]
    fn sizes_are_in_megabytes() {
        assert_eq!(megabytes("19654321"), "19.6 MB");
    }
}
