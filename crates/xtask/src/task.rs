//! What can be asked for, and what each of it means.

use std::{error::Error, fmt};

use crate::{
    bench::{self, Bench, Refused},
    check, demo,
    flaky::{self, Flaky},
    image, install, manifests, mutants,
    run::Failure,
    sim::{self, Sim},
    soak::{self, Soak},
    suite::{self, Part},
    tidy,
    workspace::Workspace,
};

/// A task with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Bench(Bench),
    Check,
    Demo,
    Fix,
    Flaky(Flaky),
    Image,
    Install,
    Manifests,
    Mutants(Vec<String>),
    Sim(Sim),
    Soak(Soak),
    Test(Option<Part>),
    Tidy,
}

impl Task {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<(), Failure> {
        match self {
            Self::Bench(bench) => bench::run(workspace, *bench),
            Self::Check => check::check(workspace),
            Self::Demo => demo::run(workspace),
            Self::Fix => check::fix(workspace),
            Self::Flaky(flaky) => flaky::run(workspace, *flaky),
            Self::Image => image::run(workspace),
            Self::Install => install::everything(workspace),
            Self::Manifests => manifests::run(workspace),
            Self::Mutants(only) => mutants::run(workspace, only),
            Self::Sim(sim) => sim::run(workspace, sim),
            Self::Soak(soak) => soak::run(workspace, *soak),
            Self::Test(only) => suite::run(workspace, *only),
            Self::Tidy => tidy::run(workspace),
        }
    }
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help(String),
    Run(Task),
}

/// Arguments that are no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UsageError {
    UnknownTask(String),
    UnknownArgument { task: &'static str, argument: String },
    NotTogether { task: &'static str, first: String, second: String },
    MissingSoak,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTask(name) => write!(f, "there is no task `{name}`"),
            Self::UnknownArgument { task, argument } => {
                write!(f, "`{argument}` means nothing to `{task}`; see `cargo xtask {task} --help`")
            }
            Self::NotTogether { task, first, second } => {
                write!(
                    f,
                    "`{task}` takes `{first}` or `{second}`, not both; see `cargo xtask {task} --help`"
                )
            }
            Self::MissingSoak => f.write_str("which soak? See `cargo xtask soak --help`"),
        }
    }
}

impl Error for UsageError {}

impl TryFrom<&[String]> for Request {
    type Error = UsageError;

    fn try_from(arguments: &[String]) -> Result<Self, UsageError> {
        let Some((name, options)) = arguments.split_first() else {
            return Ok(Self::Help(overview()));
        };
        if matches!(name.as_str(), "help" | "--help" | "-h") {
            return Ok(Self::Help(overview()));
        }
        let manual = MANUALS
            .iter()
            .find(|manual| manual.name == name)
            .ok_or_else(|| UsageError::UnknownTask(name.clone()))?;
        if options.iter().any(|option| matches!(option.as_str(), "--help" | "-h")) {
            return Ok(Self::Help(manual.text()));
        }
        task(manual.name, options).map(Self::Run)
    }
}

fn task(name: &'static str, options: &[String]) -> Result<Task, UsageError> {
    let unknown =
        |argument: &String| UsageError::UnknownArgument { task: name, argument: argument.clone() };
    match (name, options) {
        ("bench", options) => {
            Bench::try_from(options).map(Task::Bench).map_err(|refused| match refused {
                Refused::Unknown(argument) => unknown(&argument),
                Refused::NotTogether(first, second) => {
                    UsageError::NotTogether { task: name, first, second }
                }
            })
        }
        ("mutants", names) => Ok(Task::Mutants(names.to_vec())),
        ("sim", options) => {
            Sim::try_from(options).map(Task::Sim).map_err(|argument| unknown(&argument))
        }
        ("soak", []) => Err(UsageError::MissingSoak),
        ("soak", [name, options @ ..]) if name == "flaky" => {
            Flaky::try_from(options).map(Task::Flaky).map_err(|argument| unknown(&argument))
        }
        ("soak", [name]) => Soak::named(name).map(Task::Soak).ok_or_else(|| unknown(name)),
        ("check", []) => Ok(Task::Check),
        ("demo", []) => Ok(Task::Demo),
        ("fix", []) => Ok(Task::Fix),
        ("image", []) => Ok(Task::Image),
        ("install", []) => Ok(Task::Install),
        ("manifests", []) => Ok(Task::Manifests),
        ("test", []) => Ok(Task::Test(None)),
        ("test", [part]) => {
            Part::named(part).map(|part| Task::Test(Some(part))).ok_or_else(|| unknown(part))
        }
        ("tidy", []) => Ok(Task::Tidy),
        ("soak" | "test", [_, argument, ..]) | (_, [argument, ..]) => Err(unknown(argument)),
        (other, []) => Err(UsageError::UnknownTask(other.to_owned())),
    }
}

/// What `--help` says of one task.
struct Manual {
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    details: &'static str,
}

impl Manual {
    fn text(&self) -> String {
        let listed =
            if self.name == "soak" { format!("\n\n{}", soak::list()) } else { String::new() };
        format!("{}\n\nUsage: cargo xtask {}\n\n{}{listed}", self.summary, self.usage, self.details)
    }
}

const MANUALS: &[Manual] = &[
    Manual {
        name: "demo",
        usage: "demo",
        summary: "Shows in under a minute what three nodes do.",
        details: "Builds the program, starts three nodes on free ports of the loopback interface with their files
in a temporary directory, then workers and clients, and says at each step what was done, what came
back and how long it took: one answer from every node, a call over two nodes, a worker that is
killed while it holds a request, a leader that hands over, a leader that is killed while the others
are asked every 5 ms and a worker of its holds a request of another node, its return, a rolling
restart of all nodes under load in which every request is counted, and a shutdown that loses
nothing. Everything that it starts is gone when it ends.
Exit code 1 if anything that it shows is not as it should be.",
    },
    Manual {
        name: "check",
        usage: "check",
        summary: "Reads everything and changes nothing: format, lints, documentation, tidy, licences.",
        details: "Runs `cargo fmt --check`, clippy on all targets, rustdoc (each with warnings as errors),
`cargo xtask tidy`, the part of `cargo xtask manifests` that needs no program, and cargo-deny (licences, sources, bans; advisories where their database can be
fetched), which is built into the target directory once. Every stage runs, also after one failed.",
    },
    Manual {
        name: "fix",
        usage: "fix",
        summary: "The writing twin of `check`: formats, and applies what clippy knows how to repair.",
        details: "Works on a tree with uncommitted changes, too: look at the difference afterwards.",
    },
    Manual {
        name: "test",
        usage: "test [rust|cluster|relay|delivery|nemesis|mixed|procedures|monitoring|image|kubernetes|sim|manifests|python|readme|speed]",
        summary: "Runs every test in its short form, or one part of them.",
        details: "Builds `majordomo` and the benchmarks with optimisation, then runs

  rust     all Rust tests with the examples of the documentation; the black-box tests among them
           drive the program as it is shipped
  cluster  black-box tests of three nodes: registrations, nodes that are killed, cut off, frozen or
           lose their disks
  relay    black-box tests of three nodes: requests that enter at one and are executed at another
  delivery every request accounted for while workers, nodes and links fail; restarts without a
           failed call, also behind haproxy; balance; overload
  nemesis  three nodes in network namespaces while everything goes wrong: each answer checked for
           linearizability, each gap held against its bound; needs root
  mixed    three nodes of this version and of a stand-in for the next one, upgraded and rolled back
  monitoring  a real Prometheus beside three nodes: dashboard and alerts; takes the installed one, or
           unpacks Debian's package prometheus below the target directory
  procedures  the scripts of deploy/procedures with three nodes and a fourth one, under calls
  image    the container image: what is in it, one node of it, three nodes by Compose. Without a Docker
           engine it says so and looks at nothing; in CI (the variable CI is set) it then fails
  kubernetes  the manifests, enacted with containers of a Docker engine, under calls; without one as image
  sim      150 seeds of the cluster simulation
  manifests  what the program says of deploy/kubernetes, and its metrics
  python   the tests with Python peers (pyzmq in a virtual environment under the target directory)
  readme   the commands of the README and of docs/operating.md that are run as they stand
  speed    short benchmarks that fail when the broker is beyond 1.6 times its targets beside the
           floors, when a follower's linearizable answers come at less than 0.15 times the rate of
           its local ones, or when requests that cross nodes are far from their targets

The last line is the sum: `N passed, N failed`.",
    },
    Manual {
        name: "bench",
        usage: "bench [--nats] [--last] [--libzmq] [--crowd|--engine|--mmi|--etcd|--relay] [--json]",
        summary: "Measures the broker against two floors, in one run on one machine.",
        details: "The floors are the least forwarder over libzmq and the least one over the transport of this
project: no checks, no timers, the same frames. All take turns over the same shapes, loaded by one
thread of clients and one of workers; the table shows CPU per request (schedstat), context switches,
latency, and the medians of the ratios of each round.

  --nats     also: nats-server, loaded in its own protocol in the same way; takes the installed one, or
             unpacks Debian's package nats-server below the target directory
  --last     also: the last release, built once from its commit
  --libzmq   load with sockets of libzmq, as users have them
  --crowd    instead: 10,000 workers register at once and are idle; with --nats and --last as above
  --engine   instead: instructions per request of the engine alone, counted by callgrind
  --mmi      instead: three nodes; linearizable mmi.service on a follower beside an answer that the
             same node gives by itself, with 1, 64 and 256 questions in flight
  --etcd     instead: the same beside linearizable reads of one key through a follower of three
             etcd servers; takes the installed etcd, or unpacks Debian's package etcd-server below
             the target directory
  --relay    instead: three nodes; clients on one and workers on another, beside both on one: CPU of
             both nodes, latency, throughput
  --json     print the figures as JSON",
    },
    Manual {
        name: "mutants",
        usage: "mutants [NAME...]",
        summary: "Seeds bugs, one at a time, and shows by what each of them is found.",
        details: "Builds the simulation with all seeded bugs in it (crate mdp-mutants) and runs it with each of them,
or with those that are named: up to 200 seeds, then the tests of the crates if the simulation found
nothing. Without a bug the same build must pass. Exit code 1 if one of them is not caught.",
    },
    Manual {
        name: "sim",
        usage: "sim [--seeds N] [--seed S] [--replay] [--seconds T] [--threads T] [--resume FILE] [--json]",
        summary: "Simulates whole clusters with faults, each from one seed.",
        details: "The real engine, replica and consensus of three or five nodes on virtual network, disks and clocks
(crate mdp-sim). A seed decides everything: which faults there are, what clients and workers do. The
same seed repeats the same run exactly. Exit code 1 if something is not as it must be; it says the
seed, what was found, the last events, and the command that repeats it.

  --seed S       the first seed, default 1
  --seeds N      how many, default 1
  --replay       prints what the seed decides, and everything as it happens
  --seconds T    for how many simulated seconds faults come, default 20
  --threads T    how many seeds run at the same time, default as many as there are cores
  --resume FILE  notes finished parts there, and leaves those out that are noted
  --json         the last line as JSON",
    },
    Manual {
        name: "soak",
        usage: "soak NAME | soak flaky [SUITE] [--runs N]",
        summary: "Runs the long form of a test: more cases, more connections, more memory.",
        details: "Each has a short form in `cargo xtask test`.

`soak flaky` runs every suite of `test`, or the one that is named, 20 times, or as often as --runs says (up to
1,000), whatever fails meanwhile. At the end it lists what failed: the suite, the test, and in how many of
the runs. Exit code 1 if anything failed in any run. All suites take about eight hours.",
    },
    Manual {
        name: "tidy",
        usage: "tidy",
        summary: "Checks what no compiler checks: the rules of the repository itself.",
        details: "File lengths, which crate may use which, equal clippy.toml files, a test for each clause in
docs/protocol.md, configuration keys known to the code and documented, links between documents,
and no trace of the machine that a file was written on.",
    },
    Manual {
        name: "image",
        usage: "image",
        summary: "Builds the container image, without a registry.",
        details: "Builds the program with optimisation, collects it with the libraries that it needs under the target
directory, and makes majordomo:VERSION of that by deploy/docker/Dockerfile.prebuilt. Needs a Docker
engine and no network. deploy/docker/compose.yaml starts three nodes of it.",
    },
    Manual {
        name: "manifests",
        usage: "manifests",
        summary: "Checks deploy/kubernetes: schemas, rules for Prometheus, what the program says of it.",
        details: "Style (yamllint); every field by the schemas of the oldest supported and the newest Kubernetes; the
committed render against the files, where kubectl is; the alerts by promtool, with a test for each;
what each pod's environment and file make of the program (`serve --check`); and whether one and
three running nodes show every metric that an alert, a dashboard or an autoscaler names. All but
the last two are a part of `check`, those of `test`. The tools come from PyPI and Debian, once,
below the target directory. It needs no cluster.",
    },
    Manual {
        name: "install",
        usage: "install",
        summary: "Installs what the other tasks need and this system lacks, by apt-get.",
        details: "Every task begins with the part of this that it needs. It asks nothing and says what it does.
Without root it says which command to run.",
    },
];

/// What `cargo xtask` alone prints.
pub(crate) fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask TASK [--help]\n");
    for manual in MANUALS {
        text.push_str(&format!("\n  {:<8} {}", manual.name, manual.summary));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Subject;

    fn request(arguments: &[&str]) -> Result<Request, UsageError> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Request::try_from(arguments.as_slice())
    }

    #[test]
    fn every_task_with_a_manual_can_be_run_or_says_what_it_misses() {
        for manual in MANUALS {
            let request = request(&[manual.name]);
            assert!(
                matches!(request, Ok(Request::Run(_)) | Err(UsageError::MissingSoak)),
                "{}: {request:?}",
                manual.name
            );
        }
    }

    #[test]
    fn help_is_there_for_every_task() {
        for manual in MANUALS {
            let Ok(Request::Help(text)) = request(&[manual.name, "--help"]) else {
                panic!("{} has no help", manual.name);
            };
            assert!(text.contains(manual.usage), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(request(&["tset"]), Err(UsageError::UnknownTask("tset".into())));
        let unknown = UsageError::UnknownArgument { task: "check", argument: "--fast".into() };
        assert_eq!(request(&["check", "--fast"]), Err(unknown));
        let unknown = UsageError::UnknownArgument { task: "soak", argument: "nothing".into() };
        assert_eq!(request(&["soak", "nothing"]), Err(unknown));
    }

    #[test]
    fn options_of_bench_are_understood() {
        let bench = Bench { subject: Subject::Relay, ..Bench::default() };
        assert_eq!(request(&["bench", "--relay"]), Ok(Request::Run(Task::Bench(bench))));
        let bench = Bench { subject: Subject::Engine, json: true, ..Bench::default() };
        assert_eq!(request(&["bench", "--json", "--engine"]), Ok(Request::Run(Task::Bench(bench))));
        let bench = Bench { nats: true, last: true, ..Bench::default() };
        assert_eq!(request(&["bench", "--nats", "--last"]), Ok(Request::Run(Task::Bench(bench))));
        let bench = Bench { subject: Subject::Crowd, nats: true, ..Bench::default() };
        assert_eq!(request(&["bench", "--nats", "--crowd"]), Ok(Request::Run(Task::Bench(bench))));
        for [first, second] in [["--mmi", "--nats"], ["--etcd", "--mmi"], ["--crowd", "--libzmq"]] {
            let error = UsageError::NotTogether {
                task: "bench",
                first: first.into(),
                second: second.into(),
            };
            assert!(error.to_string().contains(&format!("`{first}` or `{second}`")), "{error}");
            assert_eq!(request(&["bench", first, second]), Err(error));
        }
        let unknown = UsageError::UnknownArgument { task: "bench", argument: "--nat".into() };
        assert_eq!(request(&["bench", "--nat"]), Err(unknown));
    }
}
