//! The program as a child process: started without the environment's configuration, read line by
//! line with a deadline, killed when dropped.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `majordomo` with these arguments, without configuration from the environment, except that nodes
/// which run at the same time do not meet on the administration port.
pub(crate) fn majordomo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_majordomo"));
    let is_ours = |name: &OsStr| name.to_string_lossy().starts_with("MAJORDOMO");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command.env("MAJORDOMO__ADMIN__BIND", "127.0.0.1:0");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    majordomo(args).output().unwrap()
}

/// Runs the program with this on its stdin.
pub(crate) fn run_with_stdin(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = majordomo(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// What a successful run printed.
#[track_caller]
pub(crate) fn printed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    stdout(output)
}

/// What a successful run printed, as JSON.
#[track_caller]
pub(crate) fn printed_json(output: &Output) -> serde_json::Value {
    serde_json::from_str(printed(output)).unwrap()
}

/// A running child whose stderr is read; killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // It ends with the child, which holds the other end of the pipe.
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no such line in the log:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Waits until the child ends by itself.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                // It closed its stderr, which it does by ending.
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it did not end; its log:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Everything in the log so far.
    pub(crate) fn seen(&self) -> String {
        self.seen.join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A broker on a free port.
pub(crate) struct Broker {
    pub(crate) process: Running,
    pub(crate) endpoint: String,
    /// The URL of its administration port; empty if it has none.
    pub(crate) admin: String,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with(majordomo(&["serve", "--bind", "127.0.0.1:0"]))
    }

    /// A broker started by this command, which must bind to a free port.
    pub(crate) fn start_with(command: Command) -> Self {
        let mut process = Running::start(command);
        process.wait_for_line(|line| line.contains("listening on tcp://"));
        let log = process.seen();
        let after = |words: &str| {
            let (_, rest) = log.split_once(words)?;
            rest.split(|c: char| c == '"' || c.is_whitespace()).next().map(str::to_owned)
        };
        let endpoint = after("listening on ").unwrap();
        let admin = after("administration on ").unwrap_or_default();
        Self { process, endpoint, admin }
    }

    /// Runs the program to its end, with the URL of this broker's administration port.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        run(&[args, &["--admin", &self.admin]].concat())
    }

    /// Runs the program to its end, with this broker's endpoint.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run(&[args, &["--endpoint", &self.endpoint]].concat())
    }

    /// Starts `majordomo work SERVICE` and waits until the service is offered.
    pub(crate) fn work(&self, service: &str, args: &[&str]) -> Running {
        let typed = [&["work", service, "--endpoint", &self.endpoint], args].concat();
        let worker = Running::start(majordomo(&typed));
        let deadline = Instant::now() + PATIENCE;
        // Each question is a process of its own, which is pause enough.
        while stdout(&self.run(&["call", "mmi.service", service])) != "200\n" {
            assert!(
                Instant::now() < deadline,
                "no worker for {service}; broker's log: {}",
                self.process.seen()
            );
        }
        worker
    }
}
