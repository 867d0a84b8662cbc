//! `soak NAME`: long forms of tests.

use std::time::Duration;

use crate::{
    install::{self, Need},
    manifests, releases,
    run::{self, Failure},
    say,
    stage::Stages,
    suite,
    totals::Totals,
    workspace::Workspace,
};

/// How many cases a property is tried with; `test` tries 10,000.
const PROPERTY_CASES: &str = "1000000";
/// How long a soak may take before it is killed. The longest takes about an hour.
const SOAK_LIMIT: Duration = Duration::from_hours(3);
/// How long the fuzzer runs with each target, in seconds.
const FUZZ_SECONDS: u32 = 600;
/// The targets: the crate that has it, and its name.
const FUZZ_TARGETS: [(&str, &str); 4] = [
    ("mdp-wire", "decode"),
    ("mdp-wire", "relay"),
    ("mdp-transport", "connection"),
    ("mdp-transport", "curve"),
];

/// A long test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soak {
    Accounting,
    Balance,
    Balancer,
    Cluster,
    Connections,
    Corruption,
    Delivery,
    Failover,
    Figures,
    Freeze,
    Fuzz,
    History,
    Hostile,
    Kubernetes,
    Manifests,
    Membership,
    Memory,
    Nemesis,
    Overload,
    Partition,
    Property,
    Registration,
    Releases,
    Restart,
    Rolling,
    Storm,
    Together,
}

impl Soak {
    const ALL: [Self; 27] = [
        Self::Accounting,
        Self::Balance,
        Self::Balancer,
        Self::Cluster,
        Self::Connections,
        Self::Corruption,
        Self::Delivery,
        Self::Failover,
        Self::Figures,
        Self::Freeze,
        Self::Fuzz,
        Self::History,
        Self::Hostile,
        Self::Kubernetes,
        Self::Manifests,
        Self::Membership,
        Self::Memory,
        Self::Nemesis,
        Self::Overload,
        Self::Partition,
        Self::Property,
        Self::Registration,
        Self::Releases,
        Self::Restart,
        Self::Rolling,
        Self::Storm,
        Self::Together,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|soak| soak.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Accounting => "accounting",
            Self::Balance => "balance",
            Self::Balancer => "balancer",
            Self::Cluster => "cluster",
            Self::Connections => "connections",
            Self::Corruption => "corruption",
            Self::Delivery => "delivery",
            Self::Failover => "failover",
            Self::Figures => "figures",
            Self::Freeze => "freeze",
            Self::Fuzz => "fuzz",
            Self::History => "history",
            Self::Hostile => "hostile",
            Self::Kubernetes => "kubernetes",
            Self::Manifests => "manifests",
            Self::Membership => "membership",
            Self::Memory => "memory",
            Self::Nemesis => "nemesis",
            Self::Overload => "overload",
            Self::Partition => "partition",
            Self::Property => "property",
            Self::Registration => "registration",
            Self::Releases => "releases",
            Self::Restart => "restart",
            Self::Rolling => "rolling",
            Self::Storm => "storm",
            Self::Together => "together",
        }
    }

    const fn summary(self) -> &'static str {
        match self {
            Self::Accounting => {
                "1,000,000 requests accounted for while workers, nodes and links fail"
            }
            Self::Balance => "a minute of work spread over 30 workers of three nodes",
            Self::Balancer => "20 rolling restarts under peers of the Guide behind a load balancer",
            Self::Cluster => "all soaks of the three-node cluster, one after the other",
            Self::Connections => "10,000 idle connections in less than 400 MB",
            Self::Corruption => "1,000 flipped bits in a data directory",
            Self::Delivery => "all soaks of requests under fire, one after the other",
            Self::Failover => "50 kills of the leader, with the gaps that clients see",
            Self::Figures => {
                "40 minutes of nodes and workers that fail, each gap held against its bound"
            }
            Self::Freeze => "30 pauses of the leader, of 0.1 to 30 s",
            Self::Fuzz => {
                "30 minutes of random bytes for decoders and connections; needs cargo-fuzz"
            }
            Self::History => "25 minutes of faults, each answer checked for linearizability",
            Self::Hostile => "10 minutes of peers that attack the client ports of all nodes",
            Self::Kubernetes => {
                "20 rollouts each way and 20 kills of pods at 2,000 calls a second, none of which fails"
            }
            Self::Manifests => "the manifests for Kubernetes by checkov, too",
            Self::Membership => "50 changes of members, and a node killed in the middle of each",
            Self::Memory => "every limit on memory with the full numbers",
            Self::Nemesis => {
                "20 minutes of every fault there is, each answer checked for linearizability"
            }
            Self::Overload => "a minute of five times the capacity, asked for by one client",
            Self::Partition => "200 flaps of connections between nodes, and every shape of a cut",
            Self::Property => "1,000,000 cases for the decoder's and the engine's properties",
            Self::Registration => {
                "10,000 workers that come and go, each seen on every node at once"
            }
            Self::Releases => "mixes of this version with the last release, built from its commit",
            Self::Restart => "100 times all nodes killed at the same moment",
            Self::Rolling => "20 rolling restarts at 2,000 calls a second, none of which fails",
            Self::Storm => {
                "10,000 workers of 1,000 services within 10 s, and again after the loss of their node"
            }
            Self::Together => "20 times all nodes told to leave at the same moment, under load",
        }
    }
}

/// The names, for `--help`.
pub(crate) fn list() -> String {
    let lines: Vec<String> =
        Soak::ALL.iter().map(|soak| format!("  {:<12} {}", soak.name(), soak.summary())).collect();
    let flaky = "every suite of `test` 20 times, with a list of what failed how often";
    format!("  {:<12} {flaky}\n{}", "flaky", lines.join("\n"))
}

pub(crate) fn run(workspace: &Workspace, soak: Soak) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq, Need::Haproxy, Need::Python, Need::Strace, Need::Tmux])?;
    if matches!(soak, Soak::Figures | Soak::Nemesis) {
        install::missing(&Need::NEMESIS)?;
    }
    let mut stages = Stages::default();
    stages.count(&format!("soak {}", soak.name()), |totals| match soak {
        Soak::Fuzz => fuzz(workspace),
        Soak::Releases => {
            suite::build(workspace, &["majordomo"])?;
            let last = releases::last(workspace, releases::Build::ForTests)?;
            let last = last.map(|release| release.program);
            suite::mixed_tests(workspace, "mixed", last, totals)
        }
        Soak::Kubernetes => {
            suite::build(workspace, &["majordomo"])?;
            suite::kubernetes_tests(workspace, Some(SOAK_LIMIT), totals)
        }
        Soak::Manifests => manifests::second_opinion(workspace),
        Soak::Property => {
            let packages = ["--package", "mdp-wire", "--package", "mdp-broker"];
            let mut tests = workspace.cargo(["test", "--release"]);
            tests.args(packages).env("MAJORDOMO_CASES", PROPERTY_CASES);
            suite::counted(&mut tests, SOAK_LIMIT, totals)
        }
        Soak::Cluster
        | Soak::Corruption
        | Soak::Failover
        | Soak::Freeze
        | Soak::History
        | Soak::Membership
        | Soak::Partition
        | Soak::Registration
        | Soak::Restart
        | Soak::Storm => topic(workspace, Soak::Cluster, soak, totals),
        Soak::Accounting
        | Soak::Balance
        | Soak::Balancer
        | Soak::Delivery
        | Soak::Hostile
        | Soak::Overload
        | Soak::Rolling
        | Soak::Together => topic(workspace, Soak::Delivery, soak, totals),
        Soak::Figures => black_box(workspace, &["--test", "nemesis", "figures::"], totals),
        Soak::Nemesis => black_box(workspace, &["--test", "nemesis", "history::"], totals),
        Soak::Connections | Soak::Memory => black_box(workspace, &[soak.name()], totals),
    });
    let totals = stages.totals();
    stages.finish()?;
    if !matches!(soak, Soak::Fuzz | Soak::Manifests) && totals.passed == 0 {
        return Err(Failure::new(format!("no test belongs to soak {}", soak.name())));
    }
    Ok(())
}

/// A topic of a test program, or all of it if the soak is named as the program is.
fn topic(
    workspace: &Workspace,
    program: Soak,
    soak: Soak,
    totals: &mut Totals,
) -> Result<(), Failure> {
    let topic = format!("{}::", soak.name());
    let only = (soak != program).then_some(topic.as_str());
    let arguments: Vec<&str> = ["--test", program.name()].into_iter().chain(only).collect();
    black_box(workspace, &arguments, totals)
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
    suite::with_python(&mut tests, workspace)?;
    suite::counted(suite::with_program(&mut tests, workspace), SOAK_LIMIT, totals)
}

fn fuzz(workspace: &Workspace) -> Result<(), Failure> {
    if !run::succeeds(&mut workspace.cargo(["fuzz", "--version"])) {
        return Err(Failure::new(
            "cargo-fuzz is not installed; please run: cargo install --locked cargo-fuzz",
        ));
    }
    say::line(
        "    without a sanitizer: the toolchain is stable, and the decoders have no unsafe code",
    );
    FUZZ_TARGETS.iter().try_for_each(|(package, target)| {
        let mut fuzz = workspace.cargo(["fuzz", "run", "--sanitizer", "none", target, "--"]);
        fuzz.arg(format!("-max_total_time={FUZZ_SECONDS}"));
        run::run(fuzz.current_dir(workspace.root.join("crates").join(package)))
    })
}
