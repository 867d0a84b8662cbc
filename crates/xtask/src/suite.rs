//! `test`: every test in its short form.

use std::{
    fs,
    io::{self, IsTerminal as _, stdout},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    image,
    install::{self, Need},
    manifests, readme, releases,
    run::{self, Failure},
    say, sim,
    stage::Stages,
    toml,
    totals::Totals,
    workspace::Workspace,
};

/// A figure of the broker may be so many times its target (`mdp-bench/compare/figure.rs`) before `test` fails.
/// Loose, for a machine of CI has other work, too; `bench` shows the true figure.
const GUARD: &str = "1.6";

/// Of the rate of local answers, linearizable ones must reach this much on a follower: the target
/// (`mdp-bench/mmi.rs`), looser as above.
const MMI_GUARD: &str = "0.15";

/// How long the tests of a part may take, before they are killed. They take a minute or four; one that waits
/// for ever shall fail, and the others shall be run.
pub(crate) const TEST_LIMIT: Duration = Duration::from_mins(12);

/// The parts of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Rust,
    Cluster,
    Relay,
    Delivery,
    Nemesis,
    Mixed,
    Procedures,
    Monitoring,
    Image,
    Kubernetes,
    Simulation,
    Manifests,
    Python,
    Readme,
    Speed,
}

impl Part {
    const ALL: [Self; 15] = [
        Self::Rust,
        Self::Cluster,
        Self::Relay,
        Self::Delivery,
        Self::Nemesis,
        Self::Mixed,
        Self::Procedures,
        Self::Monitoring,
        Self::Image,
        Self::Kubernetes,
        Self::Simulation,
        Self::Manifests,
        Self::Python,
        Self::Readme,
        Self::Speed,
    ];

    /// Those that are a test program each, which measures: nothing else runs beside it.
    const PROGRAMS: [Self; 8] = [
        Self::Cluster,
        Self::Relay,
        Self::Delivery,
        Self::Nemesis,
        Self::Mixed,
        Self::Procedures,
        Self::Monitoring,
        Self::Image,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Cluster => "cluster",
            Self::Relay => "relay",
            Self::Delivery => "delivery",
            Self::Nemesis => "nemesis",
            Self::Mixed => "mixed",
            Self::Procedures => "procedures",
            Self::Monitoring => "monitoring",
            Self::Image => "image",
            Self::Kubernetes => "kubernetes",
            Self::Simulation => "sim",
            Self::Manifests => "manifests",
            Self::Python => "python",
            Self::Readme => "readme",
            Self::Speed => "speed",
        }
    }

    pub(crate) fn run(self, workspace: &Workspace, totals: &mut Totals) -> Result<(), Failure> {
        match self {
            Self::Rust => rust_tests(workspace, totals),
            Self::Cluster | Self::Relay | Self::Delivery | Self::Nemesis => {
                let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
                tests.args(["--test", self.name()]);
                if self == Self::Delivery {
                    with_python(&mut tests, workspace)?;
                }
                counted(with_program(&mut tests, workspace), TEST_LIMIT, totals)
            }
            Self::Mixed | Self::Procedures => {
                let last =
                    if self == Self::Mixed { releases::last_other(workspace)? } else { None };
                mixed_tests(workspace, self.name(), last, totals)
            }
            Self::Monitoring => monitoring_tests(workspace, totals),
            Self::Image => image_tests(workspace, totals),
            Self::Kubernetes => kubernetes_tests(workspace, None, totals),
            Self::Simulation => one(totals, sim::short(workspace)),
            Self::Manifests => one(totals, manifests::with_program(workspace)),
            Self::Python => python_tests(workspace, totals),
            Self::Readme => one(totals, readme::run(workspace)),
            Self::Speed => {
                // The relay has several limits, which stand beside their targets in the benchmark.
                let mut guard = |program, limit: Option<&str>| {
                    let mut bench = Command::new(workspace.release(program));
                    with_program(&mut bench, workspace).args(["--quick", "--guard"]).args(limit);
                    one(totals, run::run(&mut bench))
                };
                let one_node = guard("mdp-compare", Some(GUARD));
                let agreement = guard("mdp-mmi-bench", Some(MMI_GUARD));
                guard("mdp-relay-bench", None).and(agreement).and(one_node)
            }
        }
    }
}

/// All tests but those of the programs that are parts of their own.
///
/// Every test is chosen out of the whole workspace, here and below: which features a crate of others has
/// depends on what is built together, and another choice would build most of it again.
fn rust_tests(workspace: &Workspace, totals: &mut Totals) -> Result<(), Failure> {
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    let is_part = |name: &String| Part::PROGRAMS.iter().any(|part| part.name() == name);
    for program in test_programs(workspace)?.iter().filter(|name| !is_part(name)) {
        tests.args(["--test", program]);
    }
    let tested = counted(with_program(&mut tests, workspace), TEST_LIMIT, totals);
    let mut examples = workspace.cargo(["test", "--workspace", "--no-fail-fast", "--doc"]);
    counted(with_program(&mut examples, workspace), TEST_LIMIT, totals).and(tested)
}

/// The names of all test programs, but that of Kubernetes: those of the black-box tests stand in their
/// manifest, those of a crate are folders.
fn test_programs(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let failed =
        |path: &Path, error: io::Error| Failure::new(format!("{}: {error}", path.display()));
    let path = workspace.root.join("tests/Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
    let named = toml::entries(&text).into_iter().filter(|entry| entry.path() == "test.name");
    let mut names: Vec<String> =
        named.map(|entry| entry.value.trim_matches('"').to_owned()).collect();
    let crates = workspace.root.join("crates");
    for member in fs::read_dir(&crates).map_err(|error| failed(&crates, error))? {
        let tests = member.map_err(|error| failed(&crates, error))?.path().join("tests");
        // Most crates have none.
        let Ok(folders) = fs::read_dir(tests) else { continue };
        let folders = folders.filter_map(Result::ok).map(|entry| entry.path());
        let programs = folders.filter(|folder| folder.join("main.rs").is_file());
        names.extend(programs.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A part that is one test. A failure counts itself, as every stage's does.
fn one(totals: &mut Totals, outcome: Result<(), Failure>) -> Result<(), Failure> {
    outcome.inspect(|()| totals.passed += 1)
}

/// All parts, or one.
pub(crate) fn parts(only: Option<Part>) -> Vec<Part> {
    Part::ALL.into_iter().filter(|part| only.is_none_or(|only| *part == only)).collect()
}

/// Installs and builds what the parts need. Whether everything could be built.
pub(crate) fn prepare(
    workspace: &Workspace,
    parts: &[Part],
    stages: &mut Stages,
) -> Result<bool, Failure> {
    let needs = [
        Need::Libzmq,
        Need::Faketime,
        Need::Haproxy,
        Need::Python,
        Need::Shellcheck,
        Need::Strace,
        Need::Tmux,
    ];
    install::missing(&needs)?;
    install::missing(&Need::NEMESIS)?;
    let mut built = stages.count("build", |_| build(workspace, &["majordomo", "mdp-bench"]));
    let has_tests = |part: &Part| {
        matches!(part, Part::Rust | Part::Kubernetes) || Part::PROGRAMS.contains(part)
    };
    if parts.iter().any(has_tests) {
        built &= stages.count("build tests", |_| {
            run::run(&mut workspace.cargo(["test", "--workspace", "--no-run"]))
        });
    }
    Ok(built)
}

/// Runs all parts, or one, sums up, and says the sum alone on the last line.
pub(crate) fn run(workspace: &Workspace, only: Option<Part>) -> Result<(), Failure> {
    let parts = parts(only);
    let mut stages = Stages::default();
    let built = prepare(workspace, &parts, &mut stages)?;
    for part in parts.into_iter().filter(|_| built) {
        stages.count(part.name(), |totals| part.run(workspace, totals));
    }
    let Totals { passed, failed, .. } = stages.totals();
    let outcome = stages.finish();
    say::line(&format!("{passed} passed, {failed} failed"));
    outcome
}

/// Builds programs the way they are shipped: the black-box tests drive what users get.
pub(crate) fn build(workspace: &Workspace, packages: &[&str]) -> Result<(), Failure> {
    let mut build = workspace.cargo(["build", "--release"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run::run(&mut build)
}

/// Tests that need programs of several versions.
pub(crate) fn mixed_tests(
    workspace: &Workspace,
    name: &str,
    last: Option<PathBuf>,
    totals: &mut Totals,
) -> Result<(), Failure> {
    let next = next_version(workspace)?;
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast", "--test", name]);
    tests.env("MAJORDOMO_NEXT_BIN", next);
    if let Some(last) = last {
        tests.env("MAJORDOMO_LAST_BIN", last);
    }
    counted(with_program(&mut tests, workspace), TEST_LIMIT, totals)
}

/// Builds the program that stands in for the next version, and moves it to where nobody takes it for
/// this one. Its speed does not matter: it is built as tests are, which share most of that.
fn next_version(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let mut build =
        workspace.cargo(["build", "--profile", "test", "--workspace", "--bin", "majordomo"]);
    run::run(build.args(["--features", "majordomo/test-next"]))?;
    let built = workspace.target.join("debug/majordomo");
    let kept = workspace.target.join("majordomo-next");
    fs::rename(&built, &kept)
        .map_err(|error| Failure::new(format!("{}: {error}", built.display())))?;
    Ok(kept)
}

/// Tells black-box tests where the program is: cargo builds no program of another package for a test.
pub(crate) fn with_program<'a>(command: &'a mut Command, workspace: &Workspace) -> &'a mut Command {
    command.env("MAJORDOMO_BIN", workspace.release("majordomo"))
}

/// Runs tests, shows what they print and sums up what they count.
pub(crate) fn counted(
    command: &mut Command,
    limit: Duration,
    totals: &mut Totals,
) -> Result<(), Failure> {
    if stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    run::watched(command, limit, |line| totals.read_line(line))
}

/// A real Prometheus, which is the test's own: none that is installed is started or asked.
fn monitoring_tests(workspace: &Workspace, totals: &mut Totals) -> Result<(), Failure> {
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(["--test", Part::Monitoring.name()]);
    if let Some(folder) = manifests::prometheus(workspace)? {
        tests.env("MAJORDOMO_PROMETHEUS", folder);
    }
    counted(with_program(&mut tests, workspace), TEST_LIMIT, totals)
}

/// Without an engine the tests themselves say what that means.
fn image_tests(workspace: &Workspace, totals: &mut Totals) -> Result<(), Failure> {
    if image::engine_answers() {
        install::missing(&[Need::Compose])?;
        image::build(workspace)?;
    }
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(["--test", Part::Image.name()]);
    counted(with_program(&mut tests, workspace), TEST_LIMIT, totals)
}

/// The manifests, enacted with images of this version and the next one; in its long form, within a limit of
/// its own, or in the short one.
pub(crate) fn kubernetes_tests(
    workspace: &Workspace,
    soak: Option<Duration>,
    totals: &mut Totals,
) -> Result<(), Failure> {
    if image::engine_answers() {
        install::missing(&[Need::Strace])?;
        image::build(workspace)?;
        image::build_next(workspace, &next_version(workspace)?)?;
    }
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(["--test", Part::Kubernetes.name(), "--", "--nocapture", "--test-threads=4"]);
    if soak.is_some() {
        tests.env("MAJORDOMO_SOAK", "1");
    }
    counted(with_program(&mut tests, workspace), soak.unwrap_or(TEST_LIMIT), totals)
}

fn python_tests(workspace: &Workspace, totals: &mut Totals) -> Result<(), Failure> {
    let python = python(workspace)?;
    // As the build of the tests makes them.
    let mut examples = workspace.cargo(["build", "--profile", "test", "--workspace"]);
    run::run(examples.arg("--examples"))?;
    let mut tests = Command::new(python);
    tests.args(["-m", "unittest", "discover", "-s", "tests/python", "-v"]);
    tests.current_dir(&workspace.root).env("PYTHONDONTWRITEBYTECODE", "1");
    tests.env("MAJORDOMO_EXAMPLES", workspace.target.join("debug/examples"));
    counted(with_program(&mut tests, workspace), TEST_LIMIT, totals)
}

/// Tests that start peers of pyzmq.
pub(crate) fn with_python(command: &mut Command, workspace: &Workspace) -> Result<(), Failure> {
    command.env("MAJORDOMO_PYTHON", python(workspace)?);
    Ok(())
}

/// What the tests in Python import: sockets, and the strictest reader of metrics that there is.
const PYTHON_PACKAGES: [&str; 2] = ["pyzmq", "prometheus-client==0.26.0"];

/// The Python of a virtual environment that has them, made when it is first asked for.
fn python(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let environment = workspace.target.join("python");
    let python = environment.join("bin/python");
    if run::succeeds(Command::new(&python).args(["-c", "import zmq, prometheus_client"])) {
        return Ok(python);
    }
    let named = PYTHON_PACKAGES.join(" and ");
    say::line(&format!("    making a virtual environment with {named}, once"));
    run::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run::run(Command::new(&python).args(pip).args(PYTHON_PACKAGES))?;
    Ok(python)
}
