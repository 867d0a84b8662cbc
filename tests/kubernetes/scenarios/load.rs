//! Clients and workers in a container of their own.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use cluster_tests::wait_until;
use kubernetes_tests::{Driver, NotFound, Registration, by_pod, false_answers};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Calls a second, all clients together.
pub(crate) const CALLS_PER_SECOND: u32 = 2_000;

/// The program of the load has the libraries that the image has: it stands in the place of the broker.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kubernetes-load");

/// How many workers each pod has at least before a fault: of the load's 18, three know one node alone.
const WORKERS_AT_EACH_POD: usize = 3;

/// How long workers may take to be back at a pod: their library waits longer after each failure.
const SPREAD_WITHIN: Duration = Duration::from_secs(40);

/// Runs until it is dropped.
pub(crate) struct Load {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    since: Instant,
}

/// What happened in one part of a test.
#[derive(Debug)]
pub(crate) struct Part {
    calls: u64,
    retried: u64,
    failed: u64,
    failures: String,
    longest: Duration,
    found: u64,
    not_found: u64,
    /// When some of them were.
    not_found_at: Vec<NotFound>,
    /// Of workers, from before the part until its end.
    registrations: Vec<Registration>,
    took: Duration,
}

impl Load {
    /// Through the Service of a deployment, from within its namespace.
    pub(crate) fn start(driver: &Driver, image: &str) -> Self {
        let nodes: Vec<String> =
            (0..3).map(|n| format!("tcp://majordomo-{n}.mdp-peers:5555")).collect();
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "--interactive", "--pull", "never"]).args(driver.inside());
        docker.args(["--volume", &format!("{PROGRAM}:/load:ro"), "--entrypoint", "/load", image]);
        docker.args(["tcp://mdp:5555", &nodes.join(","), &CALLS_PER_SECOND.to_string()]);
        let mut process = docker.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take(), process.stdout.take().unwrap());
        let output = BufReader::new(output).lines();
        let mut load = Self { process, input, output, since: Instant::now() };
        // Until workers and clients have found their nodes.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let part = load.part();
            if part.calls > 100 && part.failed == 0 && part.not_found == 0 && part.retried == 0 {
                return load;
            }
            assert!(Instant::now() < deadline, "no load: {part:?}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// What happened since this was asked last.
    pub(crate) fn part(&mut self) -> Part {
        let took = self.since.elapsed();
        self.since = Instant::now();
        let told: Value = self.ask("");
        let number = |key: &str| told[key].as_u64().unwrap();
        Part {
            calls: number("calls"),
            retried: number("retried"),
            failed: number("failed"),
            failures: told["failures"].to_string(),
            longest: Duration::from_millis(number("longest_ms")),
            found: number("found"),
            not_found: number("not_found"),
            not_found_at: serde_json::from_value(told["not_found_at"].clone()).unwrap(),
            registrations: serde_json::from_value(told["registrations"].clone()).unwrap(),
            took,
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &str) -> T {
        writeln!(self.input.as_mut().unwrap(), "{question}").unwrap();
        let line = self.output.next().expect("the load has ended").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until each of these pods has workers: a fault then hits some of them, and never all. Without it
    /// all may be at one pod, for one that comes back has none at first.
    #[track_caller]
    pub(crate) fn wait_until_spread(&mut self, pods: std::ops::Range<usize>) {
        wait_until("every pod has workers", SPREAD_WITHIN, || {
            let registrations: Vec<Registration> = self.ask("workers");
            let count_by_pod = by_pod(&registrations);
            let count = |pod| count_by_pod.get(&pod).copied().unwrap_or_default();
            pods.clone().all(|pod| count(pod) >= WORKERS_AT_EACH_POD)
        });
    }

    /// Ends a part of a test: no call failed, none waited longer than this, and no service was missed. It was
    /// missed if `mmi.service` said 404 while a worker was acknowledged at a pod that nothing was done to; where
    /// there was none, 404 is true.
    #[track_caller]
    pub(crate) fn holds(&mut self, driver: &Driver, what: &str, stall_max: Duration) {
        let part = self.part();
        let disruptions = driver.disruptions();
        let wrong = false_answers(&part.not_found_at, &part.registrations, &disruptions);
        let rate = part.calls as f64 / part.took.as_secs_f64();
        println!(
            "{what:<34} {:>5.1} s  {:>7} calls  {rate:>5.0}/s  {} failed  {:>4} once more  longest \
             {:>5} ms  mmi.service {:>6} x 200, {} x 404 ({} of them false)",
            part.took.as_secs_f64(),
            part.calls,
            part.failed,
            part.retried,
            part.longest.as_millis(),
            part.found,
            part.not_found,
            wrong.len(),
        );
        assert_eq!(part.failed, 0, "{what}: {}", part.failures);
        assert!(
            wrong.is_empty(),
            "{what}: mmi.service said 404 at {wrong:?}, while workers were there: {:#?}, and this was done: \
             {disruptions:?}",
            part.registrations
        );
        assert!(part.longest <= stall_max, "{what}: a call took {:?}", part.longest);
        assert!(rate > f64::from(CALLS_PER_SECOND) * 0.8, "{what}: {rate:.0} calls a second");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.input.take());
        drop(self.process.wait());
    }
}
