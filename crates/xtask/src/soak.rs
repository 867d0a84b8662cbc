//! `soak NAME`: long forms of tests.

use crate::{
    install::{self, Need},
    run::{self, Failure},
    say,
    stage::Stages,
    suite,
    workspace::Workspace,
};

/// How many cases a property is tried with; `test` tries 10,000.
const PROPERTY_CASES: &str = "1000000";
/// How long the fuzzer runs, in seconds.
const FUZZ_SECONDS: u32 = 600;

/// A long test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soak {
    Connections,
    Fuzz,
    Memory,
    Property,
}

impl Soak {
    const ALL: [Self; 4] = [Self::Connections, Self::Fuzz, Self::Memory, Self::Property];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|soak| soak.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Fuzz => "fuzz",
            Self::Memory => "memory",
            Self::Property => "property",
        }
    }

    const fn summary(self) -> &'static str {
        match self {
            Self::Connections => "10,000 idle connections in less than 400 MB",
            Self::Fuzz => "10 minutes of random frames for the decoder; needs cargo-fuzz",
            Self::Memory => "every limit on memory with the full numbers",
            Self::Property => "1,000,000 cases for the decoder's and the engine's properties",
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
    install::missing(&[Need::Libzmq])?;
    let mut stages = Stages::default();
    stages.count(&format!("soak {}", soak.name()), |totals| match soak {
        Soak::Fuzz => fuzz(workspace),
        Soak::Property => {
            let packages = ["--package", "mdp-wire", "--package", "mdp-broker"];
            let mut tests = workspace.cargo(["test", "--release"]);
            tests.args(packages).env("MAJORDOMO_CASES", PROPERTY_CASES);
            suite::counted(&mut tests, totals)
        }
        Soak::Connections | Soak::Memory => {
            suite::build(workspace, &["majordomo"])?;
            let mut tests = workspace.cargo(["test", "--package", "cluster-tests", soak.name()]);
            tests.args(["--", "--nocapture", "--test-threads=1"]).env("MAJORDOMO_SOAK", "1");
            suite::counted(suite::with_program(&mut tests, workspace), totals)
        }
    });
    let totals = stages.totals();
    stages.finish()?;
    if soak != Soak::Fuzz && totals.passed == 0 {
        return Err(Failure::new(format!("no test belongs to soak {}", soak.name())));
    }
    Ok(())
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
