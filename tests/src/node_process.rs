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
    address: SocketAddr,
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
        let line = process.wait_for_log(|line| line.contains("listening on tcp://"));
        Self {
            address: listening_address(&line),
            process,
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
        self.process.pid()
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
