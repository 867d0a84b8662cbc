//! One node of a cluster as a process.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    ClusterView, Links, Page, Reachable, Readiness, WallClock, free_port, http_get,
    process::{Process, variable, without_settings},
    program, wait_until,
};

/// How long a node may take until it is ready, by itself, whatever happened before.
pub const READY_PATIENCE: Duration = Duration::from_secs(30);

/// What the name of every metric begins with.
const PREFIX: &str = "majordomo_";

/// The addresses of a node; they stay the same over its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// For clients and workers.
    pub broker: u16,
    /// For other nodes.
    pub cluster: u16,
    /// For requests of other nodes.
    pub relay: u16,
    /// For people and probes.
    pub admin: u16,
}

impl Ports {
    /// Some that are free.
    #[must_use]
    pub fn free() -> Self {
        Self { broker: free_port(), cluster: free_port(), relay: free_port(), admin: free_port() }
    }
}

/// A node of a cluster: its configuration, its folder and, while it runs, its process.
#[derive(Debug)]
pub struct ClusterNode {
    name: String,
    host: Ipv4Addr,
    ports: Ports,
    directory: PathBuf,
    settings: Vec<(String, String)>,
    /// Its configuration file, for what has no variable.
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// The program, if not the one under test.
    program: Option<PathBuf>,
    /// What stands in front of the command.
    launcher: Vec<String>,
    process: Option<Process>,
    links: Vec<(Arc<Links>, usize)>,
    /// What it has written to its log in earlier lives.
    past_log: Vec<String>,
}

impl ClusterNode {
    /// A node that does not run yet, with its files below this directory.
    #[must_use]
    pub fn new(name: &str, ports: Ports, directory: PathBuf) -> Self {
        Self::at(name, Ipv4Addr::LOCALHOST, ports, directory)
    }

    /// The same for a node with an address of its own.
    pub(crate) fn at(name: &str, host: Ipv4Addr, ports: Ports, directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        let mut node = Self {
            name: name.to_owned(),
            host,
            ports,
            settings: Vec::new(),
            file: None,
            environment: Vec::new(),
            program: None,
            launcher: Vec::new(),
            process: None,
            links: Vec::new(),
            past_log: Vec::new(),
            directory,
        };
        let data_dir = node.data_dir().display().to_string();
        for (key, value) in [
            ("node.name", name),
            ("node.data_dir", &data_dir),
            ("broker.bind", &node.endpoint()),
            ("cluster.bind", &format!("tcp://{host}:{}", ports.cluster)),
            ("cluster.relay_bind", &node.relay_endpoint()),
            ("admin.bind", &node.admin().to_string()),
        ] {
            node.set(key, value);
        }
        node
    }

    /// Lets the node's connections be known by these links as those of node number `index`.
    pub(crate) fn linked(&mut self, links: &Arc<Links>, index: usize) {
        self.links.push((Arc::clone(links), index));
    }

    /// Changes a setting; it counts from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(other, _)| other != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Takes a setting back; from the next start on.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(other, _)| other != key);
    }

    /// Runs the process by this clock; from its next start on.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.set_environment(clock.environment());
    }

    /// Runs another program; from the next start on.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// Adds these variables to its environment; from its next start on. Libraries to load first
    /// are added to those that are there.
    pub fn set_environment(&mut self, variables: Vec<(String, String)>) {
        for (name, value) in variables {
            let before = self.environment.iter_mut().find(|(other, _)| *other == name);
            match before {
                Some((_, libraries)) if name == "LD_PRELOAD" => {
                    libraries.push(':');
                    libraries.push_str(&value);
                }
                Some((_, other)) => *other = value,
                None => self.environment.push((name, value)),
            }
        }
    }

    /// Puts these words in front of its command; from its next start on.
    pub(crate) fn launch_by(&mut self, launcher: Vec<String>) {
        self.launcher = launcher;
    }

    /// Gives it a configuration file with this text, which counts less than what is set; from the
    /// next start on.
    pub fn set_file(&mut self, text: &str) {
        let path = self.directory.join("rules.toml");
        fs::write(&path, text).unwrap();
        self.file = Some(path);
    }

    /// Starts the process and waits for nothing.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command();
        command.arg("serve").current_dir(&self.directory);
        without_settings(&mut command);
        command.envs(self.settings.iter().map(|(key, value)| (variable(key), value)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        let process = Process::spawn(&self.name, &mut command);
        for (links, index) in &self.links {
            links.own(*index, process.pid());
        }
        self.process = Some(process);
    }

    fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(program)
    }

    /// The program, started as the node must be.
    fn command(&self) -> Command {
        let Some((first, rest)) = self.launcher.split_first() else {
            return Command::new(self.program());
        };
        let mut command = Command::new(first);
        command.args(rest).arg(self.program());
        command
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Kills the process at once and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.past_log.extend(process.log());
        }
    }

    /// Kills the process and starts it again with what is in its folder.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Stops the process in its tracks, as a frozen machine.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until the process ends by itself, and returns its exit code.
    #[track_caller]
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<i32> {
        let process = self.process.as_mut().unwrap_or_else(|| panic!("{} runs not", self.name));
        let code = process.wait_for_exit(patience).code();
        self.past_log.extend(process.log());
        self.process = None;
        code
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_alive)
    }

    /// Loses the volume: the next start finds no data directory.
    pub fn lose_data(&self) {
        assert!(self.process.is_none(), "{} still runs", self.name);
        if self.data_dir().exists() {
            fs::remove_dir_all(self.data_dir()).unwrap();
        }
    }

    /// Waits until the node says that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) -> Duration {
        let what = format!("{} is ready", self.name);
        wait_until(&what, READY_PATIENCE, || self.readiness().is_some_and(|now| now.is_ready))
    }

    /// Waits until the node says that this is why it is not ready.
    #[track_caller]
    pub fn wait_for_reason(&self, code: &str) {
        let what = format!("{} is not ready: {code}", self.name);
        let has = |now: Readiness| !now.is_ready && now.reasons.iter().any(|other| other == code);
        wait_until(&what, READY_PATIENCE, || self.readiness().is_some_and(has));
    }

    /// What the node says of itself; none if it does not answer.
    #[must_use]
    pub fn readiness(&self) -> Option<Readiness> {
        Readiness::read(&self.page("/readyz")?)
    }

    /// The node's view of its cluster; none if it does not answer.
    #[must_use]
    pub fn view(&self) -> Option<ClusterView> {
        ClusterView::read(&self.page("/api/v1/cluster")?)
    }

    /// The node's view of its cluster, which it must give.
    #[must_use]
    #[track_caller]
    pub fn expect_view(&self) -> ClusterView {
        self.view().unwrap_or_else(|| panic!("{} shows no view of its cluster", self.name))
    }

    /// A page of the administration port; none if it does not answer.
    #[must_use]
    pub fn page(&self, path: &str) -> Option<Page> {
        // A frozen process is not asked: its kernel would take the connection.
        self.process.as_ref()?;
        http_get(self.admin(), path).ok()
    }

    /// A counter or gauge of `/metrics`, without the prefix of the program, with its labels; all
    /// series of a name together if no labels are given; 0 if there is none.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").unwrap_or_else(|| panic!("{} has no metrics", self.name));
        metric_of(&page.body, name)
    }

    /// Waits for a line in the log of this life.
    #[track_caller]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.process().wait_for_log(wanted)
    }

    /// The CPU time that the process has used since it started.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.process().cpu_time()
    }

    /// Writes the configuration as a file, for commands that want one.
    #[must_use]
    pub fn write_config(&self) -> PathBuf {
        let path = self.directory.join("majordomo.toml");
        let lines: Vec<String> =
            self.settings.iter().map(|(key, value)| line(key, value)).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        path
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses.
    #[must_use]
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// The address of the administration port.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.ports.admin))
    }

    /// Where other nodes bring requests.
    #[must_use]
    pub fn relay_endpoint(&self) -> String {
        format!("tcp://{}:{}", self.host, self.ports.relay)
    }

    /// The administration port as commands want it.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin())
    }

    /// The folder that the process runs in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder that holds what must survive.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// The log of all lives.
    #[must_use]
    pub fn log(&self) -> String {
        let mut lines = self.past_log.clone();
        lines.extend(self.process.iter().flat_map(Process::log));
        lines.join("\n")
    }

    #[track_caller]
    fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }
}

impl Reachable for ClusterNode {
    fn endpoint(&self) -> String {
        format!("tcp://{}:{}", self.host, self.ports.broker)
    }
}

/// The sum of the series of this name, or of the one with these labels.
fn metric_of(page: &str, wanted: &str) -> u64 {
    let samples = page.lines().filter_map(|line| line.strip_prefix(PREFIX)?.rsplit_once(' '));
    let is_it = |name: &str| {
        name == wanted || name.strip_prefix(wanted).is_some_and(|labels| labels.starts_with('{'))
    };
    samples.filter(|(name, _)| is_it(name)).map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// A line of TOML with dotted keys.
fn line(key: &str, value: &str) -> String {
    if key == "cluster.peers" {
        let peers: Vec<String> = value.split(',').map(|peer| format!("{peer:?}")).collect();
        return format!("{key} = [{}]", peers.join(", "));
    }
    match value.parse::<u64>() {
        Ok(number) => format!("{key} = {number}"),
        Err(_) => format!("{key} = {value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_name_and_labels() {
        let page = "# TYPE majordomo_a counter\nmajordomo_a_total{reason=\"x\"} 2\n\
                    majordomo_a_total{reason=\"y\"} 3\nmajordomo_ab_total 7\nmajordomo_b 4\n";

        assert_eq!(metric_of(page, "a_total"), 5);
        assert_eq!(metric_of(page, "a_total{reason=\"y\"}"), 3);
        assert_eq!((metric_of(page, "b"), metric_of(page, "c")), (4, 0));
    }

    #[test]
    fn settings_become_lines_of_a_file() {
        assert_eq!(line("cluster.expect", "3"), "cluster.expect = 3");
        assert_eq!(line("node.name", "node-1"), "node.name = \"node-1\"");
        assert_eq!(line("cluster.peers", "a=b:1,c=d:2"), "cluster.peers = [\"a=b:1\", \"c=d:2\"]");
    }
}
