//! `soak NAME`: long forms of tests.

use crate::{
    install::{self, Need},
    run::{self, Failure},
    say,
    stage::Stages,
    suite,
    totals::Totals,
    workspace::Workspace,
};

/// How many cases a property is tried with; `test` tries 10,000.
const PROPERTY_CASES: &str = "1000000";
/// How long the fuzzer runs, in seconds.
const FUZZ_SECONDS: u32 = 600;

/// A long test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soak {
    Cluster,
    Connections,
    Corruption,
    Failover,
    Freeze,
    Fuzz,
    History,
    Memory,
    Partition,
    Property,
    Registration,
    Restart,
    Storm,
}

impl Soak {
    const ALL: [Self; 13] = [
        Self::Cluster,
        Self::Connections,
        Self::Corruption,
        Self::Failover,
        Self::Freeze,
        Self::Fuzz,
        Self::History,
        Self::Memory,
        Self::Partition,
        Self::Property,
        Self::Registration,
        Self::Restart,
        Self::Storm,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|soak| soak.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Connections => "connections",
            Self::Corruption => "corruption",
            Self::Failover => "failover",
            Self::Freeze => "freeze",
            Self::Fuzz => "fuzz",
            Self::History => "history",
            Self::Memory => "memory",
            Self::Partition => "partition",
            Self::Property => "property",
            Self::Registration => "registration",
            Self::Restart => "restart",
            Self::Storm => "storm",
        }
    }

    const fn summary(self) -> &'static str {
        match self {
            Self::Cluster => "all soaks of the three-node cluster, one after the other",
            Self::Connections => "10,000 idle connections in less than 400 MB",
            Self::Corruption => "1,000 flipped bits in a data directory",
            Self::Failover => "50 kills of the leader, with the gaps that clients see",
            Self::Freeze => "30 pauses of the leader, of 0.1 to 30 s",
            Self::Fuzz => "10 minutes of random frames for the decoder; needs cargo-fuzz",
            Self::History => "25 minutes of faults, each answer checked for linearizability",
            Self::Memory => "every limit on memory with the full numbers",
            Self::Partition => "200 flaps of connections between nodes, and every shape of a cut",
            Self::Property => "1,000,000 cases for the decoder's and the engine's properties",
            Self::Registration => {
                "10,000 workers that come and go, each seen on every node at once"
            }
            Self::Restart => "100 times all nodes killed at the same moment",
            Self::Storm => "10,000 workers of 1,000 services within 10 s",
        }
    }
}

/// The names, for `--help`.
pub(crate) fn list() -> String {
    let lines: Vec<String> =
        Soak::ALL.iter().map(|soak| format!("  {:<12} {}", soak.name(), soak.summary())).collect();
    lines.join("\n")
}

pub(crate) fn run(workspace: &Workspace, soak: Soak) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq, Need::Strace])?;
    let mut stages = Stages::default();
    stages.count(&format!("soak {}", soak.name()), |totals| match soak {
        Soak::Fuzz => fuzz(workspace),
        Soak::Property => {
            let packages = ["--package", "mdp-wire", "--package", "mdp-broker"];
            let mut tests = workspace.cargo(["test", "--release"]);
            tests.args(packages).env("MAJORDOMO_CASES", PROPERTY_CASES);
            suite::counted(&mut tests, totals)
        }
        Soak::Cluster
        | Soak::Corruption
        | Soak::Failover
        | Soak::Freeze
        | Soak::History
        | Soak::Partition
        | Soak::Registration
        | Soak::Restart
        | Soak::Storm => {
            let topic = format!("{}::", soak.name());
            let only = (soak != Soak::Cluster).then_some(topic.as_str());
            let arguments: Vec<&str> = ["--test", "cluster"].into_iter().chain(only).collect();
            black_box(workspace, &arguments, totals)
        }
        Soak::Connections | Soak::Memory => black_box(workspace, &[soak.name()], totals),
    });
    let totals = stages.totals();
    stages.finish()?;
    if soak != Soak::Fuzz && totals.passed == 0 {
        return Err(Failure::new(format!("no test belongs to soak {}", soak.name())));
    }
    Ok(())
}

/// Tests that drive the program as it is shipped, with the full numbers.
fn black_box(
    workspace: &Workspace,
    arguments: &[&str],
    totals: &mut Totals,
) -> Result<(), Failure> {
    suite::build(workspace, &["majordomo"])?;
    let mut tests = workspace.cargo(["test", "--package", "cluster-tests"]);
    tests.args(arguments).args(["--", "--nocapture", "--test-threads=1"]);
    tests.env("MAJORDOMO_SOAK", "1");
    suite::counted(suite::with_program(&mut tests, workspace), totals)
}

fn fuzz(workspace: &Workspace) -> Result<(), Failure> {
    if !run::succeeds(&mut workspace.cargo(["fuzz", "--version"])) {
        return Err(Failure::new(
            "cargo-fuzz is not installed; please run: cargo install --locked cargo-fuzz",
        ));
    }
    say::line(
        "    without a sanitizer: the toolchain is stable, and the decoder has no unsafe code",
    );
    let mut fuzz = workspace.cargo(["fuzz", "run", "--sanitizer", "none", "decode", "--"]);
    fuzz.arg(format!("-max_total_time={FUZZ_SECONDS}"));
    run::run(fuzz.current_dir(workspace.root.join("crates/mdp-wire")))
}
