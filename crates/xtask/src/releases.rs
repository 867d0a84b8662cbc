//! Earlier releases, built from this project's own history for tests of mixed versions.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// Where each release's commit is written down: `| VERSION | COMMIT |` in a line.
const RELEASES: &str = "docs/decisions/0022-releases.md";
/// How long the name of a commit is.
const COMMIT_CHARS: usize = 40;

/// Builds the program of the last release that is written down, if it is of another version than this.
/// `None`: there is none, or this clone does not have its commit, which is said.
pub(crate) fn last_other(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    let text = read(workspace);
    match newest(&text) {
        Some((version, _)) if version != env!("CARGO_PKG_VERSION") => last(workspace),
        Some(_) | None => Ok(None),
    }
}

fn read(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.root.join(RELEASES)).unwrap_or_default()
}

/// As [`last_other`], whatever version this is.
pub(crate) fn last(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    let text = read(workspace);
    let Some((version, commit)) = newest(&text) else { return Ok(None) };
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(&workspace.root);
        git
    };
    if !run::succeeds(&mut git(&["cat-file", "-e", &format!("{commit}^{{commit}}")])) {
        say::line(&format!(
            "    not run: mixes with release {version}, for this clone does not have commit {commit}; \
             `git fetch --unshallow` brings it"
        ));
        return Ok(None);
    }
    let sources = workspace.target.join(format!("sources-{version}"));
    let place = sources.to_string_lossy().into_owned();
    // What an earlier run left behind may be of another commit.
    run::succeeds(&mut git(&["worktree", "remove", "--force", &place]));
    run::run(&mut git(&["worktree", "add", "--quiet", "--force", "--detach", &place, commit]))?;
    let built = build(workspace, &sources, version);
    run::succeeds(&mut git(&["worktree", "remove", "--force", &place]));
    built.map(Some)
}

/// In the target directory of this version, which has what both need built already.
fn build(workspace: &Workspace, sources: &PathBuf, version: &str) -> Result<PathBuf, Failure> {
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--profile", "test", "--package", "majordomo"]);
    build.current_dir(sources).env("CARGO_TARGET_DIR", &workspace.target);
    run::run(&mut build)?;
    let built = workspace.target.join("debug/majordomo");
    let kept = workspace.target.join(format!("majordomo-{version}"));
    fs::rename(&built, &kept)
        .map_err(|error| Failure::new(format!("{}: {error}", built.display())))?;
    Ok(kept)
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
