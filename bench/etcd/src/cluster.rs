//! Three etcd servers on loopback with the settings that etcd has by itself.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use mdp_bench::{
    launch::free_addresses,
    trio::{Leadership, NODES},
};
use tempfile::TempDir;

use crate::{
    grpc::Channel,
    messages::{Nothing, PutRequest, RangeRequest, RangeResponse, StatusResponse},
};

/// How long the servers may take until one of them leads.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The key that is read, and its value.
pub(crate) const KEY: &[u8] = b"echo";
const VALUE: &[u8] = b"node-1";

/// The servers, which end with this value, and their files with them.
pub(crate) struct Etcd {
    servers: Vec<Server>,
    directory: TempDir,
}

struct Server {
    process: Child,
    client: SocketAddr,
}

impl Etcd {
    pub(crate) fn start(program: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let addresses = free_addresses::<{ 2 * NODES }>()?;
        let (clients, peers) = addresses.split_at(NODES);
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(index, peer)| format!("{}=http://{peer}", name(index)))
            .collect();
        let cluster = cluster.join(",");
        let mut etcd = Self { servers: Vec::new(), directory };
        for (index, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let mut command = etcd.command(program, index, [*client, *peer])?;
            let process = command.args(["--initial-cluster", &cluster]).spawn();
            let process =
                process.with_context(|| format!("{} cannot be started", program.display()))?;
            etcd.servers.push(Server { process, client: *client });
        }
        Ok(etcd)
    }

    fn command(
        &self,
        program: &Path,
        index: usize,
        [client, peer]: [SocketAddr; 2],
    ) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        command.args(["--name", &name(index)]);
        command.args(["--listen-client-urls", &format!("http://{client}")]);
        command.args(["--advertise-client-urls", &format!("http://{client}")]);
        command.args(["--listen-peer-urls", &format!("http://{peer}")]);
        command.args(["--initial-advertise-peer-urls", &format!("http://{peer}")]);
        command.arg("--data-dir").arg(self.directory.path().join(name(index)));
        let log = File::create(self.directory.path().join(log_name(index)))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Waits until all servers follow one leader, and writes the key.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<Leadership> {
        let deadline = Instant::now() + START_DEADLINE;
        let leadership = loop {
            for (index, server) in self.servers.iter_mut().enumerate() {
                if let Some(status) = server.process.try_wait()? {
                    let log = fs::read_to_string(self.directory.path().join(log_name(index)))?;
                    bail!("etcd ended with {status}:\n{log}");
                }
            }
            match self.leadership().await {
                Ok(leadership) => break leadership,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        };
        let put = PutRequest { key: KEY.to_vec(), value: VALUE.to_vec() };
        let mut channel = self.channel(leadership.leader).await?;
        channel.call::<Nothing>("etcdserverpb.KV/Put", &put).await?;
        Ok(leadership)
    }

    /// Asks every server; it is an error if they do not agree.
    pub(crate) async fn leadership(&self) -> anyhow::Result<Leadership> {
        let (mut seen, mut members) = (Vec::new(), Vec::new());
        for index in 0..self.servers.len() {
            let method = "etcdserverpb.Maintenance/Status";
            let status: StatusResponse =
                self.channel(index).await?.call(method, &Nothing {}).await?;
            let header = status.header.context("a status without a header")?;
            members.push(header.member_id);
            seen.push((status.leader, header.raft_term));
        }
        let (leader, term) = *seen.first().context("no servers")?;
        ensure!(
            seen.iter().all(|other| *other == (leader, term)),
            "the servers disagree: {seen:?}"
        );
        let leader = members.iter().position(|member| *member == leader);
        Ok(Leadership { leader: leader.context("there is no leader")?, term })
    }

    /// A new connection to one server.
    pub(crate) async fn channel(&self, index: usize) -> anyhow::Result<Channel> {
        let server = self.servers.get(index).context("no such server")?;
        Channel::connect(&server.client.to_string()).await
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.process.id()).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Both fail only if the process has ended already.
            drop(server.process.kill());
            drop(server.process.wait());
        }
    }
}

/// What the server says of itself, such as `etcd Version: 3.4.23`.
pub(crate) fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{} cannot be started", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A linearizable read of the key.
pub(crate) fn read() -> RangeRequest {
    RangeRequest { key: KEY.to_vec() }
}

/// Whether this is the answer that it must be.
pub(crate) fn is_right(answer: &RangeResponse) -> bool {
    matches!(answer.kvs.as_slice(), [one] if one.value == VALUE)
}

fn name(index: usize) -> String {
    format!("etcd-{}", index + 1)
}

fn log_name(index: usize) -> String {
    format!("{}.log", name(index))
}
