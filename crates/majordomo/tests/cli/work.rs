//! `majordomo work`.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use tempfile::{TempDir, tempdir};

use crate::program::{Broker, PATIENCE, Running, majordomo, printed, printed_json};

/// A command that works on its request until it is let go, or its directory is gone: a worker that is
/// killed leaves its command behind.
pub(crate) struct HeldCommand {
    directory: TempDir,
}

impl HeldCommand {
    pub(crate) fn new() -> Self {
        Self { directory: tempdir().unwrap() }
    }

    /// What to give to `--exec`.
    pub(crate) fn exec(&self) -> String {
        let [written, begun, go] = ["written", "begun", "go"].map(|name| self.path(name));
        format!(
            "echo $$ > {written}; mv {written} {begun}; \
             while [ -e {begun} -a ! -e {go} ]; do sleep 0.01; done; echo done"
        )
    }

    /// Waits until a worker has a request.
    #[track_caller]
    pub(crate) fn wait_until_begun(&self) -> Pid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(pid) = self.pid() {
                return pid;
            }
            assert!(Instant::now() < deadline, "no worker got a request");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn let_go(&self) {
        fs::write(self.path("go"), "").unwrap();
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path("begun")).ok()?;
        Pid::from_raw(text.trim().parse().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn command_gets_the_body_and_gives_the_reply() {
    let broker = Broker::start();
    let _worker = broker.work("upper", &["--exec", "tr a-z A-Z", "--concurrency", "2"]);

    let reply = broker.run(&["call", "upper", "ab", "c", "--json"]);

    assert_eq!(printed_json(&reply)["frames"], serde_json::json!(["ABC"]));
}

#[test]
fn failed_command_is_logged_and_answered_with_an_empty_frame() {
    let broker = Broker::start();
    let mut worker = broker.work("bad", &["--exec", "echo partly; echo oops >&2; exit 3"]);

    let reply = broker.run(&["call", "bad", "--json"]);

    assert_eq!(printed_json(&reply)["frames"], serde_json::json!([""]));
    let line = worker.wait_for_line(|line| line.contains("the command failed"));
    assert!(line.contains("oops") && line.contains("exit status: 3"), "{line}");
}

#[test]
fn stderr_of_a_failed_command_is_the_second_frame_if_wanted() {
    let broker = Broker::start();
    let _worker = broker.work("bad", &["--exec", "echo oops >&2; exit 3", "--reply-errors"]);

    let reply = broker.run(&["call", "bad", "--json"]);

    assert_eq!(printed_json(&reply)["frames"], serde_json::json!(["", "oops\n"]));
}

#[test]
fn command_that_takes_too_long_is_ended() {
    let broker = Broker::start();
    let exec = ["--exec", "sleep 60", "--exec-timeout", "100ms"];
    let mut worker = broker.work("slow", &exec);

    let reply = broker.run(&["call", "slow", "--json", "--timeout", "20s"]);

    assert_eq!(printed_json(&reply)["frames"], serde_json::json!([""]));
    worker.wait_for_line(|line| line.contains("killed after 100ms"));
}

/// A worker with a request that it works on, and the client that waits for the reply.
pub(crate) struct Working {
    pub(crate) broker: Broker,
    pub(crate) worker: Running,
    command: HeldCommand,
    client: Child,
}

impl Working {
    pub(crate) fn start() -> Self {
        let broker = Broker::start();
        let command = HeldCommand::new();
        let worker = broker.work("slow", &["--exec", &command.exec()]);
        let typed = ["call", "slow", "--timeout", "30s", "--endpoint", &broker.endpoint];
        let mut call = majordomo(&typed);
        let client = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        command.wait_until_begun();
        Self { broker, worker, command, client }
    }

    /// A signal that asks the worker to stop, which it does when the client has its reply.
    #[track_caller]
    pub(crate) fn assert_finishes_after(mut self, signal: Signal, name: &str) -> Broker {
        self.worker.signal(signal);
        self.worker.wait_for_line(|line| line.contains("stopping") && line.contains(name));
        self.command.let_go();

        assert_eq!(printed(&self.client.wait_with_output().unwrap()), "done\n\n");
        assert_eq!(self.worker.wait_for_end().code(), Some(0), "{}", self.worker.seen());
        self.broker
    }
}

#[test]
fn signal_lets_the_worker_finish_its_request() {
    let broker = Working::start().assert_finishes_after(Signal::TERM, "SIGTERM");

    // It said that it leaves, so the broker does not wait for its heartbeats to stop.
    assert_eq!(printed(&broker.run(&["call", "mmi.service", "slow"])), "404\n");
}

/// Whether a process is there and is not only waiting to be reaped by the process that inherited it.
pub(crate) fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

#[test]
fn second_signal_ends_worker_and_command_at_once_with_1() {
    let broker = Broker::start();
    let command = HeldCommand::new();
    let mut worker = broker.work("slow", &["--exec", &command.exec()]);
    let call = ["call", "slow", "--timeout", "60s", "--endpoint", &broker.endpoint];
    let _client = Running::start(majordomo(&call));
    let pid = command.wait_until_begun();

    worker.signal(Signal::INT);
    worker.wait_for_line(|line| line.contains("stopping"));
    worker.signal(Signal::INT);

    assert_eq!(worker.wait_for_end().code(), Some(1), "{}", worker.seen());
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "the command is still there");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn worker_may_be_there_before_its_broker() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let work = ["work", "echo", "--echo", "--endpoint", &endpoint];
    let _worker = Running::start(majordomo(&work));

    let broker = Broker::start_with(majordomo(&["serve", "--bind", &endpoint]));

    assert_eq!(printed(&broker.run(&["call", "echo", "hi", "--timeout", "20s"])), "hi\n");
}

#[test]
fn reply_that_would_not_pass_the_broker_is_a_failure_that_says_so() {
    let broker = Broker::start();
    let mut worker = broker.work("long", &["--exec", "head -c 16777216 /dev/zero"]);

    let reply = broker.run(&["call", "long", "--json", "--timeout", "20s"]);

    let reply = printed_json(&reply);
    assert_eq!((&reply["frames"], &reply["attempts"]), (&serde_json::json!([""]), &1.into()));
    let line = worker.wait_for_line(|line| line.contains("the command failed"));
    assert!(line.contains("the reply is too long"), "{line}");
}

#[test]
fn longest_reply_of_a_command_passes_the_broker() {
    let broker = Broker::start();
    for protocol in ["0.1", "0.2"] {
        let bytes = (16 << 20) - (1 << 10);
        let exec = format!("head -c {bytes} /dev/zero");
        let _worker = broker.work("long", &["--exec", &exec, "--protocol", protocol]);

        let reply =
            broker.run(&["call", "long", "--raw", "--timeout", "20s", "--protocol", protocol]);

        assert_eq!(printed(&reply).len(), bytes);
    }
}

#[test]
fn worker_without_a_broker_says_at_once_why_and_then_seldom() {
    let endpoints = "127.0.0.1:1,broker.invalid:5555";
    let mut worker =
        Running::start(majordomo(&["work", "echo", "--echo", "--endpoint", endpoints]));

    let refused = "127.0.0.1:1: connection refused; is a broker running there?";
    let unknown = "broker.invalid:5555: the name ";
    let mut missing = vec![refused, unknown];
    while !missing.is_empty() {
        let line = worker.wait_for_line(|line| line.contains("not served"));
        assert!(line.contains("WARN"), "{line}");
        missing.retain(|wanted| !line.contains(wanted));
    }
    // It goes on trying, several times a second at first, without a line for each.
    thread::park_timeout(Duration::from_secs(2));
    worker.signal(Signal::TERM);
    worker.wait_for_end();
    assert_eq!(worker.seen().matches(refused).count(), 1, "{}", worker.seen());
}

#[test]
fn worker_whose_heartbeats_are_too_rare_says_so() {
    let broker = Broker::start();

    let mut worker = broker.work("echo", &["--echo", "--heartbeat", "10m"]);

    let line = worker.wait_for_line(|line| line.contains("is too long for"));
    assert!(line.contains("WARN") && line.contains("600s"), "{line}");
}

#[test]
fn worker_that_a_full_broker_refuses_says_so() {
    let mut command = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    command.env("MAJORDOMO__BROKER__MAX_WORKERS", "1");
    let broker = Broker::start_with(command);
    let _first = broker.work("echo", &["--echo"]);

    let mut second = Running::start(majordomo(&["work", "echo", "--echo", "-e", &broker.endpoint]));

    let line = second.wait_for_line(|line| line.contains("refuses the worker"));
    assert!(line.contains("WARN") && line.contains(&broker.endpoint), "{line}");
}
