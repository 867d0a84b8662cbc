//! A broker as a process: start, look, signal, kill.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{PATIENCE, program};

/// A heartbeat interval that no test outlives: the only HEARTBEAT is the one that acknowledges.
pub const QUIET: (&str, &str) = ("broker.heartbeat_interval", "60s");

/// How many of the last log lines are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// What the process has written to its log so far.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// The process closed its standard error, which it does by ending.
    ended: bool,
}

type SharedLog = Arc<(Mutex<Log>, Condvar)>;

/// A running `majordomo serve`; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    address: SocketAddr,
    log: SharedLog,
    reader: Option<JoinHandle<()>>,
    settings: Vec<(String, String)>,
    started_in: Duration,
    directory: TempDir,
}

impl NodeProcess {
    /// Starts a node on a free port of loopback. Settings are `("section.key", "value")` and go
    /// through the environment.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, "tcp://127.0.0.1:0", "")
    }

    /// Starts a node with a configuration file of this content.
    #[must_use]
    pub fn start_with_file(settings: &[(&str, &str)], file: &str) -> Self {
        Self::start_with(settings, "tcp://127.0.0.1:0", file)
    }

    /// Starts a node that listens on `bind`.
    #[must_use]
    pub fn start_at(settings: &[(&str, &str)], bind: &str) -> Self {
        Self::start_with(settings, bind, "")
    }

    fn start_with(settings: &[(&str, &str)], bind: &str, file: &str) -> Self {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self::spawn(settings, bind, file, tempfile::tempdir().unwrap())
    }

    /// Kills the node and starts it again on the same port.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.kill();
        let (settings, bind) = (std::mem::take(&mut self.settings), self.endpoint());
        drop(self);
        Self::spawn(settings, &bind, "", tempfile::tempdir().unwrap())
    }

    fn spawn(settings: Vec<(String, String)>, bind: &str, file: &str, directory: TempDir) -> Self {
        let mut command = Command::new(program());
        command.arg("serve").args(["--bind", bind]).current_dir(directory.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MAJORDOMO") {
                command.env_remove(name);
            }
        }
        // Nodes of tests that run at the same time must not meet on a port or in a directory.
        command.env("MAJORDOMO__ADMIN__BIND", "");
        command.env("MAJORDOMO__NODE__DATA_DIR", directory.path().join("data"));
        for (key, value) in &settings {
            let name = format!("MAJORDOMO__{}", key.to_uppercase().replace('.', "__"));
            command.env(name, value);
        }
        if !file.is_empty() {
            let path = directory.path().join("majordomo.toml");
            std::fs::write(&path, file).unwrap();
            command.arg("--config").arg(path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started_at = Instant::now();
        let mut child = command.spawn().unwrap();
        let log = SharedLog::default();
        let reader = thread::spawn({
            let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&log));
            move || read_log(stderr, &log)
        });
        let line = wait_for(&log, |line| line.contains("listening on tcp://"), PATIENCE);
        let Some(line) = line else {
            let lines = log.0.lock().unwrap().lines.join("\n");
            drop(child.kill());
            panic!("the node did not say that it listens; its log:\n{lines}");
        };
        Self {
            child,
            address: listening_address(&line),
            log,
            reader: Some(reader),
            settings,
            started_in: started_at.elapsed(),
            directory,
        }
    }

    /// The endpoint to connect to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The address to connect to with plain TCP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it took from the start of the process to the line that it listens.
    #[must_use]
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory that the process runs in.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Memory of the process that is in use now (`VmRSS`), in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that the process ever had in use (`VmHWM`), in bytes.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap_or_else(|| panic!("no {field}; the process ended")).trim();
        kib.trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Kills the process at once and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Stops the test if the process ended.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "the node ended");
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        let (log, bell) = &*self.log;
        let guard = log.lock().unwrap();
        let (guard, _) = bell.wait_timeout_while(guard, patience, |log| !log.ended).unwrap();
        assert!(guard.ended, "the node did not end within {patience:?}");
        drop(guard);
        self.child.wait().unwrap()
    }

    /// Waits for a log line.
    #[must_use]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(&self.log, wanted, PATIENCE)
            .unwrap_or_else(|| panic!("no such line in the log:\n{}", self.log().join("\n")))
    }

    /// The log lines seen so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().lines.clone()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let lines = self.log();
            let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
            #[expect(clippy::print_stderr, reason = "shown by the test runner on failure only")]
            for line in lines.iter().skip(shown) {
                eprintln!("node: {line}");
            }
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

fn wait_for(
    shared: &SharedLog,
    wanted: impl Fn(&str) -> bool,
    patience: Duration,
) -> Option<String> {
    let (log, bell) = &**shared;
    let found = |log: &Log| log.lines.iter().find(|line| wanted(line)).cloned();
    let waiting = |log: &mut Log| !log.ended && found(log).is_none();
    let (log, _) = bell.wait_timeout_while(log.lock().unwrap(), patience, waiting).unwrap();
    found(&log)
}

fn listening_address(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("listening on tcp://").unwrap();
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !"[]:.".contains(c));
    let address = rest.get(..end.unwrap_or(rest.len())).unwrap();
    let mut address: SocketAddr =
        address.parse().unwrap_or_else(|_| panic!("not an address in the log line {line}"));
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}
