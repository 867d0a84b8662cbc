//! A broker as a process: start, look, signal, kill.

use std::{
    net::SocketAddr,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Reachable,
    process::{Process, variable, without_settings},
    program,
};

/// A heartbeat interval that no test outlives: the only HEARTBEAT is the one that acknowledges.
pub const QUIET: (&str, &str) = ("broker.heartbeat_interval", "60s");

/// A running `majordomo serve`; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    process: Process,
    endpoints: Vec<String>,
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

    /// Starts a node that may have so many open files.
    #[must_use]
    pub fn start_with_open_files(settings: &[(&str, &str)], limit: u32) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(program());
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let directory = tempfile::tempdir().unwrap();
        Self::spawn_by(command, settings, "tcp://127.0.0.1:0", "", directory)
    }

    /// Starts a node with a configuration file of this content.
    #[must_use]
    pub fn start_with_file(settings: &[(&str, &str)], file: &str) -> Self {
        Self::start_with(settings, "tcp://127.0.0.1:0", file)
    }

    /// Starts a node that listens on `bind`, one address or several with commas between them.
    #[must_use]
    pub fn start_at(settings: &[(&str, &str)], bind: &str) -> Self {
        Self::start_with(settings, bind, "")
    }

    fn start_with(settings: &[(&str, &str)], bind: &str, file: &str) -> Self {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self::spawn(settings, bind, file, tempfile::tempdir().unwrap())
    }

    /// Kills the node and starts it again at the same addresses.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.kill();
        let (settings, bind) = (std::mem::take(&mut self.settings), self.endpoints.join(","));
        drop(self);
        Self::spawn(settings, &bind, "", tempfile::tempdir().unwrap())
    }

    fn spawn(settings: Vec<(String, String)>, bind: &str, file: &str, directory: TempDir) -> Self {
        Self::spawn_by(Command::new(program()), settings, bind, file, directory)
    }

    fn spawn_by(
        mut command: Command,
        settings: Vec<(String, String)>,
        bind: &str,
        file: &str,
        directory: TempDir,
    ) -> Self {
        command.arg("serve").args(["--bind", bind]).current_dir(directory.path());
        without_settings(&mut command);
        // Nodes of tests that run at the same time must not meet on a port or in a directory.
        command.env("MAJORDOMO__ADMIN__BIND", "");
        command.env("MAJORDOMO__NODE__DATA_DIR", directory.path().join("data"));
        for (key, value) in &settings {
            command.env(variable(key), value);
        }
        if !file.is_empty() {
            let path = directory.path().join("majordomo.toml");
            std::fs::write(&path, file).unwrap();
            command.arg("--config").arg(path);
        }
        let started_at = Instant::now();
        let process = Process::spawn("node", &mut command);
        let line = process.wait_for_log(|line| line.contains("listening on "));
        Self {
            endpoints: listening_endpoints(&line),
            process,
            settings,
            started_in: started_at.elapsed(),
            directory,
        }
    }

    /// The endpoint to connect to: the first one.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.endpoints
            .first()
            .unwrap()
            .replace("//*:", "//127.0.0.1:")
            .replace("//0.0.0.0:", "//127.0.0.1:")
    }

    /// All that the node listens at, as it says.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The address to connect to with plain TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint().trim_start_matches("tcp://").parse().unwrap()
    }

    /// How long it took from the start of the process to the line that it listens.
    #[must_use]
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The directory that the process runs in.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The CPU time that the process has used since it started.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
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
        self.process.signal(signal);
    }

    /// Kills the process at once and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the test if the process ended.
    pub fn assert_alive(&mut self) {
        assert!(self.process.is_alive(), "the node ended");
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        self.process.wait_for_exit(patience)
    }

    /// Waits for a log line.
    #[must_use]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.process.wait_for_log(wanted)
    }

    /// The log lines seen so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }
}

impl Reachable for NodeProcess {
    fn endpoint(&self) -> String {
        self.endpoint()
    }
}

/// The line names them once more as a field, in quotation marks.
fn listening_endpoints(line: &str) -> Vec<String> {
    let (_, rest) = line.split_once("listening on ").unwrap();
    let words = rest.split('"').next().unwrap_or_default().split(' ');
    let endpoints = words.filter(|word| word.contains("://"));
    endpoints.map(|endpoint| endpoint.trim_end_matches(',').to_owned()).collect()
}
