//! Programs of the system that a test runs beside the nodes.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use crate::process::Process;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    _process: Process,
}

impl Daemon {
    /// Starts a program that stays in the foreground.
    #[must_use]
    #[track_caller]
    pub fn start(program: &str, arguments: &[&OsStr]) -> Self {
        let mut version = Command::new(program);
        version.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        assert!(
            version.status().is_ok_and(|status| status.success()),
            "{program} is missing: run `cargo xtask install`"
        );
        let process = Process::spawn(program, Command::new(program).args(arguments));
        Self { _process: process }
    }
}
