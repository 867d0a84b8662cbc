//! openraft's network: its calls in our envelope.

use std::{future::Future, time::Duration};

use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    base::OptionalSend,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

use crate::{
    Lane,
    calls::{Appended, Ballot, Refusal, Reply, Request},
    peers::{CallFailure, Peers, Target},
    runtime::Runtime,
    stored::{EntryV1, LogIdV1, SnapshotMetaV1},
    types::{LogId, Member, Snapshot, TypeConfig, Vote},
};

/// The largest piece of a snapshot that one call carries.
const SNAPSHOT_PIECE_BYTES: usize = 512 << 10;
/// How long one piece may take.
const SNAPSHOT_PIECE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one transfer begins anew before openraft is told that it failed.
const SNAPSHOT_RESTARTS_MAX: usize = 3;

/// Makes a client for each member.
#[derive(Clone, Debug)]
pub(crate) struct Network<R: Runtime> {
    peers: Peers<R>,
}

impl<R: Runtime> Network<R> {
    pub(crate) const fn new(peers: Peers<R>) -> Self {
        Self { peers }
    }
}

impl<R: Runtime> RaftNetworkFactory<TypeConfig<R>> for Network<R> {
    type Network = Client<R>;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client<R> {
        Client { id: target, member: node.clone(), peers: self.peers.clone() }
    }
}

/// Calls one member.
#[derive(Clone, Debug)]
pub(crate) struct Client<R: Runtime> {
    id: u64,
    member: Member,
    peers: Peers<R>,
}

type RpcResult<T, R> = Result<T, RPCError<TypeConfig<R>>>;

impl<R: Runtime> Client<R> {
    fn target(&self) -> Target {
        self.peers.target(self.id, &self.member)
    }

    async fn call(&self, request: Request, timeout: Duration) -> RpcResult<Reply, R> {
        self.peers
            .call(&self.target(), Lane::Control, request, timeout)
            .await
            .map_err(|error| failure(&error))
    }

    async fn ballot(
        &self,
        request: Request,
        timeout: Duration,
    ) -> RpcResult<VoteResponse<TypeConfig<R>>, R> {
        let reply = self.call(request, timeout).await?;
        let Reply::Vote { vote, is_granted, last } = reply else { return Err(unexpected(&reply)) };
        Ok(VoteResponse::new(Vote::from(vote), last.map(LogId::from), is_granted))
    }
}

/// Nobody there, or nobody who listens: openraft backs off.
fn failure<R: Runtime>(failure: &CallFailure) -> RPCError<TypeConfig<R>> {
    match failure {
        CallFailure::Transport(_) | CallFailure::Refused(_) | CallFailure::Foreign(_) => {
            RPCError::Unreachable(Unreachable::new(failure))
        }
        CallFailure::Malformed(_) => RPCError::Network(NetworkError::new(failure)),
    }
}

fn unexpected<R: Runtime>(reply: &Reply) -> RPCError<TypeConfig<R>> {
    failure(&CallFailure::Malformed(format!("another answer than asked for: {reply:?}")))
}

fn ballot<R: Runtime>(rpc: &VoteRequest<TypeConfig<R>>) -> Ballot {
    Ballot {
        vote: (&rpc.vote).into(),
        last: rpc.last_log_id.as_ref().map(LogIdV1::from),
        is_transfer: rpc.leadership_transfer,
    }
}

impl<R: Runtime> RaftNetworkV2<TypeConfig<R>> for Client<R> {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig<R>>, R> {
        let entries: Result<Vec<_>, _> = rpc.entries.iter().map(EntryV1::new).collect();
        let request = Request::Append {
            vote: (&rpc.vote).into(),
            previous: rpc.prev_log_id.as_ref().map(LogIdV1::from),
            entries: entries
                .map_err(|error| failure(&CallFailure::Malformed(error.to_string())))?,
            committed: rpc.leader_commit.as_ref().map(LogIdV1::from),
        };
        let reply = self.call(request, option.hard_ttl()).await?;
        let Reply::Append(appended) = reply else { return Err(unexpected(&reply)) };
        Ok(match appended {
            Appended::All => AppendEntriesResponse::Success,
            Appended::UpTo(log_id) => {
                AppendEntriesResponse::PartialSuccess(log_id.map(LogId::from))
            }
            Appended::Conflict => AppendEntriesResponse::Conflict,
            Appended::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig<R>>, R> {
        self.ballot(Request::Vote(ballot(&rpc)), option.hard_ttl()).await
    }

    // The default grants without asking anybody.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig<R>>, R> {
        self.ballot(Request::PreVote(ballot(&rpc)), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig<R>>, R> {
        let leader = *req.from_leader();
        let request = Request::TakeOver {
            leader: (&leader).into(),
            successor: *req.to_node_id(),
            last: req.last_log_id().map(LogIdV1::from),
        };
        let reply = self.call(request, option.hard_ttl()).await?;
        let Reply::TakeOver { is_accepted } = reply else { return Err(unexpected(&reply)) };
        if is_accepted {
            return Ok(Ok(()));
        }
        Ok(Err(TransferLeaderError::VoteChanged { expected: leader, actual: leader }))
    }
}

impl<R: Runtime> Client<R> {
    /// Sends a snapshot piece by piece; the receiver says from where it wants the next.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let data = snapshot.snapshot;
        let (mut offset, mut restarts) = (0_usize, 0_usize);
        loop {
            let end = offset.saturating_add(SNAPSHOT_PIECE_BYTES).min(data.len());
            let request = Request::Snapshot {
                vote: (&vote).into(),
                meta: SnapshotMetaV1::from(&snapshot.meta),
                offset: bytes(offset),
                total: bytes(data.len()),
                piece: data.get(offset..end).unwrap_or_default().to_vec(),
            };
            let reply = self
                .peers
                .call(&self.target(), Lane::Bulk, request, SNAPSHOT_PIECE_TIMEOUT)
                .await
                .map_err(|error| StreamingError::from(failure(&error)))?;
            if let Reply::SnapshotDone { vote } = reply {
                return Ok(SnapshotResponse::new(vote.into()));
            }
            let Reply::SnapshotNext { offset: next } = reply else {
                return Err(unexpected(&reply).into());
            };
            if next == bytes(end) && end > offset {
                offset = end;
            } else if restarts < SNAPSHOT_RESTARTS_MAX {
                // Another transfer came between, or the receiver began anew.
                restarts += 1;
                offset = 0;
            } else {
                return Err(unexpected(&reply).into());
            }
        }
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Whether a refusal names another leader.
pub(crate) fn leader_hint(failure: &CallFailure) -> Option<(u64, Member)> {
    match failure {
        CallFailure::Refused(Refusal::NotLeader { leader: Some((id, name, endpoint)) }) => {
            Some((*id, Member { name: name.clone(), endpoint: endpoint.clone() }))
        }
        CallFailure::Refused(_)
        | CallFailure::Foreign(_)
        | CallFailure::Transport(_)
        | CallFailure::Malformed(_) => None,
    }
}
