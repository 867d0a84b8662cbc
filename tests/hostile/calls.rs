//! Calls of nodes in their format 1, as a stranger writes them: it need not keep to any rule but that of
//! the bytes.

use std::time::Duration;

use cluster_tests::{RawSocket, TestCluster, frames};
use mdp_wire::codec::{self, Kind};
use serde::{Deserialize, Serialize};

/// The format of calls that 0.1.0 speaks.
const FORMAT: u16 = 1;
/// The oldest and the newest format that a stranger claims to speak.
const FORMATS: (u16, u16) = (FORMAT, FORMAT);

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The id that a stranger gives itself.
pub(crate) const STRANGER: u64 = 0x6666_6666_6666_6666;

#[derive(Debug, Serialize)]
struct Call {
    formats: (u16, u16),
    cluster: Option<u128>,
    from: u64,
    from_name: String,
    to: Option<u64>,
    request: Request,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) enum Request {
    Hello { seeds: Vec<(String, String)> },
    Join { endpoint: String, version: (u16, u16, u16) },
    Append { vote: Vote, previous: Option<LogId>, entries: Vec<Entry>, committed: Option<LogId> },
    Vote(Ballot),
    PreVote(Ballot),
    TakeOver { leader: Vote, successor: u64, last: Option<LogId> },
    Snapshot { vote: Vote, meta: SnapshotMeta, offset: u64, total: u64, piece: Vec<u8> },
    ReadIndex { vote: Option<Vote> },
    Propose { entry: Vec<u8> },
    Change(Change),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) node_id: u64,
    pub(crate) committed: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) node_id: u64,
    pub(crate) index: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId,
    pub(crate) payload: Payload,
}

#[derive(Clone, Debug, Serialize)]
#[expect(dead_code, reason = "the numbers of the variants are the format")]
pub(crate) enum Payload {
    Blank,
    Command(Vec<u8>),
    Membership(Membership),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Membership {
    pub(crate) configs: Vec<Vec<u64>>,
    pub(crate) nodes: Vec<(u64, (String, String))>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SnapshotMeta {
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) membership_log_id: Option<LogId>,
    pub(crate) membership: Membership,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ballot {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    pub(crate) is_transfer: bool,
}

#[derive(Clone, Debug, Serialize)]
#[expect(dead_code, reason = "the numbers of the variants are the format")]
pub(crate) enum Change {
    Add { name: String, endpoint: String },
    Promote { name: String },
    Remove { name: String },
    Lead { to: Option<String> },
    Hold,
    Resume,
    Finalize,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[expect(dead_code, reason = "a part of the format")]
    formats: (u16, u16),
    cluster: Option<u128>,
    reply: Reply,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "what comes back is shown, or only told from a refusal")]
pub(crate) enum Reply {
    Hello(Hello),
    Joined,
    Append(Appended),
    Vote { vote: Vote, is_granted: bool, last: Option<LogId> },
    TakeOver { is_accepted: bool },
    SnapshotNext { offset: u64 },
    SnapshotDone { vote: Vote },
    ReadIndex { index: u64 },
    Proposed,
    Changed { leader: String },
    Refused(Refusal),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "a part of the format")]
pub(crate) struct Hello {
    pub(crate) id: u64,
    process: u64,
    pub(crate) name: String,
    is_initialised: bool,
    seeds: Vec<(String, String)>,
    version: (u16, u16, u16),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the numbers of the variants are the format")]
pub(crate) enum Appended {
    All,
    UpTo(Option<LogId>),
    Conflict,
    HigherVote(Vote),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the numbers of the variants are the format")]
pub(crate) enum Refusal {
    Format { min: u16, max: u16 },
    ForeignCluster,
    NotTarget,
    Removed,
    NotLeader { leader: Option<(u64, String, String)> },
    NameInUse,
    Change { reason: String },
    UnknownMember { name: String, members: String },
    Unavailable,
    Version { reason: String },
}

impl Reply {
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// A stranger at the cluster port of one node, which has told it who it is and which cluster it is of.
pub(crate) struct Stranger {
    socket: RawSocket,
    pub(crate) node: Hello,
    cluster: Option<u128>,
}

impl Stranger {
    pub(crate) fn at(cluster: &TestCluster, node: usize) -> Self {
        let peers = cluster.peers();
        let peer = peers.split(',').nth(node).and_then(|peer| peer.split_once('=')).unwrap();
        let address = peer.1.trim_start_matches("tcp://");
        Self::by(RawSocket::dealer(format!("tcp://{address}").as_str()))
    }

    /// The same, by this connection. It says that it is node-3: that is the key that tests steal.
    pub(crate) fn by(socket: RawSocket) -> Self {
        let (cluster, reply) = ask(&socket, &hello());
        let Reply::Hello(node) = reply else { panic!("no hello: {reply:?}") };
        Self { socket, node, cluster }
    }

    /// The question who a node is, as bytes.
    pub(crate) fn hello_bytes() -> Vec<u8> {
        codec::encode(Kind::Call, FORMAT, &hello()).unwrap()
    }

    /// Whether the node still answers by this connection.
    pub(crate) fn is_answered_within(&self, patience: Duration) -> bool {
        self.socket.send(&frames![b"12345678", &Self::hello_bytes()]);
        self.socket.recv_within(patience).is_some()
    }

    /// The same, which claims to be of another cluster.
    pub(crate) fn of_cluster(self, cluster: u128) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// What the node says to this, asked with all that a stranger can know.
    pub(crate) fn ask(&self, request: Request) -> Reply {
        self.ask_as(STRANGER, "stranger", request)
    }

    pub(crate) fn ask_as(&self, from: u64, name: &str, request: Request) -> Reply {
        let (cluster, to, from_name) = (self.cluster, Some(self.node.id), name.to_owned());
        ask(&self.socket, &Call { formats: FORMATS, cluster, from, from_name, to, request }).1
    }
}

fn hello() -> Call {
    let (from, from_name) = (STRANGER, "node-3".to_owned());
    let request = Request::Hello { seeds: Vec::new() };
    Call { formats: FORMATS, cluster: None, from, from_name, to: None, request }
}

fn ask(socket: &RawSocket, call: &Call) -> (Option<u128>, Reply) {
    let bytes = codec::encode(Kind::Call, FORMAT, call).unwrap();
    socket.send(&frames![b"12345678", &bytes]);
    let answer = socket.recv_within(PATIENCE).unwrap_or_else(|| panic!("no answer"));
    let answer: Answer = codec::decode(Kind::Answer, FORMAT, answer.last().unwrap()).unwrap();
    (answer.cluster, answer.reply)
}
