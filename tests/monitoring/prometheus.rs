//! A Prometheus of the test's own: its own process, port and data directory.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cluster_tests::{ClusterNode, free_port, http_get, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// How long it may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The folder of `prometheus` and `promtool`, if they are not in the path.
const FOLDER: &str = "MAJORDOMO_PROMETHEUS";

/// Where the nodes are to it, as the PodMonitor has it: labels `namespace` and `pod`.
pub(crate) const NAMESPACE: &str = "mdp";

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

fn program(name: &str) -> PathBuf {
    env::var_os(FOLDER)
        .map_or_else(|| PathBuf::from(name), |folder| PathBuf::from(folder).join(name))
}

/// Scrapes and evaluates every second.
fn configuration(nodes: &[ClusterNode]) -> String {
    let targets: Vec<String> = nodes
        .iter()
        .map(|node| {
            let labels = format!("{{namespace: {NAMESPACE}, pod: {}}}", node.name());
            format!("  - targets: ['{}']\n    labels: {labels}\n", node.admin())
        })
        .collect();
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs:\n- job_name: majordomo\n  static_configs:\n{}",
        targets.concat()
    )
}

impl Prometheus {
    /// Scrapes these nodes and evaluates these groups of rules.
    pub(crate) fn start(nodes: &[ClusterNode], rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("prometheus.yaml"), configuration(nodes)).unwrap();
        fs::write(file("rules.yaml"), rules).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program("prometheus"));
        command.arg(format!("--config.file={}", file("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", file("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(file("log")).unwrap());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "prometheus does not start ({error}): `cargo xtask test monitoring` gets it, or \
                 name its folder in {FOLDER}"
            )
        });
        let started = Self { child, address, directory };
        wait_until("Prometheus is ready", READY_WITHIN, || {
            http_get(address, "/-/ready").is_ok_and(|page| page.status == 200)
        });
        // It finds its targets some seconds later, and what was counted before is no rise to it.
        wait_until("all nodes are scraped", READY_WITHIN, || {
            started.query("up == 1").len() == nodes.len()
        });
        started
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn data(&self, path: &str) -> Value {
        let page = http_get(self.address, path).unwrap();
        let mut answer: Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {}", page.body);
        answer["data"].take()
    }

    /// The values of an expression now, one for each series.
    pub(crate) fn query(&self, expression: &str) -> Vec<f64> {
        let data = self.data(&format!("/api/v1/query?query={}", encoded(expression)));
        let text = |value: &Value| value.as_str().unwrap_or_default().parse::<f64>().unwrap();
        match data["resultType"].as_str() {
            Some("scalar") => vec![text(&data["result"][1])],
            _ => {
                let series = data["result"].as_array().unwrap().iter();
                series.map(|series| text(&series["value"][1])).collect()
            }
        }
    }

    /// The names of the alerts that fire.
    pub(crate) fn firing(&self) -> Vec<String> {
        let data = self.data("/api/v1/alerts");
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let mut names: Vec<String> =
            firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Names and expressions of the alerts that it has loaded.
    pub(crate) fn alerts(&self) -> Vec<(String, String)> {
        let data = self.data("/api/v1/rules");
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
        rules.map(|rule| (text(rule, "name"), text(rule, "query"))).collect()
    }

    /// What promtool says of an expression.
    pub(crate) fn promtool(&self, expression: &str) -> String {
        let mut promtool = Command::new(program("promtool"));
        let url = format!("http://{}", self.address);
        let output = promtool.args(["query", "instant", &url, expression]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// As a part of a URL's query.
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}
