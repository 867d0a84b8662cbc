//! `cargo xtask`: everything that a developer or CI does with this repository, as one program.
//!
//! It links nothing but the standard library, so that it can be built before libzmq is there: it
//! is the one who installs it.

mod bench;
mod check;
mod commands;
mod demo;
mod deny;
mod descendants;
mod flaky;
mod image;
mod install;
mod manifests;
mod mutants;
mod players;
mod ports;
mod readme;
mod releases;
mod run;
mod say;
mod sim;
mod soak;
mod stage;
mod suite;
mod task;
mod tidy;
mod toml;
mod totals;
mod workspace;

use std::{env, process::ExitCode};

use task::{Request, Task};
use workspace::Workspace;

/// What was asked for could not be understood, as every part of this project says it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match Request::try_from(arguments.as_slice()) {
        Ok(Request::Help(text)) => {
            say::line(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Run(task)) => perform(&task),
        Err(error) => {
            say::complaint(&format!("xtask: {error}\n\n{}", task::overview()));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn perform(task: &Task) -> ExitCode {
    match Workspace::find().and_then(|workspace| task.run(&workspace)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::complaint(&format!("xtask: {failure}"));
            ExitCode::FAILURE
        }
    }
}
