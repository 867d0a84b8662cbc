//! `bench`: figures for a person.

mod etcd;
mod nats;

use std::process::Command;

use crate::{
    install::{self, Need},
    releases::{self, Release},
    run::{self, Failure},
    suite,
    workspace::Workspace,
};

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// One node against the floors.
    #[default]
    Floor,
    /// The engine alone, by callgrind.
    Engine,
    /// Linearizable answers of a follower against local ones of the same node.
    Mmi,
    /// Linearizable answers against linearizable reads of etcd.
    Etcd,
    /// Requests that cross nodes against those that do not.
    Relay,
    /// Many idle workers.
    Crowd,
}

/// What to measure and how to print it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    /// Compares with a server of NATS, too.
    pub(crate) nats: bool,
    /// Compares with the last release, too.
    pub(crate) last: bool,
    /// Loads with sockets of libzmq.
    pub(crate) libzmq: bool,
    /// JSON instead of tables.
    pub(crate) json: bool,
}

/// Options that are no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Unknown(String),
    /// Each of them means something, but not the second beside the first.
    NotTogether(String, String),
}

impl TryFrom<&[String]> for Bench {
    type Error = Refused;

    fn try_from(arguments: &[String]) -> Result<Self, Refused> {
        let mut bench = Self::default();
        // What names the subject.
        let mut chosen: Option<&String> = None;
        for argument in arguments {
            let subject = match argument.as_str() {
                "--json" => {
                    bench.json = true;
                    continue;
                }
                "--nats" => {
                    bench.nats = true;
                    continue;
                }
                "--last" => {
                    bench.last = true;
                    continue;
                }
                "--libzmq" => {
                    bench.libzmq = true;
                    continue;
                }
                "--engine" => Subject::Engine,
                "--mmi" => Subject::Mmi,
                "--etcd" => Subject::Etcd,
                "--relay" => Subject::Relay,
                "--crowd" => Subject::Crowd,
                _ => return Err(Refused::Unknown(argument.clone())),
            };
            if let Some(first) = chosen.replace(argument) {
                return Err(Refused::NotTogether(first.clone(), argument.clone()));
            }
            bench.subject = subject;
        }
        let excluded = bench.excluded().into_iter().find(|(_, is_given)| *is_given);
        match (chosen, excluded) {
            (Some(chosen), Some((name, _))) => {
                Err(Refused::NotTogether(chosen.clone(), name.to_owned()))
            }
            (Some(_), None) | (None, _) => Ok(bench),
        }
    }
}

impl Bench {
    /// Options that mean nothing to the subject, and whether they are given.
    fn excluded(self) -> Vec<(&'static str, bool)> {
        let others = [("--nats", self.nats), ("--last", self.last)];
        let libzmq = ("--libzmq", self.libzmq);
        match self.subject {
            Subject::Floor => Vec::new(),
            Subject::Crowd => vec![libzmq],
            Subject::Engine | Subject::Mmi | Subject::Etcd | Subject::Relay => {
                [others.as_slice(), &[libzmq]].concat()
            }
        }
    }
}

pub(crate) fn run(workspace: &Workspace, bench: Bench) -> Result<(), Failure> {
    let needs: &[Need] = match bench.subject {
        Subject::Engine => &[Need::Libzmq, Need::Valgrind],
        Subject::Floor | Subject::Mmi | Subject::Etcd | Subject::Relay | Subject::Crowd => {
            &[Need::Libzmq]
        }
    };
    install::missing(needs)?;
    suite::build(workspace, &["majordomo", "mdp-bench"])?;
    let last = if bench.last { releases::last(workspace, releases::Build::Shipped)? } else { None };
    let mut command = match bench.subject {
        Subject::Floor => comparison("mdp-compare", workspace, bench, last)?,
        Subject::Crowd => comparison("mdp-crowd-bench", workspace, bench, last)?,
        Subject::Engine => Command::new(workspace.release("mdp-engine-bench")),
        Subject::Mmi => Command::new(workspace.release("mdp-mmi-bench")),
        Subject::Etcd => etcd::command(workspace)?,
        Subject::Relay => Command::new(workspace.release("mdp-relay-bench")),
    };
    command.current_dir(&workspace.root);
    if bench.json {
        command.arg("--json");
    }
    run::run(suite::with_program(&mut command, workspace))
}

/// One node against whatever else is asked for.
fn comparison(
    program: &str,
    workspace: &Workspace,
    bench: Bench,
    last: Option<Release>,
) -> Result<Command, Failure> {
    let mut command = Command::new(workspace.release(program));
    if let Some(Release { version, program }) = last {
        command.arg("--release").arg(format!("{version}={}", program.display()));
    }
    if bench.nats {
        command.arg("--nats").arg(nats::server(workspace)?);
    }
    if bench.libzmq {
        command.arg("--libzmq");
    }
    Ok(command)
}
