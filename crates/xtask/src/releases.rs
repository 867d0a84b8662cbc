//! Earlier releases, built from this project's own history, for tests of mixed versions and to compare
//! with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// Where each release's commit is written down: `| VERSION | COMMIT |` in a line.
const RELEASES: &str = "docs/decisions/0022-releases.md";
/// How long the name of a commit is.
const COMMIT_CHARS: usize = 40;

/// A program of an earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) program: PathBuf,
}

/// How it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// As tests are, which takes less time; its speed does not matter.
    ForTests,
    /// As it is shipped; one that was built before is kept.
    Shipped,
}

/// Builds the program of the last release that is written down, if it is of another version than this.
/// `None`: there is none, or this clone does not have its commit, which is said.
pub(crate) fn last_other(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    let text = read(workspace);
    match newest(&text) {
        Some((version, _)) if version != env!("CARGO_PKG_VERSION") => {
            Ok(last(workspace, Build::ForTests)?.map(|release| release.program))
        }
        Some(_) | None => Ok(None),
    }
}

fn read(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.root.join(RELEASES)).unwrap_or_default()
}

/// As [`last_other`], whatever version this is.
pub(crate) fn last(workspace: &Workspace, build: Build) -> Result<Option<Release>, Failure> {
    let text = read(workspace);
    let Some((version, commit)) = newest(&text) else { return Ok(None) };
    let kept = match build {
        Build::ForTests => workspace.target.join(format!("majordomo-{version}")),
        Build::Shipped => workspace.release(&format!("majordomo-{version}-{commit}")),
    };
    let release = Release { version: version.to_owned(), program: kept };
    if build == Build::Shipped && release.program.exists() {
        return Ok(Some(release));
    }
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(&workspace.root);
        git
    };
    if !run::succeeds(&mut git(&["cat-file", "-e", &format!("{commit}^{{commit}}")])) {
        say::line(&format!(
            "    left out: release {version}, for this clone does not have commit {commit}; \
             `git fetch --unshallow` brings it"
        ));
        return Ok(None);
    }
    let sources = workspace.target.join(format!("sources-{version}"));
    let place = sources.to_string_lossy().into_owned();
    // What an earlier run left behind may be of another commit.
    run::succeeds(&mut git(&["worktree", "remove", "--force", &place]));
    run::run(&mut git(&["worktree", "add", "--quiet", "--force", "--detach", &place, commit]))?;
    let built = build_in(workspace, &sources, build, &release);
    run::succeeds(&mut git(&["worktree", "remove", "--force", &place]));
    built.map(|()| Some(release))
}

/// In a target directory of its own: cargo tells the crates of two checkouts apart by their versions only, and
/// would link this version's build with crates of the other one.
fn build_in(
    workspace: &Workspace,
    sources: &Path,
    build: Build,
    release: &Release,
) -> Result<(), Failure> {
    let target = workspace.target.join(format!("build-{}", release.version));
    let (profile, built) = match build {
        Build::ForTests => ("test", target.join("debug/majordomo")),
        Build::Shipped => ("release", target.join("release/majordomo")),
    };
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--profile", profile, "--package", "majordomo"]);
    build.current_dir(sources).env("CARGO_TARGET_DIR", &target);
    run::run(&mut build)?;
    keep(&built, &release.program)
}

/// Moves a program to where it is looked for. A fresh clone has no folder there yet.
fn keep(built: &Path, program: &Path) -> Result<(), Failure> {
    let folder = program.parent().unwrap_or_else(|| Path::new("."));
    let moved = fs::create_dir_all(folder).and_then(|()| fs::rename(built, program));
    moved.map_err(|error| {
        let (from, to) = (built.display(), program.display());
        Failure::new(format!("{from} cannot be moved to {to}: {error}"))
    })
}

/// The last release of the list.
fn newest(text: &str) -> Option<(&str, &str)> {
    text.lines().rev().find_map(|line| {
        let mut cells = line.trim().strip_prefix('|')?.split('|').map(str::trim);
        let (version, commit) = (cells.next()?, cells.next()?);
        let commit = commit.trim_matches('`');
        let is_commit =
            commit.len() == COMMIT_CHARS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_commit.then_some((version, commit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_kept_in_a_folder_that_is_not_there_yet() {
        let directory = std::env::temp_dir().join(format!("releases-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (built, program) = (directory.join("built"), directory.join("release/program"));
        fs::write(&built, "x").unwrap();

        keep(&built, &program).unwrap();

        assert_eq!(fs::read_to_string(&program).unwrap(), "x");
        let again = keep(&built, &program).unwrap_err().to_string();
        fs::remove_dir_all(&directory).unwrap();
        for path in [built, program] {
            assert!(again.contains(&path.display().to_string()), "{again}");
        }
    }

    #[test]
    fn newest_release_is_the_last_line_with_a_commit() {
        let (first, second) = ("a".repeat(40), "0".repeat(40));
        let text = format!(
            "# Releases\n\n| version | commit |\n|---|---|\n| 0.1.0 | `{first}` |\n\
             | 0.2.0 | `{second}` | notes |\n| 0.3.0 | soon |\n"
        );

        assert_eq!(newest(&text), Some(("0.2.0", second.as_str())));
        assert_eq!(newest("| 0.1.0 | |"), None);
    }
}
