//! `majordomo serve --dev N`: a cluster on this machine, for trying things out.
//!
//! Each node is a process of its own, so that it can be killed as a node on a machine of its own can.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{
    args::ServeArgs,
    children,
    exit::{Exit, UsageError},
    logging::{self, Format},
    printer,
    signals::{HangUp, Second, StopSignals},
};

/// How far the ports of a node are from that for clients and workers, as in config/three-node.
const TO_CLUSTER_PORT: u16 = 10;
const TO_ADMIN_PORT: u16 = 30;

/// The ports of one node.
#[derive(Clone, Copy, Debug)]
struct Ports {
    broker: u16,
    cluster: u16,
    admin: u16,
}

impl Ports {
    /// Of this many nodes, from the first port on.
    fn of(first: u16, count: u16) -> Vec<Self> {
        let ports = (first..).take(usize::from(count)).map(|broker| Self {
            broker,
            cluster: broker.saturating_add(TO_CLUSTER_PORT),
            admin: broker.saturating_add(TO_ADMIN_PORT),
        });
        ports.collect()
    }
}

/// The longest piece of a line that is passed on at once.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What is removed at the end.
static DATA: OnceLock<PathBuf> = OnceLock::new();

/// Runs this many nodes until they have drained.
pub(super) fn run(args: &ServeArgs, count: u16) -> anyhow::Result<Exit> {
    let signals = StopSignals::catch(Second::EndsAfter(kill_all), HangUp::Stops)?;
    let log = logging::start(
        Targets::new().with_default(LevelFilter::INFO),
        &Format::Text { node: None },
    );
    let ports = Ports::of(args.dev_port, count);
    check_ports(&ports)?;
    let data = DATA.get_or_init(new_directory);
    fs::create_dir(data).with_context(|| format!("cannot make {}", data.display()))?;
    let nodes = start_all(args, &ports, data);
    let ended = nodes.and_then(|nodes| attend(nodes, &ports, signals));
    fs::remove_dir_all(data).ok();
    drop(log);
    ended
}

fn kill_all() {
    children::kill_all();
    if let Some(data) = DATA.get() {
        fs::remove_dir_all(data).ok();
    }
}

fn new_directory() -> PathBuf {
    env::temp_dir().join(format!("majordomo-dev-{}", std::process::id()))
}

/// A port in use is said once, here, and not by one node after the others have started.
fn check_ports(ports: &[Ports]) -> Result<(), UsageError> {
    for port in ports.iter().flat_map(|of| [of.broker, of.cluster, of.admin]) {
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            let reason = format!(
                "--dev needs port {port} of 127.0.0.1: {error}; stop the other program, choose \
                 other ports with --dev-port, or start nodes of your own with --bind, --admin, \
                 --data-dir and --peers"
            );
            return Err(UsageError(reason));
        }
    }
    Ok(())
}

/// A node of the cluster.
#[derive(Debug)]
struct DevNode {
    name: String,
    process: Child,
    /// What starts it again after it was killed.
    command: String,
}

fn start_all(args: &ServeArgs, ports: &[Ports], data: &Path) -> anyhow::Result<Vec<DevNode>> {
    let names: Vec<String> = (1..=ports.len()).map(|number| format!("node-{number}")).collect();
    let peers: Vec<String> = names
        .iter()
        .zip(ports)
        .map(|(name, ports)| format!("{name}=127.0.0.1:{}", ports.cluster))
        .collect();
    let peers = peers.join(",");
    let program = env::current_exe().context("the program cannot find itself")?;
    let mut nodes = Vec::new();
    for (ports, name) in ports.iter().zip(names) {
        let typed = [
            ("--name", name.clone()),
            ("--bind", format!("127.0.0.1:{}", ports.broker)),
            ("--admin", format!("127.0.0.1:{}", ports.admin)),
            ("--data-dir", data.join(&name).display().to_string()),
            ("--peers", peers.clone()),
        ];
        let bind = format!("127.0.0.1:{}", ports.cluster);
        let mut command = Command::new(&program);
        command.arg("serve");
        for (flag, value) in &typed {
            command.args([*flag, value]);
        }
        if let Some(level) = &args.log_level {
            command.args(["--log-level", level]);
        }
        if let Some(format) = &args.log_format {
            command.args(["--log-format", format]);
        }
        command.args(["--ends-with", &std::process::id().to_string()]);
        for of_one_node in [
            "CLUSTER__ADVERTISE",
            "CLUSTER__RELAY_BIND",
            "BROKER__ADVERTISE",
            "BROKER__ADVERTISE_FOR",
            "ADMIN__SOCKET",
        ] {
            command.env_remove(format!("MAJORDOMO__{of_one_node}"));
        }
        command.env("MAJORDOMO__CLUSTER__BIND", &bind);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let flags = typed.map(|(flag, value)| format!("{flag} {value}")).join(" ");
        let process = children::start(&mut command).context("a node cannot be started")?;
        let command = format!("MAJORDOMO__CLUSTER__BIND={bind} majordomo serve {flags}");
        nodes.push(DevNode { name, process, command });
    }
    Ok(nodes)
}

/// Passes on what the nodes log, and waits for their ends.
fn attend(nodes: Vec<DevNode>, ports: &[Ports], signals: StopSignals) -> anyhow::Result<Exit> {
    let endpoints: Vec<String> =
        ports.iter().map(|ports| format!("127.0.0.1:{}", ports.broker)).collect();
    tracing::info!(
        "{} nodes; use them by MAJORDOMO_ENDPOINT={} and MAJORDOMO_ADMIN=http://127.0.0.1:{}; their data \
         is gone when they end",
        nodes.len(),
        endpoints.join(","),
        ports.first().map_or(0, |ports| ports.admin)
    );
    let pids =
        nodes.iter().map(|node| children::pid(&node.process)).collect::<io::Result<Vec<_>>>()?;
    let stop = Stop { is_asked: Arc::default(), pids };
    let of_signal = stop.clone();
    signals.on_first(move || of_signal.all()).context("no thread for signals")?;
    let mut exit = Exit::Ok;
    thread::scope(|scope| {
        let ends: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                let stop = &stop;
                scope.spawn(move || live(node, stop))
            })
            .collect();
        for end in ends {
            if !end.join().is_ok_and(|status| status.is_ok_and(|status| status.success())) {
                exit = Exit::Failure;
            }
        }
    });
    Ok(exit)
}

/// Ends all nodes, in order.
#[derive(Clone, Debug)]
struct Stop {
    is_asked: Arc<AtomicBool>,
    pids: Vec<Pid>,
}

impl Stop {
    fn all(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        for pid in &self.pids {
            children::signal(*pid, Signal::TERM);
        }
    }
}

/// One node until its end. One that is killed is missed by the others; one that gives up ends them.
fn live(mut node: DevNode, stop: &Stop) -> io::Result<ExitStatus> {
    if let Some(log) = node.process.stderr.take() {
        pass_on(log, &node.name);
    }
    children::wait_until_ended(children::pid(&node.process)?)?;
    let status = children::end(&mut node.process)?;
    if stop.is_asked.load(Ordering::Relaxed) {
        return Ok(status);
    }
    let DevNode { name, command, .. } = node;
    if status.code().is_none() {
        tracing::warn!(
            "{name} was killed ({status}); start it again in another terminal: {command}"
        );
    } else {
        tracing::warn!("{name} ended ({status}), so all end");
        stop.all();
    }
    Ok(status)
}

/// Lines, each with the name of the node before it, until the log ends. JSON has the name in it.
fn pass_on(log: ChildStderr, name: &str) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    while matches!(log.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
        let prefix = if line.starts_with(b"{") { String::new() } else { format!("{name} | ") };
        printer::log_line(&prefix, line.trim_ascii_end());
        line.clear();
    }
}
