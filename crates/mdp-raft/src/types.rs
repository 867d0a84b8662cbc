//! The types that openraft is used with. Only this crate knows them.

use std::{fmt, marker::PhantomData};

use mdp_catalog::{CatalogEntry, Refusal};
use openraft::{
    OptionalSend, RaftTypeConfig,
    impls::{BoxedErrorSource, InlineBatch, ProgressResponder},
};

use crate::runtime::Runtime;

/// How openraft is used here, on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig<R>(PhantomData<R>);

impl<R: Runtime> RaftTypeConfig for TypeConfig<R> {
    type D = Command;
    type R = Outcome;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R::Async;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, Member>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Member>;
pub(crate) type SnapshotMeta = openraft::storage::SnapshotMeta<LeaderId, u64, Member>;
/// A snapshot's data is the encoded catalog ([`mdp_catalog::encode_snapshot`]).
pub(crate) type Snapshot = openraft::storage::Snapshot<LeaderId, u64, Member, Vec<u8>>;

/// What the log carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) CatalogEntry);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What applying an entry of the log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It changed the catalog.
    Applied,
    /// It changed nothing.
    Refused(Refusal),
    /// It was not about the catalog.
    NotCatalog,
}

/// A member of the cluster, voter or learner, as the membership knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// The node's name: where the member lives.
    pub(crate) name: String,
    /// Where other nodes reach it.
    pub(crate) endpoint: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.endpoint)
    }
}
