//! A site of three nodes, and one more, on this machine: what `site.sh` has to say of it.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use cluster_tests::{ClusterNode, Reachable as _, TestCluster, http_get, program};

/// The folder of the scripts.
pub(crate) const PROCEDURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/procedures");

/// A node that can be added.
const SPARE: &str = "node-4";

/// Its nodes are processes that the scripts start; all are killed when it is dropped.
pub(crate) struct Site {
    cluster: TestCluster,
    spare: ClusterNode,
    folder: tempfile::TempDir,
}

impl Site {
    /// Versions by the names that the scripts are told; without any there is one.
    pub(crate) fn new(versions: &[(&str, PathBuf)]) -> Self {
        let cluster = TestCluster::unstarted(&[("upgrade.settle", "10m")]);
        let spare = cluster.another_node(SPARE);
        let folder = tempfile::tempdir().unwrap();
        let site = Self { cluster, spare, folder };
        fs::write(site.folder.path().join("site.sh"), site.script(versions)).unwrap();
        site
    }

    fn nodes(&self) -> impl Iterator<Item = &ClusterNode> {
        self.cluster.nodes().iter().chain([&self.spare])
    }

    fn node(&self, name: &str) -> &ClusterNode {
        self.nodes().find(|node| node.name() == name).unwrap()
    }

    fn script(&self, versions: &[(&str, PathBuf)]) -> String {
        let folder = self.folder.path().display();
        let mut text = format!("nodes=\"node-1 node-2 node-3\"\nsite={folder}\n");
        let mut cases = |function: &str, of: &dyn Fn(&ClusterNode) -> String| {
            writeln!(text, "{function}() {{ case $1 in").unwrap();
            for node in self.nodes() {
                writeln!(text, "    {}) echo '{}' ;;", node.name(), of(node)).unwrap();
            }
            writeln!(text, "esac; }}").unwrap();
        };
        cases("admin_of", &ClusterNode::admin_url);
        cases("data_dir", &|node| node.data_dir().display().to_string());
        cases("config_of", &|node| node.write_config().display().to_string());
        text.push_str(include_str!("local.sh"));
        for (name, program) in versions {
            writeln!(text, "program_{name}={}", program.display()).unwrap();
        }
        for node in self.nodes() {
            let link = self.folder.path().join(node.name());
            std::os::unix::fs::symlink(program(), link).unwrap();
        }
        text
    }

    fn command(&self, script: &str, arguments: &[&str], patience: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["180", &format!("{PROCEDURES}/{script}")]).args(arguments);
        command.env("MAJORDOMO_SITE", self.folder.path().join("site.sh"));
        command.env("PATIENCE_SECONDS", patience).output().unwrap()
    }

    /// Runs a procedure, which succeeds. Returns what it printed.
    #[track_caller]
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(script, arguments, "60");
        let [out, error] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let logs: Vec<String> = self.nodes().map(|node| self.log_end(node.name())).collect();
        assert!(status.success(), "{script}: {status}\n{out}\n{error}\n{}", logs.join("\n"));
        out
    }

    /// Runs a procedure, which fails. Returns what it said.
    #[track_caller]
    pub(crate) fn fail(&self, script: &str, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(script, arguments, "5");
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!status.success(), "{script} did not fail: {said}");
        said
    }

    /// Runs a procedure. Returns its exit code, and all that it said.
    pub(crate) fn try_run(&self, script: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(script, arguments, "5");
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (status.code(), said)
    }

    /// The processes that the scripts started, by node: their ids, and when they started.
    pub(crate) fn processes(&self) -> Vec<(String, String)> {
        const STARTED: usize = 21;
        let read = |node: &ClusterNode| {
            let file = self.folder.path().join(format!("{}.pid", node.name()));
            let pid = fs::read_to_string(file).ok()?.trim().to_owned();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let started = stat.split(' ').nth(STARTED).unwrap_or_default();
            Some((node.name().to_owned(), format!("{pid} {started}")))
        };
        self.nodes().filter_map(read).collect()
    }

    /// The names of the files in the data directory of a node.
    pub(crate) fn data_files(&self, node: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.node(node).data_dir()) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.cluster.nodes().iter().map(ClusterNode::endpoint).collect()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{node}.log"))).unwrap_or_default()
    }

    fn log_end(&self, node: &str) -> String {
        let log = self.log(node);
        let lines: Vec<&str> = log.lines().rev().take(10).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("log of {node}:\n{}", lines.join("\n"))
    }

    /// A node and its volume are gone.
    pub(crate) fn lose(&self, node: &str) {
        self.kill(node);
        drop(fs::remove_dir_all(self.node(node).data_dir()));
    }

    fn kill(&self, node: &str) {
        let pid = fs::read_to_string(self.folder.path().join(format!("{node}.pid")));
        if let Ok(pid) = pid {
            let mut kill = Command::new("kill");
            drop(kill.args(["-KILL", pid.trim()]).output());
        }
    }

    pub(crate) fn cluster_id(&self, node: &str) -> String {
        let page = http_get(self.node(node).admin(), "/api/v1/cluster").unwrap();
        let page: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        page["cluster_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let names: Vec<String> = self.nodes().map(|node| node.name().to_owned()).collect();
        names.iter().for_each(|node| self.kill(node));
    }
}
