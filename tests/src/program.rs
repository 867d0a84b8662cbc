//! Where the program under test is.

use std::{
    env,
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{look_for, process::without_settings};

/// How long a command may take: longer than it waits for a node by itself.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

/// The program: `MAJORDOMO_BIN`, else what was built last into this workspace's target directory.
#[must_use]
pub fn program() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Some(given) = env::var_os("MAJORDOMO_BIN") {
        // Relative to the workspace: cargo starts tests in the folder of their package.
        let path = workspace.join(given);
        assert!(path.is_file(), "MAJORDOMO_BIN names {}, which is not a file", path.display());
        return path.canonicalize().unwrap();
    }
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("majordomo"));
    let newest = built
        .iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max_by_key(|(modified, _)| *modified);
    let Some((_, path)) = newest else {
        panic!(
            "there is no program to test: set MAJORDOMO_BIN, or run `cargo build -p majordomo` \
             (looked at {} and {})",
            built[0].display(),
            built[1].display()
        );
    };
    path.canonicalize().unwrap()
}

/// The program that stands in for the next version: `MAJORDOMO_NEXT_BIN`.
#[must_use]
pub fn next_program() -> PathBuf {
    let given = env::var_os("MAJORDOMO_NEXT_BIN");
    let Some(given) = given else {
        panic!(
            "there is no next version to test with: `cargo xtask test mixed` builds it (cargo \
             build -p majordomo --features test-next) and names it in MAJORDOMO_NEXT_BIN"
        );
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(given);
    assert!(path.is_file(), "MAJORDOMO_NEXT_BIN names {}, which is not a file", path.display());
    path.canonicalize().unwrap()
}

/// The program of the last release, if there is one: `MAJORDOMO_LAST_BIN`.
#[must_use]
pub fn last_program() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("MAJORDOMO_LAST_BIN")?);
    assert!(path.is_file(), "MAJORDOMO_LAST_BIN names {}, which is not a file", path.display());
    Some(path)
}

/// Whether the program is an optimised build, for figures that hold only there.
#[must_use]
pub fn is_release() -> bool {
    program().components().any(|part| part.as_os_str() == "release")
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs the program with these arguments to its end, without any setting of the environment.
#[must_use]
#[track_caller]
pub fn majordomo(arguments: &[&str]) -> Finished {
    let mut command = Command::new(program());
    without_settings(&mut command);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = read_to_end(child.stdout.take().unwrap());
    let stderr = read_to_end(child.stderr.take().unwrap());
    let ended = look_for(COMMAND_PATIENCE, || child.try_wait().unwrap());
    if ended.is_none() {
        drop(child.kill());
    }
    let code = child.wait().unwrap().code();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    assert!(ended.is_some(), "{arguments:?} did not end within {COMMAND_PATIENCE:?}: {stderr}");
    Finished { code, stdout, stderr }
}

fn read_to_end(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
