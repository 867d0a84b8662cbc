//! Calling other nodes: envelope, address, deadline, and what a refusal means for this node.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use mdp_wire::{codec::CodecError, relay::WireRange};
use openraft_rt::Instant as _;
use thiserror::Error;

use crate::{
    CallError, ConsensusConfig, Lane, NewsSender, Seed, Stop, Transport,
    calls::{Answer, Call, Refusal, Reply, Request},
    clock::{Instant, now},
    formats::Formats,
    hub::lock,
    runtime::Runtime,
    store::IdentityStore,
    types::{Member, Membership},
};

/// Of how many members it is remembered when they were heard last. A cluster has fewer; beyond that
/// the one that has been silent for longest is forgotten.
const HEARD_MAX: usize = 64;

/// How long another node may take to say whether an id is that of a member.
const VOUCH_TIMEOUT: Duration = Duration::from_millis(500);

/// A call did not bring the answer that it asked for.
#[derive(Clone, Debug, Error)]
pub(crate) enum CallFailure {
    /// It came to nothing.
    #[error(transparent)]
    Transport(#[from] CallError),
    /// The other node refused it.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The other node belongs to this other cluster.
    #[error("it belongs to cluster {0:032x}")]
    Foreign(u128),
    /// The answer makes no sense.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
}

/// To whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The id that must answer; `None`: the node that is there.
    pub(crate) id: Option<u64>,
    /// Its name, which says with which key it answers.
    pub(crate) name: String,
    /// Where.
    pub(crate) endpoint: String,
}

impl Target {
    /// The node at the address of a seed, which has its name.
    pub(crate) fn seed(seed: &Seed) -> Self {
        let (name, endpoint) = (seed.name.as_str().to_owned(), seed.endpoint.clone());
        Self { id: None, name, endpoint }
    }
}

/// Calls other nodes in this node's name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers<R: Runtime> {
    transport: Arc<dyn Transport>,
    identity: IdentityStore,
    seeds: Arc<[Seed]>,
    news: NewsSender,
    /// Where members are now: openraft keeps its clients when a member's address changes.
    addresses: Arc<Mutex<BTreeMap<u64, String>>>,
    formats: Formats,
    /// When each member last called this node or answered it.
    heard: Arc<Mutex<BTreeMap<u64, Instant<R>>>>,
    /// Said once: this member was removed.
    removed: Arc<OnceLock<()>>,
}

impl<R: Runtime> fmt::Debug for Peers<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl<R: Runtime> Peers<R> {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        identity: IdentityStore,
        config: &ConsensusConfig,
        news: NewsSender,
    ) -> Self {
        Self {
            transport,
            identity,
            seeds: config.seeds.as_slice().into(),
            news,
            addresses: Arc::default(),
            formats: Formats::new(config.formats),
            heard: Arc::default(),
            removed: Arc::default(),
        }
    }

    /// A member's address: that of the seed list before that of the membership, because a person
    /// can change the list of a node that was moved, and no person the membership of one without
    /// a leader.
    pub(crate) fn target(&self, id: u64, member: &Member) -> Target {
        let seed = self.seeds.iter().find(|seed| seed.name.as_str() == member.name);
        let endpoint = match seed {
            Some(seed) => seed.endpoint.clone(),
            None => {
                let now = lock(&self.addresses).get(&id).cloned();
                now.unwrap_or_else(|| member.endpoint.clone())
            }
        };
        Target { id: Some(id), name: member.name.clone(), endpoint }
    }

    /// Takes over where the members are.
    pub(crate) fn learn(&self, membership: &Membership) {
        let addresses = membership.nodes().map(|(id, member)| (*id, member.endpoint.clone()));
        *lock(&self.addresses) = addresses.collect();
    }

    /// A member called this node, or answered it.
    pub(crate) fn on_heard(&self, id: u64) {
        let mut heard = lock(&self.heard);
        if heard.len() >= HEARD_MAX && !heard.contains_key(&id) {
            let oldest = heard.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                heard.remove(&oldest);
            }
        }
        heard.insert(id, now::<R>());
    }

    /// How long ago a member last called this node or answered it; `None`: it never did.
    pub(crate) fn silence_of(&self, id: u64) -> Option<Duration> {
        lock(&self.heard).get(&id).map(|at| at.elapsed())
    }

    pub(crate) const fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Calls and waits for the answer.
    pub(crate) async fn call(
        &self,
        target: &Target,
        lane: Lane,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, CallFailure> {
        let identity = self.identity.identity();
        let from = (identity.node_id.0, identity.name.as_str().to_owned());
        let call = self.envelope(from, target, request);
        let answered = self.send(&call, target, lane, timeout).await;
        if matches!(answered, Err(CallFailure::Refused(Refusal::Removed))) {
            self.on_removed().await;
        }
        answered
    }

    /// Asks in the name of another node, by its id and name. What the answer says is about that node.
    pub(crate) async fn call_for(
        &self,
        from: (u64, String),
        target: &Target,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, CallFailure> {
        self.send(&self.envelope(from, target, request), target, Lane::Control, timeout).await
    }

    /// Whether another node has this id as a voter. A member's proposal without an entry cannot be read,
    /// and that of another node is not looked at: so 0.1.0 answers, too, of members.
    pub(crate) async fn vouches(
        &self,
        target: &Target,
        cluster: u128,
        (id, name): (u64, &str),
    ) -> bool {
        let question = Request::Propose { entry: Vec::new() };
        let mut call = self.envelope((id, name.to_owned()), target, question);
        call.cluster = Some(cluster);
        let answered = self.exchange_again(target, Lane::Control, &call, VOUCH_TIMEOUT).await;
        answered.is_ok_and(|(format, answer)| says_yes(&answer, cluster, format))
    }

    /// The id of the node that is there, if it says that it is of this cluster.
    pub(crate) async fn who_is_at(
        &self,
        target: &Target,
        cluster: u128,
        hello: Request,
    ) -> Option<u64> {
        let identity = self.identity.identity();
        let own = (identity.node_id.0, identity.name.as_str().to_owned());
        let mut call = self.envelope(own, target, hello);
        call.cluster = Some(cluster);
        let (_, answer) = self.exchange(target, Lane::Control, &call, VOUCH_TIMEOUT).await.ok()?;
        let Reply::Hello(hello) = answer.reply else { return None };
        (answer.cluster == Some(cluster)).then_some(hello.id)
    }

    fn envelope(
        &self,
        (from, from_name): (u64, String),
        target: &Target,
        request: Request,
    ) -> Call {
        let own = self.formats.own();
        let (formats, cluster) = ((own.min, own.max), self.identity.identity().cluster_id);
        Call { formats, cluster, from, from_name, to: target.id, request }
    }

    async fn send(
        &self,
        call: &Call,
        target: &Target,
        lane: Lane,
        timeout: Duration,
    ) -> Result<Reply, CallFailure> {
        let (_, answer) = self.exchange_again(target, lane, call, timeout).await?;
        if let (Some(ours), Some(theirs)) = (call.cluster, answer.cluster)
            && ours != theirs
        {
            return Err(CallFailure::Foreign(theirs));
        }
        if let Some(id) = target.id
            && !matches!(answer.reply, Reply::Refused(Refusal::NotTarget))
        {
            self.on_heard(id);
        }
        match answer.reply {
            Reply::Refused(refusal) => Err(CallFailure::Refused(refusal)),
            reply @ (Reply::Hello(_)
            | Reply::Joined
            | Reply::Append(_)
            | Reply::Vote { .. }
            | Reply::TakeOver { .. }
            | Reply::SnapshotNext { .. }
            | Reply::SnapshotDone { .. }
            | Reply::ReadIndex { .. }
            | Reply::Proposed
            | Reply::Changed { .. }) => Ok(reply),
        }
    }

    /// Sends a call, and once more if the other node knows another format than was thought.
    async fn exchange_again(
        &self,
        target: &Target,
        lane: Lane,
        call: &Call,
        timeout: Duration,
    ) -> Result<(u16, Answer), CallFailure> {
        let (format, answer) = self.exchange(target, lane, call, timeout).await?;
        if matches!(answer.reply, Reply::Refused(Refusal::Format { .. }))
            && self.formats.newest(&target.endpoint) != format
        {
            // It was rolled back since, or another one is there; what it knows was in its answer.
            return self.exchange(target, lane, call, timeout).await;
        }
        Ok((format, answer))
    }

    /// Sends a call in the newest format that both are known to speak; says which that was.
    async fn exchange(
        &self,
        target: &Target,
        lane: Lane,
        call: &Call,
        timeout: Duration,
    ) -> Result<(u16, Answer), CallFailure> {
        let malformed = |error: CodecError| CallFailure::Malformed(error.to_string());
        let endpoint = target.endpoint.as_str();
        let format = self.formats.of_call(endpoint);
        let bytes = call.encode(format).map_err(malformed)?;
        let answer =
            self.transport.call_node((&target.name, endpoint), lane, bytes, timeout).await?;
        let own = self.formats.own();
        let answer = Answer::decode(own, &answer)
            .inspect_err(|_| self.formats.forget(endpoint))
            .map_err(malformed)?;
        let (min, max) = answer.formats;
        let theirs = WireRange { min, max };
        if !self.formats.learn(endpoint, theirs) {
            tracing::debug!(endpoint, "it speaks call formats {theirs}, and this node {own}");
        }
        Ok((format, answer))
    }

    async fn on_removed(&self) {
        if self.removed.set(()).is_ok() {
            self.news.send(crate::News::Stopped(Stop::Removed)).await;
        }
    }
}

/// Whether an answer to a proposal without an entry, in this format, says that its sender is a voter. A node
/// that does not know the format refuses every call in the same words.
fn says_yes(answer: &Answer, cluster: u128, format: u16) -> bool {
    let (min, max) = answer.formats;
    let could_read = WireRange { min, max }.contains(format);
    let is_refused = matches!(
        answer.reply,
        Reply::Refused(Refusal::Format { min, max }) if WireRange { min, max }.contains(format)
    );
    answer.cluster == Some(cluster) && could_read && is_refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_that_does_not_know_the_format_of_the_question_says_nothing_about_the_caller() {
        let answer = |min, max, cluster| Answer {
            formats: (min, max),
            cluster: Some(cluster),
            reply: Reply::Refused(Refusal::Format { min, max }),
        };

        assert!(says_yes(&answer(1, 2, 7), 7, 1));
        assert!(!says_yes(&answer(2, 3, 7), 7, 1), "another format");
        assert!(!says_yes(&answer(1, 2, 8), 7, 1), "another cluster");
        let unavailable = Answer { reply: Reply::Refused(Refusal::Unavailable), ..answer(1, 2, 7) };
        assert!(!says_yes(&unavailable, 7, 1));
    }
}
