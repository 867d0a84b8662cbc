//! Three nodes of one cluster, as processes on loopback.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tempfile::TempDir;
use thiserror::Error;
use zmq::{Context, SocketType};

use crate::launch::{Launch, LaunchError, Launched, free_addresses};

/// How many nodes there are.
pub const NODES: usize = 3;

/// How long the nodes may take until all of them follow one leader.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);
/// How long one question to a node may take; while an election goes on, some are not answered.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long to wait between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Three nodes, which end with this value, and their data directories with them.
#[derive(Debug)]
pub struct Trio {
    nodes: Vec<Launched>,
    // Removed after the processes ended: fields are dropped in order.
    _directory: TempDir,
}

/// Who leads, as every node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The index of the leader.
    pub leader: usize,
    /// Its term.
    pub term: u64,
}

impl Leadership {
    /// A node that follows.
    #[must_use]
    pub const fn follower(self) -> usize {
        (self.leader + 1) % NODES
    }
}

/// Why there is no cluster.
#[derive(Debug, Error)]
pub enum TrioError {
    /// No directory, or no ports.
    #[error("three nodes cannot be prepared: {0}")]
    Prepare(#[from] io::Error),
    /// A node does not run.
    #[error("{name}: {error}")]
    Launch {
        /// The node.
        name: String,
        /// Why.
        error: LaunchError,
    },
    /// The nodes do not follow one leader.
    #[error(
        "the nodes did not agree on a leader within {SETTLE_DEADLINE:?}; the last view: {view}"
    )]
    Unsettled {
        /// What the last of them said.
        view: String,
    },
}

/// The part of `mmi.status` that is of interest here.
#[derive(Debug, Deserialize)]
struct StatusPage {
    leader: Option<String>,
    term: Option<u64>,
}

impl Trio {
    /// Starts three nodes with the settings that they have by themselves.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(program: &Path) -> Result<Self, TrioError> {
        let directory = TempDir::new()?;
        let addresses = free_addresses::<NODES>()?;
        let seeds: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| format!("{}={address}", name(index)))
            .collect();
        let mut nodes = Vec::with_capacity(NODES);
        for (index, address) in addresses.iter().enumerate() {
            let data_dir = directory.path().join(name(index));
            let settings = [
                ("NODE__NAME", name(index)),
                ("NODE__DATA_DIR", data_dir.to_string_lossy().into_owned()),
                ("BROKER__BIND", "tcp://127.0.0.1:0".to_owned()),
                ("CLUSTER__BIND", format!("tcp://{address}")),
                ("CLUSTER__PEERS", seeds.join(",")),
                ("CLUSTER__EXPECT", NODES.to_string()),
                ("ADMIN__BIND", String::new()),
            ];
            let mut launch = Launch::new(program.to_path_buf(), vec![String::from("serve")]);
            launch.environment =
                settings.map(|(key, value)| (format!("MAJORDOMO__{key}"), value)).to_vec();
            let launched =
                launch.start().map_err(|error| TrioError::Launch { name: name(index), error })?;
            nodes.push(launched);
        }
        Ok(Self { nodes, _directory: directory })
    }

    /// Waits until every node names the same leader, which each knows only once it has joined.
    ///
    /// # Errors
    /// They do not, in time.
    pub fn settle(&self) -> Result<Leadership, TrioError> {
        let deadline = Instant::now() + SETTLE_DEADLINE;
        loop {
            match self.leadership() {
                Ok(leadership) => return Ok(leadership),
                Err(view) if Instant::now() >= deadline => {
                    return Err(TrioError::Unsettled { view });
                }
                Err(_) => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    /// What all nodes say now, or what one of them says that does not fit.
    fn leadership(&self) -> Result<Leadership, String> {
        let mut agreed = None;
        for node in &self.nodes {
            let view = status(node.endpoint());
            let seen = view.as_ref().ok().and_then(StatusPage::leadership);
            if seen.is_none() || agreed.is_some_and(|agreed| Some(agreed) != seen) {
                return Err(format!("{view:?}"));
            }
            agreed = seen;
        }
        agreed.ok_or_else(|| String::from("no nodes"))
    }

    /// Where clients and workers of a node connect.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> &str {
        self.nodes.get(index).map_or("", Launched::endpoint)
    }

    /// The processes, in order.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Launched::pid).collect()
    }
}

impl StatusPage {
    fn leadership(&self) -> Option<Leadership> {
        let leader = (0..NODES).find(|index| self.leader.as_deref() == Some(&name(*index)))?;
        Some(Leadership { leader, term: self.term? })
    }
}

fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// Asks one node for its view of the cluster.
fn status(endpoint: &str) -> Result<StatusPage, String> {
    let frames = ask(endpoint, "mmi.status", "").map_err(|error| error.to_string())?;
    let page = frames.last().map_or(b"".as_slice(), Vec::as_slice);
    serde_json::from_slice(page)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(page)))
}

/// Asks one question on a connection of its own, and returns the body of the answer.
pub(crate) fn ask(endpoint: &str, service: &str, body: &str) -> Result<Vec<Vec<u8>>, zmq::Error> {
    let socket = Context::new().socket(SocketType::DEALER)?;
    socket.set_linger(0)?;
    let deadline_ms = i32::try_from(ANSWER_DEADLINE.as_millis()).unwrap_or(i32::MAX);
    socket.set_rcvtimeo(deadline_ms)?;
    socket.connect(endpoint)?;
    let frames = [b"".as_slice(), b"MDPC01", service.as_bytes(), body.as_bytes()];
    socket.send_multipart(frames, 0)?;
    // An empty frame, the header, the service.
    socket.recv_multipart(0).map(|frames| frames.into_iter().skip(3).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_needs_a_known_leader_and_a_term() {
        let of = |text| serde_json::from_str::<StatusPage>(text).unwrap().leadership();

        let leadership = of(r#"{"node":"node-1","leader":"node-3","term":4}"#).unwrap();

        assert_eq!(leadership, Leadership { leader: 2, term: 4 });
        assert_eq!(leadership.follower(), 0);
        for none in [
            r#"{"leader":null,"term":4}"#,
            r#"{"leader":"node-4","term":4}"#,
            r#"{"leader":"node-1"}"#,
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
