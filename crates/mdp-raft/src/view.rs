//! Raft's state as plain data, for those who check a whole simulated cluster from outside.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fmt,
    hash::Hasher as _,
    ops::RangeBounds,
};

use crate::{
    hub::Hub,
    membership::progress,
    runtime::Runtime,
    store::LogStore,
    stored,
    types::{LogId, Vote},
};

/// A vote: term, node, and whether a majority granted it.
pub type VoteView = (u64, u64, bool);
/// The place of an entry: term and node of the leader that made it, and its index.
pub type PositionView = (u64, u64, u64);
/// An entry: term and node of the leader that made it, and a hash of all of it.
pub type EntryView = (u64, u64, u64);

/// What one node's Raft is at one moment.
#[derive(Clone, Debug)]
pub struct RaftView {
    /// The node's id.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// The last vote that it has on disk; term zero: it never voted.
    pub vote: VoteView,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// The last entry that it knows to be committed and has.
    pub committed: Option<PositionView>,
    /// The last entry that it applied.
    pub applied: Option<PositionView>,
    /// The last entry of its log; may not be on disk yet.
    pub last_log: Option<PositionView>,
    /// The last entry that it removed from the beginning of its log.
    pub purged: Option<PositionView>,
    /// The entries after that one.
    pub log: LogView,
    /// Who votes; two sets while the members change.
    pub voters: Vec<BTreeSet<u64>>,
    /// The place of the entry that says so.
    pub membership: Option<PositionView>,
    /// Whether that is committed, as far as it knows, and no change is half done.
    pub is_settled: bool,
    /// Whether it shows a change of members that is in progress.
    pub shows_change: bool,
    /// Whether it leads, and a majority answers it.
    pub leads: bool,
}

/// A look at a node's log: as it is when it is asked, not as it was when the view was made.
#[derive(Clone)]
pub struct LogView {
    log: LogStore,
}

impl LogView {
    /// The entries in a range of indices, by their index.
    pub fn entries(&self, range: impl RangeBounds<u64>) -> BTreeMap<u64, EntryView> {
        self.log.with_entries(|entries| {
            let entries = entries.range(range);
            entries
                .map(|(index, entry)| {
                    let mut hasher = DefaultHasher::new();
                    // One that can not be encoded is not in any log.
                    let encoded = stored::encode_log_entry(entry).unwrap_or_default();
                    hasher.write(&encoded);
                    let leader = entry.log_id.leader_id;
                    (*index, (leader.term, leader.node_id, hasher.finish()))
                })
                .collect()
        })
    }
}

impl fmt::Debug for LogView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries(..)).finish()
    }
}

fn position(log_id: &LogId) -> PositionView {
    (log_id.leader_id.term, log_id.leader_id.node_id, log_id.index)
}

fn vote(vote: &Vote) -> VoteView {
    (vote.leader_id.term, vote.leader_id.node_id, vote.committed)
}

pub(crate) fn inspect(hub: &Hub<impl Runtime>) -> RaftView {
    let (purged, last_log) = hub.log.bounds();
    let metrics = &hub.metrics();
    RaftView {
        id: hub.id(),
        term: metrics.current_term,
        vote: hub.log.vote().as_ref().map_or((0, 0, false), vote),
        leader: metrics.current_leader,
        committed: metrics.local_committed.as_ref().map(position),
        applied: hub.catalog.with(|_, applied| applied.map(position)),
        last_log: last_log.as_ref().map(position),
        purged: purged.as_ref().map(position),
        log: LogView { log: hub.log.clone() },
        voters: metrics.membership_config.membership().get_joint_config().clone(),
        membership: metrics.membership_config.log_id().as_ref().map(position),
        is_settled: progress::is_settled(metrics),
        shows_change: progress::change(hub, metrics).is_some(),
        leads: metrics.current_leader == Some(hub.id()) && hub.hears_leader(),
    }
}
