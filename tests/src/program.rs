//! Where the program under test is.

use std::{env, path::PathBuf};

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

/// Whether the program is an optimised build, for figures that hold only there.
#[must_use]
pub fn is_release() -> bool {
    program().components().any(|part| part.as_os_str() == "release")
}
