//! Answering the calls of other nodes.

use std::time::Duration;

use crate::{
    Stop, admission,
    calls::{Answer, Appended, Ballot, Call, Hello, REFUSAL_FORMAT, Refusal, Reply, Request},
    formation::{self, Newcomer},
    hub::{Hub, lock},
    lines::Line,
    membership, reads,
    runtime::Runtime,
    stored::{EntryV1, LogIdV1, SnapshotMetaV1, VoteV1},
    types::{LogId, Snapshot, TypeConfig, Vote},
    upgrade,
};
use mdp_catalog::{NodeId, NodeName};
use mdp_rate_limiter::event;
use mdp_wire::{
    codec::{CodecError, DECODED_BYTES_MAX},
    relay::WireRange,
};
use openraft::{
    errors::RaftError,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest,
        VoteResponse,
    },
};

/// How long the leader tries to write what another node proposes.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a call; `None`: the bytes are no call. The caller is the node whose key it has shown, if it has.
pub(crate) async fn answer(
    hub: &Hub<impl Runtime>,
    caller: Option<&NodeName>,
    request: &[u8],
) -> Option<Vec<u8>> {
    let own = hub.peers.formats().own();
    let (format, reply) = match Call::decode(own, request) {
        Ok((format, call)) => match admit(hub, caller, &call).await {
            Ok(()) => (format, reply(hub, call).await.unwrap_or_else(Reply::Refused)),
            Err(refusal) => (format, Reply::Refused(refusal)),
        },
        Err(CodecError::UnknownFormat { .. }) => {
            (REFUSAL_FORMAT, Reply::Refused(unknown_format(hub)))
        }
        Err(error) => {
            tracing::debug!(%error, "bytes on the cluster port that are no call");
            return None;
        }
    };
    let cluster = hub.identity.identity().cluster_id;
    Answer { formats: (own.min, own.max), cluster, reply }.encode(format).ok()
}

fn unknown_format(hub: &Hub<impl Runtime>) -> Refusal {
    let WireRange { min, max } = hub.peers.formats().own();
    Refusal::Format { min, max }
}

/// Whether the call is for this node, of its cluster, and from one that may ask for it.
async fn admit(
    hub: &Hub<impl Runtime>,
    caller: Option<&NodeName>,
    call: &Call,
) -> Result<(), Refusal> {
    is_meant(hub, call)?;
    admission::check(hub, caller, call).await?;
    // From here on the caller counts as a node of this cluster, or as a newcomer.
    belong(hub, call).await
}

/// Whether this node, as the one that it is, is asked.
fn is_meant(hub: &Hub<impl Runtime>, call: &Call) -> Result<(), Refusal> {
    // Other nodes go on calling while this one ends.
    if hub.is_over() {
        return Err(Refusal::Unavailable);
    }
    // It is passed on when others are asked about the caller.
    if call.from_name.parse::<NodeName>().is_err() {
        return Err(Refusal::Unavailable);
    }
    if hub.is_retired(call.from) {
        return Err(Refusal::Removed);
    }
    if call.to.is_some_and(|to| to != hub.id()) {
        return Err(Refusal::NotTarget);
    }
    let is_foreign = match (hub.identity.identity().cluster_id, call.cluster) {
        (Some(ours), Some(theirs)) => ours != theirs,
        // Before it belongs to a cluster, a node is told by its id.
        (None, Some(_)) => call.to.is_none(),
        (Some(_) | None, None) => true,
    };
    if is_foreign && !is_introduction(&call.request) {
        return Err(Refusal::ForeignCluster);
    }
    Ok(())
}

/// Notes that the caller was heard; a node without a cluster belongs to the caller's from here on.
async fn belong(hub: &Hub<impl Runtime>, call: &Call) -> Result<(), Refusal> {
    match (hub.identity.identity().cluster_id, call.cluster) {
        (Some(ours), Some(theirs)) if ours == theirs => {
            // A newcomer's question may have been passed on, and one about a voter is asked in its name: then
            // another node was heard. And strangers must not push members out of what is remembered.
            let is_own = !is_introduction(&call.request) && !is_about_sender(&call.request);
            if is_own && hub.membership().get_node(&call.from).is_some() {
                hub.peers.on_heard(call.from);
            }
            Ok(())
        }
        (Some(_) | None, Some(_) | None) if is_introduction(&call.request) => Ok(()),
        // One that leads or wants to, and that a seed of this node vouches for.
        (None, Some(theirs)) if call.to.is_some() && call.request.is_of_consensus() => {
            tracing::info!(cluster_id = format!("{theirs:032x}"), "this node belongs to a cluster");
            match hub.identity.set_cluster_id(theirs).await {
                Ok(()) => Ok(()),
                // By another call meanwhile.
                Err(_) if hub.identity.identity().cluster_id.is_some() => {
                    Err(Refusal::ForeignCluster)
                }
                Err(error) => {
                    let reason = format!("the cluster's id can not be stored: {error}");
                    hub.stop(Stop::Storage { reason }).await;
                    Err(Refusal::Unavailable)
                }
            }
        }
        (Some(_) | None, Some(_) | None) => Err(Refusal::ForeignCluster),
    }
}

/// What a node may ask before it belongs to a cluster.
const fn is_introduction(request: &Request) -> bool {
    match request {
        Request::Hello { .. } | Request::Join { .. } => true,
        Request::Append { .. }
        | Request::Vote(_)
        | Request::PreVote(_)
        | Request::TakeOver { .. }
        | Request::Snapshot { .. }
        | Request::ReadIndex { .. }
        | Request::Propose { .. }
        | Request::Change(_) => false,
    }
}

/// A proposal without an entry is how another node asks whether the sender is a voter.
pub(crate) const fn is_about_sender(request: &Request) -> bool {
    matches!(request, Request::Propose { entry } if entry.is_empty())
}

async fn reply(hub: &Hub<impl Runtime>, call: Call) -> Result<Reply, Refusal> {
    match call.request {
        Request::Hello { .. } => Ok(Reply::Hello(hello(hub))),
        Request::Join { endpoint, version } => {
            let is_ours =
                call.cluster.is_none() || call.cluster == hub.identity.identity().cluster_id;
            if !is_ours {
                return Err(Refusal::ForeignCluster);
            }
            match membership::join(hub, call.from, &call.from_name, &endpoint, version).await {
                Ok(()) => Ok(Reply::Joined),
                // A newcomer asks the node at a seed's address, whose id it does not know. A member that
                // passes this on asks the leader by its id, so that it is passed on once.
                Err(Refusal::NotLeader { .. }) if call.to.is_none() => {
                    let (id, name) = (call.from, call.from_name);
                    formation::pass_on(hub, Newcomer { id, name, endpoint, version }).await
                }
                Err(refusal) => Err(refusal),
            }
        }
        Request::Append { vote, previous, entries, committed } => {
            let entries: Result<Vec<_>, _> = entries.into_iter().map(EntryV1::read).collect();
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => return Err(unreadable(hub, &error).await),
            };
            let prev_log_id = previous.map(LogId::from);
            let leader_commit = committed.map(LogId::from);
            let vote = vote.into();
            append(hub, AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }).await
        }
        Request::Vote(ballot) => {
            Ok(vote_reply(&hub.raft.vote(vote_request(&ballot)).await.map_err(ended)?))
        }
        Request::PreVote(ballot) => {
            Ok(vote_reply(&hub.raft.pre_vote(vote_request(&ballot)).await.map_err(ended)?))
        }
        Request::TakeOver { leader, successor, last } => {
            let last = last.map(LogId::from);
            take_over(hub, TransferLeaderRequest::new(leader.into(), successor, last)).await
        }
        Request::Snapshot { vote, meta, offset, total, piece } => {
            let piece = Piece { meta, offset, total, bytes: piece };
            snapshot(hub, vote, piece).await
        }
        Request::ReadIndex { vote } => {
            let index = reads::read_index_for(hub, call.from, vote.map(Vote::from)).await;
            Ok(Reply::ReadIndex { index: index.ok_or_else(|| hub.not_leader())? })
        }
        Request::Propose { entry } => propose(hub, call.from, &entry).await,
        Request::Change(change) => {
            membership::change(hub, change).await.map(|leader| Reply::Changed { leader })
        }
    }
}

fn hello(hub: &Hub<impl Runtime>) -> Hello {
    Hello {
        id: hub.id(),
        process: hub.process,
        name: hub.name().as_str().to_owned(),
        // One that knows its cluster's id was asked for its vote, and soon is a member.
        is_initialised: hub.is_initialised() || hub.identity.identity().cluster_id.is_some(),
        seeds: hub.seed_list(),
        version: upgrade::own(hub),
    }
}

async fn append<R: Runtime>(
    hub: &Hub<R>,
    rpc: AppendEntriesRequest<TypeConfig<R>>,
) -> Result<Reply, Refusal> {
    let appended = hub.raft.append_entries(rpc).await.map_err(ended)?;
    Ok(Reply::Append(match appended {
        AppendEntriesResponse::Success => {
            hub.on_leader_heard();
            Appended::All
        }
        AppendEntriesResponse::PartialSuccess(log_id) => {
            hub.on_leader_heard();
            Appended::UpTo(log_id.as_ref().map(LogIdV1::from))
        }
        AppendEntriesResponse::Conflict => {
            hub.on_leader_heard();
            Appended::Conflict
        }
        AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote((&vote).into()),
    }))
}

fn vote_request<R: Runtime>(ballot: &Ballot) -> VoteRequest<TypeConfig<R>> {
    VoteRequest {
        vote: ballot.vote.into(),
        last_log_id: ballot.last.map(LogId::from),
        leadership_transfer: ballot.is_transfer,
    }
}

fn vote_reply(response: &VoteResponse<TypeConfig<impl Runtime>>) -> Reply {
    Reply::Vote {
        vote: (&response.vote).into(),
        is_granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(LogIdV1::from),
    }
}

async fn take_over<R: Runtime>(
    hub: &Hub<R>,
    request: TransferLeaderRequest<TypeConfig<R>>,
) -> Result<Reply, Refusal> {
    let accepted = hub
        .raft
        .handle_transfer_leader(request)
        .await
        .map_err(|error| ended(RaftError::Fatal(error)))?;
    Ok(Reply::TakeOver { is_accepted: accepted.is_ok() })
}

async fn propose(hub: &Hub<impl Runtime>, from: u64, entry: &[u8]) -> Result<Reply, Refusal> {
    // The entry that made it one was lost with another leader. It asks to join again, and must have no
    // record before: a record without a member is what a removal leaves behind.
    if hub.membership().get_node(&from).is_none() {
        tracing::debug!(from = %NodeId(from), "a node that is no member proposes an entry");
        return Err(Refusal::Unavailable);
    }
    // Another node asks whether it is a voter.
    if entry.is_empty() {
        let is_voter = admission::is_voter(hub, from);
        return Err(if is_voter { unknown_format(hub) } else { Refusal::Unavailable });
    }
    // From a node that is newer than its leader: it should know better, and asks again in vain.
    let entry = mdp_catalog::decode_entry(entry).map_err(|error| {
        let (admission, from) = (hub.state.lines.admit(Line::Proposal), NodeId(from));
        event!(admission, warn, %from, %error, "another node proposes what this version can not read");
        unknown_format(hub)
    })?;
    if !admission::may_propose(hub, from, &entry) {
        tracing::debug!(from = %NodeId(from), %entry, "a node proposes what is not its own to say");
        return Err(Refusal::Unavailable);
    }
    match hub.timeout(PROPOSAL_TIMEOUT, hub.write(entry)).await {
        Ok(Ok(())) => Ok(Reply::Proposed),
        Ok(Err(_)) => Err(hub.not_leader()),
        Err(_) => Err(Refusal::Unavailable),
    }
}

/// A node that can not read what the leader has written can not follow: it stops rather than skips.
async fn unreadable(hub: &Hub<impl Runtime>, error: &CodecError) -> Refusal {
    let admission = hub.state.lines.admit(Line::Entries);
    event!(admission, warn, %error, "the leader sent what this version can not read");
    if let CodecError::UnknownFormat { .. } = error {
        hub.stop(Stop::Version { reason: error.to_string() }).await;
    }
    unknown_format(hub)
}

fn ended(error: RaftError<TypeConfig<impl Runtime>>) -> Refusal {
    match error {
        RaftError::Fatal(error) => tracing::debug!(%error, "a call came after consensus ended"),
        RaftError::APIError(never) => match never {},
    }
    Refusal::Unavailable
}

/// A piece of a snapshot.
struct Piece {
    meta: SnapshotMetaV1,
    offset: u64,
    total: u64,
    bytes: Vec<u8>,
}

/// A snapshot that arrives piece by piece.
#[derive(Debug, Default)]
pub(crate) struct SnapshotAssembly {
    meta: Option<SnapshotMetaV1>,
    data: Vec<u8>,
}

impl SnapshotAssembly {
    /// Takes a piece if it is the next one. Gives the data once it is complete.
    fn take(&mut self, piece: Piece) -> Result<Vec<u8>, u64> {
        let length = |data: &Vec<u8>| u64::try_from(data.len()).unwrap_or(u64::MAX);
        if piece.offset == 0 {
            self.meta = Some(piece.meta);
            self.data.clear();
        } else if self.meta.as_ref() != Some(&piece.meta) || piece.offset != length(&self.data) {
            *self = Self::default();
            return Err(0);
        }
        let is_too_big = self.data.len().saturating_add(piece.bytes.len()) > DECODED_BYTES_MAX;
        if is_too_big || piece.bytes.is_empty() && piece.total > 0 {
            *self = Self::default();
            return Err(0);
        }
        self.data.extend_from_slice(&piece.bytes);
        if length(&self.data) < piece.total {
            return Err(length(&self.data));
        }
        self.meta = None;
        Ok(std::mem::take(&mut self.data))
    }
}

async fn snapshot(hub: &Hub<impl Runtime>, vote: VoteV1, piece: Piece) -> Result<Reply, Refusal> {
    let meta = piece.meta.clone();
    let data = match lock(&hub.state.assembly).take(piece) {
        Ok(data) => data,
        Err(offset) => return Ok(Reply::SnapshotNext { offset }),
    };
    // What can not be decoded must not replace what can.
    let meta = meta.read().and_then(|meta| mdp_catalog::decode_snapshot(&data).map(|_| meta));
    let meta = match meta {
        Ok(meta) => meta,
        Err(error) => return Err(unreadable(hub, &error).await),
    };
    let installed = hub
        .raft
        .install_full_snapshot(Vote::from(vote), Snapshot { meta, snapshot: data })
        .await
        .map_err(|error| ended(RaftError::Fatal(error)))?;
    hub.on_leader_heard();
    Ok(Reply::SnapshotDone { vote: (&installed.vote).into() })
}
