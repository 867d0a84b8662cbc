//! The rules of the repository that a program can check. Each violation says where it is and what
//! would be right.

mod arrows;
mod clauses;
mod clippy_toml;
mod commands;
mod keys;
mod links;
mod locks;
mod sizes;
mod traces;
mod tree;

use std::fmt;

use crate::{run::Failure, say, workspace::Workspace};

use tree::Tree;

/// Something that is not as the repository wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl Violation {
    fn new(file: impl Into<String>, line: usize, rule: impl Into<String>) -> Self {
        Self { file: file.into(), line, rule: rule.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let tree = Tree::read(&workspace.root)?;
    let checks: [fn(&Tree) -> Vec<Violation>; 9] = [
        sizes::check,
        arrows::check,
        clippy_toml::check,
        clauses::check,
        commands::check,
        keys::check,
        links::check,
        locks::check,
        traces::check,
    ];
    let mut violations: Vec<Violation> = checks.iter().flat_map(|check| check(&tree)).collect();
    violations.extend(traces::of_this_machine(&tree, workspace));
    violations.sort();
    violations.dedup();
    report(&violations)
}

fn report(violations: &[Violation]) -> Result<(), Failure> {
    for violation in violations {
        say::line(&violation.to_string());
    }
    match violations.len() {
        0 => Ok(()),
        1 => Err(Failure::new("1 violation")),
        count => Err(Failure::new(format!("{count} violations"))),
    }
}
