//! `sim`: seeds of the cluster simulation.

use std::process::Command;

use crate::{
    run::{self, Failure},
    workspace::Workspace,
};

/// How many seeds `test` runs.
const SEEDS_OF_TEST: &str = "150";

/// Options that stand alone, and options with a value behind them.
const FLAGS: [&str; 2] = ["--replay", "--json"];
const VALUES: [&str; 5] = ["--seed", "--seeds", "--seconds", "--threads", "--resume"];

/// What the simulation is to be told, each word known to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sim {
    arguments: Vec<String>,
}

impl TryFrom<&[String]> for Sim {
    type Error = String;

    /// The argument that means nothing.
    fn try_from(arguments: &[String]) -> Result<Self, String> {
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let is_value = VALUES.contains(&word.as_str());
            if !is_value && !FLAGS.contains(&word.as_str()) {
                return Err(word.clone());
            }
            if is_value && words.next().is_none() {
                return Err(word.clone());
            }
        }
        Ok(Self { arguments: arguments.to_vec() })
    }
}

/// Builds the simulation and runs what was asked for.
pub(crate) fn run(workspace: &Workspace, sim: &Sim) -> Result<(), Failure> {
    build(workspace)?;
    run::run(Command::new(workspace.release("mdp-sim")).args(&sim.arguments))
}

/// The short form, for `test`.
pub(crate) fn short(workspace: &Workspace) -> Result<(), Failure> {
    build(workspace)?;
    run::run(Command::new(workspace.release("mdp-sim")).args(["--seeds", SEEDS_OF_TEST]))
}

fn build(workspace: &Workspace) -> Result<(), Failure> {
    run::run(&mut workspace.cargo(["build", "--release", "--package", "mdp-sim"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sim(words: &[&str]) -> Result<Sim, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Sim::try_from(words.as_slice())
    }

    #[test]
    fn known_options_are_passed_on() {
        let words = ["--seed", "7", "--seeds", "1", "--replay"];
        assert_eq!(sim(&words).map(|sim| sim.arguments.len()), Ok(words.len()));
    }

    #[test]
    fn unknown_options_and_missing_values_are_named() {
        assert_eq!(sim(&["--fast"]), Err("--fast".to_owned()));
        assert_eq!(sim(&["--seed"]), Err("--seed".to_owned()));
    }
}
