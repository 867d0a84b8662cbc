//! Where things are.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
};

use crate::run::{self, Failure};

/// The checkout, and where cargo puts what it builds.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    cargo: OsString,
}

impl Workspace {
    /// Asks cargo where the target directory is: environment and configuration may move it.
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .ancestors()
            .nth(2)
            .ok_or_else(|| Failure::new("xtask does not lie in crates/xtask"))?
            .to_path_buf();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));

        let mut metadata = Command::new(&cargo);
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(&root);
        let metadata = run::output(&mut metadata)?;
        let target = target_directory(&metadata)
            .map_or_else(|| root.join("target"), |directory| PathBuf::from(directory.to_owned()));
        Ok(Self { root, target, cargo })
    }

    /// A cargo command in the root of the checkout.
    pub(crate) fn cargo<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root);
        // The toolchain of `rust-toolchain.toml` is already chosen, and what `cargo run` tells
        // this program is not meant for the cargo that it starts.
        for (name, _) in env::vars_os() {
            if is_meant_for_xtask(&name) {
                command.env_remove(name);
            }
        }
        command
    }

    /// A program that was built with `--release`.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        self.target.join("release").join(program)
    }
}

/// `CARGO_MANIFEST_DIR`, `CARGO_PKG_*` and their like make build scripts run again when they change.
fn is_meant_for_xtask(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name == "CARGO_PRIMARY_PACKAGE"
    })
}

/// The one string of `cargo metadata` that is needed does not pay for a JSON reader.
fn target_directory(metadata: &str) -> Option<&str> {
    let (_, rest) = metadata.split_once(r#""target_directory":""#)?;
    rest.split_once('"').map(|(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_directory_is_read_from_the_metadata() {
        let metadata = r#"{"packages":[],"target_directory":"/elsewhere/target","version":1}"#;
        assert_eq!(target_directory(metadata), Some("/elsewhere/target"));
        assert_eq!(target_directory("{}"), None);
    }
}
