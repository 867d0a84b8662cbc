//! `bench`: figures for a person.

use std::process::Command;

use crate::{
    install::{self, Need},
    run::{self, Failure},
    suite,
    workspace::Workspace,
};

/// What to measure and how to print it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bench {
    /// The engine alone, by callgrind.
    pub(crate) engine: bool,
    /// JSON instead of tables.
    pub(crate) json: bool,
}

impl TryFrom<&[String]> for Bench {
    /// The argument that was not understood.
    type Error = String;

    fn try_from(arguments: &[String]) -> Result<Self, String> {
        let mut bench = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--engine" => bench.engine = true,
                "--json" => bench.json = true,
                _ => return Err(argument.clone()),
            }
        }
        Ok(bench)
    }
}

pub(crate) fn run(workspace: &Workspace, bench: Bench) -> Result<(), Failure> {
    let needs: &[Need] =
        if bench.engine { &[Need::Libzmq, Need::Valgrind] } else { &[Need::Libzmq] };
    install::missing(needs)?;
    suite::build(workspace, &["majordomo", "mdp-bench"])?;
    let program = if bench.engine { "mdp-engine-bench" } else { "mdp-compare" };
    let mut command = Command::new(workspace.release(program));
    command.current_dir(&workspace.root);
    if bench.json {
        command.arg("--json");
    }
    run::run(suite::with_program(&mut command, workspace))
}
