//! `mutants`: seeded bugs, each of which the simulation or the tests must find.
//!
//! All of them are in one build, behind a feature, and the environment of a process chooses one
//! (crate `mdp-mutants`).

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// How many seeds the simulation may take to find a bug.
const SEEDS_MAX: &str = "200";
/// How many seeds must pass without any bug, in the same build.
const SEEDS_WITHOUT: &str = "20";
/// The variable that chooses a bug.
const VARIABLE: &str = "MAJORDOMO_MUTANT";
/// The feature that puts them into a build.
const FEATURE: &str = "mdp-mutants/seeded";
/// How much of what was found is shown.
const FOUND_CHARS_MAX: usize = 70;
/// The tests that may find what the simulation does not.
const PACKAGES: [&str; 6] =
    ["mdp-catalog", "mdp-broker", "mdp-transport", "mdp-core", "mdp-replica", "mdp-raft"];

/// A bug by its name, and what is wrong with it.
#[derive(Debug)]
struct Mutant {
    name: String,
    what: String,
}

/// What a bug came to.
#[derive(Debug)]
struct Verdict {
    /// By what it was found; `None`: by nothing.
    caught_by: Option<String>,
    took: Duration,
}

/// Tries all bugs, or those that are named.
pub(crate) fn run(workspace: &Workspace, only: &[String]) -> Result<(), Failure> {
    let mut build = workspace.cargo(["build", "--release", "--package", "mdp-sim"]);
    run::run(build.args(["--features", FEATURE]))?;
    let mutants = listed(workspace)?;
    if let Some(unknown) = only.iter().find(|name| mutants.iter().all(|m| m.name != **name)) {
        let known: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
        return Err(Failure::new(format!(
            "there is no seeded bug {unknown:?}; there are {}",
            known.join(", ")
        )));
    }
    say::line(&format!("==> without a bug, {SEEDS_WITHOUT} seeds ..."));
    run::run(simulation(workspace, SEEDS_WITHOUT).env_remove(VARIABLE))?;
    let chosen = mutants.iter().filter(|m| only.is_empty() || only.contains(&m.name));
    let mut verdicts = Vec::new();
    for mutant in chosen {
        let verdict = judge(workspace, mutant)?;
        say::line(&row(mutant, &verdict));
        verdicts.push((mutant, verdict));
    }
    summary(&verdicts)
}

fn simulation(workspace: &Workspace, seeds: &str) -> Command {
    let mut simulation = Command::new(workspace.release("mdp-sim"));
    simulation.args(["--seed", "1", "--seeds", seeds]);
    simulation
}

/// What bugs there are: a name, a tab and an explanation in each line.
fn listed(workspace: &Workspace) -> Result<Vec<Mutant>, Failure> {
    let mut list = Command::new(workspace.release("mdp-sim"));
    let text = run::output(list.arg("--list-mutants"))?;
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines.map(|(name, what)| Mutant { name: name.to_owned(), what: what.to_owned() }).collect())
}

/// The simulation first, for it is the faster one; then the tests.
fn judge(workspace: &Workspace, mutant: &Mutant) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let caught_by = match simulated(workspace, mutant)? {
        Some(by) => Some(by),
        None => tested(workspace, mutant)?,
    };
    Ok(Verdict { caught_by, took: began.elapsed() })
}

fn simulated(workspace: &Workspace, mutant: &Mutant) -> Result<Option<String>, Failure> {
    let mut command = simulation(workspace, SEEDS_MAX);
    let (succeeded, text) = said(command.env(VARIABLE, &mutant.name))?;
    if succeeded {
        return Ok(None);
    }
    Ok(Some(violation(&text).unwrap_or_else(|| "the simulation stopped".to_owned())))
}

/// The seed and the invariant, out of what the simulation printed.
fn violation(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.trim_start().starts_with("violation:"))?;
    let (_, found) = line.split_once(':')?;
    Some(found.trim().to_owned())
}

fn tested(workspace: &Workspace, mutant: &Mutant) -> Result<Option<String>, Failure> {
    let mut command = workspace.cargo(["test", "--no-fail-fast", "--features", FEATURE]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    let (succeeded, text) = said(command.env(VARIABLE, &mutant.name))?;
    if succeeded {
        return Ok(None);
    }
    Ok(failed_test(&text).map(|test| format!("test {test}")))
}

/// The first test that failed. None if none did: what does not compile catches nothing.
fn failed_test(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

/// Whether a program succeeded, and what it wrote.
fn said(command: &mut Command) -> Result<(bool, String), Failure> {
    let output = command.stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| Failure::new(format!("`{}`: {error}", run::shown(command))))?;
    let streams = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&streams).into_owned()))
}

fn row(mutant: &Mutant, verdict: &Verdict) -> String {
    let by = verdict.caught_by.as_deref().unwrap_or("NOT CAUGHT");
    let by: String = by.chars().take(FOUND_CHARS_MAX).collect();
    let took = say::duration(verdict.took);
    format!("    {:<26} {:<60} {took:>8}  {by}", mutant.name, mutant.what)
}

fn summary(verdicts: &[(&Mutant, Verdict)]) -> Result<(), Failure> {
    let escaped: Vec<&str> = verdicts
        .iter()
        .filter(|(_, verdict)| verdict.caught_by.is_none())
        .map(|(mutant, _)| mutant.name.as_str())
        .collect();
    say::line(&format!("{} of {} caught", verdicts.len() - escaped.len(), verdicts.len()));
    if escaped.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("not caught: {}", escaped.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_found_a_bug_is_read_from_its_output() {
        let text = "12 seeds\nviolation: seed 13, step 70, invariant one_reply\nmore\n";
        assert_eq!(violation(text).unwrap(), "seed 13, step 70, invariant one_reply");
        assert_eq!(violation("sim: 200 seeds passed"), None);

        let text = "test a::b ... ok\ntest a::c ... FAILED\n";
        assert_eq!(failed_test(text), Some("a::c"));
        assert_eq!(failed_test("error: could not compile"), None);
    }
}
