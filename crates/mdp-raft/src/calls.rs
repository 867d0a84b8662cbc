//! What nodes say to each other: calls and answers, as closed types of each format.
//!
//! Every call names the cluster, the sender and the target, and a receiver that is not the target
//! refuses it: a node whose volume was lost never speaks, nor is spoken to, as the one it was.

use mdp_wire::{
    codec::{self, CodecError, Kind},
    relay::WireRange,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    FORMATS,
    stored::{EntryV1, LogIdV1, SnapshotMetaV1, VoteV1},
};

/// The format in which a call of an unknown format is refused: every version reads it, for ever.
pub(crate) const REFUSAL_FORMAT: u16 = 1;

/// How the reason of a refused change begins that may have been made nevertheless. There is no variant
/// for it: 0.1.0 could not read one, and so shows the reason.
pub(crate) const OUTCOME_UNKNOWN: &str = "outcome unknown: ";
/// The reason of a change that did not get its turn.
pub(crate) const BUSY: &str = "not begun: the leader is busy with another change; try again";
/// How the reason begins while an earlier change is not finished.
pub(crate) const CHANGE_IN_PROGRESS: &str = "another change of members is in progress";

/// A call with its envelope.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The formats that the sender speaks, the oldest and the newest.
    pub(crate) formats: (u16, u16),
    /// The sender's cluster; `None` while it belongs to none.
    pub(crate) cluster: Option<u128>,
    /// The sender's id.
    pub(crate) from: u64,
    /// The sender's name.
    pub(crate) from_name: String,
    /// Whom the call is for; `None`: whoever is there.
    pub(crate) to: Option<u64>,
    /// What is asked.
    pub(crate) request: Request,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Who are you? With the caller's list of seeds, as name and address.
    Hello { seeds: Vec<(String, String)> },
    /// Make me a member, reached at this address, of this version.
    Join { endpoint: String, version: (u16, u16, u16) },
    /// Raft: entries, or a heartbeat.
    Append {
        vote: VoteV1,
        previous: Option<LogIdV1>,
        entries: Vec<EntryV1>,
        committed: Option<LogIdV1>,
    },
    /// Raft: give me your vote.
    Vote(Ballot),
    /// Raft: would you give me your vote?
    PreVote(Ballot),
    /// Raft: the leader hands over to this member; all are told, and no longer hold to the leader.
    TakeOver { leader: VoteV1, successor: u64, last: Option<LogIdV1> },
    /// Raft: a piece of a snapshot.
    Snapshot { vote: VoteV1, meta: SnapshotMetaV1, offset: u64, total: u64, piece: Vec<u8> },
    /// At which index may I read? With the vote that the caller has on disk.
    ReadIndex { vote: Option<VoteV1> },
    /// Make this true; encoded by [`mdp_catalog::encode_entry`].
    Propose { entry: Vec<u8> },
    /// Change the members or the leader.
    Change(Change),
}

impl Request {
    /// What members say to each other as openraft wants it.
    pub(crate) const fn is_of_consensus(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::Vote(_)
            | Self::PreVote(_)
            | Self::TakeOver { .. }
            | Self::Snapshot { .. } => true,
            Self::Hello { .. }
            | Self::Join { .. }
            | Self::ReadIndex { .. }
            | Self::Propose { .. }
            | Self::Change(_) => false,
        }
    }
}

/// A candidate and its log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) vote: VoteV1,
    pub(crate) last: Option<LogIdV1>,
    pub(crate) is_transfer: bool,
}

/// A change of the members or the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Make the node at this address a member.
    Add { name: String, endpoint: String },
    /// Make a learner a voter.
    Promote { name: String },
    /// Remove a member for ever.
    Remove { name: String },
    /// Hand leadership over.
    Lead { to: Option<String> },
    /// Keep the cluster's version where it is.
    Hold,
    /// Let the cluster's version rise by itself again.
    Resume,
    /// Raise the cluster's version now.
    Finalize,
}

/// An answer with its envelope.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The formats that the answering node speaks, the oldest and the newest.
    pub(crate) formats: (u16, u16),
    /// The answering node's cluster.
    pub(crate) cluster: Option<u128>,
    /// What it says.
    pub(crate) reply: Reply,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Hello(Hello),
    /// The caller is a member, or becomes one.
    Joined,
    Append(Appended),
    Vote {
        vote: VoteV1,
        is_granted: bool,
        last: Option<LogIdV1>,
    },
    /// The answering node takes over, or not.
    TakeOver {
        is_accepted: bool,
    },
    /// The answering node takes the next piece from here.
    SnapshotNext {
        offset: u64,
    },
    SnapshotDone {
        vote: VoteV1,
    },
    ReadIndex {
        index: u64,
    },
    Proposed,
    /// The change was made; the leader's name after it.
    Changed {
        leader: String,
    },
    Refused(Refusal),
}

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) id: u64,
    /// Tells two processes apart that have the same id.
    pub(crate) process: u64,
    pub(crate) name: String,
    pub(crate) is_initialised: bool,
    pub(crate) seeds: Vec<(String, String)>,
    pub(crate) version: (u16, u16, u16),
}

/// What became of entries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Appended {
    All,
    UpTo(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

/// Why a call was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The call, or what is in it, is in a format that the answering node does not know.
    Format { min: u16, max: u16 },
    /// The call comes from another cluster than this.
    ForeignCluster,
    /// The call is for somebody else.
    NotTarget,
    /// The caller was removed from the cluster for ever.
    Removed,
    /// The answering node does not lead; it knows this leader, by id, name and address.
    NotLeader { leader: Option<(u64, String, String)> },
    /// A living member has the caller's name.
    NameInUse,
    /// The change is not possible.
    Change { reason: String },
    /// No member has this name; these are there.
    UnknownMember { name: String, members: String },
    /// Not now.
    Unavailable,
    /// The caller's version can not take part in this cluster.
    Version { reason: String },
}

impl Call {
    pub(crate) fn encode(&self, format: u16) -> Result<Vec<u8>, CodecError> {
        encode(Kind::Call, format, self)
    }

    /// Decodes a call in any of these formats; returns which it was in.
    pub(crate) fn decode(formats: WireRange, bytes: &[u8]) -> Result<(u16, Self), CodecError> {
        decode(Kind::Call, formats, bytes)
    }
}

impl Answer {
    pub(crate) fn encode(&self, format: u16) -> Result<Vec<u8>, CodecError> {
        encode(Kind::Answer, format, self)
    }

    /// Decodes an answer in any of these formats, or in that of refusals.
    pub(crate) fn decode(formats: WireRange, bytes: &[u8]) -> Result<Self, CodecError> {
        let formats = WireRange { min: REFUSAL_FORMAT, ..formats };
        decode(Kind::Answer, formats, bytes).map(|(_, answer)| answer)
    }
}

/// What the next version's format puts before everything: whoever takes it for the format before
/// reads nonsense.
#[cfg(any(test, feature = "test-next"))]
const MARK_OF_FORMAT_2: u64 = 0x6e65_7874_6e65_7874;

fn encode<T: Serialize>(kind: Kind, format: u16, value: &T) -> Result<Vec<u8>, CodecError> {
    match format {
        #[cfg(any(test, feature = "test-next"))]
        2 => codec::encode(kind, format, &(MARK_OF_FORMAT_2, value)),
        _ => codec::encode(kind, 1, value),
    }
}

fn decode<T: DeserializeOwned>(
    kind: Kind,
    formats: WireRange,
    bytes: &[u8],
) -> Result<(u16, T), CodecError> {
    let format = codec::format_of(kind, formats.max, bytes)?;
    match format {
        _ if !formats.contains(format) => {
            Err(CodecError::UnknownFormat { kind, got: format, known: formats.max })
        }
        1 => Ok((format, codec::decode_body(kind, bytes)?)),
        #[cfg(any(test, feature = "test-next"))]
        2 => match codec::decode_body(kind, bytes)? {
            (MARK_OF_FORMAT_2, value) => Ok((format, value)),
            (mark, _) => {
                let reason = format!("begins with {mark:#x}");
                Err(CodecError::Malformed { kind, reason })
            }
        },
        _ => Err(CodecError::UnknownFormat { kind, got: format, known: FORMATS.max }),
    }
}

#[cfg(test)]
mod tests;
