//! A process whose standard error is its log: start, look, signal, kill.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// How many clock ticks of `/proc/PID/stat` a second has.
const TICKS_PER_SECOND: u64 = 100;

/// How many of the last log lines are shown when a test fails.
const LOG_LINES_SHOWN: usize = 100;

/// What the process has written to its log so far.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// The process closed its standard error, which it does by ending.
    ended: bool,
}

type SharedLog = Arc<(Mutex<Log>, Condvar)>;

/// A running process; killed when dropped. Its log is shown when the test fails.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: SharedLog,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a program. The name stands in front of its log lines.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = SharedLog::default();
        let reader = thread::spawn({
            let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&log));
            move || read_log(stderr, &log)
        });
        Self { name: name.to_owned(), child, log, reader: Some(reader) }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Kills the process at once and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        let (log, bell) = &*self.log;
        let guard = log.lock().unwrap();
        let (guard, _) = bell.wait_timeout_while(guard, patience, |log| !log.ended).unwrap();
        let has_ended = guard.ended;
        drop(guard);
        assert!(has_ended, "{} did not end within {patience:?}", self.name);
        self.child.wait().unwrap()
    }

    /// The CPU time that the process has used since it started.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name, which may hold anything: state, and ten fields on, utime and stime.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }

    /// Waits for a log line.
    pub(crate) fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        let (log, bell) = &*self.log;
        let found = |log: &Log| log.lines.iter().find(|line| wanted(line)).cloned();
        let waiting = |log: &mut Log| !log.ended && found(log).is_none();
        let (guard, _) = bell.wait_timeout_while(log.lock().unwrap(), PATIENCE, waiting).unwrap();
        let line = found(&guard);
        drop(guard);
        line.unwrap_or_else(|| {
            panic!("no such line in the log of {}:\n{}", self.name, self.log().join("\n"))
        })
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().lines.clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let lines = self.log();
            let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
            #[expect(clippy::print_stderr, reason = "shown by the test runner on failure only")]
            for line in lines.iter().skip(shown) {
                eprintln!("{}: {line}", self.name);
            }
        }
    }
}

/// The environment variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("MAJORDOMO__{}", key.to_uppercase().replace('.', "__"))
}

/// Takes the settings of whoever runs the tests out of a command's environment.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAJORDOMO") {
            command.env_remove(name);
        }
    }
}

fn read_log(stderr: ChildStderr, shared: &SharedLog) {
    let (log, bell) = &**shared;
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        log.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
        bell.notify_all();
    }
    log.lock().unwrap().ended = true;
    bell.notify_all();
}
